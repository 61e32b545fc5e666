"""The graph for long prompts: what it computes, who goes through it, and when it is used at all."""

from __future__ import annotations

import logging
import os
from dataclasses import replace

import numpy as np
import pytest

import zoo
from tests.engine.made import VOCAB, make_package
from zoo.engine import Limits, Scheduler, prepack, rowwise
from zoo.engine import session as sessions
from zoo.engine.prepack import store
from zoo.engine.rowwise import Trial, exact, making, record
from zoo.errors import UsageError
from zoo.verify import trial

CONTEXT = 512
WON = Trial(
    speedup=2.0, kl_blocks=1e-4, kl_rowwise=2e-4, perplexity=1e-4, kl_limit=5e-4, perplexity_limit=1e-3
)  # fmt: skip


def ids(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(3, VOCAB, count).tolist()


def made(package):
    """Make and try the graph of a package whose weights are prepared."""
    return making.make(package, lambda *given: trial.run_trial(*given))


@pytest.fixture
def fast(monkeypatch):
    """The speed of tiny products is chance; and random weights make flat logits, so nothing is ruled out by them."""
    monkeypatch.setattr(trial, "_speedup", lambda *_: 2.0)
    monkeypatch.setattr(trial, "SHARE", 1e3)


@pytest.fixture
def tried(monkeypatch):
    """What was left out of each graph that was tried; all are found to be fast and not exact."""
    found = []

    def inexact(package, blocks, rowwise, left):
        found.append(left)
        return replace(WON, kl_rowwise=1.0, left=left)

    monkeypatch.setattr(trial, "run_trial", inexact)
    return found


@pytest.fixture(params=["int8", "int4"])
def engine(request, tmp_path, monkeypatch, fast):
    """An engine with a row-wise graph."""
    pytest.importorskip("torch")
    package = make_package(
        tmp_path, precision=request.param, max_position_embeddings=CONTEXT, initializer_range=0.05
    )[0].package  # fmt: skip
    monkeypatch.setenv("ZOO_PREPACK", "always")
    opened = zoo.open(package.path)
    assert opened.session.rowwise
    return opened


def last_logits(engine, tokens, *, rowwise: bool):
    cache = engine.session.new_cache()
    return engine.session.prefill(cache, tokens, rowwise=rowwise)[0].copy()


def test_it_computes_the_same_but_for_rounding(engine) -> None:
    tokens = ids(300)
    plain, other = (last_logits(engine, tokens, rowwise=one) for one in (False, True))
    assert not np.array_equal(plain, other)
    assert np.abs(other - plain).max() < 0.15 * plain.std()


def test_both_graphs_are_as_far_from_unrounded_activations(engine) -> None:
    found = rowwise.recorded(engine.package)
    assert found is not None
    assert 0 < found.kl_blocks < 1e-2
    assert 0 < found.kl_rowwise < 10 * found.kl_blocks
    assert not list(store.entry(engine.package).glob(trial.EXACT))


def test_a_prompt_goes_one_way_however_it_is_cut(engine) -> None:
    tokens = ids(301, seed=1)
    whole = last_logits(engine, tokens, rowwise=True)
    cache = engine.session.new_cache()
    for start in range(0, len(tokens), 70):
        pieces = engine.session.prefill(cache, tokens[start : start + 70], rowwise=True)[0]
    np.testing.assert_array_equal(pieces, whole)


def test_long_prompts_take_it_and_short_ones_do_not(engine) -> None:
    for count in (sessions.LONG - 1, sessions.LONG):
        prompt = ids(count, seed=count)
        answer = engine.generate(prompt, max_new_tokens=1, ignore_eos=True)
        assert answer.timings.rowwise == (count >= sessions.LONG)
        expected = last_logits(engine, prompt, rowwise=count >= sessions.LONG).argmax()
        assert answer.token_ids == [expected]


def test_the_scheduler_sends_a_prompt_the_same_way(engine) -> None:
    shared = ids(200, seed=5)
    asked = [ids(150, seed=6), [*shared, *ids(30, seed=7)], [*shared, *ids(9, seed=8)], ids(40, seed=9)]
    with Scheduler(engine, slots=3) as scheduler:
        first = [scheduler.submit(prompt, Limits(1)).result(60) for prompt in asked]
        tickets = [scheduler.submit(prompt, Limits(1)) for prompt in asked]
        again = [ticket.result(60) for ticket in tickets]
    assert tickets[2].cached_tokens > 0
    for prompt, one, other in zip(asked, first, again, strict=True):
        alone = engine.generate(prompt, max_new_tokens=1, ignore_eos=True)
        assert one.token_ids == other.token_ids == alone.token_ids
        assert one.timings.rowwise == other.timings.rowwise == alone.timings.rowwise == (len(prompt) >= 128)


def test_a_row_of_zeros_is_one(tmp_path, fast) -> None:
    """Padding tokens have embeddings of zeros, whose scale would be zero."""
    import torch

    from tests.checkpoints import make_checkpoint

    model = make_checkpoint(tmp_path / "checkpoint", vocab_size=64, max_position_embeddings=CONTEXT)
    with torch.no_grad():
        model.model.embed_tokens.weight[0] = 0
        model.model.layers[0].mlp.down_proj.weight[3] = 0
    model.save_pretrained(tmp_path / "checkpoint")
    package = zoo.build(tmp_path / "checkpoint", "int8", output=tmp_path / "package")
    prepack.make(package)
    graph = made(package)
    assert graph is not None
    session = sessions.Session(package.path, graph=store.find(package), rowwise=graph)
    found = session.prefill(session.new_cache(), [0] * 130, rowwise=True)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("change", "won", "words"),
    [
        ({}, True, "2.00 times as fast in a trial here, KL +1.0e-04"),
        ({"speedup": 1.05}, False, "only 1.05 times as fast in a trial here"),
        ({"kl_rowwise": 7e-4}, False, "but KL +6.0e-04, perplexity +0.01%"),
        ({"kl_rowwise": float("inf")}, False, "but KL +inf"),
        ({"perplexity": -2e-3}, False, "perplexity -0.20%"),
    ],
)
def test_a_trial_is_won_by_what_is_faster_and_no_less_exact(change, won, words) -> None:
    found = replace(WON, **change)
    assert found.won == won
    assert words in str(found)


def test_what_lost_its_trial_is_not_kept_and_not_tried_again(tmp_path, tried) -> None:
    package = make_package(tmp_path, precision="int8")[0].package
    prepack.make(package)
    assert rowwise.due(package)
    assert made(package) is None
    assert tried == [None, "/down"]
    assert rowwise.recorded(package) == replace(WON, kl_rowwise=1.0, left="/down")
    assert not rowwise.due(package)
    assert made(package) is None
    assert len(tried) == 2
    assert not (store.entry(package) / record.DATA).exists()
    assert not zoo.open(package.path).session.rowwise


def test_products_of_activations_are_left_out_where_that_is_exact_enough(tmp_path, monkeypatch) -> None:
    package = make_package(tmp_path, precision="int8")[0].package
    monkeypatch.setattr(
        trial, "run_trial", lambda *given: replace(WON, kl_rowwise=1.0 if given[3] is None else 0.0, left=given[3])
    )
    prepack.make(package)
    graph = made(package)
    assert graph is not None
    import onnx

    kinds = {node.name: node.op_type for node in onnx.load(str(graph), load_external_data=False).graph.node}
    products = {name: kind for name, kind in kinds.items() if kind in ("MatMulNBits", "MatMulIntegerToFloat")}
    blocks = {name for name, kind in products.items() if kind == "MatMulNBits"}
    assert blocks == {name for name in products if "down_proj" in name or "lm_head" in name}


def test_there_is_nothing_to_rewrite_in_floats(tmp_path) -> None:
    package = make_package(tmp_path, precision="fp32")[0].package
    prepack.make(package)
    assert made(package) is None
    assert rowwise.recorded(package) is None
    assert not rowwise.due(package)


def test_without_room_it_is_asked_for_once_a_day(tmp_path, monkeypatch, fast) -> None:
    package = make_package(tmp_path, precision="int8")[0].package
    prepack.make(package)
    monkeypatch.setenv(store.LIMIT, str(store.size_of(store.entry(package)) + 1000))
    assert made(package) is None
    assert not rowwise.due(package)
    monkeypatch.delenv(store.LIMIT)
    marker = store.entry(package) / record.MARKER
    os.utime(marker, (1, 1))
    assert rowwise.due(package)
    assert made(package) is not None
    monkeypatch.setattr(record, "free_memory", lambda: 1000)
    assert rowwise.find(package) is None


def test_the_environment_may_say_never(engine, monkeypatch) -> None:
    monkeypatch.setenv(record.WHEN, "never")
    assert not zoo.open(engine.package.path).session.rowwise
    monkeypatch.setenv(record.WHEN, "sometimes")
    with pytest.raises(UsageError, match="auto, always or never"):
        zoo.open(engine.package.path)


def test_the_environment_may_say_always_and_auto_is_as_before(tmp_path, monkeypatch, tried) -> None:
    package = make_package(tmp_path, precision="int8")[0].package
    monkeypatch.setenv("ZOO_PREPACK", "always")
    for when, used in (("always", True), ("auto", False), ("always", True), ("never", False)):
        monkeypatch.setenv(record.WHEN, when)
        assert zoo.open(package.path).session.rowwise == used
        assert tried == [None, "/down"]
        assert not rowwise.due(package)
    (store.entry(package) / record.MARKER).unlink()
    monkeypatch.setattr(trial, "run_trial", lambda *given: replace(WON, speedup=1.0, left=given[3]))
    monkeypatch.setenv(record.WHEN, "always")
    assert not zoo.open(package.path).session.rowwise


def test_what_was_tried_is_not_tried_again_for_another_mode(tmp_path, monkeypatch, tried) -> None:
    package = make_package(tmp_path, precision="int8")[0].package
    prepack.make(package)
    assert made(package) is None
    monkeypatch.setenv(record.WHEN, "always")
    assert rowwise.due(package)
    assert made(package) is not None
    assert tried == [None, "/down"]


def test_one_that_cannot_be_opened_is_none(engine, caplog) -> None:
    prompt = ids(150)
    graph = rowwise.find(engine.package)
    graph.write_bytes(b"x" * graph.stat().st_size)
    again = zoo.open(engine.package.path)
    with caplog.at_level(logging.WARNING):
        found = again.generate(prompt, max_new_tokens=4, ignore_eos=True)
    assert "long prompts are computed as all other steps" in caplog.text
    assert not again.session.rowwise
    assert found.token_ids[0] == last_logits(again, prompt, rowwise=False).argmax()
    assert zoo.open(engine.package.path).session.rowwise  # made anew


def test_one_whose_files_are_not_whole_is_made_anew(engine) -> None:
    (store.entry(engine.package) / record.DATA).write_bytes(b"short")
    assert rowwise.find(engine.package) is None
    assert rowwise.due(engine.package)
    assert zoo.open(engine.package.path).session.rowwise


def test_a_benchmark_says_which_way_long_prompts_went(engine) -> None:
    done = zoo.benchmark(engine.package.path, input_len=8, output_len=2, prompts=1)
    assert done.settings["long_prompts"] == "row-wise"
    assert "2.00 times as fast" in done.rowwise


def test_a_verification_holds_it_against_the_same_limits(engine, tmp_path) -> None:
    pytest.importorskip("transformers")
    from zoo.plugins import host
    from zoo.stages.verify import verify

    def verdict():
        return verify(
            host().registry, str(engine.package.path), weights=str(tmp_path / "checkpoint"), quick=True
        ).verdict

    sound = verdict()
    names = [one.name for one in sound.checks if one.name.startswith("row-wise")]
    assert len(names) == 4
    assert all(one.passed for one in sound.checks if one.name in names)
    spoil(rowwise.find(engine.package))
    spoilt = verdict()
    assert not spoilt.passed
    assert {one.name for one in spoilt.checks if not one.passed} <= {*names}


def spoil(graph) -> None:
    """Double the scales of a product."""
    import onnx

    model = onnx.load(str(graph), load_external_data=False)
    tensor = next(one for one in model.graph.initializer if one.name.endswith("o_proj/MatMul/scales"))
    place = {entry.key: entry.value for entry in tensor.external_data}
    scales = np.memmap(graph.parent / place["location"], np.float32, "r+", int(place["offset"]), tuple(tensor.dims))
    scales *= 20
    scales.flush()


@pytest.mark.parametrize("signed", [True, False])
def test_unsigned_weights_are_the_same_weights(signed, tmp_path, monkeypatch, fast) -> None:
    """A CPU without VNNI overflows in products of unsigned by signed bytes, not of unsigned by unsigned."""
    monkeypatch.setattr(making, "signed_is_exact", lambda: signed)
    package = make_package(tmp_path, precision="int8", initializer_range=0.05)[0].package
    prepack.make(package)
    graph = made(package)
    assert graph is not None
    found = rowwise.recorded(package)
    assert found is not None
    if not signed or exact.signed_is_exact():
        assert 0 < found.kl_rowwise < 10 * found.kl_blocks
