"""The common ground of every value that flows through the zoo."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=96)]
"""A name that people type: lower case letters, digits, dots, dashes and underscores."""

HubId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*$", max_length=192)]
"""A repository on the hub, ``organisation/name``."""

HubLocation = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]*/[\w.-]+(:[^:\\]+)?$", max_length=512)]
"""A repository, or files in one: ``organisation/name:FILE``."""

Revision = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$", max_length=192)]
"""A branch, a tag or a commit of a repository."""

HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://\S+$", max_length=2048)]

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

Blake3 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Misplaced(ValueError):
    """Report a mistake at a place inside the value that a validator checks.

    Args:
        at: keys and indices from that value to the place.
    """

    def __init__(self, at: tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.at = at


class Value(BaseModel):
    """A frozen value: unknown fields are errors, and it prints as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), defer_build=True)


def digest(value: Any) -> str:
    """Hash a JSON-like value by its canonical form (sorted keys, no spaces, UTF-8).

    Returns:
        64 hexadecimal digits of SHA-256.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
