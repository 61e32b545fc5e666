"""Scores computed by several: those of one, whoever is lost on the way."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from tests.evaluation.made import choice_task, questions
from tests.evaluation.test_evaluate import registry
from tests.evaluation.test_likelihood import requests_of
from zoo.errors import UsageError, ZooError
from zoo.evaluation.completion import Prompt
from zoo.evaluation.crew import Job, Reply
from zoo.evaluation.processes import ProcessCrew
from zoo.evaluation.scorer import LocalScorer
from zoo.evaluation.workers import CrewScorer, make_scorer
from zoo.stages.evaluate.request import EvaluationRequest
from zoo.stages.evaluate.stage import evaluate
from zoo.stages.opening import Opener


class Here:
    """A crew of this process, members of which are lost as a script says."""

    def __init__(self, package: Path, losses: dict[int, int], *, replaced: bool = True) -> None:
        self._scorer = LocalScorer(Opener(package))
        self._losses = losses
        self._replaced = replaced
        self._given: list[tuple[int, Job]] = []
        self.jobs: list[tuple[int, list[int]]] = []

    def members(self) -> list[int]:
        return [0, 1, 2]

    def give(self, member: int, job: Job) -> None:
        self._given.append((member, job))

    def wait(self) -> tuple[int, Reply | None]:
        member, job = self._given.pop()  # the last given answers first
        if self._losses.get(member, 0) > 0:
            self._losses[member] -= 1
            return member, None
        self.jobs.append((member, job.indexes))
        found = dict(getattr(self._scorer, job.kind)(job.requests))
        return member, Reply([found[index] for index in range(len(job.requests))])

    def replace(self, member: int) -> int | None:
        return member if self._replaced else None

    def close(self) -> None: ...


def test_a_lost_workers_job_is_done_by_another(fp32: Path) -> None:
    requests = requests_of(3)
    alone = dict(LocalScorer(Opener(fp32)).likelihoods(requests))
    crew = Here(fp32, {1: 2})
    assert dict(CrewScorer(crew).likelihoods(requests)) == alone
    assert sorted(index for _, indexes in crew.jobs for index in indexes) == list(range(len(requests)))
    prompts = [Prompt((1, 5 + one), (), 4) for one in range(7)]
    assert dict(CrewScorer(Here(fp32, {0: 1})).completions(prompts)) == dict(
        LocalScorer(Opener(fp32)).completions(prompts)
    )


def test_when_all_are_lost_it_says_so(fp32: Path) -> None:
    with pytest.raises(ZooError, match="every worker is lost"):
        dict(CrewScorer(Here(fp32, {0: 1, 1: 1, 2: 1}, replaced=False)).likelihoods(requests_of(3)))
    with pytest.raises(ZooError, match="3 workers were lost over the same"):
        dict(CrewScorer(Here(fp32, {0: 9, 1: 9, 2: 9})).likelihoods(requests_of(3)))


def test_a_workers_error_is_told(fp32: Path, tmp_path: Path) -> None:
    scorer = CrewScorer(ProcessCrew(Opener(tmp_path / "nowhere"), 2))
    try:
        with pytest.raises(ZooError, match="nowhere"):
            dict(scorer.likelihoods(requests_of(3)))
    finally:
        scorer.close()


@pytest.mark.parametrize("workers", ["0", "-1", "many", "http://x", "1.5", "²"])
def test_wrong_numbers_of_workers(workers: str, fp32: Path) -> None:
    with pytest.raises(UsageError, match="--workers"):
        make_scorer(Opener(fp32), "0" * 64, workers)


@pytest.mark.slow
def test_processes_give_what_one_gives_though_one_is_killed(fp32: Path, tmp_path: Path) -> None:
    tasks = registry(choice_task(tmp_path, questions(40)))
    alone = evaluate(tasks, EvaluationRequest(str(fp32), ["quiz"], log_samples=True))
    killed = []

    def kill(step: object) -> None:
        if not killed:
            worker = multiprocessing.active_children()[0]
            killed.append(worker.name)
            worker.kill()

    together = evaluate(tasks, EvaluationRequest(str(fp32), ["quiz"], workers="2", log_samples=True), progress=kill)
    assert killed
    assert together.samples[0].read_text() == alone.samples[0].read_text()
    assert {**together.reports[0].measured, "seconds": 0} == {**alone.reports[0].measured, "seconds": 0}
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_cluster_gives_what_one_process_gives_though_a_node_is_lost(
    fp32: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'model-zoo-framework[ray]'")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    from zoo.package.folder import read_manifest

    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    try:
        cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        second = cluster.add_node(**node)
    except Exception as error:  # Ray gives its processes a time to start, which a busy machine does not keep
        pytest.skip(f"Ray starts no cluster of two nodes here: {str(error)[:80]}")
    try:
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        requests = requests_of(4, count=40)
        scorer = make_scorer(Opener(fp32), read_manifest(fp32).recipe_hash, "ray://auto")
        found = {}
        for index, likelihood in scorer.likelihoods(requests):
            if not found:
                cluster.remove_node(second, allow_graceful=False)
            found[index] = likelihood
        scorer.close()
        assert found == dict(LocalScorer(Opener(fp32)).likelihoods(requests))
        with pytest.raises(ZooError, match=r"another build here.*on a node of the cluster"):
            dict(make_scorer(Opener(fp32), "0" * 64, "ray://auto").likelihoods(requests))
    finally:
        import ray

        ray.shutdown()
        cluster.shutdown()


def test_ray_is_named_where_it_is_missing(fp32: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else found(name, *rest))
    with pytest.raises(ZooError, match=r"pip install 'model-zoo-framework\[ray\]'"):
        make_scorer(Opener(fp32), "0" * 64, "ray://auto")
