"""Rescaling of channels: where it is possible, and that the layer computes the same after it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.calibration.test_program import SHAPES, opened
from tests.checkpoints import make_checkpoint
from zoo.calibration.execute import Executor
from zoo.calibration.layer import Layer
from zoo.calibration.program import cut
from zoo.calibration.weights import read_float32
from zoo.errors import ZooError
from zoo.quantizers.slab import Scratch


def first_layer(folder, **numbers):
    """The first layer of a new checkpoint: (segment, weights, layer)."""
    import torch

    make_checkpoint(folder, **numbers)
    checkpoint, layout = opened(folder)
    program = cut(layout.program)
    scratch = Scratch()
    weights = {
        one.parameter.name: read_float32(one.parameter, checkpoint, scratch)
        for one in layout.placed
        if one.parameter.layer == 0
    }
    segment = program.layers[0]
    return segment, weights, Layer(segment, weights, torch, "cpu")


def compute(segment, weights, state, observe=None):
    import torch

    with torch.no_grad():
        return Executor().run(segment, state, {name: torch.from_numpy(one) for name, one in weights.items()}, observe)


@pytest.mark.parametrize("shape", ["GQA", "MHA", "MQA", "padded heads", "biases", "gelu"])
def test_folding_keeps_the_function(tmp_path, shape):
    import torch

    segment, weights, layer = first_layer(tmp_path / "m", **SHAPES[shape])
    hidden = weights["model.layers.0.input_layernorm.weight"].shape[0]
    state = torch.randn(2, 17, hidden, generator=torch.Generator().manual_seed(1))
    before = compute(segment, weights, state, layer.observe)
    links = layer.links
    names = [(link.source.role, link.consumers[0].role, len(link.consumers)) for link in links]
    assert names == [
        ("input_layernorm", "attn.qkv_proj", 1), ("attn.qkv_proj", "attn.o_proj", 1),
        ("post_attention_layernorm", "mlp.gate_proj", 2), ("mlp.up_proj", "mlp.down_proj", 1),
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    for link in links:
        shared = rng.uniform(0.25, 4, layer.weight(link.source).shape[0]).astype(np.float32)
        old = layer.weight(link.consumers[0]).copy()
        layer.fold(link, shared[link.rows])
        assert not np.array_equal(old, layer.weight(link.consumers[0]))
    torch.testing.assert_close(compute(segment, weights, state), before, atol=2e-4, rtol=2e-4)
    # The statistics follow: they are those of the rescaled inputs.
    again = Layer(segment, weights, torch, "cpu")
    compute(segment, weights, state, again.observe)
    for group in segment.groups:
        np.testing.assert_allclose(layer.hessian(group[0]), again.hessian(group[0]), rtol=1e-3, atol=1e-3)


def test_scales_that_are_not_exact_are_refused(tmp_path):
    _, weights, layer = first_layer(tmp_path / "m")
    values = layer.links[1]
    scales = np.arange(1, len(values.rows) + 1, dtype=np.float32)  # differ between heads that share their values
    before = {name: one.copy() for name, one in weights.items()}
    for bad in (scales, np.zeros_like(scales), -np.ones_like(scales), np.full_like(scales, np.nan)):
        with pytest.raises(ZooError, match=r"attn\.qkv_proj.*not exact"):
            layer.fold(values, bad)
    assert all(np.array_equal(before[name], one) for name, one in weights.items())


def test_hessians_add_up_over_batches(tmp_path):
    import torch

    segment, weights, layer = first_layer(tmp_path / "m")
    state = torch.randn(4, 9, 64, generator=torch.Generator().manual_seed(2))
    inputs = {}
    compute(segment, weights, state, lambda parameter, x: inputs.setdefault(parameter.name, x.numpy()))
    for part in (state[:1], state[1:]):
        compute(segment, weights, part, layer.observe)
    for group in segment.groups:
        x = inputs[group[0].name].astype(np.float64)
        np.testing.assert_allclose(layer.hessian(group[-1]), x.T @ x, rtol=1e-3, atol=1e-3)
    with pytest.raises(ZooError, match="nothing was observed"):
        Layer(segment, weights, torch, "cpu").hessian(segment.groups[0][0])


def test_inputs_that_are_no_numbers_are_named(tmp_path):
    import torch

    segment, weights, layer = first_layer(tmp_path / "m")
    weights["model.layers.0.mlp.up_proj.weight"][...] = 3e38
    compute(segment, weights, torch.randn(1, 4, 64), layer.observe)
    with pytest.raises(ZooError, match=r"layers\.0\.mlp\.down_proj\.weight: its inputs .* NaN or overflow"):
        layer.check()


def test_a_hessian_wider_than_a_panel_is_whole(tmp_path, monkeypatch):
    import torch

    from zoo.calibration import layer as layers

    monkeypatch.setattr(layers, "PANEL", 24)
    segment, weights, layer = first_layer(tmp_path / "m")
    seen: dict[str, torch.Tensor] = {}

    def observe(parameter, x):
        seen[parameter.name] = x
        layer.observe(parameter, x)

    hidden = weights["model.layers.0.input_layernorm.weight"].shape[0]
    compute(segment, weights, torch.randn(1, 40, hidden, generator=torch.Generator().manual_seed(2)), observe)
    for group in segment.groups:
        x = seen[group[0].name]
        found = layer.hessian(group[0])
        np.testing.assert_allclose(found, (x.T @ x).numpy(), rtol=1e-4, atol=1e-4)
