"""A target from outside that stores the checkpoint's own tensors in safetensors files: the one of the guide.

Its files begin with a header, and hold levels in a layout that no other target has.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.builds import Flat, architecture, make_recipe, values_of, write_checkpoint
from tests.builds import registry as flat_registry
from tests.calibration.test_stream import TOKENS, prepare
from tests.checkpoints import make_checkpoint, make_of_type
from tests.docs.blocks import blocks
from zoo.calibration.stream import CalibratedStream
from zoo.calibration.weights import read_package
from zoo.contracts import ArrayLayout, RowSlice
from zoo.declarations.recipe import TargetChoice
from zoo.errors import UsageError, ZooError
from zoo.package import open_package, slabs
from zoo.package.datafile import DataFiles
from zoo.package.layout import lay_out
from zoo.plugins import host
from zoo.sources.folder import open_folder
from zoo.stages.build import build
from zoo.stages.mixed import mixed
from zoo.stages.plan import plan
from zoo.stages.request import Request
from zoo.stages.resolve import resolve

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "target.md"


class Fused(Flat):
    """The same checkpoint, seen by a graph that pads, fuses and offsets: nothing of it may be left in the files."""

    def parameters(self, arch, head_multiple=1):
        for parameter in super().parameters(arch, 16):
            if parameter.kind == "norm":
                parameter = replace(parameter, slices=tuple(replace(each, offset=1.0) for each in parameter.slices))
            yield parameter


@pytest.fixture(autouse=True)
def plugin(monkeypatch):
    code = next(block.text for block in blocks(GUIDE) if block.file == "zoo_small.py")
    module = ModuleType("zoo_small")
    exec(compile(code, "zoo_small.py", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "zoo_small", module)


def registry():
    known = flat_registry()
    known.targets["small"] = "zoo_small:Small"
    known.architectures["flat"] = "tests.targets.test_files:Fused"
    return known


def small_recipe(arch, precision="int8", file_mb=2000, **options):
    target = TargetChoice(name="small", options={"file_mb": file_mb})
    return make_recipe(arch, precision, **options).model_copy(update={"target": target})


@pytest.fixture
def checkpoint(tmp_path):
    arch = architecture(head_dim=6)
    return arch, open_folder(write_checkpoint(tmp_path / "ck", arch))


def tensors(folder):
    return {name: values for path in sorted(folder.glob("*.safetensors")) for name, values in load_file(path).items()}


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "zoo.json"}


def test_the_checkpoints_own_tensors_are_stored(checkpoint, tmp_path):
    arch, opened = checkpoint
    package = build(small_recipe(arch, "fp16"), opened, tmp_path / "out", registry())
    found, expected = tensors(package.path), values_of(arch)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == (np.float16 if values.ndim == 2 else np.float32)
        assert np.array_equal(found[name].astype(np.float32), values), name
    assert package.manifest.parameters == sum(values.size for values in expected.values())


def test_levels_lie_as_the_target_packs_them(checkpoint, tmp_path):
    arch, opened = checkpoint
    package = build(small_recipe(arch, block_size=32), opened, tmp_path / "out", registry())
    found, expected = tensors(package.path), values_of(arch)
    for name, values in expected.items():
        if values.ndim < 2:
            assert np.array_equal(found[name], values)
            continue
        assert found[name].dtype == np.int8
        assert found[name].shape == values.shape
        scales = found[f"{name}_scale"]
        step = np.repeat(scales, -(-values.shape[1] // scales.shape[1]), axis=1)[:, : values.shape[1]]
        assert np.all(np.abs(found[name] * step - values) <= step * 0.501)


def test_read_back_by_zoo_itself(checkpoint, tmp_path):
    arch, opened = checkpoint
    recipe = small_recipe(arch, block_size=32, file_mb=0)
    package = build(recipe, opened, tmp_path / "out", registry())
    layout, found = lay_out(recipe, registry()), tensors(package.path)
    for placed in layout.placed:
        name = placed.parameter.name
        values = read_package(layout, package.path, placed)
        assert placed.parameter.slices == (RowSlice(name, values.shape),)
        if values.ndim == 2:
            scales = found[f"{name}_scale"]
            step = np.repeat(scales, -(-values.shape[1] // scales.shape[1]), axis=1)[:, : values.shape[1]]
            assert np.array_equal(values, found[name] * step)


def test_several_files_hold_what_one_holds(checkpoint, tmp_path):
    arch, opened = checkpoint
    one = build(small_recipe(arch), opened, tmp_path / "one", registry())
    several = build(small_recipe(arch, file_mb=0), opened, tmp_path / "several", registry())
    names = [path.name for path in sorted(several.path.glob("*.safetensors"))]
    assert len(names) == len(values_of(arch))
    assert names[0] == f"model-00001-of-{len(names):05}.safetensors"
    whole, parts = tensors(one.path), tensors(several.path)
    assert whole.keys() == parts.keys()
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)
    index = json.loads((several.path / "model.safetensors.index.json").read_text())["weight_map"]
    assert all(name in load_file(several.path / file) for name, file in index.items())
    open_package(several.path, hashes=True)


def test_transformers_opens_what_stays_floating_point(tmp_path):
    import torch
    from transformers import LlamaForCausalLM

    model = make_checkpoint(tmp_path / "m", dtype="float16", hidden_size=64, head_dim=16)
    known = replace(host().registry, targets={**host().registry.targets, "small": "zoo_small:Small"})
    resolved = resolve(known, Request(str(tmp_path / "m"), "fp16", target="small", target_options={"file_mb": 0}))
    package = build(resolved.recipe, resolved.checkpoint, tmp_path / "out", known, warn=lambda line: None)
    again, ids = LlamaForCausalLM.from_pretrained(package.path, dtype=torch.float32).eval(), torch.arange(40)[None]
    with torch.no_grad():
        assert torch.equal(again(ids).logits, model(ids).logits)


def test_bytes_do_not_depend_on_slabs_or_threads(checkpoint, tmp_path, monkeypatch):
    arch, opened = checkpoint
    reference = files(build(small_recipe(arch, file_mb=0), opened, tmp_path / "whole", registry(), threads=1).path)
    monkeypatch.setattr(slabs, "SLAB", 300)
    assert (
        files(build(small_recipe(arch, file_mb=0), opened, tmp_path / "cut", registry(), threads=4).path) == reference
    )


def test_a_plan_knows_where_everything_will_lie(checkpoint, tmp_path):
    arch, opened = checkpoint
    recipe = small_recipe(arch, file_mb=0)
    planned = plan(recipe, opened, registry(), tmp_path / "out")
    package = build(recipe, opened, tmp_path / "out", registry())
    assert {one.name for one in planned.reads} == set(values_of(arch))
    for write in planned.writes:
        raw = (package.path / write.file).read_bytes()
        header = 8 + int.from_bytes(raw[:8], "little")
        assert (
            json.loads(raw[8:header])[write.name.replace("._", "_").removesuffix(".")]["data_offsets"][0]
            == write.offset
        )
    there = sum(path.stat().st_size for path in package.path.iterdir())
    assert abs(there - planned.write_bytes) <= 4096


@pytest.mark.parametrize("file_mb", [0, 2000])
@pytest.mark.parametrize("writes", [1, 5, 17, 30])
def test_an_interrupted_build_goes_on_to_the_same_bytes(checkpoint, tmp_path, monkeypatch, file_mb, writes):
    arch, opened = checkpoint
    monkeypatch.setattr(slabs, "SLAB", 1024)
    recipe = small_recipe(arch, file_mb=file_mb)
    reference = files(build(recipe, opened, tmp_path / "reference", registry()).path)
    original, left = DataFiles.write, [writes]

    def write(self, offset, data):
        left[0] -= 1
        if left[0] < 0:
            raise ZooError("pulled the plug")
        return original(self, offset, data)

    with monkeypatch.context() as patch:
        patch.setattr(DataFiles, "write", write)
        with pytest.raises(ZooError, match="pulled the plug"):
            build(recipe, opened, tmp_path / "out", registry(), threads=1)
    assert not (tmp_path / "out").exists()
    seen = []
    build(recipe, opened, tmp_path / "out", registry(), progress=seen.append)
    assert files(tmp_path / "out") == reference
    assert (seen[0].bytes_resumed > 0) == (writes > 5)


def test_what_the_disk_lost_of_an_earlier_file_is_built_again(checkpoint, tmp_path, monkeypatch):
    arch, opened = checkpoint
    recipe = small_recipe(arch, file_mb=0)
    reference = files(build(recipe, opened, tmp_path / "reference", registry()).path)
    original, left = DataFiles.write, [12]

    def write(self, offset, data):
        left[0] -= 1
        if left[0] < 0:
            raise ZooError("pulled the plug")
        return original(self, offset, data)

    with monkeypatch.context() as patch:
        patch.setattr(DataFiles, "write", write)
        with pytest.raises(ZooError):
            build(recipe, opened, tmp_path / "out", registry(), threads=1)
    second = next(tmp_path.rglob("model-00002-of-*.safetensors"))
    second = next(path for path in tmp_path.rglob(second.name) if "reference" not in path.parts)
    raw = bytearray(second.read_bytes())
    raw[-1] ^= 1
    second.write_bytes(bytes(raw))
    build(recipe, opened, tmp_path / "out", registry())
    assert files(tmp_path / "out") == reference


def test_mixed_precision_is_refused(tmp_path):
    make_checkpoint(tmp_path / "m", hidden_size=64, head_dim=16)
    known = replace(host().registry, targets={**host().registry.targets, "small": "zoo_small:Small"})
    request = Request(str(tmp_path / "m"), "int8", target="small", mixed="auto", calibration="tokens.txt")
    resolved = resolve(known, request)
    with pytest.raises(UsageError, match=r"stores the checkpoint's own tensors; state .* by --quantizer-option"):
        mixed(known, request, resolved, TOKENS)


def test_a_scheme_that_the_target_does_not_store_stops_before_a_weight_is_read(checkpoint, tmp_path):
    arch, opened = checkpoint
    with pytest.raises(ZooError, match="target 'small' stores symmetric blocks of 8 bits"):
        build(small_recipe(arch, symmetric=False), opened, tmp_path / "out", registry())


def test_a_file_of_the_target_replaces_a_companion(checkpoint, tmp_path, monkeypatch):
    arch, opened = checkpoint
    target = sys.modules["zoo_small"].Small
    original = target.files

    def more(self, contents):
        yield from original(self, contents)
        config = json.loads(contents.companions["config.json"]) if contents.companions else {}
        yield "config.json", json.dumps(config | {"quantized": True}).encode()

    monkeypatch.setattr(target, "files", more)
    package = build(small_recipe(arch), opened, tmp_path / "out", registry())
    config = json.loads((package.path / "config.json").read_text())
    assert (config["model_type"], config["quantized"]) == ("flat", True)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda arrays: arrays[::-1], "out of order|goes back"),
        (lambda arrays: [arrays[0], *arrays[2:], arrays[1]], "out of order"),
        (lambda arrays: [replace(arrays[0], nbytes=arrays[0].nbytes - 1), *arrays[1:]], "which no array takes"),
        (lambda arrays: [replace(arrays[0], dtype="int7"), *arrays[1:]], "which no array takes"),
        (lambda arrays: [replace(arrays[0], shape=arrays[0].shape[::-1]), *arrays[1:]], "not row by row"),
    ],
)
def test_a_target_that_places_arrays_otherwise_is_named(checkpoint, monkeypatch, edit, message):
    arch, _ = checkpoint
    target = sys.modules["zoo_small"].Small
    original = target.place
    monkeypatch.setattr(target, "place", lambda *given: edit(list(original(*given))))
    with pytest.raises(ZooError, match=f"target 'small' .*({message}).*defective"):
        lay_out(small_recipe(arch), registry())


def calibrated(tmp_path, quantizer, target, precision="int8", **shape):
    """A recipe for a calibrated build of a real decoder, its checkpoint, and the registry that knows the target."""
    if not (tmp_path / "m").exists():
        make_checkpoint(tmp_path / "m", **{"hidden_size": 64, "head_dim": 16, **shape})
    resolved = prepare(tmp_path / "m", precision, quantizer, symmetric=True, head_bits=8, embedding_bits=8)
    recipe = resolved.recipe.model_copy(update={"smoothing": None})
    known = replace(host().registry, targets={**host().registry.targets, "small": "zoo_small:Small"})
    if target == "small":
        choice = TargetChoice(name="small", options={"file_mb": 0})
        recipe = recipe.model_copy(update={"target": choice})
    return recipe, resolved.checkpoint, known


def values_of_package(recipe, known, package):
    layout = lay_out(recipe, known)
    return {one.parameter: read_package(layout, package.path, one) for one in layout.placed}


@pytest.mark.parametrize("quantizer", ["gptq", "awq"])
def test_calibrated_tensors_are_the_rows_of_the_calibrated_graph(tmp_path, quantizer):
    """Rows do not depend on each other, so q stored by itself is what it is in the packed q, k, v of a graph."""
    packages = {}
    for target in ("ort", "small"):
        recipe, opened, known = calibrated(tmp_path, quantizer, target)
        package = build(recipe, opened, tmp_path / target, known, calibration=TOKENS, warn=lambda line: None)
        packages[target] = values_of_package(recipe, known, package)
    stored = {one.name: values for one, values in packages["small"].items()}
    assert len(stored) == 2 + 1 + 2 * 9
    for parameter, values in packages["ort"].items():
        parts = np.concatenate([stored[each.tensor] for each in parameter.slices])
        assert np.array_equal(parts, values), parameter.name


@pytest.mark.parametrize("after", [1, 8, 14])
def test_an_interrupted_calibrated_build_of_tensors_goes_on(tmp_path, monkeypatch, after):
    recipe, opened, known = calibrated(tmp_path, "gptq", "small")

    def make(name):
        return build(recipe, opened, tmp_path / name, known, calibration=TOKENS, warn=lambda line: None).path

    reference, original, left = files(make("reference")), CalibratedStream._store, [after]

    def store(self, *given):
        left[0] -= 1
        if left[0] < 0:
            raise ZooError("pulled the plug")
        return original(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(CalibratedStream, "_store", store)
        with pytest.raises(ZooError, match="pulled the plug"):
            make("out")
    assert files(make("out")) == reference


def test_norms_that_the_graph_moves_are_stored_as_they_were(tmp_path):
    make_of_type(tmp_path / "m", "gemma", head_dim=16)
    recipe, opened, known = calibrated(tmp_path, "gptq", "small")
    assert recipe.architecture.norm_offset == 1
    package = build(recipe, opened, tmp_path / "out", known, calibration=TOKENS, warn=lambda line: None)
    found, original = tensors(package.path), load_file(tmp_path / "m" / "model.safetensors")
    norms = [name for name in original if "norm" in name]
    assert len(norms) == 5
    assert all(np.array_equal(found[name], original[name]) for name in norms)


def test_types_that_numpy_lacks_are_stored_as_bit_patterns(checkpoint, tmp_path, monkeypatch):
    """A target may store bfloat16, of which a tile is a part to encode."""
    import torch
    from safetensors.torch import load_file as load_torch

    class BrainFloats:
        def arrays(self, scheme, shape):
            return {"": ArrayLayout("bfloat16", shape)}

        def encode(self, scheme, tile, out):
            bits = np.ascontiguousarray(tile.values, np.float32).view(np.uint32) >> 16
            out[""][...] = bits.reshape(out[""].shape)

        def decode(self, scheme, arrays, tile):
            wide = arrays[""].astype(np.uint32) << 16
            tile.values[...] = wide.view(np.float32).reshape(tile.values.shape)

    monkeypatch.setattr(sys.modules["zoo_small"].Small, "encoding", BrainFloats())
    arch, opened = checkpoint
    recipe = small_recipe(arch, "fp16")
    package = build(recipe, opened, tmp_path / "out", registry())
    found = load_torch(next(package.path.glob("*.safetensors")))
    layout = lay_out(recipe, registry())
    for placed in layout.placed:
        name = placed.parameter.name
        assert found[name].dtype == torch.bfloat16
        assert np.array_equal(found[name].float().numpy(), values_of(arch)[name])
        assert np.array_equal(read_package(layout, package.path, placed), values_of(arch)[name])
