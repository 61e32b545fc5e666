"""Fetch: bring weights and datasets to this machine, before anything is built or measured with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.declarations.base import Value
from zoo.declarations.licence import Licence
from zoo.errors import UsageError
from zoo.registry import Registry
from zoo.stages.subject import identify

if TYPE_CHECKING:
    from zoo.sources.transfer import Arrival


class FetchedFile(Value):
    """A file that is on this machine now."""

    name: str
    bytes: int


class FetchedWeights(Value):
    """The weights of a model, complete for a build."""

    model: str
    repository: str | None
    """The hub repository; None for weights that are a folder anyway."""
    revision: str | None
    """What was asked for: a branch, a tag or a commit."""
    commit: str | None
    """What that meant."""
    folder: str
    licence: Licence | None
    files: tuple[FetchedFile, ...]
    bytes: int
    downloaded_bytes: int


class FetchedDataset(Value):
    """A dataset, complete as declared."""

    dataset: str
    licence: Licence
    files: tuple[FetchedFile, ...]
    """Each by the path that it has here."""
    bytes: int
    downloaded_bytes: int


def fetch_weights(
    registry: Registry,
    text: str,
    *,
    revision: str | None = None,
    offline: bool = False,
    progress: Callable[[Arrival], None] | None = None,
) -> FetchedWeights:
    """Bring the weights of a model, and what lies beside them that a build needs.

    Args:
        registry: who knows the declared models.
        text: a declared model or a hub id; a folder of weights is taken as it is.
        revision: instead of the declared one.
        offline: take what is on this machine, or fail.
        progress: told after each piece.

    Raises:
        UsageError: an unknown name, or a package.
        ZooError: why they did not come, and what to do.
    """
    subject = identify(registry, text)
    if subject.package is not None:
        raise UsageError(f"{subject.label} is a package already; there is nothing to fetch for it")
    declared = subject.declared
    folder = subject.folder or (declared.weights_folder if declared is not None else None)
    if folder is not None:
        if revision is not None:
            raise UsageError(f"{subject.label}: its weights are a folder, which has no revision {revision!r}")
        return _folder(subject.label, folder, declared.licence if declared is not None else None)
    from zoo.sources import hub

    source = declared.model.weights if declared is not None else None
    repository = str(source.hub if source is not None else subject.hub)
    wanted = revision or (source.revision if source is not None else "main")
    licence = declared.licence if declared is not None else None
    fetched = hub.fetch(repository, wanted, licence=licence, offline=offline, progress=progress)
    files = tuple(FetchedFile(name=name, bytes=size) for name, size in sorted(fetched.files.items()))
    return FetchedWeights(
        model=subject.label,
        repository=repository,
        revision=wanted,
        commit=fetched.commit,
        folder=str(fetched.folder),
        licence=fetched.licence,
        files=files,
        bytes=sum(one.bytes for one in files),
        downloaded_bytes=fetched.downloaded,
    )


def fetch_dataset(
    registry: Registry,
    name: str,
    *,
    offline: bool = False,
    progress: Callable[[Arrival], None] | None = None,
) -> FetchedDataset:
    """Bring the files of a declared dataset.

    Raises:
        UsageError: nobody declares it.
        ZooError: why a file did not come, and what to do.
    """
    from zoo.sources.dataset_files import bring_dataset

    dataset = registry.dataset(name)
    paths, downloaded = bring_dataset(dataset, offline=offline, progress=progress)
    files = tuple(FetchedFile(name=str(path), bytes=path.stat().st_size) for path in paths.values())
    return FetchedDataset(
        dataset=name,
        licence=dataset.licence,
        files=files,
        bytes=sum(one.bytes for one in files),
        downloaded_bytes=downloaded,
    )


def _folder(label: str, folder: Path, licence: Licence | None) -> FetchedWeights:
    """Describe weights that need no fetching, checked as far as their headers go."""
    from zoo.sources.folder import open_folder

    checkpoint = open_folder(folder)
    sizes = {path.name: path.stat().st_size for path in checkpoint.companions()}
    sizes |= {name: size for name, (size, _) in checkpoint.stamps().items()}
    checkpoint.close()
    return FetchedWeights(
        model=label,
        repository=None,
        revision=None,
        commit=None,
        folder=str(folder),
        licence=licence,
        files=tuple(FetchedFile(name=name, bytes=size) for name, size in sorted(sizes.items())),
        bytes=sum(sizes.values()),
        downloaded_bytes=0,
    )
