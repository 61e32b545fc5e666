"""Read and write TOML: what a team keeps, what is locked, whom a pull trusts. Mistakes are told with their field."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from zoo.errors import ZooError
from zoo.mistakes import explain, mistakes

T = TypeVar("T", bound=BaseModel)

MAX_BYTES = 16 * 2**20


def read_toml(path: Path, model: type[T]) -> T:
    """Read a file and check it against a declaration's model.

    Raises:
        ZooError: it cannot be read, is not TOML (the message has line and column), or a field of it is wrong.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ZooError(f"{path}: {error.strerror or error}") from None
    if len(raw) > MAX_BYTES:
        raise ZooError(f"{path}: larger than {MAX_BYTES} bytes")
    try:
        data = tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise ZooError(f"{path}: not TOML: {str(error).splitlines()[0][:200]}") from None
    try:
        return model.model_validate_json(json.dumps(data, default=str))
    except (ValidationError, ValueError) as error:
        if not isinstance(error, ValidationError):
            raise ZooError(f"{path}: {str(error)[:200]}") from None
        first, *others = mistakes(error)
        field = ".".join(str(step)[:80] for step in first["loc"])
        more = f" (and {len(others)} more)" if others else ""
        raise ZooError(f"{path}: {f'{field}: ' if field else ''}{explain(first)}{more}") from None


def toml_text(data: Mapping[str, Any]) -> str:
    """Write plain data as TOML: keys sorted, values before tables, tables before lists of tables; no empty tables."""
    return "\n".join(_table(data, ())).strip() + "\n"


def _table(data: Mapping[str, Any], at: tuple[str, ...]) -> list[str]:
    there = {key: value for key, value in sorted(data.items()) if value is not None and value != {}}
    tables = {key: value for key, value in there.items() if isinstance(value, Mapping)}
    lists = {key: value for key, value in there.items() if _is_list_of_tables(value)}
    lines = [f"{_key(key)} = {_value(value)}" for key, value in there.items() if key not in tables | lists]
    for key, value in tables.items():
        lines += ["", f"[{'.'.join(map(_key, (*at, key)))}]", *_table(value, (*at, key))]
    for key, items in lists.items():
        for item in items:
            lines += ["", f"[[{'.'.join(map(_key, (*at, key)))}]]", *_table(item, (*at, key))]
    return lines


def _is_list_of_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _key(key: str) -> str:
    plain = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if plain else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = (f"{_key(key)} = {_value(item)}" for key, item in sorted(value.items()) if item is not None)
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):  # JSON's escapes are TOML's, but for one character
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
