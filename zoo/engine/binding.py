"""The buffers of neighbouring slots bound to the graph's names; a step binds again only what changed.

The names of the inputs, and what they mean, are those of the graph that the target ``ort`` emits for this engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.engine.cache import Slots, aligned
from zoo.engine.int8_cache import Widening

if TYPE_CHECKING:
    from numpy.typing import NDArray

INPUTS = frozenset(
    {"input_ids", "spread_tokens", "token_places", "sequence_lengths", "query_lengths", "longest_sequence",
     "logit_rows"}
)  # fmt: skip
"""What the graph is fed besides the KV cache."""


class Binding:
    """A range of slots, ready for steps.

    Args:
        session: onnxruntime's.
        slots: which hold the range; when their buffers move, a binding is of no more use.
        first: the range's first slot.
        count: how many there are.
    """

    def __init__(self, session: Any, slots: Slots, first: int, count: int, vocab_size: int) -> None:
        self._session = session
        self._slots = slots
        self._first = first
        self._vocab_size = vocab_size
        self._binding = session.io_binding()
        shape = slots.shape
        self._buffers = [buffer[first : first + count] for buffer in slots.buffers]  # the binding holds addresses only
        for name, output, buffer in zip(shape.inputs, shape.outputs, self._buffers, strict=True):
            address = buffer.ctypes.data
            self._binding.bind_input(name, "cpu", 0, shape.dtype, buffer.shape, address)
            self._binding.bind_output(output, "cpu", 0, shape.dtype, buffer.shape, address)
        self._lengths = np.zeros(count, np.int32)
        self._queries = np.zeros(count, np.int32)
        self._longest = np.zeros((), np.int32)
        self._binding.bind_cpu_input("sequence_lengths", self._lengths)
        self._binding.bind_cpu_input("query_lengths", self._queries)
        self._binding.bind_cpu_input("longest_sequence", self._longest)
        self._widening = Widening(self._binding, slots, first, count) if shape.dtype == np.int8 else None
        self._counts: list[int] = []
        self._ids = np.zeros((1, 0), np.int64)
        self._rows = np.zeros(0, np.int64)
        self._logits = np.zeros((1, 0, vocab_size), np.float32)

    def run(self, news: Sequence[Sequence[int]], keeps: Sequence[int], options: Any) -> NDArray[np.float32]:
        """Run one step.

        Args:
            news: the new tokens of each slot of the range; none for a slot that rests.
            keeps: of how many last positions of each logits are wanted.
            options: onnxruntime's run options.

        Returns:
            float32 (sum of ``keeps``, vocab), slot by slot; the next step over this range overwrites them.
        """
        counts = [len(ids) for ids in news]
        if counts != self._counts:
            self._lay_out(counts)
        self._ids[0] = [token for ids in news for token in ids]
        wanted: list[int] = []
        stop = 0
        for row, (count, keep) in enumerate(zip(counts, keeps, strict=True)):
            stop += count
            # A slot that never held anything rests as if it held one token: the kernel wants one at least.
            self._lengths[row] = max(len(self._slots.tokens[self._first + row]) + count, 1) - 1
            wanted += range(stop - keep, stop)
        self._longest[...] = int(self._lengths.max()) + 1
        if self._widening is not None:
            self._widening.prepare(counts)
        total = len(wanted)
        self._want(wanted or [0])
        self._session.run_with_iobinding(self._binding, options)
        return self._logits[0, :total]

    def _lay_out(self, counts: list[int]) -> None:
        """Say where the tokens lie, for so many of each slot."""
        self._counts, tokens = counts, sum(counts)
        self._queries[:] = counts
        self._ids = np.zeros((1, tokens), np.int64)
        self._spread = np.zeros((len(counts), max(counts), 2), np.int64)
        self._places = np.zeros((1, tokens, 2), np.int64)
        start = 0
        for row, count in enumerate(counts):
            self._spread[row, :count, 1] = np.arange(start, start + count)
            self._places[0, start : start + count, 0] = row
            self._places[0, start : start + count, 1] = np.arange(count)
            start += count
        self._binding.bind_cpu_input("input_ids", self._ids)
        self._binding.bind_cpu_input("spread_tokens", self._spread)
        self._binding.bind_cpu_input("token_places", self._places)

    def _want(self, wanted: list[int]) -> None:
        if len(wanted) != len(self._rows):
            self._rows = np.zeros(len(wanted), np.int64)
            self._logits = aligned((1, len(wanted), self._vocab_size), np.float32)
            self._binding.bind_cpu_input("logit_rows", self._rows)
            self._binding.bind_output(
                "logits", "cpu", 0, np.float32, self._logits.shape, self._logits.ctypes.data
            )  # fmt: skip
        self._rows[:] = wanted
