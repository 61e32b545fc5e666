"""Datasets, declared once under global names."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from zoo.declarations.base import HttpUrl, HubId, Name, Revision, Sha256, Value
from zoo.declarations.licence import Licence


def _stays_inside(path: str) -> str:
    if path.startswith("/") or "\\" in path or "\0" in path or not {"..", "."}.isdisjoint(path.split("/")):
        raise ValueError(f"{path!r} leaves its folder; state a relative path without '..'")
    if path.startswith("-"):
        raise ValueError(f"{path!r} begins with a dash, which commands take for an option")
    return path


RelativePath = Annotated[str, StringConstraints(min_length=1, max_length=512), AfterValidator(_stays_inside)]
"""A path inside a repository or an archive: never absolute, never through ``..``."""

Purpose = Literal["calibration", "performance", "accuracy"]


class DatasetFile(Value):
    """One file of a dataset."""

    path: RelativePath
    """Its path in the hub repository, or its name when it comes from an address."""
    url: HttpUrl | None = None
    """Where it is when it is not in a hub repository."""
    sha256: Sha256 | None = None
    """Its checksum; a file with another one is refused."""
    split: str | None = None
    """Which split it holds, for example ``train`` or ``validation``."""


class Dataset(Value):
    """A named dataset: where its files are, how they read and what they are for."""

    name: Name
    """Its name, the same everywhere."""
    title: str
    """How it is called in lists and pages."""
    summary: str | None = None
    """What it holds."""
    hub: HubId | None = None
    """The hub dataset repository; absent when every file has its own address."""
    revision: Revision = "main"
    """A branch, a tag or a commit of the repository."""
    files: Annotated[tuple[DatasetFile, ...], Field(min_length=1)]
    """Its files."""
    format: Name
    """How a row reads: ``text-jsonl``, ``alpaca``, ``ceval``, ``sharegpt``, ``opencompass`` or a plugin's own."""
    purposes: Annotated[tuple[Purpose, ...], Field(min_length=1)]
    """What it is for: calibration, performance, accuracy."""
    licence: Licence
    """What one may do with it."""
    homepage: HttpUrl | None = None
    """Its page."""
    note: str | None = None
    """What a user should know."""

    @model_validator(mode="after")
    def _check(self) -> Dataset:
        for file in self.files:
            if self.hub is None and file.url is None:
                raise ValueError(f"file {file.path!r} has no url and the dataset names no hub repository")
        return self


class DatasetsFile(Value):
    """What a dataset YAML holds."""

    datasets: Annotated[tuple[Dataset, ...], Field(min_length=1)]
    """The datasets that this file declares."""


class CalibrationUse(Value):
    """How a family calibrates with a dataset."""

    dataset: Name
    """Its name."""
    samples: int = Field(default=128, ge=1)
    """How many samples are used."""
    sequence_length: int = Field(ge=1)
    """Tokens of a sample."""


class DatasetUses(Value):
    """Which datasets a family uses for what; the first of each is its default."""

    calibration: tuple[CalibrationUse, ...] = ()
    """For quantizers that look at activations."""
    performance: tuple[Name, ...] = ()
    """For ``zoo bench``."""
    accuracy: tuple[Name, ...] = ()
    """For ``zoo eval``."""
