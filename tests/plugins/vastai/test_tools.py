"""Where `vamc` is on the PATH it is run: output streamed, exit code kept, interrupts passed on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SHOWS = """
import json, os, sys
print("compiling", *sys.argv[1:], flush=True)
print("a warning", file=sys.stderr, flush=True)
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps({"argv": sys.argv[1:], "cwd": os.getcwd(), "stack": os.environ.get("VACC_STACK_SIZE")}))
    file.write("\\n")
"""
NAME = "LLaMA-33B-HF-int8-tp4-1024-2048"


def build(*args: str | Path, **options) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "zoo", "build", *map(str, args), "--target", "vamc"]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, **options)


def calls(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "calls"
    monkeypatch.setenv("CALLS", str(path))
    monkeypatch.delenv("VACC_STACK_SIZE", raising=False)
    return path


def test_it_is_called_beside_the_folder_with_the_files_and_the_environment(tmp_path, fake_tool, called) -> None:
    fake_tool("vamc", SHOWS)
    out = tmp_path / "out"
    done = build("llama-33b", "-o", out)
    assert done.returncode == 0, done.stderr
    assert calls(called) == [
        {"argv": ["quant", f"../out/{NAME}-quant-c4.yaml"], "cwd": f"{out}.work", "stack": "256"},
        {"argv": ["compile", f"../out/{NAME}.yaml"], "cwd": f"{out}.work", "stack": "256"},
    ]
    assert f"compiling compile ../out/{NAME}.yaml" in done.stderr
    assert "a warning" in done.stderr
    assert "compiling" not in done.stdout
    assert "VACC_STACK_SIZE=256 vamc compile" in done.stderr


def test_what_is_done_is_not_done_again(tmp_path, fake_tool, called) -> None:
    fake_tool("vamc", SHOWS)
    out = tmp_path / "out"
    assert build("llama2-7b", "-o", out).returncode == 0
    again = build("llama2-7b", "-o", out)
    assert again.returncode == 0
    assert again.stdout.startswith("already built")
    assert len(calls(called)) == 2
    assert build("llama2-7b", "-o", out, "--force").returncode == 0
    assert len(calls(called)) == 4


def test_a_failure_keeps_its_exit_code_and_is_tried_again(tmp_path, fake_tool, called) -> None:
    fake_tool("vamc", SHOWS + "if sys.argv[1] == 'compile': sys.exit('no such operator: Foo')\n")
    out = tmp_path / "out"
    done = build("llama2-7b", "-o", out, "--json")
    assert done.returncode == 1
    assert "no such operator: Foo" in done.stderr
    assert "vamc failed with exit code 1" in done.stderr
    assert done.stdout == ""
    fake_tool("vamc", SHOWS + "sys.exit(7 if sys.argv[1] == 'compile' else 0)\n")
    assert build("llama2-7b", "-o", out).returncode == 7
    fake_tool("vamc", SHOWS)
    assert build("llama2-7b", "-o", out).returncode == 0
    # Quantized once; compiled until it worked.
    assert [one["argv"][0] for one in calls(called)] == ["quant", "compile", "compile", "compile"]


def test_nothing_is_compiled_after_a_failed_quantization(tmp_path, fake_tool, called) -> None:
    fake_tool("vamc", SHOWS + "sys.exit(5)\n")
    assert build("llama2-7b", "-o", tmp_path / "out").returncode == 5
    assert [one["argv"][0] for one in calls(called)] == ["quant"]


def test_a_tool_that_is_killed(tmp_path, fake_tool, called) -> None:
    fake_tool("vamc", SHOWS + "os.kill(os.getpid(), 9)\n")
    assert build("llama2-7b", "-p", "fp16", "-o", tmp_path / "out").returncode == 137


HANGS = """
import os, signal, sys, time
def end(number, frame):
    with open(os.environ["CALLS"], "a") as file:
        file.write(f'"{number}"\\n')
    sys.exit(9)
if len(sys.argv) > 2:
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    print("hanging", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_tool_that_hangs_can_be_interrupted(tmp_path, fake_tool, called, number, code) -> None:
    fake_tool("vamc", HANGS)
    out = tmp_path / "out"
    argv = [sys.executable, "-m", "zoo", "build", "llama2-7b", "-p", "fp16", "--target", "vamc", "-o", str(out)]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if line.strip() == "hanging":
                break
        began = time.monotonic()
        # As a terminal does: everyone in the foreground group hears it.
        os.killpg(process.pid, number)
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == code
    assert time.monotonic() - began < 8
    # The tool heard it, once, and ended before zoo did.
    assert calls(called) == [str(int(number))]
    assert (out / "zoo.json").is_file()
    assert not (tmp_path / "out.work" / "tools.json").exists()


def test_without_it_the_files_and_the_commands_are_the_result(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    out = tmp_path / "out"
    done = build("llama-33b", "-o", out)
    assert done.returncode == 0
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert any("vamc is not on the PATH" in line for line in lines)
    assert lines[-5:] == [
        f"mkdir -p {out}.work && cd {out}.work",
        "hf download alexl83/LLaMA-33B-HF --local-dir LLaMA-33B-HF",
        "hf download allenai/c4 en/c4-train.00000-of-01024.json.gz en/c4-validation.00000-of-00008.json.gz "
        "--repo-type dataset --local-dir datasets/c4",
        f"VACC_STACK_SIZE=256 vamc quant ../out/{NAME}-quant-c4.yaml",
        f"VACC_STACK_SIZE=256 vamc compile ../out/{NAME}.yaml",
    ]


@pytest.mark.attack(
    "f02_vamc_force.sh", "weights and a compiled model, put where the printed commands put them, then --force"
)
def test_what_the_commands_leave_is_not_in_the_folder_that_force_replaces(tmp_path, fake_tool, called) -> None:
    leaves = SHOWS + "os.makedirs('vacc_deploy', exist_ok=True); open('vacc_deploy/model.vacc', 'w').write('hours')\n"
    fake_tool("vamc", leaves)
    out = tmp_path / "out"
    assert build("llama2-7b", "-p", "fp16", "-o", out).returncode == 0
    assert build("llama2-7b", "-p", "fp16", "--tp", "2", "-o", out, "--force").returncode == 0
    assert (tmp_path / "out.work/vacc_deploy/model.vacc").read_text() == "hours"
    # What somebody put into the folder by hand is named, and stays.
    (out / "vacc_deploy").mkdir()
    (out / "vacc_deploy/model.vacc").write_text("hours")
    done = build("llama2-7b", "-p", "fp16", "-o", out, "--force")
    assert done.returncode == 1
    assert "holds what zoo did not make: vacc_deploy/" in done.stderr
    assert (out / "vacc_deploy/model.vacc").read_text() == "hours"
