"""Steps of a session: however a text is cut into steps, the same logits."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import zoo
from tests.engine.made import make_package
from zoo.engine import session as session_module
from zoo.engine.cache import ALIGNMENT, SMALLEST, aligned
from zoo.engine.machine import usable_cores
from zoo.engine.session import Row, Session
from zoo.errors import ZooError

CONTEXT = 1024


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    pytest.importorskip("torch")
    engine, model = make_package(tmp_path_factory.mktemp("session"), max_position_embeddings=CONTEXT)
    return engine.package.path, model


@pytest.fixture(scope="module")
def session(package) -> Session:
    return Session(package[0])


def ids(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(3, 400, count).tolist()


def reference(model, tokens: list[int]) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].numpy()


@pytest.mark.parametrize("chunk", [64, 100, 512])
def test_a_prompt_in_chunks_is_the_prompt_at_once(session, package, monkeypatch, chunk) -> None:
    tokens = ids(600)
    monkeypatch.setattr(Session, "chunk", lambda self, past: chunk)
    cache = session.new_cache()
    found = session.prefill(cache, tokens)
    assert found.shape == (1, 400)
    assert cache.tokens == tokens
    np.testing.assert_allclose(found[0], reference(package[1], tokens)[-1], atol=1e-3)


def test_a_cache_that_grows_keeps_what_it_holds(session, package) -> None:
    tokens = ids(SMALLEST + 150)
    cache = session.new_cache()
    first = cache.capacity
    session.prefill(cache, tokens[: SMALLEST - 5])
    found = [session.forward(cache, [token])[0].copy() for token in tokens[SMALLEST - 5 :]]
    assert first == SMALLEST < cache.capacity <= CONTEXT
    np.testing.assert_allclose(found, reference(package[1], tokens)[SMALLEST - 5 :], atol=1e-3)


def test_logits_of_every_position_come_in_blocks(session, package, monkeypatch) -> None:
    tokens = ids(300)
    monkeypatch.setattr(session_module, "LOGITS_BYTES", 4 * 400 * 70)
    cache = session.new_cache()
    blocks = [block.copy() for block in session.all_logits(cache, tokens)]
    assert [len(block) for block in blocks] == [70, 70, 70, 70, 20]
    np.testing.assert_allclose(np.concatenate(blocks), reference(package[1], tokens), atol=1e-3)
    np.testing.assert_allclose(session.forward(cache, [5])[0], reference(package[1], [*tokens, 5])[-1], atol=1e-3)


def test_sequences_do_not_touch_each_other(session, package) -> None:
    one, other = session.new_cache(), session.new_cache()
    first, second = ids(40, seed=1), ids(70, seed=2)
    session.prefill(one, first)
    session.prefill(other, second)
    found = session.forward(one, [7])[0].copy()
    session.forward(other, [8])
    np.testing.assert_allclose(found, reference(package[1], [*first, 7])[-1], atol=1e-3)


def test_a_step_brings_sequences_on_by_different_numbers_of_tokens(session, package) -> None:
    slots = session.new_slots(5)
    texts = {0: ids(40, seed=1), 2: ids(7, seed=2), 3: ids(90, seed=3)}
    for slot, text in texts.items():
        session.prefill(slots.sequence(slot), text)
    new = {0: [5, 6, 7], 2: [8], 3: [9, 10, 11, 12, 13], 4: ids(3, seed=4)}
    keeps = {0: 3, 2: 1, 3: 2, 4: 0}
    found = session.step(slots, [Row(slot, tokens, keeps[slot]) for slot, tokens in new.items()])
    assert [len(logits) for logits in found] == [3, 1, 2, 0]
    assert slots.tokens[1] == []
    for slot, logits in zip(new, found, strict=True):
        whole = texts.get(slot, []) + new[slot]
        assert slots.tokens[slot] == whole
        expected = reference(package[1], whole)[len(whole) - keeps[slot] :]
        np.testing.assert_allclose(logits, expected, atol=1e-3)
    # The one that rested, and the ones that were stepped, go on as if they had been alone.
    after = session.step(slots, [Row(slot, [17]) for slot in (0, 2, 3, 4)])
    for slot, logits in zip(new, after, strict=True):
        np.testing.assert_allclose(logits[0], reference(package[1], slots.tokens[slot])[-1], atol=1e-3)


def test_a_step_at_the_end_of_the_context_needs_no_room_for_padding(session, package) -> None:
    slots = session.new_slots(3)
    long, short = ids(CONTEXT - 1, seed=5), ids(20, seed=6)
    session.prefill(slots.sequence(0), long)
    session.prefill(slots.sequence(2), short)
    found = session.step(slots, [Row(0, [7]), Row(2, [8, 9, 10, 11])])
    np.testing.assert_allclose(found[0][0], reference(package[1], [*long, 7])[-1], atol=1e-3)
    np.testing.assert_allclose(found[1][0], reference(package[1], [*short, 8, 9, 10, 11])[-1], atol=1e-3)
    assert slots.capacity <= CONTEXT
    with pytest.raises(ZooError, match="more than the context"):
        session.step(slots, [Row(0, [7]), Row(2, [8])])


def test_what_is_copied_or_restored_goes_on_like_the_original(session, package) -> None:
    slots = session.new_slots(4)
    text = ids(60, seed=7)
    session.prefill(slots.sequence(1), text)
    slots.copy(1, 3, 50)
    slots.restore(0, text[:32], slots.save(1, 0, 32))
    for slot, length in ((3, 50), (0, 32)):
        assert slots.tokens[slot] == text[:length]
        found = session.prefill(slots.sequence(slot), text[length:])
        np.testing.assert_allclose(found[0], reference(package[1], text)[-1], atol=1e-3)


def test_what_was_forgotten_leaves_no_trace(session, package) -> None:
    cache = session.new_cache()
    tokens = ids(90)
    session.prefill(cache, ids(200, seed=9))
    cache.keep(0)
    session.prefill(cache, tokens)
    cache.keep(50)
    found = session.prefill(cache, tokens[50:])
    np.testing.assert_allclose(found[0], reference(package[1], tokens)[-1], atol=1e-3)


def test_the_context_is_the_end(session) -> None:
    cache = session.new_cache()
    session.prefill(cache, ids(CONTEXT))
    with pytest.raises(ZooError, match=f"{CONTEXT + 1} tokens are more than the context of {CONTEXT}"):
        session.forward(cache, [5])


def test_long_pasts_are_stepped_in_smaller_chunks(session, monkeypatch) -> None:
    monkeypatch.setattr(session, "_heads", 64)
    steps = [session.chunk(past) for past in (0, 2048, 8192, 32768)]
    assert steps == sorted(steps, reverse=True)
    for past, step in zip((0, 2048, 8192), steps, strict=False):
        assert 64 * step * (past + step) * 4 <= session_module.SCORES_BYTES or step == session_module.MIN_CHUNK


def test_an_interrupted_step_says_so_and_the_next_runs(session) -> None:
    cache = session.new_cache()
    session.interrupt()
    with pytest.raises(ZooError, match="onnxruntime failed"):
        session.forward(cache, [5])
    session.resume()
    assert len(cache) == 0
    session.forward(cache, [5])
    assert cache.tokens == [5]


def test_a_graph_that_is_none_is_refused(package, tmp_path) -> None:
    folder = tmp_path / "package"
    shutil.copytree(package[0], folder)
    (folder / "batch.onnx").write_bytes(b"nothing")
    with pytest.raises(ZooError, match="package: onnxruntime cannot open it"):
        Session(folder)
    (folder / "genai_config.json").write_text(json.dumps({"model": {}}))
    with pytest.raises(ZooError, match=r"genai_config\.json"):
        Session(folder)
    (folder / "batch.onnx").unlink()
    with pytest.raises(ZooError, match=r"no batch\.onnx.*build it again"):
        Session(folder)


def test_a_graph_of_an_older_zoo_is_to_be_built_again(package, tmp_path) -> None:
    import onnx

    model = onnx.load(str(package[0] / "batch.onnx"), load_external_data=False)
    (places,) = (value for value in model.graph.input if value.name == "token_places")
    places.name = "something_else"
    for node in model.graph.node:
        node.input[:] = ["something_else" if name == "token_places" else name for name in node.input]
    folder = shutil.copytree(package[0], tmp_path / "package")
    (folder / "batch.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ZooError, match=r"package: its batch\.onnx is that of an older zoo; build it again"):
        Session(folder)


def test_a_graph_that_is_no_decoder_is_refused(package, tmp_path) -> None:
    from onnx import TensorProto, helper

    shutil.copy(package[0] / "genai_config.json", tmp_path)
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (tmp_path / "batch.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ZooError, match="not a decoder"):
        Session(tmp_path)


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_chunks_agree_in_every_precision(tmp_path, precision) -> None:
    pytest.importorskip("torch")
    engine, _ = make_package(tmp_path, precision=precision)
    tokens = ids(200)
    whole = engine.logits(tokens)
    assert whole.shape == (200, 400)
    np.testing.assert_array_equal(engine.logits(tokens, 3), engine.logits(tokens, 3))
    np.testing.assert_allclose(engine.logits(tokens, 3), whole[-3:], atol=2e-2)


def test_buffers_are_aligned_and_zero() -> None:
    for shape in ((1, 3, 5, 7), (1, 1, 1, 1)):
        made = aligned(shape, np.float32)
        assert made.shape == shape
        assert made.ctypes.data % ALIGNMENT == 0
        assert not made.any()


def test_cores_are_counted_within_the_affinity() -> None:
    import os

    count = usable_cores.__wrapped__  # what the tests run with counts one
    assert 1 <= count() <= (os.cpu_count() or 1)
    if hasattr(os, "sched_setaffinity"):
        before = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, {min(before)})
            assert count() == 1
        finally:
            os.sched_setaffinity(0, before)


def test_the_quota_of_a_control_group_counts(tmp_path) -> None:
    from zoo.engine.machine import _quota

    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert _quota(tmp_path) == 2.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert _quota(tmp_path) is None
    assert _quota(tmp_path / "none") is None


def test_the_memory_of_control_groups_counts(tmp_path) -> None:
    from zoo.engine.machine import _memory_limits

    assert _memory_limits(tmp_path) == []
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 200\nactive_file 50\n")
    assert _memory_limits(tmp_path) == [(1000, 550)]
    (tmp_path / "memory.max").write_text("max\n")
    old = tmp_path / "memory"
    old.mkdir()
    (old / "memory.limit_in_bytes").write_text("2000\n")
    (old / "memory.usage_in_bytes").write_text("1500\n")
    (old / "memory.stat").write_text("total_rss 1100\ntotal_inactive_file 300\n")
    assert _memory_limits(tmp_path) == [(2000, 800)]


def test_zoo_open_opens_a_folder(package) -> None:
    assert zoo.open(package[0]).context_length == CONTEXT
