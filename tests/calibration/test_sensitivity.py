"""The predicted KL of storing one weight in fewer bits, against what a model that does it really loses."""

from __future__ import annotations

import numpy as np
import pytest

from tests.calibration.test_program import SHAPES, opened
from tests.checkpoints import make_checkpoint
from zoo.calibration.execute import Executor
from zoo.calibration.program import cut
from zoo.calibration.sensitivity import measure, rounding_error
from zoo.calibration.weights import read_float32
from zoo.declarations.scheme import BlockScheme, FloatScheme
from zoo.errors import ZooError
from zoo.quantizers.slab import Scratch

INT4 = BlockScheme(bits=4, block_size=32, symmetric=False)
INT8 = BlockScheme(bits=8, block_size=32, symmetric=True)
TOKENS = np.random.default_rng(1).integers(0, 331, (24, 40)).astype(np.int32)


def matrices(layout):
    return [one.parameter for one in layout.placed if one.parameter.kind in ("linear", "embedding")]


@pytest.mark.parametrize("shape", ["GQA", "padded heads", "biases", "tied"])
def test_it_predicts_what_is_lost(tmp_path, shape):
    import torch

    make_checkpoint(tmp_path / "m", initializer_range=0.1, **SHAPES[shape])
    checkpoint, layout = opened(tmp_path / "m")
    names = [one.name for one in matrices(layout)]
    steps = []
    found = measure(
        layout, checkpoint, TOKENS, dict.fromkeys(names, (INT4, INT8)), tmp_path,
        progress=lambda done, of: steps.append((done, of)),
    )  # fmt: skip
    assert steps == [(one, 7) for one in range(1, 8)]  # three forward, four back
    assert sorted(one.name for one in tmp_path.iterdir()) == ["m"]  # the states are gone
    program = cut(layout.program)
    weights = {one.parameter.name: read_float32(one.parameter, checkpoint, Scratch()) for one in layout.placed}
    executor = Executor()

    def log_probabilities():
        state = torch.from_numpy(TOKENS.astype(np.int64))
        with torch.no_grad():
            for segment in (program.before, *program.layers, program.after):
                state = executor.run(segment, state, {name: torch.from_numpy(one) for name, one in weights.items()})
        return state.double().log_softmax(-1)

    reference = log_probabilities()
    real = {}
    for name in names:
        kept = weights[name]
        weights[name] = kept + rounding_error(kept, INT4, Scratch())
        changed = log_probabilities()
        real[name] = float((reference.exp() * (reference - changed)).sum(-1).mean())
        weights[name] = kept
    ratios = {name: found[name][0] / real[name] for name in names}
    assert all(1 / 3 < one < 3 for one in ratios.values()), ratios
    for name in names:
        assert found[name][1] < found[name][0] / 50  # a step of 8 bits is 1/17 as long, and the loss its square


def test_more_than_one_batch_adds_up(tmp_path, monkeypatch):
    from zoo.calibration import sensitivity

    make_checkpoint(tmp_path / "m")
    checkpoint, layout = opened(tmp_path / "m")
    choices = {one.name: (INT4,) for one in matrices(layout)}
    whole = measure(layout, checkpoint, TOKENS, choices, tmp_path)
    monkeypatch.setattr(sensitivity, "_BATCH", 80)
    monkeypatch.setattr(sensitivity, "_PIECE", 640)
    pieces = measure(layout, checkpoint, TOKENS, choices, tmp_path)
    for name in choices:
        assert whole[name] == pytest.approx(pieces[name], rel=0.5)  # other tokens are drawn
    monkeypatch.setattr(sensitivity, "TOKENS", 80)
    fewer = measure(layout, checkpoint, TOKENS, choices, tmp_path)
    assert fewer != pieces


def test_floats_and_what_they_lose():
    weight = np.random.default_rng(0).standard_normal((4, 40)).astype(np.float32)
    assert not rounding_error(weight, FloatScheme(dtype="float32"), Scratch()).any()
    half = rounding_error(weight, FloatScheme(dtype="float16"), Scratch())
    assert 0 < np.abs(half).max() < 2e-3
    eight, four = (np.abs(rounding_error(weight, one, Scratch())).max() for one in (INT8, INT4))
    assert np.abs(half).max() < eight < four


def test_weights_that_overflow_are_named(tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    make_checkpoint(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.full_like(tensors["model.layers.1.mlp.up_proj.weight"], 3e38)
    save_file(tensors, path, {"format": "pt"})
    checkpoint, layout = opened(tmp_path / "m")
    choices = {one.name: (INT4,) for one in matrices(layout)}
    with pytest.raises(ZooError, match=r"layer 1: .* NaN or overflows float32"):
        measure(layout, checkpoint, TOKENS, choices, tmp_path)
