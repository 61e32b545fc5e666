"""Tensors of a checkpoint and the weights of the graph that they become."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.decoder.test_config import SMALL, read
from zoo.contracts import HeadPadding
from zoo.decoder import Decoder

VARIATIONS: list[dict[str, Any]] = [
    {},
    {"num_key_value_heads": 2, "attention_bias": True},
    {"num_key_value_heads": 1, "head_dim": 8, "mlp_bias": True},
    {"tie_word_embeddings": True, "head_dim": 32},
]


@pytest.mark.parametrize("numbers", VARIATIONS)
def test_tensors_are_those_of_transformers(numbers: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL, **numbers))
    held = {name: tuple(values.shape) for name, values in model.state_dict().items()}
    if numbers.get("tie_word_embeddings"):
        del held["lm_head.weight"]
    assert Decoder().tensors(read(**numbers)) == held


@pytest.mark.parametrize("numbers", VARIATIONS)
def test_parameters_read_every_tensor_once(numbers: dict[str, Any]) -> None:
    arch = read(**numbers)
    for multiple in (1, 16):
        parameters = Decoder().parameters(arch, multiple)
        read_tensors = [each.tensor for one in parameters for each in one.slices]
        assert sorted(read_tensors) == sorted(Decoder().tensors(arch))
        assert len({one.name for one in parameters}) == len(parameters)
    plain = sum(math.prod(one.shape) for one in Decoder().parameters(arch))
    assert plain == sum(math.prod(shape) for shape in Decoder().tensors(arch).values())


def test_packed_attention_is_padded_a_head_at_a_time() -> None:
    by_role = {
        one.role: one for one in Decoder().parameters(read(num_key_value_heads=2, head_dim=20), 16) if not one.layer
    }
    packed = by_role["attn.qkv_proj"]
    assert packed.shape == ((4 + 2 + 2) * 32, 64)
    assert [each.pad_rows for each in packed.slices] == [
        HeadPadding(4, 20, 32, rotary=True),
        HeadPadding(2, 20, 32, rotary=True),
        HeadPadding(2, 20, 32, rotary=False),
    ]
    assert by_role["attn.o_proj"].shape == (64, 4 * 32)
    assert by_role["attn.o_proj"].slices[0].tensor_shape == (64, 4 * 20)


def test_buffers_and_second_copies_stay_unread() -> None:
    decoder, tied, apart = Decoder(), read(tie_word_embeddings=True), read()
    assert decoder.ignored(apart, "model.layers.3.self_attn.rotary_emb.inv_freq")
    assert decoder.ignored(apart, "model.rotary_emb.inv_freq")
    assert not decoder.ignored(apart, "model.layers.3.self_attn.q_proj.weight_scale")
    assert decoder.ignored(tied, "lm_head.weight")
    assert not decoder.ignored(apart, "lm_head.weight")
