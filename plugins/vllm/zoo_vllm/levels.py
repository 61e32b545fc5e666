"""Which schemes vLLM reads, how each weight gets one of them, and how ``config.json`` states them.

Source: vLLM, ``model_executor/layers/quantization/compressed_tensors`` (schemes, fused layers) and ``mixed_precision``
kernels (groups of 32, 64, 128 or a whole row); compressed-tensors 0.20, ``quantization/quant_args.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from zoo import BlockScheme, FloatScheme, PackageContents, Parameter, Scheme, ZooError
from zoo_vllm.options import VllmOptions

GROUPS = (32, 64, 128)
SPLIT_INPUTS = ("o_proj", "out_proj", "down_proj", "dense_4h_to_h", "fc2", "w2", "dense")
"""Linears whose columns, not rows, are dealt out to the GPUs of a tensor parallel group."""
FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Linears that vLLM puts in one: they are stored alike."""
ROUTERS = (".gate.weight", ".router.weight", ".shared_expert_gate.weight")
"""What vLLM computes in floats whatever the rest is stored as."""


def adapted(parameter: Parameter, scheme: Scheme, options: VllmOptions) -> Scheme:
    """Give a weight a scheme that vLLM reads: 16-bit scales; floats for what is not one matrix of a linear layer.

    Raises:
        ZooError: the format or vLLM's kernels have no such scheme; the message says what would fit.
    """
    dtype, name = options.stored, parameter.name
    plain = parameter.kind != "linear" or parameter.role == "lm_head" or name.endswith(ROUTERS)
    if plain or not isinstance(scheme, BlockScheme):
        return FloatScheme(dtype=dtype)
    if len(parameter.shape) != 2 or not name.endswith("weight"):
        raise ZooError(
            f"target 'vllm': {name} holds matrices of several experts in one tensor, which {options.format} does not "
            "store; build fp16"
        )
    if not scheme.symmetric:
        raise ZooError(
            f"target 'vllm': {name} would get zero points, and vLLM's kernels for {options.format} take symmetric "
            "levels everywhere; leave --quantizer-option symmetric=false out"
        )
    (rows, columns), block = parameter.shape, scheme.block_size
    row = scheme.blocks(columns) == 1
    if options.format == "int-quantized" and (scheme.bits != 8 or not row):
        raise ZooError(
            f"target 'vllm': int-quantized stores 8 bits and one scale a row, not {scheme.bits} bits in groups of "
            f"{block}; build int8 with --quantizer-option block_size=row"
        )
    if not row and block not in GROUPS:
        sizes = fitting(columns)
        fit = f"--block-size {' or '.join(map(str, sizes))}, or " if sizes else ""
        raise ZooError(
            f"target 'vllm': {name} would get groups of {block} columns, which vLLM has no kernels for; choose {fit}"
            "a whole row by --quantizer-option block_size=row"
        )
    keep = f"keep it as floats: --quantizer-option {shown_keep(parameter)}"
    if options.format == "gptq":
        keep = "build --format pack-quantized"
        if rows * scheme.bits % 32:
            raise ZooError(f"target 'vllm': the {rows} zero points of {name} do not fill whole int32 words; {keep}")
    if columns * scheme.bits % 32 or (not row and columns % block):
        raise ZooError(
            f"target 'vllm': the {columns} columns of {name} do not fill whole "
            f"{'int32 words' if row else f'groups of {block}'}; {keep}"
        )
    split = name.removesuffix(".weight").endswith(SPLIT_INPUTS)
    if split and not row and columns // options.tp % block:
        sizes = fitting(columns // options.tp)
        fit = f"--block-size {' or '.join(map(str, sizes))}" if sizes else "--quantizer-option block_size=row"
        raise ZooError(
            f"target 'vllm': tp {options.tp} gives each GPU {columns // options.tp} columns of {name}, which cuts a "
            f"group of {block}; choose {fit}, or another --tp"
        )
    return scheme.model_copy(update={"scale_type": dtype, "block_size": min(block, columns)})


def fitting(columns: int) -> list[int]:
    """List the group sizes that divide a row."""
    return [size for size in GROUPS if columns % size == 0]


def shown_keep(parameter: Parameter) -> str:
    """Write the option that keeps a weight, in every layer, as floats."""
    return f"'keep={json.dumps({parameter.role or parameter.name: 'fp16'})}'"


def configuration(contents: PackageContents, options: VllmOptions) -> bytes:
    """Write ``config.json``: the checkpoint's own, with the type of its floats and how its levels are stored.

    Raises:
        ZooError: there is none, or linears that vLLM fuses are not stored alike.
    """
    config = json.loads(contents.companions.get("config.json", b"{}"))
    config.pop("quantization_config", None)
    config |= dict.fromkeys({"torch_dtype"} | ({"dtype"} & config.keys()), options.stored)
    groups: dict[str, list[str]] = {}
    floats = []
    cut = {scheme.block_size for scheme in _blocks(contents)}  # sizes that some row has several groups of
    for array in contents.arrays:
        parameter, scheme = array.parameter, contents.schemes[array.parameter.name]
        module = parameter.name.removesuffix(".weight")
        if isinstance(scheme, FloatScheme):
            if parameter.kind == "linear" and len(parameter.shape) > 1:
                floats.append(module)
        elif module not in groups.setdefault(stated := json.dumps(_weights(scheme, cut)), []):
            groups[stated].append(module)
    if groups:
        alike(contents.schemes)
        config["quantization_config"] = _stated(groups, floats, options)
    return (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()


def alike(schemes: Mapping[str, Scheme]) -> None:
    """Refuse linears that vLLM fuses and that are stored differently.

    Raises:
        ZooError: naming two of them.
    """
    for name, scheme in schemes.items():
        module, _, linear = name.removesuffix(".weight").rpartition(".")
        for fused in FUSED:
            for other in fused if linear in fused else ():
                if schemes.get(f"{module}.{other}.weight", scheme) != scheme:
                    raise ZooError(
                        f"target 'vllm': vLLM fuses {linear} and {other} of {module}, which would be stored "
                        "differently; give both the same precision and group"
                    )


def _blocks(contents: PackageContents) -> Iterator[BlockScheme]:
    """List the schemes of weights whose rows have several scales."""
    for array in contents.arrays:
        scheme = contents.schemes[array.parameter.name]
        if isinstance(scheme, BlockScheme) and scheme.blocks(array.parameter.columns) > 1:
            yield scheme


def _stated(groups: Mapping[str, list[str]], floats: list[str], options: VllmOptions) -> dict[str, Any]:
    """State how levels are stored, by module where they differ.

    Raises:
        ZooError: they differ, and the format has one statement for all.
    """
    if options.format == "gptq":
        return _one_statement(groups, floats)
    if options.format == "int-quantized":
        inputs: dict[str, Any] | None = {**_number(8), "strategy": "token", "dynamic": True}
    else:
        inputs = None
    stated = {}
    for number, (weights, modules) in enumerate(groups.items()):
        stated[f"group_{number}"] = {
            "targets": ["Linear"] if len(groups) == 1 else modules,
            "weights": json.loads(weights),
            "input_activations": inputs,
            "output_activations": None,
        }
    return {
        "quant_method": "compressed-tensors",
        "format": options.format,
        "quantization_status": "compressed",
        "config_groups": stated,
        "ignore": [*floats, *(() if "lm_head" in floats else ("lm_head",))],
        "kv_cache_scheme": None,
    }


def _one_statement(groups: Mapping[str, list[str]], floats: list[str]) -> dict[str, Any]:
    other = [name for name in floats if name != "lm_head" and not f"{name}.weight".endswith(ROUTERS)]
    if len(groups) > 1 or other:
        first, second = [modules[0] for modules in (*groups.values(), other) if modules][:2]
        raise ZooError(
            f"target 'vllm': {first} and {second} would be stored differently, and gptq states one width and group for "
            "all; build --format pack-quantized"
        )
    (weights,) = map(json.loads, groups)
    return {
        "quant_method": "gptq",
        "bits": weights["num_bits"],
        "group_size": weights["group_size"] or -1,
        "desc_act": False,
        "sym": True,
        "lm_head": False,
        "checkpoint_format": "gptq",
    }


def _weights(scheme: BlockScheme, cut: set[int]) -> dict[str, Any]:
    if scheme.block_size in cut:
        return {**_number(scheme.bits), "strategy": "group", "group_size": scheme.block_size, "dynamic": False}
    return {**_number(scheme.bits), "strategy": "channel", "group_size": None, "dynamic": False}


def _number(bits: int) -> dict[str, Any]:
    return {"num_bits": bits, "type": "int", "symmetric": True}
