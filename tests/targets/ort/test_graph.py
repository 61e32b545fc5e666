"""The graph as a file: names, shapes, where weights lie, what stays out of it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import zoo
from tests.checkpoints import edit_config, make_checkpoint
from tests.decoder.stepping import Stepping, prompt

pytest.importorskip("torch")
pytest.importorskip("transformers")

PAGE = 4096


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("graph") / "checkpoint"
    make_checkpoint(folder, hidden_size=128, head_dim=8, tie_word_embeddings=True, attention_bias=True)
    return folder


def external(tensor: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def test_inputs_and_outputs_are_named_as_onnxruntime_genai_names_them(checkpoint: Path, tmp_path: Path) -> None:
    graph = onnx.load(zoo.build(checkpoint, output=tmp_path / "p").path / "model.onnx", load_external_data=False).graph

    def shapes(values: Any) -> dict[str, list[Any]]:
        return {one.name: [dim.dim_param or dim.dim_value for dim in one.type.tensor_type.shape.dim] for one in values}

    cache = ["batch_size", 2, "past_sequence_length", 16]
    assert shapes(graph.input) == {
        "input_ids": ["batch_size", "sequence_length"],
        "attention_mask": ["batch_size", "total_sequence_length"],
        "past_key_values.0.key": cache,
        "past_key_values.0.value": cache,
        "past_key_values.1.key": cache,
        "past_key_values.1.value": cache,
        "num_logits_to_keep": [1],
    }
    outputs = shapes(graph.output)
    assert next(iter(outputs)) == "logits"
    assert outputs["logits"] == ["batch_size", 1, 331]
    assert outputs["present.1.value"] == ["batch_size", 2, "total_sequence_length", 16]


@pytest.mark.parametrize("precision", ["int8", "int4", "fp16", "fp32"])
def test_weights_lie_in_the_data_file_once(precision: str, checkpoint: Path, tmp_path: Path) -> None:
    """Every weight is external and aligned, ranges meet nowhere but where a tied tensor is seen in two shapes."""
    package = zoo.build(checkpoint, precision, output=tmp_path / "p").path
    size = (package / "model.onnx.data").stat().st_size
    model = onnx.load(package / "model.onnx", load_external_data=False)
    ranges: dict[tuple[int, int], list[str]] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            assert len(tensor.raw_data) <= 1024, tensor.name
            continue
        place = external(tensor)
        assert place["location"] == "model.onnx.data"
        offset, length = int(place["offset"]), int(place["length"])
        assert offset % (PAGE if length >= PAGE else 64) == 0
        ranges.setdefault((offset, length), []).append(tensor.name)
    ends = sorted(ranges)
    assert all(start + length <= after for (start, length), (after, _) in itertools.pairwise(ends))
    assert ends[-1][0] + ends[-1][1] == size
    shared = [names for names in ranges.values() if len(names) > 1]
    views = [["model.embed_tokens.weight_rows", "model.embed_tokens.weight"]]
    assert shared == (views if precision.startswith("int") else [])
    assert not any("lm_head" in name for names in ranges.values() for name in names)
    assert str(checkpoint.parent).encode() not in (package / "model.onnx").read_bytes()
    assert str(checkpoint.parent) not in (package / "genai_config.json").read_text()


def test_nodes_have_stable_names(checkpoint: Path, tmp_path: Path) -> None:
    first, second = (zoo.build(checkpoint, output=tmp_path / name).path / "model.onnx" for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    nodes = {node.name: node.op_type for node in onnx.load(first, load_external_data=False).graph.node}
    for name, kind in {
        "/model/embed_tokens/GatherBlockQuantized": "GatherBlockQuantized",
        "/model/layers.0/attn/qkv_proj/MatMul": "MatMulNBits",
        "/model/layers.1/attn/GroupQueryAttention": "GroupQueryAttention",
        "/model/layers.1/mlp/down_proj/MatMul": "MatMulNBits",
        "/model/layers.1/post_attention_layernorm/SkipLayerNorm": "SkipSimplifiedLayerNormalization",
        "/lm_head/MatMul": "MatMulNBits",
    }.items():
        assert nodes[name] == kind


def test_the_graph_stays_small(tmp_path: Path) -> None:
    """A long context and many layers are a few hundred bytes a node, whatever the tables would take."""
    make_checkpoint(tmp_path / "c", num_hidden_layers=24, max_position_embeddings=1 << 20)
    assert (zoo.build(tmp_path / "c", output=tmp_path / "p").path / "model.onnx").stat().st_size < 200_000


def test_logits_come_for_the_last_position_unless_more_are_asked_for(checkpoint: Path, tmp_path: Path) -> None:
    package = Stepping(zoo.build(checkpoint, "fp32", output=tmp_path / "p").path)
    tokens = prompt(20)
    every = package.step(tokens, keep=0)
    assert every.shape == (20, 331)
    for keep, count in ((None, 1), (1, 1), (5, 5), (20, 20), (50, 20)):
        package.reset()
        found = package.step(tokens, keep=keep)
        assert found.shape == (count, 331)
        np.testing.assert_allclose(found, every[-count:], atol=1e-4)


def test_a_batch_with_right_padding_is_its_sequences(checkpoint: Path, tmp_path: Path) -> None:
    package = Stepping(zoo.build(checkpoint, "fp32", output=tmp_path / "p").path)
    tokens = prompt(12)
    alone = package.step(tokens, keep=0)
    feeds = {name: np.zeros((2, shape[1], 0, shape[3]), np.float32) for name, shape in package.caches.items()}
    feeds["input_ids"] = np.array([tokens, [*tokens[:7], *[0] * 5]], np.int64)
    feeds["attention_mask"] = np.array([[1] * 12, [1] * 7 + [0] * 5], np.int64)
    feeds["num_logits_to_keep"] = np.array([0], np.int64)
    together = package.session.run(["logits"], feeds)[0]
    np.testing.assert_allclose(together[0], alone, atol=1e-4)
    np.testing.assert_allclose(together[1, :7], alone[:7], atol=1e-4)


def test_tables_of_common_contexts_are_folded_once(tmp_path: Path) -> None:
    """ONNX Runtime computes no cosine in a step; past the bound, or where the base grows, it does."""

    def cosines(**numbers: Any) -> int:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        make_checkpoint(folder, **numbers)
        package = zoo.build(folder, "int8", output=folder.with_suffix(".package")).path
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(package.parent / "optimized.onnx")
        options.log_severity_level = 4
        ort.InferenceSession(str(package / "model.onnx"), options, providers=["CPUExecutionProvider"])
        model = onnx.load(package.parent / "optimized.onnx", load_external_data=False)
        return sum(node.op_type == "Cos" for node in model.graph.node)

    assert cosines(max_position_embeddings=8192) == 0
    assert cosines(max_position_embeddings=1 << 20) == 1
    assert cosines(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}) == 1


@pytest.mark.parametrize("context", [1 << 16, 1 << 23])
def test_far_positions_turn_as_in_transformers(context: int, tmp_path: Path) -> None:
    """Tables, folded or made in the call, hold at positions where float32 angles are large."""
    import torch
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    make_checkpoint(tmp_path / "c", max_position_embeddings=context)
    package = zoo.build(tmp_path / "c", "fp32", output=tmp_path / "p").path
    model = onnx.load(package / "model.onnx", load_external_data=False)
    attention = next(node for node in model.graph.node if node.op_type == "GroupQueryAttention")
    for name in attention.input[7:9]:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    (package / "probe.onnx").write_bytes(model.SerializeToString())
    session = ort.InferenceSession(str(package / "probe.onnx"), providers=["CPUExecutionProvider"])
    feeds: dict[str, Any] = {"input_ids": np.array([[1]]), "attention_mask": np.ones((1, 60_000), np.int64)}
    for one in session.get_inputs():
        if one.name.startswith("past_"):
            feeds[one.name] = np.zeros((1, 2, 59_999, 16), np.float32)
    cos, sin = session.run(list(attention.input[7:9]), feeds)
    positions = torch.tensor([[0, 1, 4095, 59_999]])
    rotary = LlamaRotaryEmbedding(LlamaConfig(**json.loads((tmp_path / "c" / "config.json").read_text())))
    wanted = [one[0, :, :8].numpy() for one in rotary(torch.zeros(1), positions)]
    np.testing.assert_allclose(cos[positions[0].numpy()], wanted[0], atol=1e-4)
    np.testing.assert_allclose(sin[positions[0].numpy()], wanted[1], atol=1e-4)


def test_genai_config(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "c", hidden_size=128, head_dim=8)
    (tmp_path / "c" / "generation_config.json").write_text('{"bos_token_id": 1, "eos_token_id": [2, 7]}')
    config = json.loads((zoo.build(tmp_path / "c", output=tmp_path / "p").path / "genai_config.json").read_text())
    model, decoder = config["model"], config["model"]["decoder"]
    assert (model["vocab_size"], model["context_length"], model["eos_token_id"]) == (331, 256, [2, 7])
    assert (model["bos_token_id"], model["pad_token_id"]) == (1, 2)
    assert decoder["head_size"] == 16, "the cache has padded heads"
    assert (decoder["num_attention_heads"], decoder["num_key_value_heads"], decoder["num_hidden_layers"]) == (4, 2, 2)
    assert config["search"]["max_length"] == 256
    assert config["search"]["do_sample"] is False
    names = decoder["inputs"] | decoder["outputs"]
    graph = onnx.load(tmp_path / "p" / "model.onnx", load_external_data=False).graph
    declared = {one.name for one in [*graph.input, *graph.output]}
    assert {name % 1 if "%d" in name else name for name in names.values()} <= declared


def test_context_of_dynamic_scaling_is_the_stretched_one(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "c", rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4})
    config = json.loads((zoo.build(tmp_path / "c", output=tmp_path / "p").path / "genai_config.json").read_text())
    assert config["model"]["context_length"] == 1024


def test_genai_config_names_no_token_outside_the_vocabulary(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "c", bos_token_id=None, eos_token_id=None, pad_token_id=None)
    (tmp_path / "c" / "generation_config.json").unlink()
    edit_config(tmp_path / "c", pad_token_id=-1)
    config = json.loads((zoo.build(tmp_path / "c", output=tmp_path / "p").path / "genai_config.json").read_text())
    assert "eos_token_id" not in config["model"]
    assert "bos_token_id" not in config["model"]
    assert config["model"]["pad_token_id"] == 0
