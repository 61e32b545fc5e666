"""Where weights and datasets lie for the vendor's tools, and the commands that bring what is not on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator

from zoo import TargetContext, ToolCommand


def checkpoint_path(context: TargetContext) -> str:
    """Name the weights' folder: where they are, or where the fetch command puts them, beside what commands leave."""
    return str(context.weights.absolute()) if context.weights is not None else f"./{context.weights_name}"


def dataset_folder(context: TargetContext, name: str) -> str:
    """Name a dataset's folder: where it is, or where the fetch command puts it, in the folder that commands run in."""
    found = context.dataset_folders.get(name)
    return str(found.absolute()) if found is not None else f"./datasets/{name}"


def dataset_file(context: TargetContext, name: str) -> str:
    """Name the first file of a dataset."""
    dataset = context.datasets.get(name)
    folder = dataset_folder(context, name)
    return f"{folder}/{dataset.files[0].path}" if dataset is not None else folder


def fetch_weights(context: TargetContext) -> Iterator[ToolCommand]:
    """Fetch the weights, where they are not on this machine."""
    if context.weights is not None or context.hub is None:
        return
    revision = () if context.revision == "main" else ("--revision", context.revision)
    argv = ("hf", "download", context.hub, *revision, "--local-dir", context.weights_name)
    yield ToolCommand(argv=argv, purpose="fetch the weights")


def fetch_dataset(context: TargetContext, name: str) -> Iterator[ToolCommand]:
    """Fetch a dataset and unpack its archives, where it is not on this machine."""
    dataset = context.datasets.get(name)
    if dataset is None or name in context.dataset_folders:
        return
    folder, purpose = f"datasets/{name}", f"fetch the dataset {name}"
    from_hub = [file.path for file in dataset.files if file.url is None]
    if from_hub and dataset.hub is not None:
        revision = () if dataset.revision == "main" else ("--revision", dataset.revision)
        source = ("hf", "download", dataset.hub, *from_hub, "--repo-type", "dataset", *revision)
        yield ToolCommand(argv=(*source, "--local-dir", folder), purpose=purpose)
    for file in dataset.files:
        path = f"{folder}/{file.path}"
        if file.url is not None:
            argv = ("curl", "--fail", "--location", "--create-dirs", "--output", path, file.url)
            yield ToolCommand(argv=argv, purpose=purpose)
        if path.endswith(".zip"):
            yield ToolCommand(argv=("python3", "-m", "zipfile", "-e", path, folder), purpose=f"unpack {file.path}")


def checkpoint_template(context: TargetContext) -> str | None:
    """Read the chat template that the checkpoint brings, where it is on this machine and brings one."""
    if context.weights is None:
        return None
    template = context.weights / "chat_template.jinja"
    if template.is_file():
        return template.read_text(encoding="utf-8")
    try:
        found = json.loads((context.weights / "tokenizer_config.json").read_bytes()).get("chat_template")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None
