"""One decoder layer in the hands of a calibrated quantizer: weights, statistics of inputs, exact rescaling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.calibration.links import fold_links
from zoo.calibration.program import Segment
from zoo.contracts import FoldLink, Parameter
from zoo.errors import ZooError

PANEL = 512
"""Columns of a Hessian that are added to at once."""


class Layer:
    """A layer's weights and the Hessians of its linears (``LayerActivations`` and ``FoldableLayer``).

    Args:
        segment: what is computed.
        weights: parameter name → float32 values; changed in place by ``fold``.
        torch: the imported library; Hessians are kept on its ``device``.
    """

    def __init__(self, segment: Segment, weights: Mapping[str, NDArray[np.float32]], torch: Any, device: str) -> None:
        self.device = device
        self.tokens = 0
        self._segment = segment
        self._weights = weights
        self._torch = torch
        self._group = {one.name: index for index, group in enumerate(segment.groups) for one in group}
        self._hessians: dict[int, Any] = {}
        """Right of the panels on the diagonal nothing is added up until one is handed out."""
        self._shown: dict[int, NDArray[np.float32]] = {}
        """What was handed out: the same array each time, so that a quantizer knows it again."""

    def over(self, weights: Mapping[str, NDArray[np.float32]]) -> Layer:
        """Take what was observed along with weights of one's own; nothing done to it is seen by another one."""
        other = Layer(self._segment, weights, self._torch, self.device)
        other.tokens, other._hessians = self.tokens, dict(self._hessians)
        return other

    def observe(self, parameter: Parameter, x: Any) -> None:
        """Add inputs (tokens, in_features) to the Hessian that the parameter's group shares."""
        group = self._group[parameter.name]
        if self._segment.groups[group][0].name != parameter.name:
            return
        hessian = self._hessians.get(group)
        if hessian is None:
            size = x.shape[-1]
            hessian = self._hessians[group] = self._torch.zeros(
                (size, size), dtype=self._torch.float32, device=self.device
            )
        # Symmetric: panels of columns from the diagonal down are little more than half of it.
        for start in range(0, len(hessian), PANEL):
            hessian[start:, start : start + PANEL].addmm_(x[:, start:].T, x[:, start : start + PANEL])

    def observed(self, parameter: Parameter) -> bool:
        """Tell whether the inputs of a linear were seen."""
        return self._group.get(parameter.name) in self._hessians

    def forget(self, parameter: Parameter) -> None:
        """Drop the Hessian of a group whose last parameter is done."""
        group = self._group.get(parameter.name)
        if group is not None and self._segment.groups[group][-1].name == parameter.name:
            self._hessians.pop(group, None)
            self._shown.pop(group, None)

    def check(self) -> None:
        """Refuse statistics that are not numbers.

        Raises:
            ZooError: naming the linear whose inputs they are.
        """
        for group, hessian in self._hessians.items():
            if not bool(self._torch.isfinite(hessian.diagonal()).all()):
                name = self._segment.groups[group][0].name
                raise ZooError(
                    f"{name}: its inputs on the calibration samples are NaN or overflow float32; "
                    "the weights before it are damaged, or the samples are"
                )

    def hessian(self, parameter: Parameter) -> NDArray[np.float32]:
        """Σ x xᵀ over the calibration tokens, float32 (in_features, in_features); read it, do not change it."""
        group = self._group.get(parameter.name)
        if group is None or group not in self._hessians:
            raise ZooError(f"{parameter.name}: nothing was observed of its inputs")
        if group not in self._shown:
            hessian = self._hessians[group]
            for start in range(0, len(hessian), PANEL):
                stop = start + PANEL
                hessian[start:stop, stop:] = hessian[stop:, start:stop].T
            self._shown[group] = hessian.cpu().numpy()
        return self._shown[group]

    @property
    def links(self) -> list[FoldLink]:
        """Where a scale of channels can be taken from the columns of linears and given to what makes these channels."""
        return fold_links(self._segment)

    def weight(self, parameter: Parameter) -> NDArray[np.float32]:
        """The parameter's values as they are now."""
        return self._weights[parameter.name]

    def fold(self, link: FoldLink, scales: NDArray[np.float32]) -> None:
        """Divide what makes the channels by ``scales`` and multiply the columns that read them: the same function.

        Args:
            scales: one for each channel (in_features,), positive; channels that one source row makes share theirs.

        Raises:
            ZooError: scales that are not positive and finite, or that channels of one row do not share.
        """
        rows = np.ones(self.weight(link.source).shape[0], np.float32)
        rows[link.rows] = scales
        if not np.isfinite(scales).all() or (scales <= 0).any() or not np.array_equal(rows[link.rows], scales):
            raise ZooError(f"{link.source.name}: a quantizer folds scales into it that are not exact; it is defective")
        source = self.weight(link.source)
        np.divide(source, rows.reshape(-1, *[1] * (source.ndim - 1)), out=source)
        if link.bias is not None:
            np.divide(self.weight(link.bias), rows, out=self.weight(link.bias))
        for one in link.consumers:
            np.multiply(self.weight(one), scales, out=self.weight(one))
        group = self._group[link.consumers[0].name]
        hessian = self._hessians.get(group)
        if hessian is not None:
            inverse = self._torch.from_numpy(1 / scales).to(hessian.device)
            self._hessians[group] = hessian.mul(inverse[:, None]).mul_(inverse)
            self._shown.pop(group, None)
