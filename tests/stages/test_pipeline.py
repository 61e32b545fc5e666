"""One way from a request to a package: Python, the command line and the catalogue pin the same recipe."""

from __future__ import annotations

import ast
import json
import logging
import threading
from pathlib import Path

from typer.testing import CliRunner

import zoo
from tests.checkpoints import make_checkpoint
from zoo.cli import app
from zoo.plugins import host
from zoo.stages import pipeline
from zoo.stages.request import Request

ROOT = Path(zoo.__file__).parent


def test_python_and_the_command_line_pin_the_same(tmp_path) -> None:
    options = ["--quantizer-option", "block_size=64", "-p", "int4"]
    result = CliRunner().invoke(app, ["build", "zoo-tiny", *options, "--dry-run", "--json", "-o", str(tmp_path / "a")])
    assert result.exit_code == 0, result.output
    planned = zoo.plan("zoo-tiny", "int4", quantizer_options={"block_size": 64}, output=tmp_path / "a")
    assert json.loads(result.stdout) == planned.model_dump(mode="json") | {
        "peak_memory_bytes": json.loads(result.stdout)["peak_memory_bytes"]  # of this process, as it is now
    }
    built = zoo.build("zoo-tiny", "int4", quantizer_options={"block_size": 64}, output=tmp_path / "a")
    assert built.manifest.recipe_hash == planned.recipe_hash
    result = CliRunner().invoke(app, ["build", "zoo-tiny", *options, "--json", "-o", str(tmp_path / "a")])
    assert json.loads(result.stdout)["already_built"] is True


PIECES = {("zoo.stages.calibrate", "calibrated"), ("zoo.stages.mixed", "mixed"), ("zoo.stages.build", "build")}


def test_the_pieces_are_called_by_nobody_else() -> None:
    callers = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and any((node.module, one.name) in PIECES for one in node.names):
                callers.add(str(path.relative_to(ROOT)))
    assert callers == {"stages/pipeline.py", "testing/case.py", "testing/conformance.py"}


def test_what_is_pinned_is_built_and_found_again(tmp_path) -> None:
    registry = host().registry
    pinned = pipeline.pin(registry, Request("zoo-tiny", "int8"))
    assert pinned.mixed is None
    assert pinned.output(None).name.endswith(pinned.recipe.hash[:12])
    lines: list[str] = []
    first = pipeline.build(registry, pinned, tmp_path / "p", warn=lines.append)
    again = pipeline.build(registry, pinned, tmp_path / "p", warn=lines.append)
    assert (first.already_built, again.already_built) == (False, True)
    assert first.package.manifest == again.package.manifest
    assert not lines


def test_warnings_go_to_whoever_asks_for_them(tmp_path) -> None:
    make_checkpoint(tmp_path / "mine", max_position_embeddings=128)
    lines: list[str] = []
    zoo.build(tmp_path / "mine", "fp32", output=tmp_path / "a", warn=lines.append)
    assert any("no tokenizer" in line for line in lines)
    with pipeline.told(lines.append):
        logging.getLogger("zoo").warning("%s: said", "in the block")
        other = threading.Thread(target=logging.getLogger("zoo").warning, args=("of another thread",))
        other.start()
        other.join()
    assert lines[-1] == "in the block: said"
    logging.getLogger("zoo").warning("after it")
    assert lines[-1] == "in the block: said"
