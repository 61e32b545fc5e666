#!/usr/bin/env python3
"""What long prompts gain from products with a scale a token and a scale an output channel, beside those in blocks.

    python benchmarks/prefill_kernels.py [--rows 256,1024] [--rounds 5] [--json FILE]

Every step goes through MatMulNBits.  The other way (zoo/engine/rowwise) rounds each token's activations to 8 bits with
one scale and multiplies by weights with one scale an output channel (MatMulIntegerToFloat), from a second copy of them.
Both multiply the same chain of matrices here, in turns; error is that of the product against float64.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import machine
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

K, N, PRODUCTS = 2048, 5632, 12
MS = "com.microsoft"
Weights = list[NDArray[np.float32]]


def blocks(weight: NDArray[np.float32], bits: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Round (out, in) weights in blocks along a row, symmetric; return MatMulNBits' bytes and scales."""
    rows, columns = weight.shape
    half = 2 ** (bits - 1)
    grouped = weight.reshape(rows, columns // size, size)
    scales = np.abs(grouped).max(axis=2) / np.float32(half - 1)
    levels = np.clip(np.rint(grouped / scales[..., None]) + half, 0, 2 * half - 1).astype(np.uint8)
    packed = levels if bits == 8 else levels[..., ::2] | (levels[..., 1::2] << 4)
    return packed, scales.astype(np.float32)


def chain(weights: Weights, kind: str, bits: int, size: int) -> bytes:
    """A model that sends rows through every product, one after the other."""
    nodes, constants, x = [], [], "x"

    def constant(name: str, values: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    for index, weight in enumerate(weights):
        name, (rows, columns) = f"p{index}", weight.shape
        if kind == "blocks":
            packed, scales = blocks(weight, bits, size)
            given = [x, constant(f"{name}_b", packed), constant(f"{name}_s", scales.reshape(rows, -1))]
            nodes.append(helper.make_node("MatMulNBits", given, [name], domain=MS, K=columns, N=rows, bits=bits,
                                          block_size=size, accuracy_level=4))  # fmt: skip
        else:
            scale = np.abs(weight).max(axis=1) / np.float32(127)
            levels = np.ascontiguousarray(np.rint(weight / scale[:, None]).astype(np.int8).T)
            nodes += [
                helper.make_node("Abs", [x], [f"{name}_a"]),
                helper.make_node("ReduceMax", [f"{name}_a", constant(f"{name}_axes", np.int64([1]))], [f"{name}_m"]),
                helper.make_node("Mul", [f"{name}_m", constant(f"{name}_c", np.float32(1 / 127))], [f"{name}_r"]),
                helper.make_node("Div", [x, f"{name}_r"], [f"{name}_n"]),
                helper.make_node("QuantizeLinear", [f"{name}_n", constant(f"{name}_one", np.float32(1)),
                                                    constant(f"{name}_z", np.uint8(128))], [f"{name}_q"]),
                helper.make_node("MatMulIntegerToFloat", [f"{name}_q", constant(f"{name}_b", levels),
                                 f"{name}_one", constant(f"{name}_s", scale), f"{name}_z"], [f"{name}_y"], domain=MS),
                helper.make_node("Mul", [f"{name}_y", f"{name}_r"], [name]),
            ]  # fmt: skip
        x = name
    value = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", weights[0].shape[1]])]
    result = [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["rows", weights[-1].shape[0]])]
    graph = helper.make_graph(nodes, "chain", value, result, constants)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MS, 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


def opened(model: bytes) -> Any:
    """Open a model on all cores."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = machine.describe()["cores"]
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="256,1024")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    random = np.random.default_rng(0)
    shapes = [(N, K) if index % 2 == 0 else (K, N) for index in range(PRODUCTS)]
    weights = [random.standard_normal(shape, np.float32) / np.sqrt(shape[1], dtype=np.float32) for shape in shapes]
    kinds = {
        "MatMulNBits, 8 bits, block 128": ("blocks", 8, 128),
        "MatMulNBits, 4 bits, block 32": ("blocks", 4, 32),
        "MatMulNBits, 4 bits, block 128": ("blocks", 4, 128),
        "by rows and columns, 8 bits": ("columns", 8, 0),
    }
    sessions = {name: opened(chain(weights, *kind)) for name, kind in kinds.items()}
    errors = {}
    sample = random.standard_normal((64, K), np.float32)
    exact = sample.astype(np.float64) @ weights[0].T.astype(np.float64)
    for name, kind in kinds.items():
        found = opened(chain(weights[:1], *kind)).run(None, {"x": sample})[0]
        errors[name] = float(np.sqrt(((found - exact) ** 2).mean() / (exact**2).mean()))
    result: dict[str, Any] = {"machine": machine.describe(), "error": errors, "gflops": {}}
    columns = [int(rows) for rows in args.rows.split(",")]
    for rows in columns:
        x = random.standard_normal((rows, K), np.float32)
        times: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(args.rounds + 1):
            for name, session in sessions.items():
                started = time.perf_counter()
                session.run(None, {"x": x})
                times[name].append(time.perf_counter() - started)
        work = 2 * rows * K * N * PRODUCTS / 1e9
        result["gflops"][rows] = {name: [work / one for one in found[1:]] for name, found in times.items()}
    print("| | " + " | ".join(f"{rows} rows, GFLOP/s" for rows in columns) + " | error of a product |")
    print("|---|" + "---|" * (len(columns) + 1))
    for name in kinds:
        speeds = [f"{statistics.median(result['gflops'][rows][name]):.0f}" for rows in columns]
        print(f"| {name} | " + " | ".join(speeds) + f" | {errors[name]:.2%} |")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
