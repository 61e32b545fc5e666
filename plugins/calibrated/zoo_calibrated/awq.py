"""Activation-aware scaling, folded into the weights before, then rounding to nearest.

Channels with large inputs matter more. Their columns are multiplied by a scale above one before rounding, which makes
their share of the rounding error smaller, and what makes the channel is divided by the same scale: a norm's weight, the
rows of the linear before, or the value rows of the attention. The function stays what it was and the graph does not
change. Of scales s_j = (r_j / mean)^alpha, with r_j the root mean square of channel j, the alpha is taken that makes
the smallest error of the layer's outputs, (W - Ŵ) H (W - Ŵ)ᵀ, over all the calibration tokens; alpha 0 is no scaling.

Sources: Lin et al., "AWQ", arXiv 2306.00978, section 3.2; the folding into norms as in Xiao et al., "SmoothQuant",
arXiv 2211.10438, section 4.

Departures: the root mean square stands for the mean magnitude and the Hessian for a batch of stored inputs, so that one
statistic serves every calibrated quantizer; the error is summed over at most ``rows`` rows; channels of attention heads
that share their values share their scale; ranges are not clipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from zoo.contracts import FoldableLayer, FoldLink, Parameter
from zoo.declarations.scheme import BlockScheme
from zoo.quantizers.rtn import Rtn, RtnOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zoo.quantizers.slab import Scratch


class AwqOptions(RtnOptions):
    """What rounding to nearest offers, and the search for scales."""

    grid: int = Field(default=20, ge=1, le=100)
    """Values of alpha to try between 0 and 1."""
    rows: int = Field(default=1024, ge=1)
    """Rows of each linear that the error is summed over, at most."""


class Awq(Rtn):
    """Rescale channels by what the calibration samples excite, then round to nearest."""

    Options: ClassVar[type[RtnOptions]] = AwqOptions
    needs_activations: ClassVar[bool] = True
    options: AwqOptions

    def __init__(self, precision: Any, options: AwqOptions) -> None:
        super().__init__(precision, options)
        own = {name: getattr(options, name) for name in AwqOptions.model_fields if name not in RtnOptions.model_fields}
        self.options = AwqOptions(**self.options.model_dump(), **own)
        self._scratch: Scratch | None = None

    def fold(self, layer: FoldableLayer) -> None:
        """Find and fold the scales of every place where that is exact, in the order of use."""
        for link in layer.links:
            scales = self._search(layer, link)
            if scales is not None:
                layer.fold(link, scales)

    def _search(self, layer: FoldableLayer, link: FoldLink) -> NDArray[np.float32] | None:
        """Try each alpha; None where no scaling is best."""
        import numpy as np

        hessian = layer.hessian(link.consumers[0])
        power = hessian.diagonal().astype(np.float64)
        # Channels that one row makes share their scale: the mean of what they carry.
        shared = np.bincount(link.rows, power) / np.maximum(np.bincount(link.rows), 1)
        excitation = np.sqrt(shared[link.rows])
        mean = excitation.mean()
        if not np.isfinite(mean) or mean == 0:
            return None
        ratio = np.maximum(excitation / mean, 1e-4)
        best, chosen = self._error(layer, link, hessian, None), None
        for step in range(1, self.options.grid + 1):
            scales = ratio ** (step / self.options.grid)
            scales = (scales / np.sqrt(scales.max() * scales.min())).astype(np.float32)
            error = self._error(layer, link, hessian, scales)
            if error < best:
                best, chosen = error, scales
        return chosen

    def _error(
        self, layer: FoldableLayer, link: FoldLink, hessian: NDArray[np.float32], scales: NDArray[np.float32] | None
    ) -> float:
        """Sum up the squared error of the consumers' outputs when their columns are scaled before rounding."""
        import torch

        total = 0.0
        h = torch.from_numpy(hessian).to(layer.device)
        for consumer in link.consumers:
            weight = layer.weight(consumer)
            step = -(-weight.shape[0] // self.options.rows)
            lost = self._lost(consumer, weight[::step], scales)
            delta = torch.from_numpy(lost).to(layer.device)
            total += float(((delta @ h) * delta).sum()) * step
        return total

    def _lost(
        self, parameter: Parameter, weight: NDArray[np.float32], scales: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """What rounding takes from rows of a weight, in the weight's own units."""
        import numpy as np

        from zoo.quantizers.slab import Scratch
        from zoo.quantizers.tiles import rounded

        scheme = self.scheme(parameter)
        if not isinstance(scheme, BlockScheme):
            return np.zeros_like(weight)
        if self._scratch is None:
            self._scratch = Scratch()
        scaled = weight * scales if scales is not None else np.ascontiguousarray(weight)
        stored = rounded(scaled, scheme, parameter.name, self._scratch)
        if scales is not None:
            stored /= scales
        return stored - weight
