"""Run the commands that take a folder of documents further: output streamed, exit code kept, interrupts passed on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from zoo.package.files import guarded, write_whole
from zoo.toolchain import ToolCommand

RECORD = "tools.json"
"""What the commands did, in the folder that they run in."""
GRACE = 10.0
"""Seconds that an interrupted tool has to end by itself."""


def available(commands: Sequence[ToolCommand]) -> bool:
    """Tell whether there is something to run and every program that it needs is on the PATH."""
    programs = [command.argv[0] for command in commands if command.run]
    return bool(programs) and all(shutil.which(program) for program in programs)


def run_commands(commands: Sequence[ToolCommand], folder: Path, recipe_hash: str, *, again: bool = False) -> int:
    """Run the commands that a build runs, in their order, until one fails.

    What a tool prints goes to this process's stderr as it comes. An interrupt or a termination of this process is
    passed on, and the tool waited for.

    Args:
        folder: where they run; made if it is not there, and nothing in it is ever removed.
        recipe_hash: of the documents that they take.
        again: run what an earlier call finished, too.

    Returns:
        The exit code of the command that failed, 128 + its number for a signal, 130 after an interrupt; else 0.
    """
    with guarded(folder):
        folder.mkdir(exist_ok=True)
    record = [] if again else [entry for entry in _read(folder) if entry.get("recipe_hash") == recipe_hash]
    for command in commands:
        if not command.run or any(run["argv"] == list(command.argv) and run["exit_code"] == 0 for run in record):
            continue
        began = time.monotonic()
        code = run_tool(command, folder)
        entry = {"recipe_hash": recipe_hash, "argv": list(command.argv), "exit_code": code}
        entry["seconds"] = round(time.monotonic() - began, 1)
        record = [run for run in record if run["argv"] != list(command.argv)] + [entry]
        _write(folder, record)
        if code:
            return code
    return 0


def run_tool(command: ToolCommand, folder: Path, *, grace: float = GRACE) -> int:
    """Run one command in a folder; what it prints goes to this process's stderr as it comes.

    Args:
        grace: seconds that it has to end by itself after an interrupt or a termination was passed on.

    Returns:
        Its exit code, 128 + its number for a signal.

    Raises:
        KeyboardInterrupt: after an interrupt, once the tool has ended.
        SystemExit: 143 after a termination, 129 after a hang-up, once the tool has ended.
    """
    program = shutil.which(command.argv[0]) or command.argv[0]
    sys.stderr.flush()
    # Its own process group: an interrupt from the terminal comes here alone and is passed on once, not twice.
    with _passing_on(grace) as to:
        process = subprocess.Popen(
            [program, *command.argv[1:]],
            cwd=folder,
            env={**os.environ, **command.environment, **command.secrets},
            stdin=subprocess.DEVNULL,
            stdout=2,
            stderr=2,
            process_group=0,
        )
        to(process)
        code = process.wait()
    return 128 - code if code < 0 else code


@contextlib.contextmanager
def _passing_on(grace: float) -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """Pass what would end this process on to a tool; a second time, or ``grace`` seconds without an end, kill it.

    Yields:
        What to call with the tool once it runs: signals that came before are passed on then.

    Raises:
        KeyboardInterrupt: after an interrupt, once the tool has ended.
        SystemExit: 143 after a termination, 129 after a hang-up, once the tool has ended.
    """
    received: list[int] = []
    running: list[subprocess.Popen[bytes]] = []

    def forward(number: int, frame: object) -> None:
        received.append(number)
        pass_on()

    def pass_on() -> None:
        for process in running:
            _send(process, received[0] if len(received) == 1 else signal.SIGKILL)
            signal.setitimer(signal.ITIMER_REAL, grace)

    def to(process: subprocess.Popen[bytes]) -> None:
        running.append(process)
        if received:
            pass_on()

    def kill(number: int, frame: object) -> None:
        for process in running:
            _send(process, signal.SIGKILL)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # under nohup the tool is to live on as well
        numbers.append(signal.SIGHUP)
    previous = {number: signal.signal(number, forward) for number in numbers}
    previous[signal.SIGALRM] = signal.signal(signal.SIGALRM, kill)
    try:
        yield to
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in previous.items():
            signal.signal(number, handler)
    if received and received[0] != signal.SIGINT:
        raise SystemExit(128 + received[0])
    if received:
        raise KeyboardInterrupt


def _send(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _read(folder: Path) -> list[dict[str, Any]]:
    try:
        runs = json.loads((folder / RECORD).read_bytes())
        return [run for run in runs if isinstance(run["argv"], list) and isinstance(run["exit_code"], int)]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _write(folder: Path, record: list[dict[str, Any]]) -> None:
    with guarded(folder):
        write_whole(folder / RECORD, f"{json.dumps(record, indent=1)}\n".encode(), replace=True)
