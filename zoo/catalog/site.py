"""Cards → pages: every file of the site, by its path inside the folder."""

from __future__ import annotations

import inspect
import json
from pathlib import Path, PurePosixPath
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from zoo import hookspecs
from zoo.catalog import drawing, words
from zoo.catalog.cards import Fact, ModelCard, PartCard, Zoo
from zoo.catalog.directory import directory
from zoo.catalog.measured import accuracy, speed, take_apart
from zoo.catalog.plots import plots
from zoo.units import count_text

HERE = Path(__file__).parent
FORMAT_VERSION = 1
DEFAULT_PRECISION = "int8"


def site(zoo: Zoo) -> dict[str, bytes]:
    """Make every file. The same zoo gives the same bytes."""
    pages = Pages(zoo)
    files = {f"assets/{asset.name}": asset.read_bytes() for asset in sorted((HERE / "assets").iterdir())}
    files["index.html"] = pages.render("index.html", "index.html", "models", **index(zoo))
    for model in zoo.models:
        files[model.path] = pages.render("model.html", model.path, "models", **model_view(model))
    for family in zoo.families:
        models = [model for model in zoo.models if model.family == family.family.name]
        files[family.path] = pages.render("family.html", family.path, "families", card=family, models=models)
    for part in (*zoo.targets, *zoo.quantizers):
        files[part.path] = pages.render("part.html", part.path, f"{part.kind}s", **part_view(zoo, part))
    for kind in ("families", "targets", "quantizers"):
        path = f"{kind}/index.html"
        files[path] = pages.render(f"{kind}.html", path, kind)
    files["datasets.html"] = pages.render("datasets.html", "datasets.html", "datasets", users=dataset_users(zoo))
    files["directory.html"] = pages.render("directory.html", "directory.html", "directory", plugins=directory())
    files["guide.html"] = pages.render("guide.html", "guide.html", "guide", **guide())
    files["catalog.json"] = machine_readable(zoo)
    return files


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

    def render(self, template: str, path: str, section: str, **view: Any) -> bytes:
        """Render a page; its links are relative to ``path``."""
        root = "../" * (len(PurePosixPath(path).parts) - 1)
        text = self._environment.get_template(template).render(root=root, section=section, **view)
        return f"{text.rstrip()}\n".encode()


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


def model_view(card: ModelCard) -> dict[str, Any]:
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
        "stack": drawing.stack(card),
        "heads": drawing.heads(card),
        "attention_sentence": drawing.attention_sentence(card),
        "mlp": drawing.mlp(card),
        "weights": drawing.weights(card),
        "reports": reports,
        "first_precision": DEFAULT_PRECISION if DEFAULT_PRECISION in card.precisions else "".join(card.precisions[:1]),
        "documents": _by_target(card),
        "values": _values(card),
        "package_files": {build.target: build.files for build in card.builds},
    }


def _values(card: ModelCard) -> dict[str, dict[str, Fact]]:
    """Leave out what other pages or other parts of the page show: datasets, and a target's own defaults."""
    values = {}
    for section, fields in card.facts.items():
        changed = {name: one for name, one in fields.items() if section != one.origin}
        if changed and section != "datasets":
            values[section] = changed
    return values


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


def machine_readable(zoo: Zoo) -> bytes:
    """Write all of it as JSON: one line a model, family, target, quantizer or dataset."""
    parts: dict[str, Any] = {"format": "zoo-catalog", "format_version": FORMAT_VERSION, **zoo.model_dump(mode="json")}
    for card, model in zip(zoo.models, parts["models"], strict=True):
        model["page"] = card.path
    fields = [f"{_json(name)}:{_lines(value)}" for name, value in parts.items()]
    return ("{" + ",\n".join(fields) + "}\n").encode()


def _lines(value: Any) -> str:
    return "[\n" + ",\n".join(map(_json, value)) + "]" if isinstance(value, list) else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
