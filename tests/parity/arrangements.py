"""The whole space of a checkpoint's arrangement: where its tokens, templates, ends and weights stand."""

from __future__ import annotations

import json
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.checkpoints import SMALL, make_of_type
from tests.engine.made import ENDS, VOCAB, save_tokenizer

FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
MORE = ("<|im_start|>", "<|im_end|>")
ROWS = VOCAB
PLAIN = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}\n{% endfor %}"
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
NAMED = [{"name": "default", "template": CHATML + ASK}, {"name": "tool_use", "template": PLAIN}]

TEMPLATES: dict[str, dict[str, Any]] = {
    "none": {},
    "config": {"tokenizer_config.json": {"chat_template": CHATML + ASK}},
    "config, with special tokens": {"tokenizer_config.json": {"chat_template": PLAIN}},
    "file": {"chat_template.jinja": CHATML + ASK},
    "file and config": {"chat_template.jinja": PLAIN, "tokenizer_config.json": {"chat_template": CHATML}},
    "files by name": {
        "chat_template.jinja": CHATML + ASK, "additional_chat_templates/tool_use.jinja": PLAIN,
        "tokenizer_config.json": {"chat_template": CHATML},
    },
    "list": {"tokenizer_config.json": {"chat_template": NAMED}},
    "list without a default": {"tokenizer_config.json": {"chat_template": NAMED[1:]}},
    "config and a processor's": {
        "chat_template.json": {"chat_template": PLAIN}, "tokenizer_config.json": {"chat_template": CHATML + ASK},
    },
}  # fmt: skip


def tokens(first: int) -> dict[str, dict[str, Any]]:
    """Ways to name tokens that the tokenizer itself does not, the next free id being ``first``."""
    decoder = {str(first + at): {**FLAGS, "content": text} for at, text in enumerate(MORE)}
    plain = {key: {**token, "special": False} for key, token in decoder.items()}
    ids = {text: first + at for at, text in enumerate(MORE)}
    return {
        "none": {},
        "decoder": {"tokenizer_config.json": {"added_tokens_decoder": decoder}},
        "decoder, not special": {"tokenizer_config.json": {"added_tokens_decoder": plain}},
        "decoder, a gap before": {
            "tokenizer_config.json": {"added_tokens_decoder": {str(first + 7): decoder[str(first)]}}
        },
        "additional": {"tokenizer_config.json": {"additional_special_tokens": list(MORE)}},
        "extra by name": {"tokenizer_config.json": {"extra_special_tokens": {"turn_token": MORE[1]}}},
        "map": {"special_tokens_map.json": {"additional_special_tokens": list(MORE), "eos_token": MORE[1]}},
        "added": {"added_tokens.json": ids},
        "added and map": {"added_tokens.json": ids, "special_tokens_map.json": {"eos_token": MORE[1]}},
        "past the vocabulary": {"added_tokens.json": {**ids, **{f"<pad{at}>": first + 2 + at for at in range(40)}}},
    }


@st.composite
def arrangements(draw: st.DrawFn) -> dict[str, Any]:
    """Draw one of each: files of the tokenizer, templates, ends, and how the weights lie."""
    return {
        # transformers reads no vocab.json and merges.txt beside a Mistral.
        **draw(
            st.fixed_dictionaries({"model_type": st.sampled_from(["llama", "mistral", "qwen3"]), "kind": KINDS})
            | st.fixed_dictionaries({"model_type": st.sampled_from(["llama", "qwen3"]), "kind": st.just(APART)})
        ),
        "class": draw(st.sampled_from(["PreTrainedTokenizerFast", "TokenizersBackend", None])),
        "tokens": draw(st.sampled_from(sorted(tokens(0)))),
        "template": draw(st.sampled_from(sorted(TEMPLATES))),
        "bos": draw(st.sampled_from(["stated", "null", "absent", "object"])),
        "eos": draw(st.sampled_from(["stated", "null", "absent", "turn"])),
        "config_eos": draw(st.sampled_from([2, [2], [2, 5], None, -1, [2, ROWS + 50]])),
        "generation": draw(st.sampled_from(["absent", "same", "other", "without eos"])),
        "pad": draw(st.sampled_from([None, 0, -1])),
        "head": draw(st.sampled_from(["tied", "untied", *HEADS])),
        "names": draw(st.sampled_from(["whole", *NAMES])),
        "dtype": draw(st.sampled_from(["float32", "float16", "bfloat16"])),
        "shards": draw(st.sampled_from(["one", "indexed", "bin", *SHARDS])),
        "seed": draw(st.integers(0, 3)),
    }


KINDS = st.sampled_from(["byte_fallback", "byte_level"])
APART = "vocab and merges"
INDEX, LATER = "model.safetensors.index.json", "index.json"
HEADS = ("tied and stored", "tied with another head", "head alone")
NAMES = ("without model.",)
SHARDS = ("without index",)


def write(folder: Path, drawn: dict[str, Any]) -> Path:
    """Make the checkpoint that was drawn."""
    shutil.copytree(_weights(drawn["model_type"], drawn["head"] == "untied", drawn["dtype"], drawn["seed"]), folder)
    first = _tokenizer(folder, drawn)
    for files in (tokens(first)[drawn["tokens"]], TEMPLATES[drawn["template"]]):
        for name, content in files.items():
            _merge(folder / name, content)
    _ends(folder, drawn)
    _store(folder, drawn)
    return folder


@lru_cache(maxsize=64)
def _weights(model_type: str, untied: bool, dtype: str, seed: int) -> Path:
    import tempfile

    folder = Path(tempfile.mkdtemp()) / "ck"
    numbers = {**SMALL, "vocab_size": ROWS, "hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 256}
    make_of_type(folder, model_type, dtype=dtype, seed=seed, tie_word_embeddings=not untied, **numbers)
    return folder


def _tokenizer(folder: Path, drawn: dict[str, Any]) -> int:
    """Write the tokenizer; return the first id that it leaves free."""
    from tokenizers import Tokenizer

    kind = "byte_level" if drawn["kind"] == APART else drawn["kind"]
    begin, _ = ENDS[kind]
    save_tokenizer(folder, kind)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    # Without a class transformers takes the type's own, which cuts text its way whatever tokenizer.json says.
    settings["tokenizer_class"] = drawn["class"] or ("TokenizersBackend" if drawn["model_type"] == "qwen3" else None)
    raw = (folder / "tokenizer.json").read_text()
    if drawn["kind"] == APART:
        model = json.loads(raw)["model"]
        (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
        merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
        (folder / "tokenizer.json").unlink()
        settings["tokenizer_class"] = "GPT2Tokenizer"
    for name, how in (("bos_token", drawn["bos"]), ("eos_token", drawn["eos"])):
        if how == "absent":
            del settings[name]
        elif how != "stated":
            objects = {"object": {"__type": "AddedToken", **FLAGS, "content": begin}}
            settings[name] = objects.get(how, MORE[1] if how == "turn" else None)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({k: v for k, v in settings.items() if k != "tokenizer_class" or v})
    )
    return Tokenizer.from_str(raw).get_vocab_size()


def _merge(path: Path, content: Any) -> None:
    if isinstance(content, str):
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        return
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, **content}))


def _ends(folder: Path, drawn: dict[str, Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"eos_token_id": drawn["config_eos"], "bos_token_id": 1, "pad_token_id": drawn["pad"]}
    (folder / "config.json").write_text(json.dumps(config))
    generation = {"same": {"eos_token_id": drawn["config_eos"]}, "other": {"eos_token_id": 7}, "without eos": {}}
    path = folder / "generation_config.json"
    path.unlink(missing_ok=True)
    if drawn["generation"] != "absent":
        path.write_text(json.dumps({"bos_token_id": 1, **generation[drawn["generation"]]}))


def _store(folder: Path, drawn: dict[str, Any]) -> None:
    """Write the weights again as drawn: which head, which names, how many files."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    embedding = weights["model.embed_tokens.weight"]
    if drawn["head"] == "tied and stored":
        weights["lm_head.weight"] = embedding.clone()
    elif drawn["head"] == "tied with another head":
        weights["lm_head.weight"] = embedding.flip(0).contiguous()
    elif drawn["head"] == "head alone":
        weights["lm_head.weight"] = weights.pop("model.embed_tokens.weight")
    if drawn["names"] == "without model.":
        weights = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
    names = sorted(weights)
    halves = (names[::2], names[1::2]) if drawn["shards"] in ("indexed", "without index") else (names,)
    (folder / "model.safetensors").unlink()
    if drawn["shards"] == "bin":
        torch.save(weights, folder / "pytorch_model.bin")
        return
    weight_map = {}
    for at, half in enumerate(halves):
        file = f"model-{at + 1:05d}-of-00002.safetensors" if len(halves) > 1 else "model.safetensors"
        save_file({name: weights[name] for name in half}, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(half, file)
    index = {"metadata": {}, "weight_map": weight_map}
    if len(halves) > 1:
        (folder / (INDEX if drawn["shards"] == "indexed" else LATER)).write_text(json.dumps(index))


def give_index(folder: Path) -> None:
    """Put the index back, without which transformers reads no shards."""
    if (folder / LATER).exists():
        (folder / LATER).rename(folder / INDEX)
