"""The ONNX graph as it grows: nodes, constants, and initializers that point into the data file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from zoo.contracts import Parameter, StoredArray

MS = "com.microsoft"
OPSET = 21
IR_VERSION = 10


class Graph:
    """Collects nodes and initializers; a value is the name of a tensor."""

    def __init__(self, arrays: Sequence[StoredArray]) -> None:
        self._arrays: dict[str, dict[str, StoredArray]] = {}
        for array in arrays:
            self._arrays.setdefault(array.parameter.name, {})[array.array] = array
        self._nodes: list[Any] = []
        self._initializers: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._widened: dict[str, str] = {}
        self._lengths: dict[str, str] = {}

    def input(self, name: str, dtype: str, shape: Sequence[str | int]) -> str:
        """Declare an input; a size that varies has a name."""
        self._inputs.append(helper.make_tensor_value_info(name, _type(dtype), list(shape)))
        return name

    def output(self, name: str, dtype: str, shape: Sequence[str | int], *, first: bool = False) -> str:
        """Declare an output, behind the others or before them."""
        declared = helper.make_tensor_value_info(name, _type(dtype), list(shape))
        self._outputs.insert(0 if first else len(self._outputs), declared)
        return name

    def rename(self, value: str, name: str) -> None:
        """Give a node's result another name; nothing may read it yet."""
        for node in self._nodes:
            for index, output in enumerate(node.output):
                if output == value:
                    node.output[index] = name

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

    def stored(self, weight: Parameter, array: str = "weight") -> StoredArray:
        """Find where an array of a weight lies."""
        return self._arrays[weight.name][array]

    def external(self, weight: Parameter, array: str, *, shape: Sequence[int] | None = None, view: str = "") -> str:
        """Refer to a stored array; ``view`` names a second view of the same bytes in another shape."""
        stored = self.stored(weight, array)
        name = weight.name if array == "weight" else f"{weight.name}_{array}"
        name += view
        if name not in self._initializers:
            tensor = TensorProto(name=name, data_type=_type(stored.dtype), dims=list(shape or stored.shape))
            tensor.data_location = TensorProto.EXTERNAL
            place = {"location": stored.file, "offset": str(stored.offset), "length": str(stored.nbytes)}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=value)
            self._initializers[name] = tensor
        return name

    def floats(self, weight: Parameter, array: str = "weight") -> str:
        """Refer to an array of a weight that holds floats, as float32; onnxruntime folds the cast when it loads."""
        name = self.external(weight, array)
        return name if self.stored(weight, array).dtype == "float32" else self.as_float(name)

    def as_float(self, value: str) -> str:
        """Cast a value to float32, once however often it is asked for."""
        if value not in self._widened:
            self._widened[value] = self.node("Cast", [value], f"{value}/Cast", to=TensorProto.FLOAT)
        return self._widened[value]

    def as_int(self, value: str, name: str, bits: int = 64) -> str:
        """Cast a value to int64 or int32."""
        return self.node("Cast", [value], name, to=TensorProto.INT64 if bits == 64 else TensorProto.INT32)

    def length(self, value: str) -> str:
        """The second dimension of an input, an int64 scalar."""
        if value not in self._lengths:
            name = f"/model/{value}"
            shape = self.node("Shape", [value], f"{name}/Shape")
            index = self.constant("/model/second", 1, np.int64)
            self._lengths[value] = self.node("Gather", [shape, index], f"{name}/length", axis=0)
        return self._lengths[value]

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


def _type(name: str) -> int:
    """ONNX's number of a type that numpy has."""
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(name)))
