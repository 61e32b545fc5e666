"""The operations that an architecture composes, as ONNX Runtime's CPU kernels offer them.

Operators and their attributes: onnxruntime, docs/ContribOperators.md (domain com.microsoft).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from zoo.contracts import Parameter, Rotary
from zoo.declarations.storage import BlockStorage, FloatStorage
from zoo.targets.ort.graph import MS, Graph
from zoo.targets.ort.inputs import QUERY_SEQLENS, StepInputs
from zoo.targets.ort.tables import rotary_tables


class Operations:
    """Adds nodes to a graph (the ``GraphOps`` protocol); a value is the name of a tensor.

    Args:
        graph: what grows.
        inputs: how a step enters it.
        storages: how each weight is stored.
        accuracy_level: of MatMulNBits.
    """

    head_size: int
    """Width of a head in the graph, padding included; known once attention is composed."""
    context: int
    """Positions that the graph serves."""

    def __init__(
        self,
        graph: Graph,
        inputs: StepInputs,
        storages: Mapping[str, FloatStorage | BlockStorage],
        accuracy_level: int,
    ) -> None:
        self._graph = graph
        self._inputs = inputs
        self._storages = storages
        self._accuracy_level = accuracy_level
        self._widths: dict[str, int] = {}
        self._tables: tuple[str, str] | None = None
        self._apart: dict[str, tuple[str, str]] = {}
        """k and v by q, where a packed value was taken apart."""

    def tokens(self) -> str:
        """The input ``input_ids``."""
        return "input_ids"

    def embedding(self, name: str, ids: str, weight: Parameter) -> str:
        """Gather rows, from floats or from blocks."""
        graph, storage = self._graph, self._storages[weight.name]
        if isinstance(storage, FloatStorage):
            rows = graph.node("Gather", [graph.external(weight, "weight"), ids], f"{name}/Gather")
            return rows if storage.dtype == "float32" else graph.as_float(rows)
        vocab, hidden = weight.shape
        width = storage.blocks(hidden) * storage.block_size
        # The same bytes as MatMulNBits' (rows, blocks, bytes), where the embedding is the output head too.
        flat = graph.external(weight, "weight", shape=[vocab, width * storage.bits // 8], view="_rows")
        rows = graph.node(
            f"{MS}::GatherBlockQuantized",
            [flat, ids, *self._levels(weight, storage)],
            f"{name}/GatherBlockQuantized",
            bits=storage.bits,
            block_size=storage.block_size,
            gather_axis=0,
            quantize_axis=1,
        )
        if hidden == width:
            return rows
        # Rows are stored in whole blocks; what lies past the hidden size is padding.
        bounds = {"start": 0, "end": hidden, "axis": 2}
        slices = [graph.constant(f"{name}/{key}", [value], np.int64) for key, value in bounds.items()]
        return graph.node("Slice", [rows, *slices], f"{name}/Slice")

    def _levels(self, weight: Parameter, storage: BlockStorage) -> list[str]:
        """The scales of a weight in blocks, and its zero points where it has some."""
        arrays = ["scales"] if storage.symmetric else ["scales", "zero_points"]
        return [self._graph.external(weight, array) for array in arrays]

    def rms_norm(self, name: str, x: str, weight: Parameter, eps: float) -> str:
        """SimplifiedLayerNormalization is ONNX Runtime's RMSNorm."""
        return self._graph.node(
            "SimplifiedLayerNormalization",
            [x, self._graph.floats(weight)],
            f"{name}/LayerNorm",
            axis=-1,
            epsilon=eps,
            stash_type=1,
        )

    def add_rms_norm(self, name: str, x: str, residual: str, weight: Parameter, eps: float) -> tuple[str, str]:
        """Add and normalize in one node."""
        outputs = [f"{name}/SkipLayerNorm/output_0", "", "", f"{name}/SkipLayerNorm/output_3"]
        self._graph.node(
            f"{MS}::SkipSimplifiedLayerNormalization",
            [residual, x, self._graph.floats(weight)],
            f"{name}/SkipLayerNorm",
            outputs,
            epsilon=eps,
        )
        return outputs[0], outputs[3]

    def linear(self, name: str, x: str, weight: Parameter, bias: Parameter | None = None) -> str:
        """Multiply by a matrix in the checkpoint's own (out, in) order, from floats or from blocks."""
        graph, storage = self._graph, self._storages[weight.name]
        if isinstance(storage, FloatStorage):
            y = graph.node(f"{MS}::FusedMatMul", [x, graph.floats(weight)], f"{name}/MatMul", transB=1)
        else:
            rows, columns = weight.shape
            y = graph.node(
                f"{MS}::MatMulNBits",
                [x, graph.external(weight, "weight"), *self._levels(weight, storage)],
                f"{name}/MatMul",
                K=columns,
                N=rows,
                bits=storage.bits,
                block_size=storage.block_size,
                accuracy_level=self._accuracy_level,
            )
        self._widths[y] = weight.shape[0]
        return y if bias is None else graph.node("Add", [y, graph.floats(bias)], f"{name}/Add")

    def attention(
        self,
        name: str,
        qkv: str,
        *,
        layer: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        scale: float,
        rotary: Rotary,
        window: int | None = None,
    ) -> str:
        """GroupQueryAttention, rotary inside, over packed q, k, v and this layer's KV cache."""
        self.head_size, self.context = head_dim, rotary.context
        graph = self._graph
        if self._tables is None:
            self._tables = rotary_tables(graph, self._inputs, rotary)
        cache: dict[str, list[str]] = {"past": [], "present": []}
        for part in ("key", "value"):
            for when, prefix in (("past", "past_key_values"), ("present", "present")):
                length = "past_sequence_length" if when == "past" else "total_sequence_length"
                declare = graph.input if when == "past" else graph.output
                shape: list[str | int] = ["batch_size", num_kv_heads, length, head_dim]
                cache[when].append(declare(f"{prefix}.{layer}.{part}", "float32", shape))
        lengths = self._inputs.sequence_lengths()
        given = [qkv, *self._apart.get(qkv, ("", "")), *cache["past"], *lengths, *self._tables]
        if (queries := self._inputs.query_lengths()) is not None:
            given += [""] * (QUERY_SEQLENS - len(given)) + [queries]
        return graph.node(
            f"{MS}::GroupQueryAttention",
            given,
            f"{name}/GroupQueryAttention",
            [f"{name}/GroupQueryAttention/output_0", *cache["present"]],
            num_heads=num_heads,
            kv_num_heads=num_kv_heads,
            scale=scale,
            do_rotary=1,
            rotary_interleaved=0,
            # A window that is as wide as the context hides nothing, and costs nothing.
            **({} if window is None or window >= self.context else {"local_window_size": window}),
        )

    def norm_heads(
        self,
        name: str,
        qkv: str,
        q_weight: Parameter,
        k_weight: Parameter,
        eps: float,
        *,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
    ) -> str:
        """Take q, k, v apart and normalize the heads of q and k as rows; attention takes the three as they are."""
        graph, kv_width = self._graph, num_kv_heads * head_dim
        sizes = graph.constant("/model/attn/sizes", [num_heads * head_dim, kv_width, kv_width], np.int64)
        parts = [f"{name}/Split/output_{index}" for index in range(3)]
        graph.node("Split", [qkv, sizes], f"{name}/Split", parts, axis=2)
        for index, (one, heads, weight) in enumerate([("q", num_heads, q_weight), ("k", num_kv_heads, k_weight)]):
            apart = graph.constant(f"/model/attn/{one}_heads", [0, 0, heads, head_dim], np.int64)
            rows = graph.node("Reshape", [parts[index], apart], f"{name}/{one}_norm/Reshape")
            rows = self.rms_norm(f"{name}/{one}_norm", rows, weight, eps)
            flat = graph.constant(f"/model/attn/{one}_width", [0, 0, heads * head_dim], np.int64)
            parts[index] = graph.node("Reshape", [rows, flat], f"{name}/{one}_norm/flat/Reshape")
        self._apart[parts[0]] = parts[1], parts[2]
        return parts[0]

    def activation(self, name: str, kind: str, x: str) -> str:
        """SiLU is QuickGelu with alpha 1: x · sigmoid(x), in one node."""
        if kind == "silu":
            return self._graph.node(f"{MS}::QuickGelu", [x], name, alpha=1.0)
        if kind == "relu":
            return self._graph.node("Relu", [x], name)
        return self._graph.node("Gelu", [x], name, approximate="none" if kind == "gelu" else "tanh")

    def multiply(self, name: str, a: str, b: str) -> str:
        """Multiply element by element."""
        return self._graph.node("Mul", [a, b], name)

    def scale(self, name: str, x: str, factor: float) -> str:
        """Multiply by a number."""
        return self._graph.node("Mul", [x, self._graph.constant(f"{name}/factor", factor, np.float32)], name)

    def add(self, name: str, a: str, b: str) -> str:
        """Add element by element."""
        return self._graph.node("Add", [a, b], name)

    def last_positions(self, name: str, x: str) -> str:
        """Keep the positions whose logits are wanted, as the inputs say it."""
        return self._inputs.wanted(name, x)

    def logits(self, x: str) -> None:
        """Name the result."""
        self._graph.rename(x, "logits")
        self._inputs.declare_logits(self._widths[x])
