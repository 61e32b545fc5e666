"""A package being scored."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from zoo.declarations.base import digest
from zoo.declarations.report import Report
from zoo.evaluation.harness import Outcome, run_suite
from zoo.evaluation.journal import Journal
from zoo.evaluation.tasks import Scoring, Suite
from zoo.home import zoo_home
from zoo.package.folder import Package
from zoo.registry import Registry
from zoo.reports import make_report
from zoo.stages.evaluate.request import EvaluationRequest
from zoo.stages.opening import Opener

if TYPE_CHECKING:
    from zoo.evaluation.harness_model import EngineModel, Progress

_LIBRARIES = ("lm_eval", "datasets", "tokenizers", "numpy", "onnxruntime")


def choose_scoring(registry: Registry, package: Package, wanted: str) -> Scoring:
    """Choose the way of scoring: what is asked for, or writing for a model that is made to converse."""
    from zoo.engine.chat import find_template

    if wanted != "auto":
        return "likelihood" if wanted == "likelihood" else "generation"
    template = find_template(package.path)
    recipe = package.manifest.recipe
    declared = registry.find(f"{recipe.family}/{recipe.model}") if recipe.family else None
    chat = declared.chat if declared is not None and declared.chat is not None else template is not None
    return "generation" if chat and template is not None else "likelihood"


class Run:
    """A package being scored: its model for the harness, opened at the first need, and its journal."""

    def __init__(
        self, package: Package, request: EvaluationRequest, scoring: Scoring, progress: Progress | None
    ) -> None:
        from zoo.evaluation.harness_model import EngineModel
        from zoo.evaluation.prompting import Prompting
        from zoo.evaluation.workers import make_scorer

        opener = Opener(package.path.resolve(), request.engine)
        self._package, self._request, self._scoring = package, request, scoring
        prompting = Prompting(package)
        self.context = prompting.context_length
        self._chat = scoring == "generation" and prompting.chat_template is not None
        built = [package.manifest.recipe_hash, package.manifest.inputs]
        work = digest([*built, sorted(request.tasks), request.limit, request.seed, scoring])
        self._scorer = make_scorer(opener, package.manifest.recipe_hash, request.workers)
        self._journal = Journal(zoo_home() / "evaluations" / f"{work[:24]}.jsonl")
        self.model: EngineModel = EngineModel(
            self._scorer, prompting, self._journal, seed=request.seed, progress=progress
        )
        self._closed = False

    def score(self, suite: Suite) -> tuple[Outcome, dict[str, Any]]:
        """Score a suite; return the outcome, and the figures of its report."""
        started = time.monotonic()
        outcome = run_suite(
            self.model, suite, limit=self._request.limit, seed=self._request.seed, chat=self._chat and suite.generates
        )
        measured: dict[str, Any] = {
            **outcome.metrics,
            "samples": len(outcome.samples),
            "cut_short": sum(len(self.model.cut_short[task]) for task in suite.tasks),
            "seconds": round(time.monotonic() - started, 3),
        }
        if len(outcome.tasks) > 1:
            measured["tasks"] = [{"task": task.task, "samples": task.samples, **task.metrics} for task in outcome.tasks]
        return outcome, measured

    def report(self, suite: Suite, outcome: Outcome, measured: dict[str, Any], *libraries: str) -> Report:
        """Write down a score, with everything that two reports must share to be compared.

        Args:
            libraries: those that took part besides the usual ones.
        """
        settings = {
            "task": suite.name,
            "scoring": "generation" if suite.generates else "likelihood",
            "chat_template": self._chat and suite.generates,
            "num_fewshot": suite.num_fewshot,
            "limit": self._request.limit,
            "seed": self._request.seed,
            "task_hash": suite.hash,
            "data_hash": outcome.data_hash,
            "prompt_hash": outcome.prompt_hash,
        }
        return make_report("eval", self._package, settings, measured, libraries=(*_LIBRARIES, *libraries))

    def close(self, *, done: bool) -> None:
        """Let go of the workers and keep the journal unless the work is done."""
        if not self._closed:
            self._closed = True
            self._scorer.close()
            self._journal.close(done=done)
