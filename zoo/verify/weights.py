"""The weights of a package as they are read back, by our own code or by another maker's, each beside the original."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zoo.calibration.weights import read_float32
from zoo.declarations.base import Value
from zoo.errors import ZooError
from zoo.quantizers.fitting import SHARES
from zoo.quantizers.slab import Scratch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zoo.contracts import Checkpoint
    from zoo.declarations.scheme import Scheme
    from zoo.package.layout import Layout


class WeightError(Value):
    """How far a stored weight is from the original."""

    name: str
    error: float
    """Relative RMS error."""
    error_limit: float
    worst: float
    """The largest error of a value, relative to the largest value of its block."""
    worst_limit: float | None
    """None where levels are not the nearest ones, since errors are balanced over a row."""

    @property
    def share(self) -> float:
        """What was measured over what is allowed, at worst; past 1 it fails."""
        return max(self.error / self.error_limit, self.worst / self.worst_limit if self.worst_limit else 0.0)


def weight_errors(
    layout: Layout, checkpoint: Checkpoint, read: Iterable[tuple[str, NDArray[np.float32]]]
) -> tuple[WeightError, ...]:
    """Compare every weight.

    Args:
        layout: the package's.
        checkpoint: the original weights, rescaled as the build rescaled them.
        read: name → (rows, columns), in the order of rows that the package stores.

    Raises:
        ZooError: a weight is missing, or has another shape.
    """
    placed = {placed.parameter.name: placed for placed in layout.placed}
    scratch, errors = Scratch(), []
    for name, values in read:
        one = placed.pop(name, None)
        if one is None:
            raise ZooError(f"another program reads a weight {name!r:.80}, which the model does not have")
        wanted = read_float32(one.parameter, checkpoint, scratch)
        if wanted.size != values.size:
            raise ZooError(f"the weight {name} is read as {values.shape}; the original is {one.parameter.shape}")
        wanted = wanted.reshape(-1, wanted.shape[-1])
        errors.append(_error(name, wanted, values.reshape(wanted.shape), one.scheme, _worst_limit(layout, one.scheme)))
    if placed:
        raise ZooError(f"the weight {min(placed)} is not in what another program reads of the package")
    return tuple(errors)


def _worst_limit(layout: Layout, scheme: Scheme) -> float | None:
    """Say how far a value may be from the original, over the largest of its block; None where levels are calibrated."""
    smoothing = layout.recipe.smoothing
    if layout.quantizer.needs_activations:
        return None
    limit = 1.05 * 2.0 ** (1 - scheme.bits) if scheme.kind == "block" else 2.0**-6
    if smoothing is not None:
        limit += 2**0.125 - 1  # two steps of a scale, where sums in another order chose another one
        if smoothing.fit is not None and scheme.kind == "block" and scheme.bits == 4:
            limit += 1 - min(SHARES)  # the ends of a range that was cut
    return limit


def _error(
    name: str, wanted: NDArray[np.float32], values: NDArray[np.float32], scheme: Scheme, worst_limit: float | None
) -> WeightError:
    """Compare one weight."""
    import numpy as np

    apart, size = values - wanted, float(np.linalg.norm(wanted))
    error = float(np.linalg.norm(apart)) / max(size, 1e-30)
    block, bits = (scheme.block_size, scheme.bits) if scheme.kind == "block" else (1, 0)
    starts = np.arange(0, wanted.shape[1], block)
    largest, off = (
        np.maximum.reduceat(np.abs(side, out=side), starts, axis=1) if block > 1 else np.abs(side)
        for side in (wanted, apart)
    )
    worst = off / np.maximum(largest, 1e-4 * float(largest.max()) + 1e-30)
    return WeightError(
        name=name,
        error=error,
        error_limit=min(0.5, 2.0 ** (4 - bits)) if bits else 2.0**-8,
        worst=float(worst.max(initial=0.0)),
        worst_limit=worst_limit,
    )
