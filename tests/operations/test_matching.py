"""What a model needs is found from a few of its layers, once for all that ask."""

from __future__ import annotations

import pytest

from zoo.contracts import RepeatingLayers
from zoo.declarations.architecture import Architecture
from zoo.operations import matching
from zoo.operations.matching import needs
from zoo.operations.record import record
from zoo.plugins import host

MODELS = {
    model.full_name: model.architecture
    for model in host().registry.models()
    if model.architecture.num_hidden_layers < 33
}


@pytest.mark.parametrize("name", sorted(MODELS)[::5])
def test_a_few_layers_need_what_all_need(name) -> None:
    arch = MODELS[name]
    part = host().registry.architecture(arch.type)
    assert isinstance(part, RepeatingLayers)
    short = part.one_of_each_layer(arch)
    assert short.num_hidden_layers <= 2
    assert needs(record(part, short)) == needs(record(part, arch))


def test_one_of_each_type_of_layer_stays() -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "vocab_size": 320}
    types = ("full_attention",) * 5 + ("sliding_attention",)
    arch = Architecture(**sizes, num_hidden_layers=6, max_position_embeddings=64, sliding_window=8, layer_types=types)
    part = host().registry.architecture(arch.type)
    short = part.one_of_each_layer(arch)
    assert short.layer_types == ("full_attention", "sliding_attention")
    assert needs(record(part, short)) == needs(record(part, arch))
    assert "window" in str(needs(record(part, short))["attention"])


def test_the_same_numbers_are_recorded_once(monkeypatch) -> None:
    matching._remembered.clear()
    recorded = []
    monkeypatch.setattr(matching, "record", lambda *args: recorded.append(args) or record(*args))
    registry, arch = (
        host().registry,
        MODELS["llama/llama-33b"] if "llama/llama-33b" in MODELS else next(iter(MODELS.values())),
    )
    for _ in range(5):
        assert matching.missing(registry.architecture(arch.type), arch, registry.target("ort")) == []
    assert len(recorded) == 1
