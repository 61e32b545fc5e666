"""Attention and the norms of its heads, by GroupQueryAttention.

Operators and their attributes: onnxruntime, docs/ContribOperators.md (domain com.microsoft).
"""

from __future__ import annotations

import numpy as np

from zoo.operations import Attention, NormHeads, Step
from zoo.targets.ort.emission import Emission, emits
from zoo.targets.ort.graph import MS
from zoo.targets.ort.inputs import QUERY_SEQLENS
from zoo.targets.ort.ops import rms
from zoo.targets.ort.tables import rotary_tables


@emits(Attention)
def attention(emission: Emission, step: Step, op: Attention) -> str:
    """GroupQueryAttention, rotary inside, over packed q, k, v and this layer's KV cache."""
    graph, name, qkv = emission.graph, step.name, emission.value(op.qkv)
    if (tables := emission.once.get("rotary")) is None:
        tables = emission.once["rotary"] = rotary_tables(graph, emission.inputs, op.rotary)
    cache: dict[str, list[str]] = {"past": [], "present": []}
    for part in ("key", "value"):
        for when, prefix in (("past", "past_key_values"), ("present", "present")):
            length = "past_sequence_length" if when == "past" else "total_sequence_length"
            declare = graph.input if when == "past" else graph.output
            shape: list[str | int] = ["batch_size", op.num_kv_heads, length, op.head_dim]
            cache[when].append(declare(f"{prefix}.{step.layer}.{part}", "float32", shape))
    lengths = emission.inputs.sequence_lengths()
    given = [qkv, *emission.once.get(("apart", qkv), ("", "")), *cache["past"], *lengths, *tables]
    if (queries := emission.inputs.query_lengths()) is not None:
        given += [""] * (QUERY_SEQLENS - len(given)) + [queries]
    return graph.node(
        f"{MS}::GroupQueryAttention",
        given,
        f"{name}/GroupQueryAttention",
        [f"{name}/GroupQueryAttention/output_0", *cache["present"]],
        num_heads=op.num_heads,
        kv_num_heads=op.num_kv_heads,
        scale=op.scale,
        do_rotary=1,
        rotary_interleaved=0,
        # A window that is as wide as the context hides nothing, and costs nothing.
        **({} if op.window is None or op.window >= op.rotary.context else {"local_window_size": op.window}),
    )


@emits(NormHeads)
def norm_heads(emission: Emission, step: Step, op: NormHeads) -> str:
    """Take q, k, v apart and normalize the heads of q and k as rows; attention takes the three as they are."""
    graph, name, kv_width = emission.graph, step.name, op.num_kv_heads * op.head_dim
    sizes = graph.constant("/model/attn/sizes", [op.num_heads * op.head_dim, kv_width, kv_width], np.int64)
    parts = [f"{name}/Split/output_{index}" for index in range(3)]
    graph.node("Split", [emission.value(op.qkv), sizes], f"{name}/Split", parts, axis=2)
    for index, (which, heads, weight) in enumerate(
        [("q", op.num_heads, op.q_weight), ("k", op.num_kv_heads, op.k_weight)]
    ):
        apart = graph.constant(f"/model/attn/{which}_heads", [0, 0, heads, op.head_dim], np.int64)
        rows = graph.node("Reshape", [parts[index], apart], f"{name}/{which}_norm/Reshape")
        rows = rms(graph, f"{name}/{which}_norm", rows, weight, op.eps)
        flat = graph.constant(f"/model/attn/{which}_width", [0, 0, heads * op.head_dim], np.int64)
        parts[index] = graph.node("Reshape", [rows, flat], f"{name}/{which}_norm/flat/Reshape")
    emission.once["apart", parts[0]] = parts[1], parts[2]
    return parts[0]
