"""``zoo serve --engine``, and a `vllm` of our own that says how it was called."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SHOWS = """
import json, os, sys
print("starting", flush=True)
print("a warning", file=sys.stderr, flush=True)
with open(os.environ["CALLS"], "a") as file:
    call = {"argv": sys.argv[1:], "cwd": os.getcwd(), "key": os.environ.get("VLLM_API_KEY")}
    file.write(json.dumps(call) + "\\n")
"""
"""A `vllm` that notes its arguments, its folder and the key, and ends."""


@pytest.fixture
def serve_argv() -> Callable[..., list[str]]:
    """Write the command line of ``zoo serve``."""

    def write(*args: str | Path) -> list[str]:
        return [sys.executable, "-m", "zoo", "serve", *map(str, args)]

    return write


@pytest.fixture
def serve(serve_argv) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``zoo serve`` to its end."""

    def run(*args: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(serve_argv(*args), capture_output=True, text=True, timeout=60)

    return run


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list]:
    """Read what the fake tool wrote down."""
    path = tmp_path / "calls"
    monkeypatch.setenv("CALLS", str(path))
    monkeypatch.delenv("VLLM_API_KEY", raising=False)

    def read() -> list:
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    return read


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tool fetch weights that are not on this machine; nothing here does."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
