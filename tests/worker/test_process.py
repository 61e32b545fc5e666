"""A worker process ends in time and memory, is reused, and is replaced when it dies."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from zoo.errors import UsageError, ZooError
from zoo.worker.process import Overrun, Worker

JOBS = "tests.worker.jobs"


@pytest.fixture
def worker(monkeypatch) -> Iterator[Worker]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    made = Worker(512 * 2**20, 2.0)
    yield made
    made.close()


def call(worker: Worker, name: str, **arguments: object) -> object:
    return worker.call(f"{JOBS}:{name}", "the work", **arguments)


def test_one_process_answers_all_calls(worker) -> None:
    first = call(worker, "who")
    assert first != os.getpid()
    assert [call(worker, "double", number=number) for number in range(50)] == [2 * number for number in range(50)]
    assert call(worker, "who") == first


def test_large_arguments_and_results_pass(worker) -> None:
    text = "ä" * 3_000_000
    assert worker.call("builtins:str", "the work", object=text) == text


def test_errors_come_back_as_what_they_are(worker) -> None:
    for kind, expected in (("zoo", ZooError), ("usage", UsageError), ("other", ZooError), ("recursion", ZooError)):
        with pytest.raises(expected):
            call(worker, "fail", kind=kind)
    with pytest.raises(ZooError, match="ValueError: said so"):
        call(worker, "fail", kind="other")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("spin", {}, "the work takes more than 2 s"),
        ("sleep", {"seconds": 60.0}, "the work takes more than 2 s"),
        ("eat", {"mebibytes": 2000}, "the work takes more than 512 MiB of memory"),
        ("fail", {"kind": "exit"}, "ends its process"),
    ],
)
def test_what_takes_too_much_is_ended_and_replaced(name, arguments, message, worker) -> None:
    first = call(worker, "who")
    begun = time.monotonic()
    with pytest.raises(Overrun, match=message):
        call(worker, name, **arguments)
    assert time.monotonic() - begun < 10
    second = call(worker, "who")
    assert second != first
    assert not Path(f"/proc/{first}").exists()


def test_what_a_library_prints_is_no_answer(worker) -> None:
    assert call(worker, "chatter") == "quiet"
    assert call(worker, "double", number=4) == 8


def test_it_writes_no_files(worker, tmp_path) -> None:
    with pytest.raises(ZooError):
        call(worker, "write", path=str(tmp_path / "file"))
    assert not (tmp_path / "file").exists() or (tmp_path / "file").stat().st_size == 0


def test_who_waits_for_a_call_that_hangs_is_told(worker) -> None:
    call(worker, "who")
    errors: list[Exception] = []

    def ask() -> None:
        try:
            call(worker, "spin")
        except Overrun as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 3
    assert time.monotonic() - begun < 12


def test_closing_ends_a_call_at_once(worker) -> None:
    pid = call(worker, "who")
    errors: list[Exception] = []

    def ask() -> None:
        try:
            call(worker, "spin")
        except ZooError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.3)
    begun = time.monotonic()
    worker.close()
    thread.join(5)
    assert time.monotonic() - begun < 1.5
    assert len(errors) == 1
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(ZooError, match="closed"):
        call(worker, "who")


def test_it_ends_with_its_parent() -> None:
    """Nothing is left where the process that asked is killed."""
    source = (
        "import time\nfrom zoo.worker.process import Worker\n"
        "worker = Worker(2**29, 5.0)\nprint(worker.call('os:getpid', 'x'), flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]
