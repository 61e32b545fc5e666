"""The options of the target: how the model is split, and what else ``vllm serve`` is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

OWN = ("api-key", "host", "port", "model", "served-model-name", "tensor-parallel-size", "pipeline-parallel-size")
"""What ``extra`` may not say: the target says it itself, and a key among arguments is one that ``ps`` shows."""


class VllmOptions(BaseModel):
    """What ``vllm serve`` is told."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())

    tp: Annotated[int, Field(ge=1, le=1024)] = 1
    """Tensor parallel size: GPUs that share every layer."""
    pp: Annotated[int, Field(ge=1, le=1024)] = 1
    """Pipeline parallel size: groups of such GPUs that take one run of layers each."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """What is computed in; auto follows the checkpoint, 16 bit at most."""
    max_model_len: Annotated[int, Field(ge=1)] | None = None
    """Tokens of prompt and answer together; by default the model's whole context."""
    gpu_memory_utilization: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Part of each GPU's memory to use."""
    distributed_executor_backend: Literal["mp", "ray"] | None = None
    """How the parts find each other: mp on one machine, ray over several."""
    extra: dict[str, JsonValue] = Field(default_factory=dict)
    """Further arguments of `vllm serve`, for example {"enforce-eager": true, "max-num-seqs": 64}."""

    @field_validator("extra")
    @classmethod
    def _not_our_own(cls, extra: dict[str, JsonValue]) -> dict[str, JsonValue]:
        for name in extra:
            plain = name.replace("_", "-").removeprefix("--")
            if plain in OWN:
                raise ValueError(f"{name!r} has an option of its own")
            if not plain or not plain.replace("-", "").replace(".", "").isalnum():
                raise ValueError(f"{name!r} is no name of an argument")
        return extra

    def arguments(self) -> Iterator[str]:
        """Write the options as arguments of ``vllm serve``; what is left open is left to it."""
        yield from ("--tensor-parallel-size", str(self.tp), "--pipeline-parallel-size", str(self.pp))
        for name in ("dtype", "max_model_len", "gpu_memory_utilization", "distributed_executor_backend"):
            value = getattr(self, name)
            if value is not None and value != "auto":
                yield from (f"--{name.replace('_', '-')}", str(value))
        for key, given in self.extra.items():
            argument = key.replace("_", "-").removeprefix("--")
            if isinstance(given, bool):
                yield f"--{argument}" if given else f"--no-{argument}"
            elif given is not None:
                yield from (f"--{argument}", given if isinstance(given, str) else json.dumps(given))
