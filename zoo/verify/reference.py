"""The reference: transformers' own modules over the original weights in float32, one decoder layer in memory at a time.

The model is made on PyTorch's meta device, where weights take no memory. Its own ``forward`` then runs twice with every
layer replaced by a stub: once to learn what each layer is called with (masks, rotary angles), once to turn the last
hidden states into logits. In between each layer is filled with its weights, called as its model would call it, and
emptied again. So whatever a model does around its layers (scaled embeddings, windows, soft caps) is what it does here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.contracts import Checkpoint
from zoo.errors import ZooError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SLAB = 64 * 2**20
"""Bytes of a tensor that are widened to float32 at a time."""


def require_reference() -> None:
    """Check that torch and transformers are there.

    Raises:
        ZooError: one is missing; the message says how to install it.
    """
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    try:
        import torch  # noqa: F401
        import transformers
    except ImportError as error:
        raise ZooError(
            f"the reference needs {error.name}, which is not installed; install it with: pip install '.[verify]'"
        ) from None
    logging: Any = transformers.logging
    logging.set_verbosity_error()


class Reference:
    """transformers' model of a checkpoint, its weights read only while they are needed.

    Raises:
        ZooError: transformers does not know the ``model_type``, or lays the model out in a way that cannot be cut.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        require_reference()
        import torch
        from transformers import CONFIG_MAPPING, AutoModelForCausalLM

        maker: Any = AutoModelForCausalLM
        self._checkpoint = checkpoint
        kind = str(checkpoint.config.get("model_type"))
        if kind not in CONFIG_MAPPING:
            raise ZooError(f"{checkpoint.name}: transformers does not know model_type {kind!r}: there is no reference")
        try:
            config = CONFIG_MAPPING[kind].from_dict(dict(checkpoint.config))
            with torch.device("meta"):
                self._model: Any = maker.from_config(config, dtype=torch.float32)
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
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

    @property
    def num_layers(self) -> int:
        return len(self._layers)

    def begin(self, sequences: Sequence[NDArray[np.int64]]) -> None:
        """Embed token sequences and learn how the layers are called.

        Args:
            sequences: token ids, each (length,).
        """
        import torch

        self._fill_around()
        self._fill(self._embed)
        self._arguments, self._hidden = [], []
        with torch.inference_mode():
            for ids in sequences:
                calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
                first: list[Any] = []

                def stub(hidden: Any, *args: Any, calls: Any = calls, first: Any = first, **kwargs: Any) -> Any:
                    if not first:
                        first.append(hidden)
                    calls.append((args, kwargs))
                    return hidden

                with self._stubbed(stub):
                    self._model.base_model(input_ids=torch.from_numpy(ids)[None], use_cache=False)
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
                self._hidden[index] = result[0] if isinstance(result, tuple) else result
        self._empty(module)

    def states(self, sequence: int) -> NDArray[np.float32]:
        """The hidden states of a sequence as they are now, (length, hidden)."""
        array: NDArray[np.float32] = self._hidden[sequence][0].numpy()
        return array

    def logits(self, sequence: int, start: int, stop: int) -> NDArray[np.float32]:
        """The logits of positions ``start`` to ``stop`` after the last layer, (positions, vocab)."""
        import torch

        if any(parameter.is_meta for parameter in self._head.parameters()):
            self._fill(self._head)
        hidden = self._hidden[sequence]
        with torch.inference_mode(), self._stubbed(lambda _given, *args, **kwargs: hidden):
            keep = torch.arange(start, stop)
            found = self._model(inputs_embeds=hidden, use_cache=False, logits_to_keep=keep).logits
        array: NDArray[np.float32] = found[0].float().numpy()
        return array

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

    def _stubbed(self, stub: Any) -> Any:
        """Replace what the layers do while the model runs around them."""
        from contextlib import contextmanager

        @contextmanager
        def replaced() -> Any:
            for layer in self._layers:
                layer.forward = stub
            try:
                yield
            finally:
                for layer in self._layers:
                    del layer.forward

        return replaced()

    def _fill_around(self) -> None:
        """Fill what is neither layer nor embedding nor head: final norm, position tables."""
        inside = {id(one) for layer in self._layers for one in layer.modules()}
        inside |= {id(self._embed), id(self._head)}
        for module in self._model.modules():
            if id(module) in inside:
                continue
            own = [name for name, _ in module.named_parameters(recurse=False)]
            own += [name for name, _ in module.named_buffers(recurse=False)]
            if own and any(one.is_meta for one in (*module.parameters(recurse=False), *module.buffers(recurse=False))):
                self._fill(module)

    def _fill(self, module: Any) -> None:
        """Read a module's weights, and compute again what it computes when it is made."""
        prefix = self._names[id(module)]
        state = {
            name: self._tensor(f"{prefix}.{name}" if prefix else name, tuple(value.shape))
            for name, value in module.state_dict().items()
        }
        module.load_state_dict(state, assign=True)
        for one in module.modules():
            computed = [name for name, value in one.named_buffers(recurse=False) if value.is_meta]
            if not computed:
                continue
            try:
                fresh = dict(type(one)(self._model.config).named_buffers(recurse=False))
                for name in computed:
                    setattr(one, name, fresh[name])
            except (TypeError, AttributeError, KeyError):
                raise ZooError(
                    f"{self._checkpoint.name}: transformers' {type(one).__name__} computes {computed[0]!r} in a way "
                    "that zoo cannot repeat"
                ) from None

    def _empty(self, module: Any) -> None:
        module.to_empty(device="meta")

    def _tensor(self, name: str, shape: tuple[int, ...]) -> Any:
        """Read a weight as float32, by the name that transformers gives it."""
        import torch

        info = self._checkpoint.tensors.get(stored := self._stored_name(name))
        if info is None:
            raise ZooError(f"{self._checkpoint.name}: transformers' {name!r} is not among its tensors")
        if info.shape != shape:
            raise ZooError(f"{info.file}: tensor {stored!r} is {info.shape}; transformers expects {shape}")
        if not shape:
            raise ZooError(f"{info.file}: tensor {stored!r} is a single number, which zoo does not read")
        out = torch.empty(shape, dtype=torch.float32)
        step = max(1, _SLAB * shape[0] // max(1, info.nbytes))
        for start in range(0, shape[0], step):
            stop = min(start + step, shape[0])
            rows = torch.from_numpy(self._checkpoint.read(stored, start, stop))
            out[start:stop] = rows.view(torch.bfloat16) if info.dtype == "BF16" else rows
        return out

    def _stored_name(self, name: str) -> str:
        """Find the checkpoint's name of a weight: the head may be the embedding, the model's prefix may be left out."""
        tensors, base = self._checkpoint.tensors, f"{self._model.base_model_prefix}."
        head = f"{self._names[id(self._head)]}.weight"
        if name == head and (self._model.config.get_text_config().tie_word_embeddings or name not in tensors):
            name = f"{self._names[id(self._embed)]}.weight"
        if name not in tensors and name.removeprefix(base) in tensors:
            return name.removeprefix(base)
        return name
