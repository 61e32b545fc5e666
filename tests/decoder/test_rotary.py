"""Frequencies against transformers' own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.decoder.test_config import LLAMA3, SMALL, read
from zoo.decoder.rotary import angles

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SCALINGS: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 3.0},
    "dynamic": {"rope_type": "dynamic", "factor": 3.0},
    "llama3": LLAMA3,
    "llama3-long": LLAMA3 | {"factor": 32.0, "original_max_position_embeddings": 8192},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
    "yarn-plain": {"rope_type": "yarn", "factor": 1.0},
    "yarn-attention": {"rope_type": "yarn", "factor": 4.0, "attention_factor": 0.5},
    "yarn-mscale": {"rope_type": "yarn", "factor": 40.0, "mscale": 0.707, "mscale_all_dim": 1.3},
    "yarn-half-mscale": {"rope_type": "yarn", "factor": 40.0, "mscale": 0.707},
    "yarn-betas": {"rope_type": "yarn", "factor": 8.0, "beta_fast": 4.0, "beta_slow": 4.0, "truncate": False},
}


@pytest.mark.parametrize("head_dim", [8, 20, 64, 128])
@pytest.mark.parametrize("name", SCALINGS)
def test_frequencies(name: str, head_dim: int) -> None:
    numbers = {**SMALL, "head_dim": head_dim, "max_position_embeddings": 4096}
    parameters = {**SCALINGS[name], "rope_theta": 500000.0}
    config = transformers.LlamaConfig(**numbers, rope_parameters=dict(parameters))
    wanted = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(config)
    padded = -(-head_dim // 16) * 16
    arch = read(**numbers, rope_parameters=parameters)
    found = angles(arch, padded)

    assert found.frequencies.dtype == np.float32
    assert found.frequencies.shape == (padded // 2,)
    assert found.turning == head_dim // 2
    np.testing.assert_allclose(found.frequencies[: head_dim // 2], wanted.inv_freq.numpy(), rtol=3e-7)
    assert not found.frequencies[head_dim // 2 :].any(), "padding does not turn"
    assert found.magnitude == pytest.approx(wanted.attention_scaling, rel=1e-6)
    assert (found.growth is not None) == (name == "dynamic")
