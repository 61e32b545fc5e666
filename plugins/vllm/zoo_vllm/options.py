"""The options of the target: how the model is split, and what else ``vllm serve`` is told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationInfo, field_validator, model_validator

INSTALL = "pip install vllm, in an environment of its own (https://docs.vllm.ai says for which GPUs)"
KEY = "VLLM_API_KEY"
"""The variable in which vLLM looks for the key that requests must carry."""
ORIGINAL = {"weights": "original"}
"""The options with which nothing is built but the way to serve the original weights."""

OWN = ("api-key", "host", "port", "model", "served-model-name", "tensor-parallel-size", "pipeline-parallel-size")
"""What ``extra`` may not say: the target says it itself, and a key among arguments is one that ``ps`` shows."""
DECLARABLE = frozenset(
    [
        *("attention-backend", "block-size", "calculate-kv-scales", "cpu-offload-gb", "data-parallel-size"),
        *("disable-custom-all-reduce", "disable-log-requests", "disable-log-stats", "enable-auto-tool-choice"),
        *("enable-chunked-prefill", "enable-expert-parallel", "enable-prefix-caching", "enable-reasoning"),
        *("enforce-eager", "kv-cache-dtype", "long-prefill-token-threshold", "max-logprobs"),
        *("max-num-batched-tokens", "max-num-partial-prefills", "max-num-seqs", "max-seq-len-to-capture"),
        *("num-gpu-blocks-override", "quantization", "reasoning-parser", "rope-scaling", "rope-theta"),
        *("scheduling-policy", "seed", "swap-space", "tool-call-parser"),
    ]
)
"""What ``extra`` of a declaration may say: how fast and how much, never whom to serve, what to load or what to run."""


class VllmOptions(BaseModel):
    """How weights are stored, and what ``vllm serve`` is told."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())

    weights: Literal["built", "original"] = "built"
    """Whether a build stores weights, or only the script that serves the original ones from where they are."""
    format: Literal["pack-quantized", "int-quantized", "gptq"] = "pack-quantized"
    """How levels are stored: packed, for kernels that compute in 16 bits; as int8 with a scale a row, for kernels
    that quantize activations to 8 bits too (w8a8); or as GPTQ's own tools store them, which older servers read."""
    shard_gb: Annotated[float, Field(gt=0, le=1000)] = 5.0
    """Gigabytes of a safetensors file, at most, unless one weight alone takes more."""
    tp: Annotated[int, Field(ge=1, le=1024)] = 1
    """Tensor parallel size: GPUs that share every layer."""
    pp: Annotated[int, Field(ge=1, le=1024)] = 1
    """Pipeline parallel size: groups of such GPUs that take one run of layers each."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """What is computed in, and what scales and floats are stored as; auto follows the checkpoint, 16 bit at most."""
    max_model_len: Annotated[int, Field(ge=1)] | None = None
    """Tokens of prompt and answer together; by default the model's whole context."""
    gpu_memory_utilization: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Part of each GPU's memory to use."""
    distributed_executor_backend: Literal["mp", "ray"] | None = None
    """How the parts find each other: mp on one machine, ray over several."""
    extra: dict[str, JsonValue] = Field(default_factory=dict)
    """Further arguments of `vllm serve`, for example {"enforce-eager": true, "max-num-seqs": 64}."""

    @model_validator(mode="before")
    @classmethod
    def _as_the_checkpoint(cls, stated: Any, info: ValidationInfo) -> Any:
        """Spell out what follows from the checkpoint, so that it enters the recipe.

        That is its own type where weights are stored; and that weights are served as they are published, where vLLM
        reads their experts in no other form.
        """
        architecture, dtype = ((info.context or {}).get(key) for key in ("architecture", "dtype"))
        if isinstance(stated, dict) and architecture is not None and architecture.experts_in_turn:
            stated = {**ORIGINAL, **stated}
        if (
            dtype
            and isinstance(stated, dict)
            and stated.get("dtype", "auto") == "auto"
            and not ORIGINAL.items() <= stated.items()
        ):
            return {**stated, "dtype": dtype}
        return stated

    @property
    def stored(self) -> Literal["bfloat16", "float16"]:
        """The 16-bit type of scales and floats; bfloat16 as long as no checkpoint was looked at."""
        return "bfloat16" if self.dtype in ("auto", "bfloat16") else "float16"

    @field_validator("extra")
    @classmethod
    def _not_our_own(cls, extra: dict[str, JsonValue], info: ValidationInfo) -> dict[str, JsonValue]:
        declared = "extra" in (info.context or {}).get("declared", ())
        for name in extra:
            plain = _plain(name)
            if not re.fullmatch(r"[a-z0-9]+([-.][a-z0-9]+)*", plain):
                raise ValueError(f"{name!r} is not a name of an argument")
            if any(own.startswith(plain) for own in OWN):  # the tool takes any beginning of a name for the name
                raise ValueError(f"{name!r} has an option of its own")
            if declared and plain not in DECLARABLE:
                raise ValueError(f"{name!r} is not for a declaration to state; give it yourself with --extra")
        return extra

    def arguments(self) -> Iterator[str]:
        """Write the options as arguments of ``vllm serve``; what is left open is left to it."""
        yield from ("--tensor-parallel-size", str(self.tp), "--pipeline-parallel-size", str(self.pp))
        for name in ("dtype", "max_model_len", "gpu_memory_utilization", "distributed_executor_backend"):
            value = getattr(self, name)
            if value is not None and value != "auto":
                yield from (f"--{name.replace('_', '-')}", str(value))
        for key, given in self.extra.items():
            argument = _plain(key)
            if isinstance(given, bool):
                yield f"--{argument}" if given else f"--no-{argument}"
            elif given is not None:
                # In one word: a value that begins with a dash would be an argument of its own.
                yield f"--{argument}={given if isinstance(given, str) else json.dumps(given)}"


def _plain(name: str) -> str:
    """Write an argument's name as the tool's help does, without the leading dashes."""
    return name.replace("_", "-").removeprefix("--")
