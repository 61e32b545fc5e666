"""Package → Report: hold a package against transformers on the original weights."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from zoo.calibration.weights import read_package
from zoo.contracts import OWN_ENGINE, Folding, ReadBack
from zoo.contracts.engine import require
from zoo.declarations.manifest import Manifest
from zoo.declarations.report import Report
from zoo.embedding import is_encoder
from zoo.engine.machine import free_memory
from zoo.errors import WeightsAbsent, ZooError
from zoo.package.folder import Package, check_hashes, open_package, read_manifest
from zoo.package.layout import Layout, lay_out
from zoo.package.running import opening_bytes
from zoo.registry import Registry
from zoo.reports import keep_report, make_report, require_place
from zoo.stages.opening import choose_engine, open_engine, with_memory
from zoo.stages.reading import as_meant, without_leftovers
from zoo.stages.smoothing import steady_products
from zoo.stages.subject import Subject, find_package, identify
from zoo.stages.texts import EncoderVerification, verify_encoder
from zoo.stages.weights import are_declared, locate_weights, retransformed
from zoo.terminal import command_line

if TYPE_CHECKING:
    from zoo.contracts import Checkpoint, LogitEngine
    from zoo.verify.candidate import Candidate
    from zoo.verify.compare import Progress
    from zoo.verify.composed import ComposedReference
    from zoo.verify.engine_candidate import EngineCandidate
    from zoo.verify.result import Verdict
    from zoo.verify.samples import Sample
    from zoo.verify.tolerances import UsualLosses
    from zoo.verify.weights import WeightError

_LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "onnx", "onnxruntime")
_SHARE = 0.8
"""Share of the free memory that a whole package may take."""


@dataclass(frozen=True)
class Verification:
    """What a verification found, and the report that keeps it."""

    verdict: Verdict
    report: Report
    path: Path
    """Where the report is."""
    usual: UsualLosses
    """What packages of this precision lost of a trained model of about this width; of none where nothing is rounded."""


def verify(
    registry: Registry,
    model: str,
    precision: str | None = None,
    *,
    weights: str | None = None,
    adapters: Sequence[str] = (),
    quick: bool = False,
    progress: Progress | None = None,
) -> Verification | EncoderVerification:
    """Compare a package with its reference, judge it and keep a report.

    Args:
        model: a package folder, or a model of which a package is in the store.
        precision: which package, where several are built.
        weights: a folder or hub id of the original weights, where the package's own declaration does not lead to them.
        adapters: the folders of adapters that were merged, in order, where the recipe names no repository.
        quick: fewer and shorter texts.
        progress: called before each step.

    Raises:
        ZooError: there is no package or no weights, they do not belong together, or the reference cannot be run.
    """
    from zoo.verify.compare import compare
    from zoo.verify.engine_candidate import EngineCandidate
    from zoo.verify.peft_merge import merged_by_peft
    from zoo.verify.reference import require_reference
    from zoo.verify.references import find_reference
    from zoo.verify.result import judge
    from zoo.verify.samples import make_samples
    from zoo.verify.tolerances import of_engine, tolerance_of, usual_losses

    package = with_memory(registry, open_package(find_package(registry, model, precision)))
    recipe = package.manifest.recipe
    require_place(package.manifest.recipe_hash)
    if is_encoder(package):
        require_reference()
        checkpoint, own = originals(registry, package, identify(registry, model), weights, adapters)
        return verify_encoder(registry, package, checkpoint, own, quick=quick, progress=progress)
    candidate = _candidate(registry, package)
    require_reference()
    checkpoint, own = originals(registry, package, identify(registry, model), weights, adapters)
    width, context = recipe.architecture.hidden_size, recipe.architecture.max_position_embeddings
    tolerance = tolerance_of(recipe.precision, width)
    if isinstance(candidate, EngineCandidate):
        tolerance, context = of_engine(recipe.precision, width), min(context, candidate.engine.context_length)
    samples = make_samples(package.path, recipe.architecture.vocab_size, context, quick=quick)
    refusal = None
    if fits(package):
        try:
            samples = _continued(registry, candidate, package, samples, context, quick=quick, progress=progress)
        except ZooError as error:  # numbers that are not finite, for one; the comparison will say where they begin
            refusal = error
    part = registry.architecture(recipe.architecture.type)
    reference = find_reference(merged_by_peft(checkpoint), part, recipe.architecture)
    layout = lay_out(recipe, registry)
    levels = None if isinstance(candidate, EngineCandidate) else _levels(layout, package)
    figures = compare(reference, candidate, samples, tolerance.tie, progress, levels)
    figures = figures.model_copy(update={"weights": _read_back(layout, package, checkpoint)})
    verdict = judge(figures, tolerance)
    if refusal is not None and verdict.passed:
        raise refusal
    if isinstance(candidate, EngineCandidate):
        candidate.engine.close()
    losses = usual_losses(width)
    usual = losses.model_copy(update={"packages": losses.of(recipe.precision)})
    report = make_report(
        "verify",
        package,
        {
            "quick": quick,
            "sequences": len(samples),
            "reference": reference.name,
            "tolerance": tolerance.model_dump(mode="json"),
        },
        {**verdict.model_dump(mode="json", exclude={"passed"}), "usual": usual.model_dump(mode="json")},
        passed=verdict.passed,
        own_weights=own,
        libraries=_LIBRARIES,
    )
    return Verification(verdict, report, keep_report(report), usual)


def _candidate(registry: Registry, package: Package) -> Candidate | EngineCandidate:
    """Choose how a package is compared: its own graph layer by layer, or the logits of its target's engine.

    Raises:
        ZooError: its engine cannot be opened, or gives no logits.
    """
    from zoo.verify.candidate import Candidate
    from zoo.verify.engine_candidate import EngineCandidate

    target = registry.target(package.manifest.recipe.target.name)
    name = choose_engine(registry, package, target.verified_by if isinstance(target, ReadBack) else None)
    if name == OWN_ENGINE:
        return Candidate(package.path)
    engine = open_engine(registry, package.path, name=name)
    require(engine, "logits", "zoo verify")
    return EngineCandidate(cast("LogitEngine", engine))


def _levels(layout: Layout, package: Package) -> ComposedReference | None:
    """Compute with a package's dequantized weights and float activations; None where that cannot be done by layers."""
    from zoo.verify.composed import ComposedReference

    placed = {each.parameter.name: each for each in layout.placed}
    if layout.program is None:
        return None
    with contextlib.suppress(ZooError):
        return ComposedReference(layout.program, lambda weight: read_package(layout, package.path, placed[weight.name]))
    return None


def _read_back(layout: Layout, package: Package, checkpoint: Checkpoint) -> tuple[WeightError, ...] | None:
    """Compare the weights as they are read back, by another maker's code where the target says how.

    Returns:
        None where a calibrated quantizer rescaled them: nobody knows what they should be.

    Raises:
        ZooError: that code is not installed or refuses the package, or a weight is missing.
    """
    from zoo.smoothing.checkpoint import smoothed
    from zoo.verify.weights import weight_errors

    if isinstance(layout.quantizer, Folding):
        return None
    if isinstance(layout.target, ReadBack):
        return weight_errors(layout, checkpoint, layout.target.read_back(package))
    own = ((each.parameter.name, read_package(layout, package.path, each)) for each in layout.placed)
    with steady_products([layout.recipe]):
        return weight_errors(layout, smoothed(layout, checkpoint), own)


def original_weights(
    registry: Registry, package: Package, subject: Subject, weights: str | None, adapters: Sequence[str] = ()
) -> Checkpoint:
    """Open the checkpoint that a package was built from; see ``originals``."""
    return originals(registry, package, subject, weights, adapters)[0]


def originals(
    registry: Registry, package: Package, subject: Subject, weights: str | None, adapters: Sequence[str] = ()
) -> tuple[Checkpoint, bool | None]:
    """Open the checkpoint that a package was built from, transformed as it was; a package itself remembers no place.

    Returns:
        It, and whether it is what the package's model declares; None where nobody can tell.

    Raises:
        ZooError: it is not on this machine, or it is another one.
    """
    recipe = package.manifest.recipe
    if recipe.format_version == 1:
        raise ZooError(
            f"{package.path.name} was built by an earlier version, which did not record its weights' content; build it "
            f"again: "
            + command_line("zoo", "build", recipe.model, "-p", recipe.precision, "--force", "-o", package.path)
        )
    if subject.package is not None:
        declared = registry.find(f"{recipe.family}/{recipe.model}") if recipe.family else None
        subject = Subject(recipe.model, declared=declared, location=None if declared else recipe.weights.hub)
    location = locate_weights(registry, subject, weights, None if weights else recipe.weights.revision)
    checkpoint = None
    if location is not None:
        with contextlib.suppress(*() if weights is not None else (WeightsAbsent,)):
            checkpoint = location.open(registry, offline=weights is None)
    if checkpoint is None:
        known = subject.declared or subject.location
        fetch = f"fetch them with {command_line('zoo', 'fetch', subject.label)}, or " if known else ""
        raise ZooError(
            f"the weights that {package.path.name} was built from were not found on this machine; "
            f"{fetch}name their folder with --weights"
        )
    checkpoint = without_leftovers(retransformed(registry, checkpoint.bring(), recipe.weights.transforms, adapters))
    part, arch = registry.architecture(recipe.architecture.type), recipe.architecture
    _, checkpoint = as_meant(part, arch, checkpoint, recipe.allow_unused, read=False)
    _require_inputs(package, checkpoint)
    if subject.declared is None or location is None:
        return checkpoint, None
    return checkpoint, are_declared(subject.declared, location)


def _require_inputs(package: Package, checkpoint: Checkpoint) -> None:
    """Refuse weights, or files beside them, that a package was not built from.

    Raises:
        ZooError: naming what differs.
    """
    from zoo.sources.content import differing, full_digest
    from zoo.sources.folder import companion_hashes, content_digest

    name, wrong = package.path.name, "name the right folder with --weights"
    inputs, pin = package.manifest.inputs, package.manifest.recipe.weights
    tensor = differing(checkpoint, inputs)
    if tensor is not None:
        raise ZooError(f"{checkpoint.name} is not what {name} was built from: its tensor {tensor!r} differs; {wrong}")
    # The hub's digest and one of samples name the same weights differently, and the weights are the same by now.
    named = {checkpoint.digest, full_digest(checkpoint.digest, inputs)}
    if pin.files:
        named.add(content_digest(companion_hashes(checkpoint), pin.files, list))
    elif checkpoint.checksums:
        return
    if pin.digest not in named:
        raise ZooError(
            f"{checkpoint.name} is not what {name} was built from: its tensors are the same, but its config.json, "
            f"tokenizer or another file beside them differs; {wrong}"
        )


def fits(package: Package) -> bool:
    """Tell whether a package can be opened whole beside what runs now."""
    return opening_bytes(package.manifest) < free_memory() * _SHARE


def bad_files(folder: Path) -> tuple[Manifest, list[str]]:
    """Compare every file of a package with the SHA-256 in its manifest.

    Returns:
        The manifest, and one line for each file that is missing or changed.
    """
    manifest = read_manifest(folder)
    lines = []
    for name, record in manifest.files.items():
        try:
            check_hashes(folder, manifest.model_copy(update={"files": {name: record}}))
        except ZooError as error:
            lines.append(str(error))
    return manifest, lines


def _continued(
    registry: Registry,
    candidate: Candidate | EngineCandidate,
    package: Package,
    samples: Sequence[Sample],
    context: int,
    *,
    quick: bool,
    progress: Progress | None,
) -> list[Sample]:
    from zoo.verify.engine_candidate import EngineCandidate
    from zoo.verify.samples import continue_prompts

    if progress is not None:
        progress("greedy continuations", 0, 1)
    engine = candidate.engine if isinstance(candidate, EngineCandidate) else open_engine(registry, package.path)
    return continue_prompts(list(samples), engine, context, quick=quick)
