"""Builds that rescale: the same bytes however they ran, and closer to the original than those that do not."""

from __future__ import annotations

import hashlib
import shutil

import numpy as np
import pytest

import zoo
from tests.checkpoints import make_checkpoint
from tests.stages.test_calibrate import add_tokenizer, words
from zoo.errors import UsageError, ZooError
from zoo.package import slabs as slabs_module
from zoo.quantizers import slab as slab_module
from zoo.quantizers.rtn import Rtn

pytest.importorskip("torch")


def data(package):
    return hashlib.sha256((package.path / "model.onnx.data").read_bytes()).hexdigest()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A checkpoint whose norms make a few large channels, as training does; weights in many slabs."""
    import torch

    model = make_checkpoint(tmp_path / "m", tie_word_embeddings=True, num_hidden_layers=3)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.input_layernorm.weight[::16] *= 20
            layer.self_attn.q_proj.weight[:, ::16] /= 20
            layer.self_attn.k_proj.weight[:, ::16] /= 20
            layer.self_attn.v_proj.weight[:, ::16] /= 20
    model.save_pretrained(tmp_path / "m")
    monkeypatch.setattr(slabs_module, "SLAB", 4096)
    monkeypatch.setattr(slabs_module, "TILE", 256)
    monkeypatch.setattr(slab_module, "TILE", 256)
    return tmp_path / "m"


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_threads_and_interruptions_leave_no_trace(folder, tmp_path, monkeypatch, precision):
    quantize, seen = Rtn.quantize, []

    def counting(*args):
        seen.append(1)
        if len(seen) == fails_at:
            raise ZooError("power cut")
        return quantize(*args)

    monkeypatch.setattr(Rtn, "quantize", counting)
    fails_at = None
    wanted = data(zoo.build(folder, precision, output=tmp_path / "one", smoothing="always", threads=1))
    slabs = len(seen)
    assert data(zoo.build(folder, precision, output=tmp_path / "many", smoothing="always", threads=5)) == wanted
    fails_at = len(seen) + slabs // 2
    with pytest.raises(ZooError, match="power cut"):
        zoo.build(folder, precision, output=tmp_path / "cut", smoothing="always", threads=2)
    seen.clear()
    package = zoo.build(folder, precision, output=tmp_path / "cut", smoothing="always", threads=2)
    assert len(seen) < 0.8 * slabs, "what was finished was quantized again"
    assert data(package) == wanted


def test_the_recipe_states_it(folder, tmp_path):
    plain = zoo.build(folder, "int8", output=tmp_path / "plain", smoothing="none").manifest
    package = zoo.build(folder, "int8", output=tmp_path / "smooth", smoothing="always").manifest
    assert package.recipe.smoothing is not None
    assert plain.recipe.smoothing is None
    assert package.recipe_hash != plain.recipe_hash
    assert package.inputs == plain.inputs
    assert package.parameters == plain.parameters
    assert package.files["model.onnx.data"].size < plain.files["model.onnx.data"].size + 8192


@pytest.mark.parametrize(("precision", "quantizer"), [("int8", None), ("int4", None), ("int4", "gptq")])
def test_outliers_cost_less(folder, tmp_path, precision, quantizer):
    import torch
    from transformers import LlamaForCausalLM

    options = {}
    if quantizer is not None:
        (tmp_path / "text.txt").write_text(words(600))
        options = {"quantizer": quantizer, "calibration": tmp_path / "text.txt", "samples": 9, "sequence_length": 32}
        folder = add_tokenizer(shutil.copytree(folder, tmp_path / "model"))
    ids = np.random.default_rng(0).integers(0, 331, 64).tolist()
    with torch.no_grad():
        wanted = LlamaForCausalLM.from_pretrained(folder)(torch.tensor([ids])).logits[0].log_softmax(-1).numpy()
    lost = {}
    for smoothing in ("none", "always"):
        package = zoo.build(folder, precision, output=tmp_path / smoothing, smoothing=smoothing, **options)
        scored = zoo.open(package.path).logits(ids)
        own = scored - np.log(np.exp(scored).sum(-1, keepdims=True))
        lost[smoothing] = float((np.exp(wanted) * (wanted - own)).sum(-1).mean())
    assert lost["always"] < 0.5 * lost["none"]


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_floats_are_left_alone(folder, tmp_path, precision):
    assert zoo.build(folder, precision, output=tmp_path / "p", smoothing="auto").manifest.recipe.smoothing is None
    with pytest.raises(UsageError, match="--smoothing always"):
        zoo.build(folder, precision, output=tmp_path / "q", smoothing="always")


def test_other_words_are_refused(folder):
    with pytest.raises(UsageError, match="auto, always, none"):
        zoo.build(folder, "int8", smoothing="some")


@pytest.mark.parametrize(
    ("layers", "options", "raised"),
    [
        (17, {}, ["*.layers.0.*", "*.layers.1.*", "*.layers.15.*", "*.layers.16.*", "attn.qkv_proj"]),
        (15, {}, []),
        (17, {"quantizer_options": {"keep": {"lm_head": "int8"}}}, ["lm_head"]),
    ],
)
def test_a_deep_narrow_model_gets_8_bits_at_its_ends(tmp_path, layers, options, raised):
    make_checkpoint(tmp_path / "m", num_hidden_layers=layers)
    recipe = zoo.plan(tmp_path / "m", "int4", **options).recipe
    assert sorted(recipe.quantizer.options["keep"]) == raised
    assert set(recipe.quantizer.options["keep"].values()) <= {"int8"}
