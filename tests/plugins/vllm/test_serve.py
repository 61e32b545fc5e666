"""`vllm serve` over original weights: what it is called with, what it gets to hear, and what is shown without it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import zoo
from tests.plugins.vllm.conftest import SHOWS
from zoo.cli import app
from zoo.plugins import host

TINY = ("zoo-tiny", "--engine", "vllm")


def value(argv: list[str], name: str) -> str:
    return argv[argv.index(name) + 1]


def test_it_is_called_with_the_weights_on_this_machine(serve, fake_tool, calls) -> None:
    fake_tool("vllm", SHOWS)
    done = serve(*TINY, "--tp", "2", "--pp", "2", "--host", "0.0.0.0", "--port", "9001")
    assert done.returncode == 0, done.stderr
    (call,) = calls()
    argv = call["argv"]
    weights = Path(argv[1])
    assert argv[0] == "serve"
    assert (weights / "model.safetensors").is_file()
    assert value(argv, "--served-model-name") == "zoo-tiny"
    assert (value(argv, "--host"), value(argv, "--port")) == ("0.0.0.0", "9001")
    assert (value(argv, "--tensor-parallel-size"), value(argv, "--pipeline-parallel-size")) == ("2", "2")
    assert "--chat-template" not in argv
    assert call["key"] is None
    # What it prints is progress: it comes through, on stderr.
    assert {"starting", "a warning"} <= set(done.stderr.splitlines())
    assert done.stdout == ""
    assert "zoo-tiny is licensed apache-2.0" in done.stderr


def test_weights_on_the_hub_the_declared_template_and_the_licence(serve, fake_tool, calls, online) -> None:
    fake_tool("vllm", SHOWS)
    done = serve("llama2-70b-chat", "--engine", "vllm", "--tp", "8", "--pp", "2")
    assert done.returncode == 0, done.stderr
    (call,) = calls()
    assert call["argv"][:2] == ["serve", "meta-llama/Llama-2-70b-chat-hf"]
    template = Path(call["cwd"]) / value(call["argv"], "--chat-template")
    assert template.read_text() == host().registry.model("llama2-70b-chat").chat_template
    assert "llama2" in done.stderr.splitlines()[0]
    assert "https://" in done.stderr.splitlines()[0]


def test_weights_given_by_hand(serve, fake_tool, calls, tmp_path) -> None:
    fake_tool("vllm", SHOWS)
    shipped = host().registry.model("zoo-tiny").weights_folder
    moved = tmp_path / "elsewhere"
    moved.symlink_to(shipped)
    done = serve(*TINY, "--weights", moved)
    assert done.returncode == 0, done.stderr
    assert calls()[0]["argv"][1] == str(moved)
    undeclared = serve(moved, "--engine", "vllm")
    assert undeclared.returncode == 0, undeclared.stderr
    assert calls()[1]["argv"][1] == str(moved)


def test_further_arguments(serve, fake_tool, calls) -> None:
    fake_tool("vllm", SHOWS)
    extra = '{"enforce-eager": true, "max_num_seqs": 64, "hf-overrides": {"a": 1}, "enable-prefix-caching": false}'
    options = ("--dtype", "float32", "--max-model-len", "256", "--distributed-executor-backend", "ray")
    done = serve(*TINY, *options, "--extra", extra)
    assert done.returncode == 0, done.stderr
    argv = calls()[0]["argv"]
    assert argv[argv.index("--dtype") :] == [
        *("--dtype", "float32", "--max-model-len", "256", "--distributed-executor-backend", "ray"),
        *("--enforce-eager", "--max-num-seqs=64", '--hf-overrides={"a": 1}', "--no-enable-prefix-caching"),
    ]


@pytest.mark.parametrize("given", ["option", "variable"])
def test_the_key_is_in_the_environment_and_nowhere_else(serve, fake_tool, calls, monkeypatch, given) -> None:
    fake_tool("vllm", SHOWS)
    if given == "variable":
        monkeypatch.setenv("ZOO_API_KEY", "s3cret-key")
    done = serve(*TINY, *(("--api-key", "s3cret-key") if given == "option" else ()))
    assert done.returncode == 0, done.stderr
    (call,) = calls()
    assert call["key"] == "s3cret-key"
    assert "s3cret-key" not in " ".join(call["argv"])
    assert "s3cret-key" not in done.stdout + done.stderr
    kept = Path(call["cwd"])
    assert not [one for one in kept.rglob("*") if one.is_file() and b"s3cret-key" in one.read_bytes()]


@pytest.mark.parametrize(("end", "code"), [("sys.exit(7)", 7), ("os.kill(os.getpid(), 9)", 137)])
def test_a_failure_keeps_its_exit_code_and_is_tried_again(serve, fake_tool, calls, end, code) -> None:
    fake_tool("vllm", SHOWS + f"print('no GPU here', file=sys.stderr, flush=True)\n{end}\n")
    done = serve(*TINY)
    assert done.returncode == code
    assert "no GPU here" in done.stderr
    assert f"vllm ended with exit code {code}" in done.stderr
    fake_tool("vllm", SHOWS)
    assert serve(*TINY).returncode == 0
    assert serve(*TINY).returncode == 0
    assert len(calls()) == 3


HANGS = """
import os, signal, sys, time
def end(number, frame):
    with open(os.environ["CALLS"], "a") as file:
        file.write(f'"{number}"\\n')
    sys.exit(9)
signal.signal(signal.SIGINT, end)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGHUP, end)
print("serving", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_server_that_runs_can_be_interrupted(request, serve_argv, fake_tool, calls, number, code) -> None:
    fake_tool("vllm", HANGS)
    hang_up = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it would be ignored
    request.addfinalizer(lambda: signal.signal(signal.SIGHUP, hang_up))
    process = subprocess.Popen(
        serve_argv(*TINY), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if line.strip() == "serving":
                break
        began = time.monotonic()
        os.killpg(process.pid, number)
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == code
    assert time.monotonic() - began < 8
    assert calls() == [str(int(number))]  # once, and it ended before zoo did


def test_without_it_the_command_and_how_to_install_it_are_the_result(serve, monkeypatch, tmp_path, fake_tool, calls):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    done = serve("zoo-tiny", "--engine", "vllm", "--tp", "2", "--api-key", "s3cret-key")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "zoo: vllm is not on the PATH, so nothing is served"
    install, *commands = [line.strip() for line in done.stdout.splitlines()]
    assert "pip install vllm" in install
    assert commands[0].startswith("cd ")
    assert 'VLLM_API_KEY="${VLLM_API_KEY:?}" vllm serve ' in commands[1]
    assert "s3cret-key" not in done.stdout + done.stderr
    # The lines do as they stand, once it is there.
    folder = fake_tool("vllm", SHOWS)
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}/usr/bin:/bin"}
    script = " && ".join(commands)
    refused = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True)
    assert refused.returncode != 0
    assert not calls()
    environment["VLLM_API_KEY"] = "given by hand"
    subprocess.run(["sh", "-c", script], env=environment, check=True)
    assert calls()[0]["key"] == "given by hand"
    assert value(calls()[0]["argv"], "--tensor-parallel-size") == "2"


def test_what_cannot_be_served_is_said_before_anything_is_called(fake_tool, calls, tmp_path) -> None:
    fake_tool("vllm", SHOWS)
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_bytes((host().registry.model("zoo-tiny").weights_folder / "config.json").read_bytes())
    package = zoo.build("zoo-tiny", "int8", output=tmp_path / "package").path
    for args, code, message in [
        (("llama2-7b", "--engine", "vllm"), 1, "zoo fetch llama2-7b"),  # the network is off
        ((bare, "--engine", "vllm"), 1, "holds no weights"),
        ((package, "--engine", "vllm"), 2, "serves original weights"),
        (("zoo-tinny", "--engine", "vllm"), 2, "did you mean zoo-tiny"),
        (("zoo-tiny", "--engine", "vlm"), 2, "did you mean vllm"),
        (("zoo-tiny", "--engine", "ort"), 1, "no package of zoo-tiny is built"),
        ((*TINY, "--tp", "3"), 1, "does not divide the 8 attention heads"),
        ((*TINY, "--tp", "0"), 2, "option tp"),
        ((*TINY, "--extra", '{"api-key": "k"}'), 2, "has an option of its own"),
        ((*TINY, "--extra", "{"), 2, "--extra takes JSON"),
        ((*TINY, "--slots", "4"), 2, "--slots does not apply to vllm"),
        ((*TINY, "--api-key", "two words "), 2, "the API key must be"),
        (("zoo-tiny", *TINY), 2, "one model at a time"),
        (("zoo-tiny", "--tp", "2"), 2, "No such option: --tp"),
        (("zoo-tiny", "--weights", "."), 2, "--weights needs --engine"),
    ]:
        done = CliRunner().invoke(app, ["serve", *map(str, args)])
        assert done.exit_code == code, done.stderr
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not calls()
