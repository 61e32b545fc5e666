"""A mixture of experts in a calibrated build: one expert after the other, each with the inputs of its own tokens.

What enters the mixture lies in a file, and so does what it makes. An expert's weights, its Hessians and a few tokens
are all that is in memory. Its Hessians are of the tokens that are sent through it; where these are fewer than it has
columns, which leaves directions that nothing was seen of, tokens join them that came nearest to choosing it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.calibration.execute import Executor
from zoo.calibration.states import States
from zoo.contracts import Parameter, RowSlice
from zoo.errors import ZooError
from zoo.operations import Experts
from zoo.operations.compute import TorchRun
from zoo.package.layout import Placed

BATCH = 2048
"""Tokens that go through an expert at once."""


@dataclass(frozen=True)
class Expert:
    """One expert: its part of the weights, and the tokens that concern it, counted over all samples and growing."""

    number: int
    gate_up: Parameter
    down: Parameter
    tokens: NDArray[np.intp]
    """Those that are sent through it."""
    shares: NDArray[np.float32]
    """What its results for them are multiplied by."""
    shown: NDArray[np.intp]
    """Those that its Hessians are of."""

    def stored(self, placed: Sequence[Placed]) -> tuple[Placed, ...]:
        """Find what is stored of it among what is stored of all, in the file's order."""
        tensors = {each.tensor for each in (*self.gate_up.slices, *self.down.slices)}
        parts = (_stored_of(whole, self.number) for whole in placed)
        return tuple(part for part in parts if {each.tensor for each in part.parameter.slices} <= tensors)


class Mixture:
    """The experts of one layer, and the tokens of all samples on their way through them.

    Args:
        folder: where the files go meanwhile.
        shape: samples, tokens of each, hidden size.
    """

    def __init__(self, operation: Experts, folder: Path, shape: tuple[int, int, int], executor: Executor) -> None:
        self.count = operation.gate_up.experts or 0
        self.least = min(shape[0] * shape[1], operation.gate_up.columns)
        """Tokens that an expert's Hessians are of at the least."""
        self._operation, self._executor = operation, executor
        self._inputs = States(folder, shape, "calibration.experts")
        self._made = States(folder, shape, "calibration.mixed")
        self._run: TorchRun | None = None
        """The last that was recorded, which knows the weights that all experts have together."""
        self._routes: list[tuple[NDArray[np.float32], NDArray[np.int16]]] = []
        self._nearest: tuple[Any, Any] | None = None
        """How likely each expert is for the tokens it is likeliest for, and which they are, both (least, experts)."""

    def record(self, start: int, operation: Experts, run: TorchRun) -> None:
        """Keep what enters for the samples from ``start`` on, and where it goes (a ``Mix`` that computes nothing)."""
        torch, x, self._run = run.torch, run.value(operation.x), run
        self._inputs.write(start, x.cpu().numpy())
        self._made.write(start, np.zeros(x.shape, np.float32))
        weights, chosen = (found.flatten(0, 1).cpu().numpy() for found in operation.route(run))
        self._routes.append((weights, chosen.astype(np.int16)))
        likely = operation.likely(run).flatten(0, 1)
        tokens = torch.arange(len(likely), device=likely.device) + start * x.shape[1]
        tokens = tokens[:, None].expand(likely.shape)
        if self._nearest is not None:
            likely, tokens = (torch.cat(pair) for pair in zip(self._nearest, (likely, tokens), strict=True))
        best = likely.topk(min(self.least, len(likely)), 0)
        self._nearest = best.values, tokens.gather(0, best.indices)

    def __iter__(self) -> Iterator[Expert]:
        """Take the experts apart, in their order."""
        assert self._nearest is not None
        weights, chosen = (np.concatenate(found) for found in zip(*self._routes, strict=True))
        for number in range(self.count):
            gate_up, down = (one_expert(weight, number) for weight in self._operation.weights[:2])
            tokens, places = (chosen == number).nonzero()
            shown = tokens
            if len(tokens) < self.least:
                nearest = self._nearest[1][:, number].cpu().numpy()
                others = nearest[~np.isin(nearest, tokens)][: self.least - len(tokens)]
                shown = np.sort(np.concatenate([tokens, others]))
            yield Expert(number, gate_up, down, tokens, weights[tokens, places], shown)

    def add(self, expert: Expert, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Send an expert's tokens through its weights, and add up what it makes of them."""
        assert self._run is not None
        operation, torch, device = self._operation, self._executor.torch, self._executor.device
        tensors = {name: torch.from_numpy(values).to(device) for name, values in weights.items()}
        for start in range(0, len(expert.tokens), BATCH):
            tokens, shares = expert.tokens[start : start + BATCH], expert.shares[start : start + BATCH]
            raised = operation.raised(self._run, expert.number, self._tensor(tokens), tensors[expert.gate_up.name])
            made = operation.brought_down(self._run, expert.number, raised, tensors[expert.down.name])
            self._made.scatter(tokens, self._made.gather(tokens) + made.cpu().numpy() * shares[:, None])

    def result(self, start: int, operation: Experts, run: TorchRun) -> Any:
        """Give back what all experts made, for the samples from ``start`` on (a ``Mix``)."""
        made = self._made.read(start, start + len(run.value(operation.x)))
        return run.torch.from_numpy(made).to(self._executor.device)

    def hessian(self, expert: Expert, parameter: Parameter, gate_up: NDArray[np.float32]) -> NDArray[np.float32]:
        """Add up x xᵀ over what enters a weight of an expert, whose gate and way up is ``gate_up`` by now.

        Raises:
            ZooError: it is NaN or overflows float32.
        """
        assert self._run is not None
        torch, lower = self._executor.torch, parameter.name == expert.down.name
        raising = torch.from_numpy(gate_up).to(self._executor.device)
        hessian = torch.zeros((parameter.columns, parameter.columns), device=self._executor.device)
        for start in range(0, len(expert.shown), BATCH):
            x = self._tensor(expert.shown[start : start + BATCH])
            x = self._operation.raised(self._run, expert.number, x, raising) if lower else x
            hessian.addmm_(x.T, x)
        if not bool(torch.isfinite(hessian.diagonal()).all()):
            raise ZooError(f"{parameter.name}: the inputs of an expert on the calibration samples overflow float32")
        found: NDArray[np.float32] = hessian.cpu().numpy()
        return found

    def close(self) -> None:
        """Remove the files."""
        self._inputs.close()
        self._made.close()

    def _tensor(self, tokens: NDArray[np.intp]) -> Any:
        return self._executor.torch.from_numpy(self._inputs.gather(tokens)).to(self._executor.device)


class ExpertActivations:
    """What an expert's tokens tell of the inputs of its weights (``LayerActivations``)."""

    def __init__(self, device: str, tokens: int, hessian: Callable[[], NDArray[np.float32]]) -> None:
        self.device, self.tokens = device, tokens
        self._make = hessian
        self._made: NDArray[np.float32] | None = None

    def hessian(self, parameter: Parameter) -> NDArray[np.float32]:
        """Σ x xᵀ over them, made when it is first asked for."""
        if self._made is None:
            self._made = self._make()
        return self._made


def one_expert(parameter: Parameter, number: int) -> Parameter:
    """Take one expert's matrix out of a weight that holds all."""
    each = parameter.rows // (parameter.experts or 1)
    slices = (_within(row_slice, number * each, each) for row_slice in parameter.slices)
    return replace(parameter, slices=tuple(one for one in slices if one is not None), experts=None)


def _within(row_slice: RowSlice, first: int, count: int) -> RowSlice | None:
    """The rows of a slice that lie in so many rows of its parameter, counted from there; None where none does."""
    places = row_slice.places
    if first <= places[0] and places[-1] < first + count:
        return replace(row_slice, at=row_slice.at - first)
    if places[-1] < first or first + count <= places[0]:
        return None
    rows = range(row_slice.count) if row_slice.rows is None else row_slice.rows
    return replace(row_slice, rows=rows[first - row_slice.at :][:count], at=0)


def _stored_of(placed: Placed, number: int) -> Placed:
    """Take what is stored of one expert out of arrays that hold all; what is one expert's stays as it is."""
    if placed.parameter.experts is None:
        return placed
    parameter, count = one_expert(placed.parameter, number), placed.parameter.experts
    arrays = tuple(
        array if array.rows == "none" else replace(
            array, parameter=parameter, shape=array.shape[1:], nbytes=array.nbytes // count,
            offset=array.offset + number * (array.nbytes // count),
        )
        for array in placed.arrays
    )  # fmt: skip
    return replace(placed, parameter=parameter, arrays=arrays)
