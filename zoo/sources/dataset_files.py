"""The files of declared datasets: from the hub into the cache that all share, from addresses into the zoo's own."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

from zoo.declarations.dataset import Dataset, DatasetFile
from zoo.errors import ZooError
from zoo.home import zoo_home
from zoo.sources.hub import cached_snapshot, check_id, check_revision, is_offline, storage_folder
from zoo.sources.hub_errors import Place, attempt, describe_licence
from zoo.sources.redirects import requested
from zoo.sources.repository import inspect
from zoo.sources.transfer import Arrival, Tally, Wanted, bring

log = logging.getLogger("zoo")
_LONGEST_SIZE = 20
"""Digits of a size that is one."""


def locate_dataset(dataset: Dataset) -> dict[str, Path] | None:
    """Find the files of a dataset on this machine, by their declared paths; None where one is missing; asks nobody."""
    paths = {}
    for file in dataset.files:
        folder = _own_folder(dataset) if file.url is not None else _snapshot(dataset)
        if folder is None or not (folder / file.path).is_file():
            return None
        paths[file.path] = folder / file.path
    return paths


def find_in_folder(dataset: Dataset, folder: Path) -> dict[str, Path]:
    """Find the files of a dataset in a folder that a user brought them to, by their declared paths.

    Raises:
        ZooError: one is not there, or not what is declared.
    """
    paths = {}
    for file in dataset.files:
        places = (folder / file.path, folder / Path(file.path).name, folder / dataset.name / file.path)
        there = next((place for place in places if place.is_file()), None)
        if there is None:
            raise ZooError(f"{folder}: holds no {file.path} of dataset {dataset.name}")
        if file.sha256 is not None and _sha256(there) != file.sha256:
            raise ZooError(f"{there}: its SHA-256 is not the one that dataset {dataset.name} declares")
        paths[file.path] = there
    return paths


def bring_dataset(
    dataset: Dataset,
    *,
    offline: bool = False,
    token: str | None = None,
    progress: Callable[[Arrival], None] | None = None,
) -> tuple[dict[str, Path], int]:
    """Bring the files of a dataset and check them.

    Args:
        dataset: its declaration.
        offline: take what is here, or fail.
        token: for the hub; by default ``HF_TOKEN`` or the saved login.
        progress: told after each piece.

    Returns:
        Declared path → file, and the bytes that came over the network.

    Raises:
        ZooError: why a file did not come, and what to do.
    """
    if is_offline(offline):
        located = locate_dataset(dataset)
        if located is None:
            raise ZooError(
                f"dataset {dataset.name} is not on this machine, and the network is off (--offline or HF_HUB_OFFLINE); "
                f"run `zoo fetch --dataset {dataset.name}` with the network on"
            )
        return located, 0
    arrived = 0
    files: dict[str, Path] = {}
    from_hub = [file for file in dataset.files if file.url is None]
    if from_hub:
        snapshot, came = _from_hub(dataset, from_hub, token, progress)
        files |= {file.path: snapshot / file.path for file in from_hub}
        arrived += came
    for file in dataset.files:
        if file.url is not None:
            files[file.path], came = _from_address(dataset, file, file.url, progress)
            arrived += came
    return files, arrived


def _from_hub(
    dataset: Dataset, files: list[DatasetFile], token: str | None, progress: Callable[[Arrival], None] | None
) -> tuple[Path, int]:
    assert dataset.hub is not None
    check_id(dataset.hub)
    check_revision(dataset.revision)
    storage = storage_folder(dataset.hub, "dataset")
    remote = inspect(dataset.hub, dataset.revision, storage, kind="dataset", licence=dataset.licence, token=token)
    for file in files:
        if file.path not in remote.files:
            raise ZooError(f"dataset {dataset.name}: {dataset.hub} at {dataset.revision} holds no {file.path}")
    checksums = {file.path: file.sha256 for file in files if file.sha256 is not None}
    arrived = remote.pull([file.path for file in files], progress=progress, checksums=checksums)
    remote.keep_revision()
    return remote.snapshot, arrived


def _from_address(
    dataset: Dataset, file: DatasetFile, url: str, progress: Callable[[Arrival], None] | None
) -> tuple[Path, int]:
    """Bring one file from its own address."""
    path = _own_folder(dataset) / file.path
    if path.is_file():
        if file.sha256 is None or _sha256(path) == file.sha256:
            return path, 0
        log.warning("dataset %s: %s here is not what is declared; it is brought again", dataset.name, file.path)
    place = Place(f"dataset {dataset.name}", endpoint=url, kind="address", licence=dataset.licence)
    size, etag = attempt(lambda: _describe(url), place)
    log.warning("dataset %s: licence %s", dataset.name, describe_licence(dataset.licence))
    # Another version of the file at the same address must not be glued to the beginning of this one.
    version = hashlib.sha256(f"{url} {etag} {size}".encode()).hexdigest()[:12]
    partial = path.with_name(f".{path.name}.{version}.zoo-partial")
    for other in path.parent.glob(f".{glob.escape(path.name)}.*.zoo-partial"):
        if other != partial:  # of a version that the address no longer has
            other.unlink(missing_ok=True)
    tally = Tally(size or 0, progress)
    bring(Wanted(file.path, url, size, file.sha256, public=True), partial, tally, place)
    with contextlib.suppress(FileNotFoundError):  # another command was faster
        partial.replace(path)
    return path, tally.arrived


def _describe(url: str) -> tuple[int | None, str]:
    """Ask an address for the size and the etag of what it holds; a server may answer no such question."""
    from huggingface_hub import hf_raise_for_status

    with requested("HEAD", url, {"Accept-Encoding": "identity"}, public=True) as response:
        if response.status_code in (403, 405, 501):
            return None, ""
        hf_raise_for_status(response)
        length = response.headers.get("content-length", "")
        stated = length.isascii() and length.isdecimal() and len(length) < _LONGEST_SIZE
        return int(length) if stated else None, response.headers.get("etag", "")


def _own_folder(dataset: Dataset) -> Path:
    return zoo_home() / "datasets" / dataset.name


def _snapshot(dataset: Dataset) -> Path | None:
    return cached_snapshot(storage_folder(str(dataset.hub), "dataset"), dataset.revision)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
