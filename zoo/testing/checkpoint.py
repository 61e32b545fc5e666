"""Tiny checkpoints as the hub would hold them: ``config.json``, safetensors, a tokenizer; random or empty weights."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.declarations.architecture import Architecture
from zoo.declarations.traits import Trait, fields_with

Tensors = Mapping[str, tuple[int, ...]]
SPECIAL = ("<unk>", "<s>", "</s>")


def write_config(
    folder: Path,
    arch: Architecture,
    model_type: str,
    tokens: Mapping[str, Any],
    own: Mapping[str, Any] | None = None,
    *,
    claim: Any = None,
) -> None:
    """Write ``config.json``: the fields of an architecture are named as there, unless it has keys of its ``own``.

    Args:
        claim: what a file of this type leaves unsaid (``ArchitectureFields``). The size of a head is stated where it
            does not follow from others or the claim speaks of it: some types have no key for it.
    """
    # What follows from the type is no key of the file; a window is said even where there is none, for a type whose
    # files mean one by saying nothing.
    unsaid = fields_with(Architecture, Trait.IMPLIED) + fields_with(Architecture, Trait.WINDOW)
    numbers = arch.model_dump(mode="json", exclude={"type", "options", *unsaid}, exclude_none=True)
    numbers |= {"sliding_window": arch.sliding_window, "use_sliding_window": arch.use_sliding_window}
    if arch.sliding_window is None and claim is not None and claim.sliding_window_pattern is not None:
        numbers["layer_types"] = ["full_attention"] * arch.num_hidden_layers
    follows = arch.head_dim * arch.num_attention_heads == arch.hidden_size
    if follows and claim is not None and claim.head_dim is None:
        del numbers["head_dim"]
    for field, key in arch.config_names.items():
        numbers.pop(field, None)
        numbers[key] = getattr(arch, field)
    if arch.kv_lora_rank is not None:  # a type whose files mean a number by saying nothing
        numbers["q_lora_rank"] = arch.q_lora_rank
    scaling = numbers.get("rope_scaling")
    if scaling is not None and scaling["rope_type"] != "yarn":
        scaling.pop("truncate", None)
    if scaling is not None and scaling["rope_type"] == "longrope":  # stated beside the factors
        numbers["original_max_position_embeddings"] = scaling.pop("original_max_position_embeddings")
    stated = {**numbers, **arch.options} if own is None else own
    config = {"model_type": model_type, **stated, "torch_dtype": "float32", **tokens}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def write_random(folder: Path, tensors: Tensors, seed: int) -> None:
    """Write float32 weights, drawn so that the signal keeps its size and greedy choices are clear."""
    import numpy as np

    draw = np.random.default_rng(seed)
    with _file(folder, tensors, "F32", 4) as file:
        for name, shape in tensors.items():
            values = draw.standard_normal(shape, np.float32)
            if len(shape) > 1:
                values *= 1.6 / math.sqrt(shape[-1])
            else:
                values = 0.1 * values + (0.0 if name.endswith("bias") else 1.0)
            file.write(np.ascontiguousarray(values, "<f4").tobytes())


def write_empty(folder: Path, tensors: Tensors) -> int:
    """Write float16 zeros that take no room on the disk; return how many bytes they stand for."""
    size = 2 * sum(math.prod(shape) for shape in tensors.values())
    with _file(folder, tensors, "F16", 2) as file:
        file.truncate(file.tell() + size)
    return size


def _file(folder: Path, tensors: Tensors, dtype: str, item: int) -> Any:
    header: dict[str, Any] = {}
    at = 0
    for name, shape in tensors.items():
        end = at + item * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    file = (folder / "model.safetensors").open("wb")
    file.write(struct.pack("<Q", len(raw)) + raw)
    return file


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer of single bytes, which knows every text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token=SPECIAL[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": SPECIAL[0], "bos_token": SPECIAL[1],
        "eos_token": SPECIAL[2],
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
