"""Ask the hub whether it holds what is declared; with the network off, say that nobody asked."""

from __future__ import annotations

from zoo.declarations.dataset import Dataset
from zoo.errors import ZooError
from zoo.registry import DeclaredFamily
from zoo.stages.validate.findings import Page
from zoo.yamlfile import Location

UNREACHABLE = "cannot be reached"
"""How the hub's client says that there is no way to it."""


def check_family_hub(page: Page, declared: DeclaredFamily) -> None:
    """Look for each model's repository, its configuration and its weights."""
    for index, model in enumerate(declared.models):
        weights = model.model.weights
        if weights.hub is not None:
            at: Location = ("models", index, "weights")
            _look(page, at, weights.hub, weights.revision, "model", ("config.json",), model.licence.gated)


def check_dataset_hub(page: Page, at: Location, dataset: Dataset) -> None:
    """Look for each file of a dataset that lies on the hub."""
    if dataset.hub is not None:
        names = tuple(one.path for one in dataset.files if one.url is None)
        _look(page, at, dataset.hub, dataset.revision, "dataset", names, dataset.licence.gated)


def _look(
    page: Page, at: Location, repository: str, revision: str, kind: str, names: tuple[str, ...], gated: bool
) -> None:
    from zoo.sources import hub
    from zoo.sources.repository import inspect
    from zoo.sources.weightfiles import absence, choose

    line = page.document.mark(at)[0] if page.document is not None else 0
    try:
        remote = inspect(repository, revision, hub.storage_folder(repository, kind), kind=kind)
        for name in names:
            if name not in remote.files:
                page.error(at, f"{repository} holds no {name}", "see its files on the hub")
        if kind == "model" and choose(remote.files) is None:
            page.error(at, f"{repository} {absence(remote.files)}", "name the repository that holds the weights")
    except ZooError as error:
        if any(one.message.startswith("an open question") and one.line == line for one in page.findings):
            return  # nobody has said yet where they are
        if UNREACHABLE in str(error):
            page.note(at, f"the hub was not asked: {error}")
        elif gated:
            page.note(at, f"the hub keeps its files to those who accepted the terms: {error}")
        else:
            page.error(at, str(error))
