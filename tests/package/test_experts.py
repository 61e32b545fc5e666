"""Experts: matrices stacked along a leading axis, in one tensor or in one each, gate and up row by row in turn."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.builds import Flat, architecture, make_recipe, write_safetensors
from tests.builds import registry as flat_registry
from tests.targets.test_files import plugin  # noqa: F401  the target of the guide
from zoo.calibration.weights import read_float32, read_package
from zoo.contracts import Parameter, RowSlice, interleaved, stacked
from zoo.declarations.recipe import TargetChoice
from zoo.package import slabs
from zoo.package.layout import lay_out
from zoo.quantizers.slab import Scratch
from zoo.quantizers.tiles import rounded
from zoo.sources.folder import open_folder
from zoo.stages.build import build

EXPERTS, FFN, HIDDEN = 3, 48, 64
FUSED = (EXPERTS, 2 * FFN, HIDDEN)


class Experts(Flat):
    """An embedding, a head, and experts whose gate and up lie in one tensor of three axes."""

    def parameters(self, arch, head_multiple=1):
        embedding, *_, head = super().parameters(arch, head_multiple)
        gate_up, down = [], []
        for expert in range(EXPERTS):
            at = expert * 2 * FFN
            halves = (RowSlice("gate_up", FUSED, range(start, start + FFN)) for start in (at, at + FFN))
            gate_up += interleaved(*halves, at=at)
            down.append(RowSlice(f"{expert}.down", (HIDDEN, FFN)))
        return [
            embedding,
            Parameter("experts.gate_up", "linear", tuple(gate_up), 0, "experts.gate_up", EXPERTS),
            Parameter("experts.down", "linear", stacked(*down), 0, "experts.down", EXPERTS),
            head,
        ]


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setattr(slabs, "SLAB", 1500)
    arch, rng = architecture(num_hidden_layers=1), np.random.default_rng(0)
    values = {name: rng.standard_normal(shape).astype(np.float16) for name, shape in Experts().tensors(arch).items()}
    (tmp_path / "ck").mkdir()
    (tmp_path / "ck" / "config.json").write_text(json.dumps({"model_type": "flat"}))
    write_safetensors(tmp_path / "ck" / "model.safetensors", {name: ("F16", one) for name, one in values.items()})
    known = flat_registry()
    return (
        arch,
        values,
        open_folder(tmp_path / "ck"),
        replace(
            known,
            architectures={"flat": "tests.package.test_experts:Experts"},
            targets={**known.targets, "small": "zoo_small:Small"},
        ),
    )


def expected(values):
    gate_up = np.empty(FUSED, np.float32)
    gate_up[:, 0::2], gate_up[:, 1::2] = values["gate_up"][:, :FFN], values["gate_up"][:, FFN:]
    down = np.stack([values[f"{expert}.down"] for expert in range(EXPERTS)]).astype(np.float32)
    return {"experts.gate_up": gate_up, "experts.down": down}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4"])
def test_every_expert_is_stored_as_a_matrix_of_its_own(made, tmp_path, precision):
    arch, values, opened, known = made
    recipe = make_recipe(arch, precision)
    package = build(recipe, opened, tmp_path / "out", known)
    layout = lay_out(recipe, known)
    assert package.manifest.parameters == sum(one.size for one in values.values())
    for placed in layout.placed:
        wanted = expected(values).get(placed.parameter.name)
        if wanted is None:
            continue
        assert placed.parameter.shape == wanted.shape
        assert placed.streamed.shape[:2] == wanted.shape[:2]
        found = read_package(layout, package.path, placed)
        each = [rounded(np.ascontiguousarray(one), placed.scheme, "w", Scratch()) for one in wanted]
        assert np.array_equal(found, np.stack(each))


def test_they_are_read_for_calibration(made):
    arch, values, opened, _ = made
    parameters = {one.name: one for one in Experts().parameters(arch)}
    for name, wanted in expected(values).items():
        assert np.array_equal(read_float32(parameters[name], opened, Scratch()), wanted)


def test_the_checkpoints_own_view_keeps_the_three_axes(made, tmp_path):
    from safetensors.numpy import load_file

    arch, values, opened, known = made
    choice = TargetChoice(name="small", options={"file_mb": 100})
    recipe = make_recipe(arch, "fp16").model_copy(update={"target": choice})
    package = build(recipe, opened, tmp_path / "out", known)
    found = load_file(next(package.path.glob("*.safetensors")))
    assert found.keys() == values.keys()
    assert all(np.array_equal(found[name], values[name]) for name in values)
    assert "zoo_small" in sys.modules
