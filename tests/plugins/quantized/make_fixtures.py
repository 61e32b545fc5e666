"""Make ``fixtures/*.safetensors`` with the formats' own writers; run by hand, never by a test.

    python make_fixtures.py DIR

``DIR`` holds unpacked sdists or wheels: ``auto_gptq`` (0.7.1), ``autoawq-0.2.9``, ``hqq-0.2.8.post1``. Their packing
code is plain PyTorch; it is loaded file by file, since the packages want CUDA. Each file holds what the writer wrote,
under the module's name, and what it was given (``given.…``): levels, scales, zero points, or the values that its own
reader returns.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent / "fixtures"
SHAPES = {"model.layers.0.self_attn.o_proj": (64, 64), "model.layers.0.mlp.down_proj": (64, 96)}
GROUP = 32


def load(path: Path, name: str, **stubs: dict) -> types.ModuleType:
    """Load one file as a module; ``stubs`` are modules that it imports and does not need."""
    for stub, content in stubs.items():
        parts = stub.split("__")
        for depth in range(1, len(parts) + 1):
            sys.modules.setdefault(".".join(parts[:depth]), types.ModuleType(".".join(parts[:depth])))
        vars(sys.modules[".".join(parts)]).update(content)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def given(bits: int, shape: tuple[int, int], seed: int, order: torch.Tensor, least: int = 0) -> dict[str, torch.Tensor]:
    """Draw levels, scales and zero points, and the weight that they stand for."""
    torch.manual_seed(seed)
    groups = shape[1] // GROUP
    levels = torch.randint(0, 2**bits, shape)
    scales = (torch.rand(shape[0], groups) * 0.02 + 0.002).half().float()
    points = torch.randint(least, 2**bits, (shape[0], groups))
    weight = (levels - points[:, order]) * scales[:, order]
    return {"levels": levels, "scales": scales, "points": points, "weight": weight}


def linear(weight: torch.Tensor) -> torch.nn.Linear:
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight
    return layer


def keep(
    into: dict[str, torch.Tensor], module: str, state: dict[str, torch.Tensor], drawn: dict[str, torch.Tensor]
) -> None:
    into |= {f"{module}.{name}": value.contiguous() for name, value in state.items()}
    for name in ("levels", "points"):
        into[f"given.{module}.{name}"] = drawn[name].to(torch.uint8)
    into[f"given.{module}.scales"] = drawn["scales"].half()


def gptq(root: Path) -> None:
    writer = load(root / "auto_gptq/nn_modules/qlinear/qlinear_cuda.py", "gptq_writer")
    for name, bits, shuffled in (("gptq4", 4, False), ("gptq4_order", 4, True), ("gptq8", 8, False)):
        content: dict[str, torch.Tensor] = {}
        for seed, (module, shape) in enumerate(SHAPES.items()):
            order = torch.arange(shape[1]) // GROUP
            if shuffled:
                order = order[torch.randperm(shape[1], generator=torch.Generator().manual_seed(seed))]
            drawn = given(bits, shape, seed, order, least=1)
            layer = writer.QuantLinear(bits, GROUP, shape[1], shape[0], False, weight_dtype=torch.float32)
            layer.pack(linear(drawn["weight"]), drawn["scales"], drawn["points"].float(), order.to(torch.int32))
            state = {part: getattr(layer, part) for part in ("qweight", "qzeros", "g_idx")}
            keep(content, module, state | {"scales": layer.scales.half()}, drawn)
        save_file(content, HERE / f"{name}.safetensors")


def awq(root: Path) -> None:
    nothing = lambda *_: (None, "")  # noqa: E731
    writer = load(
        root / "autoawq-0.2.9/awq/modules/linear/gemm.py",
        "awq_writer",
        awq__utils__module={"try_import": nothing},
        awq__utils__utils={"get_best_device": lambda: "cpu"},
        awq__utils__packing_utils={"dequantize_gemm": None},
    )
    content: dict[str, torch.Tensor] = {}
    for seed, (module, shape) in enumerate(SHAPES.items()):
        drawn = given(4, shape, seed, torch.arange(shape[1]) // GROUP)
        layer = writer.WQLinear_GEMM.from_linear(
            linear(drawn["weight"]),
            4,
            GROUP,
            scales=drawn["scales"].T.contiguous(),
            zeros=drawn["points"].T.contiguous(),
        )
        keep(content, module, {part: getattr(layer, part) for part in ("qweight", "qzeros", "scales")}, drawn)
    save_file(content, HERE / "awq.safetensors")


def hqq(root: Path) -> None:
    sys.path.insert(0, str(root / "hqq-0.2.8.post1"))
    sys.modules.setdefault("termcolor", types.ModuleType("termcolor")).colored = str
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

    for bits in (4, 8):
        content: dict[str, torch.Tensor] = {}
        for seed, (module, shape) in enumerate(SHAPES.items()):
            torch.manual_seed(seed)
            config = BaseQuantizeConfig(nbits=bits, group_size=GROUP, axis=1)
            config["weight_quant_params"]["optimize"] = False
            layer = HQQLinear(linear(torch.randn(shape)), config, compute_dtype=torch.float32, device="cpu")
            content |= {f"{module}.{name}": value.contiguous() for name, value in layer.state_dict().items()}
            content[f"given.{module}.weight"] = layer.dequantize().contiguous()
        save_file(content, HERE / f"hqq{bits}.safetensors")


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    for make in (gptq, awq, hqq):
        make(Path(sys.argv[1]))
    for path in HERE.iterdir():
        path.chmod(0o644)
