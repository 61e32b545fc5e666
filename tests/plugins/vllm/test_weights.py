"""Weights as vLLM finds them, read back by compressed-tensors and transformers, tensor by tensor."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import zoo
from tests.checkpoints import make_checkpoint
from tests.encoders import TEXTS, describe, hidden_states, make_encoder
from zoo.errors import ZooError
from zoo.testing.checkpoint import write_tokenizer

torch = pytest.importorskip("torch")
WIDE = {"hidden_size": 128, "intermediate_size": 256, "vocab_size": 320}

FORMS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("int8", {}, {}),
    ("int4", {}, {}),
    ("int4", {"block_size": 32}, {}),
    ("int8", {"block_size": "row"}, {}),
    ("int8", {"block_size": "row"}, {"format": "int-quantized"}),
    ("int4", {"block_size": 64}, {"format": "gptq"}),
    ("int8", {"block_size": "row"}, {"format": "gptq"}),
]


@pytest.fixture(scope="module", params=["bfloat16", "float16"])
def original(request, tmp_path_factory) -> Path:
    """A checkpoint of grouped heads, with a tokenizer and a licence."""
    folder = tmp_path_factory.mktemp("original")
    make_checkpoint(folder, dtype=request.param, **WIDE)
    write_tokenizer(folder)
    (folder / "LICENSE").write_text("as you like")
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    make_checkpoint(folder, dtype="bfloat16", **WIDE)
    write_tokenizer(folder)
    return folder


def build(folder: Path, output: Path, precision: str = "int4", quantizer: Any = None, **options: Any) -> Path:
    return zoo.build(
        folder, precision, output=output, target="vllm", quantizer_options=quantizer, target_options=options
    ).path


def tensors(folder: Path) -> dict[str, Any]:
    """All tensors of a folder, each from the file that the index names."""
    from safetensors import safe_open

    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    read = {}
    for name, file in index.items():
        with safe_open(folder / file, "pt") as opened:
            read[name] = opened.get_tensor(name)
    return read


def foreign(folder: Path) -> dict[str, tuple[Any, Any]]:
    """Weights as compressed-tensors decompresses them, in float32, and the scale of each value: name → (both)."""
    if "bits" in json.loads((folder / "config.json").read_text())["quantization_config"]:
        return read_gptq(folder)
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig

    stated = json.loads((folder / "config.json").read_text())["quantization_config"]
    config, read = QuantizationConfig.model_validate(stated), tensors(folder)
    compressor = BaseCompressor.load_from_registry(stated["format"])
    (scheme,) = config.config_groups.values()
    weights = {}
    for module in (name.removesuffix(".weight_scale") for name in read if name.endswith(".weight_scale")):
        state = {name.rpartition(".")[2]: value for name, value in read.items() if name.rpartition(".")[0] == module}
        scale = state["weight_scale"] = state["weight_scale"].float()
        weight = compressor.decompress(state, scheme)["weight"].float()
        weights[f"{module}.weight"] = weight, scale.repeat_interleave(weight.shape[1] // scale.shape[1], 1)
    return weights


def read_gptq(folder: Path) -> dict[str, tuple[Any, Any]]:
    """The same of GPTQ's layout, value by value as AutoGPTQ's packing says: the reader of this test alone."""
    stated, read, weights = json.loads((folder / "config.json").read_text())["quantization_config"], tensors(folder), {}
    assert stated["quant_method"] == "gptq"
    assert not stated["desc_act"]
    bits = stated["bits"]

    def unpacked(words: Any, count: int) -> Any:  # along the last axis
        at = torch.arange(count)
        return (words.long() % 2**32)[..., at * bits // 32] // 2 ** (at * bits % 32) % 2**bits

    for module in (name.removesuffix(".qweight") for name in read if name.endswith(".qweight")):
        scales, group = read[f"{module}.scales"].float(), read[f"{module}.g_idx"].long()
        columns, rows = len(group), scales.shape[1]
        assert group.tolist() == [at // (columns // len(scales)) for at in range(columns)]
        assert stated["group_size"] in (columns // len(scales), -1)
        levels = unpacked(read[f"{module}.qweight"].T, columns)
        zeros = unpacked(read[f"{module}.qzeros"], rows) + 1
        scale = scales[group].T
        weights[f"{module}.weight"] = scale * (levels - zeros[group].T), scale
    return weights


@pytest.mark.parametrize(("precision", "quantizer", "options"), FORMS)
def test_a_foreign_reader_gets_the_nearest_levels(original, tmp_path, precision, quantizer, options):
    package = build(original, tmp_path / "out", precision, quantizer, **options)
    from safetensors.torch import load_file

    wanted = load_file(original / "model.safetensors")
    read = foreign(package)
    assert len(read) == 14
    bits = int(precision[3:])
    for name, (weight, scale) in read.items():
        exact = wanted[name].float()
        # Past the last level there is none: 4 bits end at 7 where the largest magnitude is at -8, and a scale may have
        # been rounded down.
        level = exact / scale
        low, high = (-8, 7) if bits == 4 else (-128, 127)
        assert bool(((weight / scale - level.clamp(low, high)).abs() < 0.501).all()), name
    rest = {name: value for name, value in tensors(package).items() if name in wanted}
    assert set(rest) | set(read) == set(wanted)
    assert all(torch.equal(value, wanted[name]) for name, value in rest.items() if name not in read)
    assert {value.dtype for name, value in tensors(package).items() if name.endswith(("_scale", ".scales"))} == {
        wanted["model.norm.weight"].dtype
    }
    assert (package / "LICENSE").is_file()
    assert json.loads((package / "config.json").read_text())["torch_dtype"] == str(rest["model.norm.weight"].dtype)[6:]


@pytest.mark.parametrize(("precision", "quantizer", "options"), [FORMS[1], FORMS[4]])
def test_transformers_opens_it_and_computes_as_the_levels_say(one, tmp_path, precision, quantizer, options):
    from transformers import AutoModelForCausalLM

    package = build(one, tmp_path / "out", precision, quantizer, **options)
    ours = AutoModelForCausalLM.from_pretrained(one, dtype=torch.float32)
    read = foreign(package)
    with torch.no_grad():
        for name, values in ours.named_parameters():
            if name in read:
                values.copy_(read[name][0])
    theirs = AutoModelForCausalLM.from_pretrained(package, dtype=torch.float32)
    ids = torch.arange(3, 60)[None]
    with torch.no_grad():
        wanted, got = (model(ids).logits.float().log_softmax(-1) for model in (ours, theirs))
    assert float((wanted.exp() * (wanted - got)).sum(-1).mean()) < (2e-2 if options else 5e-3)
    assert float((wanted.argmax(-1) == got.argmax(-1)).float().mean()) > 0.9


def test_fp16_is_plain_safetensors_of_the_checkpoints_type(original, tmp_path):
    from safetensors.torch import load_file

    package = build(original, tmp_path / "out", "fp16", shard_gb=1e-4)
    assert len(list(package.glob("model-*.safetensors"))) > 3
    wanted, got = load_file(original / "model.safetensors"), tensors(package)
    assert set(wanted) == set(got)
    assert all(torch.equal(wanted[name], got[name]) for name in wanted)
    assert "quantization_config" not in json.loads((package / "config.json").read_text())


@pytest.mark.parametrize(("threads", "format"), [(1, "pack-quantized"), (3, "pack-quantized"), (2, "gptq")])
def test_an_interrupted_build_ends_in_the_same_bytes(one, tmp_path, threads, format):
    options = {"shard_gb": 5e-5, "format": format}
    whole = build(one, tmp_path / "whole", "int4", **options)
    assert len(list(whole.glob("model-*.safetensors"))) > 3

    class Stopped(Exception):
        pass

    def stop(progress: Any) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        zoo.build(
            one, "int4", output=tmp_path / "again", target="vllm", threads=threads,
            target_options=options, progress=stop,
        )  # fmt: skip
    again = build(one, tmp_path / "again", "int4", **options)
    assert {path.name: path.read_bytes() for path in whole.iterdir() if path.name != "zoo.json"} == {
        path.name: path.read_bytes() for path in again.iterdir() if path.name != "zoo.json"
    }


def test_the_source_of_gptq_takes_the_very_levels_over(original, tmp_path):
    """Their own reader of this format sees the levels: built again from the package, it is the same bytes."""
    package = build(original, tmp_path / "package", "int4", {"block_size": 32}, format="gptq")
    shutil.copytree(package, tmp_path / "copy", ignore=shutil.ignore_patterns("zoo.json", "serve.sh"))
    again = build(tmp_path / "copy", tmp_path / "again", "int4", {"block_size": 32}, format="gptq")
    files = sorted(path.name for path in package.glob("model-*.safetensors"))
    assert files
    assert all((package / name).read_bytes() == (again / name).read_bytes() for name in files)
    assert json.loads((again / "config.json").read_text()) == json.loads((package / "config.json").read_text())


@pytest.mark.parametrize("format", ["pack-quantized", "gptq"])
@pytest.mark.parametrize("quantizer", ["gptq", "awq"])
def test_calibrated_levels_are_stored_alike(one, tmp_path, quantizer, format):
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time there was a small model. " * 200)
    package = zoo.build(
        one, "int4", output=tmp_path / "out", target="vllm", quantizer=quantizer, calibration=text, samples=2,
        sequence_length=32, target_options={"format": format},
    ).path  # fmt: skip
    nearest = foreign(build(one, tmp_path / "nearest"))
    read = foreign(package)
    assert read.keys() == nearest.keys()
    assert any(not torch.equal(read[name][0], nearest[name][0]) for name in read)
    for name, (weight, _) in read.items():
        if quantizer == "gptq":
            close = torch.nn.functional.cosine_similarity(weight.flatten(), nearest[name][0].flatten(), 0)
            assert float(close) > 0.95, name


@pytest.mark.parametrize(
    ("precision", "quantizer", "options", "reason"),
    [
        ("int4", {"symmetric": False}, {}, "would get zero points"),
        (
            "int4",
            {"block_size": 16},
            {},
            "groups of 16 columns, .*; choose --block-size 32 or 64 or 128, or a whole row",
        ),
        ("int4", {}, {"tp": 2, "format": "int-quantized"}, "stores 8 bits and one scale a row, not 4 bits"),
        ("int8", {"block_size": 128}, {"tp": 4}, "cuts a group of 128; choose --block-size 32"),
        ("int8", {}, {"tp": 3}, "tp 3 does not divide the 4 attention heads"),
        ("int8", {"keep": {"*q_proj*": "fp16"}}, {}, "vLLM fuses .* which would be stored differently"),
        ("int4", {"keep": {"*o_proj*": "int8"}}, {"format": "gptq"}, "o_proj would be stored differently.* one width"),
        ("int4", {"keep": {"*o_proj*": "fp16"}}, {"format": "gptq"}, "o_proj would be stored differently.* one width"),
    ],
)
def test_what_vllm_has_no_kernel_for_is_named_with_what_would_fit(one, tmp_path, precision, quantizer, options, reason):
    with pytest.raises(zoo.ZooError, match=reason):
        build(one, tmp_path / "out", precision, quantizer, **options)
    assert not (tmp_path / "out").exists()


def test_columns_that_no_group_divides(tmp_path):
    make_checkpoint(tmp_path / "odd", dtype="bfloat16")  # its MLP is 112 wide
    with pytest.raises(zoo.ZooError, match="block_size=row"):
        build(tmp_path / "odd", tmp_path / "out")
    package = build(tmp_path / "odd", tmp_path / "out", "int4", {"keep": {"mlp.down_proj": "fp16"}, "block_size": 32})
    assert (
        "model.layers.0.mlp.down_proj"
        in json.loads((package / "config.json").read_text())["quantization_config"]["ignore"]
    )


def test_original_weights_take_their_own_precision(one, tmp_path):
    with pytest.raises(zoo.ZooError, match="served as they are, not as int8"):
        build(one, tmp_path / "out", "int8", weights="original")
    assert {path.name for path in build(one, tmp_path / "out", "fp16", weights="original").iterdir()} == {
        "serve.sh",
        "zoo.json",
    }


def test_an_encoder_is_served_as_floats(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "bert"
    model = make_encoder(folder)
    describe(folder)
    with pytest.raises(ZooError, match="an encoder is served as floats, not as int8; say -p fp16"):
        zoo.build(folder, "int8", output=tmp_path / "int8", target="vllm")
    package = zoo.build(folder, "fp16", output=tmp_path / "fp16", target="vllm").path
    stored = transformers.AutoModel.from_pretrained(package, dtype=torch.float32).eval()
    for one, other in zip(hidden_states(stored, package, TEXTS), hidden_states(model, folder, TEXTS), strict=True):
        assert abs(one - other).max() < 0.02
    assert (package / "1_Pooling/config.json").read_bytes() == (folder / "1_Pooling/config.json").read_bytes()
