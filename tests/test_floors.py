"""Imports run down the floors of docs/architecture.md, and never in a circle; those inside functions count."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import zoo

ROOT = Path(zoo.__file__).parent
PAGE = ROOT.parent / "docs/architecture.md"
FLOORS = ("ground", "registry", "parts", "stages", "asks")
ENTRY = {"__init__", "__main__"}
"""The package itself: they stand above everything."""


def room(module: str) -> str:
    """Name the room of a module: ``zoo.engine.session`` is in ``engine``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def nodes(path: Path) -> list[ast.AST]:
    """List the nodes of a file without what only types need."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        inside
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in node.body
        for inside in ast.walk(child)
    }
    return [node for node in ast.walk(tree) if node not in typing_only]


def imports(path: Path) -> set[str]:
    """List the rooms that a file imports when it runs."""
    rooms = set()
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "zoo":
            # ``from zoo import hookimpl`` is of the package itself.
            names = [f"zoo.{one.name}" for one in node.names] if node.module == "zoo" else [node.module]
            rooms |= {room(name) for name in names if (ROOT / name.split(".")[1]).exists() or _is_file(name)}
        elif isinstance(node, ast.Import):
            rooms |= {room(one.name) for one in node.names if one.name.startswith("zoo.")}
    return rooms


def _is_file(module: str) -> bool:
    return (ROOT / f"{module.split('.')[1]}.py").is_file()


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """Room → rooms that it imports."""
    found: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        mine = path.relative_to(ROOT).parts[0].removesuffix(".py")
        found.setdefault(mine, set()).update(imports(path) - {mine})
    return found


@pytest.fixture(scope="module")
def floors() -> dict[str, int]:
    """Room → floor, as the table of the page states it."""
    found = dict.fromkeys(ENTRY, len(FLOORS))
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        name = line.removeprefix("| ").partition(" |")[0]
        if line.startswith("| ") and name in FLOORS:
            rooms = re.findall(r"`zoo/(\w+)(?:\.py)?`", line)
            found |= dict.fromkeys(rooms, FLOORS.index(name))
    return found


def test_every_room_has_a_floor(graph, floors) -> None:
    assert sorted(graph.keys() - floors.keys()) == [], "state the floor in docs/architecture.md"


def test_imports_run_down(graph, floors) -> None:
    up = {
        f"{mine} imports {other}" for mine, others in graph.items() for other in others if floors[other] > floors[mine]
    }
    assert not up


def test_rooms_make_no_circle(graph) -> None:
    done: list[str] = []
    left = dict(graph)
    while left:
        free = [name for name, others in left.items() if not (others & left.keys())]
        if not free:
            pytest.fail(
                f"these import each other: { {name: sorted(others & left.keys()) for name, others in left.items()} }"
            )
        done += free
        for name in free:
            del left[name]


FEATURES = {"zoo_calibrated", "zoo_scaffold", "zoo_server", "zoo_share", "zoo_team"}
"""Plugins that are released with the core and may import its rooms, as the command line does."""


def modules(path: Path) -> set[str]:
    """List the modules that a file imports when it runs."""
    names = set()
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def test_no_room_imports_a_plugin() -> None:
    assert not {name for path in ROOT.rglob("*.py") for name in modules(path) if name.startswith("zoo_")}


def test_other_plugins_import_what_zoo_exports() -> None:
    inside = {
        f"{path.name}: {name}"
        for path in ROOT.parent.glob("plugins/*/zoo_*/**/*.py")
        if not FEATURES & set(path.parts)
        for name in modules(path)
        if name.startswith("zoo.")
    }
    assert not inside
