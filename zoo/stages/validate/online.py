"""Ask the hub whether it holds what is declared; with the network off, say that nobody asked."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

from zoo.declarations.dataset import Dataset
from zoo.errors import ZooError
from zoo.registry import DeclaredFamily, UnknownBase
from zoo.sources import hub
from zoo.sources.repository import inspect
from zoo.sources.weightfiles import absence, choose
from zoo.stages.validate.findings import Page
from zoo.yamlfile import Location

UNREACHABLE = "cannot be reached"
"""How the hub's client says that there is no way to it."""
AT_ONCE = 8
"""Requests on their way at a time."""


@dataclass(frozen=True)
class Question:
    """A repository that a declaration names, and the files that it should hold."""

    page: Page
    at: Location
    repository: str
    revision: str
    kind: str
    names: tuple[str, ...]
    gated: bool

    def ask(self) -> list[tuple[str, str]] | ZooError:
        """Look, and list what is wrong, each with its mend.

        Returns:
            The error where the hub gave no answer.
        """
        try:
            remote = inspect(
                self.repository, self.revision, hub.storage_folder(self.repository, self.kind), kind=self.kind
            )
        except ZooError as error:
            return error
        wrong = [
            (f"{self.repository} holds no {name}", "see its files on the hub")
            for name in self.names
            if name not in remote.files
        ]
        if self.kind == "model" and choose(remote.files) is None:
            wrong.append((f"{self.repository} {absence(remote.files)}", "name the repository that holds the weights"))
        return wrong

    def report(self, answer: list[tuple[str, str]] | ZooError) -> None:
        """Write down what came of it."""
        if not isinstance(answer, ZooError):
            for line, mend in answer:
                self.page.error(self.at, line, mend)
            return
        place = self.page.document.mark(self.at)[0] if self.page.document is not None else 0
        if any(
            finding.message.startswith("an open question") and finding.line == place for finding in self.page.findings
        ):
            return  # nobody has said yet where they are
        if self.gated:
            self.page.note(self.at, f"the hub keeps its files to those who accepted the terms: {answer}")
        else:
            self.page.error(self.at, str(answer))


def family_questions(page: Page, declared: DeclaredFamily) -> Iterator[Question]:
    """Ask for each model's repository, its configuration and its weights."""
    for index, model in enumerate(declared.models):
        weights, at = model.model.weights, ("models", index, "weights")
        if weights.hub is not None:
            try:
                gated = model.licence.gated
            except UnknownBase:  # said elsewhere
                gated = False
            yield Question(page, at, weights.hub, weights.revision, "model", ("config.json",), gated)


def dataset_questions(page: Page, at: Location, dataset: Dataset) -> Iterator[Question]:
    """Ask for each file of a dataset that lies on the hub."""
    if dataset.hub is not None:
        names = tuple(file.path for file in dataset.files if file.url is None)
        yield Question(page, at, dataset.hub, dataset.revision, "dataset", names, dataset.licence.gated)


def ask_hub(questions: list[Question], *, offline: bool) -> None:
    """Ask everything, several at a time. A hub that cannot be reached is asked no more, and said once a file."""
    reason = "the network is off" if offline else None
    with ThreadPoolExecutor(AT_ONCE) as pool:
        # The first alone: whether there is a hub at all takes several tries to find out.
        for start, end in pairwise([0, *range(1, len(questions), AT_ONCE), len(questions)]):
            several = questions[start:end]
            answers = pool.map(Question.ask, several) if reason is None else [None] * len(several)
            for question, answer in zip(several, answers, strict=True):
                if isinstance(answer, ZooError) and UNREACHABLE in str(answer):
                    reason, answer = str(answer), None
                if answer is not None:
                    question.report(answer)
                else:
                    question.page.note(question.at[:1], f"the hub was not checked: {reason}")
