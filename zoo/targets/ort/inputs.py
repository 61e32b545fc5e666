"""How a step enters the graph: as other programs feed a decoder, or as the engine feeds several sequences at once.

Both graphs read the same weights and compute the same; they differ in what they are told and in which logits they give.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from zoo.targets.ort.graph import Graph

NUM_LOGITS = "num_logits_to_keep"
SEQUENCE_LENGTHS = "sequence_lengths"
QUERY_LENGTHS = "query_lengths"
LONGEST = "longest_sequence"
LOGIT_ROWS = "logit_rows"
SPREAD_TOKENS = "spread_tokens"
TOKEN_PLACES = "token_places"
QUERY_SEQLENS = 16
"""Which input of GroupQueryAttention ``query_seqlens`` is."""


class StepInputs(Protocol):
    """What a graph is fed besides token ids and KV cache, and what it makes of that."""

    def sequence_lengths(self) -> tuple[str, str]:
        """Each sequence's length after the step, less one, int32 (batch,), and the longest of them, an int32 scalar."""
        ...

    def query_lengths(self) -> str | None:
        """How many tokens each sequence brings, int32 (batch,); None where all bring the same."""
        ...

    def longest(self) -> str:
        """The length of the longest sequence after the step, an int64 scalar."""
        ...

    def prompt(self, name: str) -> str | None:
        """The length of a prompt that the step begins with, else 0, an int64 scalar; None where no step tells."""
        ...

    def positions(self, name: str, context: int) -> str:
        """The position of each token in its sequence, int64 like the ids; that of padding means nothing."""
        ...

    def queries(self) -> str:
        """How many tokens attention computes of every sequence, padding included, an int64 scalar."""
        ...

    def spread(self, name: str, x: str) -> str:
        """Lay tokens out sequence by sequence, as attention reads them: like the ids → (batch, queries, width)."""
        ...

    def packed(self, name: str, x: str) -> str:
        """Undo ``spread``."""
        ...

    def wanted(self, name: str, x: str) -> str:
        """Keep the positions whose logits are asked for: (batch, sequence, hidden) → (…, positions, hidden)."""
        ...

    def declare_logits(self, vocab_size: int) -> None:
        """Declare the output ``logits``."""
        ...


class Rectangular:
    """Ids that lie sequence by sequence from the start, (batch, sequence)."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        graph.input("input_ids", "int64", ["batch_size", "sequence_length"])

    def queries(self) -> str:
        """How long ``input_ids`` is."""
        return self._graph.length("input_ids")

    def spread(self, name: str, x: str) -> str:
        """Nothing to do."""
        return x

    def packed(self, name: str, x: str) -> str:
        """Nothing to do."""
        return x


class MaskInputs(Rectangular):
    """The inputs by onnxruntime-genai's names: ids (batch, sequence) and a mask of ones over all that there is."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self._lengths: tuple[str, str] | None = None
        self._kept: tuple[str, str, str] | None = None
        self._positions: str | None = None
        graph.input("attention_mask", "int64", ["batch_size", "total_sequence_length"])

    def sequence_lengths(self) -> tuple[str, str]:
        """Count the mask."""
        if self._lengths is None:
            self._lengths = count_mask(self._graph)
        return self._lengths

    def query_lengths(self) -> None:
        """Every sequence brings as many tokens as ``input_ids`` is long."""

    def longest(self) -> str:
        """The mask's length."""
        return self._graph.length("attention_mask")

    def prompt(self, name: str) -> str:
        """A step as long as the mask begins its sequences."""
        graph, tokens = self._graph, self._graph.length("input_ids")
        begins = graph.node("Equal", [tokens, self.longest()], f"{name}/begins")
        return graph.node("Mul", [tokens, graph.as_int(begins, f"{name}/begins/Cast")], f"{name}/prompt")

    def positions(self, name: str, context: int) -> str:
        """Count on from what the mask counts before the step; a padded prompt begins at 0."""
        graph = self._graph
        if self._positions is None:
            less, _ = self.sequence_lengths()
            tokens, one = graph.length("input_ids"), graph.constant(f"{name}/one", 1, np.int64)
            own = graph.node("Add", [graph.as_int(less, f"{name}/Cast"), one], f"{name}/lengths")
            before = graph.node("Sub", [own, tokens], f"{name}/before")
            zero = graph.constant(f"{name}/zero", 0, np.int64)
            start = graph.node("Max", [before, zero], f"{name}/start")
            self._positions = count_on(graph, name, start, self.queries(), context)
        return self._positions

    def wanted(self, name: str, x: str) -> str:
        """Keep the last ``num_logits_to_keep`` positions: an input with the default 1; 0 keeps all."""
        graph = self._graph
        if self._kept is None:
            graph.input(graph.constant(NUM_LOGITS, [1], np.int64), "int64", [1])
            start = graph.node("Neg", [NUM_LOGITS], "/model/last_positions/Neg")
            end = graph.constant("/model/last_positions/end", [2**63 - 1], np.int64)
            self._kept = start, end, graph.constant("/model/last_positions/axis", [1], np.int64)
        return graph.node("Slice", [x, *self._kept], name)

    def declare_logits(self, vocab_size: int) -> None:
        """Declare a length of 1, what onnxruntime-genai expects; ONNX Runtime returns more where more is asked for."""
        self._graph.output("logits", "float32", ["batch_size", 1, vocab_size], first=True)


class RaggedInputs:
    """The engine's own inputs: sequences of any lengths, each with any number of new tokens, in one step.

    ``input_ids`` (1, tokens) holds the new tokens of all sequences one behind the other, so that no layer but attention
    computes padding. Sequence b brings ``query_lengths[b]`` of them and is ``sequence_lengths[b]`` + 1 tokens long
    after the step; 0 new tokens leave it as it is. Attention reads (batch, queries, width): ``spread_tokens`` (batch,
    queries, 2) says [0, token] of every place, any token for padding, and ``token_places`` (1, tokens, 2) says
    [sequence, place] of every token. Logits are those of the tokens ``logit_rows``: (1, positions, vocab).
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._longest: str | None = None
        self._positions: str | None = None
        graph.input("input_ids", "int64", [1, "tokens"])
        graph.input(SPREAD_TOKENS, "int64", ["batch_size", "queries", 2])
        graph.input(TOKEN_PLACES, "int64", [1, "tokens", 2])
        graph.input(SEQUENCE_LENGTHS, "int32", ["batch_size"])
        graph.input(QUERY_LENGTHS, "int32", ["batch_size"])
        graph.input(LONGEST, "int32", [])
        graph.input(LOGIT_ROWS, "int64", ["positions"])

    def sequence_lengths(self) -> tuple[str, str]:
        """Two inputs."""
        return SEQUENCE_LENGTHS, LONGEST

    def query_lengths(self) -> str:
        """An input."""
        return QUERY_LENGTHS

    def longest(self) -> str:
        """An input, widened."""
        if self._longest is None:
            self._longest = self._graph.as_int(LONGEST, f"/model/{LONGEST}/Cast")
        return self._longest

    def prompt(self, name: str) -> None:
        """A prompt comes in pieces, so no step tells; the engine takes none for which that would matter."""

    def positions(self, name: str, context: int) -> str:
        """Count on from each sequence's length before the step."""
        graph = self._graph
        if self._positions is None:
            one = graph.constant(f"{name}/one", 1, np.int32)
            after = graph.node("Add", [SEQUENCE_LENGTHS, one], f"{name}/lengths")
            before = graph.node("Sub", [after, QUERY_LENGTHS], f"{name}/before")
            rows = count_on(graph, f"{name}/rows", graph.as_int(before, f"{name}/start"), self.queries(), context)
            self._positions = self.packed(name, rows)
        return self._positions

    def queries(self) -> str:
        """As many as the sequence that brings most."""
        return self._graph.length(SPREAD_TOKENS)

    def spread(self, name: str, x: str) -> str:
        """Gather by place."""
        return self._graph.node("GatherND", [x, SPREAD_TOKENS], name)

    def packed(self, name: str, x: str) -> str:
        """Gather by token."""
        return self._graph.node("GatherND", [x, TOKEN_PLACES], name)

    def wanted(self, name: str, x: str) -> str:
        """Gather tokens."""
        return self._graph.node("Gather", [x, LOGIT_ROWS], name, axis=1)

    def declare_logits(self, vocab_size: int) -> None:
        """Declare one row a position that was asked for."""
        self._graph.output("logits", "float32", [1, "positions", vocab_size], first=True)


class TextInputs(Rectangular):
    """The inputs of an encoder: ids (batch, sequence) and a mask of ones over what is not padding."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self._lengths: tuple[str, str] | None = None
        self._positions: str | None = None
        graph.input("attention_mask", "int64", ["batch_size", "sequence_length"])

    def sequence_lengths(self) -> tuple[str, str]:
        """Count the mask; no sequence goes on from an earlier step."""
        if self._lengths is None:
            self._lengths = count_mask(self._graph)
        return self._lengths

    def query_lengths(self) -> None:
        """The mask says which tokens are there."""

    def longest(self) -> str:
        """The mask's length."""
        return self._graph.length("attention_mask")

    def prompt(self, name: str) -> None:
        """Every text is whole."""

    def positions(self, name: str, context: int) -> str:
        """Count from 0, the same for every text of the batch."""
        if self._positions is None:
            graph = self._graph
            batch = graph.node("Shape", ["input_ids"], f"{name}/batch", end=1)
            start = graph.node("Expand", [graph.constant(f"{name}/zero", 0, np.int64), batch], f"{name}/start")
            self._positions = count_on(graph, name, start, self.queries(), context)
        return self._positions

    def wanted(self, name: str, x: str) -> str:
        """Keep every position."""
        return x

    def declare_logits(self, vocab_size: int) -> None:
        """Declare logits of every position."""
        self._graph.output("logits", "float32", ["batch_size", "sequence_length", vocab_size], first=True)


def count_mask(graph: Graph) -> tuple[str, str]:
    """Count each row of the mask less one, int32 (batch,), and the mask's length, an int32 scalar."""
    name = "/model/attention_mask"
    axis = graph.constant(f"{name}/axis", [1], np.int64)
    counted = graph.node("ReduceSum", ["attention_mask", axis], f"{name}/ReduceSum", keepdims=0)
    less = graph.node("Sub", [counted, graph.constant(f"{name}/one", 1, np.int64)], f"{name}/Sub")
    longest = graph.length("attention_mask")
    return graph.as_int(less, f"{name}/Cast", 32), graph.as_int(longest, f"{name}/length/Cast", 32)


def count_on(graph: Graph, name: str, start: str, tokens: str, context: int) -> str:
    """Positions of so many tokens from each sequence's start, int64 (batch,) → (batch, tokens).

    Those of padding stay inside the context, since tables are looked up by them too.
    """
    zero, one = (graph.constant(f"{name}/from_{value}", value, np.int64) for value in (0, 1))
    steps = graph.node("Range", [zero, tokens, one], f"{name}/steps")
    column = graph.node("Unsqueeze", [start, graph.constant(f"{name}/axis_1", [1], np.int64)], f"{name}/column")
    counted = graph.node("Add", [column, steps], f"{name}/counted")
    return graph.node("Min", [counted, graph.constant(f"{name}/last", context - 1, np.int64)], name)
