"""Checkpoints whose tensors hold rows of several projections: the same package comes out as from separate tensors.

The layouts are those of Phi-3 (q, k, v in one tensor, gate and up in another), of InternLM2 (q, k, v grouped by KV
head), and gate and up row by row in turn.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.builds import write_safetensors
from tests.calibration.test_stream import TOKENS, prepare
from tests.checkpoints import make_checkpoint, make_of_type
from zoo.calibration.stream import CalibratedStream
from zoo.contracts import RowSlice
from zoo.declarations.licence import UNKNOWN_LICENCE
from zoo.declarations.recipe import QuantizerChoice, Recipe, TargetChoice, WeightsPin
from zoo.decoder import Decoder
from zoo.errors import ZooError
from zoo.package import slabs
from zoo.package.datafile import DataFiles
from zoo.plugins import host
from zoo.sources.folder import open_folder
from zoo.stages.build import build
from zoo.stages.request import Request
from zoo.stages.resolve import resolve

LLAMA = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
SHAPES = {"heads as they are": {"head_dim": 16}, "padded heads": {"head_dim": 10}}


class Repacked:
    """The decoder, whose projections lie elsewhere in the checkpoint."""

    activations = Decoder.activations

    def __init__(self):
        self.decoder = Decoder()

    def read_config(self, config, implied=()):
        return self.decoder.read_config(config, dict(implied)).model_copy(update={"type": self.type})

    def tensors(self, arch):
        return {each.tensor: each.tensor_shape for one in self.parameters(arch) for each in one.slices}

    def parameter_count(self, arch):
        return self.decoder.parameter_count(arch)

    def ignored(self, arch, name):
        return self.decoder.ignored(arch, name)

    def parameters(self, arch, head_multiple=1):
        return [
            replace(one, slices=tuple(self.moved(arch, each) for each in one.slices))
            for one in self.decoder.parameters(arch, head_multiple)
        ]

    def forward(self, arch, ops, head_multiple=1):
        self.decoder.forward(arch, ops, head_multiple)

    def moved(self, arch, each: RowSlice) -> RowSlice:
        found = re.fullmatch(r"(.*)\.(self_attn|mlp)\.(q|k|v|gate|up)_proj\.weight", each.tensor)
        if found is None:
            return each
        layer, _, role = found.groups()
        tensor, rows, count = self.rows(arch, role)
        return replace(each, tensor=f"{layer}.{tensor}", tensor_shape=(count, *each.tensor_shape[1:]), rows=rows)


class PhiLike(Repacked):
    type = "phi"

    def rows(self, arch, role):
        q, kv, ffn = (
            arch.num_attention_heads * arch.head_dim, arch.num_key_value_heads * arch.head_dim, arch.intermediate_size,
        )  # fmt: skip
        if role in "qkv":
            start, count = {"q": (0, q), "k": (q, kv), "v": (q + kv, kv)}[role]
            return "self_attn.qkv_proj.weight", range(start, start + count), q + 2 * kv
        return "mlp.gate_up_proj.weight", range(ffn) if role == "gate" else range(ffn, 2 * ffn), 2 * ffn


class InternLike(Repacked):
    type = "intern"

    def rows(self, arch, role):
        size, group = arch.head_dim, arch.num_attention_heads // arch.num_key_value_heads
        if role in "qkv":
            heads = {"q": range(group), "k": [group], "v": [group + 1]}[role]
            rows = tuple(
                ((kv * (group + 2)) + head) * size + value
                for kv in range(arch.num_key_value_heads)
                for head in heads
                for value in range(size)
            )
            return "attention.wqkv.weight", rows, arch.num_key_value_heads * (group + 2) * size
        ffn = arch.intermediate_size
        return "mlp.gate_up.weight", range(0 if role == "gate" else 1, 2 * ffn, 2), 2 * ffn


def as_phi(q, k, v, gate, up, arch):
    return {
        "self_attn.qkv_proj.weight": np.concatenate([q, k, v]), "mlp.gate_up_proj.weight": np.concatenate([gate, up]),
    }  # fmt: skip


def as_intern(q, k, v, gate, up, arch):
    groups, size, hidden = arch.num_key_value_heads, arch.head_dim, arch.hidden_size
    grouped = [one.reshape(groups, -1, size, hidden) for one in (q, k, v)]
    return {
        "attention.wqkv.weight": np.concatenate(grouped, axis=1).reshape(-1, hidden),
        "mlp.gate_up.weight": np.stack([gate, up], axis=1).reshape(-1, hidden),
    }


LAYOUTS = {"phi": as_phi, "intern": as_intern}


def registry():
    known = host().registry
    mine = {"phi": "tests.decoder.test_fused:PhiLike", "intern": "tests.decoder.test_fused:InternLike"}
    return replace(known, architectures={**known.architectures, **mine})


def repack(plain: Path, folder: Path, layout: str, arch) -> Path:
    """Write a checkpoint's weights again in another layout."""
    from safetensors.numpy import load_file

    values = load_file(plain / "model.safetensors")
    for layer in range(arch.num_hidden_layers):
        at = f"model.layers.{layer}."
        attention = [values.pop(f"{at}self_attn.{one}_proj.weight") for one in "qkv"]
        mlp = [values.pop(f"{at}mlp.{one}_proj.weight") for one in ("gate", "up")]
        values |= {at + name: array for name, array in LAYOUTS[layout](*attention, *mlp, arch).items()}
    folder.mkdir()
    for path in plain.glob("*.json"):
        (folder / path.name).write_bytes(path.read_bytes())
    write_safetensors(folder / "model.safetensors", {name: ("F32", array) for name, array in values.items()})
    return folder


def pair(tmp_path, layout, precision, quantizer, **shape):
    """A recipe of a plain checkpoint, and the same one of the repacked checkpoint."""
    make_checkpoint(tmp_path / "plain", **{**LLAMA, **shape})
    if quantizer in ("gptq", "awq"):
        plain = prepare(tmp_path / "plain", precision, quantizer)
        plain = replace(plain, recipe=plain.recipe.model_copy(update={"smoothing": None}))
    else:
        plain = resolve(host().registry, Request(str(tmp_path / "plain"), precision, smoothing="none"))
    arch = plain.recipe.architecture
    fused = open_folder(repack(tmp_path / "plain", tmp_path / "fused", layout, arch))
    recipe = plain.recipe.model_copy(update={"architecture": arch.model_copy(update={"type": layout})})
    return plain, recipe, fused


def make(recipe, checkpoint, output, **more):
    calibrated = recipe.quantizer.name in ("gptq", "awq")
    return build(
        recipe,
        checkpoint,
        output,
        registry(),
        calibration=TOKENS if calibrated else None,
        warn=lambda line: None,
        **more,
    )


def data_of(package):
    return (package.path / "model.onnx.data").read_bytes(), (package.path / "model.onnx").read_bytes()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("precision", "quantizer"), [("fp16", "float"), ("int8", "rtn"), ("int4", "rtn"), ("int4", "gptq"), ("int8", "awq")]
)
def test_the_same_package_comes_out(tmp_path, monkeypatch, layout, precision, quantizer, shape):
    plain, recipe, fused = pair(tmp_path, layout, precision, quantizer, **SHAPES[shape])
    reference = make(plain.recipe, plain.checkpoint, tmp_path / "reference")
    monkeypatch.setattr(slabs, "SLAB", 3000)
    package = make(recipe, fused, tmp_path / "out")
    assert data_of(package) == data_of(reference)
    assert package.manifest.parameters == reference.manifest.parameters
    assert package.manifest.bits_per_weight == reference.manifest.bits_per_weight


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("writes", [3, 20])
def test_an_interrupted_build_goes_on(tmp_path, monkeypatch, layout, writes):
    plain, recipe, fused = pair(tmp_path, layout, "int4", "rtn", head_dim=10)
    reference = make(plain.recipe, plain.checkpoint, tmp_path / "reference")
    monkeypatch.setattr(slabs, "SLAB", 3000)
    original, left = DataFiles.write, [writes]

    def write(self, offset, data):
        left[0] -= 1
        if left[0] < 0:
            raise ZooError("pulled the plug")
        return original(self, offset, data)

    with monkeypatch.context() as patch:
        patch.setattr(DataFiles, "write", write)
        with pytest.raises(ZooError, match="pulled the plug"):
            make(recipe, fused, tmp_path / "out", threads=1)
    assert data_of(make(recipe, fused, tmp_path / "out")) == data_of(reference)


def test_an_interrupted_calibrated_build_goes_on(tmp_path, monkeypatch):
    plain, recipe, fused = pair(tmp_path, "intern", "int4", "gptq", head_dim=16)
    reference = make(plain.recipe, plain.checkpoint, tmp_path / "reference")
    original, left = CalibratedStream._store, [9]

    def store(self, *given):
        left[0] -= 1
        if left[0] < 0:
            raise ZooError("pulled the plug")
        return original(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(CalibratedStream, "_store", store)
        with pytest.raises(ZooError, match="pulled the plug"):
            make(recipe, fused, tmp_path / "out")
    assert data_of(make(recipe, fused, tmp_path / "out")) == data_of(reference)


class Forgetful(PhiLike):
    """A layout that reads k where v is."""

    type = "phi"

    def rows(self, arch, role):
        return super().rows(arch, "k" if role == "v" else role)


def test_rows_that_are_never_read_stop_the_build(tmp_path):
    _, recipe, fused = pair(tmp_path, "phi", "int8", "rtn", head_dim=16)
    known = replace(registry(), architectures={"phi": "tests.decoder.test_fused:Forgetful"})
    with pytest.raises(
        ZooError,
        match=r"architecture 'phi' uses rows 64 to 95 of tensor 'model\.layers\.0\.self_attn\.qkv_proj.* twice",
    ):
        build(recipe, fused, tmp_path / "out", known)
    assert not (tmp_path / "out").exists()


def test_phi_3_itself_is_verified_against_transformers(tmp_path, monkeypatch):
    """transformers' own Phi-3 stores the fused tensors that ``PhiLike`` reads; ``zoo verify`` compares with it."""
    from zoo.stages.verify import verify

    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    make_of_type(tmp_path / "phi3", "phi3", num_key_value_heads=2)
    checkpoint = open_folder(tmp_path / "phi3")
    assert checkpoint.tensors["model.layers.0.self_attn.qkv_proj.weight"].shape == (128, 64)
    config = json.loads((tmp_path / "phi3" / "config.json").read_text())
    recipe = Recipe(
        model="tiny-phi3", licence=UNKNOWN_LICENCE, weights=WeightsPin(digest=checkpoint.digest),
        architecture=PhiLike().read_config(config), precision="fp32", quantizer=QuantizerChoice(name="float"),
        target=TargetChoice(name="ort", options={"accuracy_level": 4}),
    )  # fmt: skip
    package = build(recipe, checkpoint, tmp_path / "out", registry(), warn=lambda line: None)
    found = verify(registry(), str(package.path), weights=str(tmp_path / "phi3"), quick=True)
    assert found.verdict.passed
