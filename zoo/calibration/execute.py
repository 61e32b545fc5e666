"""Operations computed by torch in float32, on the CPU or on a GPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from zoo.calibration.program import Segment
from zoo.contracts import Parameter
from zoo.errors import UsageError, ZooError
from zoo.operations import Experts, Linear, Operation, TokenIds
from zoo.operations.compute import TorchRun

Observe = Callable[[Parameter, Any], None]
"""Told of each linear's weight and of its input, (tokens, in_features)."""
Watch = Callable[[Operation, Any, Any], None]
"""Told of each operation that has a weight, of its first input and of its output."""
Mix = Callable[[Experts, TorchRun], Any]
"""Makes the result of experts in their stead, (batch, tokens, hidden)."""


def wait_asleep() -> None:
    """Have torch's threads sleep between products, before it is imported: they spin otherwise, half of their time."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def require_torch() -> Any:
    """Import torch.

    Raises:
        ZooError: it is not installed, with what installs it.
    """
    wait_asleep()
    try:
        import torch
    except ImportError:
        raise ZooError(
            "calibration computes with torch, which is not installed: pip install 'model-zoo-framework[calibrate]'"
        ) from None
    return torch


def check_device(name: str) -> None:
    """Refuse a name that no device has.

    Raises:
        UsageError: it is neither ``cpu`` nor ``cuda``.
    """
    if name != "cpu" and name.split(":")[0] != "cuda":
        raise UsageError(f"device {name!r} is not known; cpu or cuda")


def choose_device(name: str) -> str:
    """Check that this machine has a device.

    Raises:
        UsageError: nothing is called so.
        ZooError: no such device on this machine.
    """
    check_device(name)
    torch = require_torch()
    if name == "cpu":
        return name
    if not torch.cuda.is_available():
        raise ZooError("device 'cuda': torch sees no CUDA device on this machine; leave --device out to use the CPU")
    return name


class Executor:
    """Runs segments with given weights.

    Args:
        device: where to compute.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.torch = require_torch()
        self.device = choose_device(device)
        self._kept: dict[Hashable, Any] = {}

    def run(
        self,
        segment: Segment,
        state: Any,
        weights: Mapping[str, Any],
        observe: Observe | None = None,
        until: set[str] | None = None,
        watch: Watch | None = None,
        mix: Mix | None = None,
    ) -> Any:
        """Send values through a segment.

        Args:
            state: what enters, (batch, tokens, hidden), or token ids (batch, tokens).
            weights: parameter name → tensor on the device.
            observe: told of the inputs of linears.
            until: names of linears to observe; nothing after the last of them is computed.
            watch: told of what operations with a weight read and make.
            mix: makes what experts would, or None, and nothing after them is computed.

        Returns:
            What leaves, or None where it ended before.
        """
        run = TorchRun(self.torch, {segment.entry: state}, weights, self._kept)
        left = set(until) if until is not None else None
        last = {value: step for step in segment.steps for value in step.operation.inputs}
        for step in segment.steps:
            operation = step.operation
            if isinstance(operation, TokenIds):
                continue
            if isinstance(operation, Linear) and observe is not None:
                if left is None or operation.weight.name in left:
                    x = run.values[operation.x]
                    observe(operation.weight, x.reshape(-1, x.shape[-1]))
                if left is not None:
                    left.discard(operation.weight.name)
                    if not left:
                        return None
            if mix is not None and isinstance(operation, Experts):
                result = mix(operation, run)
                if result is None:
                    return None
            else:
                result = operation.compute(run)
            if watch is not None and operation.weights:
                watch(operation, run.values[operation.inputs[0]], result)
            run.values[step.output] = result
            for value in operation.inputs:
                if last[value] is step and value != segment.exit:
                    run.values.pop(value, None)
        return run.values[segment.exit]
