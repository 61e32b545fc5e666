"""The reference: transformers' own modules over the original weights in float32, one decoder layer in memory at a time.

The model is made with its weights on PyTorch's meta device, where they take no memory. Its own ``forward`` then runs
with every layer replaced by a stub: once to learn what each layer is called with (masks, rotary angles), and at the end
to turn the last hidden states into logits. In between each layer is filled with its weights, called as its model would
call it, and emptied again. So whatever a model does around its layers (scaled embeddings, windows, soft caps) is what
it does here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zoo.calibration.execute import wait_asleep
from zoo.calibration.weights import read_float32
from zoo.contracts import ArchitecturePart, Checkpoint, Elsewhere, InTransformers, Parameter, flat_shape
from zoo.declarations.architecture import Architecture
from zoo.errors import ZooError
from zoo.quantizers.slab import Scratch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SLAB = 64 * 2**20
"""Bytes of a tensor that are widened to float32 at a time."""
_BATCH = 1024
"""Positions that go through a layer at once, where no single sequence is longer."""
_FILLED = 0.75
"""Share of a batch's longest sequence that every other one has at least."""


def require_reference() -> None:
    """Check that torch and transformers are there.

    Raises:
        ZooError: one is missing; the message says how to install it.
    """
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    wait_asleep()
    try:
        import torch  # noqa: F401
        import transformers
    except ImportError as error:
        raise ZooError(
            f"the reference needs {error.name}, which is not installed; install it with: "
            "pip install 'model-zoo-framework[verify]'"
        ) from None
    logging: Any = transformers.logging
    logging.set_verbosity_error()


@contextmanager
def _weightless() -> Iterator[None]:
    """Put every weight that a module registers on the meta device at once; what modules compute stays real."""
    from torch.nn import Module

    patched: Any = Module
    original = patched.register_parameter

    def register(self: Any, name: str, weight: Any) -> None:
        original(self, name, None if weight is None else _on_meta(weight))

    patched.register_parameter = register
    try:
        yield
    finally:
        patched.register_parameter = original


def _on_meta(weight: Any) -> Any:
    from torch.nn import Parameter

    return Parameter(weight.detach().to("meta"), requires_grad=False)


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Put sequences of about one length together: small matrices waste most of a processor's time.

    Returns:
        Indices of sequences, the longest of a batch first.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        longest = lengths[batches[-1][0]] if batches else 0
        if lengths[index] < longest * _FILLED or not batches or (len(batches[-1]) + 1) * longest > _BATCH:
            batches.append([])
        batches[-1].append(index)
    return batches


def knows(checkpoint: Checkpoint, part: ArchitecturePart, arch: Architecture) -> bool:
    """Tell whether transformers has the computation of a checkpoint."""
    from transformers import CONFIG_MAPPING

    return _elsewhere(part, arch) is not None or str(checkpoint.config.get("model_type")) in CONFIG_MAPPING


def _elsewhere(part: ArchitecturePart | None, arch: Architecture | None) -> InTransformers | None:
    """Find how transformers computes the same, where that is not by the checkpoint's own type and names."""
    if arch is None:
        return None
    if isinstance(part, InTransformers):
        return part
    return part.in_transformers(arch) if isinstance(part, Elsewhere) else None


class TransformersReference:
    """transformers' model of a checkpoint, its weights read only while they are needed (the ``Reference`` protocol).

    Args:
        part: the architecture, which may say how transformers computes the same; without, the checkpoint's own
            ``config.json`` and names are transformers'.

    Raises:
        ZooError: transformers does not know the ``model_type``, or lays the model out in a way that cannot be cut.
    """

    name = "transformers"

    def __init__(
        self, checkpoint: Checkpoint, part: ArchitecturePart | None = None, arch: Architecture | None = None
    ) -> None:
        require_reference()
        import torch
        from transformers import CONFIG_MAPPING, AutoModelForCausalLM

        maker: Any = AutoModelForCausalLM
        self._checkpoint, self._arch, self._scratch = checkpoint, arch, Scratch()
        self._elsewhere = _elsewhere(part, arch)
        stated = (
            checkpoint.config if self._elsewhere is None else self._elsewhere.transformers_config(checkpoint.config)
        )
        kind = str(stated.get("model_type"))
        if kind != checkpoint.config.get("model_type"):
            self.name = f"transformers, as {kind}"
        if kind not in CONFIG_MAPPING:
            raise ZooError(f"{checkpoint.name}: transformers does not know model_type {kind!r}: there is no reference")
        try:
            config = CONFIG_MAPPING[kind].from_dict(dict(stated))
            with _weightless():
                self._model: Any = maker.from_config(config, dtype=torch.float32)
        except Exception as error:  # whatever a model's own code makes of the file
            line = " ".join(str(error).split())[:300]
            raise ZooError(f"{checkpoint.name}: transformers refuses its config.json: {line}") from None
        self._model.eval()
        self._names = {id(module): name for name, module in self._model.named_modules()}
        self._layers = self._find_layers()
        self._embed = self._model.get_input_embeddings()
        self._head = self._model.get_output_embeddings()
        if self._head is None or self._embed is None:
            raise ZooError(f"{checkpoint.name}: transformers' {type(self._model).__name__} has no embedding or no head")
        self._arguments: list[list[tuple[tuple[Any, ...], dict[str, Any]]]] = []
        self._hidden: list[Any] = []
        self._rows_of: dict[int, tuple[int, int, int]] = {}
        """Of each sequence: batch, row and length."""
        self._beside: tuple[Any, ...] | None = None
        """What a layer returns behind its hidden states, in a tuple; None where it returns the states alone."""

    @property
    def num_layers(self) -> int:
        return len(self._layers)

    def begin(self, sequences: Sequence[NDArray[np.int64]]) -> None:
        """Embed token sequences and learn how the layers are called.

        Args:
            sequences: token ids, each (length,).
        """
        import numpy as np
        import torch

        self._fill_around()
        self._arguments, self._hidden, self._rows_of = [], [], {}
        with torch.inference_mode():
            self._learn_result()
            self._fill(self._embed)
            for batch, members in enumerate(_batches([len(ids) for ids in sequences])):
                # Nothing looks ahead, so what stands behind a shorter sequence changes nothing before it.
                ids = np.zeros((len(members), len(sequences[members[0]])), np.int64)
                for row, index in enumerate(members):
                    length = len(sequences[index])
                    ids[row, :length] = sequences[index]
                    self._rows_of[index] = (batch, row, length)
                calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
                first: list[Any] = []

                def stub(hidden: Any, *args: Any, calls: Any = calls, first: Any = first, **kwargs: Any) -> Any:
                    if not first:
                        first.append(hidden)
                    calls.append((args, kwargs))
                    return self._returned(hidden)

                with self._stubbed(stub):
                    self._model.base_model(input_ids=torch.from_numpy(ids), use_cache=False)
                if len(calls) != self.num_layers:
                    raise ZooError(
                        f"{self._checkpoint.name}: transformers' {type(self._model).__name__} called {len(calls)} of "
                        f"its {self.num_layers} layers; zoo cannot cut it"
                    )
                self._arguments.append(calls)
                self._hidden.append(first[0])
        self._empty(self._embed)

    def step(self, layer: int) -> None:
        """Send every sequence through the next layer."""
        import torch

        module = self._layers[layer]
        self._fill(module)
        with torch.inference_mode():
            for index, calls in enumerate(self._arguments):
                args, kwargs = calls[layer]
                result = module(self._hidden[index], *args, **kwargs)
                self._hidden[index] = result if self._beside is None else result[0]
        self._empty(module)

    def states(self, sequence: int) -> NDArray[np.float32]:
        """The hidden states of a sequence as they are now, (length, hidden)."""
        array: NDArray[np.float32] = self._of(sequence)[0].numpy()
        return array

    def _of(self, sequence: int) -> Any:
        """The hidden states of a sequence, (1, length, hidden)."""
        batch, row, length = self._rows_of[sequence]
        return self._hidden[batch][row : row + 1, :length]

    def logits(self, sequence: int, start: int, stop: int) -> NDArray[np.float32]:
        """The logits of positions ``start`` to ``stop`` after the last layer, (positions, vocab)."""
        import torch

        if any(parameter.is_meta for parameter in self._head.parameters()):
            self._fill(self._head)
        hidden = self._of(sequence)
        with torch.inference_mode(), self._stubbed(lambda _given, *args, **kwargs: self._returned(hidden)):
            keep = torch.arange(start, stop)
            logits = self._model(inputs_embeds=hidden, use_cache=False, logits_to_keep=keep).logits
        array: NDArray[np.float32] = logits[0].float().numpy()
        return array

    def _learn_result(self) -> None:
        """Send one token through the first layer, to learn whether its model expects a tuple of it."""
        import torch

        first, width = self._layers[0], self._embed.weight.shape[1]
        results: list[Any] = []
        self._fill(first)
        hook = first.register_forward_hook(lambda _module, _given, result: results.append(result))
        with self._stubbed(lambda *args, **kwargs: results[0], 1):
            self._model.base_model(inputs_embeds=torch.zeros(1, 1, width), use_cache=False)
        hook.remove()
        self._empty(first)
        self._beside = results[0][1:] if isinstance(results[0], tuple) else None

    def _returned(self, hidden: Any) -> Any:
        """Return hidden states as a layer would."""
        return hidden if self._beside is None else (hidden, *self._beside)

    def _find_layers(self) -> list[Any]:
        """Find the list of decoder layers inside the model."""
        import torch

        count = self._model.config.get_text_config().num_hidden_layers
        for module in self._model.base_model.modules():
            if isinstance(module, torch.nn.ModuleList) and len(module) == count:
                return list(module)
        raise ZooError(
            f"{self._checkpoint.name}: transformers' {type(self._model).__name__} holds no list of {count} layers; "
            "zoo cannot cut it"
        )

    @contextmanager
    def _stubbed(self, stub: Any, start: int = 0) -> Iterator[None]:
        """Replace what the layers from ``start`` on do while the model runs around them."""
        for layer in self._layers[start:]:
            layer.forward = stub
        try:
            yield
        finally:
            for layer in self._layers[start:]:
                del layer.forward

    def _fill_around(self) -> None:
        """Fill what is neither layer nor embedding nor head: final norm, position tables."""
        inside = {id(part) for layer in self._layers for part in layer.modules()}
        inside |= {id(self._embed), id(self._head)}
        for module in self._model.modules():
            if id(module) in inside:
                continue
            if any(weight.is_meta for weight in module.parameters(recurse=False)):
                self._fill(module, inside=False)

    def _fill(self, module: Any, *, inside: bool = True) -> None:
        """Read a module's weights, those of the modules inside it included.

        A value that the checkpoint need not hold, since the module computed it, stays as it is.
        """
        prefix, state = self._names[id(module)], {}
        for name, value in module.state_dict().items():
            if "." in name and not inside:
                continue
            full = f"{prefix}.{name}" if prefix else name
            if value.is_meta or self._rows(full) is not None or self._stored_name(full) in self._checkpoint.tensors:
                state[name] = self._tensor(full, tuple(value.shape))
        module.load_state_dict(state, assign=True, strict=False)

    def _empty(self, module: Any) -> None:
        for part in module.modules():
            for name, weight in part.named_parameters(recurse=False):
                part.register_parameter(name, _on_meta(weight))

    def _tensor(self, name: str, shape: tuple[int, ...]) -> Any:
        """Read a weight as float32, by the name that transformers gives it."""
        import torch

        if (rows_of := self._rows(name)) is not None:
            own = torch.from_numpy(read_float32(rows_of, self._checkpoint, self._scratch))
            if own.numel() != math.prod(shape):
                raise ZooError(
                    f"{self._checkpoint.name}: {rows_of.name} is {rows_of.shape}; transformers expects {shape}"
                )
            return own.mT.contiguous() if rows_of.transposed else own.reshape(shape)
        info = self._checkpoint.tensors.get(stored := self._stored_name(name))
        if info is None:
            raise ZooError(f"{self._checkpoint.name}: transformers' {name!r} is not among its tensors")
        if info.shape != shape:
            raise ZooError(f"{info.file}: tensor {stored!r} is {info.shape}; transformers expects {shape}")
        if not shape:
            raise ZooError(f"{info.file}: tensor {stored!r} is a single number, which zoo does not read")
        out = torch.empty(shape, dtype=torch.float32)
        count, columns = flat_shape(shape)
        flat = out.view(count, columns)
        step = max(1, _SLAB * count // max(1, info.nbytes))
        for start in range(0, count, step):
            stop = min(start + step, count)
            rows = torch.from_numpy(self._checkpoint.read(stored, start, stop)).view(-1, columns)
            flat[start:stop] = rows.view(torch.bfloat16) if info.dtype == "BF16" else rows
        return out

    def _rows(self, name: str) -> Parameter | None:
        """Find what the architecture says that transformers' weight is made of."""
        if self._elsewhere is None or self._arch is None:
            return None
        head, embed = (f"{self._names[id(part)]}.weight" for part in (self._head, self._embed))
        tied = name == head and self._model.config.get_text_config().tie_word_embeddings
        return self._elsewhere.transformers_weight(self._arch, embed if tied else name)

    def _stored_name(self, name: str) -> str:
        """Find the checkpoint's name of a weight: the head may be the embedding, the model's prefix may be left out."""
        tensors, base = self._checkpoint.tensors, f"{self._model.base_model_prefix}."
        head = f"{self._names[id(self._head)]}.weight"
        if name == head and name not in tensors:
            name = f"{self._names[id(self._embed)]}.weight"
        if name not in tensors and name.removeprefix(base) in tensors:
            return name.removeprefix(base)
        return name
