"""Render a chat template in this process: what the worker runs.

The names that a template may use, and the whitespace rules, are those of transformers' ``apply_chat_template``.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError

from zoo.errors import ZooError
from zoo.rendering.sandbox import MAX_TEXT, BoundedSandbox, GenerationBlock


def render_here(template: str, names: Mapping[str, Any]) -> str:
    """Render a template with these names.

    Raises:
        ZooError: the template refuses, is broken, or takes too much.
    """
    pieces, size = [], 0
    try:
        environment, compiled = _compile(template)
        environment.begin()
        for piece in compiled.generate(**names):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_TEXT:
                raise ZooError(f"the chat template writes more than {MAX_TEXT} characters")
    except (ZooError, MemoryError):
        raise
    except (Exception, RecursionError) as error:  # a template can raise anything that Python can
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise ZooError(f"the chat template refuses this conversation: {said}") from None
    return "".join(pieces)


@lru_cache(maxsize=64)
def _compile(template: str) -> tuple[Any, Any]:
    """Compile a template once; return its environment too, which keeps the budget."""

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def strftime_now(form: str) -> str:
        return datetime.datetime.now().strftime(form)

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = BoundedSandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, "jinja2.ext.loopcontrols"]
    )
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    environment.filters["tojson"] = tojson
    return environment, environment.from_string(template)
