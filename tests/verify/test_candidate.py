"""A package in pieces computes what it computes as a whole, and maps no more weights than a piece needs."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import zoo
from tests.checkpoints import make_checkpoint
from zoo.errors import ZooError
from zoo.verify.candidate import Candidate
from zoo.verify.cut import CutGraph

pytest.importorskip("torch")

LENGTHS = (1, 9, 33)


@pytest.fixture
def build(tmp_path):
    def make(precision, **numbers):
        make_checkpoint(tmp_path / "checkpoint", **numbers)
        return zoo.build(str(tmp_path / "checkpoint"), precision, output=tmp_path / "package").path

    return make


def whole(folder, ids):
    """All logits of one run of model.onnx."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(folder / "model.onnx"), options)
    feeds = {
        "input_ids": ids[None],
        "attention_mask": np.ones((1, len(ids)), np.int64),
        "num_logits_to_keep": np.array([0]),
    }
    for value in session.get_inputs():
        if value.name.startswith("past"):
            feeds[value.name] = np.zeros((1, value.shape[1], 0, value.shape[3]), np.float32)
    return session.run(["logits"], feeds)[0][0]


@pytest.mark.parametrize(
    ("precision", "numbers"),
    [
        ("fp32", {"num_hidden_layers": 1}),
        ("fp32", {"head_dim": 8, "attention_bias": True, "tie_word_embeddings": True}),
        ("fp16", {"dtype": "float16"}),
        ("int8", {"hidden_size": 72, "head_dim": 16}),
        ("int4", {"num_hidden_layers": 3}),
    ],
    ids=str,
)
def test_pieces_are_the_whole(build, precision, numbers) -> None:
    folder = build(precision, **numbers)
    candidate = Candidate(folder)
    assert candidate.num_layers == numbers.get("num_hidden_layers", 2)
    rng = np.random.default_rng(2)
    ids = [rng.integers(0, 331, length, dtype=np.int64) for length in LENGTHS]
    candidate.begin(ids)
    for layer in range(candidate.num_layers):
        candidate.step(layer, {})
    for index, one in enumerate(ids):
        found = np.concatenate([candidate.logits(index, at, min(at + 5, len(one))) for at in range(0, len(one), 5)])
        wanted = whole(folder, one)
        np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())


def test_a_layer_on_its_own_states_makes_the_same(build) -> None:
    candidate = Candidate(build("fp32"))
    candidate.begin([np.arange(12, dtype=np.int64)])
    for layer in range(candidate.num_layers):
        made = candidate.step(layer, {0: candidate.states(0).copy()})
        np.testing.assert_allclose(made[0], candidate.states(0), atol=1e-5)
    np.testing.assert_allclose(candidate.head(candidate.states(0)), candidate.logits(0, 0, 12), atol=1e-5)


def test_a_piece_refers_to_its_own_layers_weights_only(build) -> None:
    cut = CutGraph(build("int8", num_hidden_layers=3) / "model.onnx")
    for layer in range(3):
        piece = onnx.load_from_string(cut.layer(layer))
        outside = [one for one in piece.graph.initializer if one.data_location == onnx.TensorProto.EXTERNAL]
        assert outside
        assert {int(re.search(r"layers\.(\d+)\.", one.name)[1]) for one in outside} == {layer}


def test_what_is_no_graph_is_one_line(tmp_path) -> None:
    with pytest.raises(ZooError, match="missing"):
        CutGraph(tmp_path / "model.onnx")
    (tmp_path / "model.onnx").write_bytes(b"\xff\xff nothing")
    with pytest.raises(ZooError, match="no ONNX model"):
        CutGraph(tmp_path / "model.onnx")


def test_a_graph_without_layers_cannot_be_cut(tmp_path) -> None:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    node = helper.make_node("Identity", ["input_ids"], ["logits"], name="/only")
    graph = helper.make_graph(
        [node], "g", [value("input_ids", TensorProto.INT64, [1])], [value("logits", TensorProto.INT64, [1])]
    )
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    with pytest.raises(ZooError, match="decoder layers"):
        CutGraph(tmp_path / "model.onnx")
