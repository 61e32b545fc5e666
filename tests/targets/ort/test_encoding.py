"""MatMulNBits' layout: what is packed comes back."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.declarations.scheme import BlockScheme, FloatScheme
from zoo.quantizers.slab import Scratch
from zoo.quantizers.tiles import ArrayWriter, empty_arrays
from zoo.targets.ort.encoding import ENCODING, pack, unpack


@pytest.mark.parametrize("shape", [(3, 4), (3, 5), (2, 3, 8), (4, 1)])
def test_packing_there_and_back(shape):
    levels = np.random.default_rng(0).integers(0, 16, shape).astype(np.uint8)
    packed = np.full((*shape[:-1], -(-shape[-1] // 2)), 255, np.uint8)
    pack(levels, packed)
    found = np.empty_like(levels)
    unpack(packed, found)
    assert np.array_equal(found, levels)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("columns", [32, 40, 96])
def test_tiles_come_back(bits, symmetric, columns):
    scheme = BlockScheme(bits=bits, block_size=16, symmetric=symmetric)
    rng = np.random.default_rng(columns)
    arrays = empty_arrays(ENCODING, scheme, (10, columns))
    writer = ArrayWriter(ENCODING, scheme, columns, arrays, Scratch())
    written = []
    for tile in writer.tiles(4):
        tile.levels[...] = rng.integers(0, 2**bits, tile.levels.shape)
        tile.scales[...] = rng.standard_normal(tile.scales.shape)
        points = None if tile.zero_points is None else rng.integers(0, 2**bits, tile.zero_points.shape)
        if points is not None:
            tile.zero_points[...] = points
        written.append((tile.start, tile.levels.copy(), tile.scales.copy(), points))
    assert [start for start, *_ in written] == [0, 4, 8]
    assert writer.filled == 10
    for tile, (_, levels, scales, points) in zip(writer.decoded(4), written, strict=True):
        assert np.array_equal(tile.levels, levels)
        assert np.array_equal(tile.scales, scales)
        assert points is None or np.array_equal(tile.zero_points, points)


def test_where_the_layout_is_the_tiles_own_it_is_filled_in_place():
    scheme = BlockScheme(bits=8, block_size=32, symmetric=False)
    arrays = empty_arrays(ENCODING, scheme, (3, 64))
    tile = ArrayWriter(ENCODING, scheme, 64, arrays, Scratch()).tile(0, 3)
    held = (tile.levels, arrays["weight"]), (tile.scales, arrays["scales"]), (tile.zero_points, arrays["zero_points"])
    assert all(np.shares_memory(one, other) for one, other in held)


def test_experts_lie_one_behind_the_other():
    packed = ENCODING.arrays(BlockScheme(bits=4, block_size=32, symmetric=False), (3, 8, 64))
    assert {name: array.shape for name, array in packed.items()} == {
        "weight": (3, 8, 2, 16), "scales": (3, 8, 2), "zero_points": (3, 8, 1),
    }  # fmt: skip
    assert ENCODING.arrays(FloatScheme(dtype="float16"), (3, 8, 64))["weight"].shape == (3, 8, 64)
