"""Cut a package's graph into one model a decoder layer, without reading a weight.

Nodes that depend on ``input_ids`` belong to the layer that their name states (``/model/layers.7/mlp/...``), to what
stands before the first layer, or to what follows the last. Everything else (lengths, rotary tables, casts of weights)
is repeated in each piece that uses it. Weights stay where they are: a piece keeps the reference into the data file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import ZooError

TOKENS = "input_ids"
LOGITS = "logits"
_LAYER = re.compile(r"(?:^|/)layers\.(\d+)/")


class CutGraph:
    """A decoder's graph in pieces: before the layers, each layer, after the layers.

    Args:
        path: ``model.onnx``.

    Raises:
        ZooError: the file is not an ONNX model, or its nodes do not name the layers.
    """

    def __init__(self, path: Path) -> None:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

        self._where = f"{path.parent.name}/{path.name}"
        try:
            self._model = onnx.load(str(path), load_external_data=False)
        except FileNotFoundError:
            raise ZooError(f"{self._where}: missing; only packages with an ONNX graph can be verified") from None
        except (DecodeError, OSError, ValueError) as error:
            raise ZooError(f"{self._where}: no ONNX model: {' '.join(str(error).split())[:200]}") from None
        graph = self._model.graph
        self._nodes = list(graph.node)
        self._producer = {name: index for index, node in enumerate(self._nodes) for name in node.output if name}
        self._inputs = {value.name: value for value in graph.input}
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._groups = self._group()
        named = sorted({group for group in self._groups if group is not None and 0 <= group < self._last})
        self.num_layers = len(named)
        if not named or named != list(range(len(named))):
            raise ZooError(f"{self._where}: its nodes do not name decoder layers 0, 1, 2, ...; it cannot be cut")
        self._boundaries = [self._boundary(layer) for layer in range(-1, self.num_layers)]

    _last = 2**31

    def _group(self) -> list[int | None]:
        """Say of each node which layer it belongs to: -1 before, ``_last`` after, None independent of the tokens."""
        of_value: dict[str, int] = {TOKENS: -1}
        groups: list[int | None] = []
        for node in self._nodes:
            upstream = [of_value[name] for name in node.input if name in of_value]
            if not upstream or node.op_type == "Shape":  # how many tokens there are says nothing of which
                groups.append(None)
                continue
            match = _LAYER.search(node.name)
            group = int(match[1]) if match else (-1 if max(upstream) < 0 else self._last)
            if group < max(upstream):
                raise ZooError(f"{self._where}: node {node.name!r} reads from a later layer; it cannot be cut")
            groups.append(group)
            of_value.update((name, group) for name in node.output if name)
        return groups

    def _boundary(self, layer: int) -> tuple[str, ...]:
        """Name the values that leave a layer (-1: that enter the first one)."""
        crossing: dict[str, None] = {}
        for group, node in zip(self._groups, self._nodes, strict=True):
            if group is None or group <= layer:
                continue
            for name in node.input:
                source = self._groups[self._producer[name]] if name in self._producer else None
                if source is not None and source <= layer:
                    crossing[name] = None
        return tuple(crossing)

    def boundary(self, layer: int) -> tuple[str, ...]:
        """Name the values that leave a layer, -1 for those that enter the first; they sum up to the hidden states."""
        return self._boundaries[layer + 1]

    def before(self) -> bytes:
        """The model from ``input_ids`` to the first layer's input."""
        return self._piece((), self.boundary(-1))

    def layer(self, index: int) -> bytes:
        """The model of one layer, from the values that enter it to those that leave it."""
        return self._piece(self.boundary(index - 1), self.boundary(index))

    def after(self) -> bytes:
        """The model from the last layer's output to ``logits``."""
        return self._piece(self.boundary(self.num_layers - 1), (LOGITS,))

    def _piece(self, given: Sequence[str], wanted: Sequence[str]) -> bytes:
        """Take the nodes that lead from given values, and from the model's own inputs, to wanted ones."""
        from onnx import TensorProto, helper

        needed, stack = set(), list(wanted)
        values: set[str] = set()
        while stack:
            name = stack.pop()
            if not name or name in values:
                continue
            values.add(name)
            if name in given or name not in self._producer:
                continue
            index = self._producer[name]
            needed.add(index)
            stack.extend(self._nodes[index].input)
        inputs = [self._inputs[name] for name in self._inputs if name in values]
        inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in given if name in values]
        graph = helper.make_graph(
            [self._nodes[index] for index in sorted(needed)],
            "piece",
            inputs,
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in wanted],
            [tensor for name, tensor in self._initializers.items() if name in values],
        )
        opsets: Iterable[Any] = self._model.opset_import
        model = helper.make_model(graph, opset_imports=list(opsets), ir_version=self._model.ir_version)
        return bytes(model.SerializeToString())
