"""Find declarations in files and folders, and read them with everything that is wrong in their schema."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from zoo.declarations.dataset import DatasetsFile
from zoo.declarations.family import Family
from zoo.errors import UsageError
from zoo.mistakes import explain, mistakes
from zoo.stages.validate.findings import Finding, Page
from zoo.yamlfile import MAX_PROBLEMS, DeclarationError, Document, Location, Problem

SKIPPED = frozenset({"node_modules", "build", "dist", "site-packages", "__pycache__"})
QUESTION = "TODO(you)"
"""Marks what a generated declaration cannot know."""


def yaml_files(path: Path) -> list[Path]:
    """List the YAML files of a folder that may be declarations, or the one file.

    Raises:
        UsageError: there is no such file or folder.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UsageError(f"there is no file, folder or plugin {str(path)!r}")
    return [
        entry
        for entry in sorted(path.rglob("*"))
        if entry.suffix in (".yaml", ".yml")
        and entry.is_file()
        and not any(part.startswith(".") or part in SKIPPED for part in entry.relative_to(path).parts)
    ]


def read(path: Path, *, named: bool) -> tuple[Page, Family | DatasetsFile | None] | None:
    """Read a declaration.

    Args:
        named: the user named this very file; otherwise a YAML that declares nothing is passed over with None.
    """
    page = Page(str(path))
    try:
        page.document = document = Document(path)
    except DeclarationError as error:
        page.findings += [_finding(problem) for problem in error.problems]
        return page, None
    if not _declares(document.data):
        if not named:
            return None
        page.error(
            (), "this declares neither models nor datasets", "a family has `models:`, a file of datasets `datasets:`"
        )
        return page, None
    model: type[Family] | type[DatasetsFile] = (
        DatasetsFile if isinstance(document.data.get("datasets"), list) else Family
    )
    for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if QUESTION in text:
            page.findings.append(_question(page.name, line, text))
    try:
        return page, model.model_validate(document.data)
    except ValidationError as error:
        problems = mistakes(error)
        for mistake in problems[:MAX_PROBLEMS]:
            at = tuple(mistake["loc"])
            page.error(at, explain(mistake), _mend(model, at, mistake["type"]))
        if len(problems) > MAX_PROBLEMS:
            page.error((), f"{len(problems) - MAX_PROBLEMS} more mistakes are not listed", "mend these first")
        return page, None


def _declares(data: Any) -> bool:
    return isinstance(data, dict) and (isinstance(data.get("models"), list) or isinstance(data.get("datasets"), list))


def _finding(problem: Problem) -> Finding:
    return Finding(severity="error", **problem.model_dump())


def _question(file: str, line: int, text: str) -> Finding:
    column = text.index(QUESTION)
    said = text[column + len(QUESTION) :].lstrip(": ").strip()
    return Finding(
        severity="note", file=file, line=line, column=column + 1, field="", message=f"an open question: {said}",
        mend="answer it and remove the mark",
    )  # fmt: skip


def _mend(model: type[BaseModel], at: Location, kind: str) -> str | None:
    """Say what to do about a problem of the schema: the nearest field for an unknown one, or those that are there."""
    if kind == "missing":
        return f"add `{at[-1]}:`" if at else None
    if kind != "extra_forbidden":
        return None
    own = _part(model, at[:-1]).model_fields
    near = difflib.get_close_matches(str(at[-1]), own, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"remove it; known: {', '.join(own)}"


def _part(model: type[BaseModel], at: Location) -> type[BaseModel]:
    """Find the model of the value at a place inside a declaration."""
    for step in at:
        waiting: list[Any] = [model.model_fields[step].annotation] if step in model.model_fields else []
        while waiting:
            kind = waiting.pop()
            waiting += get_args(kind)
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
    return model
