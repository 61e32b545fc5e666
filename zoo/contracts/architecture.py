"""What a registered architecture offers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from zoo.contracts.weights import Parameter
from zoo.declarations.architecture import Architecture

if TYPE_CHECKING:
    from zoo.contracts.checkpoint import Checkpoint
    from zoo.operations.record import GraphOps


class ArchitecturePart(Protocol):
    """What a registered architecture class offers; it is used through an instance made without arguments.

    A class that names this protocol as its base gets ``tensors``, ``parameter_count`` and ``ignored`` from its
    ``parameters``.
    """

    activations: ClassVar[frozenset[str]]

    def read_config(self, config: Mapping[str, Any], implied: Mapping[str, Any] = ...) -> Architecture:
        """Read a checkpoint's ``config.json``.

        Args:
            implied: fields that hold where the file is silent, because they follow from its ``model_type``.

        Raises:
            ZooError: a key says something that the architecture does not compute; the message names the key.
        """
        ...

    def tensors(self, arch: Architecture) -> dict[str, tuple[int, ...]]:
        """Name every tensor that a checkpoint of these numbers holds, with its shape."""
        return {rows.tensor: rows.tensor_shape for weight in self.parameters(arch) for rows in weight.slices}

    def parameter_count(self, arch: Architecture) -> int:
        """Count the weights of those tensors, a tied one once; lists ask it of every model."""
        return sum(weight.size for weight in self.parameters(arch))

    def ignored(self, arch: Architecture, name: str) -> bool:
        """Tell whether a tensor of a checkpoint carries nothing (a derived buffer) and may stay unread."""
        return False

    def parameters(self, arch: Architecture, head_multiple: int = 1) -> list[Parameter]:
        """List the weights of the graph in the order they are used; together they read every tensor.

        Args:
            head_multiple: the target's kernels want head sizes that are multiples of it; heads are widened with zeros.
        """
        ...

    def forward(self, arch: Architecture, ops: GraphOps, head_multiple: int = 1) -> None:
        """Compose the computation; it is recorded once, and everything that computes or draws follows the record.

        Layers are composed inside ``with ops.layer(index)``, and exactly one value goes from each to the next.
        """
        ...


@runtime_checkable
class RepeatingLayers(Protocol):
    """What an architecture may offer whose layers repeat: lists ask of thousands of models what a target lacks."""

    def one_of_each_layer(self, arch: Architecture) -> Architecture:
        """Shorten the numbers to a few layers that compose the same operations with the same features."""
        ...


def few_layers(part: ArchitecturePart, arch: Architecture) -> Architecture:
    """Shorten a model's numbers where its architecture offers it: what holds for them holds for the whole model."""
    return part.one_of_each_layer(arch) if isinstance(part, RepeatingLayers) else arch


@runtime_checkable
class InTransformers(Protocol):
    """What an architecture may offer too: how transformers computes the same from the same checkpoint.

    Without, a checkpoint whose ``model_type`` transformers has is compared with that, and any other with the
    architecture's own operations.
    """

    def transformers_config(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Write the ``config.json`` of the same computation as a ``model_type`` that transformers has."""
        ...

    def transformers_weight(self, arch: Architecture, name: str) -> Parameter | None:
        """Say which rows of the checkpoint's tensors are transformers' weight ``name``; None where it has none."""
        ...


@runtime_checkable
class Elsewhere(Protocol):
    """What an architecture may offer too, where ``InTransformers`` depends on the numbers."""

    def in_transformers(self, arch: Architecture) -> InTransformers | None:
        """Say how transformers computes these numbers, where that is not by the checkpoint's own type and names."""
        ...


@runtime_checkable
class StoredOtherwise(Protocol):
    """What an architecture may offer too, where checkpoints of the same numbers hold other tensors."""

    def as_stored(self, arch: Architecture, tensors: Collection[str]) -> Architecture:
        """Finish numbers by what the tensors are called; their ``config.json`` does not tell."""
        ...


@runtime_checkable
class SwappedAxes(Protocol):
    """What an architecture may offer too, where checkpoints store matrices as (…, in, out)."""

    def swapped(self, arch: Architecture, checkpoint: Checkpoint) -> Collection[str]:
        """Name those tensors of a checkpoint whose last two axes are swapped."""
        ...


@runtime_checkable
class OwnConfig(Protocol):
    """What an architecture may offer too: how its ``config.json`` states numbers, where not by their own names."""

    def write_config(self, arch: Architecture) -> Mapping[str, Any]:
        """Write the keys that ``read_config`` reads as these numbers; the conformance kit makes checkpoints of them."""
        ...


@runtime_checkable
class Shrinking(Protocol):
    """What an architecture may offer too: how it is made small, where its ``options`` are to be."""

    def shrink(self, arch: Architecture) -> Architecture:
        """Finish numbers of which the kit has made all but ``options`` small; keep every quirk."""
        ...
