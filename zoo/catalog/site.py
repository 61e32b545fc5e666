"""Cards → pages: every file of the site, by its path inside the folder."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pydantic_core import to_jsonable_python

from zoo import hookspecs
from zoo.catalog import drawing, words
from zoo.catalog.cards import ModelCard, PartCard, Zoo
from zoo.catalog.directory import directory
from zoo.catalog.measured import accuracy, speed, take_apart
from zoo.catalog.plots import plots
from zoo.units import count_text

HERE = Path(__file__).parent
FORMAT_VERSION = 1
DEFAULT_PRECISION = "int8"


def site(zoo: Zoo) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Make every file, one after the other: its path, and its bytes in pieces. The same zoo gives the same bytes."""
    pages = Pages(zoo)
    for asset in sorted((HERE / "assets").iterdir()):
        yield f"assets/{asset.name}", [asset.read_bytes()]
    yield pages.file("index.html", "index.html", "models", **index(zoo))
    models: dict[str, list[ModelCard]] = {}
    for model in zoo.models:
        yield pages.file("model.html", model.path, "models", **model_view(model, pages))
        models.setdefault(model.family, []).append(model)
    for family in zoo.families:
        mine = models.get(family.family.name, [])
        yield pages.file("family.html", family.path, "families", card=family, models=mine)
    for part in (*zoo.targets, *zoo.quantizers):
        yield pages.file("part.html", part.path, f"{part.kind}s", **part_view(zoo, part))
    for kind in ("families", "targets", "quantizers"):
        yield pages.file(f"{kind}.html", f"{kind}/index.html", kind)
    yield pages.file("datasets.html", "datasets.html", "datasets", users=dataset_users(zoo))
    yield pages.file("directory.html", "directory.html", "directory", plugins=directory())
    yield pages.file("guide.html", "guide.html", "guide", **guide())
    yield "catalog.json", machine_readable(zoo)


class Pages:
    """The templates, with what each of them sees."""

    def __init__(self, zoo: Zoo) -> None:
        self._zoo = zoo
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "count": count_text,
            "size": words.size,
            "figure": words.figure,
            "plain": words.plain,
        }
        self._environment.globals |= {
            "use_of": words.use_of,
            "zoo": zoo,
            "default_precision": DEFAULT_PRECISION,
            "target_names": frozenset(target.name for target in zoo.targets),
            "quantizer_names": frozenset(quantizer.name for quantizer in zoo.quantizers),
            "dataset_names": frozenset(dataset.name for dataset in zoo.datasets),
        }

        self._shared: dict[object, Any] = {}
        self._fact_rows = self._environment.get_template("macros.html").module.fact_rows  # type: ignore[attr-defined]

    def file(self, template: str, path: str, section: str, **view: Any) -> tuple[str, Iterable[bytes]]:
        """Render a page; its links are relative to ``path``."""
        root = "../" * (len(PurePosixPath(path).parts) - 1)
        text = self._environment.get_template(template).render(root=root, section=section, **view)
        return path, [f"{text.rstrip()}\n".encode()]

    def drawings(self, card: ModelCard) -> dict[str, Markup]:
        """Draw a model; models of the same architecture are drawn once."""
        key = id(card.architecture)
        if key not in self._shared:
            self._shared[key] = {
                "stack": drawing.stack(card),
                "heads": drawing.heads(card),
                "mlp": drawing.mlp(card),
                "weights": drawing.weights(card),
            }
        drawings: dict[str, Markup] = self._shared[key]
        return drawings

    def values(self, card: ModelCard) -> dict[str, Markup]:
        """Tabulate the facts, the same section once, by name.

        Datasets and a target's own defaults are left out: other pages, or other parts of the page, show them.
        """
        values = {}
        for section, fields in card.facts.items():
            key = section, id(fields)
            if key not in self._shared:
                changed = {name: fact for name, fact in fields.items() if section != fact.origin}
                self._shared[key] = self._fact_rows(changed) if changed and section != "datasets" else ""
            if self._shared[key]:
                values[section] = self._shared[key]
        return values


def index(zoo: Zoo) -> dict[str, Any]:
    """Collect what the table of models shows."""
    precisions = [precision for part in zoo.targets if part.name == zoo.default_target for precision in part.precisions]
    return {
        "rows": [
            {
                "card": card,
                "costs": {precision: card.cost(precision) for precision in precisions},
                "speed": speed(card.reports),
                "accuracy": accuracy(card.reports),
            }
            for card in zoo.models
        ],
        "precisions": precisions,
        "attentions": [kind for kind in ("MHA", "GQA", "MQA") if any(card.attention == kind for card in zoo.models)],
        "uses": [use for use in ("commercial", "non-commercial", "unstated") if use in _uses(zoo)],
    }


def _uses(zoo: Zoo) -> set[str]:
    return {words.use_of(card.licence)[0] for card in zoo.models}


def model_view(card: ModelCard, pages: Pages) -> dict[str, Any]:
    """Collect what a model's page shows."""
    use, sentence = words.use_of(card.licence)
    reports = []
    for report in reversed(card.reports):
        taken = take_apart(report)
        reports.append((report, taken, [(rows, plots(rows)) for rows in taken.rows]))
    return {
        "card": card,
        "use": use,
        "use_sentence": sentence,
        **pages.drawings(card),
        "attention_sentence": drawing.attention_sentence(card),
        "reports": reports,
        "first_precision": DEFAULT_PRECISION if DEFAULT_PRECISION in card.precisions else "".join(card.precisions[:1]),
        "documents": _by_target(card),
        "values": pages.values(card),
        "package_files": {build.target: build.files for build in card.builds},
    }


def _by_target(card: ModelCard) -> dict[str, list[Any]]:
    documents: dict[str, list[Any]] = {}
    for document in card.documents:
        documents.setdefault(document.target, []).append(document)
    return documents


def part_view(zoo: Zoo, part: PartCard) -> dict[str, Any]:
    """Collect what the page of a target or a quantizer shows."""
    if part.kind == "target":
        users = [
            card
            for card in zoo.models
            if part.name
            in {*(build.target for build in card.builds), *(document.target for document in card.documents)}
        ]
        return {"card": part, "models": users, "targets": []}
    targets = [
        (target, [precision for precision, name in target.precisions.items() if name == part.name])
        for target in zoo.targets
        if part.name in target.precisions.values()
    ]
    return {"card": part, "models": [], "targets": targets}


def dataset_users(zoo: Zoo) -> dict[str, list[tuple[str, str]]]:
    """Say which families use a dataset, and what for."""
    users: dict[str, list[tuple[str, str]]] = {dataset.name: [] for dataset in zoo.datasets}
    for card in zoo.families:
        uses = card.family.datasets
        for purpose, names in (
            ("calibration", [use.dataset for use in uses.calibration]),
            ("performance", uses.performance),
            ("accuracy", uses.accuracy),
        ):
            for name in names:
                users.setdefault(name, []).append((card.family.name, purpose))
    return users


def guide() -> dict[str, Any]:
    """Collect what the plugin guide shows: its example, which the tests run, and the hooks as they are."""
    hooks = [
        (name, inspect.getdoc(function) or "")
        for name, function in vars(hookspecs).items()
        if name.startswith("register_")
    ]
    example = HERE / "example"
    return {
        "hooks": hooks,
        "example": [
            ("pyproject.toml", (example / "pyproject.toml").read_text(encoding="utf-8")),
            ("zoo_example/__init__.py", (example / "plugin.py.txt").read_text(encoding="utf-8")),
            ("zoo_example/example.yaml", (example / "example.yaml").read_text(encoding="utf-8")),
        ],
    }


def machine_readable(zoo: Zoo) -> Iterator[bytes]:
    """Write all of it as JSON: one line a model, family, target, quantizer or dataset."""
    texts = JsonTexts()
    yield f'{{"format":"zoo-catalog",\n"format_version":{FORMAT_VERSION}'.encode()
    for name in Zoo.model_fields:
        value = getattr(zoo, name)
        yield f",\n{_json(name)}:".encode()
        if isinstance(value, str):
            yield _json(value).encode()
            continue
        yield b"[\n"
        for index, card in enumerate(value):
            text = texts.model(card) if isinstance(card, ModelCard) else _json(card.model_dump(mode="json"))
            yield f"{',' + chr(10) if index else ''}{text}".encode()
        yield b"]"
    yield b"}\n"


class JsonTexts:
    """Cards of models as JSON; what they share is written once."""

    _SHARED = frozenset({"architecture", "licence", "shares", "layer", "outline", "builds"})

    def __init__(self) -> None:
        self._texts: dict[int, str] = {}

    def model(self, card: ModelCard) -> str:
        """Write a card, and the address of its page."""
        own = card.model_dump(mode="json", exclude={*self._SHARED, "facts"})
        fields = []
        for name in ModelCard.model_fields:
            value = getattr(card, name)
            if name == "facts":
                text = "{" + ",".join(f"{_json(section)}:{self._once(facts)}" for section, facts in value.items()) + "}"
            else:
                text = self._once(value) if name in self._SHARED else _json(own[name])
            fields.append(f"{_json(name)}:{text}")
        return "{" + ",".join([*fields, f'"page":{_json(card.path)}']) + "}"

    def _once(self, value: Any) -> str:
        if id(value) not in self._texts:
            self._texts[id(value)] = _json(to_jsonable_python(value))
        return self._texts[id(value)]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
