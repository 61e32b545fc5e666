"""An ONNX Runtime session over a package's graph: loaded once, stepped over KV caches that stay in place.

The graph is the engine's own, ``batch.onnx``, over the same weights as ``model.onnx``: one step may bring sequences of
any lengths on by any number of tokens each, and gives the logits of just those positions that are asked for.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.engine.binding import INPUTS, Binding
from zoo.engine.cache import CacheShape, KVCache, Slots
from zoo.engine.int8_cache import rewrite
from zoo.engine.kernels import register
from zoo.engine.machine import usable_cores
from zoo.errors import ZooError
from zoo.package.closed import files_of, has_file
from zoo.sources.companions import MAX_CONFIG

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from zoo.engine.int8_cache import Scales

_log = logging.getLogger(__name__)
GRAPH = "batch.onnx"
PAST, PRESENT = "past_key_values.", "present."
MAX_CHUNK = 256
"""Tokens of a prompt that one step takes: from 128 on nothing gets faster, and activations only get larger."""
MIN_CHUNK = 64
SCORES_BYTES = 128 * 2**20
"""Bound on the attention scores of a step, float32 (heads, chunk, length)."""
LOGITS_BYTES = 32 * 2**20
"""Bound on the logits of a step where more than the last are asked for."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one sequence brings to a step."""

    slot: int
    ids: Sequence[int]
    """New tokens, at least one."""
    keep: int = 1
    """Of how many of the last of them logits are wanted."""


class Session:
    """A loaded graph.

    ``step`` brings several sequences on at once, ``forward`` one. What differs between sequences lives in their
    ``Slots``, so many share a session; steps of several threads wait for each other.

    Attributes:
        context: positions that the graph serves.
        kernels: its number among the sessions that use our own kernels; 0 where it does not.
        load_seconds: how long onnxruntime took to load it.
    """

    def __init__(
        self, folder: Path, threads: int | None = None, graph: Path | None = None, scales: Scales | None = None
    ) -> None:
        """Load the graph of a package.

        Args:
            folder: the package.
            threads: workers of a step; by default the physical cores that this process may use.
            graph: the same graph over weights that were prepared, instead of the package's own.
            scales: those of an int8 KV cache; None for float32.

        Raises:
            ZooError: onnxruntime cannot load it, or it is not a decoder.
        """
        import onnxruntime as ort

        self.name = folder.name
        if not has_file(folder, GRAPH):
            raise ZooError(f"{self.name} has no {GRAPH}: an older zoo built it; build it again")
        self.threads = threads or usable_cores()
        self.context, self._heads = _read_config(folder)
        started = time.perf_counter()
        self._session, self.kernels = self._open(graph or folder / GRAPH, scales)
        self.load_seconds = time.perf_counter() - started
        self._run_options = ort.RunOptions()
        self._lock = threading.Lock()
        inputs = {one.name: one for one in self._session.get_inputs()}
        outputs = {one.name: one for one in self._session.get_outputs()}
        past = [name for name in inputs if name.startswith(PAST)]
        present = [PRESENT + name.removeprefix(PAST) for name in past]
        if past and "query_lengths" in inputs and not set(inputs) >= INPUTS:
            raise ZooError(f"{self.name}: its {GRAPH} is that of an older zoo; build it again")
        if not past or not set(inputs) >= INPUTS or not {"logits", *present} <= set(outputs):
            raise ZooError(f"{self.name}: its graph has no logits or no KV cache; it is not a decoder")
        self.vocab_size = int(outputs["logits"].shape[-1])
        self._shape = CacheShape(
            inputs=tuple(past),
            outputs=tuple(present),
            heads=tuple(int(inputs[name].shape[1]) for name in past),
            head_dim=tuple(int(inputs[name].shape[3]) for name in past),
            dtype=np.float32 if scales is None else np.int8,
        )

    def _open(self, graph: Path, scales: Scales | None) -> tuple[Any, int]:
        model = str(graph) if scales is None else rewrite(graph, scales)
        try:
            return open_session(model, self.threads, graph.parent)
        except Exception as error:  # onnxruntime's errors have no common base of their own
            raise ZooError(f"{self.name}: onnxruntime cannot open it: {_line(error)}") from None

    def new_slots(self, count: int, tokens: int = 0) -> Slots:
        """Make empty caches for ``count`` sequences, with room for ``tokens`` in each; they grow up to the context."""
        return Slots(self._shape, self.context, count, max(1, tokens))

    def new_cache(self, tokens: int = 0) -> KVCache:
        """Make an empty cache of one sequence with room for ``tokens`` at once; it grows up to the context."""
        return self.new_slots(1, tokens).sequence(0)

    @property
    def token_bytes(self) -> int:
        """Bytes that one token takes in a KV cache."""
        return self._shape.token_bytes

    def step(self, slots: Slots, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
        """Bring sequences on, each by its own new tokens; those between them rest.

        Args:
            slots: where the sequences are.
            rows: what each brings, by slot in ascending order.

        Returns:
            For each row the logits of the last ``keep`` of its new positions, float32 (keep, vocab), as ``forward``
            gives them. The next step overwrites them.

        Raises:
            ZooError: a sequence would be longer than the context, memory is short, or onnxruntime fails.
        """
        with self._lock:
            return self._step(slots, rows)

    def _step(self, slots: Slots, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
        first, last = rows[0].slot, rows[-1].slot
        width = max(len(row.ids) for row in rows)
        reached = max(len(slots.tokens[row.slot]) + len(row.ids) for row in rows)
        padded = max(len(slots.tokens[slot]) for slot in range(first, last + 1)) + width
        if padded > self.context and len(rows) > 1:
            # Short rows are padded, and padding needs room too, which there is none of at the end of the context.
            return [self._step(slots, [row])[0].copy() for row in rows]
        slots.reserve(reached if len(rows) == 1 else max(reached, padded))
        binding: Binding | None = slots.bindings.get((first, last))
        if binding is None:
            binding = Binding(self._session, slots, first, last - first + 1, self.vocab_size)
            slots.bindings[first, last] = binding
        by_slot = {row.slot: row for row in rows}
        news = [by_slot[slot].ids if slot in by_slot else () for slot in range(first, last + 1)]
        keeps = [by_slot[slot].keep if slot in by_slot else 0 for slot in range(first, last + 1)]
        try:
            logits = binding.run(news, keeps, self._run_options)
        except Exception as error:  # onnxruntime's errors have no common base of their own
            raise ZooError(f"{self.name}: onnxruntime failed at token {reached}: {_line(error)}") from None
        found, at = [], 0
        for row in rows:
            slots.tokens[row.slot].extend(row.ids)
            found.append(logits[at : at + row.keep])
            at += row.keep
        return found

    def forward(self, cache: KVCache, ids: Sequence[int], keep: int = 1) -> NDArray[np.float32]:
        """Compute the next ``ids`` after what a cache holds, and append them to it.

        Returns:
            Logits of the last ``keep`` positions, float32 (keep, vocab); the next step over this cache overwrites them.
        """
        return self.step(cache.slots, [Row(cache.slot, ids, keep)])[0]

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

    def share(self, sequences: int, tokens: int, past: int) -> bool:
        """Tell whether a step may bring so many sequences on, one of them by ``tokens``, the longest after ``past``.

        Attention lays every sequence out as wide as the one that brings most: its scores grow by that, and padding
        needs room within the context.
        """
        length = past + tokens
        return length <= self.context and 4 * self._heads * sequences * tokens * length <= SCORES_BYTES


def open_session(model: str | bytes, threads: int, folder: Path, **more: Any) -> tuple[Any, int]:
    """Open a graph with our own kernels; with onnxruntime's if ours are not available or refuse a weight.

    Args:
        model: the path of the graph, or its bytes.
        threads: workers of a step.
        folder: where its weights lie.
        more: passed to onnxruntime.

    Returns:
        The session, and its number among those with our kernels, 0 with onnxruntime's.
    """
    import onnxruntime as ort

    for ours in (True, False):
        options = session_options(threads)
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder.resolve()))
        number = register(options) if ours else 0
        if number:
            options.log_severity_level = 4  # what ours refuse is no error yet
        try:
            return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"], **more), number
        except Exception:  # onnxruntime's errors have no common base of their own
            if not number:
                raise
    raise AssertionError("not reached")


def session_options(threads: int) -> Any:
    """Settings of a session; each was measured."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
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
        model = json.loads(files_of(folder, MAX_CONFIG)("genai_config.json") or b"")["model"]
        return int(model["context_length"]), int(model["decoder"]["num_attention_heads"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ZooError(f"{folder.name}/genai_config.json: does not state a context length; build it again") from None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
