"""Fine-tunes of models that another plugin declares."""

from __future__ import annotations

import pytest

from zoo import plugins
from zoo.stages.listing import list_models

from .conftest import REGISTER_FAMILY

TUNES = """
name: {name}
title: Tunes
licence: {{id: mit}}
models: [{{name: {model}, base: {base}, weights: {{hub: me/tune}}}}]
"""


def tunes(name: str = "aaa", model: str = "tuned", base: str = "llama2/llama2-7b-chat") -> str:
    return TUNES.format(name=name, model=model, base=base)


@pytest.mark.parametrize("name", ["aaa", "zzz"])
def test_a_base_of_another_plugin_is_found_whatever_the_order(name, install_plugin, family_yaml) -> None:
    install_plugin(name, REGISTER_FAMILY, family__yaml=tunes(name, base="example/example-1b"))
    install_plugin("example", REGISTER_FAMILY, family__yaml=family_yaml())
    registry = plugins.host().registry
    tuned, base = registry.model("tuned"), registry.model("example-1b")
    assert tuned.architecture == base.architecture
    assert tuned.stated["hidden_size"] == (64, "model example-1b")
    assert tuned.stated["vocab_size"] == (320, "family example")
    assert tuned.origin("licence") == f"family {name}"
    assert [one.name for one in list_models(registry, "tuned")] == ["tuned"]
    assert {one.name: one.status for one in plugins.host().records}[name] == "loaded"


def test_template_and_tokens_come_with_the_base(install_plugin) -> None:
    install_plugin("aaa", REGISTER_FAMILY, family__yaml=tunes())
    registry = plugins.host().registry
    tuned, base = registry.model("tuned"), registry.model("llama2-7b-chat")
    assert tuned.chat_template == base.chat_template
    assert tuned.chat
    assert tuned.tokens == base.tokens
    assert tuned.origin("chat") == "model llama2-7b-chat"


def test_a_fine_tune_of_a_fine_tune(install_plugin) -> None:
    install_plugin("aaa", REGISTER_FAMILY, family__yaml=tunes("aaa", "second", "zzz/first"))
    install_plugin("zzz", REGISTER_FAMILY, family__yaml=tunes("zzz", "first"))
    assert plugins.host().registry.model("second").architecture.hidden_size == 4096


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("llama2/llama2-8b", "did you mean llama2/llama2-7b"),
        ("nowhere/model", "unknown base 'nowhere/model'"),
        ("llama2-7b", "a model of another family is named family/model"),
        ("aaa/tuned", "the base is of this family"),
    ],
)
def test_an_unknown_base_fails_the_plugin_alone(base, message, install_plugin, capsys) -> None:
    install_plugin("aaa", REGISTER_FAMILY, family__yaml=tunes(base=base))
    host = plugins.host()
    record = next(one for one in host.records if one.name == "aaa")
    assert record.status == "failed"
    assert message in str(record.error)
    assert "aaa" not in host.registry.families
    assert capsys.readouterr().err.count("aaa") >= 1
    assert host.registry.model("llama2-7b")


def test_a_circle_of_bases_is_refused(install_plugin) -> None:
    install_plugin("aaa", REGISTER_FAMILY, family__yaml=tunes("aaa", "one", "zzz/two"))
    install_plugin("zzz", REGISTER_FAMILY, family__yaml=tunes("zzz", "two", "aaa/one"))
    assert {one.status for one in plugins.host().records if one.name in ("aaa", "zzz")} == {"failed"}
