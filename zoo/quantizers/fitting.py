"""Scales and zero points of 4-bit blocks, fitted to what their columns are multiplied with.

A block's values w are stored as s · k, with k = level - zero point. Some ranges are tried, from the block's own down to
about half of it and a little above. Each gives levels; by least squares they get the scale that loses least,

    Σ e_j (w_j - s · k_j)²,    s = Σ e_j w_j k_j / Σ e_j k_j²

with e_j the energy of column j's inputs, and the range whose fitted scale loses least is taken.

Source: ``make_qkx2_quants`` of llama.cpp's ``ggml-quants.c`` searches so, with weights of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.contracts import BlockTile, Slab
from zoo.declarations.scheme import BlockScheme
from zoo.quantizers.narrow import settle

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHARES = (1.0, 1.05, 0.93, 0.86, 0.79, 0.72, 0.65, 0.58)
"""Of the range that a block's values have."""
_LEAST = 1e-3
"""Columns count for at least this share of the mean: an energy of nothing would leave a scale open."""


def fit_blocks(slab: Slab, tile: BlockTile, scheme: BlockScheme) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Choose the scales of a tile's blocks, rounded to the scheme's type, and zero points, both (rows, blocks)."""
    import numpy as np

    assert slab.energies is not None
    shape, energies = tile.levels.shape, slab.energies
    top, middle = np.float32(2**scheme.bits - 1), np.float32(2 ** (scheme.bits - 1))
    low, high = slab.extremes(tile.start, tile.stop, scheme.block_size)
    whole = high / top - low / top
    if scheme.symmetric:
        whole = np.asarray(np.where(high > -low, high, low) / -middle, np.float32)
    blocks = slab.float32(tile.start, tile.stop, shape[1] * shape[2]).reshape(shape)
    weights = np.zeros(shape[1:], np.float32)
    weights.reshape(-1)[: slab.columns] = energies / max(float(energies.mean()), 1e-30) + np.float32(_LEAST)
    weighted = blocks * weights
    steps, weighted_steps = np.empty_like(blocks), np.empty_like(blocks)
    best_scale = best_zero = least = np.zeros_like(whole)
    for share in SHARES:
        scale: NDArray[np.float32] = whole * np.float32(share)
        inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=np.abs(scale) >= np.float32(2**-126))
        zero = np.full_like(scale, middle) if scheme.symmetric else np.clip(np.rint(-low * share * inverse), 0, top)
        np.multiply(blocks, inverse[..., None], out=steps)
        np.rint(steps, out=steps)
        np.maximum(steps, -zero[..., None], out=steps)
        np.minimum(steps, (top - zero)[..., None], out=steps)
        np.multiply(steps, weights, out=weighted_steps)
        square = np.einsum("rbk,rbk->rb", weighted_steps, steps)
        product = np.einsum("rbk,rbk->rb", weighted, steps)
        np.divide(product, square, out=scale, where=square > 0)
        settle(scale, scheme.scale_type)
        # What is lost, less the sum of all weighted squares, which is the same for every range.
        lost = scale * (scale * square - 2 * product)
        better = lost < least
        least = np.where(better, lost, least)
        best_scale, best_zero = np.where(better, scale, best_scale), np.where(better, zero, best_zero)
    return best_scale, best_zero
