"""Packages of the target gguf by llama.cpp, started by the engine; programs of its name that are old, die or hang."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import zoo
from tests.checkpoints import make_checkpoint
from tests.plugins.gguf.llamacpp import continuation
from tests.plugins.gguf.test_target import NUMBERS
from zoo.cli import app
from zoo.testing.checkpoint import write_tokenizer

pytest.importorskip("gguf")
PROMPT = [5, 300, 17, 42, 99]


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    make_checkpoint(folder, dtype="bfloat16", initializer_range=0.03, **NUMBERS)
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def package(original, tmp_path_factory) -> Path:
    return zoo.build(original, "int8", output=tmp_path_factory.mktemp("built") / "tiny", target="gguf").path


@pytest.fixture(scope="module")
def engine(package) -> Any:
    pytest.importorskip("xllamacpp", reason="llama.cpp: pip install xllamacpp")
    opened = zoo.open(package, threads=1)
    yield opened
    opened.close()


def run(*args: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(one) for one in args])
    assert result.exit_code == code, (result.output, result.stderr)
    return result


def test_its_greedy_tokens_are_llama_cpps(engine, package):
    answer = engine.generate(PROMPT, max_new_tokens=12, ignore_eos=True)
    assert answer.token_ids == continuation(package / "model.gguf", PROMPT, 12)
    assert answer.finish_reason == "length"
    assert engine.tokenizer.decode([*PROMPT, *answer.token_ids]).endswith(answer.text[1:])
    assert engine.settings()["llama.cpp"].split()[0] in ("xllamacpp", "build", "version")


def test_its_logits_choose_its_tokens_and_end_an_answer(engine):
    tokens = engine.generate(PROMPT, max_new_tokens=6, ignore_eos=True).token_ids
    logits = engine.logits([*PROMPT, *tokens], 7)
    assert logits.shape == (7, 320)
    assert logits[:6].argmax(1).tolist() == tokens
    ended = engine.generate(PROMPT, max_new_tokens=6, stop_token_ids=tokens[3:4])
    assert (ended.token_ids, ended.finish_reason) == (tokens[: tokens.index(tokens[3])], "stop")


def test_logits_past_the_window_are_the_models(engine, tmp_path):
    """Whatever text the cache has: each position goes on from the one before it."""
    import torch

    from tests.plugins.gguf.test_source import model_of

    model = model_of(tmp_path / "in", "gemma2")
    write_tokenizer(tmp_path / "in")
    package = zoo.build(tmp_path / "in", "fp16", output=tmp_path / "out", target="gguf")
    opened = zoo.open(package.path, threads=1)
    texts = [list(range(start, start + 64)) for start in (5, 100, 200)]
    with torch.inference_mode():
        wanted = model(torch.tensor(texts)).logits.log_softmax(-1).numpy()
    found = [opened.logits(text) for text in texts]
    opened.close()
    assert abs(found - wanted).max() < 0.1 * wanted.std()


def test_an_answer_goes_on_behind_an_end_token_that_does_not_end_it(engine):
    """The end token is chosen like any other, and answers that it ends stop before it."""
    (end,) = engine.stop_token_ids
    bias = ((end, 100.0),)
    answer = engine.generate(PROMPT, max_new_tokens=3, ignore_eos=True, logit_bias=bias)
    assert (answer.token_ids, answer.finish_reason) == ([end] * 3, "length")
    answer = engine.generate(PROMPT, max_new_tokens=3, logit_bias=bias)
    assert answer.finish_reason == "stop"


def test_requests_run_at_once_with_log_probabilities(engine):
    alone = engine.generate(PROMPT, max_new_tokens=6, ignore_eos=True).token_ids
    queue = engine.queue(slots=2)
    limits = zoo.Limits(max_new_tokens=6)
    tickets = [queue.submit(PROMPT, limits, logprobs=2) for _ in range(3)]
    for ticket in tickets:
        generation = ticket.result(60)
        assert generation.token_ids == alone
        assert [one.token_id for one in generation.logprobs] == alone
        assert all(one.top[0] == (one.token_id, one.logprob) for one in generation.logprobs)
    called_off = queue.submit(PROMPT, zoo.Limits(max_new_tokens=10**6))
    called_off.cancel()
    assert called_off.result(60).finish_reason == "interrupt"
    told = queue.stats()
    assert (told.finished, told.cancelled, told.output_tokens >= 18) == (3, 1, True)
    with pytest.raises(zoo.ZooError, match=r"the engine 'llama\.cpp' follows no schema"):
        engine.generate("x", schema={"type": "object"})
    queue.close()


def test_commands_run_and_measure_it(engine, package):
    told = json.loads(run("run", package, "Once", "--max-new-tokens", 4, "--json").stdout)
    assert told["completion_tokens"] == len(told["token_ids"])
    done = run(
        "bench", package, "--input-len", 4, "--output-len", 3, "--prompts", 2, "--concurrency", 2, "--warmup", 0,
        "--json",
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert report["settings"]["through"] == "llama.cpp"
    assert report["measured"]["workloads"][0]["total_output_tokens"] == 6


@pytest.mark.slow
def test_a_task_is_scored(engine, package):
    pytest.importorskip("lm_eval")
    told = json.loads(run("eval", package, "--tasks", "zoo_tiny_choice", "--limit", 1, "--json").stdout)
    assert "zoo_tiny_choice" in json.dumps(told)


def test_it_is_served(engine, original, package):
    pytest.importorskip("fastapi")
    import httpx2

    from tests.server.serving import serving

    with serving([package], threads=1) as served:
        body = {"model": original.name, "prompt": PROMPT, "max_tokens": 6, "ignore_eos": True, "temperature": 0}
        answer = httpx2.post(f"{served.url}/v1/completions", json=body, timeout=60)
        assert answer.status_code == 200, (answer.text, served.lines.getvalue())
        (choice,) = answer.json()["choices"]
        wanted = engine.generate(PROMPT, max_new_tokens=6, ignore_eos=True).text
        assert choice["text"] == wanted
        form = {"type": "json_object"}
        refused = httpx2.post(f"{served.url}/v1/completions", json={**body, "response_format": form}, timeout=60)
        assert refused.status_code == 400, refused.text


def test_the_program_ends_when_its_owner_is_killed(engine, package):
    code = "import sys, zoo\nengine = zoo.open(sys.argv[1])\nprint(engine.running().port, flush=True)\ninput()"
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(package)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    port = int(owner.stdout.readline())
    owner.kill()
    owner.communicate()
    import socket

    until = time.monotonic() + 20
    while time.monotonic() < until:
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.05)
    raise AssertionError("the server still listens")


@pytest.mark.slow
def test_a_package_is_verified_by_other_readers_and_a_swapped_nibble_fails_it(engine, original, tmp_path):
    package = zoo.build(original, "int4", output=tmp_path / "tiny4", target="gguf").path
    argv = ["verify", package, "--weights", original, "--quick"]
    assert run(*argv).stdout.splitlines()[-1:] == ["verified"]
    import gguf

    raw = bytearray((package / "model.gguf").read_bytes())
    tensor = next(one for one in gguf.GGUFReader(package / "model.gguf").tensors if one.name == "blk.1.ffn_up.weight")
    first = int(tensor.data_offset) + 4  # behind scale and minimum
    byte = next(at for at in range(first, first + 16) if abs((raw[at] >> 4) - (raw[at] & 15)) > 6)
    raw[byte] = raw[byte] >> 4 | (raw[byte] & 15) << 4
    (package / "model.gguf").write_bytes(raw)
    manifest = json.loads((package / "zoo.json").read_text())
    manifest["files"]["model.gguf"]["sha256"] = hashlib.sha256(raw).hexdigest()
    (package / "zoo.json").write_text(json.dumps(manifest))
    assert "the first that diverges: model.layers.1.mlp.up_proj.weight" in run(*argv, code=1).stdout


FAKE = """#!{python}
import os, sys, time
if "--version" in sys.argv:
    print("version: {build} (abc)", file=sys.stderr)
    raise SystemExit(0)
{rest}
"""


@pytest.mark.parametrize(
    ("build", "rest", "reason"),
    [
        (12, "", r"llama-server is build 12 of llama\.cpp; this zoo needs 4400 or later: pip install xllamacpp"),
        ("none", "", "does not say which version it is: version: none"),
        ("0.5.0-dev (build 1, commit 0c1e570)", "sys.exit('bad')", "ended with exit code 1 while it opened tiny: bad"),
        (9999, "print('error: bad'); os.kill(os.getpid(), 6)", r"killed by signal 6 while it opened tiny: error: b"),
        (9999, "print('out of memory'); sys.exit(3)", r"ended with exit code 3 while it opened tiny: out of memory"),
        (9999, "time.sleep(60)", r"has not opened tiny within 1 s \(ZOO_ENGINE_START\)"),
    ],
)  # fmt: skip
def test_another_version_one_that_dies_and_one_that_hangs(package, tmp_path, monkeypatch, build, rest, reason):
    program = tmp_path / "llama-server"
    program.write_text(FAKE.format(python=sys.executable, build=build, rest=rest))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ZOO_ENGINE_START", "1" if "sleep" in rest else "60")
    with pytest.raises(zoo.ZooError, match=reason):
        zoo.open(package)


HEALTHY = """
import http.server
class Silent(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"version": "9.9.9"}')
    def do_POST(self):
        print("stuck", flush=True)
        time.sleep(60)
with open(os.environ["PID_FILE"], "w") as file:
    print(os.getpid(), file=file)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Silent).serve_forever()
"""


@pytest.mark.parametrize(
    ("target", "command", "variable", "reason"),
    [
        ("gguf", ("run", "Once upon"), "SILENCE", "hangs: it gave nothing for 1 s (ZOO_ENGINE_SILENCE); it was ended"),
        ("gguf", ("bench", "--input-len", 4, "--output-len", 2), "SILENCE", "hangs: it gave nothing for 1 s"),
        ("gguf", ("run", "Once upon"), "START", "has not opened tiny within 1 s (ZOO_ENGINE_START); it was ended"),
        ("vllm", ("run", "Once upon"), "SILENCE", "hangs: it gave nothing for 1 s (ZOO_ENGINE_SILENCE); it was ended"),
        ("vllm", ("run", "Once upon"), "START", "has not opened tiny within 1 s (ZOO_ENGINE_START); it was ended"),
    ],
)  # fmt: skip
def test_one_that_never_answers_is_ended(original, package, tmp_path, monkeypatch, target, command, variable, reason):
    name, program = {"gguf": ("llama.cpp", "llama-server"), "vllm": ("vllm", "vllm")}[target]
    if target == "vllm":
        package = zoo.build(original, "int8", output=tmp_path / "tiny", target="vllm").path
    rest = HEALTHY if variable == "SILENCE" else HEALTHY.replace("self.send_response(200)", "time.sleep(60)")
    (tmp_path / program).write_text(FAKE.format(python=sys.executable, build=9999, rest=rest))
    (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PID_FILE", str(tmp_path / "pid"))
    monkeypatch.setenv(f"ZOO_ENGINE_{variable}", "1")
    done = run(command[0], package, *command[1:], code=1)
    assert f"{name} {reason}" in done.stderr.splitlines()[-1]
    assert len(done.stderr.splitlines()) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_one_that_dies_while_it_answers(engine, package):
    opened = zoo.open(package, threads=1)
    answer = opened.stream(PROMPT, max_new_tokens=200, ignore_eos=True)
    next(answer)
    opened.running().close()
    with pytest.raises(zoo.ZooError, match=r"llama\.cpp (was killed|ended|broke off)"):
        list(answer)


MORTAL = """
import http.server, json
with open(os.environ["STARTS"], "a+") as file:
    print(os.getpid(), file=file, flush=True)
    file.seek(0)
    starts = len(file.readlines())
class Mortal(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if starts <= int(os.environ["MORTAL_STARTS"]):
            {end}
        self.send_response(200)
        self.end_headers()
        for count in (1, 2):
            told = {{"tokens": [300 + count], "tokens_predicted": count, "stop": count == 2, "stop_type": "limit"}}
            self.wfile.write(b"data: " + json.dumps(told).encode() + b"\\n\\n")
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Mortal).serve_forever()
"""


@pytest.mark.parametrize(("end", "error"), [("os._exit(3)", "exit code 3"), ("time.sleep(60)", "hangs")])
@pytest.mark.parametrize("mortal", [3, 99])
def test_one_that_ends_under_serve_is_started_again(package, tmp_path, monkeypatch, caplog, end, error, mortal):
    """By the next request, in which one that ends at once is not started all the time."""
    pytest.importorskip("fastapi")
    from tests.server.serving import post, serving

    rest = MORTAL.format(end=end)
    (tmp_path / "llama-server").write_text(FAKE.format(python=sys.executable, build=9999, rest=rest))
    (tmp_path / "llama-server").chmod(0o755)
    for name, value in {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "STARTS": str(tmp_path / "starts"),
        "MORTAL_STARTS": str(mortal), "ZOO_ENGINE_SILENCE": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with serving([package], threads=1, slots=2) as served:  # started to be asked what it can, to open, for two slots
        body = {"model": served.pool.models[0].name, "prompt": PROMPT, "max_tokens": 2}
        answers = [post(served, "/v1/completions", {**body, "stream": at == 2}) for at in range(4)]
        failed = [(status, code_of(text), headers.get("retry-after")) for status, headers, text in answers]
        refused = (503, "model_unavailable", "10")
        broken = (200, "model_unavailable", None)  # a stream that had begun
        fine = (200, None, None)
        assert failed == ([refused, fine, fine, fine] if mortal == 3 else [refused, refused, broken, refused])
        assert len((tmp_path / "starts").read_text().split()) == 4
        assert caplog.messages == [f"llama.cpp ended; it is started again for {package.name}"]
        messages = [event["message"] for event in served.events("error")]
        assert error in messages[0]
        assert mortal == 3 or all("ended once more; it is started again in" in one for one in messages[2:])


def code_of(answer: Any) -> str | None:
    """The code of the error that an answer is, or that a stream ends with."""
    if isinstance(answer, str):
        events = [json.loads(line[6:]) for line in answer.splitlines() if line.startswith("data: {")]
        answer = next((event for event in events if "error" in event), {})
    return answer.get("error", {}).get("code")


def test_one_that_answers_in_another_form(package, tmp_path, monkeypatch):
    rest = MORTAL.format(end="pass").replace('"tokens":', '"token_list":')
    (tmp_path / "llama-server").write_text(FAKE.format(python=sys.executable, build="7.1.0", rest=rest))
    (tmp_path / "llama-server").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STARTS", str(tmp_path / "starts"))
    monkeypatch.setenv("MORTAL_STARTS", "0")
    told = run("run", package, "Once", code=1).stderr
    assert told == (
        "zoo: llama.cpp version 7.1.0 answered otherwise than this zoo reads (KeyError: 'tokens'); "
        "is it another version?\n"
    )


def test_a_wheel_of_another_version(package, tmp_path, monkeypatch):
    if importlib.util.find_spec("xllamacpp") is None or shutil.which("llama-server"):
        pytest.skip("the wheel xllamacpp is not installed, or llama-server is found before it")
    version = importlib.metadata.version("xllamacpp")
    (tmp_path / "xllamacpp.py").write_text(
        "class CommonParams:\n    class model: path = ''\n    swa_full = True\nclass Server: pass\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    told = run("run", package, "Once", code=1).stderr
    assert f"xllamacpp {version} is another version than this zoo starts: its CommonParams have no fit_params" in told
    assert len(told.splitlines()) == 1


def test_the_command_that_installs_it(package, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None)
    line = run("run", package, "x", code=1).stderr
    assert (
        line
        == "zoo: llama.cpp is not installed; install it with: pip install xllamacpp, or put llama-server on the PATH\n"
    )
