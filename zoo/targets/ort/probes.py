"""One-node trials of the kernels that packages use, for ``zoo doctor``: each computes a value that is known.

Operators and their attributes: onnxruntime, docs/ContribOperators.md (domain com.microsoft).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from zoo.declarations.recipe import Precision
from zoo.errors import ZooError
from zoo.operations import Activation, Attention, LayerNorm, Operation, Program, RmsNorm
from zoo.targets.ort.graph import IR_VERSION, MS, OPSET
from zoo.toolchain import Probe

_BLOCK = 128
_BITS: Mapping[Precision, tuple[int, ...]] = {"int8": (8,), "int4": (4, 8), "fp16": (), "fp32": ()}
"""Precision → widths of its blocks; an int4 package keeps some matrices at 8 bits."""


def run_node(op: str, inputs: Mapping[str, Any], outputs: int = 1, **attributes: Any) -> list[Any]:
    """Run one node on the CPU; an input without a value is left out.

    Raises:
        Exception: whatever onnxruntime has against it.
    """
    import onnxruntime as ort

    domain, _, kind = op.rpartition("::")
    names = [name if value is not None else "" for name, value in inputs.items()]
    results = [f"out_{index}" for index in range(outputs)]
    node = helper.make_node(kind, names, results, "probe", domain=domain, **attributes)
    # Weights as initializers: some kernels insist, and prepack them.
    constants = [numpy_helper.from_array(value, name) for name, value in inputs.items() if value is not None]
    declared = [helper.make_empty_tensor_value_info(name) for name in results]
    graph = helper.make_graph([node], "probe", [], declared, constants)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MS, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {}))


def _expect(found: Any, wanted: Any, tolerance: float = 1e-2) -> None:
    if not np.allclose(found, wanted, rtol=tolerance, atol=tolerance):
        raise ZooError(f"computes {np.ravel(found)[:3]}, not {np.ravel(wanted)[:3]}")


def _blocks(bits: int, rows: int) -> tuple[Any, Any]:
    """Make rows of ones, as blocks: q - zero point = 1 everywhere, scale 1."""
    value = 2 ** (bits - 1) + 1
    byte = value if bits == 8 else value << 4 | value
    return np.full((rows, 1, _BLOCK * bits // 8), byte, np.uint8), np.ones((rows, 1), np.float32)


def matmul_nbits(bits: int) -> None:
    """Multiply ones by ones, quantized."""
    weight, scales = _blocks(bits, 16)
    inputs = {"a": np.ones((1, _BLOCK), np.float32), "b": weight, "scales": scales}
    sizes = {"K": _BLOCK, "N": 16, "bits": bits, "block_size": _BLOCK, "accuracy_level": 4}
    _expect(run_node(f"{MS}::MatMulNBits", inputs, **sizes)[0], float(_BLOCK))


def gather_block_quantized(bits: int) -> None:
    """Look up a quantized row of ones."""
    weight, scales = _blocks(bits, 16)
    inputs = {"data": weight.reshape(16, -1), "indices": np.array([[3]], np.int64), "scales": scales}
    sizes = {"bits": bits, "block_size": _BLOCK, "gather_axis": 0, "quantize_axis": 1}
    _expect(run_node(f"{MS}::GatherBlockQuantized", inputs, **sizes)[0], 1.0)


def fused_matmul() -> None:
    """Multiply by a transposed matrix."""
    inputs = {"a": np.ones((1, 8), np.float32), "b": np.ones((4, 8), np.float32)}
    _expect(run_node(f"{MS}::FusedMatMul", inputs, transB=1)[0], 8.0)


def rms_norm() -> None:
    """Normalize a row of twos."""
    inputs = {"x": np.full((1, 1, 8), 2, np.float32), "scale": np.ones(8, np.float32)}
    _expect(run_node("SimplifiedLayerNormalization", inputs, axis=-1, epsilon=1e-6, stash_type=1)[0], 1.0)


def add_rms_norm() -> None:
    """Add two rows of ones and normalize."""
    one = np.ones((1, 1, 8), np.float32)
    inputs = {"x": one, "skip": one.copy(), "gamma": np.ones(8, np.float32)}
    _expect(run_node(f"{MS}::SkipSimplifiedLayerNormalization", inputs, epsilon=1e-6)[0], 1.0)


def attention(heads: int, kv_heads: int, head_size: int) -> None:
    """Attend from one token to itself: the value comes out as it is."""
    width = (heads + 2 * kv_heads) * head_size
    past = np.zeros((1, kv_heads, 0, head_size), np.float32)
    inputs = {
        "qkv": np.ones((1, 1, width), np.float32),
        "key": None,
        "value": None,
        "past_key": past,
        "past_value": past.copy(),
        "seqlens": np.zeros((1, 1), np.int32),
        "total": np.array(1, np.int32),
        "cos": np.ones((8, head_size // 2), np.float32),
        "sin": np.zeros((8, head_size // 2), np.float32),
    }
    sizes = {"num_heads": heads, "kv_num_heads": kv_heads, "do_rotary": 1, "rotary_interleaved": 0}
    _expect(run_node(f"{MS}::GroupQueryAttention", inputs, outputs=3, **sizes)[0], 1.0)


def layer_norm() -> None:
    """Normalize a row of one and three."""
    inputs = {"x": np.array([[[1, 3]]], np.float32), "scale": np.ones(2, np.float32)}
    _expect(run_node("LayerNormalization", inputs, axis=-1, epsilon=1e-6, stash_type=1)[0], [[[-1.0, 1.0]]])


def activation(kind: str) -> None:
    """Apply the activation at zero."""
    from zoo.targets.ort.ops import GELU, PLAIN, SIGMOIDS

    x = {"x": np.zeros((1, 8), np.float32)}
    if kind in SIGMOIDS:
        _expect(run_node(f"{MS}::QuickGelu", x, alpha=SIGMOIDS[kind])[0], 0.0)
    elif kind in GELU:
        _expect(run_node("Gelu", x, approximate=GELU[kind])[0], 0.0)
    else:
        _expect(run_node(PLAIN[kind], x)[0], 0.5 if kind == "sigmoid" else 0.0)


def probes(program: Program | None, precisions: Sequence[Precision], head_multiple: int) -> Iterable[Probe]:
    """List the trials for builds of these precisions: what a model's computation uses, or without one what most use."""

    def probe(name: str, run: Callable[..., None], *arguments: Any) -> Probe:
        return Probe(name, lambda: run(*arguments))

    def used(*kinds: type[Operation]) -> bool:
        return program is None or any(isinstance(step.operation, kinds) for step in program.steps)

    for bits in sorted({bits for one in precisions for bits in _BITS[one]}, reverse=True):
        yield probe(f"MatMulNBits {bits} bit", matmul_nbits, bits)
        yield probe(f"GatherBlockQuantized {bits} bit", gather_block_quantized, bits)
    if any(not _BITS[one] for one in precisions):
        yield probe("FusedMatMul", fused_matmul)
    if used(RmsNorm):
        yield probe("SimplifiedLayerNormalization", rms_norm)
        yield probe("SkipSimplifiedLayerNormalization", add_rms_norm)
    if program is not None and used(LayerNorm):
        yield probe("LayerNormalization", layer_norm)
    shapes = [(4, 2, head_multiple)]
    functions = ["silu"]
    if program is not None:
        layers = [one for one in program.all(Attention) if one.causal]
        shapes = list(dict.fromkeys((one.num_heads, one.num_kv_heads, one.head_dim) for one in layers))
        functions = list(dict.fromkeys(one.function for one in program.all(Activation)))
    for heads, kv_heads, size in shapes:
        yield probe(f"GroupQueryAttention {heads}/{kv_heads} heads of {size}", attention, heads, kv_heads, size)
    for kind in functions:
        yield probe(f"activation {kind}", activation, kind)
