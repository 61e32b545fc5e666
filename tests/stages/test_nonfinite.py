"""NaN and infinite weights: named and refused, unless allowed; then kept where a weight stays a float."""

from __future__ import annotations

import numpy as np
import pytest

from tests.builds import architecture, make_recipe, registry, to_bf16, values_of, write_checkpoint, write_safetensors
from tests.stages.test_build import stored
from zoo.errors import ZooError
from zoo.sources.folder import open_folder
from zoo.stages.build import build

ODD = (np.nan, np.inf, -np.inf)
STORED = {"F16": lambda one: one.astype(np.float16), "F32": lambda one: one, "BF16": to_bf16}


def damaged(tmp_path, dtype, *names):
    """A checkpoint that holds NaN and both infinities at the start of some tensors."""
    folder, values = write_checkpoint(tmp_path / "ck", architecture()), values_of(architecture())
    for name in names:
        values[name].reshape(-1)[:3] = ODD
    write_safetensors(folder / "model.safetensors", {n: (dtype, STORED[dtype](one)) for n, one in values.items()})
    return open_folder(folder), values


def allowing(precision, **options):
    return make_recipe(architecture(), precision, **options).model_copy(update={"allow_nonfinite": True})


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_floats_keep_them_where_allowed(tmp_path, precision, dtype):
    opened, values = damaged(tmp_path, dtype, "head.weight", "layers.1.norm.weight")
    with pytest.raises(ZooError, match=r"'(head|layers\.1\.norm)\.weight' holds NaN or infinite .*--allow-nonfinite"):
        build(make_recipe(architecture(), precision), opened, tmp_path / "out", registry())
    found = stored(build(allowing(precision), opened, tmp_path / "out", registry()))
    for name in ("head", "layers.1.norm", "layers.0.o"):
        expected = values[f"{name}.weight"].astype(found[name].dtype)
        assert np.array_equal(found[name], expected, equal_nan=True)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_integers_refuse_them_still(tmp_path, precision):
    opened, _ = damaged(tmp_path, "F16", "layers.0.o.weight")
    with pytest.raises(ZooError, match=r"'layers\.0\.o\.weight' holds NaN or infinite"):
        build(allowing(precision), opened, tmp_path / "out", registry())
    assert not (tmp_path / "out").exists()


def test_a_weight_kept_as_float_in_an_integer_package_keeps_them(tmp_path):
    opened, values = damaged(tmp_path, "F16", "layers.1.norm.weight", "head.weight")
    package = build(allowing("int8", keep={"head": "fp16"}), opened, tmp_path / "out", registry())
    raw = (package.path / "weights.data").read_bytes()
    assert values["head.weight"].astype(np.float16).tobytes() in raw
    assert values["layers.1.norm.weight"].tobytes() in raw


def test_a_finite_value_that_float16_cannot_hold_is_refused_still(tmp_path):
    values = values_of(architecture())
    values["head.weight"].reshape(-1)[:2] = np.inf, 1e6
    folder = write_checkpoint(tmp_path / "ck", architecture())
    write_safetensors(folder / "model.safetensors", {n: ("BF16", to_bf16(one)) for n, one in values.items()})
    with pytest.raises(ZooError, match=r"'head\.weight' holds .*e\+0?[56], which float16 cannot|holds 999424"):
        build(allowing("fp16"), open_folder(folder), tmp_path / "out", registry())


def test_the_choice_enters_the_hash_only_where_it_is_made():
    plain = make_recipe(architecture())
    assert plain.hash == plain.model_copy(update={"allow_nonfinite": False}).hash
    assert plain.hash != allowing("int8").hash
