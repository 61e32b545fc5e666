"""GPTQ: columns are rounded one after the other, and those still to come make up for the error of each.

For a row w and the Hessian H = Σ x xᵀ of its inputs, the error of the layer's output is (w - q) H (w - q)ᵀ. With U the
upper triangular factor of H⁻¹ = Uᵀ U, rounding column j leaves the error e = (w_j - q_j) / U_jj, and w_k -= e · U_jk
for all k > j is the best answer to it. Columns are done in batches of 128 whose effect on the rest is one product of
matrices; damping adds to the diagonal of H; the activation order takes columns of large H_jj first.

Source: Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ", arXiv 2210.17323, section 3 and algorithm 1.

Departures:

- Static groups: the scales of all blocks are fixed before the first column is rounded, from the weights as they are.
  So the activation order needs no index in the kernel: a column keeps its place and its block's scale.
- Scales are those of rounding to nearest: those of 4-bit blocks are fitted to the least Σ_j H_jj (w_j - q_j)²
  (``zoo.quantizers.fitting``), where the paper takes the range itself.
- U comes from one Cholesky factorization and one triangular inverse (see ``_inverse_factor``); H⁻¹ is never formed.
- Damping adds a share of each number on the diagonal, not of their mean, and much more than the paper's hundredth. With
  it, and some samples of random tokens, texts other than the calibrating one lose less, and that one no more.
- A channel that the samples never excite is rounded to nearest; the authors' code sets it to zero.
"""

from __future__ import annotations

import logging
import weakref
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import Field

from zoo.contracts import BlockTile, LayerActivations, Parameter, Slab, TileWriter
from zoo.declarations.scheme import BlockScheme
from zoo.errors import ZooError
from zoo.quantizers.rtn import Rtn, RtnOptions, round_tile

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger("zoo")

BATCH = 128
"""Columns whose corrections to the rest are made in one product."""
_RAISES = 4
"""How often the damping is raised tenfold before it is given up."""


class GptqOptions(RtnOptions):
    """What rounding to nearest offers, and how errors are made up for."""

    damping: float = Field(default=0.4, gt=0, le=10)
    """Added to each number on the diagonal of the Hessian, as a share of it."""
    random_share: float = Field(default=1 / 3, ge=0, le=1)
    """Share of the calibration samples that are tokens drawn at random, so that levels do not fit one text alone."""
    activation_order: bool = True
    """Round the columns with the largest inputs first."""
    true_sequential: bool = False
    """Observe each group of linears of a layer only once those before it are quantized: more passes, finer."""


class Gptq(Rtn):
    """Quantize linears with the Hessian of their inputs; what has none is rounded to nearest."""

    Options: ClassVar[type[RtnOptions]] = GptqOptions
    needs_activations: ClassVar[bool] = True
    options: GptqOptions

    def __init__(self, precision: Any, options: GptqOptions) -> None:
        super().__init__(precision, options)
        own = {name: getattr(options, name) for name in GptqOptions.model_fields if name not in RtnOptions.model_fields}
        self.options = GptqOptions(**self.options.model_dump(), **own)
        self._factor: tuple[Any, Any, Any] | None = None
        """(a weak reference to the Hessian, U, order): gone with the Hessian."""
        self._rounded: set[str] = set()
        """Weights whose inputs are zero, named once each."""

    @property
    def true_sequential(self) -> bool:
        """Whether groups of linears are observed one after the other."""
        return self.options.true_sequential

    def quantize(
        self,
        parameter: Parameter,
        slab: Slab,
        out: TileWriter,
        activations: LayerActivations | None = None,
    ) -> None:
        """Fill the slab's rows; rows do not depend on each other, only on the Hessian."""
        scheme = out.scheme
        if activations is None or not isinstance(scheme, BlockScheme):
            super().quantize(parameter, slab, out)
            return
        import numpy as np
        import torch

        # The Hessian of a group comes as the same array each time; its factor is kept for the group's next slab.
        hessian = activations.hessian(parameter)
        if not hessian.diagonal().any():
            self._round(parameter, slab, out)
            return
        if self._factor is None or self._factor[0]() is not hessian:
            self._factor = None
            reference = weakref.ref(hessian, self._drop)
            self._factor = (reference, *self._factorize(parameter, hessian, activations.device))
        _, upper, order = self._factor
        slab.energies = hessian.diagonal().copy()  # a view would keep the Hessian
        for tile in out.tiles(slab.rows):  # the work goes over columns, so many rows at once cost the least
            assert isinstance(tile, BlockTile)
            for start in range(0, slab.rows, slab.tile_rows):
                round_tile(scheme, slab, _rows(tile, start, start + slab.tile_rows))
            zeros = np.full_like(tile.scales, 2 ** (scheme.bits - 1)) if tile.zero_points is None else tile.zero_points
            with torch.no_grad():
                weight, scales, offsets = (
                    torch.from_numpy(each).to(activations.device, torch.float32, copy=True)
                    for each in (slab.float32(tile.start, tile.stop), tile.scales, zeros)
                )
                levels = round_columns(
                    weight, upper, order, Grid(scheme.block_size, 2**scheme.bits - 1, scales, offsets)
                )
            tile.levels.reshape(len(zeros), -1)[:, : slab.columns] = levels.cpu().numpy()

    def _round(self, parameter: Parameter, slab: Slab, out: TileWriter) -> None:
        """Round a weight whose inputs are all zero: whatever it becomes, its output on them is the same."""
        if parameter.name not in self._rounded:
            self._rounded.add(parameter.name)
            log.warning(
                "%s: its inputs are zero on every calibration token; it is rounded to nearest instead", parameter.name
            )
        super().quantize(parameter, slab, out)

    def _drop(self, reference: Any) -> None:
        if self._factor is not None and self._factor[0] is reference:
            self._factor = None

    def _factorize(self, parameter: Parameter, hessian: NDArray[Any], device: str) -> tuple[Any, Any]:
        """Damp, order and factor the Hessian: (U, the order of columns or None).

        Raises:
            ZooError: no damping within reason makes it positive definite; the parameter is named.
        """
        import torch

        h = torch.from_numpy(hessian).to(device)
        diagonal = h.diagonal().clone()
        if not bool(torch.isfinite(diagonal).all()) or bool((diagonal < 0).any()):
            raise ZooError(f"{parameter.name}: the Hessian of its inputs holds NaN, infinite or negative values")
        dead = diagonal == 0
        order = torch.argsort(diagonal, descending=True, stable=True) if self.options.activation_order else None
        damping = self.options.damping
        for _ in range(_RAISES + 1):
            upper = _inverse_factor(h, order, dead, damping)
            if upper is not None:
                if damping > self.options.damping:
                    log.warning(
                        "%s: its Hessian is singular at damping %g; %g is used", parameter.name, self.options.damping,
                        damping,
                    )  # fmt: skip
                return upper, order
            damping *= 10
        raise ZooError(
            f"{parameter.name}: the Hessian of its inputs is not positive definite even at damping {damping / 10:g}; "
            "give more or other calibration samples"
        )


def _inverse_factor(h: Any, order: Any, dead: Any, damping: float) -> Any:
    """Find the upper triangular U with (H + damping · diag H)⁻¹ = Uᵀ U in the order of columns; None where singular.

    With J the reversal of the order, J H J = L Lᵀ; then H = R Rᵀ for the upper triangular R = J L J, and
    H⁻¹ = R⁻ᵀ R⁻¹, so U = R⁻¹ = J L⁻¹ J. All of it is done in one matrix beside H, and a quarter of one: matrices of
    this size are what a wide layer's memory goes to.
    """
    import torch

    size = len(h)
    backwards = order.flip(0) if order is not None else torch.arange(size - 1, -1, -1, device=h.device)
    turned = torch.empty_like(h)
    for start in range(0, size, BATCH):
        turned[start : start + BATCH] = h[backwards[start : start + BATCH]][:, backwards]
    diagonal = turned.diagonal()
    diagonal[dead[backwards]] = 1.0
    diagonal *= 1 + damping
    # LAPACK wants columns in one piece, and the transpose of a symmetric matrix is the same.
    failed = torch.empty((), dtype=torch.int32, device=h.device)
    lower, failed = torch.linalg.cholesky_ex(turned.mT, out=(turned.mT, failed))
    if int(failed) != 0 or not bool(torch.isfinite(lower.diagonal()).all()):
        return None
    _invert_lower(lower)
    # The matrix lies transposed in ``turned``; both axes of a matrix turned about are its values in reverse.
    _reverse(turned.view(-1))
    return lower if bool(torch.isfinite(diagonal).all()) else None


_LEAF = 512
"""Below this, a triangular matrix is inverted by solving for the identity."""


def _invert_lower(lower: Any) -> None:
    """Invert a lower triangular matrix in place, by halves: [A 0; B C]⁻¹ = [A⁻¹ 0; -C⁻¹ B A⁻¹ C⁻¹].

    Products of matrices do two thirds of the work of solving for the identity, in a quarter of its memory.
    """
    import torch

    size = lower.shape[0]
    if size <= _LEAF:
        identity = torch.eye(size, dtype=lower.dtype, device=lower.device)
        lower.copy_(torch.linalg.solve_triangular(lower, identity, upper=False))
        return
    half = size // 2
    first, second, below = lower[:half, :half], lower[half:, half:], lower[half:, :half]
    _invert_lower(first)
    _invert_lower(second)
    product = below @ first
    torch.matmul(second, product.neg_(), out=below)


def _reverse(flat: Any) -> None:
    """Reverse a vector in place."""
    step = 1 << 20
    size = len(flat)
    for start in range(0, size // 2, step):
        stop = min(start + step, size // 2)
        head, tail = flat[start:stop], flat[size - stop : size - start]
        turned = head.flip(0)
        head.copy_(tail.flip(0))
        tail.copy_(turned)


def _rows(tile: BlockTile, start: int, stop: int) -> BlockTile:
    """Take rows of a tile that begins with its slab."""
    rows = slice(start, stop)
    zero_points = None if tile.zero_points is None else tile.zero_points[rows]
    return BlockTile(start, min(stop, tile.stop), tile.levels[rows], tile.scales[rows], zero_points)


class Grid(NamedTuple):
    """The levels of every block: value = scale · (level - zero)."""

    block: int
    top: int
    scales: Any
    """float32 (rows, blocks) on the device; ``zeros`` too."""
    zeros: Any


def round_columns(weight: Any, upper: Any, order: Any, grid: Grid) -> Any:
    """Round all columns in their order, each error made up for by the columns after it.

    Args:
        weight: float32 (rows, columns); used up.
        upper: U, (columns, columns), in the order.
        order: the columns in their order, or None for as they stand.

    Returns:
        Levels, uint8 (rows, columns), as the columns stand.
    """
    import torch

    rows, columns = weight.shape
    if order is not None:
        weight = weight[:, order]
    places = order if order is not None else torch.arange(columns, device=weight.device)
    blocks = places // grid.block
    levels = torch.empty((rows, columns), dtype=torch.uint8, device=weight.device)
    top = float(grid.top)
    for start in range(0, columns, BATCH):
        stop = min(start + BATCH, columns)
        # Columns as rows: each is contiguous.
        work = weight[:, start:stop].T.contiguous()
        scales, zeros = grid.scales.T[blocks[start:stop]], grid.zeros.T[blocks[start:stop]]
        inverse = torch.where(scales != 0, 1 / scales, torch.zeros_like(scales))
        local = upper[start:stop, start:stop].contiguous()
        errors = torch.empty_like(work)
        found = torch.empty_like(work)
        for at in range(stop - start):
            value = work[at]
            level = torch.addcmul(zeros[at], value, inverse[at]).round_().clamp_(0, top)
            found[at] = level
            error = torch.sub(value, (level - zeros[at]).mul_(scales[at]), out=errors[at])
            error.div_(local[at, at])
            if at + 1 < stop - start:
                work[at + 1 :].addr_(local[at, at + 1 :], error, alpha=-1)
        levels[:, places[start:stop]] = found.T.to(torch.uint8)
        if stop < columns:
            weight[:, stop:].addmm_(errors.T, upper[start:stop, stop:], alpha=-1)
    return levels
