"""The plugin host: good plugins come in whole, bad ones leave nothing, and commands go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from zoo import plugins
from zoo.errors import UsageError
from zoo.plugins import CORE_COMMANDS, Host, PluginError, PluginRecord

from .conftest import REGISTER_FAMILY


def load() -> Host:
    plugins.host.cache_clear()
    return plugins.host()


def record(host: Host, name: str) -> PluginRecord:
    return next(one for one in host.records if one.name == name)


def test_bundled_plugins_come_through_entry_points() -> None:
    host = load()
    status = {one.name: one.status for one in host.records}
    assert status["core"] == status["llama"] == status["llama2"] == "loaded"
    assert {"llama", "llama2"} <= set(host.registry.families)
    assert {"c4", "ceval", "alpaca", "sharegpt", "opencompass-core"} <= set(host.registry.datasets)
    assert record(host, "llama").hooks == ("register_families",)


def test_a_third_party_family_is_found(install_plugin, family_yaml) -> None:
    install_plugin("third", REGISTER_FAMILY, family__yaml=family_yaml())
    host = load()
    assert record(host, "third").model_dump(include={"distribution", "version", "status"}) == {
        "distribution": "example-third",
        "version": "1.0",
        "status": "loaded",
    }
    assert host.registry.model("example/example-1b").architecture.attention == "GQA"


BAD = {
    "raises": ("raise RuntimeError('boom')", "RuntimeError: boom"),
    "exits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "no hook": ("x = 1", "no hook"),
    "unknown hook": ("from zoo import hookimpl\n@hookimpl\ndef register_moods(register): pass", "register_moods"),
    "wrong argument": (
        "from zoo import hookimpl\n@hookimpl\ndef register_commands(cli): pass",
        "register_commands(app)",
    ),
    "hook raises": ("from zoo import hookimpl\n@hookimpl\ndef register_tasks(register): 1 / 0", "ZeroDivisionError"),
    "hook exits": ("from zoo import hookimpl\n@hookimpl\ndef register_tasks(register): raise SystemExit", "SystemExit"),
    "nonsense family": (
        "from zoo import hookimpl\n@hookimpl\ndef register_families(register): register(42)",
        "expected a path or a declaration, got int",
    ),
    "missing file": (
        "from zoo import hookimpl\n@hookimpl\ndef register_families(register): register('/nowhere/f.yaml')",
        "cannot read /nowhere/f.yaml",
    ),
    "bad part": (
        "from zoo import hookimpl\n@hookimpl\ndef register_targets(register): register('x', 'no-colon')",
        "package.module:Class",
    ),
    "taken quantizer": (
        "from zoo import hookimpl\n@hookimpl\ndef register_quantizers(register): register('rtn', 'a.b:C')",
        "the quantizer 'rtn' is already taken",
    ),
    "taken command": (
        "from zoo import hookimpl\n@hookimpl\ndef register_commands(app):\n    @app.command()\n    def build(): pass",
        "the command 'build' is already taken",
    ),
    "broken command": (
        "from zoo import hookimpl\n@hookimpl\ndef register_commands(app): app.command('odd')(42)",
        "TypeError",
    ),
    "callback": (
        "from zoo import hookimpl\n@hookimpl\ndef register_commands(app):\n    @app.callback()\n    def all(): pass",
        "not a callback",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_plugin_leaves_nothing_and_is_named_once(case, install_plugin, capsys) -> None:
    source, message = BAD[case]
    # Registered before the failure: must be rolled back with it.
    good = (
        "\nfrom zoo import hookimpl as _impl\n@_impl\ndef register_architectures(register):\n"
        "    register('left-behind', 'a.b:C')\n"
        if "import hookimpl" in source
        else ""
    )
    install_plugin("bad", source + good)
    host = load()
    found = record(host, "bad")
    assert found.status == "failed"
    assert message in (found.error or "")
    assert found.registered == {}
    assert "left-behind" not in host.registry.architectures
    err = capsys.readouterr().err
    assert err.count("plugin 'bad' (example-bad 1.0) failed") == 1
    assert err.count("\n") == 1
    assert "llama-33b" in {one.name for one in host.registry.models()}


def test_commands_go_on_beside_a_bad_plugin(install_plugin, tmp_path: Path) -> None:
    install_plugin("bad", "raise RuntimeError('boom')")
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run([sys.executable, "-m", "zoo", "plugins", "--json"], env=env, capture_output=True, text=True)
    assert done.returncode == 0
    status = {one["name"]: one["status"] for one in json.loads(done.stdout)}
    assert status["bad"] == "failed"
    assert status["llama"] == "loaded"
    assert done.stderr.count("boom") == 1
    strict = subprocess.run(
        [sys.executable, "-m", "zoo", "list"],
        env={**env, "ZOO_STRICT_PLUGINS": "1"},
        capture_output=True,
        text=True,
    )
    assert strict.returncode == 1
    assert strict.stderr.splitlines() == ["zoo: plugin 'bad' (example-bad 1.0) failed: RuntimeError: boom"]


def test_strict_raises(install_plugin, monkeypatch) -> None:
    install_plugin("bad", "raise RuntimeError('boom')")
    monkeypatch.setenv("ZOO_STRICT_PLUGINS", "1")
    with pytest.raises(PluginError, match="boom"):
        load()


def test_a_taken_family_fails_the_later_plugin_whole(install_plugin, family_yaml) -> None:
    source = REGISTER_FAMILY + "\n@hookimpl\ndef register_tasks(register): register('mine', {'task': 'mine'})\n"
    install_plugin("aaa", source, family__yaml=family_yaml(name="llama"))
    host = load()
    # "aaa" sorts before "llama", but the bundled come first.
    assert record(host, "aaa").status == "failed"
    assert record(host, "llama").status == "loaded"
    assert host.registry.tasks.get("mine") is None


def test_a_second_claim_is_a_clash(install_plugin, family_yaml) -> None:
    install_plugin("claimer", REGISTER_FAMILY, family__yaml=family_yaml(claims="[llama]"))
    assert "already claims" in (record(load(), "claimer").error or "")


def test_the_same_model_name_in_two_families(install_plugin, family_yaml) -> None:
    install_plugin("double", REGISTER_FAMILY, family__yaml=family_yaml(model="llama-33b"))
    registry = load().registry
    assert registry.model("llama/llama-33b").family.name == "llama"
    assert registry.model("example/llama-33b").family.name == "example"
    with pytest.raises(UsageError, match=r"llama/llama-33b or example/llama-33b"):
        registry.model("llama-33b")


DATASET = """
from zoo import hookimpl
from zoo.declarations.dataset import Dataset, DatasetFile
from zoo.declarations.licence import Licence

@hookimpl
def register_datasets(register):
    register(Dataset(name="mine", title="{title}", hub="a/b", files=[DatasetFile(path="x.json")], format="alpaca",
                     purposes=["calibration"], licence=Licence(id="mit")))
"""


def test_datasets_may_be_declared_twice_alike_but_not_differently(install_plugin) -> None:
    install_plugin("d1", DATASET.format(title="one"))
    install_plugin("d2", DATASET.format(title="one"))
    install_plugin("d3", DATASET.format(title="other"))
    host = load()
    assert [record(host, name).status for name in ("d1", "d2", "d3")] == ["loaded", "loaded", "failed"]


def test_zoo_plugins_chooses(monkeypatch, capsys) -> None:
    monkeypatch.setenv("ZOO_PLUGINS", "llama2")
    host = load()
    assert set(host.registry.families) == {"llama2"}
    assert record(host, "llama").status == "disabled"
    monkeypatch.setenv("ZOO_PLUGINS", "")
    assert load().registry.families == {}
    assert "rtn" in plugins.host().registry.quantizers
    capsys.readouterr()
    monkeypatch.setenv("ZOO_PLUGINS", "lama")
    load()
    assert "did you mean llama" in capsys.readouterr().err


def test_loose_families_on_zoo_path(tmp_path, monkeypatch, family_yaml, capsys) -> None:
    folder = tmp_path / "loose"
    folder.mkdir()
    (folder / "good.yaml").write_text(family_yaml())
    (folder / "bad.yaml").write_text("name: [")
    monkeypatch.setenv("ZOO_PATH", str(folder))
    host = load()
    assert record(host, "good").registered["models"] == ("example-1b",)
    assert record(host, "bad").status == "failed"
    assert "bad.yaml:2:1: " in capsys.readouterr().err


def test_a_plugin_brings_a_command(install_plugin, tmp_path) -> None:
    install_plugin(
        "speaks",
        """
        from zoo import hookimpl

        @hookimpl
        def register_commands(app):
            @app.command()
            def greet(name: str):
                print(f"hello {name}")
        """,
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run([sys.executable, "-m", "zoo", "greet", "you"], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "hello you\n")


def test_a_command_of_a_plugin_that_is_left_out_says_so() -> None:
    env = {**os.environ, "ZOO_PLUGINS": "tiny"}
    done = subprocess.run([sys.executable, "-m", "zoo", "serve", "zoo-tiny"], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "zoo: no such command 'serve'; ZOO_PLUGINS leaves out plugins, which may bring it: see zoo plugins\n"
    )


def test_core_commands_are_reserved() -> None:
    from zoo.cli import app

    brought = set(plugins.host().registry.commands)
    assert set(get_command(app).commands) - brought <= CORE_COMMANDS


def test_plugins_json(capsys) -> None:
    from zoo.cli import app

    result = CliRunner().invoke(app, ["plugins", "--json"])
    rows = json.loads(result.stdout)
    assert {"name", "distribution", "version", "hooks", "registered", "status", "error"} <= set(rows[0])


def test_the_very_same_entry_point_counts_once(install_plugin, tmp_path, family_yaml) -> None:
    install_plugin("twice", REGISTER_FAMILY, family__yaml=family_yaml())
    info = tmp_path / "site" / "another_name-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: another-name\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[zoo]\ntwice = plugin_twice\n")
    host = load()
    assert [one.status for one in host.records if one.name == "twice"] == ["loaded"]


def test_a_clash_of_claims_names_both_and_the_user_settles_it(install_plugin, family_yaml, monkeypatch) -> None:
    install_plugin("claimer", REGISTER_FAMILY, family__yaml=family_yaml(claims="[llama]"))
    error = record(load(), "claimer").error or ""
    assert (
        "of plugin 'claimer' claims model_type 'llama', which family 'llama' of plugin 'llama' already claims" in error
    )
    assert "ZOO_PLUGINS=-llama" in error
    monkeypatch.setenv("ZOO_PLUGINS", "-llama")
    host = load()
    assert [record(host, name).status for name in ("claimer", "llama", "llama2")] == ["loaded", "disabled", "loaded"]
    claimant = host.registry.claimant("llama")
    assert claimant is not None
    assert claimant.plugin == "claimer"


def test_what_is_taken_names_its_owner(install_plugin) -> None:
    source = (
        "from zoo import hookimpl\n@hookimpl\ndef register_commands(app):\n    @app.command()\n    def greet(): pass\n"
    )
    install_plugin("first", source)
    install_plugin("second", source)
    install_plugin("third", source.replace("greet", "build"))
    host = load()
    assert record(host, "second").error == "the command 'greet' is already taken by plugin 'first'"
    assert record(host, "third").error == "the command 'build' is already taken by zoo itself"
    assert host.registry.owners["command", "greet"] == "first"


@pytest.mark.parametrize("name", ["mine\n", "mi ne", "-mine", ""])
def test_a_name_has_no_line_break_at_its_end(name, install_plugin) -> None:
    source = f"from zoo import hookimpl\n@hookimpl\ndef register_quantizers(register): register({name!r}, 'a.b:C')\n"
    install_plugin("odd", source)
    assert "is not a name for a quantizer" in (record(load(), "odd").error or "")
