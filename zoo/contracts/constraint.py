"""What an answer may be: asked before each choice which tokens may come next, and told what was chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from zoo.errors import ZooError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Constraint(Protocol):
    """Follows one answer; for one thread at a time."""

    def copy(self) -> Constraint:
        """Begin the same answer anew; only before anything was accepted."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the answer is whole, and nothing may follow."""
        ...

    def allowed(self) -> NDArray[np.bool_]:
        """Say which tokens may come next, bool (vocab,).

        Raises:
            ConstraintError: none may, or the constraint has become too hard to follow.
        """
        ...

    def accept(self, token: int) -> None:
        """Take the token that was chosen, one that was allowed.

        Raises:
            ConstraintError: it was not.
        """
        ...


class ConstraintError(ZooError):
    """No token may follow, or the constraint became too hard to follow: what was asked for failed, not the model."""
