"""An ONNX Runtime session over a package's graph: loaded once, stepped over KV caches that stay in place."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.engine.cache import CacheShape, KVCache, aligned
from zoo.engine.machine import usable_cores
from zoo.errors import ZooError

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAST, PRESENT = "past_key_values.", "present."
KEEP = "num_logits_to_keep"
"""The optional input that says for how many last positions logits are wanted."""
MAX_CHUNK = 256
"""Tokens of a prompt that one step takes: from 128 on nothing gets faster, and activations only get larger."""
MIN_CHUNK = 64
SCORES_BYTES = 128 * 2**20
"""Bound on the attention scores of a step, float32 (heads, chunk, length)."""
LOGITS_BYTES = 32 * 2**20
"""Bound on the logits of a step where more than the last are asked for."""


class Session:
    """A loaded graph.

    ``forward`` runs one step of one sequence. What differs between sequences lives in their ``KVCache``, so many share
    a session; steps must not overlap.

    Attributes:
        context: positions that the graph serves.
        load_seconds: how long onnxruntime took to load it.
    """

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        """Load the graph of a package.

        Args:
            folder: the package.
            threads: workers of a step; by default the physical cores that this process may use.

        Raises:
            ZooError: onnxruntime cannot load it, or it is no decoder.
        """
        import onnxruntime as ort

        self.name = folder.name
        self.threads = threads or usable_cores()
        self.context, self._heads = _read_config(folder)
        started = time.perf_counter()
        try:
            self._session: Any = ort.InferenceSession(
                str(folder / "model.onnx"), _options(self.threads), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors have no common base of their own
            raise ZooError(f"{self.name}: onnxruntime cannot open it: {_line(error)}") from None
        self.load_seconds = time.perf_counter() - started
        self._run_options = ort.RunOptions()
        inputs = {one.name: one for one in self._session.get_inputs()}
        outputs = {one.name: one for one in self._session.get_outputs()}
        past = [name for name in inputs if name.startswith(PAST)]
        present = [PRESENT + name.removeprefix(PAST) for name in past]
        if not past or not {"input_ids", "attention_mask"} <= set(inputs) or not {"logits", *present} <= set(outputs):
            raise ZooError(f"{self.name}: its graph has no logits or no KV cache; it is no decoder")
        self.vocab_size = int(outputs["logits"].shape[-1])
        self._shape = CacheShape(
            inputs=tuple(past),
            outputs=tuple(present),
            heads=tuple(int(inputs[name].shape[1]) for name in past),
            head_dim=tuple(int(inputs[name].shape[3]) for name in past),
            dtype=np.float16 if inputs[past[0]].type == "tensor(float16)" else np.float32,
        )
        optional = [*self._session.get_overridable_initializers(), *inputs.values()]
        self._keep_shape = next((tuple(one.shape) for one in optional if one.name == KEEP), None)

    def new_cache(self, tokens: int = 0) -> KVCache:
        """Make an empty cache with room for ``tokens`` at once; it grows up to the context."""
        return KVCache(self._shape, self.context, max(1, min(tokens, self.context)))

    def forward(self, cache: KVCache, ids: Sequence[int], keep: int = 1) -> NDArray[np.float32]:
        """Compute the next ``ids`` after what a cache holds, and append them to it.

        Returns:
            Logits of the last ``keep`` positions, float32 (keep, vocab); the next step over this cache overwrites them.
        """
        length = len(cache) + len(ids)
        if length > cache.capacity:
            cache.reserve(length)
        binding: _Binding | None = cache.binding
        if binding is None or binding.generation != cache.generation:
            binding = cache.binding = _Binding(self, cache)
        logits = binding.run(ids, length, keep)
        cache.tokens.extend(ids)
        return logits

    def prefill(self, cache: KVCache, ids: Sequence[int]) -> NDArray[np.float32]:
        """Compute a prompt in steps that bound memory; return logits of its last position, float32 (1, vocab)."""
        if not ids:
            raise ValueError("nothing to compute")
        cache.reserve(len(cache) + len(ids))
        at = 0
        while True:
            step = self.chunk(len(cache))
            logits = self.forward(cache, ids[at : at + step])
            at += step
            if at >= len(ids):
                return logits

    def interrupt(self) -> None:
        """Make the step that runs in another thread end, with a ``ZooError`` there."""
        self._run_options.terminate = True

    def resume(self) -> None:
        """Allow steps again."""
        self._run_options.terminate = False

    def all_logits(self, cache: KVCache, ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        """Compute ids; yield logits of every position in blocks, float32 (positions, vocab), valid until the next."""
        most = max(1, LOGITS_BYTES // (4 * self.vocab_size))
        at = 0
        while at < len(ids):
            block = ids[at : at + min(self.chunk(len(cache)), most)]
            yield self.forward(cache, block, keep=len(block))
            at += len(block)

    def chunk(self, past: int) -> int:
        """Say how many tokens of a prompt one step takes after ``past`` tokens."""
        step = MAX_CHUNK
        while step > MIN_CHUNK and self._heads * step * (past + step) * 4 > SCORES_BYTES:
            step //= 2
        return step


class _Binding:
    """A cache's buffers bound to the graph's names, past and present alike; a step binds again only what changed."""

    def __init__(self, session: Session, cache: KVCache) -> None:
        self.generation = cache.generation
        self._session = session
        self._binding = session._session.io_binding()
        self._buffers = list(cache.buffers)  # the binding holds addresses only
        dtype = cache.shape.dtype
        for name, output, buffer in zip(cache.shape.inputs, cache.shape.outputs, cache.buffers, strict=True):
            address = buffer.ctypes.data
            self._binding.bind_input(name, "cpu", 0, dtype, buffer.shape, address)
            self._binding.bind_output(output, "cpu", 0, dtype, buffer.shape, address)
        self._mask = np.ones((1, cache.capacity), np.int64)
        self._mask_address = self._mask.ctypes.data
        self._ids = np.zeros((1, 0), np.int64)
        self._one = np.zeros((1, 1), np.int64)
        self._logits = np.zeros((0, 0), np.float32)
        self._bound = 0
        self._keep: NDArray[np.int64] | None = None
        if session._keep_shape is not None:
            import onnxruntime as ort

            self._keep = np.ones(session._keep_shape, np.int64)
            # The binding knows inputs with a default only as values; the value shares the array's memory.
            self._binding.bind_ortvalue_input(KEEP, ort.OrtValue.ortvalue_from_numpy(self._keep))

    def run(self, ids: Sequence[int], length: int, keep: int) -> NDArray[np.float32]:
        count = len(ids)
        if count != self._ids.shape[1]:
            self._ids = self._one if count == 1 else np.zeros((1, count), np.int64)
            self._binding.bind_cpu_input("input_ids", self._ids)
        self._ids[0] = ids
        self._binding.bind_input("attention_mask", "cpu", 0, np.int64, (1, length), self._mask_address)
        if keep != self._bound or keep != 1:
            self._bind_logits(keep)
        try:
            self._session._session.run_with_iobinding(self._binding, self._session._run_options)
        except Exception as error:  # onnxruntime's errors have no common base of their own
            raise ZooError(f"{self._session.name}: onnxruntime failed at token {length}: {_line(error)}") from None
        if keep != 1:
            self._logits = self._binding.get_outputs()[-1].numpy()[0]  # bound last
        return self._logits

    def _bind_logits(self, keep: int) -> None:
        if self._keep is not None:
            self._keep[...] = keep
        elif keep != 1:
            raise ZooError(f"{self._session.name}: its graph gives logits of the last position only (no input {KEEP})")
        self._bound = keep
        if keep != 1:
            # onnxruntime refuses a buffer of another length than the graph declares, even the one it made for the
            # last step; a new one is as long as needed.
            self._binding.bind_output("logits", "cpu")
            return
        vocab = self._session.vocab_size
        self._logits = aligned((1, vocab), np.float32)
        self._binding.bind_output("logits", "cpu", 0, np.float32, (1, 1, vocab), self._logits.ctypes.data)


def _options(threads: int) -> Any:
    """Settings of a session; each was measured."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # The declared length of the logits is 1; that more come when more were asked for is no reason to warn.
    options.log_severity_level = 3
    # It plans memory anew for every shape of the inputs and keeps the plans; here every step has a shape of its own.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    # Halves the time to load.
    options.add_session_config_entry("session.prepack.enable_parallel", "1")
    return options


def _read_config(folder: Path) -> tuple[int, int]:
    """Read how many positions the graph serves, and its attention heads, from ``genai_config.json``."""
    try:
        model = json.loads((folder / "genai_config.json").read_bytes())["model"]
        return int(model["context_length"]), int(model["decoder"]["num_attention_heads"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ZooError(f"{folder.name}/genai_config.json: does not state a context length; build it again") from None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
