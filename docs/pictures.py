"""Pictures of the documentation, drawn from what they show: a terminal, and the rooms of the code."""

from __future__ import annotations

import ast
import contextlib
import re
import tempfile
import textwrap
from collections import defaultdict
from pathlib import Path

from zoo.svg import document, line, rect, text

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = (
    ["list", "llama2*"],
    ["build", "zoo-tiny", "-o", "tiny"],
    ["run", "tiny", "Once upon a time", "--max-new-tokens", "80"],
)
"""What the terminal shows: the bundled model, built and talking, without the network."""
COLUMNS = 96
TERMINAL = (
    "svg{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}.paper{fill:#14181d}"
    "text{fill:#d5dbe1;white-space:pre}.typed{fill:#8fd18b;font-weight:600}"
)
ROOMS = (
    "svg{font:13px system-ui,sans-serif}.paper{fill:#fff}text{fill:#222}"
    ".floor{fill:#f3f5f7}.room{fill:#fff;stroke:#8a96a3}"
    ".name{font-weight:600}.import{stroke:#2a6fb0;stroke-width:1;fill:none;opacity:.22}"
)
WIDE, HIGH, GAP, SIDE = 112.0, 32.0, 12.0, 96.0


def terminal() -> str:
    """Draw a terminal in which a few commands were run, in an empty folder."""
    from typer.testing import CliRunner

    from zoo.cli import app

    lines: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        runner = CliRunner(env={"ZOO_HOME": str(Path(folder, "home")), "HF_HUB_OFFLINE": "1", "COLUMNS": str(COLUMNS)})
        for arguments in COMMANDS:
            result = runner.invoke(app, arguments, prog_name="zoo", catch_exceptions=False)
            assert result.exit_code == 0, result.output
            lines.append(
                ("typed", " ".join(["$ zoo", *(f"'{word}'" if set("* ") & set(word) else word for word in arguments)]))
            )
            for shown in result.stdout.replace(f"{Path(folder).resolve()}/", "").rstrip().splitlines():
                lines += (
                    [("", part) for part in textwrap.wrap(shown, COLUMNS) or [""]]
                    if len(shown) > COLUMNS
                    else [("", shown)]
                )
            lines.append(("", ""))
    spaced = [(css, shown.replace(" ", "\N{NO-BREAK SPACE}")) for css, shown in lines[:-1]]
    marks = [text(16, 30 + 19 * row, shown, css) for row, (css, shown) in enumerate(spaced)]
    return document(32 + 8.5 * COLUMNS, 22 + 19 * len(lines), "zoo list, build and run in a terminal", TERMINAL, marks)


def floors() -> list[tuple[str, list[str]]]:
    """Read the floors and their rooms, topmost first, from the table of docs/architecture.md."""
    table = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (asks|stages|parts|registry|ground) \|(.*)$", table, re.M)
    return [(name, list(dict.fromkeys(re.findall(r"`zoo/(\w+)(?:\.py)?`", cells)))) for name, cells in rows]


def imports() -> dict[str, set[str]]:
    """Read which rooms each room imports."""
    edges: dict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "zoo").rglob("*.py")):
        room = path.relative_to(ROOT / "zoo").parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("zoo."):
                edges[room].add(str(node.module).split(".")[1])
    return edges


def rooms(columns: int = 7) -> str:
    """Draw every room on its floor, and the imports that run from floor to floor."""
    edges = imports()
    places: dict[str, tuple[float, float]] = {}
    marks: list[str] = []
    level: dict[str, int] = {}
    y = GAP
    for index, (floor, names) in enumerate(floors()):
        rows = -(-len(names) // columns)
        height = rows * (HIGH + GAP) + GAP
        marks.append(rect(GAP, y, SIDE + columns * (WIDE + GAP), height, "floor", radius=6))
        marks.append(text(2 * GAP, y + 26, floor, "name"))
        for position, name in enumerate(names):
            row, column = divmod(position, columns)
            places[name] = (SIDE + column * (WIDE + GAP), y + GAP + row * (HIGH + GAP))
            level[name] = index
        y += height + 2 * GAP
    for name, (x, top) in places.items():
        for other in sorted(edges[name] & places.keys()):
            if level[other] > level[name]:
                below = places[other]
                marks.append(line(x + WIDE / 2, top + HIGH, below[0] + WIDE / 2, below[1], "import"))
    for name, (x, top) in places.items():
        marks.append(rect(x, top, WIDE, HIGH, "room", radius=4))
        marks.append(text(x + WIDE / 2, top + 21, name, "", "middle"))
    width = 2 * GAP + SIDE + columns * (WIDE + GAP)
    return document(width, y - GAP, "The rooms of zoo by floor; a line is an import, and all run down", ROOMS, marks)
