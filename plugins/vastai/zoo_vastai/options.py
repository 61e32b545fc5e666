"""The options of the three targets. What is left open is filled in from the model's numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    field_validator,
    model_validator,
)

from zoo import Architecture

STEP = 16
"""Every shape is a multiple of it."""
TENSOR_PARALLEL = (4, 2, 1)
SHAPES = (1024, 2048)

Length = Annotated[int, Field(ge=1)]


def _travels(path: str) -> str:
    """Refuse a path into someone's home: options enter the recipe, and recipes travel."""
    if path.startswith("-") or not path.isprintable():
        raise ValueError("is not a path that a command can take; begin it with ./")
    if path.startswith("~") or Path(path).is_relative_to(Path.home()):
        raise ValueError(
            "lies in your home folder, which no recipe names; give it relative to the folder that the commands run in"
        )
    return path


Place = Annotated[str, Field(min_length=1), AfterValidator(_travels)]


def default_tp(heads: int) -> int:
    """Choose the tensor-parallel size of the hand-written files, 4, or the next smaller one that divides the heads."""
    return next(size for size in TENSOR_PARALLEL if heads % size == 0)


def default_shapes(context: int) -> tuple[int, int]:
    """Choose the lengths of the hand-written files, or what a shorter context leaves of them."""
    if context >= SHAPES[1]:
        return SHAPES
    longest = max(context // STEP, 1) * STEP
    return max(longest // 2 // STEP, 1) * STEP, longest


class CompiledOptions(BaseModel):
    """What a compiled model was compiled for; its name says it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())

    tp: Annotated[int, Field(ge=1, le=64)] | None = None
    """Devices that share the model; by default 4, or fewer where 4 does not divide the heads."""
    shapes: tuple[Length, Length] | None = None
    """Lengths of prefill (iter0) and decode (iter1), 1024,2048 by default; a shorter context shortens them."""

    @model_validator(mode="before")
    @classmethod
    def _from_the_model(cls, data: Any, info: ValidationInfo) -> Any:
        """Fill in what is open, where the context of the validation brings the model's numbers."""
        architecture = (info.context or {}).get("architecture")
        if not isinstance(data, dict) or not isinstance(architecture, Architecture):
            return data
        data = dict(data)
        if data.get("tp") is None:
            data["tp"] = default_tp(architecture.num_attention_heads)
        if data.get("shapes") is None:
            data["shapes"] = default_shapes(architecture.max_position_embeddings)
        return data


class VamcOptions(CompiledOptions):
    """What ``vamc quant`` and ``vamc compile`` are told."""

    mode: Annotated[Literal["throughput", "latency"], Field(json_schema_extra={"flags": True})] = "throughput"
    """What the build is for: b2s is on for throughput and off where latency is measured."""
    kv_cache: Literal["fp16", "int8"] = "fp16"
    """Precision of the KV cache; int8 goes with fp16 weights (w16kv8)."""
    device: Annotated[str, Field(min_length=1)] = "cuda:5"
    """Where `vamc quant` calibrates."""
    workers: Annotated[int, Field(ge=1)] = 4
    """Processes that compile."""
    workspace: Place = "./vacc_deploy"
    """Where the compiled model goes, seen from the folder that the commands run in, OUTPUT.work."""
    extra: dict[str, JsonValue] = Field(default_factory=dict)
    """Further keys of the compile file, for example {"backend": {"compile": {"data_type": 2}}}."""


class DeployOptions(CompiledOptions):
    """What both servers are told."""

    compiled: Place | None = None
    """Folder of the compiled model; by default where `vamc` leaves it, ./vacc_deploy/NAME."""
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    """Requests that are served at once."""
    devices: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Numbers of the devices; by default the first ones, as many as tp."""

    @field_validator("host")
    @classmethod
    def _listens_here(cls, host: str, info: ValidationInfo) -> str:
        """Let only the user open the port to other machines, not a declaration."""
        if "host" in (info.context or {}).get("declared", ()) and host not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError("a declaration does not open a port to other machines; give --host yourself")
        if not re.fullmatch(r"[A-Za-z0-9:\[][A-Za-z0-9.:\[\]-]*", host):
            raise ValueError("is not an address to listen on")
        return host


class VastgenxOptions(DeployOptions):
    """What ``vastgenx serve`` is told."""

    port: Annotated[int, Field(ge=1, le=65535)] = 9000
    """Port of the OpenAI-compatible interface."""


class LlmdeployOptions(DeployOptions):
    """What ``llmdeploy api|webui|benchmark|eval`` is told."""

    port: Annotated[int, Field(ge=1, le=65535)] = 7863
    """Port of the interface."""
    webui_port: Annotated[int, Field(ge=1, le=65535)] = 8502
    """Port of the web page."""
    publish_port: Annotated[int, Field(ge=1, le=65535)] = 5555
    """Port on which the model process publishes."""
    subscribe_port: Annotated[int, Field(ge=1, le=65535)] = 5556
    """Port on which the model process listens."""
    top_k: Annotated[int, Field(ge=1)] = 1
    """Tokens to choose from; 1 is greedy."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Probability mass to choose from."""
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """Divides the logits."""
    max_answer_tokens: Annotated[int, Field(ge=1)] | None = None
    """Length of an answer; by default what the decode length leaves after the prefill length."""
    deploy_config: Place | None = None
    """The model's deploy configuration, a file of the installation."""
    eval_config: Place | None = None
    """The evaluation's configuration, a file of the installation."""
    card_type: Annotated[str, Field(min_length=1)] | None = None
    """Kind of the card, for the benchmark's report."""
    eval_mode: Literal["all", "infer", "eval", "viz"] = "all"
    """Which steps of the evaluation to take."""
