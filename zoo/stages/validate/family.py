"""Judge one family: its references, its numbers, and what each installed target makes of its models."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from zoo.declarations.architecture import Architecture
from zoo.declarations.dataset import Dataset
from zoo.declarations.recipe import Precision, QuantizerChoice
from zoo.errors import UsageError, ZooError, unknown
from zoo.operations import missing
from zoo.registry import DeclaredFamily, DeclaredModel, Registry, UnknownBase
from zoo.stages.choices import check_precision, choose_quantizer
from zoo.stages.listing import parameter_count
from zoo.stages.request import Request
from zoo.stages.resolve import declared_facts, make_recipe
from zoo.stages.validate.findings import Page
from zoo.yamlfile import Location, explain

PLAUSIBLE = (0.7, 1.4)
"""Parameters over what the name says; a 7B has 6.7 billion, a 2B may have 2.6 with its embeddings."""
_SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", re.IGNORECASE)
_UNIT = {"b": 1e9, "m": 1e6}
_TALK = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": "Bye"},
]


@dataclass(frozen=True)
class Build:
    """A precision of a target, and the quantizer that the target means by it: the same for every model."""

    precision: Precision
    quantizer: QuantizerChoice


Targets = dict[str, list[Build] | ZooError]
"""What each installed target builds, or why it cannot be asked."""


def builds(registry: Registry) -> Targets:
    """Ask each installed target what it builds."""
    built: Targets = {}
    for name in registry.targets:
        try:
            target = registry.target(name)
            built[name] = [
                Build(precision, choose_quantizer(registry, Request("", precision, target=name), precision))
                for precision in map(check_precision, target.precisions)
            ]
        except ZooError as error:
            built[name] = error
    return built


def check_family(page: Page, declared: DeclaredFamily, registry: Registry, targets: Targets) -> None:
    """Judge a family that is part of the registry."""
    _check_datasets(page, declared, registry.datasets)
    for name in declared.family.targets:
        _check_target_name(page, ("targets", name), name, registry)
    for index, model in enumerate(declared.models):
        at: Location = ("models", index)
        for name in model.model.targets:
            _check_target_name(page, (*at, "targets", name), name, registry)
        if _check_numbers(page, at, model, registry):
            _check_tokens(page, at, model)
            _check_template(page, at, model)
            _check_draft(page, at, model, registry)
            _check_targets(page, at, model, registry, targets)


def _check_datasets(page: Page, declared: DeclaredFamily, known: dict[str, Dataset]) -> None:
    uses = declared.family.datasets
    named: list[tuple[str, Location, str]] = [
        *(
            (one.dataset, ("datasets", "calibration", i, "dataset"), "calibration")
            for i, one in enumerate(uses.calibration)
        ),
        *((one, ("datasets", "performance", i), "performance") for i, one in enumerate(uses.performance)),
        *((one, ("datasets", "accuracy", i), "accuracy") for i, one in enumerate(uses.accuracy)),
    ]
    for name, at, purpose in named:
        if name not in known:
            page.error(at, str(unknown("dataset", name, known)), "declare it, or install the plugin that does")
        elif purpose not in known[name].purposes:
            page.error(at, f"the dataset {name!r} is for {', '.join(known[name].purposes)}, not for {purpose}")


def _check_target_name(page: Page, at: Location, name: str, registry: Registry) -> None:
    if name not in registry.targets:
        page.warn(
            at, f"{unknown('target', name, registry.targets)}", "its options are not checked until it is installed"
        )


def _check_draft(page: Page, at: Location, model: DeclaredModel, registry: Registry) -> None:
    if model.model.draft is None:
        return
    try:
        draft = registry.model(model.model.draft)
        smaller = parameter_count(registry, draft) < parameter_count(registry, model)
    except ZooError as error:
        page.error((*at, "draft"), str(error), "name a declared model")
        return
    if not smaller:
        page.error((*at, "draft"), f"{draft.name} is not smaller than {model.name}", "name a much smaller model")


def _check_numbers(page: Page, at: Location, model: DeclaredModel, registry: Registry) -> bool:
    """Judge a model's numbers; False where nothing can be made of them."""
    try:
        arch = model.architecture
    except UnknownBase as error:
        page.error((*at, "base"), str(error), "name a declared model, and install the plugin that declares it")
        return False
    except ZooError as error:
        message = str(error).removeprefix(f"model {model.full_name}: architecture: ")
        words = [word for word in re.findall(r"\w+", message) if word in Architecture.model_fields]
        stated = [place for word in words if (place := _stated(model, at, "architecture", word)) != at]
        missing_one = "state it for the model or its family" if "required" in message else None
        page.error(stated[0] if stated else (*at, "architecture"), message, missing_one)
        return False
    try:
        part = registry.architecture(arch.type)
        parameters = parameter_count(registry, model)
    except ZooError as error:
        page.error(_stated(model, at, "architecture", "type"), str(error))
        return False
    if arch.hidden_act not in part.activations:
        page.error(
            _stated(model, at, "architecture", "hidden_act"),
            str(unknown("activation", arch.hidden_act, part.activations)),
        )
        return False
    size = _SIZE.search(model.name.replace("-", " ")) or _SIZE.search(model.model.title or "")
    if size is not None:
        meant = float(size[1]) * _UNIT[size[2].lower()]
        if not PLAUSIBLE[0] <= parameters / meant <= PLAUSIBLE[1]:
            page.warn((*at, "name"), f"the numbers make {parameters:,} parameters, not {size[0]}", "check both")
    folder = model.weights_folder if page.document is not None else None
    if folder is not None and not (folder / "config.json").is_file():
        page.error((*at, "weights", "path"), f"there is no checkpoint in {model.model.weights.path!r} beside this file")
        return False
    return True


def _check_tokens(page: Page, at: Location, model: DeclaredModel) -> None:
    tokens, size = model.tokens, model.architecture.vocab_size
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = getattr(tokens, name)
        for token_id in value if isinstance(value, tuple) else [value]:
            if token_id is not None and not 0 <= token_id < size:
                page.error(_stated(model, at, "tokens", name), f"{token_id} is not in the vocabulary of {size}")


def _check_template(page: Page, at: Location, model: DeclaredModel) -> None:
    template = model.chat_template
    if template is None:
        return
    from zoo.engine.chat import render

    try:
        text = render(template, _TALK, {"bos_token": "<s>", "eos_token": "</s>"})
    except ZooError as error:
        page.error(_stated(model, at, "chat_template"), str(error), "it must render user, assistant, user")
        return
    if not all(message["content"] in text for message in _TALK):
        page.error(_stated(model, at, "chat_template"), "it omits a message")


def _check_targets(page: Page, at: Location, model: DeclaredModel, registry: Registry, targets: Targets) -> None:
    """Hold a model's options against each target's own model, and its builds against each target's rules."""
    with _heard() as lines:
        try:
            known = declared_facts(registry, model)
        except ZooError as error:
            page.error(at, str(error))
            return
    for line in lines:
        page.warn(at, line.removeprefix(f"{model.name}: "))
    for name, found in targets.items():
        if isinstance(found, ZooError):
            page.note(at, f"target {name!r} was not checked: {found}")
            continue
        target = registry.target(name)
        if lacks := missing(registry.architecture(model.architecture.type), model.architecture, target):
            page.note(at, f"target {name!r} does not support: {', '.join(lacks)}")
            continue
        stated = model.target_options(name)
        try:
            options = target.Options.model_validate(
                stated, context={"architecture": model.architecture, "declared": frozenset(stated)}
            )
        except ValidationError as error:
            for problem in error.errors():
                option = str(problem["loc"][0]) if problem["loc"] else ""
                mend = None
                if problem["type"] == "extra_forbidden":
                    mend = str(unknown("option", option, target.Options.model_fields)).split("; ", 1)[-1]
                page.error(_stated(model, at, "targets", name, option), explain(problem), mend)
            continue
        refused, spelled_out = {}, options.model_dump(mode="json")
        with _heard() as lines:
            for build in found:
                # Whether channels are rescaled is chosen, not stated, and takes long to find out.
                request = Request(model.full_name, build.precision, target=name, smoothing="none")
                try:
                    make_recipe(registry, request, known, build.precision, build.quantizer, spelled_out)
                except (UsageError, ZooError) as error:
                    refused[build.precision] = f"target {name!r}, {build.precision}: {error}"
        place = _stated(model, at, "targets", name) if stated else at
        for line in refused.values():
            # A target may build a model in some precisions alone; what nobody states options for is no mistake.
            if stated or len(refused) == len(found):
                page.error(place, line)
            else:
                page.note(place, line)
        for line in lines:
            page.warn(at, line.removeprefix(f"{model.name}: "))


@contextmanager
def _heard() -> Iterator[list[str]]:
    """Collect what the stages log instead of letting it through, each line once."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if (line := record.getMessage()) not in lines:
                lines.append(line)

    logger, handler = logging.getLogger("zoo"), Keep(logging.WARNING)
    passed_on, others = logger.propagate, logger.handlers
    logger.handlers, logger.propagate = [handler], False
    try:
        yield lines
    finally:
        logger.handlers, logger.propagate = others, passed_on


def _stated(model: DeclaredModel, at: Location, *field: str) -> Location:
    """Find where a field is stated: on the model, on a base in the same file, or on the family."""
    family = model.family
    names = [model.name for model in family.models]
    for member in reversed(family.lineage(model.model)):
        if _holds(member, field):
            return ("models", names.index(member.name), *field)
    return tuple(field) if _holds(family, field) else at


def _holds(value: Any, field: tuple[str, ...]) -> bool:
    for step in field:
        value = value.get(step) if isinstance(value, dict) else getattr(value, step, None)
        if value is None:
            return False
    return True
