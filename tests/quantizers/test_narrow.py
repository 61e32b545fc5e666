"""Scales and floats of 16 bits: rounded as PyTorch rounds, and levels chosen for the rounded scale."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.contracts import BlockTile, Parameter, RowSlice
from zoo.declarations.scheme import BlockScheme, FloatScheme
from zoo.quantizers.floats import Float
from zoo.quantizers.narrow import narrowed, settle, widened
from zoo.quantizers.rtn import Rtn
from zoo.quantizers.slab import RawSlab, Scratch
from zoo.quantizers.tiles import NEUTRAL, ArrayWriter, empty_arrays, read_back

DRAW = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_numbers_are_rounded_as_pytorch_rounds_them(dtype):
    torch = pytest.importorskip("torch")
    patterns = DRAW.integers(0, 2**32, 200_000, dtype=np.uint32)
    special = np.array([0, 0x3F808000, 0x3F818000, 0x7F7FFFFF, 0x80000001, 0x7F800000, 0x7FC00000, 0x477FF000])
    values = np.concatenate([patterns, special.astype(np.uint32)]).view(np.float32)
    wanted = torch.from_numpy(values).to(getattr(torch, dtype)).to(torch.float32).numpy()
    np.testing.assert_array_equal(widened(narrowed(values, dtype), dtype), wanted)


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("block", [32, 48, 96])
def test_levels_are_the_nearest_for_the_rounded_scale(precision, symmetric, dtype, block):
    values = DRAW.standard_normal((40, 96)).astype(np.float32) * 0.03
    bits = 4 if precision == "int4" else 8
    scheme = BlockScheme(bits=bits, block_size=block, symmetric=symmetric, scale_type=dtype)
    arrays = empty_arrays(NEUTRAL, scheme, values.shape)
    writer = ArrayWriter(NEUTRAL, scheme, 96, arrays, Scratch())
    parameter = Parameter("w", "linear", (RowSlice("w", values.shape),))
    Rtn(precision, Rtn.Options()).quantize(parameter, RawSlab(values, "F32", "w", Scratch()), writer)
    scales = arrays["scales"]
    kept = scales.copy()
    settle(kept, dtype)
    np.testing.assert_array_equal(kept, scales)
    blocks = values.reshape(40, -1, block)
    zeros = arrays["zero_points"] if not symmetric else np.full(scales.shape, 2 ** (bits - 1), np.uint8)
    exact = blocks / scales[..., None] + zeros[..., None].astype(np.float32)
    off = np.abs(arrays["levels"] - np.clip(exact, 0, 2**bits - 1))
    assert off.max() <= 0.5001
    (tile,) = writer.decoded(40)
    assert isinstance(tile, BlockTile)


@pytest.mark.parametrize("stored", ["F32", "F16", "BF16"])
def test_floats_are_kept_as_bfloat16(stored):
    values = DRAW.standard_normal((5, 12)).astype(np.float32)
    raw = {"F32": values, "F16": values.astype(np.float16), "BF16": narrowed(values, "bfloat16")}[stored]
    scheme = FloatScheme(dtype="bfloat16")
    arrays = empty_arrays(NEUTRAL, scheme, values.shape)
    assert arrays["values"].dtype == np.uint16
    parameter = Parameter("w", "linear", (RowSlice("w", values.shape),))
    writer = ArrayWriter(NEUTRAL, scheme, 12, arrays, Scratch())
    Float("fp16", Float.Options()).quantize(parameter, RawSlab(raw, stored, "w", Scratch()), writer)
    found = np.empty_like(values)
    read_back(NEUTRAL, scheme, arrays, found)
    exact = raw.astype(np.float32) if stored != "BF16" else widened(raw, "bfloat16")
    np.testing.assert_array_equal(found, widened(narrowed(exact, "bfloat16"), "bfloat16"))


def test_a_row_may_be_one_block():
    parameter = Parameter("w", "linear", (RowSlice("w", (3, 200)),))
    scheme = Rtn("int8", Rtn.Options(block_size="row")).scheme(parameter)
    assert isinstance(scheme, BlockScheme)
    assert (scheme.block_size, scheme.blocks(200)) == (200, 1)
