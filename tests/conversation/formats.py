"""The formats in which families write calls of tools, as the bundled declarations have them."""

from __future__ import annotations

from zoo.declarations.conversation import ToolFormat
from zoo.plugins import host


def declared(model: str) -> ToolFormat:
    """Take a declared model's format."""
    form = host().registry.model(model).last("tools")[0]
    assert isinstance(form, ToolFormat)
    return form


PYTHONIC = ToolFormat(calls="pythonic")
