"""``zoo serve`` as a process: where it listens, how it stops, what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import zoo
from zoo.cli import app


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    return zoo.build("zoo-tiny", "int8", output=tmp_path_factory.mktemp("served") / "tiny").path


class Process:
    """A server as a shell starts it."""

    def __init__(self, folder: Path, *args: object, **environment: str) -> None:
        command = [sys.executable, "-m", "zoo", "serve", *(str(one) for one in args), "--port", "0", "--threads", "1"]
        self.log = folder / "log.jsonl"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=log,
                env=os.environ | environment,
            )  # fmt: skip
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().decode().strip()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def wait(self) -> int:
        return self.process.wait(20)


@pytest.fixture
def start(tmp_path) -> Iterator[Any]:
    started: list[Process] = []

    def begin(*args: object, **environment: str) -> Process:
        started.append(Process(tmp_path, *args, **environment))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.wait()


def run(*args: object) -> Any:
    return CliRunner().invoke(app, ["serve", *(str(one) for one in args)])


def test_it_says_where_it_listens_and_asks_for_the_key_of_its_environment(start, package) -> None:
    import openai

    served = start(package, ZOO_API_KEY="from-the-environment")
    assert served.url.startswith("http://127.0.0.1:")
    client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="from-the-environment", max_retries=0)
    assert client.completions.create(model="zoo-tiny", prompt="Once", max_tokens=2).usage.completion_tokens <= 2
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="other").models.list()
    served.process.send_signal(signal.SIGINT)
    assert served.wait() == 0
    assert "from-the-environment" not in served.log.read_text()
    assert [one["event"] for one in served.events()][-1] == "stopped"


def test_sigterm_lets_what_was_begun_finish(start, package) -> None:
    served = start(package, "--slots", "1")
    port = int(served.url.rpartition(":")[2])
    body = json.dumps(
        {"model": "zoo-tiny", "prompt": "Once", "max_tokens": 400, "ignore_eos": True, "stream": True, "n": 4}
    )
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        text = connection.recv(4096)
        served.process.send_signal(signal.SIGTERM)
        while part := connection.recv(65536):
            text += part
    assert text.startswith(b"HTTP/1.1 200 ")
    assert text.count(b'"finish_reason":"length"') == 4
    assert b"data: [DONE]" in text
    assert served.wait() == 0
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", port), 1)


def test_a_drain_ends_in_time(start, package) -> None:
    served = start(package, "--slots", "1", "--queue", "100", "--drain-timeout", "1")
    port = int(served.url.rpartition(":")[2])
    body = json.dumps({"model": "zoo-tiny", "prompt": "Once", "max_tokens": 500, "ignore_eos": True, "n": 16})
    connections = []
    for _ in range(6):
        connection = socket.create_connection(("127.0.0.1", port), 20)
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        connections.append(connection)
    time.sleep(0.3)
    started = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    assert served.wait() == 0
    assert time.monotonic() - started < 8
    for connection in connections:
        connection.close()


def test_a_port_in_use(package) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run(package, "--port", port)
    assert result.exit_code == 1
    assert result.stderr == f"zoo: port {port} of 127.0.0.1 is in use; choose another with --port\n"


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--host", "no.such.host.invalid"], 2, "is not an address of this machine"),
        (["--host", "203.0.113.7", "--port", "0"], 2, "cannot listen at 203.0.113.7"),
        (["--port", "70000"], 2, "--port"),
        (["--slots", "0"], 2, "--slots"),
        (["--queue", "-1"], 2, "--queue"),
        (["--memory", "a lot"], 2, "--memory takes a size such as 12GB"),
        (["--memory", "0"], 2, "--memory must be above 0"),
        (["--memory", "1MB"], 1, "zoo-tiny needs 5.69 MB of memory for its weights"),
        (["--max-body", "-1"], 2, "--max-body takes a size"),
        (["--api-key", ""], 2, "the API key must be"),
        (["--api-key", "a\nb"], 2, "the API key must be"),
        (["--api-key", "ключ"], 2, "the API key must be"),
    ],
)
def test_what_it_refuses_in_one_line(package, args, code, message) -> None:
    result = run(package, *args)
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_what_is_no_package(tmp_path) -> None:
    assert run().exit_code == 2
    result = run("zoo-tiny")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "zoo build zoo-tiny" in result.stderr
    result = run("zoo-tiny", "-p", "int9")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    result = run("zoo-tine")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "zoo-tiny" in result.stderr


def test_what_is_not_installed(package, monkeypatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "uvicorn" else find(name, *rest)
    )
    result = run(package)
    assert result.exit_code == 1
    assert "pip install 'model-zoo-framework[serve]'" in result.stderr


def test_an_address_that_others_reach_is_pointed_out(start, package, tmp_path) -> None:
    copy = shutil.copytree(package, tmp_path / "copy")
    served = start(copy, "--host", "0.0.0.0")
    served.process.send_signal(signal.SIGTERM)
    assert served.wait() == 0
    assert any(one["event"] == "open_to_others" for one in served.events())
