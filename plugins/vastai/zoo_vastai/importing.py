"""Turn existing compile files into family declarations, and say what is wrong with the files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from zoo import Architecture, DatasetUses, Family, Licence, Model, Weights, ZooError
from zoo_vastai import rules
from zoo_vastai.documents import KV8
from zoo_vastai.names import disagreements, size_disagreement
from zoo_vastai.numbers import Known, find_numbers, parameter_count
from zoo_vastai.reading import CompileFile, departures, read_file

Kind = Literal["unreadable", "unknown numbers", "contradiction", "broken rule", "duplicate", "note"]
PRECISIONS = ("fp16", "int8")


@dataclass(frozen=True)
class Finding:
    """Something to know about a file."""

    file: str
    kind: Kind
    message: str


@dataclass
class Imported:
    """What became of the files."""

    families: dict[str, Family] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    commands: dict[str, str] = field(default_factory=dict)
    """File → the command that makes it again."""
    files: int = 0
    """How many files were looked at."""

    def say(self, file: str, kind: Kind, message: str) -> None:
        self.findings.append(Finding(file, kind, message))

    @property
    def counts(self) -> str:
        """Say in a line what became of the files, each counted once."""
        left: dict[str, str] = {}
        for finding in self.findings:
            if finding.file not in self.commands and finding.kind != "note":
                left[finding.file] = finding.kind
        kinds = [(kind, list(left.values()).count(kind)) for kind in dict.fromkeys(left.values())]
        return ", ".join(
            [f"{self.files} files: {len(self.commands)} taken over", *(f"{n} {kind}" for kind, n in kinds)]
        )

    @property
    def clean(self) -> bool:
        """Every file was taken over, and none contradicts itself."""
        return all(one.kind in ("duplicate", "note") for one in self.findings)


@dataclass
class _Checkpoint:
    """The files of one checkpoint."""

    known: Known
    changed: dict[str, Any]
    files: list[CompileFile]


def yaml_files(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Go through files, and through folders for their YAML files; each comes with what findings call it."""
    for path in paths:
        if path.is_dir():
            for file in sorted(file for file in path.rglob("*") if file.suffix in (".yaml", ".yml") and file.is_file()):
                yield file, (file.relative_to(path) if len(paths) == 1 else file).as_posix()
        elif path.exists():
            yield path, path.name if len(paths) == 1 else path.as_posix()
        else:
            raise ZooError(f"there is no {path}")


def import_files(paths: Sequence[Path], registry: Any, roots: Sequence[Path], family: str | None = None) -> Imported:
    """Read files and make the declarations that would write them.

    Args:
        paths: files, or folders of them.
        registry: the loaded declarations, where a checkpoint's numbers may be known.
        roots: folders that hold checkpoints (at least their ``config.json``) by name.
        family: one name for all; otherwise one family for each that the checkpoints belong to.
    """
    result = Imported()
    seen: dict[tuple[str, bool], CompileFile] = {}
    checkpoints: dict[str, _Checkpoint] = {}
    for path, label in yaml_files(paths):
        result.files += 1
        try:
            file = read_file(path, label)
        except ZooError as error:
            result.say(label, "unreadable", str(error))
            continue
        for message in _names(file):
            result.say(label, "contradiction", message)
        if _is_duplicate(file, seen, result):
            continue
        try:
            known = find_numbers(file, registry, roots)
        except ZooError as error:
            result.say(label, "unknown numbers", str(error))
            continue
        _numbers(file, known, registry, result)
        broken = list(_broken(file, known.architecture))
        for message in broken:
            result.say(label, "broken rule", message)
        if not broken:
            _collect(file, known, checkpoints, result)
    for name, members in _by_family(checkpoints, family).items():
        result.families[name] = _family(name, members)
        for _, checkpoint in members:
            _commands(name, checkpoint, result)
    return result


def _names(file: CompileFile) -> Iterator[str]:
    """Find contradictions between the file's name, the build's name and the content."""
    if file.name != file.content_name:
        yield f"its name is {file.name}, but its content builds {file.content_name}"
    for message in disagreements(file.path.stem, file.weights_name):
        yield f"the file is called {file.path.stem} and builds {file.weights_name}: {message}"


def _is_duplicate(file: CompileFile, seen: dict[tuple[str, bool], CompileFile], result: Imported) -> bool:
    key = (file.content_name + str(file.calibration), file.quantizes)
    first = seen.setdefault(key, file)
    if first is file:
        return False
    if {**first.data, "name": "", "frontend": _bare(first)} == {**file.data, "name": "", "frontend": _bare(file)}:
        result.say(file.label, "duplicate", f"says the same as {first.label}")
    else:
        result.say(file.label, "contradiction", f"builds the same as {first.label}, but says it differently")
    return True


def _bare(file: CompileFile) -> dict[str, Any]:
    return {**file.data["frontend"], "checkpoint": file.weights_name}


def _numbers(file: CompileFile, known: Known, registry: Any, result: Imported) -> None:
    """Find numbers in a file that its checkpoint does not have."""
    stated = {**file.data["frontend"].get("model_kwargs", {}), **file.data.get("model", {})}
    for name in sorted(stated.keys() & Architecture.model_fields.keys()):
        actual = getattr(known.architecture, name)
        if stated[name] != actual:
            message = f"{name} {stated[name]} is not the checkpoint's: {known.origin} says {actual}"
            result.say(file.label, "contradiction", message)
    parameters = parameter_count(registry, known.architecture)
    # Its maker's own name for a checkpoint is no mistake: Gemma's 2B has 2.5 billion parameters.
    names = (file.weights_name, file.path.stem) if known.declared is None else (file.path.stem,)
    for name in dict.fromkeys(names):
        message = size_disagreement(name, parameters)
        if message is not None:
            result.say(file.label, "contradiction", f"{name}: {message} ({known.origin})")


def _broken(file: CompileFile, architecture: Architecture) -> Iterator[str]:
    """Name the rules that a file breaks."""
    yield from rules.broken(architecture, file.tp, file.shapes)
    wanted = rules.align_qkv(architecture, file.tp)
    heads = architecture.num_key_value_heads
    if wanted and not file.align_qkv:
        yield f"align_qkv is missing: {heads} KV heads are not divisible by tp {file.tp}, so they must be aligned"
    if file.align_qkv and not wanted:
        yield f"align_qkv is set, but {heads} KV heads are divisible by tp {file.tp}, so there is nothing to align"
    if file.precision not in PRECISIONS:
        yield f"dtype {file.precision} is not one of {', '.join(PRECISIONS)}"
    kind = (file.data["frontend"].get("quantize") or {}).get("type")
    if file.precision == "int8" and kind != "w8a16_gptq":
        yield f"dtype int8 means weights quantized by w8a16_gptq, but frontend.quantize.type is {kind}"
    if file.precision == "fp16" and kind not in (None, KV8):
        yield f"dtype fp16 goes without quantized weights, but frontend.quantize.type is {kind}"


def _collect(file: CompileFile, known: Known, checkpoints: dict[str, _Checkpoint], result: Imported) -> None:
    try:
        changed, lacking = departures(file, known.architecture)
    except ZooError as error:
        result.say(file.label, "unreadable", str(error))
        return
    if lacking:
        result.say(file.label, "note", f"lacks {', '.join(lacking)}, which a new build will state")
    one = checkpoints.setdefault(file.weights_name, _Checkpoint(known, changed, []))
    one.files.append(file)
    if len(one.files) == 1 and known.declared is not None:
        result.say(file.label, "note", f"{file.weights_name} is declared already, as {known.declared.full_name}")


def _by_family(checkpoints: dict[str, _Checkpoint], name: str | None) -> dict[str, list[tuple[str, _Checkpoint]]]:
    grouped: dict[str, list[tuple[str, _Checkpoint]]] = {}
    for label, one in checkpoints.items():
        grouped.setdefault(name or f"vamc-{slug(one.known.base)}", []).append((label, one))
    return grouped


def slug(text: str) -> str:
    """Make a name that people can type of any text."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("._-") or "model"


def _family(name: str, members: list[tuple[str, _Checkpoint]]) -> Family:
    """Make the declaration of a family; what all its models share stands once."""
    first = members[0][1].known
    based = first.declared.family if first.declared is not None else None
    uses = based.datasets if based is not None else DatasetUses()
    calibration = {use.dataset: use for use in uses.calibration}
    calibration |= {use.dataset: use for _, one in members for file in one.files if (use := file.calibration)}
    shared = [one.changed for _, one in members]
    common = {key: value for key, value in shared[0].items() if all(other.get(key) == value for other in shared)}
    return Family(
        name=name,
        title=based.title if based is not None else first.base,
        licence=based.licence if based is not None else Licence(id="unknown"),
        datasets=uses.model_copy(update={"calibration": tuple(calibration.values())}),
        tested_versions=based.tested_versions if based is not None else {},
        targets={"vamc": common} if common else {},
        notes=("Imported from compile files.",),
        models=tuple(_model(label, one, common) for label, one in members),
    )


def _model(label: str, one: _Checkpoint, common: dict[str, Any]) -> Model:
    known = one.known
    own = {key: value for key, value in one.changed.items() if key not in common}
    numbers = {
        key: value for key, value in known.architecture.model_dump(mode="json").items() if value not in (None, {})
    }
    declared = known.declared
    return Model(
        name=slug(label),
        title=label,
        weights=Weights(hub=known.hub) if known.hub is not None else Weights(path=str(known.folder)),
        architecture=numbers,
        tokens=declared.tokens if declared is not None else None,
        chat_template=declared.chat_template if declared is not None else None,
        chat=declared.chat if declared is not None else None,
        targets={"vamc": own} if own else {},
        source=known.origin,
    )


def _commands(family: str, one: _Checkpoint, result: Imported) -> None:
    """Say for each file which command makes it again, with options where it departs from the declaration."""
    for file in one.files:
        changed, _ = departures(file, one.known.architecture)
        words = ["zoo", "build", f"{family}/{slug(file.weights_name)}", "--target", "vamc", "-p", file.precision]
        for name, value in changed.items():
            if one.changed.get(name) != value:
                shown = ",".join(map(str, value)) if isinstance(value, list) else value
                words += [f"--{shown}"] if name == "mode" else [f"--{name.replace('_', '-')}", str(shown)]
        for name in one.changed.keys() - changed.keys():
            result.say(file.label, "note", f"leaves {name} as the target has it; other files of the checkpoint do not")
        if file.calibration is not None:
            words += ["--calibration", file.calibration.dataset]
        if file.true_sequential:
            words += ["--quantizer-option", "true_sequential=true"]
        result.commands[file.label] = shlex.join(words)
