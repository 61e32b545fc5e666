"""What zoo uses of other projects without their promise: each place, and the version in which it was seen."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest


def seen_in(distribution: str, release: str, place: str) -> str:
    """Say where to look when another release has changed."""
    return f"{distribution} {version(distribution)} has changed what {place} uses; it was seen in {release}"


def test_lm_eval_reads_a_task_with_its_include(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    why = seen_in("lm_eval", "0.4.13", "zoo/evaluation/tasks.py")
    (tmp_path / "base.yaml").write_text("output_type: multiple_choice\n")
    (tmp_path / "task.yaml").write_text("include: base.yaml\ntask: mine\n")
    try:
        from lm_eval.tasks._yaml_loader import load_yaml

        config = load_yaml(tmp_path / "task.yaml")
    except (ImportError, TypeError) as error:
        pytest.fail(f"{why}: {error}")
    assert (config["task"], config["output_type"]) == ("mine", "multiple_choice"), why


def test_uvicorn_has_the_methods_that_a_connection_overrides() -> None:
    pytest.importorskip("uvicorn")
    from zoo_server.connection import Connection, H11Protocol

    why = seen_in("uvicorn", "0.54.0", "zoo_server/connection.py")
    for name in ("connection_made", "connection_lost", "data_received", "on_response_complete", "send_400_response"):
        assert name in vars(Connection), name
        assert callable(getattr(H11Protocol, name, None)), f"{why}: {name}"
