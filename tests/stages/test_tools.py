"""Signals on their way to a tool."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from zoo.stages import tools
from zoo.toolchain import ToolCommand

ENDS = """
import signal, sys, time
signal.signal(signal.{0}, lambda *_: sys.exit(3))
print("up", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("name", "raised"), [("SIGHUP", SystemExit(129)), ("SIGTERM", SystemExit(143)), ("SIGINT", KeyboardInterrupt())]
)
def test_a_signal_that_comes_while_a_tool_starts_is_passed_on(request, tmp_path, monkeypatch, name, raised) -> None:
    """The tool may be up, and whoever watches it may answer, before this process knows that it is."""
    started: list[subprocess.Popen[Any]] = []
    real, number = subprocess.Popen, getattr(signal, name)

    def start(*args: Any, **options: Any) -> subprocess.Popen[Any]:
        process = real(*args, **options | {"stdout": subprocess.PIPE})
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(os.getpid(), number)
        return process

    monkeypatch.setattr(tools.subprocess, "Popen", start)
    if name == "SIGHUP":
        hang_up = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it would be ignored
        request.addfinalizer(lambda: signal.signal(signal.SIGHUP, hang_up))
    before, began = signal.getsignal(number), time.monotonic()
    with pytest.raises(type(raised)) as caught:
        tools.run_tool(ToolCommand((sys.executable, "-c", ENDS.format(name)), "wait"), tmp_path)
    assert getattr(caught.value, "code", None) == getattr(raised, "code", None)
    assert started[0].returncode == 3
    assert time.monotonic() - began < 30
    assert signal.getsignal(number) is before
