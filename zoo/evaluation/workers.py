"""Requests spread over workers: jobs of neighbouring questions, and those of a lost worker given to another."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from zoo.errors import UsageError, ZooError
from zoo.evaluation.completion import Prompt
from zoo.evaluation.crew import RAY, Crew, Job, Kind
from zoo.evaluation.likelihood import Continuation, Likelihood, questions
from zoo.evaluation.scorer import LocalScorer, OpenEngine, Scorer

ATTEMPTS = 3
"""Workers that may be lost over one job before it is the job that is to blame."""
JOBS_PER_MEMBER = 8
"""Jobs that each worker gets at least, where there are as many questions: a slow one must not be waited for long."""
MOST_QUESTIONS = 16


class CrewScorer:
    """Has a crew compute."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    def likelihoods(self, requests: Sequence[Continuation]) -> Iterator[tuple[int, Likelihood]]:
        """Score continuations; questions that begin alike stay together."""
        groups = [[index for found in options.values() for index in found] for _, options in questions(requests)]
        return self._run("likelihoods", requests, groups)

    def completions(self, requests: Sequence[Prompt]) -> Iterator[tuple[int, str]]:
        """Complete prompts; those that begin alike stay together."""
        order = sorted(range(len(requests)), key=lambda one: requests[one].ids)
        return self._run("completions", requests, [[index] for index in order])

    def close(self) -> None:
        """Let the crew go."""
        self._crew.close()

    def _run(self, kind: Kind, requests: Sequence[Any], groups: list[list[int]]) -> Iterator[tuple[int, Any]]:
        idle = self._crew.members()
        waiting = deque(_jobs(kind, requests, groups, len(idle)))
        busy: dict[int, Job] = {}
        while waiting or busy:
            while waiting and idle:
                member = idle.pop()
                busy[member] = waiting.popleft()
                self._crew.give(member, busy[member])
            if not busy:
                raise ZooError("every worker is lost; what is finished is kept: run the same command again")
            member, reply = self._crew.wait()
            job = busy.pop(member)
            if reply is None:
                job.lost += 1
                if job.lost >= ATTEMPTS:
                    raise ZooError(
                        f"{ATTEMPTS} workers were lost over the same {len(job.requests)} requests: no memory?"
                    )
                waiting.appendleft(job)
                other = self._crew.replace(member)
                idle += [other] if other is not None else []
            elif reply.answers is None:
                raise ZooError(str(reply.error))
            else:
                idle.append(member)
                yield from zip(job.indexes, reply.answers, strict=True)


def _jobs(kind: Kind, requests: Sequence[Any], groups: list[list[int]], members: int) -> Iterator[Job]:
    size = max(1, min(MOST_QUESTIONS, len(groups) // (max(members, 1) * JOBS_PER_MEMBER)))
    for at in range(0, len(groups), size):
        indexes = [index for group in groups[at : at + size] for index in group]
        yield Job(kind, indexes, [requests[index] for index in indexes])


def make_scorer(opener: OpenEngine, recipe_hash: str, workers: str | None) -> Scorer:
    """Open a package for scoring, here or by workers.

    Args:
        opener: opens the package; a process of its own may call it.
        workers: None or "1" for this process; how many processes; or ``ray://…``, a Ray cluster.

    Raises:
        UsageError: neither a number nor such an address.
    """
    if workers is None or workers == "1":
        return LocalScorer(opener)
    if workers.startswith(RAY):
        from zoo.evaluation.ray_workers import RayCrew

        return CrewScorer(RayCrew(workers, opener, recipe_hash))
    if not workers.isdecimal() or not 1 < int(workers) <= 256:
        raise UsageError(f"--workers {workers}: give a number of processes, or ray://HOST:PORT, or ray://auto")
    from zoo.evaluation.processes import ProcessCrew

    return CrewScorer(ProcessCrew(opener, int(workers)))
