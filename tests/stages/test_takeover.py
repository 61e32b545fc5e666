"""Levels that a checkpoint stores: copied, stated, counted and resumed, or rounded again where they do not fit."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic import BaseModel
from safetensors.numpy import load_file, save_file

import zoo
from tests.checkpoints import make_checkpoint
from zoo import BlockScheme, BlockTile, Parameter, RowSlice, TensorInfo, TransformedCheckpoint, TransformPin
from zoo.contracts import StoredArray
from zoo.declarations.dtypes import held_as
from zoo.errors import ZooError
from zoo.package import slabs as slabs_module
from zoo.package.layout import lay_out
from zoo.package.stream import Progress
from zoo.package.takeover import stored_scheme
from zoo.plugins import host
from zoo.quantizers.slab import Scratch
from zoo.quantizers.tiles import ArrayWriter

BLOCK = 32


class Stored(TransformedCheckpoint):
    """A checkpoint whose linears are blocks, as ``levels.npz`` beside it holds them."""

    def __init__(self, base, options):
        super().__init__(base, TransformPin(kind="blocks", options=options.model_dump()))
        self.bits, self.damage = options.bits, options.damage
        with np.load(base.folder / "levels.npz") as stored:
            self.arrays = dict(stored)
        self.floats = self.blocks = 0

    def block_scheme(self, name):
        stored = f"{name}/levels" in self.arrays
        return BlockScheme(bits=self.bits, block_size=BLOCK, symmetric=False) if stored else None

    def read(self, name, start, stop, out=None):
        self.floats += f"{name}/levels" in self.arrays
        return super().read(name, start, stop, out)

    def read_blocks(self, name, start, stop):
        self.blocks += 1
        kinds = ("levels", "scales", "points")
        levels, scales, points = (self.arrays[f"{name}/{kind}"][start:stop].copy() for kind in kinds)
        if self.damage == "scale":
            scales[-1, -1] = np.nan
        if self.damage == "point":
            points[-1, -1] = 2**self.bits
        if self.damage == "shape":
            scales = scales[:, :-1]
        return BlockTile(start, stop, levels, scales, points)


class InBlocks:
    class Options(BaseModel):
        bits: int = 4
        damage: str = ""

    quant_methods = ()

    def apply(self, checkpoint, options):
        return Stored(checkpoint, options)


@pytest.fixture(autouse=True)
def _transform(monkeypatch):
    monkeypatch.setitem(host().registry.transforms, "blocks", f"{__name__}:InBlocks")


def make(folder, bits=4, **numbers):
    """Save a checkpoint whose linears are multiples of scales, and their levels beside it; return those."""
    make_checkpoint(folder, hidden_size=64, intermediate_size=96, **numbers)
    weights, rng, stored = load_file(folder / "model.safetensors"), np.random.default_rng(1), {}
    for name, values in weights.items():
        if "proj" in name:
            rows, blocks = len(values), values.shape[1] // BLOCK
            levels = rng.integers(0, 2**bits, (rows, blocks, BLOCK)).astype(np.uint8)
            scales = rng.uniform(1e-3, 2e-2, (rows, blocks)).astype(np.float16).astype(np.float32)
            points = rng.integers(0, 2**bits, (rows, blocks)).astype(np.uint8)
            stored |= {f"{name}/levels": levels, f"{name}/scales": scales, f"{name}/points": points}
            exact = scales[..., None] * (levels.astype(np.float32) - points[..., None])
            weights[name] = exact.reshape(values.shape)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    np.savez(folder / "levels.npz", **stored)
    return stored


def tile_of(package, name):
    """Read a weight of a package back as a tile."""
    layout = lay_out(package.manifest.recipe, host().registry)
    (placed,) = (one for one in layout.placed if one.parameter.name == name)

    def array(one: StoredArray) -> np.ndarray:
        values = np.memmap(package.path / one.file, held_as(one.dtype), "r", one.offset, one.shape)
        return values.reshape(placed.rows, *placed.row_shape(one))

    arrays = {one.array: np.array(array(one)) for one in placed.arrays}
    writer = ArrayWriter(layout.target.encoding, placed.scheme, placed.parameter.columns, arrays, Scratch())
    return next(writer.decoded(placed.rows))


def build(folder, output, precision="int4", **options):
    transform = {"bits": options.pop("bits", 4), "damage": options.pop("damage", "")}
    return zoo.build(folder, precision, output=output, transforms=[("blocks", transform)], **options)


@pytest.mark.parametrize(("bits", "precision"), [(4, "int4"), (8, "int8")])
def test_levels_reach_the_package_as_they_are(tmp_path, bits, precision):
    stored = make(tmp_path / "mine", bits)
    package = build(tmp_path / "mine", tmp_path / "out", precision, bits=bits)
    for layer in range(2):
        at = f"model.layers.{layer}"
        for name, parts in {
            f"{at}.attn.qkv_proj.weight": [f"{at}.self_attn.{one}_proj.weight" for one in "qkv"],
            f"{at}.mlp.down_proj.weight": [f"{at}.mlp.down_proj.weight"],
        }.items():
            tile = tile_of(package, name)
            for held, kind in ((tile.levels, "levels"), (tile.scales, "scales"), (tile.zero_points, "points")):
                assert np.array_equal(held, np.concatenate([stored[f"{part}/{kind}"] for part in parts])), (name, kind)
    recipe = package.manifest.recipe
    assert recipe.taken_over["mlp.down_proj"] == BlockScheme(bits=bits, block_size=BLOCK, symmetric=False)
    assert "lm_head" not in recipe.taken_over
    assert recipe.hash != recipe.model_copy(update={"taken_over": {}}).hash


def test_padded_heads_are_zeros_and_torn_blocks_are_rounded(tmp_path):
    make(tmp_path / "mine", num_attention_heads=8, num_key_value_heads=4)  # heads of 8, which the kernels want as 16
    package = build(tmp_path / "mine", tmp_path / "out")
    assert "attn.qkv_proj" in package.manifest.recipe.taken_over
    assert "attn.o_proj" not in package.manifest.recipe.taken_over
    tile = tile_of(package, "model.layers.0.attn.qkv_proj.weight")
    silent = (tile.scales == 0).all(1)
    assert silent.sum() == (8 + 4 + 4) * 8
    assert (tile.levels[silent] == tile.zero_points[silent][..., None]).all()


class OneTensor:
    """A checkpoint with one matrix of 4-bit blocks."""

    name = "one"

    def __init__(self):
        self.tensors = {"w": TensorInfo("w", "I32", (4, 32), 64)}

    def block_scheme(self, name):
        return BlockScheme(bits=4, block_size=BLOCK, symmetric=False)

    def stored_type(self, name):
        return "blocks"

    def read_blocks(self, name, start, stop):
        raise AssertionError("headers are enough")


@pytest.mark.parametrize("change", [{"offset": 1.0}, {"scale": 2.0}, {"unit": True}], ids=str)
def test_values_that_become_others_are_not_taken_over(change):
    def stored(**changes):
        return stored_scheme(OneTensor(), Parameter("w", "linear", (RowSlice("w", (4, 32), **changes),)))

    assert stored() == BlockScheme(bits=4, block_size=BLOCK, symmetric=False)
    assert stored(**change) is None


@pytest.mark.parametrize(
    ("precision", "options"),
    [("int8", {}), ("fp32", {}), ("int4", {"quantizer_options": {"block_size": 64}})],
    ids=["another width", "floats", "another block"],
)
def test_what_does_not_fit_is_rounded_again(tmp_path, precision, options):
    make(tmp_path / "mine")
    lines: list[str] = []
    package = build(tmp_path / "mine", tmp_path / "out", precision, warn=lines.append, **options)
    assert package.manifest.recipe.taken_over == {}
    assert any("rounded a second time" in line for line in lines) == (precision != "fp32")
    plain = zoo.build(tmp_path / "mine", precision, output=tmp_path / "plain", **options)
    assert (package.path / "model.onnx.data").read_bytes() == (plain.path / "model.onnx.data").read_bytes()


def test_a_plan_states_it_and_weights_are_known_by_their_blocks(tmp_path):
    make(tmp_path / "mine")
    planned = zoo.plan(tmp_path / "mine", "int4", transforms=[("blocks", {})], output=tmp_path / "out")
    assert any("take over the levels of 10 weights" in step for step in planned.steps)
    first = build(tmp_path / "mine", tmp_path / "out")
    assert first.manifest.recipe_hash == planned.recipe_hash
    assert build(tmp_path / "mine", tmp_path / "out").manifest == first.manifest
    # Read as floats or as blocks, they are the same weights.
    floats = build(tmp_path / "mine", tmp_path / "floats", "fp32")
    assert floats.manifest.inputs == first.manifest.inputs


def test_an_interrupted_build_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(slabs_module, "SLAB", 2048)
    make(tmp_path / "mine", num_hidden_layers=6)
    whole = build(tmp_path / "mine", tmp_path / "whole")
    read = Stored.read_blocks

    def breaks(self, *given):
        if self.blocks == 400:
            raise ZooError("the disk went away")
        return read(self, *given)

    with monkeypatch.context() as broken:
        broken.setattr(Stored, "read_blocks", breaks)
        with pytest.raises(ZooError, match="the disk went away"):
            build(tmp_path / "mine", tmp_path / "out", threads=1)
    resumed: list[Progress] = []
    package = build(tmp_path / "mine", tmp_path / "out", progress=resumed.append)
    assert resumed[-1].bytes_resumed > 0
    assert (package.path / "model.onnx.data").read_bytes() == (whole.path / "model.onnx.data").read_bytes()


def test_levels_are_read_once_and_no_floats_are(tmp_path, monkeypatch):
    make(tmp_path / "mine")
    opened: list[Stored] = []
    apply = InBlocks.apply
    monkeypatch.setattr(InBlocks, "apply", lambda self, *given: opened.append(apply(self, *given)) or opened[-1])
    build(tmp_path / "mine", tmp_path / "out")
    assert (sum(one.floats for one in opened), sum(one.blocks for one in opened)) == (0, 14)


@pytest.mark.parametrize(
    ("damage", "said"), [("scale", "NaN or infinite"), ("point", "zero points up to 16"), ("shape", "is defective")]
)
def test_damaged_blocks_are_refused_in_a_line(tmp_path, damage, said):
    make(tmp_path / "mine")
    with pytest.raises(ZooError, match=said) as refusal:
        build(tmp_path / "mine", tmp_path / "out", damage=damage)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_another_transform_above_hides_blocks_and_a_renaming_shows_them(tmp_path):
    make(tmp_path / "mine")
    base = zoo.plan(tmp_path / "mine", "int4", output=tmp_path / "p", transforms=[("blocks", {})])
    again = [("blocks", {}), ("rename", {"strip": "model.", "put": "model."})]
    named = zoo.plan(tmp_path / "mine", "int4", output=tmp_path / "p", transforms=again)
    assert named.recipe.taken_over == base.recipe.taken_over
    assert json.loads(base.recipe.model_dump_json())["taken_over"]
