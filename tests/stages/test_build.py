"""Builds of small checkpoints: the right bytes, whatever the slabs, the threads, and what was there before."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from tests.builds import FlatTarget, architecture, make_recipe, registry, to_bf16, values_of, write_checkpoint
from tests.builds import write_safetensors as write_file
from zoo.errors import ZooError
from zoo.package import open_package
from zoo.package import slabs as slabs_module
from zoo.sources.folder import open_folder
from zoo.stages.build import build


def hashes(package):
    return {name: record.sha256 for name, record in package.manifest.files.items()}


def build_small(tmp_path, name="out", precision="int8", arch=None, threads=2, **checkpoint):
    arch = arch or architecture()
    folder = write_checkpoint(tmp_path / f"{name}-ck", arch, **checkpoint)
    opened = open_folder(folder)
    recipe = make_recipe(arch, precision, "0" * 64)
    return build(recipe, opened, tmp_path / name, registry(), threads=threads)


def stored(package):
    """The arrays of a float package, by parameter."""
    target, arch = FlatTarget(), package.manifest.recipe.architecture
    from tests.builds import Flat
    from zoo.quantizers.floats import Float, FloatOptions

    quantizer = Float(package.manifest.recipe.precision, FloatOptions())
    parameters = Flat().parameters(arch, target.head_multiple)
    raw = (package.path / target.data_file).read_bytes()
    placed = target.place(package.manifest.recipe, parameters, {one.name: quantizer.scheme(one) for one in parameters})
    return {
        one.parameter.name: np.frombuffer(
            raw, one.dtype, one.nbytes // np.dtype(one.dtype).itemsize, one.offset
        ).reshape(one.shape)
        for one in placed
    }


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_floats_are_the_checkpoints_own(tmp_path, precision, dtype):
    package = build_small(tmp_path, precision=precision, dtype=dtype, shards=2)
    found, expected = stored(package), values_of(architecture())
    for name in ("embed", "head", "layers.1.o", "layers.2.norm"):
        wide = expected[f"{name}.weight"].astype(np.float16) if precision == "fp16" else expected[f"{name}.weight"]
        assert np.array_equal(found[name].astype(np.float32), wide.astype(np.float32))
    qkv = np.concatenate([expected[f"layers.1.{one}.weight"] for one in "qkv"])
    assert np.array_equal(
        found["layers.1.qkv"].astype(np.float32), qkv if precision == "fp32" else qkv.astype(np.float16)
    )


@pytest.mark.parametrize("slab", [64, 1000, 4 * 2**20])
def test_heads_are_widened_with_zeros(tmp_path, monkeypatch, slab):
    monkeypatch.setattr(slabs_module, "SLAB", slab)
    arch = architecture(head_dim=6)
    package = build_small(tmp_path, precision="fp32", arch=arch)
    found, expected = stored(package), values_of(arch)
    q = found["layers.0.qkv"][: 4 * 16].reshape(4, 16, 64)
    own = expected["layers.0.q.weight"].reshape(4, 6, 64)
    assert np.array_equal(q[:, :3], own[:, :3])
    assert np.array_equal(q[:, 8:11], own[:, 3:])
    assert not q[:, 3:8].any()
    assert not q[:, 11:].any()
    v = found["layers.0.qkv"][6 * 16 :].reshape(2, 16, 64)
    assert np.array_equal(v[:, :6], expected["layers.0.v.weight"].reshape(2, 6, 64))
    assert not v[:, 6:].any()
    o = found["layers.0.o"].reshape(64, 4, 16)
    assert np.array_equal(o[..., :6], expected["layers.0.o.weight"].reshape(64, 4, 6))
    assert not o[..., 6:].any()


@pytest.mark.parametrize("precision", ["int8", "int4", "fp16"])
def test_bytes_depend_on_neither_slabs_nor_threads_nor_shards_nor_type(tmp_path, monkeypatch, precision):
    reference = hashes(build_small(tmp_path, "whole", precision, threads=1))
    for number, (slab, threads, shards, dtype) in enumerate(
        [(300, 1, 1, "F16"), (64, 4, 3, "F16"), (900, 3, 1, "BF16")]
    ):
        monkeypatch.setattr(slabs_module, "SLAB", slab)
        found = build_small(tmp_path, f"other{number}", precision, threads=threads, shards=shards, dtype=dtype)
        assert hashes(found) == reference
        open_package(found.path, hashes=True)
        one, other = (json.loads((folder / "zoo.json").read_text()) for folder in (found.path, tmp_path / "whole"))
        if dtype != "F16":  # the same values, in other bytes
            assert one.pop("inputs").keys() == other.pop("inputs").keys()
        assert one == other
        assert sorted(one.name for one in found.path.parent.iterdir() if one.name.startswith(".")) == []


def test_the_manifest_lists_every_file(tmp_path):
    package = build_small(tmp_path)
    assert sorted(package.manifest.files) == sorted(
        one.name for one in package.path.iterdir() if one.name != "zoo.json"
    )
    assert package.manifest.recipe_hash == package.manifest.recipe.hash
    assert package.manifest.parameters == sum(one.size for one in values_of(architecture()).values())


def test_the_same_recipe_is_already_built(tmp_path):
    first = build_small(tmp_path)
    os.remove(tmp_path / "out-ck" / "model.safetensors")  # nothing reads it
    stamp = (first.path / "zoo.json").stat().st_mtime_ns
    opened = open_folder(write_checkpoint(tmp_path / "again", architecture()))
    again = build(make_recipe(architecture()), opened, first.path, registry())
    assert again.manifest == first.manifest
    assert (first.path / "zoo.json").stat().st_mtime_ns == stamp


def test_force_replaces_a_package_and_nothing_else(tmp_path):
    package = build_small(tmp_path)
    opened = open_folder(tmp_path / "out-ck")
    other = make_recipe(architecture(), "int4")
    with pytest.raises(ZooError, match=r"holds another build \(small int8.*--force"):
        build(other, opened, package.path, registry())
    assert build(other, opened, package.path, registry(), force=True).manifest.recipe.precision == "int4"
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("x")
    for force in (True, False):
        with pytest.raises(ZooError, match="is not empty and not a package"):
            build(other, opened, mine, registry(), force=force)
    (mine / "zoo.json").write_text("{}")
    with pytest.raises(ZooError, match="holds no valid package"):
        build(other, opened, mine, registry(), force=True)
    assert (mine / "thesis.txt").read_text() == "x"
    with pytest.raises(ZooError, match="is not a folder"):
        build(other, opened, mine / "thesis.txt", registry(), force=True)


def rewrite(folder, edit):
    """Write the checkpoint again after ``edit`` changed its tensors: name → (dtype, values)."""
    stored = {name: ("F16", one.astype(np.float16)) for name, one in values_of(architecture()).items()}
    edit(stored)
    write_file(folder / "model.safetensors", stored)
    return open_folder(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda t: t.pop("layers.1.o.weight"),
            r"'layers\.1\.o\.weight' of shape \[64, 64\] is missing; .*'layers\.\d\.o",
        ),
        (
            lambda t: t.update({"layers.1.bias": ("F16", np.ones(3, np.float16))}),
            r"'layers\.1\.bias' is unused",
        ),
        (
            lambda t: t.update({"head.weight": ("F16", np.ones((64, 101), np.float16))}),
            r"ck/model\.safetensors: tensor 'head\.weight' has shape \[64, 101\], but .* \[101, 64\]",
        ),
        (lambda t: t.update({"head.weight": ("I8", np.ones((101, 64), np.int8))}), r"'head\.weight' is I8; only F32"),
        (lambda t: t["head.weight"][1].__setitem__((77, 3), np.nan), r"'head\.weight' holds NaN or infinite"),
        (lambda t: t["layers.0.norm.weight"][1].__setitem__(3, np.inf), r"'layers\.0\.norm\.weight' holds NaN"),
    ],
)
def test_tensors_that_are_not_as_they_should_be(tmp_path, edit, message):
    folder = write_checkpoint(tmp_path / "ck", architecture())
    opened = rewrite(folder, edit)
    with pytest.raises(ZooError, match=message):
        build(make_recipe(architecture()), opened, tmp_path / "out", registry())
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / ".out.lock").exists()


def test_derived_buffers_may_stay_unread(tmp_path):
    folder = write_checkpoint(tmp_path / "ck", architecture())
    opened = rewrite(folder, lambda t: t.update({"layers.0.inv_freq": ("F64", np.ones(8))}))
    build(make_recipe(architecture()), opened, tmp_path / "out", registry())


def test_bfloat16_too_large_for_fp16_is_named(tmp_path):
    def edit(tensors):
        values = values_of(architecture())["head.weight"]
        values[5, 5] = 1e6
        tensors["head.weight"] = ("BF16", to_bf16(values))

    opened = rewrite(write_checkpoint(tmp_path / "ck", architecture()), edit)
    with pytest.raises(ZooError, match=r"'head\.weight' holds .* float16 cannot"):
        build(make_recipe(architecture(), "fp16"), opened, tmp_path / "out", registry())


def test_options_of_the_quantizer_are_checked(tmp_path):
    opened = open_folder(write_checkpoint(tmp_path / "ck", architecture()))
    with pytest.raises(ZooError, match="quantizer 'rtn': block_size"):
        build(make_recipe(architecture(), block_size=7), opened, tmp_path / "out", registry())
    wrong = make_recipe(architecture()).model_copy(update={"precision": "fp32"})
    with pytest.raises(ZooError, match="supports int8, int4, not fp32"):
        build(wrong, opened, tmp_path / "out", registry())


def test_progress_ends_at_everything(tmp_path, monkeypatch):
    monkeypatch.setattr(slabs_module, "SLAB", 64)
    seen = []
    opened = open_folder(write_checkpoint(tmp_path / "ck", architecture()))
    build(make_recipe(architecture()), opened, tmp_path / "out", registry(), progress=seen.append)
    last = seen[-1]
    assert last.bytes_done == last.bytes_total == sum(one.nbytes for one in opened.tensors.values())
    assert last.rss > 10 * 2**20
    assert [one.bytes_done for one in seen] == sorted(one.bytes_done for one in seen)


def test_zoo_json_holds_no_path_and_no_time(tmp_path):
    package = build_small(tmp_path)
    text = (package.path / "zoo.json").read_text()
    assert str(tmp_path) not in text
    assert set(json.loads(text)) == {
        "format_version", "recipe", "recipe_hash", "parameters", "bits_per_weight", "files", "inputs", "memory",
        "notes", "versions",
    }  # fmt: skip
