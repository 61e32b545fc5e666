"""What a part must offer: the protocols behind the hooks, and the few values that parts hand to each other.

A part is registered by a string, ``"package.module:Class"``, and imported on first use.

- An **architecture** says *what* is computed.
- A **quantizer** says *how small* a weight gets.
- A **target** says *for whom*.
- A **checkpoint** is where the weights come from.

Only the builder knows all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import BaseModel

from zoo.declarations.architecture import Architecture
from zoo.declarations.recipe import Precision, Recipe
from zoo.declarations.storage import BlockStorage, FloatStorage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CheckpointDType = Literal["F32", "F16", "BF16"]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor of a checkpoint, as its header states it."""

    name: str
    dtype: str
    """Safetensors' name of the type, ``F32``, ``F16`` or ``BF16`` where it can be built from."""
    shape: tuple[int, ...]
    nbytes: int
    file: str = ""
    """The file that holds it, by its name inside the checkpoint."""


class Checkpoint(Protocol):
    """An opened source of weights: headers at once, weights by the slab."""

    @property
    def name(self) -> str:
        """A label for messages and for the package: a hub id or the folder's own name; never a path."""
        ...

    @property
    def config(self) -> Mapping[str, Any]:
        """``config.json``."""
        ...

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Every tensor, by name."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 over configuration, tokenizer, tensor headers and file sizes."""
        ...

    def read(self, name: str, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Read rows ``start`` to ``stop`` of a tensor (its first axis), in the stored type.

        BF16 comes as ``uint16`` bit patterns. With ``out``, a flat buffer that is large enough, the rows are read into
        it and the result is a view of it. Safe to call from several threads at once.

        Raises:
            ZooError: the file cannot be read, or became shorter.
        """
        ...

    def stamps(self) -> dict[str, tuple[int, int]]:
        """Size and modification time (ns) of every file of weights, to notice a change while or between builds."""
        ...

    def path(self, filename: str) -> Path | None:
        """Find a file beside the weights (a tokenizer, a licence), or None."""
        ...

    def licences(self) -> list[str]:
        """List the licence texts beside the weights, by file name."""
        ...


@dataclass(frozen=True, slots=True)
class HeadPadding:
    """Widen every head of a projection with zeros, so that a kernel that wants rounder heads computes the same.

    ``size`` values a head become ``padded``. With ``rotary``, the two halves that rotary embedding turns against each
    other are moved to the halves of the wider head: value i of the second half goes to ``padded / 2 + i``.
    """

    heads: int
    size: int
    padded: int
    rotary: bool


@dataclass(frozen=True, slots=True)
class Part:
    """One checkpoint tensor inside a parameter."""

    tensor: str
    shape: tuple[int, ...]
    """The shape that the checkpoint must have it in."""
    pad_rows: HeadPadding | None = None
    """Widen heads along the first axis (q, k, v projections and their biases)."""
    pad_columns: HeadPadding | None = None
    """Widen heads along the last axis (the attention's output projection)."""
    offset: float = 0.0
    """Added to every value in float32 before anything else is done with it."""

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape after padding."""
        shape = list(self.shape)
        if self.pad_rows is not None:
            shape[0] = self.pad_rows.heads * self.pad_rows.padded
        if self.pad_columns is not None:
            shape[-1] = self.pad_columns.heads * self.pad_columns.padded
        return tuple(shape)


ParameterKind = Literal["linear", "embedding", "norm", "bias"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A weight of the graph: one or several checkpoint tensors stacked along the first axis."""

    name: str
    """Its name in the graph, for example ``model.layers.0.attn.qkv_proj.weight``."""
    kind: ParameterKind
    parts: tuple[Part, ...]
    layer: int | None = None
    """The decoder layer it belongs to; None outside the layers."""
    role: str = ""
    """Its role without the layer number, for example ``attn.qkv_proj``, ``embed_tokens``, ``lm_head``."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(out_features, in_features) of a linear, (vocab, hidden) of an embedding, (size,) of a norm or a bias."""
        rows = sum(part.stored_shape[0] for part in self.parts)
        return (rows, *self.parts[0].stored_shape[1:])


@dataclass(frozen=True, slots=True)
class Rotary:
    """How positions turn the halves of a head against each other.

    Position p turns pair i by the angle p · frequencies[i]; cosines and sines are multiplied by ``magnitude``.
    """

    frequencies: NDArray[np.float32]
    """(head_dim / 2,), radians a position; zero where a pair is padding."""
    exponents: NDArray[np.float32]
    """(head_dim / 2,): 2i / head size, so that a frequency is θ^-exponent; used when the base grows."""
    turning: int
    """Pairs that are no padding."""
    magnitude: float
    context: int
    """Positions to make tables for."""
    growth: tuple[float, float, int, float] | None = None
    """Dynamic NTK scaling, (θ, factor, original context, power): at a length n over the original context c,
    θ becomes θ · (factor · n / c - (factor - 1)) ^ power. Position p is turned as at length p + 1, which is what
    transformers does to each token that it generates."""


class GraphOps(Protocol):
    """The operations an architecture composes; a target implements them. Values are opaque handles.

    Hidden states are float (batch, sequence, hidden). Weights are named by their ``Parameter``; how they are stored is
    the target's and the quantizer's matter.
    """

    def tokens(self) -> Any:
        """The input token ids, int64 (batch, sequence)."""
        ...

    def embedding(self, name: str, ids: Any, weight: Parameter) -> Any:
        """Look rows of ``weight`` up: (batch, sequence) → (batch, sequence, hidden)."""
        ...

    def rms_norm(self, name: str, x: Any, weight: Parameter, eps: float) -> Any:
        """x / sqrt(mean(x²) + eps) · weight."""
        ...

    def add_rms_norm(self, name: str, x: Any, residual: Any, weight: Parameter, eps: float) -> tuple[Any, Any]:
        """Return (rms_norm(x + residual), x + residual)."""
        ...

    def linear(self, name: str, x: Any, weight: Parameter, bias: Parameter | None = None) -> Any:
        """x · weightᵀ + bias."""
        ...

    def attention(
        self,
        name: str,
        qkv: Any,
        *,
        layer: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        scale: float,
        rotary: Rotary,
        window: int | None = None,
    ) -> Any:
        """Causal attention with rotary embedding over packed (q, k, v) and the layer's KV cache.

        With ``window`` a token sees itself and the ``window - 1`` tokens before it.
        """
        ...

    def norm_heads(
        self,
        name: str,
        qkv: Any,
        q_weight: Parameter,
        k_weight: Parameter,
        eps: float,
        *,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
    ) -> Any:
        """RMSNorm of each head of q and of k in packed (q, k, v); the weights are (head_dim,). v stays."""
        ...

    def scale(self, name: str, x: Any, factor: float) -> Any:
        """x · factor, the factor rounded to float32."""
        ...

    def activation(self, name: str, kind: str, x: Any) -> Any:
        """Apply an activation by its ``hidden_act`` name."""
        ...

    def multiply(self, name: str, a: Any, b: Any) -> Any: ...

    def add(self, name: str, a: Any, b: Any) -> Any: ...

    def last_positions(self, name: str, x: Any) -> Any:
        """Keep the positions whose logits were asked for: the last one unless the caller says otherwise."""
        ...

    def logits(self, x: Any) -> None:
        """Declare the result, float (batch, positions, vocab)."""
        ...


class ArchitecturePart(Protocol):
    """What a registered architecture class offers; it is used through an instance made without arguments."""

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
        ...

    def ignored(self, arch: Architecture, name: str) -> bool:
        """Tell whether a tensor of a checkpoint carries nothing (a derived buffer) and may stay unread."""
        ...

    def parameters(self, arch: Architecture, head_multiple: int = 1) -> list[Parameter]:
        """List the weights of the graph in the order they are used; together they read every tensor.

        Args:
            head_multiple: the target's kernels want head sizes that are multiples of it; heads are widened with zeros.
        """
        ...

    def forward(self, arch: Architecture, ops: GraphOps, head_multiple: int = 1) -> None:
        """Compose the computation."""
        ...


class Slab(Protocol):
    """A few whole rows of a parameter, in the checkpoint's type until someone asks for numbers.

    Rows are handed out a tile at a time; a tile of ``tile_rows`` keeps the work in the cache. What a method returns is
    valid until the next call on the same thread, and may be overwritten.

    Every method raises ``ZooError`` with the tensor's name where a value is NaN or infinite.
    """

    rows: int
    columns: int
    tile_rows: int

    def float32(self, start: int, stop: int, width: int | None = None) -> NDArray[np.float32]:
        """Rows ``start`` to ``stop``, contiguous (stop - start, width); columns past the last are zeros."""
        ...

    def absmax(self, start: int, stop: int, block: int) -> NDArray[np.float32]:
        """The largest magnitude in each block of columns, (stop - start, blocks)."""
        ...

    def extreme(self, start: int, stop: int, block: int) -> NDArray[np.float32]:
        """The value of largest magnitude, with its sign, in each block of columns, (stop - start, blocks)."""
        ...

    def extremes(self, start: int, stop: int, block: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The smallest value or zero, and the largest value or zero, in each block of columns."""
        ...

    def float16(self, start: int, stop: int) -> NDArray[np.float16]:
        """Rows ``start`` to ``stop``, rounded where the checkpoint's type is wider.

        Raises:
            ZooError: a value is too large for float16.
        """
        ...


class LayerActivations(Protocol):
    """What a calibrated quantizer may ask about the inputs of a parameter."""

    device: str
    """Where heavy arithmetic belongs: ``cpu`` or ``cuda``."""
    tokens: int
    """Calibration tokens that were seen."""

    def hessian(self, parameter: Parameter) -> NDArray[np.float32]:
        """Σ x xᵀ over the calibration tokens, float32 (in_features, in_features); read it, do not change it.

        Linears that read the same value share it.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FoldLink:
    """A place where channels can be rescaled without changing what the layer computes."""

    source: Parameter
    """What makes the channels: a norm, or the rows of a linear."""
    bias: Parameter | None
    """The source's bias, which is rescaled with it."""
    rows: NDArray[np.intp]
    """(in_features,): which row of the source makes each channel."""
    consumers: tuple[Parameter, ...]
    """All linears that read the channels; nothing else does."""


class FoldableLayer(LayerActivations, Protocol):
    """A decoder layer before it is quantized."""

    @property
    def links(self) -> list[FoldLink]:
        """Where channels can be rescaled."""
        ...

    def weight(self, parameter: Parameter) -> NDArray[np.float32]:
        """The values of a parameter as they are now; read them, do not change them."""
        ...

    def fold(self, link: FoldLink, scales: NDArray[np.float32]) -> None:
        """Divide the source's rows by ``scales``, (in_features,), and multiply the consumers' columns by them."""
        ...


@runtime_checkable
class Folding(Protocol):
    """What a calibrated quantizer offers beside ``quantize`` when it rescales channels first."""

    def fold(self, layer: FoldableLayer) -> None:
        """Rescale what it wants by ``layer.fold``; called once a layer, with all its Hessians, before ``quantize``."""
        ...


class Quantizer(Protocol):
    """What a registered quantizer class offers. An instance is one choice of precision and options.

    With ``needs_activations``, a build sends calibration samples through the layers and gives ``quantize`` the
    statistics of each linear's inputs; embeddings, norms and biases come without. Two more members are then looked for:
    ``true_sequential``, a bool (observe each group of linears only after those before it are quantized), and ``fold``
    (see ``Folding``).
    """

    Options: ClassVar[type[BaseModel]]
    precisions: ClassVar[tuple[Precision, ...]]
    needs_activations: ClassVar[bool]
    options: BaseModel
    """The options with every default of this precision spelled out; they enter the recipe."""

    def __init__(self, precision: Precision, options: Any) -> None: ...

    def storage(self, parameter: Parameter) -> FloatStorage | BlockStorage:
        """Say how a parameter will lie in the package; depends on nothing but the parameter."""
        ...

    def quantize(
        self,
        parameter: Parameter,
        slab: Slab,
        out: Mapping[str, NDArray[Any]],
        activations: LayerActivations | None = None,
    ) -> None:
        """Fill ``out``, the slab's rows of each array of ``storage(parameter)``. Safe to call from several threads.

        Every array of ``out`` begins at the slab's first row: ``(slab.rows, ...)``.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoredArray:
    """One array of a stored parameter, placed in the data file."""

    parameter: Parameter
    array: str
    """``weight``, ``scales`` or ``zero_points``."""
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


class Target(Protocol):
    """What a registered target class offers; it is used through an instance made without arguments."""

    Options: ClassVar[type[BaseModel]]
    precisions: ClassVar[Mapping[Precision, str]]
    """Precision → the quantizer that the target means by it."""
    architectures: ClassVar[tuple[str, ...]]
    emitter_version: ClassVar[int]
    """Raised when the same recipe would be emitted to other bytes."""
    needs_weights: ClassVar[bool]
    """Whether a build reads weights; without, files are written from the declaration alone."""
    runnable: ClassVar[bool]
    """Whether the engine opens what it builds."""
    head_multiple: ClassVar[int]
    """Head sizes that the target's kernels take are multiples of this."""
    data_file: ClassVar[str]
    """The file of the package that holds the weights, for example ``model.onnx.data``."""

    def check(self, recipe: Recipe) -> None:
        """Refuse a recipe that the target cannot serve.

        Raises:
            ZooError: which rule is broken, and why it is one.
        """
        ...

    def place(
        self, parameters: Sequence[Parameter], storages: Mapping[str, FloatStorage | BlockStorage]
    ) -> list[StoredArray]:
        """Place every stored array in the data file, in writing order.

        Offsets grow, and a parameter's arrays follow each other.
        """
        ...

    def files(
        self,
        recipe: Recipe,
        architecture: ArchitecturePart | None,
        arrays: Sequence[StoredArray],
        storages: Mapping[str, FloatStorage | BlockStorage],
    ) -> Iterable[tuple[str, bytes]]:
        """Make the files that hold no weights: the graph, the configuration of other runtimes."""
        ...
