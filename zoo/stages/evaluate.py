"""Package → Reports: score a package on tasks, alone or against another package or the original weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.declarations.base import digest
from zoo.declarations.report import Report
from zoo.errors import UsageError, ZooError, unknown
from zoo.home import zoo_home
from zoo.package.folder import Package, open_package
from zoo.registry import Registry
from zoo.reports import keep_report, make_report
from zoo.stages.subject import find_package, identify

if TYPE_CHECKING:
    from zoo.evaluation.comparison import Comparison
    from zoo.evaluation.datafiles import DataFiles
    from zoo.evaluation.harness import Outcome
    from zoo.evaluation.harness_model import EngineModel, Progress
    from zoo.evaluation.journal import Journal
    from zoo.evaluation.tasks import Scoring, Suite

SCORINGS = ("auto", "likelihood", "generation")
ORIGINAL = "hf"
"""What ``--against`` calls the original weights, computed by the harness' own model over transformers."""
_LIBRARIES = ("lm_eval", "datasets", "tokenizers", "numpy", "onnxruntime")


@dataclass(frozen=True)
class Request:
    """What to evaluate.

    Attributes:
        model: a package folder, or a model of which a package is in the store.
        tasks: registered tasks, or the harness' own.
        data: a folder, a zip archive or a file that tasks read instead of what was fetched.
        num_fewshot: worked examples before each question, instead of the task's own number.
        scoring: by the likelihood of options or by what the model writes; ``auto``: what a model was made for.
        against: another package, a built model, or ``hf``: the original weights through transformers.
        weights: where those are.
        workers: processes that compute, or the address of a Ray cluster.
        log_samples: keep every sample beside the report.
    """

    model: str
    tasks: Sequence[str]
    precision: str | None = None
    data: Path | None = None
    limit: int | None = None
    num_fewshot: int | None = None
    seed: int = 0
    scoring: str = "auto"
    against: str | None = None
    weights: str | None = None
    workers: str | None = None
    log_samples: bool = False


@dataclass
class Evaluation:
    """What came out.

    Attributes:
        reports: one a task.
        paths: where each is.
        samples: where each task's samples are, if they were asked for.
        comparisons: one a task, where something was compared.
        notes: what a reader of the figures should know.
    """

    reports: list[Report] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    samples: list[Path] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def evaluate(registry: Registry, request: Request, *, progress: Progress | None = None) -> Evaluation:
    """Score a package on tasks and keep a report of each.

    Raises:
        UsageError: an unknown task or value.
        ZooError: the package, a task's files or an extra is missing, or something in them is wrong.
    """
    from zoo.evaluation.extra import require_harness

    if request.scoring not in SCORINGS:
        raise unknown("scoring", request.scoring, SCORINGS)
    if request.limit is not None and request.limit < 1:
        raise UsageError(f"limit must be 1 or more, not {request.limit}")
    if request.num_fewshot is not None and request.num_fewshot < 0:
        raise UsageError(f"num-fewshot must be 0 or more, not {request.num_fewshot}")
    if not request.tasks:
        raise UsageError("name at least one task: --tasks a,b; `zoo eval --list-tasks` shows the registered ones")
    package = open_package(find_package(registry, request.model, request.precision))
    require_harness()
    from zoo.evaluation.tasks import Choices, load_suite

    scoring = _scoring(registry, package, request.scoring)
    data = _DataSource(registry, request.data)
    choices = Choices(data, scoring, request.num_fewshot, request.limit, request.seed)
    other = _Other.find(registry, request, package)
    # Every task is loaded once before anything is computed: what is wrong with the last shows at once.
    suites = [load_suite(name, registry.tasks, choices) for name in dict.fromkeys(request.tasks)]
    result = Evaluation(notes=[note for one in suites for note in one.notes])
    if other is not None and other.note:
        result.notes.append(other.note)
    run = _Run(package, request, scoring, progress)
    try:
        for suite in suites:
            outcome, measured = run.score(suite)
            comparison = None
            if other is not None:
                fresh = load_suite(suite.name, registry.tasks, choices)
                label = _label(package, other)
                comparison = other.compare(suite.name, label, outcome, run.model.tok_encode, fresh, request, progress)
                if other.original and other.note:
                    result.notes.append(f"{suite.name}: {other.note}")
                result.comparisons.append(comparison)
                measured["against"] = comparison.model_dump(mode="json")
            report = make_report(
                "eval", package.manifest, run.settings(suite, outcome), measured,
                libraries=_LIBRARIES if other is None or not other.original else (*_LIBRARIES, "torch", "transformers"),
            )  # fmt: skip
            result.reports.append(report)
            result.paths.append(keep_report(report))
            if request.log_samples:
                result.samples.append(_keep_samples(result.paths[-1], outcome))
            if measured["cut_short"]:
                result.notes.append(
                    f"{suite.name}: {measured['cut_short']} of {measured['samples']} samples are longer than the "
                    f"context of {run.context} tokens and were scored without their beginning"
                )
        run.close(done=True)
        if other is not None:
            other.close(done=True)
    finally:
        run.close(done=False)
        if other is not None:
            other.close(done=False)
    return result


def _scoring(registry: Registry, package: Package, wanted: str) -> Scoring:
    """Choose the way of scoring: what is asked for, or writing for a model that is made to converse."""
    from zoo.engine.chat import find_template

    if wanted != "auto":
        return "likelihood" if wanted == "likelihood" else "generation"
    template = find_template(package.path)
    recipe = package.manifest.recipe
    declared = registry.find(f"{recipe.family}/{recipe.model}") if recipe.family else None
    chat = declared.chat if declared is not None and declared.chat is not None else template is not None
    return "generation" if chat and template is not None else "likelihood"


class _DataSource:
    """Gives tasks their files: those of ``--data``, or of the dataset that was fetched; opened once."""

    def __init__(self, registry: Registry, given: Path | None) -> None:
        from zoo.evaluation.datafiles import open_data

        self._registry = registry
        self._given = open_data(given) if given is not None else None
        self._opened: dict[str, DataFiles] = {}

    def __call__(self, dataset: str | None) -> DataFiles:
        from zoo.evaluation.datafiles import FolderFiles, open_data
        from zoo.sources.dataset_files import locate_dataset

        if self._given is not None:
            return self._given
        if dataset is None:
            raise UsageError("this task measures your own text: name the file with --data FILE")
        if dataset not in self._opened:
            declared = self._registry.dataset(dataset)
            found = locate_dataset(declared)
            if found is None:
                raise ZooError(
                    f"the dataset {dataset} is not on this machine; fetch it with `zoo fetch --dataset {dataset}`, or "
                    "name the folder that holds it with --data DIR"
                )
            first = next(iter(found.values()))
            self._opened[dataset] = open_data(first) if len(found) == 1 else FolderFiles(first.parent)
        return self._opened[dataset]


class _Run:
    """A package being scored: its model for the harness, opened at the first need, and its journal."""

    def __init__(self, package: Package, request: Request, scoring: Scoring, progress: Progress | None) -> None:
        from zoo.evaluation.harness_model import EngineModel
        from zoo.evaluation.journal import Journal
        from zoo.evaluation.prompting import Prompting
        from zoo.evaluation.workers import make_scorer

        self._package, self._request, self._scoring = package, request, scoring
        prompting = Prompting(package)
        self.context = prompting.context_length
        self._chat = scoring == "generation" and prompting.chat_template is not None
        work = digest([package.manifest.recipe_hash, sorted(request.tasks), request.limit, request.seed, scoring])
        self._scorer = make_scorer(package, request.workers)
        self._journal = Journal(zoo_home() / "evaluations" / f"{work[:24]}.jsonl")
        self.model: EngineModel = EngineModel(
            self._scorer, prompting, self._journal, seed=request.seed, progress=progress
        )
        self._closed = False

    def score(self, suite: Suite) -> tuple[Outcome, dict[str, Any]]:
        """Score a suite; return the outcome, and the figures of its report."""
        from zoo.evaluation.harness import run_suite

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
            measured["tasks"] = [{"task": one.task, "samples": one.samples, **one.metrics} for one in outcome.tasks]
        return outcome, measured

    def settings(self, suite: Suite, outcome: Outcome) -> dict[str, Any]:
        """Everything that two reports must share to be compared."""
        return {
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

    def close(self, *, done: bool) -> None:
        """Let go of the workers and keep the journal unless the work is done."""
        if not self._closed:
            self._closed = True
            self._scorer.close()
            self._journal.close(done=done)


@dataclass
class _Other:
    """What a package is compared with: another package, or the original weights through transformers."""

    name: str
    original: bool = False
    folder: Path | None = None
    package: Package | None = None
    note: str | None = None
    scoring: Scoring = "likelihood"
    fingerprint: str | None = None
    """Of the original weights."""
    _run: _Run | None = None
    _model: Any = None
    _journal: Journal | None = None

    @classmethod
    def find(cls, registry: Registry, request: Request, package: Package) -> _Other | None:
        """Find what ``--against`` means."""
        if request.against is None:
            if request.weights is not None:
                raise UsageError("--weights goes with --against hf: they are what the package is compared with")
            return None
        scoring = _scoring(registry, package, request.scoring)
        if request.against == ORIGINAL:
            from zoo.evaluation.original import require_original
            from zoo.stages.verify import original_weights

            require_original()
            checkpoint = original_weights(registry, package, identify(registry, request.model), request.weights)
            checkpoint.close()
            return cls(
                "transformers fp32", original=True, folder=checkpoint.folder, scoring=scoring,
                fingerprint=checkpoint.fingerprint,
            )  # fmt: skip
        other = open_package(find_package(registry, request.against, _other_precision(request)))
        note = None
        files = [one.manifest.files.get("tokenizer.json") for one in (package, other)]
        if files[0] != files[1]:
            note = f"{package.path.name} and {other.path.name} have different tokenizers"
        return cls(_name(other), package=other, note=note, scoring=scoring)

    def compare(
        self,
        task: str,
        what: str,
        outcome: Outcome,
        encode: Callable[[str], list[int]],
        suite: Suite,
        request: Request,
        progress: Progress | None,
    ) -> Comparison:
        """Score the other one on a fresh suite and compare."""
        from zoo.evaluation.comparison import compare

        if self.package is not None:
            if self._run is None:
                self._run = _Run(self.package, request, self.scoring, progress)
            theirs, _ = self._run.score(suite)
        else:
            from zoo.evaluation.harness import run_suite

            if self._model is None:
                self._model = self._open_original(request, progress)
            chat = suite.generates and self.scoring == "generation" and self._model.has_template
            theirs = run_suite(self._model, suite, limit=request.limit, seed=request.seed, chat=chat)
            self.note = _other_ids(outcome, encode, self._model.encode)
        return compare(task, what, outcome, self.name, theirs)

    def _open_original(self, request: Request, progress: Progress | None) -> Any:
        from zoo.evaluation.journal import Journal
        from zoo.evaluation.original import OriginalModel

        assert self.folder is not None
        work = digest([self.fingerprint, sorted(request.tasks), request.limit, request.seed, self.scoring])
        self._journal = Journal(zoo_home() / "evaluations" / f"{work[:24]}.jsonl")
        return OriginalModel(self.folder, self._journal, progress=progress)

    def close(self, *, done: bool) -> None:
        """Let go of the other one, and keep its journal unless the work is done."""
        if self._run is not None:
            self._run.close(done=done)
        if self._journal is not None:
            self._journal.close(done=done)
            self._journal = None


def _other_ids(outcome: Outcome, encode: Callable[[str], list[int]], other: Callable[[str], list[int]]) -> str | None:
    """Say how many prompts transformers reads otherwise than the package; some of its classes change a tokenizer."""
    prompts = {str(arguments[0]) for one in outcome.samples for arguments in one.raw["arguments"]}
    differing = sum(encode(one) != other(one) for one in prompts)
    if not differing:
        return None
    return f"transformers makes other token ids of {differing} of {len(prompts)} prompts than tokenizer.json does"


def _other_precision(request: Request) -> Literal["fp32"] | None:
    """A model's name after --against means its fp32 package, unless it is a folder."""
    return None if (Path(request.against or "") / "zoo.json").is_file() else "fp32"


def _name(package: Package) -> str:
    return f"{package.manifest.recipe.model} {package.manifest.recipe.precision}"


def _label(package: Package, other: _Other) -> str:
    """Name a package beside another: by its precision, where the model is the same."""
    recipe = package.manifest.recipe
    same = other.package is None or other.package.manifest.recipe.model == recipe.model
    if same and other.package is not None and other.package.manifest.recipe.precision != recipe.precision:
        other.name = other.package.manifest.recipe.precision
        return recipe.precision
    return recipe.precision if same and other.package is None else _name(package)


def _keep_samples(report: Path, outcome: Outcome) -> Path:
    """Write every sample beside its report, one a line."""
    import json

    path = report.with_name(f"samples-{report.stem}.jsonl")
    lines = (json.dumps({"task": one.task, **one.raw}, ensure_ascii=False, default=_plain) for one in outcome.samples)
    try:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise ZooError(f"{path}: the samples cannot be written: {error.strerror or error}") from None
    return path


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)
