"""Experts in a calibrated build: what goes into them follows the inputs of their router."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import zoo
from tests.checkpoints import make_of_type
from tests.stages.test_calibrate import add_tokenizer, words
from zoo.calibration.weights import read_package
from zoo.package.layout import lay_out
from zoo.plugins import host

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")


def test_gates_and_ways_up_are_calibrated_by_what_the_router_reads(tmp_path: Path) -> None:
    """Their error on the calibration samples' inputs is below that of rounding; what no one observed is rounded."""
    from safetensors.numpy import load_file

    model = make_of_type(tmp_path / "model", "mixtral", num_local_experts=6, num_experts_per_tok=2, num_hidden_layers=1)
    add_tokenizer(tmp_path / "model")
    text = tmp_path / "text.txt"
    text.write_text("\n".join(words(20, seed) for seed in range(200)))
    calibrated = {"quantizer": "gptq", "calibration": text, "samples": 8, "sequence_length": 64}
    stored = {}
    for name, choices in (("rtn", {}), ("gptq", calibrated)):
        package = zoo.build(tmp_path / "model", "int4", output=tmp_path / name, **choices)
        layout = lay_out(package.manifest.recipe, host().registry)
        stored[name] = {
            placed.parameter.role: read_package(layout, package.path, placed)
            for placed in layout.placed
            if placed.parameter.experts
        }
    assert np.array_equal(stored["rtn"]["mlp.experts.down"], stored["gptq"]["mlp.experts.down"])
    original = load_file(tmp_path / "model" / "model.safetensors")
    experts = [
        np.stack(
            [original[f"model.layers.0.block_sparse_moe.experts.{expert}.{way}.weight"] for way in ("w1", "w3")], 1
        )
        for expert in range(6)
    ]
    wanted = np.stack(experts).reshape(6, -1, 64)
    errors = {name: weights["mlp.experts.gate_up"] - wanted for name, weights in stored.items()}
    seen_by_router: list[np.ndarray] = []
    model.model.layers[0].mlp.register_forward_pre_hook(lambda _, inputs: seen_by_router.append(inputs[0].numpy()))
    with torch.inference_mode():
        model(torch.from_numpy(np.random.default_rng(0).integers(1, 301, (8, 64))))
    inputs = seen_by_router[0].reshape(-1, 64)
    seen = {name: float(np.square(inputs @ error.reshape(-1, 64).T).mean()) for name, error in errors.items()}
    assert seen["gptq"] < 0.9 * seen["rtn"], seen
