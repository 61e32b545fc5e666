"""What a package is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.declarations.base import digest
from zoo.declarations.report import Report
from zoo.errors import UsageError, ZooError
from zoo.evaluation.comparison import Comparison
from zoo.evaluation.harness import Outcome
from zoo.evaluation.journal import Journal
from zoo.evaluation.tasks import Scoring, Suite
from zoo.home import zoo_home
from zoo.package.folder import Package, open_package
from zoo.registry import Registry
from zoo.stages.evaluate.request import ORIGINAL, EvaluationRequest
from zoo.stages.evaluate.run import Run, choose_scoring
from zoo.stages.subject import find_package, identify

if TYPE_CHECKING:
    from zoo.evaluation.harness_model import Progress


@dataclass
class Other:
    """What a package is compared with: another package, or the original weights through transformers."""

    what: str
    """What to call the package."""
    name: str
    """What to call this one."""
    original: bool = False
    folder: Path | None = None
    package: Package | None = None
    note: str | None = None
    scoring: Scoring = "likelihood"
    digest: str | None = None
    """Of the original weights."""
    _run: Run | None = None
    _model: Any = None
    _journal: Journal | None = None

    @classmethod
    def find(cls, registry: Registry, request: EvaluationRequest, package: Package) -> Other | None:
        """Find what ``--against`` means."""
        if request.against is None:
            return None
        scoring = choose_scoring(registry, package, request.scoring)
        if request.against == ORIGINAL:
            from zoo.evaluation.original import require_original
            from zoo.stages.verify import original_weights

            require_original()
            checkpoint = original_weights(registry, package, identify(registry, request.model), request.weights)
            checkpoint.close()
            if checkpoint.folder is None:
                raise ZooError(f"{checkpoint.name}: transformers cannot open it as it is; --against hf needs a folder")
            what = package.manifest.recipe.precision
            return cls(
                what, "transformers fp32", original=True, folder=checkpoint.folder, scoring=scoring,
                digest=digest([package.manifest.recipe.weights.digest, package.manifest.inputs]),
            )  # fmt: skip
        other = _other_package(registry, request.against)
        note = None
        files = [each.manifest.files.get("tokenizer.json") for each in (package, other)]
        if files[0] != files[1]:
            note = f"{package.path.name} and {other.path.name} have different tokenizers"
        return cls(*_labels(package, other), package=other, note=note, scoring=scoring)

    def compare(
        self,
        outcome: Outcome,
        encode: Callable[[str], list[int]],
        suite: Suite,
        request: EvaluationRequest,
        progress: Progress | None,
    ) -> tuple[Comparison, Report | None]:
        """Score the other one on a fresh suite and compare; a package gets a report of its own."""
        from zoo.evaluation.comparison import compare

        if self.package is not None:
            if self._run is None:
                self._run = Run(self.package, request, self.scoring, progress)
            theirs, measured = self._run.score(suite)
            report = self._run.report(suite, theirs, measured)
        else:
            from zoo.evaluation.harness import run_suite

            if self._model is None:
                self._model = self._open_original(request, progress)
            chat = suite.generates and self.scoring == "generation" and self._model.has_template
            theirs = run_suite(self._model, suite, limit=request.limit, seed=request.seed, chat=chat)
            report = None
            self.note = _other_ids(outcome, encode, self._model.encode)
        return compare(suite.name, self.what, outcome, self.name, theirs), report

    def _open_original(self, request: EvaluationRequest, progress: Progress | None) -> Any:
        from zoo.evaluation.original import OriginalModel

        assert self.folder is not None
        work = digest([self.digest, sorted(request.tasks), request.limit, request.seed, self.scoring])
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
    prompts = {str(arguments[0]) for sample in outcome.samples for arguments in sample.raw["arguments"]}
    differing = sum(encode(prompt) != other(prompt) for prompt in prompts)
    if not differing:
        return None
    return f"transformers makes other token ids of {differing} of {len(prompts)} prompts than tokenizer.json does"


def _other_package(registry: Registry, text: str) -> Package:
    """Open what is compared with: a package, or of a built model the fp32 package where there is one."""
    try:
        return open_package(find_package(registry, text, None if (Path(text) / "zoo.json").is_file() else "fp32"))
    except UsageError:
        raise
    except ZooError:
        return open_package(find_package(registry, text))


def _labels(package: Package, other: Package) -> tuple[str, str]:
    """Name two packages beside each other: by their precisions, where that tells them apart."""
    mine, theirs = package.manifest.recipe, other.manifest.recipe
    if mine.model == theirs.model and mine.precision != theirs.precision:
        return mine.precision, theirs.precision
    if mine.model == theirs.model:
        return f"{mine.precision} {mine.hash[:8]}", f"{theirs.precision} {theirs.hash[:8]}"
    return f"{mine.model} {mine.precision}", f"{theirs.model} {theirs.precision}"
