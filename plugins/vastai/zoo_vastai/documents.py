"""The input files of ``vamc``, key by key, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from zoo import Architecture
from zoo_vastai.options import VamcOptions
from zoo_vastai.rules import align_qkv

QUANTIZE = {"int8": "w8a16_gptq"}
KV8 = "w16kv8"


def build_name(
    weights_name: str, precision: str, tp: int, shapes: tuple[int, ...], *, quantized_cache: bool = False
) -> str:
    """Name a build as the hand-written files do: the checkpoint's folder, precision, tp, shapes, an 8-bit cache."""
    return "-".join([weights_name, precision, f"tp{tp}", *map(str, shapes), *(["kv8"] if quantized_cache else [])])


def compile_document(
    *, weights_name: str, checkpoint: str, precision: str, architecture: Architecture, options: VamcOptions
) -> dict[str, Any]:
    """Make the input of ``vamc compile``."""
    assert options.tp is not None
    assert options.shapes is not None
    model_kwargs: dict[str, Any] = {"tp": options.tp, "b2s": options.mode == "throughput", "model_arch": "vacc"}
    if align_qkv(architecture, options.tp):
        model_kwargs["align_qkv"] = True
    frontend: dict[str, Any] = {
        "checkpoint": checkpoint,
        "type": "huggingface",
        "shape": {"input_ids": [[shape] for shape in options.shapes]},
        "model_kwargs": model_kwargs,
    }
    kind = KV8 if options.kv_cache == "int8" else QUANTIZE.get(precision)
    if kind is not None:
        frontend["quantize"] = {"type": kind}
    document = {
        "name": build_name(
            weights_name, precision, options.tp, options.shapes, quantized_cache=options.kv_cache == "int8"
        ),
        "frontend": frontend,
        "backend": {
            "type": "tvm_vacc",
            "dtype": precision,
            "merge_params": True,
            "compile": {"data_type": 0, "gather_data_vccl_dsp_enable": True},
        },
        "workspace": {"path": options.workspace, "workers": options.workers},
    }
    return merged(document, options.extra)


def quant_document(
    compiled: Mapping[str, Any],
    *,
    device: str,
    true_sequential: bool,
    dataset: str,
    path: str,
    samples: int,
    sequence_length: int,
) -> dict[str, Any]:
    """Make the input of ``vamc quant`` from that of ``vamc compile``: how to calibrate, and with what."""
    calibration = {"device": device, "calib_args": {"true_sequential": true_sequential}}
    data = {"type": "huggingface", "nsamples": samples, "name": dataset, "path": path, "seqlen": sequence_length}
    return merged(compiled, {"frontend": {"quantize": calibration}, "dataset": data})


def merged(document: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Lay further keys over a document, mapping by mapping."""
    result = dict(document)
    for key, value in extra.items():
        own = result.get(key)
        result[key] = merged(own, value) if isinstance(own, dict) and isinstance(value, dict) else value
    return result


_Base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the same text, five times as fast


class _Dumper(_Base):  # type: ignore[misc]
    """Writes texts of several lines as blocks, as one would by hand."""


def _text(dumper: Any, text: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def dump(document: Mapping[str, Any]) -> bytes:
    """Write a document as YAML, keys in their order."""
    style = {"sort_keys": False, "default_flow_style": None, "allow_unicode": True, "width": 4096}
    return str(yaml.dump(dict(document), Dumper=_Dumper, **style)).encode()
