"""Names → things: inheritance, origins, and what an unknown name is told."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from zoo import plugins
from zoo.errors import UsageError, ZooError
from zoo.registry import Registry
from zoo.stages.listing import parameter_count

from .conftest import REGISTER_FAMILY

# hidden, ffn, layers, heads, KV heads, context, epsilon, exact parameters
BUNDLED = {
    "llama-33b": (6656, 17920, 60, 52, 52, 2048, 1e-6, 32_528_943_616),
    "llama2-7b": (4096, 11008, 32, 32, 32, 4096, 1e-5, 6_738_415_616),
    "llama2-13b": (5120, 13824, 40, 40, 40, 4096, 1e-5, 13_015_864_320),
    "llama2-70b": (8192, 28672, 80, 64, 8, 4096, 1e-5, 68_976_648_192),
}


@pytest.fixture
def registry() -> Registry:
    return plugins.host().registry


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.parametrize("suffix", ["", "-chat"])
def test_the_bundled_numbers(name, suffix, registry) -> None:
    if name == "llama-33b" and suffix:
        pytest.skip("LLaMA has no chat model")
    hidden, ffn, layers, heads, kv, context, eps, parameters = BUNDLED[name]
    model = registry.model(name + suffix)
    numbers = model.architecture
    assert (numbers.hidden_size, numbers.intermediate_size, numbers.num_hidden_layers) == (hidden, ffn, layers)
    assert (numbers.num_attention_heads, numbers.num_key_value_heads) == (heads, kv)
    assert (numbers.max_position_embeddings, numbers.rms_norm_eps, numbers.vocab_size) == (context, eps, 32000)
    assert (numbers.rope_theta, numbers.tie_word_embeddings, numbers.head_dim) == (10000.0, False, 128)
    assert numbers.attention == ("GQA" if "70b" in name else "MHA")
    assert parameter_count(registry, model) == parameters


def test_a_chat_model_is_its_base_with_another_template(registry) -> None:
    chat, base = registry.model("llama2-7b-chat"), registry.model("llama2-7b")
    assert chat.architecture == base.architecture
    assert base.chat_template is None
    assert chat.chat_template is not None
    assert chat.model.weights.hub == "meta-llama/Llama-2-7b-chat-hf"
    assert chat.origin("chat_template") == "model llama2-7b-chat"
    assert chat.stated["hidden_size"] == (4096, "model llama2-7b")
    assert chat.stated["rope_theta"] == (10000.0, "family llama2")


def test_the_families_say_what_their_users_may_do(registry) -> None:
    assert registry.model("llama-33b").licence.commercial_use is False
    llama2 = registry.model("llama2-70b").licence
    assert llama2.commercial_use is True
    assert llama2.gated


def test_calibration_defaults(registry) -> None:
    uses = registry.model("llama-33b").family.datasets.calibration
    assert {one.dataset: (one.samples, one.sequence_length) for one in uses} == {
        "c4": (128, 1024),
        "ceval": (128, 128),
        "alpaca": (128, 512),
    }
    for use in uses:
        assert registry.dataset(use.dataset).licence.id


def test_an_unknown_name_is_offered_the_nearest(registry) -> None:
    with pytest.raises(UsageError, match=r"unknown model 'lama-33b'; did you mean llama-33b"):
        registry.model("lama-33b")
    with pytest.raises(UsageError, match="did you mean ceval"):
        registry.dataset("c-eval")
    with pytest.raises(UsageError, match="unknown quantizer 'rtx'"):
        registry.quantizer("rtx")


def test_a_part_that_cannot_be_imported_is_named(install_plugin) -> None:
    install_plugin(
        "broken",
        """
        from zoo import hookimpl

        @hookimpl
        def register_quantizers(register):
            register("nowhere", "no_such_module:Class")
        """,
    )
    with pytest.raises(ZooError, match=r"quantizer 'nowhere' \(no_such_module:Class\) cannot be imported"):
        plugins.host().registry.quantizer("nowhere")


def test_numbers_that_do_not_fit_fail_the_plugin_with_the_line(install_plugin, family_yaml, capsys) -> None:
    install_plugin(
        "odd", REGISTER_FAMILY, family__yaml=family_yaml().replace("num_attention_heads: 4", "num_attention_heads: 3")
    )
    error = next(one.error for one in plugins.host().records if one.name == "odd")
    assert "family.yaml:8:" in error
    assert "not divisible" in error
    assert "odd" in capsys.readouterr().err


def test_a_fine_tune_is_three_lines(install_plugin, family_yaml) -> None:
    tune = "  - name: tuned\n    base: example-1b\n    weights: {hub: someone/tuned}\n"
    install_plugin("tune", REGISTER_FAMILY, family__yaml=family_yaml() + tune)
    registry = plugins.host().registry
    assert registry.model("tuned").architecture == registry.model("example-1b").architecture


def test_a_target_that_lacks_what_it_must_state_is_one_line(install_plugin) -> None:
    source = """
    from zoo import hookimpl

    @hookimpl
    def register_targets(register):
        register("old", "plugin_old:Old")

    class Old:
        precisions = {}
        operations = None
        emitter_version = 1
        needs_weights = False
        runnable = False
    """
    install_plugin("old", source)
    with pytest.raises(ZooError, match=r"^target 'old' \(plugin_old:Old\) does not state Options, engines, check$"):
        plugins.host().registry.target("old")


def test_a_quantizer_of_an_earlier_contract_is_named(monkeypatch) -> None:
    """One that says ``storage`` and packs for one kernel, as quantizers once did."""

    class Old:
        Options, precisions, needs_activations = None, ("int8",), False

        def storage(self, parameter): ...

        def quantize(self, parameter, slab, out, activations=None): ...

    monkeypatch.setitem(sys.modules, "plugin_old", SimpleNamespace(Old=Old))
    registry = Registry(quantizers={"old": "plugin_old:Old"})
    with pytest.raises(ZooError, match=r"^quantizer 'old' \(plugin_old:Old\) does not offer scheme$"):
        registry.quantizer("old")
