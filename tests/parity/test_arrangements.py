"""Checkpoints arranged in every way: ids, templates and greedy tokens are those of transformers over the same files."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

import zoo
from tests.parity.arrangements import ROWS, arrangements, give_index, write
from zoo.errors import UsageError, ZooError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TEXTS = (
    "Once upon a time there was a dog.", "<|im_start|>user\nhello<|im_end|>\n", "  two  spaces \n\n\ttab <|im_end|>",
    "</s><s> <|end|><|begin|>x", "naïve 日本 🦓 \u0301", "<pad3>", "",
)  # fmt: skip
TALKS = (
    [{"role": "user", "content": "hello"}],
    [{"role": "system", "content": " Be brief.\n"}, {"role": "user", "content": "a <b> & ü"},
     {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Again?"}],
)  # fmt: skip

TOOLS = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}]


def check(drawn: dict[str, Any]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        checkpoint = write(folder / "checkpoint", drawn)
        tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
        engine = zoo.open(zoo.build(str(checkpoint), "fp32", output=folder / "package").path)
        compare_texts(engine, tokenizer)
        compare_talks(engine, tokenizer)
        give_index(checkpoint)
        model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
        compare_answers(engine, model, tokenizer)
    finally:
        shutil.rmtree(folder)


def compare_texts(engine: Any, tokenizer: Any) -> None:
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert engine.encode(text) == ids, text
        for skip in (True, False):
            ours = engine.tokenizer.decode(ids, skip_special=skip)
            assert ours == tokenizer.decode(ids, skip_special_tokens=skip), text
        if max(ids, default=0) >= ROWS:
            with pytest.raises(UsageError, match=r"token id \d+ \(<pad\d+>\) is not in the vocabulary"):
                engine.generate(text)


def compare_talks(engine: Any, tokenizer: Any) -> None:
    for talk, tools in [(talk, tools) for talk in TALKS for tools in (None, TOOLS)]:
        try:
            wanted = tokenizer.apply_chat_template(talk, tools=tools, add_generation_prompt=True)["input_ids"]
        except ValueError:  # none, or none for a conversation without tools
            with pytest.raises(ZooError, match=r"no chat template|no default;"):
                engine.encode_chat(talk, tools=tools)
        else:
            assert engine.encode_chat(talk, tools=tools) == wanted


def compare_answers(engine: Any, model: Any, tokenizer: Any) -> None:
    ids = [1, 40, 77, 12, 300, 9]
    stated = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = None
    prompt = torch.tensor([ids])
    with torch.inference_mode():
        made = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=12, do_sample=False, pad_token_id=0
        )
    answer = engine.generate(ids, max_new_tokens=12, ignore_eos=True)
    assert answer.token_ids == made[0, len(ids) :].tolist()
    ends = {
        token for token in (stated if isinstance(stated, list) else [stated]) if token is not None and 0 <= token < ROWS
    }
    turn = {tokenizer.eos_token_id, *tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|end|>", "</s>"])}
    config = model.config.eos_token_id
    config = set(config if isinstance(config, list) else [config])
    assert ends <= engine.stop_token_ids
    assert engine.stop_token_ids <= ends | turn | config


quick = settings(
    max_examples=25, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip


@quick
@given(drawn=arrangements())
def test_it_is_what_transformers_loads(drawn: dict[str, Any]) -> None:
    check(drawn)


@pytest.mark.exhaustive
@settings(quick, max_examples=120)
@given(drawn=arrangements())
def test_it_is_what_transformers_loads_in_many_more_cases(drawn: dict[str, Any]) -> None:
    check(drawn)
