"""Fetch: bring weights and datasets to this machine, before anything is built or measured with them."""

from __future__ import annotations

from collections.abc import Callable

from zoo.contracts import Checkpoint
from zoo.declarations.base import Value
from zoo.declarations.licence import Licence
from zoo.errors import UsageError
from zoo.registry import Registry
from zoo.sources import hub
from zoo.sources.dataset_files import bring_dataset
from zoo.sources.transfer import Arrival
from zoo.stages.adapters import adapter_files
from zoo.stages.locations import HUB, Location
from zoo.stages.subject import identify
from zoo.stages.weights import locate_weights


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
    """Bring the weights of a model, its declared adapter, and what lies beside them that a build needs.

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
    location = locate_weights(registry, subject, None, revision)
    assert location is not None  # a subject that is not a package has its weights somewhere
    licence = declared.licence if declared is not None else None
    adapter = declared.model.adapter if declared is not None else None
    if adapter is not None:
        adapter_files(adapter.hub, adapter.revision, offline=offline)
    if location.source != HUB:
        checkpoint = location.open(registry, offline=offline, licence=licence)
        return _described(subject.label, location, checkpoint, licence, progress)
    repository, wanted = location.text, location.revision or "main"
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
        bytes=sum(file.bytes for file in files),
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
    dataset = registry.dataset(name)
    paths, downloaded = bring_dataset(dataset, offline=offline, progress=progress)
    files = tuple(FetchedFile(name=str(path), bytes=path.stat().st_size) for path in paths.values())
    return FetchedDataset(
        dataset=name,
        licence=dataset.licence,
        files=files,
        bytes=sum(file.bytes for file in files),
        downloaded_bytes=downloaded,
    )


def _described(
    label: str,
    location: Location,
    checkpoint: Checkpoint,
    licence: Licence | None,
    progress: Callable[[Arrival], None] | None,
) -> FetchedWeights:
    """Bring what a source other than the hub lacks, and describe it, checked as far as its headers go."""
    missing = checkpoint.download_bytes
    checkpoint = checkpoint.bring(progress)
    sizes = {name: len(checkpoint.companion(name) or b"") for name in checkpoint.companions()}
    sizes |= {name: stamp[2] for name, stamp in checkpoint.stamps().items()}
    checkpoint.close()
    return FetchedWeights(
        model=label,
        repository=location.hub,
        revision=location.revision,
        commit=checkpoint.revision,
        folder=str(checkpoint.folder or location.text),
        licence=licence,
        files=tuple(FetchedFile(name=name, bytes=size) for name, size in sorted(sizes.items())),
        bytes=sum(sizes.values()),
        downloaded_bytes=missing,
    )
