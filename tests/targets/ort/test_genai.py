"""onnxruntime-genai opens the same folder, unchanged, and says the same; where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.checkpoints import make_checkpoint
from tests.decoder.stepping import Stepping, prompt

og = pytest.importorskip("onnxruntime_genai")


@pytest.mark.parametrize("precision", ["int8", "int4", "fp16", "fp32"])
@pytest.mark.parametrize("numbers", [{}, {"head_dim": 8, "tie_word_embeddings": True, "attention_bias": True}])
def test_same_greedy_tokens(precision: str, numbers: dict[str, Any], tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "checkpoint", eos_token_id=None, **numbers)
    package = zoo.build(tmp_path / "checkpoint", precision, output=tmp_path / "package").path
    tokens = prompt(24)
    model = og.Model(str(package))
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=24 + 100, do_sample=False)
    generator = og.Generator(model, params)
    generator.append_tokens(np.array(tokens, np.int32))
    found = []
    while not generator.is_done() and len(found) < 100:
        generator.generate_next_token()
        found.append(int(generator.get_next_tokens()[0]))
    assert found == Stepping(package).greedy(tokens, 100)
