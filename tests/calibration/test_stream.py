"""Calibrated builds end to end: packages that open, resume to the same bytes, and third-party quantizers."""

from __future__ import annotations

import hashlib
import shutil

import numpy as np
import pytest
from zoo_calibrated.gptq import Gptq

import zoo
from tests.checkpoints import make_checkpoint
from zoo.calibration import passes as passes_module
from zoo.calibration.passes import Passes
from zoo.calibration.states import STATES
from zoo.calibration.stream import CalibratedStream
from zoo.calibration.weights import read_package
from zoo.errors import UsageError, ZooError
from zoo.package.layout import lay_out
from zoo.plugins import host
from zoo.stages.build import build
from zoo.stages.resolve import Request, resolve

TOKENS = np.random.default_rng(0).integers(0, 331, (6, 40)).astype(np.int32)


def prepare(folder, precision="int4", quantizer="gptq", **options):
    """A recipe with its checkpoint, its calibration pinned by hand."""
    request = Request(
        str(folder), precision, quantizer=quantizer, quantizer_options={"block_size": 16, **options},
        calibration="tokens.txt", samples=6, sequence_length=40,
    )  # fmt: skip
    return resolve(host().registry, request)


def make(resolved, output, **more):
    return build(
        resolved.recipe,
        resolved.checkpoint,
        output,
        host().registry,
        calibration=TOKENS,
        warn=lambda line: None,
        **more,
    )


def contents(folder):
    return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in folder.iterdir()}


def logits_of(package, ids):
    """What the package computes for all positions."""
    from zoo.verify.candidate import Candidate

    candidate = Candidate(package)
    candidate.begin([ids])
    for layer in range(candidate.num_layers):
        candidate.step(layer, {})
    return candidate.logits(0, 0, len(ids))


SHAPES = {
    "GQA": {}, "MHA, tied": {"num_key_value_heads": 4, "tie_word_embeddings": True},
    "padded heads, biases": {"hidden_size": 40, "head_dim": 10, "attention_bias": True, "mlp_bias": True},
}  # fmt: skip


@pytest.mark.parametrize("quantizer", ["gptq", "awq"])
@pytest.mark.parametrize("shape", SHAPES)
def test_packages_compute_nearly_what_the_weights_do(tmp_path, quantizer, shape):
    import torch

    model = make_checkpoint(tmp_path / "m", **SHAPES[shape])
    package = make(prepare(tmp_path / "m", "int8", quantizer), tmp_path / "p")
    ids = np.random.default_rng(1).integers(0, 331, 30)
    with torch.no_grad():
        wanted = model(torch.from_numpy(ids[None])).logits[0].numpy()
    found = logits_of(package.path, ids)
    assert np.abs(found - wanted).mean() < 0.05 * wanted.std()
    assert {one.name for one in tmp_path.iterdir() if one.name.startswith(".")} == set()
    zoo.open(package.path).generate([1, 2, 3], max_new_tokens=3)


@pytest.mark.parametrize("options", [{}, {"true_sequential": True}, {"symmetric": False}, {"activation_order": False}])
def test_gptq_loses_less_than_rounding_on_its_own_samples(tmp_path, options):
    import torch

    model = make_checkpoint(tmp_path / "m", num_hidden_layers=3)
    with torch.no_grad():
        wanted = model(torch.from_numpy(TOKENS.astype(np.int64))).logits
    lost = {}
    for quantizer in ("gptq", "rtn"):
        name = "rtn" if quantizer == "rtn" else "gptq"
        own = {key: value for key, value in options.items() if quantizer == "gptq" or key == "symmetric"}
        request = Request(
            str(tmp_path / "m"), "int4", quantizer=name, quantizer_options={"block_size": 16, **own}, smoothing="none"
        )
        resolved = prepare(tmp_path / "m", **own) if quantizer == "gptq" else resolve(host().registry, request)
        package = make(resolved, tmp_path / name)
        found = np.stack([logits_of(package.path, ids.astype(np.int64)) for ids in TOKENS])
        lost[name] = float(((found - wanted.numpy()) ** 2).mean())
    assert lost["gptq"] < 0.75 * lost["rtn"]


def test_the_next_layer_sees_what_was_stored(tmp_path, monkeypatch):
    """Hidden states after a layer are those of its stored weights, not of its original ones."""
    make_checkpoint(tmp_path / "m")
    seen = {}
    original = Passes.advance

    def advance(self, index, segment, weights, mixture):
        seen[index] = {name: one.copy() for name, one in weights.items()}
        return original(self, index, segment, weights, mixture)

    monkeypatch.setattr(Passes, "advance", advance)
    resolved = prepare(tmp_path / "m")
    package = make(resolved, tmp_path / "p")
    layout = lay_out(resolved.recipe, host().registry)
    for one in layout.placed:
        if one.parameter.layer is not None:
            stored = read_package(layout, package.path, one)
            np.testing.assert_array_equal(seen[one.parameter.layer + 1][one.parameter.name], stored)


@pytest.mark.parametrize("quantizer", ["gptq", "awq"])
@pytest.mark.parametrize("after", [1, 4, 9, 20])
def test_interrupted_builds_go_on_to_the_same_bytes(tmp_path, monkeypatch, quantizer, after):
    make_checkpoint(tmp_path / "m", num_hidden_layers=3)
    resolved = prepare(tmp_path / "m", quantizer=quantizer)
    reference = contents(make(resolved, tmp_path / "reference").path)
    stored = []
    original = CalibratedStream._store

    def store(self, placed, layer, values):
        if len(stored) == after:
            raise ZooError("the test pulls the plug")
        stored.append(placed.parameter.name)
        return original(self, placed, layer, values)

    with monkeypatch.context() as patch:
        patch.setattr(CalibratedStream, "_store", store)
        with pytest.raises(ZooError, match="pulls the plug"):
            make(resolved, tmp_path / "p")
    assert not (tmp_path / "p").exists()
    assert not (tmp_path / ".p.partial" / STATES).exists()
    again = []
    with monkeypatch.context() as patch:
        patch.setattr(
            CalibratedStream,
            "_store",
            lambda self, *rest: (again.append(rest[0].parameter.name), original(self, *rest)),
        )
        make(resolved, tmp_path / "p")
    assert contents(tmp_path / "p") == reference
    if after >= 9:
        assert not any(name.startswith("model.layers.0.") for name in again)


def test_weights_that_are_no_numbers_are_named(tmp_path):
    from safetensors.numpy import load_file, save_file

    make_checkpoint(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = np.nan
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ZooError, match=r"model\.layers\.1\.mlp\.up_proj\.weight.* NaN"):
        make(prepare(tmp_path / "m"), tmp_path / "p")


def test_signals_end_it_between_two_steps(tmp_path, monkeypatch):
    import os
    import signal

    make_checkpoint(tmp_path / "m")
    resolved = prepare(tmp_path / "m")
    original = Passes.advance

    def advance(self, index, segment, weights, mixture):
        if index == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, index, segment, weights, mixture)

    with monkeypatch.context() as patch:
        patch.setattr(Passes, "advance", advance)
        with pytest.raises(ZooError, match="same command continues") as caught:
            make(resolved, tmp_path / "p")
    assert caught.value.exit_code == 128 + signal.SIGTERM
    assert make(resolved, tmp_path / "p").path.exists()


def test_progress_names_layers(tmp_path):
    make_checkpoint(tmp_path / "m")
    seen = []
    make(prepare(tmp_path / "m"), tmp_path / "p", progress=seen.append)
    assert {one.layer for one in seen} == {None, 0, 1}
    assert seen[-1].bytes_done == seen[-1].bytes_total
    assert [one.bytes_done for one in seen] == sorted(one.bytes_done for one in seen)


def test_no_data_is_one_line(tmp_path):
    make_checkpoint(tmp_path / "m")
    with pytest.raises(UsageError, match=r"'gptq' needs calibration data; give --calibration NAME .* PATH"):
        build(prepare(tmp_path / "m").recipe, prepare(tmp_path / "m").checkpoint, tmp_path / "p", host().registry)


THIRD = '''
import numpy as np
from zoo import hookimpl
from zoo.quantizers.rtn import Rtn


class Weighted(Rtn):
    """Rounds like rtn, after making the strongest input channel of each linear twice as fine."""

    needs_activations = True
    seen = []

    def fold(self, layer):
        for link in layer.links:
            power = layer.hessian(link.consumers[0]).diagonal()
            scales = np.ones(len(link.rows), np.float32)
            scales[link.rows == link.rows[int(power.argmax())]] = 2
            layer.fold(link, scales)
            self.seen.append((link.source.name, layer.tokens))

    def quantize(self, parameter, slab, out, activations=None):
        if activations is not None:
            assert activations.hessian(parameter).shape == (slab.columns, slab.columns)
        super().quantize(parameter, slab, out)


@hookimpl
def register_quantizers(register):
    register("weighted", "plugin_third:Weighted")
'''


def test_a_third_party_quantizer_through_the_hook(tmp_path, install_plugin):
    install_plugin("third", THIRD)
    make_checkpoint(tmp_path / "m")
    package = make(prepare(tmp_path / "m", "int8", "weighted"), tmp_path / "p")
    import plugin_third

    assert plugin_third.Weighted.seen[0] == ("model.layers.0.input_layernorm.weight", TOKENS.size)
    assert len(plugin_third.Weighted.seen) == 8
    rounded = zoo.build(tmp_path / "m", "int8", output=tmp_path / "r", quantizer_options={"block_size": 16})
    ids = TOKENS[0].astype(np.int64)
    one, two = logits_of(package.path, ids), logits_of(rounded.path, ids)
    assert not np.array_equal(one, two)
    assert np.abs(one - two).mean() < 0.05 * two.std()


def test_long_samples_and_batches_agree(tmp_path, monkeypatch):
    make_checkpoint(tmp_path / "m")
    resolved = prepare(tmp_path / "m", "int8")
    make(resolved, tmp_path / "one")
    monkeypatch.setattr(passes_module, "BATCH", 1)
    make(resolved, tmp_path / "two")
    ids = TOKENS[0].astype(np.int64)
    np.testing.assert_allclose(logits_of(tmp_path / "one", ids), logits_of(tmp_path / "two", ids), atol=0.2)
    shutil.rmtree(tmp_path / "one")


def test_gptq_options_reach_the_recipe(tmp_path):
    make_checkpoint(tmp_path / "m")
    recipe = prepare(tmp_path / "m", damping=0.05).recipe
    assert recipe.quantizer.options["damping"] == 0.05
    assert recipe.quantizer.options["activation_order"] is True
    assert isinstance(lay_out(recipe, host().registry).quantizer, Gptq)
