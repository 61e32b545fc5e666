"""The ONNX graph: the operations that an architecture composes, as nodes for ONNX Runtime's CPU kernels.

Operators and their attributes: onnxruntime, docs/ContribOperators.md (domain com.microsoft).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from zoo.contracts import Parameter, Rotary, StoredArray
from zoo.declarations.architecture import Architecture
from zoo.declarations.storage import BlockStorage, FloatStorage
from zoo.targets.ort.tables import rotary_tables

MS = "com.microsoft"
OPSET = 21
IR_VERSION = 10
NUM_LOGITS = "num_logits_to_keep"
_TYPES = {
    "float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8, "int64": TensorProto.INT64,
}  # fmt: skip


class Graph:
    """Collects nodes and initializers (the ``GraphOps`` protocol); a value is the name of a tensor."""

    def __init__(
        self,
        arch: Architecture,
        arrays: Sequence[StoredArray],
        storages: Mapping[str, FloatStorage | BlockStorage],
        accuracy_level: int,
        data_file: str,
    ) -> None:
        self.head_size = arch.head_dim
        self.context = arch.max_position_embeddings
        self._arch = arch
        self._storages = storages
        self._accuracy_level = accuracy_level
        self._data_file = data_file
        self._arrays: dict[str, dict[str, StoredArray]] = {}
        for array in arrays:
            self._arrays.setdefault(array.parameter.name, {})[array.array] = array
        self._nodes: list[Any] = []
        self._initializers: dict[str, Any] = {}
        self._inputs = [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch_size", "sequence_length"]),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch_size", "total_sequence_length"]),
        ]
        self._outputs: list[Any] = []
        self._lengths: tuple[str, str] | None = None
        self._tables: tuple[str, str] | None = None

    # Nodes and constants

    def node(self, op: str, inputs: Sequence[str], name: str, outputs: Sequence[str] = (), **attributes: Any) -> str:
        """Add a node; ``op`` may carry a domain, ``com.microsoft::MatMulNBits``. Returns its first output."""
        domain, _, kind = op.rpartition("::")
        results = list(outputs) or [f"{name}/output_0"]
        self._nodes.append(helper.make_node(kind, list(inputs), results, name=name, domain=domain, **attributes))
        return results[0]

    def constant(self, name: str, values: Any, dtype: Any) -> str:
        """Add a small constant that lies in the graph itself."""
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(np.asarray(values, dtype), name)
        return name

    def external(self, weight: Parameter, array: str, *, shape: Sequence[int] | None = None, view: str = "") -> str:
        """Refer to a stored array; ``view`` names a second view of the same bytes in another shape."""
        stored = self._arrays[weight.name][array]
        name = weight.name if array == "weight" else f"{weight.name}_{array}"
        name += view
        if name not in self._initializers:
            tensor = TensorProto(name=name, data_type=_TYPES[stored.dtype], dims=list(shape or stored.shape))
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (
                ("location", self._data_file),
                ("offset", str(stored.offset)),
                ("length", str(stored.nbytes)),
            ):
                tensor.external_data.add(key=key, value=value)
            self._initializers[name] = tensor
        return name

    def _float(self, weight: Parameter) -> str:
        """Get a weight that is stored as floats, as float32."""
        stored = self._arrays[weight.name]["weight"]
        name = self.external(weight, "weight")
        if stored.dtype == "float32":
            return name
        cast = f"{name}/Cast"
        if not any(node.name == cast for node in self._nodes):
            self.node("Cast", [name], cast, to=TensorProto.FLOAT)
        return f"{cast}/output_0"

    # The operations of the contract

    def tokens(self) -> str:
        """The input ``input_ids``."""
        return "input_ids"

    def embedding(self, name: str, ids: str, weight: Parameter) -> str:
        """Gather rows, from floats or from blocks."""
        storage = self._storages[weight.name]
        if isinstance(storage, FloatStorage):
            stored = self._arrays[weight.name]["weight"]
            rows = self.node("Gather", [self.external(weight, "weight"), ids], f"{name}/Gather")
            if stored.dtype == "float32":
                return rows
            return self.node("Cast", [rows], f"{name}/Cast", to=TensorProto.FLOAT)
        vocab, hidden = weight.shape
        blocks = storage.blocks(hidden)
        inputs = [
            self.external(weight, "weight", shape=[vocab, blocks * storage.block_size * storage.bits // 8], view="_rows"),
            ids,
            self.external(weight, "scales"),
        ]
        if not storage.symmetric:
            inputs.append(self.external(weight, "zero_points"))
        rows = self.node(
            f"{MS}::GatherBlockQuantized",
            inputs,
            f"{name}/GatherBlockQuantized",
            bits=storage.bits,
            block_size=storage.block_size,
            gather_axis=0,
            quantize_axis=1,
        )
        if hidden == blocks * storage.block_size:
            return rows
        # Rows are stored in whole blocks; what lies past the hidden size is padding.
        bounds = [self.constant(f"{name}/{key}", [value], np.int64) for key, value in (("0", 0), ("end", hidden), ("axis", 2))]
        return self.node("Slice", [rows, *bounds], f"{name}/Slice")

    def rms_norm(self, name: str, x: str, weight: Parameter, eps: float) -> str:
        """SimplifiedLayerNormalization is ONNX Runtime's RMSNorm."""
        return self.node(
            "SimplifiedLayerNormalization",
            [x, self._float(weight)],
            f"{name}/LayerNorm",
            axis=-1,
            epsilon=eps,
            stash_type=1,
        )

    def add_rms_norm(self, name: str, x: str, residual: str, weight: Parameter, eps: float) -> tuple[str, str]:
        """Add and normalize in one node."""
        outputs = [f"{name}/SkipLayerNorm/output_0", "", "", f"{name}/SkipLayerNorm/output_3"]
        self.node(
            f"{MS}::SkipSimplifiedLayerNormalization",
            [residual, x, self._float(weight)],
            f"{name}/SkipLayerNorm",
            outputs,
            epsilon=eps,
        )
        return outputs[0], outputs[3]

    def linear(self, name: str, x: str, weight: Parameter, bias: Parameter | None = None) -> str:
        """Multiply by a matrix in the checkpoint's own (out, in) order, from floats or from blocks."""
        storage = self._storages[weight.name]
        if isinstance(storage, FloatStorage):
            y = self.node(f"{MS}::FusedMatMul", [x, self._float(weight)], f"{name}/MatMul", transB=1)
        else:
            rows, columns = weight.shape
            inputs = [x, self.external(weight, "weight"), self.external(weight, "scales")]
            if not storage.symmetric:
                inputs.append(self.external(weight, "zero_points"))
            y = self.node(
                f"{MS}::MatMulNBits",
                inputs,
                f"{name}/MatMul",
                K=columns,
                N=rows,
                bits=storage.bits,
                block_size=storage.block_size,
                accuracy_level=self._accuracy_level,
            )
        return y if bias is None else self.node("Add", [y, self._float(bias)], f"{name}/Add")

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
    ) -> str:
        """GroupQueryAttention, rotary inside, over packed q, k, v and this layer's KV cache."""
        self.head_size, self.context = head_dim, rotary.context
        seqlens, total = self._sequence_lengths()
        if self._tables is None:
            self._tables = rotary_tables(self, rotary)
        shape = ["batch_size", num_kv_heads, "past_sequence_length", head_dim]
        grown = ["batch_size", num_kv_heads, "total_sequence_length", head_dim]
        past, present = [], []
        for part in ("key", "value"):
            past.append(f"past_key_values.{layer}.{part}")
            present.append(f"present.{layer}.{part}")
            self._inputs.append(helper.make_tensor_value_info(past[-1], TensorProto.FLOAT, shape))
            self._outputs.append(helper.make_tensor_value_info(present[-1], TensorProto.FLOAT, grown))
        output = f"{name}/GroupQueryAttention/output_0"
        return self.node(
            f"{MS}::GroupQueryAttention",
            [qkv, "", "", *past, seqlens, total, *self._tables],
            f"{name}/GroupQueryAttention",
            [output, *present],
            num_heads=num_heads,
            kv_num_heads=num_kv_heads,
            scale=scale,
            do_rotary=1,
            rotary_interleaved=0,
        )

    def activation(self, name: str, kind: str, x: str) -> str:
        """SiLU is QuickGelu with alpha 1: x · sigmoid(x), in one node."""
        if kind == "silu":
            return self.node(f"{MS}::QuickGelu", [x], name, alpha=1.0)
        if kind == "relu":
            return self.node("Relu", [x], name)
        return self.node("Gelu", [x], name, approximate="none" if kind == "gelu" else "tanh")

    def multiply(self, name: str, a: str, b: str) -> str:
        """Multiply element by element."""
        return self.node("Mul", [a, b], name)

    def add(self, name: str, a: str, b: str) -> str:
        """Add element by element."""
        return self.node("Add", [a, b], name)

    def last_positions(self, name: str, x: str) -> str:
        """Keep the last ``num_logits_to_keep`` positions: an input with the default 1; 0 keeps all."""
        self.constant(NUM_LOGITS, [1], np.int64)
        self._inputs.append(helper.make_tensor_value_info(NUM_LOGITS, TensorProto.INT64, [1]))
        start = self.node("Neg", [NUM_LOGITS], f"{name}/Neg")
        end = self.constant(f"{name}/end", [2**63 - 1], np.int64)
        axis = self.constant(f"{name}/axis", [1], np.int64)
        return self.node("Slice", [x, start, end, axis], f"{name}/Slice")

    def logits(self, x: str) -> None:
        """Name the result. Its declared length is 1, what onnxruntime-genai expects; more is returned when asked for."""
        for node in self._nodes:
            for index, output in enumerate(node.output):
                if output == x:
                    node.output[index] = "logits"
        shape = ["batch_size", 1, self._arch.vocab_size]
        self._outputs.insert(0, helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape))

    def _sequence_lengths(self) -> tuple[str, str]:
        """What attention asks of the mask: each sequence's length less one, and the length of the longest."""
        if self._lengths is None:
            name = "/model/attention_mask"
            axis = self.constant(f"{name}/axis", [1], np.int64)
            counted = self.node("ReduceSum", ["attention_mask", axis], f"{name}/ReduceSum", keepdims=0)
            one = self.constant(f"{name}/one", 1, np.int64)
            less = self.node("Sub", [counted, one], f"{name}/Sub")
            seqlens = self.node("Cast", [less], f"{name}/Cast", to=TensorProto.INT32)
            shape = self.node("Shape", ["attention_mask"], f"{name}/Shape")
            index = self.constant(f"{name}/index", 1, np.int64)
            length = self.node("Gather", [shape, index], f"{name}/Gather", axis=0)
            self._lengths = seqlens, self.node("Cast", [length], f"{name}/length/Cast", to=TensorProto.INT32)
        return self._lengths

    def serialize(self) -> bytes:
        """Write the model: the same bytes for the same recipe."""
        graph = helper.make_graph(
            self._nodes, "decoder", self._inputs, self._outputs, list(self._initializers.values())
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MS, 1)],
            ir_version=IR_VERSION,
            producer_name="zoo",
        )
        for node in model.graph.node:
            node.attribute.sort(key=_attribute_name)
        return bytes(model.SerializeToString(deterministic=True))


def _attribute_name(attribute: AttributeProto) -> str:
    return str(attribute.name)
