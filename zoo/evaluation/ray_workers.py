"""Workers on the nodes of a Ray cluster (extra ``ray``): one a node, with all of its cores."""

from __future__ import annotations

import importlib.util
import logging
import os
from typing import TYPE_CHECKING, Any

from zoo.errors import ZooError
from zoo.evaluation.crew import RAY, Job, Reply, do_job

if TYPE_CHECKING:
    from zoo.evaluation.scorer import OpenEngine


class RayCrew:
    """Actors, one a node. The package must be at the same path on each of them, and the zoo installed."""

    def __init__(self, address: str, opener: OpenEngine, recipe_hash: str) -> None:
        """Join a cluster.

        Args:
            address: ``ray://HOST:PORT`` as Ray's client takes it, or ``ray://auto`` for the cluster that this machine
                belongs to (``RAY_ADDRESS``, or a running one).

        Raises:
            ZooError: Ray is not installed, or there is no such cluster.
        """
        if importlib.util.find_spec("ray") is None:
            raise ZooError(
                "--workers ray://… computes on a Ray cluster; install Ray: pip install 'model-zoo-framework[ray]'"
            )
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray would warn of otherwise
        import ray

        self._ray: Any = ray
        self._opener, self._recipe_hash = opener, recipe_hash
        self._joined = not ray.is_initialized()
        if self._joined:
            known = os.environ.get("RAY_ADDRESS", "auto") if address in (RAY, f"{RAY}auto") else address
            try:
                ray.init(address=known, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
            except Exception as error:  # Ray raises of every kind
                raise ZooError(f"--workers {address}: no Ray cluster there: {_line(error)}") from None
        self._actors: dict[int, Any] = {}
        self._running: dict[Any, int] = {}
        self._next = 0

    def members(self) -> list[int]:
        """Start an actor on every node that computes, where there is none yet, and list them."""
        if not self._actors:
            for node in self._ray.nodes():
                cores = int(node["Resources"].get("CPU", 0))
                if node["Alive"] and cores:
                    self._start(node["NodeID"], cores)
        return list(self._actors)

    def give(self, member: int, job: Job) -> None:
        """Give an actor a job."""
        self._running[self._actors[member].work.remote(job.kind, job.requests)] = member

    def wait(self) -> tuple[int, Reply | None]:
        """Wait for a reply, or for the loss of an actor."""
        (done,), _ = self._ray.wait(list(self._running), num_returns=1)
        member = self._running.pop(done)
        try:
            return member, self._ray.get(done)
        except self._ray.exceptions.RayError:
            return member, None

    def replace(self, member: int) -> int | None:
        """Start an actor wherever there is room, in the place of one that is lost; None where no node is left."""
        self._actors.pop(member)
        cores = [int(node["Resources"].get("CPU", 0)) for node in self._ray.nodes() if node["Alive"]]
        if not any(cores):
            return None
        return self._start(None, max(cores))

    def close(self) -> None:
        """End the actors, and leave a cluster that was joined."""
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors.clear()
        if self._joined:
            self._ray.shutdown()

    def _start(self, node: str | None, cores: int) -> int:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        where = NodeAffinitySchedulingStrategy(node, soft=True) if node is not None else "DEFAULT"
        # No core is reserved: a lost worker's successor must find room beside those that are left.
        made = self._ray.remote(_Worker).options(num_cpus=0, scheduling_strategy=where, max_restarts=0)
        self._next += 1
        self._actors[self._next] = made.remote(self._opener, self._recipe_hash, cores)
        return self._next


class _Worker:
    """What runs on a node."""

    def __init__(self, opener: OpenEngine, recipe_hash: str, cores: int) -> None:
        self._opener, self._recipe_hash, self._cores = opener, recipe_hash, cores
        self._scorer: Any = None

    def work(self, kind: Any, requests: list[Any]) -> Reply:
        from zoo.evaluation.scorer import LocalScorer

        try:
            if self._scorer is None:
                self._scorer = LocalScorer(self._opener, threads=self._cores, recipe_hash=self._recipe_hash)
            return Reply(do_job(self._scorer, kind, requests))
        except ZooError as error:
            return Reply(None, f"{error} (on a node of the cluster; the package must be at the same path on each)")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
