"""`zoo new`: what it writes installs, validates and passes its own tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner
from zoo_scaffold.facts import Facts
from zoo_scaffold.family import family_yaml

from tests.checkpoints import SMALL
from zoo import plugins
from zoo.cli import app
from zoo.stages.validate import validate
from zoo.testing.checkpoint import write_tokenizer

from ..conftest import REGISTER_FAMILY

TEMPLATE = "{% for m in messages %}\n  <{{ m['role'] }}> {{ m['content'] }}\n{% endfor %}\n\tend: \"'#"


def zoo(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.output + str(done.exception)


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    folder = tmp_path / "Nice_Model"
    folder.mkdir()
    numbers = {**SMALL, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": True, "head_dim": 24}
    scaling = {"rope_type": "linear", "factor": 4.0}
    config = {"model_type": "llama", **numbers, "rope_scaling": scaling, "bos_token_id": 5, "eos_token_id": [6, 7]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    write_tokenizer(folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def notes(path: Path) -> list[str]:
    found = validate(plugins.host(), [str(path)])
    assert found.ok, [str(one) for one in found.findings]
    assert found.count("warning") == 0, [str(one) for one in found.findings]
    return [one.message for one in found.findings if "open question" in one.message]


def test_a_checkpoint_answers_nearly_everything(checkpoint, here) -> None:
    zoo("new", "nice", "--from", str(checkpoint))
    text = (here / "nice/zoo_nice/nice.yaml").read_text()
    family = yaml.safe_load(text)
    (model,) = family["models"]
    assert model["name"] == "nice_model"
    assert model["chat_template"] == TEMPLATE
    assert family["licence"]["id"] == "apache-2.0"
    assert family["tokens"] == {"bos_token_id": 5, "eos_token_id": [6, 7]}
    stated = {**family["architecture"], **model["architecture"]}
    assert stated["head_dim"] == 24
    assert stated["rope_theta"] == 500000.0
    assert stated["rope_scaling"] == {"rope_type": "linear", "factor": 4.0, "truncate": True} or (
        stated["rope_scaling"]["factor"] == 4.0
    )
    assert {name: stated[name] for name in SMALL} == SMALL
    open_questions = notes(here / "nice")
    assert len(open_questions) == 2  # where the weights are on the hub; whether commercial use is allowed
    assert text.count("TODO(you)") == 2


def test_its_numbers_are_the_checkpoints(checkpoint, here, monkeypatch) -> None:
    from zoo.decoder import Decoder

    zoo("new", "nice", "--from", str(checkpoint))
    monkeypatch.setenv("ZOO_PATH", str(here / "nice/zoo_nice"))
    plugins.host.cache_clear()
    declared = plugins.host().registry.model("nice/nice_model")
    assert declared.architecture == Decoder().read_config(json.loads((checkpoint / "config.json").read_text()))


def test_from_the_hub(checkpoint, here, server) -> None:
    server.add("acme/Nice-1B", checkpoint)
    server.add("acme/Nice-1B", files={
        **{one.name: one.read_bytes() for one in checkpoint.iterdir()}, "model.safetensors": b"\0" * 64,
    })  # fmt: skip
    zoo("new", "nice", "--from", "acme/Nice-1B")
    family = yaml.safe_load((here / "nice/zoo_nice/nice.yaml").read_text())
    assert family["organisation"] == "acme"
    assert family["models"][0]["weights"] == {"hub": "acme/Nice-1B"}
    assert not server.asked("GET", "model.safetensors")


def test_without_a_checkpoint_everything_is_a_marked_question(here) -> None:
    zoo("new", "acme")
    assert len(notes(here / "acme")) == 3
    schema = json.loads((here / "acme/family.schema.json").read_text())
    line = (here / "acme/zoo_acme/acme.yaml").read_text().splitlines()[0]
    assert line == "# yaml-language-server: $schema=../family.schema.json"
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(yaml.safe_load((here / "acme/zoo_acme/acme.yaml").read_text()), schema)


def test_a_plugins_test_file_is_two_lines(here) -> None:
    zoo("new", "acme")
    assert len((here / "acme/tests/test_acme.py").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["llama"], "is declared by plugin 'llama'"),
        (["Bad Name"], "is not a name"),
        (["taken"], "not empty"),
        (["mine", "--from", "./nowhere"], "no such folder"),
        (["mine", "--weights", "a/b"], "goes with --fine-tune-of"),
        (["mine", "--fine-tune-of", "llama2-7b"], "takes --weights"),
        (["mine", "--fine-tune-of", "llama2-8b", "--weights", "a/b"], "llama2-7b"),
    ],
)
def test_a_wrong_request_is_refused(arguments, message, here) -> None:
    (here / "taken").mkdir()
    (here / "taken" / "file").write_text("mine")
    assert message in zoo("new", *arguments, code=2 if "taken" not in arguments else 1)
    assert not (here / "mine").exists()


def test_a_fine_tune_is_five_lines_that_work(here, monkeypatch) -> None:
    zoo("new", "tuned", "--fine-tune-of", "llama2-7b-chat", "--weights", "me/tuned")
    assert len((here / "tuned.yaml").read_text().splitlines()) == 5
    assert notes(here / "tuned.yaml") == []
    monkeypatch.setenv("ZOO_PATH", str(here))
    plugins.host.cache_clear()
    tuned = plugins.host().registry.model("tuned")
    assert tuned.architecture.hidden_size == 4096
    assert tuned.chat_template
    assert "is there already" in zoo(
        "new", "tuned", "--fine-tune-of", "llama2-7b", "--weights", "me/tuned", code=1
    )  # fmt: skip


@pytest.mark.slow
def test_a_new_project_installs_and_passes_its_own_tests(checkpoint, here) -> None:
    """As an author would: install the folder with its data, run its tests, list its models.

    What the kit builds is built by the tutorial's project; here are the tests of what was declared.
    """
    zoo("new", "nice", "--from", str(checkpoint))
    site = here / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(site)]
    done = subprocess.run([*pip, str(here / "nice")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"nice.yaml", "py.typed", "__init__.py"} <= {path.name for path in (site / "zoo_nice").iterdir()}
    assert list(site.glob("*.dist-info/licenses/LICENSE"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests",
        "-k",
        "loads or listed or declaration",
    ]
    done = subprocess.run(command, cwd=here / "nice", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "3 passed" in done.stdout
    listed = subprocess.run(
        [sys.executable, "-m", "zoo", "list", "--family", "nice"], env=environment, capture_output=True, text=True
    )
    assert "nice_model" in listed.stdout


ODD = (
    "no",
    "1e3",
    "a: b",
    "{x}",
    "a #b",
    "'",
    '"',
    "[a]",
    "&a",
    "*a",
    "!!str a",
    "- a",
    "a\nb: 1",
    "null",
    "0x10",
    "1:30",
)


@pytest.mark.parametrize("text", ODD)
def test_what_a_checkpoint_says_stands_in_the_yaml_as_it_was(text) -> None:
    facts = Facts(
        "mine", "mine-7b", text, organisation=text, licence=text, model_type=text, tokens={text: 1}, source=text,
        chat_template=text,
    )  # fmt: skip
    data = yaml.safe_load(family_yaml(facts))
    assert [data["title"], data["organisation"], data["licence"]["id"], data["claims"]] == [text, text, text, [text]]
    assert data["models"][0]["chat_template"] == data["models"][0]["source"] == text
    assert data["tokens"] == {text: 1}
    assert set(data) == {"name", "title", "organisation", "licence", "claims", "architecture", "tokens", "models"}


@pytest.mark.parametrize("name", ["mine\n", "-mine", "Mine", "../mine", "mi ne", ""])
def test_a_name_that_is_not_one(name, here) -> None:
    assert "is not a name" in zoo("new", "--", name, code=2)


def test_names_that_are_there_already(here, install_plugin, family_yaml, tmp_path) -> None:
    """Another module of the name would be imported instead, and its tests would pass against it."""
    install_plugin("my-own", REGISTER_FAMILY, family__yaml=family_yaml())
    assert "the plugin 'my-own' is installed already" in zoo("new", "my-own", code=2)
    assert "the plugin 'deepseek_r1' is installed already" in zoo("new", "deepseek_r1", code=2)
    assert "is installed already" in zoo("new", "deepseek.r1", code=2)
    (tmp_path / "site" / "zoo_stray.py").write_text("")
    assert "a module 'zoo_stray' is installed already" in zoo("new", "stray", code=2)
    info = tmp_path / "site" / "zoo_plugin_lonely-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zoo-plugin-lonely\nVersion: 1.0\n")
    assert "the distribution 'zoo-plugin-lonely' is installed already" in zoo("new", "lonely", code=2)
    assert sorted(path.name for path in here.iterdir()) == []


def test_a_project_has_what_a_published_one_needs(here) -> None:
    zoo("new", "acme")
    project = tomllib.loads((here / "acme/pyproject.toml").read_text())
    assert project["project"]["license-files"] == ["LICENSE"]
    assert set(project["project"]["urls"]) == {"Source", "Issues"}
    assert project["tool"]["setuptools"]["package-data"] == {"zoo_acme": ["*.yaml", "results/*.yaml", "py.typed"]}
    assert (here / "acme/zoo_acme/py.typed").read_text() == ""
    assert "Copyright (c) 20" in (here / "acme/LICENSE").read_text()
    workflow = yaml.safe_load((here / "acme/.github/workflows/test.yml").read_text())
    oldest, newest = workflow["jobs"]["test"]["strategy"]["matrix"]["core"]
    assert oldest == f"{newest}=={project['project']['dependencies'][0].partition('>=')[2]}"
    assert "${{ matrix.core }}" in str(workflow["jobs"]["test"]["steps"])


def test_every_field_of_the_schema_is_described(here) -> None:
    zoo("new", "acme")
    schema = json.loads((here / "acme/family.schema.json").read_text())
    for name, part in [("Family", schema), *schema["$defs"].items()]:
        bare = [field for field, value in part.get("properties", {}).items() if not value.get("description")]
        assert bare == [], name
