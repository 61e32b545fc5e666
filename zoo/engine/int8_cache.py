"""Keys and values in 8 bits: a quarter of the memory, and faster answers after long texts.

The engine's graph is rewritten as it is opened; the package stays what it is. Each attention becomes an ``If``: steps
of few tokens attend over the 8-bit cache as it lies. onnxruntime's kernel for that takes queries row by row, at a third
of the speed of its float32 kernel, so the chunks of a prompt have their layer's cache widened, attend in float32, and
round what they append.

One scale for each channel of each KV head, found on a sample in float32. Rotary embeddings turn pairs of a key's
channels into one another as positions grow, so both channels of a pair get the scale of the longer of their lengths.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import ZooError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from zoo.engine.cache import Slots
    from zoo.engine.session import Session
    from zoo.engine.text import Tokenizer

WIDENED, LENGTH, PLACES = "widened_cache", "widened_length", "new_places"
"""Inputs of the rewritten graph: whether attention widens the cache, how many tokens of it, and where new ones go."""
SAMPLE = (
    'The river had risen in the night, and by 6:30 the lower road was gone. "How long do we have?" she asked. '
    "Nobody knew. In 1924 the same thing had happened, twice, and the town council (five men and a clerk) had voted "
    "$12,000 for a wall that was never built.\n\n# Notes\n- `for i in range(10): print(i * 2)`\n- e = mc^2; see [3]\n"
)
SAMPLE_TOKENS = 512
"""The text, then random tokens: SmolLM2-135M-Instruct rounds as well by that as by a text of WikiText (KL 0.0032 and
0.0037; the next best of 0.0047 are random tokens alone)."""
ROOM = 1.25
"""How far texts may go beyond the sample before they are cut off."""
LEVELS = 127
WIDENED_ROWS = 12
"""Rows of queries of a sequence from which widening its cache pays (SmolLM2-135M, 2 cores: 0.35 µs a key for it, and
0.03 µs a key and row by which float32 is faster)."""
WIDENED_BYTES = 2**29
"""What a layer's widened keys and values may take, with the copy that onnxruntime makes."""
PAST_KEY, PAST_VALUE, BIAS, SINKS, KEY_SCALE, VALUE_SCALE, QUERY_LENGTHS = 3, 4, 10, 11, 12, 13, 16
"""Inputs of GroupQueryAttention (onnxruntime, docs/ContribOperators.md)."""

Scales = Mapping[str, "NDArray[np.float32]"]
"""Name of a cache's input → (kv_heads, head_dim)."""


class Widening:
    """What steps over an 8-bit cache are fed besides the rest.

    Args:
        binding: onnxruntime's, of a range of slots.
        slots: which hold the range.
        first: the range's first slot.
        count: how many there are.
    """

    def __init__(self, binding: Any, slots: Slots, first: int, count: int) -> None:
        self._binding, self._slots, self._range = binding, slots, range(first, first + count)
        self._wide, self._length = np.zeros((), np.bool_), np.zeros(1, np.int64)
        self._places = np.zeros((count, slots.shape.heads[0], 0, 3), np.int64)
        binding.bind_cpu_input(WIDENED, self._wide)
        binding.bind_cpu_input(LENGTH, self._length)

    def prepare(self, counts: Sequence[int]) -> None:
        """Choose how a step attends, and say where the new tokens of each slot go."""
        count, heads, queries, _ = self._places.shape
        if queries != max(counts):
            self._places = np.empty((count, heads, max(counts), 3), np.int64)
            self._places[..., 0] = np.arange(count)[:, None, None]
            self._places[..., 1] = np.arange(heads)[:, None]
            self._binding.bind_cpu_input(PLACES, self._places)
        held = np.array([len(self._slots.tokens[slot]) for slot in self._range])
        longest = int(held.max()) + max(counts)
        self._length[0] = longest
        self._places[..., 2] = (held[:, None] + np.arange(max(counts)))[:, None]
        widened = count * longest  # keys
        shape = self._slots.shape
        self._wide[...] = (
            int(np.dot(held + counts, counts)) > WIDENED_ROWS * widened
            and 16 * widened * shape.heads[0] * shape.head_dim[0] <= WIDENED_BYTES
        )


def find_scales(session: Session, tokenizer: Tokenizer | None) -> Scales:
    """Compute a sample in float32, and from the largest keys and values of each channel the size of a level.

    Args:
        session: over a float32 cache.
        tokenizer: the model's; without it the sample is random tokens.
    """
    text = [] if tokenizer is None else tokenizer.encode(SAMPLE)
    ids = text + np.random.default_rng(0).integers(0, session.vocab_size, SAMPLE_TOKENS).tolist()
    cache = session.new_cache()
    session.prefill(cache, ids[: min(SAMPLE_TOKENS, session.context)])
    found = {}
    for name, buffer in zip(cache.slots.shape.inputs, cache.slots.buffers, strict=True):
        largest = np.abs(buffer[0, :, : len(cache)])
        if name.endswith(".key"):
            # Which channels are a pair differs (halves, neighbours, a part of the head): the larger of both readings.
            halves, neighbours = (largest.reshape(*largest.shape[:2], *shape) for shape in ((2, -1), (-1, 2)))
            turned = [np.hypot(halves[:, :, :1], halves[:, :, 1:]), np.hypot(neighbours[..., :1], neighbours[..., 1:])]
            spread = [np.broadcast_to(turned[0], halves.shape), np.broadcast_to(turned[1], neighbours.shape)]
            largest = np.maximum(*(one.reshape(largest.shape) for one in spread))
        found[name] = np.maximum(largest.max(axis=1) * (ROOM / LEVELS), 1e-6).astype(np.float32)
    return found


def rewrite(graph: Path, scales: Scales) -> bytes:
    """Make the engine's graph over an 8-bit cache from the one over float32; weights stay where they lie.

    Raises:
        ZooError: layers differ in their KV heads.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    if len({scale.shape for scale in scales.values()}) > 1:
        raise ZooError("layers with keys of different shapes have no int8 cache; use --kv fp32")
    model = onnx.load(str(graph), load_external_data=False)
    for value in (*model.graph.input, *model.graph.output):
        if value.name.startswith(("past_key_values.", "present.")):
            value.type.tensor_type.elem_type = TensorProto.INT8
    for name, dtype, shape in (
        (WIDENED, TensorProto.BOOL, []),
        (LENGTH, TensorProto.INT64, [1]),
        (PLACES, TensorProto.INT64, ["batch_size", next(iter(scales.values())).shape[0], "queries", 3]),
    ):
        model.graph.input.append(helper.make_tensor_value_info(name, dtype, shape))

    def constant(name: str, values: Any, dtype: Any) -> str:
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    shared = [constant(f"/kv/{name}", [value], np.int64) for name, value in (("start", 0), ("axis", 2))]
    shared += [constant("/kv/one", 1, np.float32), constant("/kv/zero", 0, np.int8)]
    for name, scale in scales.items():
        constant(f"/kv/{name}/scale", scale[None, :, None, :], np.float32)
        constant(f"/kv/{name}/levels", 1 / scale[None, :, None, :], np.float32)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type == "GroupQueryAttention":
            heads = next(one.i for one in node.attribute if one.name == "num_heads")
            if (no_sinks := f"/kv/no_sinks_{heads}") not in {one.name for one in model.graph.initializer}:
                constant(no_sinks, np.full(heads, np.finfo(np.float32).min), np.float32)
            branches = {"then_branch": _widened(node, shared), "else_branch": _quantized(node, no_sinks)}
            node = helper.make_node("If", [WIDENED], list(node.output), name=f"{node.name}/If", **branches)
        model.graph.node.append(node)
    return bytes(model.SerializeToString())


def _quantized(node: Any, no_sinks: str) -> Any:
    """Attend over the 8-bit cache."""
    from onnx import helper

    attention = copy.deepcopy(node)
    attention.name += "/int8"
    attention.input.extend([""] * (QUERY_LENGTHS + 1 - len(attention.input)))
    for index, past in ((KEY_SCALE, PAST_KEY), (VALUE_SCALE, PAST_VALUE)):
        attention.input[index] = f"/kv/{node.input[past]}/scale"
    has = {one.name for one in node.attribute}
    if not has & {"softcap", "smooth_softmax", "local_window_size"} and not attention.input[BIAS]:
        # The tiled kernel is slower for one token (7,600 tokens of SmolLM2: 25 ms a step, not 19). It knows no sinks,
        # so sinks that take no share choose the other. It passes over what a window hides, so a window keeps it.
        attention.input[SINKS] = attention.input[SINKS] or no_sinks
    attention.attribute.extend(
        helper.make_attribute(key, value)
        for key, value in (
            ("kv_cache_bit_width", 8), ("k_quant_type", "PER_CHANNEL"), ("v_quant_type", "PER_CHANNEL"),
        )
    )  # fmt: skip
    return _branch(f"{node.name}/quantized", node, [attention])


def _widened(node: Any, shared: list[str]) -> Any:
    """Widen what the cache holds, attend in float32, and put the new keys and values into the cache, rounded."""
    from onnx import TensorProto, helper

    start, axis, one, zero = shared
    attention = copy.deepcopy(node)
    attention.name += "/widened"
    before: list[Any] = []
    after: list[Any] = []
    for index, part in ((PAST_KEY, "key"), (PAST_VALUE, "value")):
        past, name = node.input[index], f"{node.name}/{part}"

        def then(op: str, inputs: list[str], label: str, nodes: list[Any], name: str = name, **attributes: Any) -> str:
            nodes.append(helper.make_node(op, inputs, [f"{name}/{label}"], name=f"{name}/{label}", **attributes))
            return f"{name}/{label}"

        held = then("Slice", [past, start, LENGTH, axis], "held", before)
        wide = then("Cast", [held], "wide", before, to=TensorProto.FLOAT)
        attention.input[index] = then("Mul", [wide, f"/kv/{past}/scale"], "scaled", before)
        attention.output[index - 2] = f"{name}/present"
        new = then("GatherND", [f"{name}/present", PLACES], "new", after)
        levels = then("Mul", [new, f"/kv/{past}/levels"], "levels", after)
        rounded = then("QuantizeLinear", [levels, one, zero], "rounded", after)
        then("ScatterND", [past, PLACES, rounded], "put", after)
    outputs = [attention.output[0], f"{node.name}/key/put", f"{node.name}/value/put"]
    return _branch(f"{node.name}/in_float32", node, [*before, attention, *after], outputs)


def _branch(name: str, node: Any, nodes: list[Any], outputs: list[str] | None = None) -> Any:
    """Make a branch of the ``If`` that stands for an attention; its values have names of their own."""
    from onnx import TensorProto, helper

    results = outputs or list(node.output)
    renamed = {result: f"{name}/result_{index}" for index, result in enumerate(results)}
    for one in nodes:
        for index, output in enumerate(one.output):
            one.output[index] = renamed.get(output, output)
    kinds = (TensorProto.FLOAT, TensorProto.INT8, TensorProto.INT8)
    shapes = [[f"axis_{axis}" for axis in range(count)] for count in (3, 4, 4)]
    values = [helper.make_tensor_value_info(*one) for one in zip(renamed.values(), kinds, shapes, strict=True)]
    return helper.make_graph(nodes, name, [], values)
