"""Read a declaration from YAML strictly, and say in which line it is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from zoo.errors import ZooError

T = TypeVar("T", bound=BaseModel)
Location = tuple[str | int, ...]

MAX_BYTES = 4 * 2**20
MAX_VALUES = 200_000
MAX_DEPTH = 40
_PLAIN = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map"))
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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
    """A declaration that cannot be read. ``problems`` lists all that is wrong; the message names the first."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{problems[0]}{more}")


class Document:
    """A YAML document as plain data, with the line of every value."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._marks: dict[Location, tuple[int, int]] = {}
        self._left = MAX_VALUES
        self._constructor = yaml.constructor.SafeConstructor()
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise ZooError(f"cannot read {path}: {error.strerror or error}") from None
        if len(raw) > MAX_BYTES:
            raise ZooError(f"{path}: {len(raw)} bytes are too many for a declaration (at most {MAX_BYTES})")
        try:
            node = yaml.compose(raw, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            raise self._error(line, column, "", error.problem or "not YAML") from None
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
            raise self._error(1, 1, "", f"not YAML: {str(error).splitlines()[0]}") from None
        self.data: Any = None if node is None else self._plain(node, (), 0)

    def _error(self, line: int, column: int, field: str, message: str) -> DeclarationError:
        return DeclarationError([Problem(file=str(self.path), line=line, column=column, field=field, message=message)])

    def _plain(self, node: yaml.Node, at: Location, depth: int) -> Any:
        """Turn a node into plain data; aliases are expanded, within limits."""
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        self._marks.setdefault(at, (line, column))
        self._left -= 1
        if self._left < 0:
            raise self._error(line, column, "", f"more than {MAX_VALUES} values once its aliases are expanded")
        if depth > MAX_DEPTH:
            raise self._error(line, column, "", f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(node, yaml.MappingNode) and node.tag in _PLAIN:
            result: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key_line, key_column = key_node.start_mark.line + 1, key_node.start_mark.column + 1
                if not isinstance(key_node, yaml.ScalarNode):
                    raise self._error(key_line, key_column, _field(at), "a key must be a plain word")
                key = key_node.value
                if key in result:
                    raise self._error(key_line, key_column, _field((*at, key)), "this key stands here twice")
                self._marks[(*at, key)] = (key_line, key_column)
                result[key] = self._plain(value_node, (*at, key), depth + 1)
            return result
        if isinstance(node, yaml.SequenceNode) and node.tag in _PLAIN:
            return [self._plain(item, (*at, index), depth + 1) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            if node.tag == "tag:yaml.org,2002:timestamp":
                return node.value
            if node.tag in _PLAIN:
                try:
                    return self._constructor.construct_object(node)
                except (ValueError, yaml.YAMLError):
                    raise self._error(line, column, _field(at), f"cannot read {node.value[:40]!r}") from None
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        raise self._error(line, column, _field(at), f"the tag {tag} is not read; only plain values are")

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
            problems = [self.problem(tuple(one["loc"]), explain(one)) for one in error.errors()]
            raise DeclarationError(problems) from None


def explain(error: Any) -> str:
    """Say in one line what pydantic found wrong with one value."""
    if error["type"] == "extra_forbidden":
        return "unknown field"
    if error["type"] == "missing":
        return "this field is required"
    message = str(error["msg"]).removeprefix("Value error, ")
    shown = repr(error.get("input"))
    if error["type"] == "value_error" or len(shown) > 60:
        return message
    return f"{message}, not {shown}"


def _field(location: Location) -> str:
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text
