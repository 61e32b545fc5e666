"""GGUF files in hub repositories: planned from their headers, brought, built, found again."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from tests.plugins.gguf.test_source import made, model_of
from tests.plugins.gguf.test_tokenizer import byte_pairs
from tests.sources.conftest import server  # noqa: F401
from zoo.cli import app
from zoo.errors import WeightsAbsent, ZooError
from zoo.plugins import host

NAME = "example/tiny-GGUF"


@pytest.fixture
def repository(tmp_path, monkeypatch, server):  # noqa: F811
    """A repository with two quantizations of a model, one of them in parts."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    model = model_of(tmp_path / "ck", "llama")
    made.write(tmp_path / "files" / "tiny-F16.gguf", model, "llama", byte_pairs(), kind="F16", split=9)
    made.write(tmp_path / "files" / "tiny-Q8_0.gguf", model, "llama", byte_pairs(), kind="Q8_0")
    server.add(NAME, tmp_path / "files", files={"README.md": b"---\nlicense: mit\n---\n"}, large=LARGE)
    return server


LARGE = frozenset({"tiny-Q8_0.gguf", *(f"tiny-F16-0000{part}-of-00003.gguf" for part in (1, 2, 3))})


def run(*arguments: str, fails: str = "") -> str:
    done = CliRunner().invoke(app, list(arguments))
    output = done.output.replace("\n", " ")
    assert (done.exit_code != 0) == bool(fails), output
    assert fails in output
    return done.stdout


def source(location: str, *, offline: bool = False):
    return host().registry.source("gguf").open(location, revision=None, offline=offline)


def test_a_plan_brings_headers_alone(repository) -> None:
    plan = json.loads(run("build", f"{NAME}:tiny-Q8_0.gguf", "--dry-run", "--json"))
    assert plan["download_bytes"] == len(repository.repos[NAME].files["tiny-Q8_0.gguf"])
    assert not repository.asked("GET", "tiny-F16")
    with pytest.raises(WeightsAbsent):
        source(f"{NAME}:tiny-Q8_0.gguf", offline=True)


@pytest.mark.parametrize("pattern", ["*q8_0*", "*f16*"])
def test_a_build_is_found_again_without_the_network(repository, tmp_path, pattern) -> None:
    location, out = f"{NAME}:{pattern}", tmp_path / "out"
    run("build", location, "-o", str(out))
    recipe = json.loads((out / "zoo.json").read_text())["recipe"]
    assert recipe["weights"]["hub"] == location
    assert recipe["weights"]["revision"] == repository.repos[NAME].commit
    assert recipe["weights"]["files"].keys() <= LARGE
    assert recipe["licence"]["id"] == "mit"
    repository.faults.append(lambda handler, request: handler.send(500) or True)
    run("build", location, "-o", str(out))
    run("verify", str(out), "--quick")


def test_what_a_pattern_may_mean(repository) -> None:
    for pattern, message in {
        "*.gguf": "matches 2 models: tiny-F16-00001-of-00003.gguf, tiny-Q8_0.gguf",
        "*q2_k*": "no GGUF file matches '*q2_k*'; it holds tiny-F16-00001-of-00003.gguf",
    }.items():
        with pytest.raises(ZooError) as error:
            source(f"{NAME}:{pattern}")
        assert message in str(error.value)
    run("build", NAME, fails=f"name one: {NAME}:tiny-F16-00001-of-00003.gguf")
    del repository.repos[NAME].files["tiny-F16-00002-of-00003.gguf"]
    with pytest.raises(ZooError, match=r"the part tiny-F16-00002-of-00003\.gguf is missing"):
        source(f"{NAME}:tiny-F16-00001-of-00003.gguf")
