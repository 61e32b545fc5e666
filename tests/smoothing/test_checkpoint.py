"""Rescaled checkpoints: the same function, whoever reads in whatever order, and less lost by rounding."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from tests.checkpoints import make_checkpoint, make_of_type
from tests.operations.computing import HIDDEN, language_model, reference, weight
from tests.operations.computing import values as values_of
from zoo.calibration.weights import read_float32
from zoo.contracts import TensorInfo, flat_shape
from zoo.declarations.recipe import SmoothingPin
from zoo.operations.compute import compute_program
from zoo.package.layout import lay_out
from zoo.plugins import host
from zoo.quantizers.slab import Scratch
from zoo.smoothing.checkpoint import SmoothedCheckpoint, balance
from zoo.smoothing.checkpoint import smoothed as smoothed_as_stated
from zoo.smoothing.plan import plan_smoothing
from zoo.stages.resolve import Request, resolve

torch = pytest.importorskip("torch")

MODELS = {
    "llama": {},
    "llama, tied": {"tie_word_embeddings": True},
    "llama, padded heads": {"hidden_size": 40, "head_dim": 10},
    "llama, biases": {"attention_bias": True, "mlp_bias": True},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "gemma": {"head_dim": 16},
}
PIN = SmoothingPin(tokens=8)


def opened(folder):
    """A checkpoint and its layout for the default target."""
    resolved = resolve(host().registry, Request(model=str(folder), precision="fp32"))
    return resolved.checkpoint, lay_out(resolved.recipe, host().registry)


def smoothed(folder, name="llama", dtype="float32", fit=None):
    """A new checkpoint of a kind, its computation, and the same checkpoint rescaled."""
    make_of_type(folder, name.partition(",")[0], dtype=dtype, num_hidden_layers=2, **MODELS[name])
    checkpoint, layout = opened(folder)
    plan = plan_smoothing(layout.program, by_inputs=fit is not None)
    assert plan is not None
    return checkpoint, layout, SmoothedCheckpoint(checkpoint, plan, PIN.model_copy(update={"fit": fit}))


def logits(layout, checkpoint):
    scratch = Scratch()
    weights = {one.name: torch.from_numpy(read_float32(one, checkpoint, scratch)) for one in layout.graph}
    return compute_program(layout.program, list(range(3, 20)), weights).numpy()


@pytest.mark.parametrize("fit", [None, (0.3, 0.6)])
@pytest.mark.parametrize("name", MODELS)
def test_the_function_stays(tmp_path, name, fit):
    checkpoint, layout, rescaled = smoothed(tmp_path / "m", name, fit=fit)
    wanted, got = logits(layout, checkpoint), logits(layout, rescaled)
    np.testing.assert_allclose(got, wanted, atol=1e-4 * wanted.std(), rtol=1e-4)
    changed = [
        one for one in checkpoint.tensors
        if not np.allclose(values(checkpoint, one), values(rescaled, one), rtol=1e-3, atol=0)
    ]  # fmt: skip
    assert any("norm" in one for one in changed)
    assert any("down_proj" in one for one in changed)


def test_a_head_whose_rows_are_divided_by_their_lengths_is_left_alone(tmp_path):
    make_of_type(tmp_path / "in", "llama", dtype="float32", num_hidden_layers=2)
    checkpoint, layout = opened(tmp_path / "in")
    arch = layout.recipe.architecture.model_copy(update={"normalized_head": True})
    layout = lay_out(layout.recipe.model_copy(update={"architecture": arch}), host().registry)
    rescaled = SmoothedCheckpoint(checkpoint, plan_smoothing(layout.program), PIN)
    expected = logits(layout, checkpoint)
    np.testing.assert_allclose(logits(layout, rescaled), expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_a_tied_head_is_rescaled_and_its_lookups_are_not(tmp_path):
    make_checkpoint(tmp_path / "m", tie_word_embeddings=True)
    resolved = resolve(host().registry, Request(model=str(tmp_path / "m"), smoothing="always"))
    layout, checkpoint = lay_out(resolved.recipe, host().registry), resolved.checkpoint
    rescaled = smoothed_as_stated(layout, checkpoint)
    embedding, norm = "model.embed_tokens.weight", "model.norm.weight"
    scales = values(checkpoint, norm) / values(rescaled, norm)
    assert scales.max() > 1.05 * scales.min()
    np.testing.assert_allclose(values(rescaled, embedding), values(checkpoint, embedding) * scales, rtol=1e-5)
    assert [one.name for one in layout.graph if one.derived] == ["model.embed_tokens.channels"]
    wanted = logits(lay_out(opened(tmp_path / "m")[1].recipe, host().registry), checkpoint)
    np.testing.assert_allclose(logits(layout, rescaled), wanted, atol=1e-4 * wanted.std(), rtol=1e-4)


def values(checkpoint, name):
    rows = checkpoint.read(name, 0, flat_shape(checkpoint.tensors[name].shape)[0])
    return np.asarray(rows, np.float32) if rows.dtype != np.uint16 else (rows.astype(np.uint32) << 16).view(np.float32)


def test_norms_are_balanced_by_what_the_tokens_excite(tmp_path):
    """The scales follow from inputs that transformers computes."""
    import random

    model = make_checkpoint(tmp_path / "m")
    checkpoint, layout = opened(tmp_path / "m")
    rescaled = SmoothedCheckpoint(checkpoint, plan_smoothing(layout.program), PIN)
    draw = random.Random(PIN.seed)
    ids = torch.tensor([[draw.randrange(331) for _ in range(PIN.tokens)]])
    excited = {}
    for index, layer in enumerate(model.model.layers):
        for role, linear in (
            ("input_layernorm", layer.self_attn.q_proj),
            ("post_attention_layernorm", layer.mlp.up_proj),
        ):
            linear.register_forward_pre_hook(
                lambda _, given, key=(index, role): excited.update({key: given[0][0].pow(2).mean(0).sqrt().numpy()})
            )
    with torch.no_grad():
        model(ids)
    for (index, role), sizes in excited.items():
        prefix = f"model.layers.{index}."
        readers = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
        readers = readers if role == "input_layernorm" else ("mlp.gate_proj", "mlp.up_proj")
        read = np.concatenate([values(checkpoint, f"{prefix}{one}.weight") for one in readers])
        scales = balance(sizes.astype(np.float64), np.sqrt(np.square(read).mean(0, dtype=np.float64)))
        name = f"{prefix}{role}.weight"
        np.testing.assert_allclose(values(checkpoint, name) / values(rescaled, name), scales, rtol=0.05)


def test_readers_in_any_order_and_number_see_the_same(tmp_path):
    checkpoint, layout, rescaled = smoothed(tmp_path / "m", dtype="bfloat16")
    wanted = {name: values(rescaled, name).copy() for name in checkpoint.tensors}
    plan = plan_smoothing(layout.program)
    backwards = SmoothedCheckpoint(checkpoint, plan, PIN)
    for name in reversed(checkpoint.tensors):
        assert np.array_equal(values(backwards, name), wanted[name])
    together, found = SmoothedCheckpoint(checkpoint, plan, PIN), {}

    def read(names):
        for name in names:
            rows = flat_shape(checkpoint.tensors[name].shape)[0]
            pieces = [np.array(together.read(name, one, min(one + 7, rows))) for one in range(0, rows, 7)]
            found[name] = np.concatenate(pieces)

    names = list(checkpoint.tensors)
    threads = [threading.Thread(target=read, args=(names[at::3],)) for at in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(np.array_equal(found[name].reshape(-1), values(rescaled, name).reshape(-1)) for name in names
               if found[name].dtype == np.float32)  # fmt: skip


class Arrays:
    """A checkpoint in memory."""

    def __init__(self, values):
        self.values = values
        self.tensors = {name: TensorInfo(name, "F32", one.shape, one.nbytes) for name, one in values.items()}

    def read(self, name, start, stop, out=None):
        one = self.values[name]
        return one.reshape(flat_shape(one.shape))[start:stop].reshape(-1 if one.ndim < 2 else (stop - start, -1)).copy()


def side_by_side(activation):
    """Attention and an MLP that read one LayerNorm."""

    def compose(ops, ids, x):
        x = ops.activation("before", x, activation)
        normed = ops.layer_norm(
            "norm", x, weight("norm", HIDDEN, kind="norm"), weight("norm.bias", HIDDEN, kind="bias")
        )
        qkv = ops.linear("qkv", normed, weight("qkv", 4 * 16 + 2 * 2 * 16, HIDDEN))
        mixed = ops.attention("attn", qkv, num_heads=4, num_kv_heads=2, head_dim=16, scale=0.25)
        gate, up = (ops.linear(name, normed, weight(name, 80, HIDDEN)) for name in ("gate", "up"))
        wide = ops.multiply("mul", ops.activation("act", gate, activation), up)
        x = ops.add("sum", x, ops.linear("o", mixed, weight("o", HIDDEN, 64)))
        return ops.add("sum2", x, ops.linear("down", wide, weight("down", HIDDEN, 80)))

    return language_model(compose)


def test_a_norm_with_a_bias_that_two_branches_read(tmp_path):
    program = side_by_side("gelu")
    before = values_of(program)
    rescaled = SmoothedCheckpoint(Arrays(before), plan_smoothing(program), PIN)
    after = {name: values(rescaled, name).reshape(one.shape) for name, one in before.items()}
    assert all(
        not np.allclose(before[name], after[name]) for name in ("norm", "norm.bias", "qkv", "gate", "up", "down")
    )
    assert all(np.array_equal(before[name], after[name]) for name in ("embed", "o", "head"))
    ids = np.arange(19)[None]
    np.testing.assert_allclose(reference(program, after, ids), reference(program, before, ids), atol=1e-4)


def test_a_computation_that_is_not_followed_is_left_alone():
    assert plan_smoothing(side_by_side("gelu")) is not None
    assert plan_smoothing(side_by_side("tanh")) is None


def test_channels_without_size_are_left_alone():
    scales = balance(np.array([0.0, 1.0, 1.0]), np.array([1.0, 0.0, 1.0]))
    assert np.isfinite(scales).all()
    assert (scales > 0).all()
    assert np.array_equal(balance(np.zeros(3), np.zeros(3)), np.ones(3))


def test_tensors_whose_levels_are_taken_over_keep_their_values(tmp_path):
    checkpoint, layout, _ = smoothed(tmp_path / "m")
    kept = "model.layers.0.mlp.gate_proj.weight"
    plan = plan_smoothing(layout.program, {kept})
    assert plan is not None
    rescaled = SmoothedCheckpoint(checkpoint, plan, PIN)
    np.testing.assert_array_equal(values(rescaled, kept), values(checkpoint, kept))
    other = "model.layers.1.mlp.gate_proj.weight"
    assert not np.allclose(values(rescaled, other), values(checkpoint, other), rtol=1e-3, atol=0)
    wanted = logits(layout, checkpoint)
    np.testing.assert_allclose(logits(layout, rescaled), wanted, atol=1e-4 * wanted.std(), rtol=1e-4)
    assert plan_smoothing(layout.program, set(checkpoint.tensors)) is None
