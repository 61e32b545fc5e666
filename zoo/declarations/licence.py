"""What one may do with a model or a dataset."""

from __future__ import annotations

from zoo.declarations.base import HttpUrl, Value


class Licence(Value):
    """A licence, as its source states it."""

    id: str
    """SPDX identifier, or the hub's licence tag."""
    name: str | None = None
    """Its full name."""
    url: HttpUrl | None = None
    """Where its text is."""
    commercial_use: bool | None = None
    """Whether commercial use is allowed; absent where nobody has said."""
    gated: bool = False
    """The hub hands the files out only after its terms were accepted."""
    note: str | None = None
    """What else holds, for example the licence of a base."""


UNKNOWN_LICENCE = Licence(id="unknown")
