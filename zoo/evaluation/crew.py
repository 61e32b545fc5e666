"""What workers are to whoever gives them jobs: processes here, or actors of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from zoo.evaluation.scorer import Scorer

Kind = Literal["likelihoods", "completions"]
RAY = "ray://"


@dataclass
class Job:
    """Requests that one worker computes together."""

    kind: Kind
    indexes: list[int]
    requests: list[Any]
    lost: int = 0
    """Workers that were lost over it."""


@dataclass(frozen=True)
class Reply:
    """What a worker says: answers, in the order of the job's requests, or why there are none."""

    answers: list[Any] | None
    error: str | None = None


class Crew(Protocol):
    """Workers, by number, each with the package open."""

    def members(self) -> list[int]:
        """Start them, where they are not, and list those that are there."""
        ...

    def give(self, member: int, job: Job) -> None:
        """Give a worker a job."""
        ...

    def wait(self) -> tuple[int, Reply | None]:
        """Wait for any worker; None in place of a reply: it is lost."""
        ...

    def replace(self, member: int) -> int | None:
        """Start another worker for a lost one; None where that cannot be."""
        ...

    def close(self) -> None:
        """Let all of them go."""
        ...


def do_job(scorer: Scorer, kind: Kind, requests: Sequence[Any]) -> list[Any]:
    """Answer a job's requests, in their order."""
    answers: dict[int, Any] = dict(getattr(scorer, kind)(requests))
    return [answers[index] for index in range(len(requests))]
