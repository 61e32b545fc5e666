"""How much a model's predictions change when one weight is stored in fewer bits: measured, in nats, without a build.

To second order, KL(original ‖ changed) of all positions of a text is ½ δᵀ F δ, for a change δ of the weights and the
Fisher information F: the expectation of g gᵀ over tokens that the model itself would say, with g the gradient of their
log probability. So samples go forward through the layers once, a token is drawn at every position from what the model
predicts there, and the gradients of the drawn tokens' log probabilities come back through the layers. For one weight,
each row r of δ (its rounding error) meets them as a_r = Σ_t g_tr (δ_r · x_t), summed over the tokens t of a sample, and
½ Σ_r a_r² is its share of the sample's KL. That takes the rounding errors of rows, and of weights, to be
independent of each other.

In memory are one layer's weights in float32 and a few samples; what enters each layer lies in a file.

Sources: the second order of KL and the empirical estimate by drawn tokens: Martens, "New insights and perspectives on
the natural gradient method", arXiv 1412.1193, sections 5 and 8. Fisher information to choose bits of layers: Dong et
al., "HAWQ-V2", arXiv 1911.03852 (with the trace of the Hessian in its stead).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.calibration.execute import Executor
from zoo.calibration.program import Segment, cut
from zoo.calibration.states import States
from zoo.calibration.weights import read_float32
from zoo.contracts import Checkpoint
from zoo.declarations.scheme import Scheme
from zoo.errors import ZooError
from zoo.operations import Embedding, Linear, Operation
from zoo.package.layout import Layout
from zoo.quantizers.slab import Scratch
from zoo.quantizers.tiles import rounded

TOKENS = 8192
"""Tokens that are measured with, unless fewer were given; the first of the samples."""
_BATCH = 1024
"""Tokens that are computed at once, unless a sample is longer."""
_PIECE = 1 << 20
"""Weights whose rounding errors are held at once: whole rows."""
_SEED = 0


def measure(
    layout: Layout,
    checkpoint: Checkpoint,
    tokens: NDArray[np.int32],
    choices: Mapping[str, Sequence[Scheme]],
    folder: Path,
    *,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, list[float]]:
    """Measure what each way to store each weight costs.

    Args:
        tokens: int32 (samples, length).
        choices: parameter name → ways to store it.
        folder: where the hidden states go meanwhile: 4 bytes × hidden size × tokens × layers.
        progress: called with how many of how many passes over a layer are done.

    Returns:
        Parameter name → predicted KL(original ‖ stored so) of a position, nats, for each of its choices.

    Raises:
        ZooError: named by weight: a gradient or a hidden state that is not finite, or a damaged checkpoint.
    """
    return _Pass(layout, checkpoint, tokens, choices, folder, device, progress).run()


def used(tokens: NDArray[np.int32]) -> NDArray[np.int32]:
    """Take the first of the samples (samples, length), as many as are measured with."""
    return tokens[: max(1, TOKENS // tokens.shape[1])]


class _Pass:
    """Samples forward through all layers, gradients back."""

    def __init__(
        self,
        layout: Layout,
        checkpoint: Checkpoint,
        tokens: NDArray[np.int32],
        choices: Mapping[str, Sequence[Scheme]],
        folder: Path,
        device: str,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        assert layout.program is not None
        self._checkpoint, self._choices, self._progress = checkpoint, choices, progress
        self._tokens = used(tokens)
        self._executor = Executor(device)
        program = cut(layout.program)
        self._segments = [program.before, *program.layers, program.after]
        self._placed = {one.parameter.name: one for one in layout.placed}
        self._scratch = Scratch()
        self._found = {name: [0.0] * len(schemes) for name, schemes in choices.items()}
        count, length = self._tokens.shape
        # Before each segment but the first, the states of all samples; behind them the gradients that come back.
        self._states = States(folder, (count * len(self._segments), length, layout.program.width(program.before.exit)))
        self._generator = self._executor.torch.Generator(device).manual_seed(_SEED)

    def run(self) -> dict[str, list[float]]:
        last = len(self._segments) - 1
        try:
            for index, segment in enumerate(self._segments[:-1]):
                self._forward(index, self._load(segment))
                self._report(index)
            for index in range(last, -1, -1):
                self._backward(index, self._load(self._segments[index]))
                self._report(2 * last - index)
        finally:
            self._states.close()
        for name, costs in self._found.items():
            if not np.isfinite(costs).all():
                raise ZooError(f"{name}: its gradients on the calibration samples are NaN or overflow float32")
        return {name: [one / self._tokens.size for one in costs] for name, costs in self._found.items()}

    def _report(self, done: int) -> None:
        if self._progress is not None:
            self._progress(done + 1, 2 * len(self._segments) - 1)

    def _load(self, segment: Segment) -> dict[str, Any]:
        """Read a segment's weights from the checkpoint."""
        tensors: dict[str, Any] = {}
        for name in segment.weights:
            values = read_float32(self._placed[name].parameter, self._checkpoint, self._scratch)
            tensors[name] = self._executor.torch.from_numpy(values).to(self._executor.device)
        return tensors

    def _batches(self) -> Iterator[tuple[int, int]]:
        count, length = self._tokens.shape
        step = max(1, _BATCH // length)
        for start in range(0, count, step):
            yield start, min(start + step, count)

    def _enter(self, index: int, start: int, stop: int) -> Any:
        torch, count = self._executor.torch, len(self._tokens)
        if index == 0:
            values: NDArray[Any] = self._tokens[start:stop].astype(np.int64)
        else:
            values = self._states.read(index * count + start, index * count + stop)
        return torch.from_numpy(values).to(self._executor.device)

    def _forward(self, index: int, weights: Mapping[str, Any]) -> None:
        with self._executor.torch.no_grad():
            for start, stop in self._batches():
                state = self._executor.run(self._segments[index], self._enter(index, start, stop), weights)
                if not bool(state.isfinite().all()):
                    where = f"layer {index - 1}" if index else "the embedding"
                    raise ZooError(
                        f"{where}: what leaves it on the calibration samples is NaN or overflows float32; "
                        "its weights are damaged, or the samples are"
                    )
                self._states.write((index + 1) * len(self._tokens) + start, state.cpu().numpy())

    def _backward(self, index: int, weights: Mapping[str, Any]) -> None:
        """Send the gradients back through a segment: they take the place of the states that entered it."""
        torch, count = self._executor.torch, len(self._tokens)

        def watch(op: Operation, x: Any, y: Any) -> None:
            if not isinstance(op, Linear | Embedding) or op.weight.name not in self._choices:
                return
            if not y.requires_grad:  # the embedding: before it there is nothing to differentiate
                y.requires_grad_()
            name = op.weight.name
            y.register_hook(lambda gradient: self._meet(name, weights[name], x.detach(), gradient))

        for start, stop in self._batches():
            state = self._enter(index, start, stop)
            if index > 0:
                state.requires_grad_()
            out = self._executor.run(self._segments[index], state, weights, watch=watch)
            if index == len(self._segments) - 1:
                self._drawn(out).backward()
            else:
                above = self._states.read((index + 1) * count + start, (index + 1) * count + stop)
                out.backward(torch.from_numpy(above).to(self._executor.device))
            if index > 0:
                self._states.write(index * count + start, state.grad.cpu().numpy())

    def _drawn(self, logits: Any) -> Any:
        """Draw a token at every position from what is predicted there, and sum up their log probabilities."""
        torch = self._executor.torch
        log = logits.flatten(0, 1).log_softmax(-1)
        with torch.no_grad():
            drawn = torch.multinomial(log.exp(), 1, generator=self._generator)
        return log.gather(1, drawn).sum()

    def _meet(self, name: str, weight: Any, x: Any, gradient: Any) -> None:
        """Add ½ Σ_r (Σ_t g_tr (δ_r · x_t))² of each choice for a weight, over the samples of a batch.

        Args:
            x: what entered, (samples, tokens, in_features), or token ids (samples, tokens).
            gradient: at what left, (samples, tokens, out_features).
        """
        torch = self._executor.torch
        values = weight.cpu().numpy()
        for place, scheme in enumerate(self._choices[name]):
            total = 0.0
            if x.dtype == torch.int64:
                lost = torch.from_numpy(rounding_error(values, scheme, self._scratch)).to(gradient.device)
                meet = (gradient * torch.nn.functional.embedding(x, lost)).sum(1)
                total = float(meet.square().sum())
            else:
                step = max(1, _PIECE // values.shape[1])
                for start in range(0, len(values), step):
                    rows = np.ascontiguousarray(values[start : start + step])
                    lost = torch.from_numpy(rounding_error(rows, scheme, self._scratch)).to(gradient.device)
                    meet = (gradient[..., start : start + step] * (x @ lost.T)).sum(1)
                    total += float(meet.square().sum())
            self._found[name][place] += total / 2


def rounding_error(weight: NDArray[np.float32], scheme: Scheme, scratch: Scratch) -> NDArray[np.float32]:
    """What rounding to nearest adds to rows of a weight that get so small, float32 (rows, columns)."""
    stored = rounded(weight, scheme, "weight", scratch)
    stored -= weight
    return stored
