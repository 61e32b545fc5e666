"""Another engine comes as a plugin: the core knows the name of none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from zoo_server.elsewhere import prepare, serve, server_names

from zoo import plugins
from zoo.errors import UsageError
from zoo.stages.resolve import Request

PLUGIN = """
from pydantic import BaseModel
from zoo import Tool, ToolCommand, ZooError, hookimpl

@hookimpl
def register_targets(register):
    register("chatterbox", "plugin_chatterbox:Chatterbox")
    register("papers", "plugin_chatterbox:Papers")
    register("broken", "plugin_chatterbox:Missing")

class Options(BaseModel):
    gpus: int = 1

class Papers:
    Options = Options
    precisions = {"fp16": "float", "fp32": "float"}
    operations = None
    emitter_version = 1
    needs_weights = False
    engines = {}
    head_multiple = 1
    tools = (Tool("chatterbox", "serves", "ask around"),)

    def check(self, recipe):
        if recipe.target.options["gpus"] > recipe.architecture.num_hidden_layers:
            raise ZooError("chatterbox: a GPU without a layer")

    def documents(self, recipe, context):
        yield "config.txt", recipe.model.encode()

    def commands(self, recipe, context):
        return []

class Chatterbox(Papers):
    def serve_command(self, recipe, context, listening):
        secrets = {"CHATTER_KEY": listening.api_key} if listening.api_key else {}
        argv = ("chatterbox", str(context.weights), listening.host, str(listening.port), recipe.precision)
        return ToolCommand(argv, "serve", {"CHATTER_GPUS": str(recipe.target.options["gpus"])}, secrets)
"""

PROGRAM = """
import json, os, sys
kept = {name: value for name, value in os.environ.items() if name.startswith("CHATTER")}
print(json.dumps([sys.argv[1:], open("config.txt").read(), kept]))
"""


@pytest.fixture
def _chatterbox(install_plugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_plugin("chatterbox", PLUGIN)
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "chatterbox"
    program.write_text(f"#!{sys.executable}\n{PROGRAM}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.usefixtures("_chatterbox")
def test_a_plugin_brings_an_engine(capfd) -> None:
    registry = plugins.host().registry
    # One that writes documents alone is none, and one that cannot be imported harms nobody.
    assert "chatterbox" in server_names(registry)
    assert not {"papers", "broken", "ort"} & set(server_names(registry))
    request = Request("zoo-tiny", precision="fp32", target="chatterbox", target_options={"gpus": 3})
    prepared = prepare(registry, request, host="::1", port=1234, api_key="hush")
    assert prepared.installed
    assert prepared.tool is not None
    assert prepared.tool.install == "ask around"
    assert prepared.licence.id == "apache-2.0"
    assert "hush" not in prepared.command.line + repr(prepared)
    assert serve(prepared) == 0
    shown = capfd.readouterr().err
    weights = registry.model("zoo-tiny").weights_folder
    assert f'[["{weights}", "::1", "1234", "fp32"], "zoo-tiny", ' in shown
    assert '"CHATTER_GPUS": "3"' in shown
    assert '"CHATTER_KEY": "hush"' in shown


@pytest.mark.usefixtures("_chatterbox")
def test_an_engine_refuses_what_it_cannot_serve() -> None:
    registry = plugins.host().registry
    with pytest.raises(UsageError, match="unknown engine 'papers'; known: "):
        prepare(registry, Request("zoo-tiny", target="papers"), host="::1", port=1)
    request = Request("zoo-tiny", precision="fp16", target="chatterbox", target_options={"gpus": 99})
    with pytest.raises(Exception, match="a GPU without a layer"):
        prepare(registry, request, host="::1", port=1)


def test_what_serves_names_no_engine() -> None:
    core = Path(plugins.__file__).parent
    places = [core / "toolchain.py", *(core / "stages").rglob("*.py"), *(core / "cli").rglob("*.py")]
    assert not [path for path in places if "vllm" in path.read_text(encoding="utf-8").lower()]
