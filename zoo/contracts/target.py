"""What a registered target offers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import BaseModel

from zoo.contracts.encoding import Encoding
from zoo.contracts.weights import Parameter, StoredArray
from zoo.declarations.base import Value
from zoo.declarations.recipe import Precision, Recipe
from zoo.declarations.scheme import Scheme

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zoo.declarations.architecture import Architecture
    from zoo.operations.program import Program
    from zoo.package.folder import Package


View = Literal["graph", "checkpoint"]


@dataclass(frozen=True)
class PackageContents:
    """What is known of a package before a weight is read: what a target makes headers and small files from."""

    recipe: Recipe
    program: Program | None
    """The computation; None for a target that states no operations."""
    arrays: Sequence[StoredArray]
    schemes: Mapping[str, Scheme]
    """Parameter name → how small it gets."""
    companions: Mapping[str, bytes]
    """The files that the package takes from the checkpoint, by name: configuration, tokenizer, licences. Empty where no
    checkpoint was opened yet and names alone are asked for."""


class NoOptions(Value):
    """There is nothing to choose."""


class Target(Protocol):
    """What a registered target class offers; it is used through an instance made without arguments.

    A class that names this protocol as its base states what differs from the defaults here.
    """

    Options: ClassVar[type[BaseModel]] = NoOptions
    precisions: ClassVar[Mapping[Precision, str]]
    """Precision → the quantizer that the target means by it."""
    operations: ClassVar[Mapping[str, frozenset[str]] | None]
    """Operation → its features that the target implements, by the names of ``zoo.operations``; None where nothing is
    computed from operations, since another program reads the checkpoint by itself."""
    emitter_version: ClassVar[int] = 1
    """Raised when the same recipe would be emitted to other bytes."""
    needs_weights: ClassVar[bool] = True
    """Whether a build reads weights; without, files are written from the declaration alone."""
    engines: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """The engines that open what it builds, its own first: name → ``"package.module:Class"``, imported on first use.
    The class opens a package by ``open(package, threads=None)``. Empty where other programs run what it builds."""
    head_multiple: ClassVar[int] = 1
    """Head sizes that the target's kernels take are multiples of this."""
    view: ClassVar[View] = "graph"
    """Which weights are stored: those of the graph, fused as its kernels like them, or the checkpoint's own tensors
    under their own names. A target without weights has neither this nor an encoding."""
    encoding: ClassVar[Encoding]
    """How a weight lies in arrays. Where a target has ``rounds_activations = True``, its kernels round what quantized
    weights are multiplied with, and channels are rescaled before (``zoo build --smoothing``)."""

    def check(self, recipe: Recipe) -> None:
        """Refuse a recipe that the target cannot serve.

        Raises:
            ZooError: which rule is broken, and why it is one.
        """

    def place(
        self, recipe: Recipe, parameters: Sequence[Parameter], schemes: Mapping[str, Scheme]
    ) -> Iterable[StoredArray]:
        """Place every array that the encoding lays out, in writing order: file by file, offsets growing.

        A parameter's arrays follow each other in one file, the largest first.
        """
        ...

    def headers(self, contents: PackageContents) -> Mapping[str, bytes]:
        """Make what data files begin with, by file; offsets are counted from its end. Most formats have none."""
        return {}

    def files(self, contents: PackageContents) -> Iterable[tuple[str, bytes]]:
        """Make the files that hold no weights: the graph, the configuration of other runtimes.

        One of the name of a companion replaces it.
        """
        ...


@runtime_checkable
class Adapting(Protocol):
    """What a target offers beside ``Target`` whose runtime reads only some of what quantizers make."""

    quantizer_options: ClassVar[Mapping[Precision, Mapping[str, Any]]]
    """Precision → options of a quantizer that begin otherwise for this target, where the quantizer has them."""

    def encoding_for(self, recipe: Recipe) -> Encoding:
        """Choose how weights lie in arrays, where the target's options have a say; else its ``encoding``."""
        ...

    def adapt(self, recipe: Recipe, parameter: Parameter, scheme: Scheme) -> Scheme:
        """State how small a weight gets here: the type of its scales, or floats where the runtime takes nothing else.

        Raises:
            ZooError: the runtime cannot read such a scheme, with what it can.
        """
        ...


@runtime_checkable
class Selective(Protocol):
    """What a target without ``operations`` offers beside ``Target`` whose runtime computes some models alone."""

    def lacks(self, arch: Architecture) -> list[str]:
        """Name what the runtime lacks for a model; empty where it computes it."""
        ...


@runtime_checkable
class Rearranging(Protocol):
    """What a target of the checkpoint's view offers beside ``Target`` whose runtime wants tensors cut otherwise."""

    def rearranged(self, recipe: Recipe, parameters: Sequence[Parameter]) -> Sequence[Parameter]:
        """Give what is stored for the checkpoint's tensors: slices in another order, several tensors in one, parts."""
        ...


@runtime_checkable
class ReadBack(Protocol):
    """What a target offers beside ``Target`` whose packages are verified as programs of other makers read them."""

    verified_by: ClassVar[str]
    """The one of its ``engines`` whose logits ``zoo verify`` compares."""

    def read_back(self, package: Package) -> Iterable[tuple[str, NDArray[np.float32]]]:
        """Read every stored weight by another maker's code: name → (rows, columns), rows in the order stored.

        Raises:
            ZooError: that code is not installed, or refuses the package.
        """
        ...


@runtime_checkable
class WeightsOptional(Protocol):
    """What a target offers beside ``Target`` that stores weights, or writes documents alone, as its options say."""

    without_weights: ClassVar[Mapping[str, Any]]
    """The options with which it reads no weights and is a ``DocumentTarget``."""


def reads_weights(target: Target, options: Mapping[str, Any]) -> bool:
    """Tell whether a build for a target with these options reads weights."""
    without = target.without_weights if isinstance(target, WeightsOptional) else None
    return target.needs_weights and (without is None or not without.items() <= options.items())
