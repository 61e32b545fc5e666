"""Where checkpoints keep the decoder's tensors: under which names, and which rows of a tensor that holds several."""

from __future__ import annotations

from functools import lru_cache

from zoo.declarations.architecture import Architecture

Rows = range | tuple[int, ...]

EMBEDDING, FINAL_NORM, HEAD = "model.embed_tokens", "model.norm", "lm_head"
_LAYERS, _QKV, _GATE_UP = "model.layers", "self_attn.qkv_proj", "mlp.gate_up_proj"


def outside(arch: Architecture, module: str) -> str:
    """Say what a module outside the layers is called."""
    return arch.tensor_names.get(module, module)


def inside(arch: Architecture, layer: int, module: str) -> tuple[str, Rows | None, int | None]:
    """Say what a module of a layer is called, which rows are its own (None: all), and how many there are."""
    rows, count = None, None
    projection = module.removeprefix("self_attn.").removesuffix("_proj")
    if projection in ("q", "k", "v") and arch.qkv_layout != "apart":
        sizes = arch.num_attention_heads // arch.num_key_value_heads, arch.num_key_value_heads, arch.head_dim
        module, rows = _QKV, _of_qkv(arch.qkv_layout == "grouped", *sizes)["qkv".index(projection)]
        count = (arch.num_attention_heads + 2 * arch.num_key_value_heads) * arch.head_dim
    elif module in ("mlp.gate_proj", "mlp.up_proj") and arch.fused_gate_up:
        ffn = arch.intermediate_size
        rows, count = range(ffn) if module == "mlp.gate_proj" else range(ffn, 2 * ffn), 2 * ffn
        module = _GATE_UP
    names = arch.tensor_names
    return f"{names.get(_LAYERS, _LAYERS)}.{layer}.{names.get(module, module)}", rows, count


@lru_cache(maxsize=16)
def _of_qkv(grouped: bool, group: int, kv_heads: int, size: int) -> tuple[Rows, Rows, Rows]:
    """List the rows of q, of k and of v, where ``group`` heads of q share one of k and v."""
    q, kv = group * kv_heads * size, kv_heads * size
    if not grouped:
        return range(q), range(q, q + kv), range(q + kv, q + 2 * kv)

    def rows(heads: range) -> Rows:
        starts = [(kv_head * (group + 2) + head) * size for kv_head in range(kv_heads) for head in heads]
        return tuple(start + value for start in starts for value in range(size))

    return rows(range(group)), rows(range(group, group + 1)), rows(range(group + 1, group + 2))
