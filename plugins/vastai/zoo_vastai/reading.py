"""Read a vendor compile or quantization file back into the options that would write it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from zoo import Architecture, CalibrationUse, YamlDocument, ZooError
from zoo_vastai.documents import KV8, build_name, compile_document
from zoo_vastai.options import VamcOptions


class _Calibration(BaseModel):
    name: str
    nsamples: int = Field(default=128, ge=1)
    seqlen: int = Field(ge=1)


class _Quantize(BaseModel):
    type: str
    device: str | None = None
    calib_args: dict[str, Any] = Field(default_factory=dict)


class _Shape(BaseModel):
    input_ids: list[list[int]] = Field(min_length=1)


class _Frontend(BaseModel):
    checkpoint: str = Field(min_length=1)
    shape: _Shape
    model_kwargs: dict[str, Any]
    quantize: _Quantize | None = None


class _Backend(BaseModel):
    dtype: str


class _File(BaseModel):
    name: str
    frontend: _Frontend
    backend: _Backend
    workspace: dict[str, Any] = Field(default_factory=dict)
    dataset: _Calibration | None = None


@dataclass(frozen=True)
class CompileFile:
    """What a file says, in this plugin's terms."""

    path: Path
    label: str
    """The path from the folder that was given, which tells files of one name apart."""
    data: Mapping[str, Any]
    name: str
    checkpoint: str
    precision: str
    tp: int
    shapes: tuple[int, ...]
    options: dict[str, Any]
    """Options of the target as the file states them, without ``extra``."""
    align_qkv: bool
    calibration: CalibrationUse | None
    true_sequential: bool

    @property
    def weights_name(self) -> str:
        """The checkpoint folder's own name."""
        return PurePosixPath(self.checkpoint.replace("\\", "/")).name

    @property
    def content_name(self) -> str:
        """What a build of the file's content is called."""
        quantized_cache = self.options["kv_cache"] == "int8"
        return build_name(self.weights_name, self.precision, self.tp, self.shapes, quantized_cache=quantized_cache)

    @property
    def quantizes(self) -> bool:
        """The file is for ``vamc quant``."""
        return self.calibration is not None


def read_file(path: Path, label: str) -> CompileFile:
    """Read one file.

    Args:
        label: what findings call it.

    Raises:
        ZooError: it is not YAML, or not a compile file; the message names the line.
    """
    document = YamlDocument(path)
    if not isinstance(document.data, dict) or not {"frontend", "backend"} <= document.data.keys():
        raise ZooError(f"{path}: not a compile file: it holds no frontend and backend")
    file = document.validate(_File)
    kwargs = file.frontend.model_kwargs
    tp = kwargs.get("tp", 1)
    if not isinstance(tp, int) or isinstance(tp, bool) or tp < 1:
        raise ZooError(str(document.problem(("frontend", "model_kwargs", "tp"), f"tp must be a number, not {tp!r}")))
    shapes = tuple(one[-1] for one in file.frontend.shape.input_ids if one)
    if len(shapes) != 2 or any(len(one) != 1 for one in file.frontend.shape.input_ids):
        message = "two lengths are wanted, [[prefill], [decode]]"
        raise ZooError(str(document.problem(("frontend", "shape", "input_ids"), message)))
    quantize = file.frontend.quantize
    options: dict[str, Any] = {
        "tp": tp,
        "shapes": shapes,
        "mode": "throughput" if kwargs.get("b2s", False) else "latency",
        "kv_cache": "int8" if quantize is not None and quantize.type == KV8 else "fp16",
    }
    workspace = {"workspace": file.workspace.get("path"), "workers": file.workspace.get("workers")}
    options |= {name: value for name, value in workspace.items() if value is not None}
    if quantize is not None and quantize.device is not None:
        options["device"] = quantize.device
    calibration = None
    if file.dataset is not None:
        try:
            calibration = CalibrationUse(
                dataset=file.dataset.name, samples=file.dataset.nsamples, sequence_length=file.dataset.seqlen
            )
        except ValidationError:
            raise ZooError(str(document.problem(("dataset", "name"), f"{file.dataset.name!r} is not a name"))) from None
    return CompileFile(
        path=path,
        label=label,
        data=document.data,
        name=file.name,
        checkpoint=file.frontend.checkpoint,
        precision=file.backend.dtype,
        tp=tp,
        shapes=shapes,
        options=options,
        align_qkv=bool(kwargs.get("align_qkv", False)),
        calibration=calibration,
        true_sequential=bool((quantize.calib_args if quantize else {}).get("true_sequential", False)),
    )


def departures(file: CompileFile, architecture: Architecture) -> tuple[dict[str, Any], list[str]]:
    """Find what a file changes of the target's defaults, and which keys it lacks that the target writes.

    Raises:
        ZooError: a value that the options refuse.
    """
    context = {"architecture": architecture}
    try:
        plain = VamcOptions.model_validate(file.options, context=context)
    except ValidationError as error:
        first = error.errors()[0]
        raise ZooError(f"{file.path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    written = compile_document(
        weights_name=file.weights_name, checkpoint=file.checkpoint, precision=file.precision,
        architecture=architecture, options=plain,
    )  # fmt: skip
    actual = {key: value for key, value in file.data.items() if key not in ("name", "dataset")}
    frontend = dict(actual["frontend"])
    if isinstance(frontend.get("quantize"), dict):
        quantize = {key: value for key, value in frontend["quantize"].items() if key not in ("device", "calib_args")}
        frontend["quantize"] = quantize
    actual["frontend"] = frontend
    written.pop("name")
    extra = _added(actual, written)
    extra.get("frontend", {}).get("model_kwargs", {}).pop("align_qkv", None)
    extra = _pruned(extra)
    options = VamcOptions.model_validate({**file.options, "extra": extra}, context=context).model_dump(mode="json")
    defaults = VamcOptions.model_validate({}, context=context).model_dump(mode="json")
    changed = {name: value for name, value in options.items() if value != defaults[name]}
    return changed, list(_lacking(written, actual))


def _added(actual: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in actual.items():
        own = written.get(key)
        if isinstance(value, dict) and isinstance(own, dict):
            inner = _added(value, own)
            if inner:
                result[key] = inner
        elif key not in written or value != own:
            result[key] = value
    return result


def _pruned(tree: dict[str, Any]) -> dict[str, Any]:
    pruned = {key: _pruned(value) if isinstance(value, dict) else value for key, value in tree.items()}
    return {key: value for key, value in pruned.items() if value != {}}


def _lacking(written: Mapping[str, Any], actual: Mapping[str, Any], at: str = "") -> Iterator[str]:
    for key, value in written.items():
        where = f"{at}{key}"
        if key not in actual:
            if where != "frontend.model_kwargs.align_qkv":
                yield where
        elif isinstance(value, dict) and isinstance(actual[key], dict):
            yield from _lacking(value, actual[key], f"{where}.")
