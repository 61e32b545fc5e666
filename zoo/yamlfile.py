"""Read a declaration from YAML strictly, and say in which line it is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from zoo.errors import ZooError
from zoo.mistakes import explain as explain
from zoo.mistakes import mistakes
from zoo.yamlnodes import MAX_DEPTH, YamlProblem, compose, scalar

T = TypeVar("T", bound=BaseModel)
Location = tuple[str | int, ...]

MAX_BYTES = 4 * 2**20
MAX_VALUES = 200_000
MAX_TEXT = 2 * MAX_BYTES
"""Characters once aliases are expanded."""
MAX_KEY = 200
MAX_PROBLEMS = 100
"""Mistakes that are told one by one; a file with more has the wrong shape, not so many mistakes."""
_COLLECTIONS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("seq", "map"))


class Problem(BaseModel):
    """One thing that is wrong in a declaration, and where."""

    file: str
    line: int
    column: int
    field: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}"
        return f"{where}: {self.field}: {self.message}" if self.field else f"{where}: {self.message}"


class DeclarationError(ZooError):
    """A declaration that cannot be read. ``problems`` lists what is wrong; the message names the first.

    Args:
        count: how many problems there are, where there are more than are listed.
    """

    def __init__(self, problems: list[Problem], count: int = 0) -> None:
        self.problems = problems
        self.count = max(count, len(problems))
        more = f" (and {self.count - 1} more)" if self.count > 1 else ""
        super().__init__(f"{problems[0]}{more}")


class Document:
    """A YAML document as plain data, with the line of every value."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._marks: dict[Location, tuple[int, int]] = {}
        self._values_left, self._text_left = MAX_VALUES, MAX_TEXT
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise ZooError(f"cannot read {path}: {error.strerror or error}") from None
        if len(raw) > MAX_BYTES:
            raise ZooError(f"{path}: more than {MAX_BYTES} bytes are too many for a declaration")
        try:
            node = compose(raw)
        except YamlProblem as problem:
            raise self._error(problem.line, problem.column, "", problem.message) from None
        self.data: Any = None if node is None else self._plain(node, (), 0)

    def _error(self, line: int, column: int, field: str, message: str) -> DeclarationError:
        return DeclarationError([Problem(file=str(self.path), line=line, column=column, field=field, message=message)])

    def _plain(self, node: yaml.Node, at: Location, depth: int) -> Any:
        """Turn a node into plain data; aliases are expanded, within limits."""
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        self._marks.setdefault(at, (line, column))
        self._spend(node, line, column)
        if depth > MAX_DEPTH:
            raise self._error(line, column, "", f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(node, yaml.MappingNode) and node.tag in _COLLECTIONS:
            return {key: self._plain(value, (*at, key), depth + 1) for key, value in self._items(node, at)}
        if isinstance(node, yaml.SequenceNode) and node.tag in _COLLECTIONS:
            return [self._plain(item, (*at, index), depth + 1) for index, item in enumerate(node.value)]
        try:
            if not isinstance(node, yaml.ScalarNode):
                tag = node.tag.replace("tag:yaml.org,2002:", "!!")
                raise ValueError(f"the tag {tag} is not read; only plain values are")
            return scalar(node)
        except ValueError as error:
            raise self._error(line, column, _field(at), str(error)) from None

    def _items(self, node: yaml.MappingNode, at: Location) -> Iterator[tuple[str, yaml.Node]]:
        """Go through a mapping's keys and values, noting where each key stands."""
        seen: set[str] = set()
        for key_node, value_node in node.value:
            line, column = key_node.start_mark.line + 1, key_node.start_mark.column + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error(line, column, _field(at), "a key must be a plain word")
            key = key_node.value
            if len(key) > MAX_KEY or not key.isprintable():
                raise self._error(line, column, _field(at), f"a key is at most {MAX_KEY} printable characters")
            if key in seen:
                raise self._error(line, column, _field((*at, key)), "this key stands here twice; remove one")
            seen.add(key)
            self._marks[(*at, key)] = (line, column)
            yield key, value_node

    def _spend(self, node: yaml.Node, line: int, column: int) -> None:
        """Count a value, and an alias each time it is expanded, against the limits."""
        self._values_left -= 1
        if self._values_left < 0:
            raise self._error(line, column, "", f"more than {MAX_VALUES} values once its aliases are expanded")
        if isinstance(node, yaml.ScalarNode):
            self._text_left -= len(node.value)
            if self._text_left < 0:
                raise self._error(line, column, "", f"more than {MAX_TEXT} characters once its aliases are expanded")

    def mark(self, location: Location) -> tuple[int, int]:
        """Find line and column of the value at ``location``, or of the nearest one around it."""
        while location and location not in self._marks:
            location = location[:-1]
        return self._marks.get(location, (1, 1))

    def problem(self, location: Location, message: str) -> Problem:
        """Say what is wrong with the value at ``location``."""
        line, column = self.mark(location)
        return Problem(file=str(self.path), line=line, column=column, field=_field(location), message=message)

    def validate(self, model: type[T]) -> T:
        """Check the document against a declaration's model.

        Raises:
            DeclarationError: with file, line, column and field of everything that is wrong.
        """
        if not isinstance(self.data, dict):
            raise self._error(1, 1, "", f"a {model.__name__.lower()} declaration is a mapping of fields")
        try:
            return model.model_validate(self.data)
        except ValidationError as error:
            found = mistakes(error)
            problems = [self.problem(tuple(problem["loc"]), explain(problem)) for problem in found[:MAX_PROBLEMS]]
            raise DeclarationError(problems, len(found)) from None


def _field(location: Location) -> str:
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text
