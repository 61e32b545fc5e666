"""Where tasks get their files from."""

from __future__ import annotations

from pathlib import Path

from zoo.errors import UsageError, ZooError
from zoo.evaluation.datafiles import DataFiles, FolderFiles, open_data
from zoo.registry import Registry


class DataSource:
    """Gives tasks their files: those of ``--data``, or of the dataset that was fetched; opened once."""

    def __init__(self, registry: Registry, given: Path | None) -> None:
        self._registry = registry
        self._given = open_data(given) if given is not None else None
        self._opened: dict[str, DataFiles] = {}

    def __call__(self, dataset: str | None) -> DataFiles:
        from zoo.sources.dataset_files import locate_dataset

        if self._given is not None:
            return self._given
        if dataset is None:
            raise UsageError("this task measures your own text: name the file with --data FILE")
        if dataset not in self._opened:
            declared = self._registry.dataset(dataset)
            paths = locate_dataset(declared)
            if paths is None:
                raise ZooError(
                    f"the dataset {dataset} is not on this machine; fetch it with `zoo fetch --dataset {dataset}`, or "
                    "name the folder that holds it with --data DIR"
                )
            first = next(iter(paths.values()))
            self._opened[dataset] = open_data(first) if len(paths) == 1 else FolderFiles(first.parent)
        return self._opened[dataset]
