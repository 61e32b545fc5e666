"""The plugin API's version, hooks that go, the trace, and what plugins print."""

from __future__ import annotations

import pytest

import zoo
from zoo import hookspecs, plugins
from zoo.plugins import Host, PluginRecord

from .conftest import REGISTER_FAMILY

TASK = """
from zoo import hookimpl

@hookimpl
def register_tasks(register):
    register("mine", {"task": "mine"})
"""


def load() -> Host:
    plugins.host.cache_clear()
    return plugins.host()


def record(host: Host, name: str) -> PluginRecord:
    return next(record for record in host.records if record.name == name)


def test_a_plugin_states_its_api(install_plugin) -> None:
    install_plugin("states", f"ZOO_API = {zoo.API_VERSION}\n{TASK}")
    install_plugin("silent", TASK.replace("mine", "other"))
    host = load()
    assert (record(host, "states").status, record(host, "states").api) == ("loaded", zoo.API_VERSION)
    assert (record(host, "silent").status, record(host, "silent").api) == ("loaded", None)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (
            str(zoo.API_VERSION + 1),
            f"it needs plugin API {zoo.API_VERSION + 1}, and this zoo offers {zoo.API_VERSION}; upgrade zoo",
        ),
        ("0", f"it needs plugin API 0, and this zoo offers {zoo.API_VERSION}; upgrade the plugin"),
        ("'1'", "ZOO_API is '1'; state the plugin API as a whole number"),
        ("True", "ZOO_API is True; state the plugin API as a whole number"),
    ],
)
def test_another_api_is_one_line(stated, message, install_plugin, capsys) -> None:
    install_plugin("other", f"ZOO_API = {stated}\n{TASK}")
    host = load()
    assert record(host, "other").status == "failed"
    assert (record(host, "other").error or "").startswith(message)
    assert "mine" not in host.registry.tasks
    err = capsys.readouterr().err
    assert err.startswith(f"zoo: plugin 'other' (example-other 1.0) failed: {message}")
    assert err.count("\n") == 1


def test_a_plugin_that_cannot_be_imported_for_its_api_says_so(install_plugin) -> None:
    install_plugin("newer", f"ZOO_API: int = {zoo.API_VERSION + 7}\nfrom zoo import SomethingOfTomorrow\n{TASK}")
    install_plugin("broken", f"from zoo import SomethingOfTomorrow\n{TASK}")
    host = load()
    assert f"needs plugin API {zoo.API_VERSION + 7}" in (record(host, "newer").error or "")
    assert "SomethingOfTomorrow" in (record(host, "broken").error or "")


def test_an_object_takes_the_api_of_its_module(install_plugin, tmp_path) -> None:
    source = f"ZOO_API = {zoo.API_VERSION + 1}\nfrom zoo import hookimpl\nclass Plugin:\n    @hookimpl\n"
    source += "    def register_tasks(self, register): register('mine', {})\nplugin = Plugin()\n"
    install_plugin("thing", source)
    (tmp_path / "site" / "example_thing-1.0.dist-info" / "entry_points.txt").write_text(
        "[zoo]\nthing = plugin_thing:plugin\n"
    )
    assert "needs plugin API" in (record(load(), "thing").error or "")


def test_a_hook_that_goes_warns_with_its_mend(install_plugin, monkeypatch, capsys) -> None:
    goes = DeprecationWarning("register_tasks goes in 0.3; use register_suites")
    monkeypatch.setitem(hookspecs.register_tasks.zoo_spec, "warn_on_impl", goes)
    install_plugin("old", TASK)
    host = load()
    assert record(host, "old").status == "loaded"
    assert host.registry.tasks["mine"] == {"task": "mine"}
    lines = [line for line in capsys.readouterr().err.splitlines() if "'old'" in line]
    assert lines == ["zoo: plugin 'old' (example-old 1.0): deprecated: register_tasks goes in 0.3; use register_suites"]


def test_the_trace_names_hooks_and_what_they_register(install_plugin, family_yaml, monkeypatch, capsys) -> None:
    install_plugin("third", REGISTER_FAMILY, family__yaml=family_yaml())
    install_plugin("raises", "from zoo import hookimpl\n@hookimpl\ndef register_tasks(register): 1 / 0\n")
    load()
    assert "trace" not in capsys.readouterr().err
    monkeypatch.setenv("ZOO_TRACE", "1")
    load()
    err = capsys.readouterr().err
    assert "zoo: trace: third: register_families\nzoo: trace: third:   register(family.yaml)\n" in err
    assert "zoo: trace: core:   register('rtn', 'zoo.quantizers.rtn:Rtn')\n" in err
    assert "zoo: trace: core:   register.transform('rename', " in err
    assert "zoo: trace: raises: register_tasks raised after " in err
    assert record(plugins.host(), "core").status == "loaded"


def test_what_a_plugin_prints_goes_to_stderr(install_plugin, capsys) -> None:
    install_plugin("chatty", f"print('hello from import')\n{TASK}    print('hello from a hook')\n")
    load()
    out, err = capsys.readouterr()
    assert out == ""
    assert "hello from import\nhello from a hook\n" in err
