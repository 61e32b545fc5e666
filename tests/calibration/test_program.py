"""The recorded computation is what transformers computes, layer by layer."""

from __future__ import annotations

import numpy as np
import pytest

from tests.checkpoints import make_checkpoint
from zoo.calibration.execute import Executor
from zoo.calibration.program import cut
from zoo.calibration.weights import read_float32
from zoo.declarations.licence import UNKNOWN_LICENCE
from zoo.declarations.recipe import QuantizerChoice, Recipe, TargetChoice, WeightsPin
from zoo.package.layout import lay_out
from zoo.plugins import host
from zoo.quantizers.slab import Scratch
from zoo.sources.folder import open_folder

SHAPES = {
    "GQA": {},
    "MHA": {"num_key_value_heads": 4},
    "MQA": {"num_key_value_heads": 1},
    "padded heads": {"hidden_size": 40, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 10},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "tied": {"tie_word_embeddings": True},
    "gelu": {"hidden_act": "gelu_pytorch_tanh"},
}


def opened(folder, precision="fp32", quantizer="float", **options):
    """A checkpoint, its layout for the default target, and its recipe."""
    checkpoint = open_folder(folder)
    registry = host().registry
    arch = registry.architecture("decoder").read_config(checkpoint.config)
    recipe = Recipe(
        model="m", licence=UNKNOWN_LICENCE, weights=WeightsPin(digest=checkpoint.digest), architecture=arch,
        precision=precision, quantizer=QuantizerChoice(name=quantizer, options=options),
        target=TargetChoice(name="ort"),
    )  # fmt: skip
    return checkpoint, lay_out(recipe, registry)


@pytest.mark.parametrize("shape", SHAPES)
def test_parity_with_transformers(tmp_path, shape):
    import torch

    model = make_checkpoint(tmp_path / "m", **SHAPES[shape])
    checkpoint, layout = opened(tmp_path / "m")
    program = cut(layout.program)
    assert len(program.layers) == 2
    scratch, executor = Scratch(), Executor()
    weights = {
        one.parameter.name: torch.from_numpy(read_float32(one.parameter, checkpoint, scratch)) for one in layout.placed
    }
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 331, (3, 29)))
    with torch.no_grad():
        wanted = model(ids, output_hidden_states=True)
        state = ids
        for index, segment in enumerate((program.before, *program.layers)):
            state = executor.run(segment, state, weights)
            if index < 2:  # transformers gives the last ones after the norm
                torch.testing.assert_close(state, wanted.hidden_states[index], atol=2e-4, rtol=2e-4)
        logits = executor.run(program.after, state, weights)
    torch.testing.assert_close(logits, wanted.logits, atol=1e-3, rtol=1e-3)


def test_groups_share_their_inputs(tmp_path):
    make_checkpoint(tmp_path / "m")
    _, layout = opened(tmp_path / "m")
    program = cut(layout.program)
    roles = [[one.role for one in group] for group in program.layers[1].groups]
    assert roles == [["attn.qkv_proj"], ["attn.o_proj"], ["mlp.gate_proj", "mlp.up_proj"], ["mlp.down_proj"]]
    assert [[one.role for one in group] for group in program.after.groups] == [["lm_head"]]


def test_only_what_is_wanted_is_computed(tmp_path):
    import torch

    make_checkpoint(tmp_path / "m")
    checkpoint, layout = opened(tmp_path / "m")
    program = cut(layout.program)
    layer, scratch = program.layers[0], Scratch()
    needed = {"input_layernorm", "attn.qkv_proj"}
    weights = {
        one.parameter.name: torch.from_numpy(read_float32(one.parameter, checkpoint, scratch))
        for one in layout.placed
        if one.parameter.layer == 0 and one.parameter.role in needed
    }
    seen = []
    wanted = layer.groups[1][0]
    state = torch.randn(1, 5, 64)
    result = Executor().run(layer, state, weights, lambda parameter, x: seen.append((parameter, x)), {wanted.name})
    assert result is None
    assert [(parameter.name, tuple(x.shape)) for parameter, x in seen] == [(wanted.name, (5, 64))]
