"""What a file or folder is that no source opens, and what to do with it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from zoo.errors import ZooError
from zoo.sources.companions import CONFIG, MAX_CONFIG
from zoo.sources.jsonfile import read_object

ADAPTER = "adapter_config.json"
_TRAINERS = re.compile(r"checkpoint-(\d+)")


def explain(path: Path) -> str:
    """Say what a file or folder is instead of a checkpoint, and what to do; without its name."""
    if path.is_file():
        if path.suffix == ".gguf":
            return "is a GGUF file, which no loaded plugin reads; `zoo plugins` says what is loaded"
        return "is a file that no source reads; name the folder that holds the checkpoint or the package"
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return kind_of(path, names) or f"is neither a checkpoint nor a package: it holds no {CONFIG} and no zoo.json"


def kind_of(folder: Path, names: list[str]) -> str | None:
    """Recognise what a folder without readable weights holds; None where nothing is known."""
    if ADAPTER in names:
        base = _base_of(folder)
        return f"holds an adapter{base}, not a model; name its base: zoo build BASE --adapter {folder}"
    gguf = next((name for name in names if name.endswith(".gguf")), None)
    if gguf:
        return f"holds GGUF; name the file: {folder / gguf}"
    saved = sorted((int(match[1]), name) for name in names if (match := _TRAINERS.fullmatch(name)))
    if saved:
        return f"is a trainer's folder with {len(saved)} of its checkpoints inside; name one, as {saved[-1][1]}"
    if "zero_to_fp32.py" in names or any(name.startswith("global_step") for name in names):
        return "holds the state of a partitioned training run; join it first: python zero_to_fp32.py . ."
    if "params.json" in names:
        return (
            "holds weights in the layout of their authors' own code (params.json), not of transformers; "
            f"get the repository that has a {CONFIG}, or convert them with transformers' script for this model"
        )
    return None


def _base_of(folder: Path) -> str:
    """Name the base of an adapter, where that is not a path."""
    try:
        config: dict[str, Any] = read_object(folder / ADAPTER, MAX_CONFIG)
    except ZooError:
        return ""
    base = config.get("base_model_name_or_path")
    named = isinstance(base, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", base)
    return f" for {base}" if named else ""
