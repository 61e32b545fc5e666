"""JSON Schemas of declarations with a description of every field, for editors and for the reference."""

from __future__ import annotations

import ast
import inspect
import itertools
import sys
from typing import Any

from pydantic import BaseModel


def described_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Make a model's JSON Schema, described by the docstrings under its fields."""
    made: dict[str, Any] = model.model_json_schema()
    docs = field_docs()
    for name, part in [(model.__name__, made), *made.get("$defs", {}).items()]:
        for field, text in docs.get(name, {}).items():
            if field in part.get("properties", {}):
                part["properties"][field].setdefault("description", text)
    return made


def field_docs() -> dict[str, dict[str, str]]:
    """Read the docstrings under the fields of every declaration that is imported: class → field → text.

    pydantic can do this itself (``use_attribute_docstrings``), but at the price of reading its own source at every
    start.
    """
    docs: dict[str, dict[str, str]] = {}
    for module in [name for name in sys.modules if name.startswith("zoo.declarations.")]:
        for node in ast.parse(inspect.getsource(sys.modules[module])).body:
            if isinstance(node, ast.ClassDef):
                docs.setdefault(node.name, {}).update(_class_docs(node))
    docs["ArchitectureFields"] = docs.get("Architecture", {})
    return docs


def _class_docs(node: ast.ClassDef) -> dict[str, str]:
    docs = {}
    for field, after in itertools.pairwise(node.body):
        documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if documented and isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            docs[field.target.id] = inspect.cleandoc(str(after.value.value))  # type: ignore[attr-defined]
    return docs
