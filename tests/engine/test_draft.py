"""A draft model guesses ahead: the answers stay what they are, and it stops where its guesses fail."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner
from zoo_server.served import served_models

import zoo
from tests.checkpoints import make_checkpoint
from tests.engine.test_scheduler import same_or_tied
from zoo.cli import app
from zoo.engine import Limits, Scheduler
from zoo.engine.batching import batching_effect
from zoo.errors import UsageError, ZooError
from zoo.plugins import host

TEXTS = ("Once upon a time", "The sun", "A dog and a cat went to", "She said hello. " * 12)


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> dict[str, Path]:
    """zoo-tiny; what guesses much of it right; and what guesses nothing right, with the same tokenizer."""
    folder = tmp_path_factory.mktemp("draft")
    shipped = host().registry.model("zoo-tiny").weights_folder
    made = {}
    for name, vocab, tokenizer in (("random", 2048, True), ("bare", 2048, False), ("other", 331, False)):
        make_checkpoint(folder / name, vocab_size=vocab, num_hidden_layers=1)
        if tokenizer:
            for file in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(shipped / file, folder / name)
        made[name] = zoo.build(folder / name, "fp32", output=folder / f"{name}-p").path
    make_checkpoint(folder / "large", vocab_size=2048, num_hidden_layers=4, seed=1)
    made["large"] = zoo.build(folder / "large", "fp32", output=folder / "large-p").path
    for precision in ("fp32", "int8", "int4"):
        made[precision] = zoo.build("zoo-tiny", precision, output=folder / precision).path
    return made


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("draft", ["int4", "random"])
def test_a_greedy_answer_stays_what_it_is(packages, precision, draft) -> None:
    plain, fast = zoo.open(packages[precision]), zoo.open(packages[precision], draft=packages[draft])
    tie = 2 * batching_effect(plain.session)
    limits = Limits(80)
    expected = {text: plain.generate(text, max_new_tokens=80, ignore_eos=True) for text in TEXTS}
    right = 0
    for text in TEXTS:
        found = fast.generate(text, max_new_tokens=80, ignore_eos=True)
        same_or_tied(plain, plain.encode(text), found.token_ids, expected[text].token_ids, tie)
        right += found.timings.guessed_right
    for slots in (1, 3):
        with Scheduler(fast, slots=slots, lookup=slots == 3) as scheduler:
            tickets = {text: scheduler.submit(plain.encode(text), limits) for text in TEXTS}
            for text, ticket in tickets.items():
                answer = ticket.result(60).token_ids
                same_or_tied(plain, plain.encode(text), answer, expected[text].token_ids, tie)
            guessed_right = scheduler.stats().guessed_tokens
            assert precision == "int8" or (guessed_right > 20) == (draft == "int4" or slots == 3)
    assert precision == "int8" or (right > 20) == (draft == "int4")  # int4 is a cheap draft for fp32 only


def test_a_drawn_answer_is_of_the_same_distribution(packages) -> None:
    """What the draft says is drawn as often as the model finds it likely, and answers are as likely as drawn ones."""
    model, draft = zoo.open(packages["fp32"]), zoo.open(packages["int4"])
    fast, prompt = zoo.open(packages["fp32"], draft=packages["int4"]), model.encode("Once upon a time")
    hits, expected, variance, surprise = 0, 0.0, 0.0, []
    for seed in range(3):
        options = {"max_new_tokens": 120, "temperature": 1.2, "seed": seed, "ignore_eos": True}
        answer = fast.generate(prompt, **options)
        assert answer.timings.guessed_right > 20
        assert answer.token_ids == model.generate(prompt, **options).token_ids
        text = [*prompt, *answer.token_ids[:-1]]
        logits = model.logits(text, len(answer.token_ids)).astype(np.float64) / 1.2
        chances = np.exp(logits - logits.max(1, keepdims=True))
        chances /= chances.sum(1, keepdims=True)
        guesses = draft.logits(text, len(answer.token_ids)).argmax(1)
        at = np.arange(len(guesses))
        likely = chances[at, guesses]
        hits += int((guesses == answer.token_ids).sum())
        expected += likely.sum()
        variance += (likely * (1 - likely)).sum()
        logs = np.log(chances)
        mean = (chances * logs).sum(1)
        spread = (chances * logs**2).sum(1) - mean**2
        surprise.append((logs[at, answer.token_ids] - mean).sum() / np.sqrt(spread.sum()))
    assert abs(hits - expected) < 3.5 * np.sqrt(variance)
    assert abs(np.sum(surprise)) < 3.5 * np.sqrt(len(surprise))


def test_it_stops_guessing_where_guesses_fail(packages) -> None:
    fast = zoo.open(packages["fp32"], draft=packages["random"])
    timings = fast.generate("Once upon a time", max_new_tokens=200, ignore_eos=True).timings
    assert timings.guessed <= 12 + 4 * timings.guessed_right


def test_a_prompt_longer_than_the_drafts_context_is_answered(packages, tmp_path) -> None:
    make_checkpoint(tmp_path / "short", vocab_size=2048, num_hidden_layers=1, max_position_embeddings=32)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(host().registry.model("zoo-tiny").weights_folder / file, tmp_path / "short")
    short = zoo.build(tmp_path / "short", "fp32", output=tmp_path / "p").path
    text = "She said hello. " * 12
    found = zoo.open(packages["fp32"], draft=short).generate(text, max_new_tokens=20, ignore_eos=True)
    assert found.token_ids == zoo.open(packages["fp32"]).generate(text, max_new_tokens=20, ignore_eos=True).token_ids


@pytest.mark.parametrize(
    ("model", "draft", "message"),
    [
        ("fp32", "bare", "bare-p cannot guess for fp32: its tokenizer has other tokens"),
        ("large", "other", "other-p cannot guess for large-p: its vocabulary has 331 tokens, not 2048"),
        ("int8", "int8", "int8 cannot guess for int8: its weights take"),
        ("int4", "fp32", "fp32 cannot guess for int4: its weights take"),
        ("fp32", "auto", "no draft is declared for zoo-tiny; name one: --draft MODEL|PACKAGE"),
        ("fp32", "zoo-tinny", "did you mean"),
        ("fp32", "./nowhere", "there is no folder ./nowhere"),
    ],
)
def test_what_cannot_guess_is_refused_in_one_line(packages, model, draft, message) -> None:
    named = str(packages.get(draft, draft))
    result = CliRunner().invoke(app, ["run", str(packages[model]), "Hi", "--draft", named])
    assert result.exit_code in (1, 2)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert message in line


def test_an_encoder_neither_guesses_nor_is_guessed_for(packages, tmp_path) -> None:
    from tests.encoders import make_encoder

    make_encoder(tmp_path / "embeds")
    encoder = zoo.build(tmp_path / "embeds", "fp32", output=tmp_path / "p").path
    with pytest.raises(ZooError, match="p cannot guess for fp32: it generates no text"):
        zoo.open(packages["fp32"], draft=encoder)
    with pytest.raises(ZooError, match=r"--draft: the engine 'ort' takes no draft model|give a smaller sibling"):
        zoo.open(encoder, draft=packages["random"])


def test_a_server_counts_the_drafts_memory(packages) -> None:
    registry = host().registry
    (alone,) = served_models(registry, [str(packages["fp32"])])
    (both,) = served_models(registry, [str(packages["fp32"])], draft=str(packages["int4"]))
    (small,) = served_models(registry, [str(packages["int4"])])
    assert both.memory.weights_bytes == alone.memory.weights_bytes + small.memory.weights_bytes
    assert both.memory.kv_bytes_per_token == alone.memory.kv_bytes_per_token + small.memory.kv_bytes_per_token
    fast = zoo.open(packages["fp32"], draft=packages["int4"])
    with Scheduler(fast, slots=2, cache_bytes=2 * 64 * both.memory.kv_bytes_per_token) as scheduler:
        assert scheduler.context == 64
    with pytest.raises(UsageError, match="is for one model; several take --draft auto"):
        served_models(registry, [str(packages["fp32"]), str(packages["int8"])], draft=str(packages["int4"]))


def test_a_declared_draft_is_found(packages, tmp_path, monkeypatch) -> None:
    from zoo.stages.opening import find_draft

    registry = host().registry
    model = registry.model("zoo-tiny")
    named = model.model.model_copy(update={"draft": "zoo-tiny"})
    monkeypatch.setitem(model.__dict__, "_layers", [*model._layers, ("model zoo-tiny", named)])
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    with pytest.raises(ZooError, match="no package of zoo-tiny is built"):
        find_draft(registry, packages["fp32"], "auto")
    built = zoo.build("zoo-tiny", "int4").path
    assert find_draft(registry, packages["fp32"], "auto") == built
