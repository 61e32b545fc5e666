"""An engine that a plugin's target brings: commands ask what it can, and say in one line what it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import zoo
from zoo.cli import app
from zoo.plugins import host
from zoo.stages.opening import Opener, choose_engine, engine_names

PARROT = '''
"""A target whose packages are a text file, and the engine that repeats what it is told."""

import json

from pydantic import BaseModel

from zoo import Engine, Generation, Piece, ZooError, hookimpl, read_options


@hookimpl
def register_targets(register):
    register("parrot", "plugin_parrot:Parrot")


class Options(BaseModel):
    pass


class Parrot:
    Options = Options
    precisions = {"int8": "rtn"}
    operations = None
    emitter_version = 1
    needs_weights = False
    engines = {"parrot": "plugin_parrot:Repeating", "deaf-parrot": "plugin_parrot:Deaf"}
    tools = ()

    def check(self, recipe): ...

    def documents(self, recipe, context):
        yield "words.json", json.dumps({"room": 64}).encode()

    def commands(self, recipe, context):
        return []


class Repeating(Engine):
    name = "parrot"
    abilities = frozenset({"text"})
    stop_token_ids = special_ids = frozenset()
    vocab_size = 256
    load_seconds = 0.0

    @classmethod
    def open(cls, package, *, threads=None):
        return cls(package)

    def __init__(self, package):
        self.package = package
        self.context_length = json.loads((package.path / "words.json").read_bytes())["room"]

    def settings(self):
        return {"cage": "gold"}

    def encode(self, text):
        return list(text.encode())

    def encode_chat(self, messages):
        raise ZooError("a parrot does not converse")

    def stream(self, prompt=None, *, messages=None, continued=False, **options):
        limits, _ = read_options(options, self.stop_token_ids)
        if messages is not None:
            self.encode_chat(messages)
        ids = self.encode(prompt) if isinstance(prompt, str) else list(prompt)
        generation = Generation(ids)
        return Repeated(generation, limits.max_new_tokens)


class Deaf(Engine):
    @classmethod
    def open(cls, package, *, threads=None):
        raise ZooError("deaf-parrot is not installed; install it with: pip install ears")


class Repeated:
    def __init__(self, generation, most):
        self.generation, self._most = generation, most

    def __iter__(self):
        return self

    def __next__(self):
        generation = self.generation
        at = len(generation.token_ids)
        if at == self._most:
            generation.finish_reason = "length"
            raise StopIteration
        token = generation.prompt_ids[at % len(generation.prompt_ids)]
        generation.token_ids.append(token)
        generation.text += chr(token)
        return Piece(token, chr(token))

    def close(self):
        self.generation.finish_reason = "interrupt"
'''


@pytest.fixture
def package(tmp_path, install_plugin) -> Path:
    install_plugin("parrot", PARROT)
    return zoo.build("llama2-7b", "int8", target="parrot", output=tmp_path / "parrot").path


def run(*args: object, code: int = 0):
    result = CliRunner().invoke(app, [str(one) for one in args])
    assert result.exit_code == code, (result.output, result.stderr)
    return result


def refusal(*args: object, code: int = 1) -> str:
    """The one line on stderr that a command ends with."""
    result = run(*args, code=code)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "Traceback" not in line
    return line


def test_zoo_run_asks_the_targets_engine(package) -> None:
    assert run("run", package, "ahoy ", "--max-new-tokens", 7).stdout == "ahoy ah"
    told = json.loads(run("run", package, "ab", "--max-new-tokens", 3, "--json", "--engine", "parrot").stdout)
    assert (told["text"], told["finish_reason"], told["prompt_tokens"]) == ("aba", "length", 2)


def test_a_build_without_commands_prints_none(package, tmp_path) -> None:
    printed = run("build", "llama2-7b", "--target", "parrot", "-o", tmp_path / "again").stdout.splitlines()
    assert printed[0].startswith("built ")
    assert printed[1:] == ["  words.json"]


def test_zoo_bench_measures_it_and_says_through_what(package) -> None:
    done = run("bench", package, "--input-len", 4, "--output-len", 3, "--prompts", 2, "--warmup", 0, "--json")
    report = json.loads(done.stdout)
    assert report["settings"]["through"] == "parrot"
    assert report["settings"]["cage"] == "gold"
    (row,) = report["measured"]["workloads"]
    assert (row["completed"], row["total_output_tokens"]) == (2, 6)


def test_python_opens_it_and_gets_the_keyword_call(package) -> None:
    engine = zoo.open(package)
    assert engine.name == "parrot"
    answer = engine.generate("abc", max_new_tokens=4, temperature=0.5)
    assert (answer.text, answer.finish_reason) == ("abca", "length")
    engine.close()
    again = Opener(package, "parrot")()
    assert again.encode("a") == [97]


def test_what_it_cannot_is_one_line(package, tmp_path) -> None:
    assert refusal("run", package, "x", "--lookup") == (
        "zoo: --lookup: the engine 'parrot' does not guess tokens from the text so far"
    )
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object"}')
    assert "--schema: the engine 'parrot' follows no schema" in refusal("run", package, "x", "--schema", schema)
    assert "a parrot does not converse" in refusal("run", package, "x", "--chat")
    line = refusal("bench", package, "--input-len", 4, "--output-len", 2, "--concurrency", 2, "--prompts", 2)
    assert "2 requests at once: the engine 'parrot' answers one request at a time" in line
    assert "whose engine has nothing to prepare" in refusal("prepare", package)
    assert "zoo verify: the engine 'parrot' gives no logits" in refusal("verify", package)


def test_serving_asks_before_it_listens(package) -> None:
    pytest.importorskip("fastapi")
    for options in ((), ("--engine", "parrot")):
        line = refusal("serve", package, "--port", 0, *options)
        assert line == "zoo: zoo serve: the engine 'parrot' answers one request at a time"


def test_an_engine_that_is_not_installed_says_how(package) -> None:
    assert refusal("run", package, "x", "--engine", "deaf-parrot") == (
        "zoo: deaf-parrot is not installed; install it with: pip install ears"
    )


@pytest.mark.parametrize("command", [("run", "x"), ("bench",), ("serve",)])
def test_other_engines_and_unknown_ones_are_named(package, command) -> None:
    name, *rest = command
    line = refusal(name, package, *rest, "--engine", "ort")
    assert "parrot was built for target 'parrot', which 'ort' does not open" in line
    assert "--engine parrot or deaf-parrot" in line
    line = refusal(name, package, *rest, "--engine", "parot", code=2)
    assert "parot" in line
    assert "parrot" in line.replace("'parot'", "")


def test_our_own_packages_open_by_our_own_engine(tmp_path, install_plugin) -> None:
    install_plugin("parrot", PARROT)
    built = zoo.build("zoo-tiny", "int8", output=tmp_path / "tiny")
    registry = host().registry
    assert engine_names(registry)[0] == "ort"
    assert choose_engine(registry, built) == "ort"
    plain = run("run", built.path, "Once", "--max-new-tokens", 4).stdout
    assert run("run", built.path, "Once", "--max-new-tokens", 4, "--engine", "ort").stdout == plain
    assert "which 'parrot' does not open" in refusal("run", built.path, "x", "--engine", "parrot")
