"""Keys and values in 8 bits: what the cache holds, what follows from it, and what it takes."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner
from zoo_server.served import served_models

import zoo
from tests.checkpoints import make_of_type
from zoo.cli import app
from zoo.engine import Limits, Scheduler
from zoo.engine.int8_cache import find_scales
from zoo.engine.session import Row, Session
from zoo.plugins import host

KINDS = {
    "llama, heads of 24 in 32": ("llama", {"hidden_size": 96, "head_dim": 24}),
    "mistral, a window": ("mistral", {"sliding_window": 32, "head_dim": 16}),
    "gemma2, a soft cap": ("gemma2", {"head_dim": 16, "sliding_window": 64, "query_pre_attn_scalar": 16}),
    "glm, half a head turns": (
        "glm",
        {"head_dim": 16, "partial_rotary_factor": 0.5, "attention_bias": True},
    ),
}


@pytest.fixture(scope="module", params=KINDS)
def sessions(request, tmp_path_factory) -> tuple[Session, Session]:
    """Over float32, and over int8."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("int8")
    model_type, numbers = KINDS[request.param]
    make_of_type(folder / "checkpoint", model_type, **numbers)
    path = zoo.build(folder / "checkpoint", "fp32", output=folder / "package").path
    plain = Session(path)
    return plain, Session(path, scales=find_scales(plain, None))


def ids(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(3, 300, count).tolist()


def log_probabilities(session: Session, text: list[int], prompt: int) -> np.ndarray:
    """Of what follows each token from the prompt's last on, one step a token."""
    cache = session.new_cache()
    logits = [session.prefill(cache, text[:prompt])[0].copy()]
    logits += [session.forward(cache, [token])[0].copy() for token in text[prompt:]]
    rows = np.array(logits, np.float64)
    rows -= rows.max(axis=1, keepdims=True)
    return rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))


def test_the_cache_holds_what_one_of_float32_holds(sessions) -> None:
    plain, rounded = sessions
    assert rounded.token_bytes * 4 == plain.token_bytes
    text, held = ids(160), []
    for session in sessions:
        cache = session.new_cache()
        session.prefill(cache, text[:130])
        for token in text[130:]:
            session.forward(cache, [token])
        held.append([buffer[0, :, :160].astype(np.float32) for buffer in cache.slots.buffers])
    scales = find_scales(plain, None)
    for name, exact, levels in zip(cache.slots.shape.inputs[:2], *held, strict=False):
        # Of the first layer; those above it also see what rounding did below them.
        size = scales[name][:, None, :]
        off = np.abs(levels * size - exact) / size
        assert np.quantile(off, 0.99) < 0.501
        assert np.abs(levels).max() > 64


@pytest.mark.parametrize("prompt", [1, 2, 130])
def test_what_follows_is_nearly_what_follows_in_float32(sessions, prompt) -> None:
    text = ids(170)
    exact, found = (log_probabilities(session, text, prompt) for session in sessions)
    divergence = (np.exp(exact) * (exact - found)).sum(axis=1)
    assert divergence.mean() < 0.02
    assert np.mean(exact.argmax(axis=1) == found.argmax(axis=1)) > 0.9


@pytest.mark.parametrize("news", [(1, 0, 5, 1), (60, 0, 60, 60), (0, 40, 0, 1)])
def test_sequences_of_a_step_do_not_mix(sessions, news) -> None:
    _, rounded = sessions
    texts = [ids(100, seed) for seed in range(len(news))]
    slots = rounded.new_slots(len(news), 120)
    for slot, text in enumerate(texts):
        rounded.step(slots, [Row(slot, text[: 20 + slot])])
    rows = [Row(slot, texts[slot][20 + slot :][:count]) for slot, count in enumerate(news) if count]
    together = [logits.copy() for logits in rounded.step(slots, rows)]
    rounded.step(slots, [Row(slot, [5]) for slot in range(len(news))])  # nobody's cache was written by another
    for row, logits in zip(rows, together, strict=True):
        alone = rounded.new_cache()
        rounded.forward(alone, texts[row.slot][: 20 + row.slot])
        expected = rounded.forward(alone, row.ids)
        spread = float(expected.std())
        np.testing.assert_allclose(logits, expected, atol=0.05 * spread)


def test_requests_share_prefixes_and_guess(tmp_path) -> None:
    path = zoo.build("zoo-tiny", "int8", output=tmp_path / "p").path
    engine = zoo.open(path, kv="int8")
    prompt = engine.encode("Once upon a time there was a dog that " * 12)
    with Scheduler(engine, slots=3, lookup=True) as scheduler:
        first = scheduler.submit(prompt, Limits(24)).result(60)
        again = scheduler.submit(prompt, Limits(24))
        assert again.result(60).token_ids[:8] == first.token_ids[:8]
        assert again.cached_tokens > 0
        assert scheduler.stats().prefix_cache_bytes <= 4 * len(prompt) * engine.token_bytes
    registry = host().registry
    plain, small = (served_models(registry, [str(path)], kv=kv)[0].memory for kv in ("auto", "int8"))
    assert small.kv_bytes_per_token == engine.token_bytes == plain.kv_bytes_per_token // 4
    shown = CliRunner().invoke(app, ["run", str(path), "Once", "--kv", "int8", "--max-new-tokens", "4", "--json"])
    assert shown.exit_code == 0, shown.output
