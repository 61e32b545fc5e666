"""The form that a request wants its answer in, by OpenAI's names and by vLLM's."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from zoo.structured import Structure
from zoo.structured.structure import Kind
from zoo_server.errors import ApiError


class JsonSchemaFormat(BaseModel):
    """A schema under a name."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)

    name: Annotated[str, StringConstraints(max_length=300)] | None = None
    schema_: Annotated[dict[str, Any] | bool | None, Field(alias="schema")] = None
    strict: bool | None = None
    """Schemas are followed to the letter either way."""


class ResponseFormat(BaseModel):
    """``response_format``."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None

    def structure(self) -> Structure | None:
        """Say which form it asks for; None for text."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return Structure.any_object()
        if self.json_schema is None:
            message = "response_format: a json_schema is missing: {'type': 'json_schema', 'json_schema': {'schema': …}}"
            raise ApiError(400, message, code="missing_field", param="response_format.json_schema")
        schema = self.json_schema.schema_
        return Structure.any_object() if schema is None else Structure("schema", schema)


class StructuredOutputs(BaseModel):
    """``structured_outputs``, as vLLM has it."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)

    json_: Annotated[dict[str, Any] | bool | str | None, Field(alias="json")] = None
    regex: str | None = None
    choice: Annotated[list[str], Field(fail_fast=True)] | None = None
    grammar: str | None = None
    json_object: bool | None = None


KINDS: dict[str, Kind] = {
    "guided_json": "schema", "guided_regex": "regex", "guided_grammar": "grammar", "guided_choice": "choice",
}  # fmt: skip


def choose_structure(given: dict[str, Any], outputs: StructuredOutputs | None) -> tuple[str, Structure] | None:
    """Find the one form that a request asks for.

    Args:
        given: values by the field that they came in; None where it did not come.
        outputs: vLLM's newer field for the same things.

    Returns:
        The field, and the form.

    Raises:
        ApiError: there is more than one.
    """
    asked: list[tuple[str, Structure]] = []
    for name, value in given.items():
        if isinstance(value, ResponseFormat):
            structure = value.structure()
            if structure is not None:
                asked.append((name, structure))
        elif value is not None:
            asked.append((name, Structure(KINDS[name], _schema(name, value) if name == "guided_json" else value)))
    if outputs is not None:
        within: list[tuple[Kind, Any]] = [
            ("schema", _schema("structured_outputs", outputs.json_)), ("regex", outputs.regex),
            ("choice", outputs.choice), ("grammar", outputs.grammar),
            ("schema", {"type": "object"} if outputs.json_object else None),
        ]  # fmt: skip
        asked += [("structured_outputs", Structure(kind, value)) for kind, value in within if value is not None]
    if len(asked) > 1:
        names = " and ".join(dict.fromkeys(name for name, _ in asked))
        message = f"{names} cannot be used together"
        raise ApiError(400, message, code="invalid_value", param=asked[1][0])
    return asked[0] if asked else None


def _schema(name: str, value: Any) -> Any:
    """Take a schema, which vLLM's clients may send written out."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ApiError(400, f"{name}: the schema is not JSON", code="invalid_value", param=name) from None
