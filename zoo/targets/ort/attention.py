"""Attention and the norms of its heads: GroupQueryAttention over a KV cache, MultiHeadAttention over whole texts.

Operators and their attributes: onnxruntime, docs/ContribOperators.md (domain com.microsoft).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo.contracts import Parameter
from zoo.operations import Attention, JoinHeads, NormHeads, Rotary, Step
from zoo.operations.attention import packed
from zoo.targets.ort.emission import Emission, emits
from zoo.targets.ort.graph import MS
from zoo.targets.ort.inputs import QUERY_SEQLENS
from zoo.targets.ort.norms import layer_norm, rms_norm
from zoo.targets.ort.tables import NAME, rotary_tables

LANES = 8
"""The kernel turns so many pairs of a head at once; tables have a multiple of them."""
_TABLES, _BIAS, _SINKS = 7, 10, 11
"""Which inputs of GroupQueryAttention cosines, ``attention_bias`` and ``head_sink`` are."""


@emits(Attention)
def attention(emission: Emission, step: Step, op: Attention) -> str:
    """Attend over packed q, k, v: with this layer's KV cache, or over a whole text."""
    if not op.causal:
        return _whole_text(emission, step, op)
    graph, name, qkv = emission.graph, step.name, emission.value(op.qkv)
    apart = emission.once.get(("apart", qkv), ("", ""))
    if op.rotary is not None and _is_odd(op):
        qkv, *apart = _turned(emission, step, op, op.rotary)
    spread = [
        value and emission.inputs.spread(f"{name}/spread_{index}", value) for index, value in enumerate([qkv, *apart])
    ]
    given = dict(enumerate(spread))
    turns = op.rotary if op.rotary is not None and not _is_odd(op) else None
    if turns is not None:
        given |= enumerate(_tables(emission, turns, op.head_dim), _TABLES)
    cache: dict[str, list[str]] = {"past": [], "present": []}
    for part in ("key", "value") if emission.program.generates else ():
        for when, prefix in (("past", "past_key_values"), ("present", "present")):
            length = "past_sequence_length" if when == "past" else "total_sequence_length"
            declare = graph.input if when == "past" else graph.output
            shape: list[str | int] = ["batch_size", op.num_kv_heads, length, op.head_dim]
            cache[when].append(declare(f"{prefix}.{step.layer}.{part}", "float32", shape))
    given |= enumerate(cache["past"], 3)
    given |= enumerate(emission.inputs.sequence_lengths(), 5)
    if op.slopes is not None:
        given[_BIAS] = _distances(emission, op.slopes)
    if op.sinks is not None:
        given[_SINKS] = graph.floats(op.sinks)
    if (queries := emission.inputs.query_lengths()) is not None:
        given[QUERY_SEQLENS] = queries
    more: dict[str, Any] = {}
    if op.window is not None and op.window < emission.program.context:
        # A window that is as wide as the context hides nothing, and costs nothing.
        more["local_window_size"] = op.window
    if op.softcap is not None:
        more["softcap"] = op.softcap
    if op.smooth:
        more["smooth_softmax"] = 1
    mixed = graph.node(
        f"{MS}::GroupQueryAttention",
        [given.get(index, "") for index in range(max(given) + 1)],
        f"{name}/GroupQueryAttention",
        [f"{name}/GroupQueryAttention/output_0", *cache["present"]],
        num_heads=op.num_heads,
        kv_num_heads=op.num_kv_heads,
        scale=op.scale,
        do_rotary=int(turns is not None),
        rotary_interleaved=int(turns is not None and turns.interleaved),
        **more,
    )
    return emission.inputs.packed(f"{name}/packed", mixed)


def _tables(emission: Emission, rotary: Rotary, head_dim: int, lanes: int = LANES) -> list[str]:
    """Cosines and sines, made once for all layers that turn alike."""
    made = emission.once.setdefault("rotary", {})
    key = id(rotary), lanes
    if key not in made:
        width = head_dim if rotary.width is None else rotary.width
        pairs = -(-width // 2 // lanes) * lanes
        name = f"{NAME}_{len(made)}" if made else NAME
        made[key] = rotary_tables(emission.graph, emission.inputs, rotary, emission.program.context, pairs, name)
    return list(made[key])


def _is_odd(op: Attention) -> bool:
    """Tell whether the kernel cannot turn the pairs itself: halves of a width that its lanes do not divide."""
    width = op.rotary.width if op.rotary is not None else None
    return width is not None and width // 2 % LANES != 0 and op.rotary is not None and not op.rotary.interleaved


def _turned(emission: Emission, step: Step, op: Attention, rotary: Rotary) -> list[str]:
    """Turn q and k by nodes of their own."""
    graph, name = emission.graph, step.name
    q, k, v = split(emission, op, emission.value(op.qkv), name)
    tables = _tables(emission, rotary, op.head_dim, lanes=1)
    positions = emission.inputs.positions("/model/counted", emission.program.context)
    turned = [
        graph.node(
            f"{MS}::RotaryEmbedding",
            [value, positions, *tables],
            f"{name}/{which}_rotary",
            num_heads=heads,
            rotary_embedding_dim=rotary.width or 0,
            interleaved=int(rotary.interleaved),
        )
        for which, value, heads in (("q", q, op.num_heads), ("k", k, op.num_kv_heads))
    ]
    return [*turned, v]


def _distances(emission: Emission, slopes: tuple[float, ...]) -> str:
    """What each head's scores lose with the distance, (1, heads, queries, keys).

    The softmax of a row does not change when all its scores do: keys are counted from the last one, queries not at all.
    """
    if (bias := emission.once.get(("slopes", slopes))) is None:
        graph, name = emission.graph, f"/model/slopes_{sum(key[0] == 'slopes' for key in emission.once)}"
        longest = emission.inputs.longest()
        zero, one = graph.constant(f"{name}/zero", 0, np.int64), graph.constant(f"{name}/one", 1, np.int64)
        keys = graph.node("Range", [zero, longest, one], f"{name}/keys")
        last = graph.node("Sub", [longest, one], f"{name}/last")
        steps = graph.as_float(graph.node("Sub", [keys, last], f"{name}/steps"))
        column = graph.constant(f"{name}/slopes", np.array(slopes)[None, :, None, None], np.float32)
        row = graph.node("Mul", [column, steps], f"{name}/row")
        first = graph.constant(f"{name}/first", [0], np.int64)
        queries = graph.node("Unsqueeze", [emission.inputs.queries(), first], f"{name}/queries")
        ones = [graph.constant(f"{name}/{key}", [1], np.int64) for key in ("batch", "heads", "every")]
        shape = graph.node("Concat", [*ones[:2], queries, ones[2]], f"{name}/shape", axis=0)
        bias = emission.once["slopes", slopes] = graph.node("Expand", [row, shape], name)
    return str(bias)


def _whole_text(emission: Emission, step: Step, op: Attention) -> str:
    """MultiHeadAttention without a cache; padding is masked."""
    graph, name, rotary = emission.graph, step.name, op.rotary
    q, k, v = (
        _turned(emission, step, op, rotary) if rotary is not None else split(emission, op, emission.value(op.qkv), name)
    )
    mask = emission.once.get("mask")
    if mask is None:
        mask = emission.once["mask"] = graph.as_int("attention_mask", "/model/attention_mask/Cast", 32)
    return graph.node(
        f"{MS}::MultiHeadAttention",
        [q, k, v, "", mask, *([] if op.window is None else [_near(emission, op.window)])],
        f"{name}/MultiHeadAttention",
        num_heads=op.num_heads,
        scale=op.scale,
        # Padding gets no share at all, rather than a very small one.
        mask_filter_value=float(np.finfo(np.float32).min),
    )


def _near(emission: Emission, window: int) -> str:
    """Zero where query and key are less than ``window`` apart, elsewhere as little as float32 has, (1, 1, n, n)."""
    if (bias := emission.once.get(("near", window))) is None:
        graph, name = emission.graph, f"/model/near_{window}"
        zero, one = graph.constant(f"{name}/zero", 0, np.int64), graph.constant(f"{name}/one", 1, np.int64)
        row = graph.node("Range", [zero, graph.length("input_ids"), one], f"{name}/row")
        column = graph.node("Unsqueeze", [row, graph.constant(f"{name}/axis", [1], np.int64)], f"{name}/column")
        apart = graph.node("Abs", [graph.node("Sub", [column, row], f"{name}/Sub")], f"{name}/apart")
        near = graph.node("Less", [apart, graph.constant(f"{name}/window", window, np.int64)], f"{name}/Less")
        kept, lost = (
            graph.constant(f"{name}/{key}", value, np.float32)
            for key, value in (("kept", 0.0), ("lost", np.finfo(np.float32).min))
        )
        square = graph.node("Where", [near, kept, lost], f"{name}/square")
        axes = graph.constant(f"{name}/axes", [0, 1], np.int64)
        bias = emission.once["near", window] = graph.node("Unsqueeze", [square, axes], name)
    return str(bias)


def split(emission: Emission, op: Attention | NormHeads, qkv: str, name: str) -> list[str]:
    """Take packed q, k, v apart, unless they are."""
    if (others := emission.once.get(("apart", qkv))) is not None:
        return [qkv, *others]
    sizes = emission.graph.constant("/model/attn/sizes", packed(op), np.int64)
    parts = [f"{name}/Split/output_{index}" for index in range(3)]
    emission.graph.node("Split", [qkv, sizes], f"{name}/Split", parts, axis=2)
    return parts


@emits(NormHeads)
def norm_heads(emission: Emission, step: Step, op: NormHeads) -> str:
    """Take q, k, v apart and normalize the heads of q and k as rows; attention takes the three as they are."""
    graph, name = emission.graph, step.name
    parts = split(emission, op, emission.value(op.qkv), name)
    for index, (which, heads, weight) in enumerate(
        [("q", op.num_heads, op.q_weight), ("k", op.num_kv_heads, op.k_weight)]
    ):
        if op.together and weight is not None:
            norm = layer_norm if op.centered else rms_norm
            parts[index] = norm(graph, f"{name}/{which}_norm", parts[index], graph.floats(weight), op.eps)
            continue
        apart = graph.constant(f"/model/attn/{which}_heads", [0, 0, heads, op.head_dim], np.int64)
        rows = graph.node("Reshape", [parts[index], apart], f"{name}/{which}_norm/Reshape")
        rows = _norm_rows(emission, f"{name}/{which}_norm", rows, weight, op)
        flat = graph.constant(f"/model/attn/{which}_width", [0, 0, heads * op.head_dim], np.int64)
        parts[index] = graph.node("Reshape", [rows, flat], f"{name}/{which}_norm/flat/Reshape")
    emission.once["apart", parts[0]] = parts[1], parts[2]
    return parts[0]


@emits(JoinHeads)
def join_heads(emission: Emission, step: Step, op: JoinHeads) -> str:
    """Repeat what the keys share for every head, in front of the head's own; attention takes q, k, v as they are."""
    graph, name, heads = emission.graph, step.name, op.num_kv_heads
    apart = graph.constant(f"/model/attn/keys_of_{heads}", [0, 0, heads, -1], np.int64)
    keys = graph.node("Reshape", [emission.value(op.k), apart], f"{name}/keys")
    axis = graph.constant("/model/attn/axis", [2], np.int64)
    shared = graph.node("Unsqueeze", [emission.value(op.shared), axis], f"{name}/shared")
    times = graph.constant(f"/model/attn/times_{heads}", [1, 1, heads, 1], np.int64)
    repeated = graph.node("Tile", [shared, times], f"{name}/repeated")
    joined = graph.node("Concat", [repeated, keys], f"{name}/Concat", axis=3)
    flat = graph.constant(f"/model/attn/flat_{heads}", [0, 0, heads * op.head_dim], np.int64)
    query = emission.value(op.q)
    emission.once["apart", query] = graph.node("Reshape", [joined, flat], f"{name}/k"), emission.value(op.v)
    return query


def _norm_rows(emission: Emission, name: str, rows: str, weight: Parameter | None, op: NormHeads) -> str:
    """Normalize (batch, sequence, heads, head_dim) over the last axis."""
    graph, norm = emission.graph, layer_norm if op.centered else rms_norm
    if weight is not None and weight.shape == (op.head_dim,):
        return norm(graph, name, rows, graph.floats(weight), op.eps)
    ones = graph.constant("/model/attn/ones", np.ones(op.head_dim), np.float32)
    rows = norm(graph, name, rows, ones, op.eps)
    if weight is None:
        return rows
    shape = graph.constant("/model/attn/head_weights", [-1, op.head_dim], np.int64)
    heads = graph.node("Reshape", [graph.floats(weight), shape], f"{name}/weight")
    return graph.node("Mul", [rows, heads], f"{name}/Mul")
