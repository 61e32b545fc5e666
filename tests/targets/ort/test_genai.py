"""onnxruntime-genai opens the same folder, unchanged, and says the same; where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.checkpoints import edit_config, make_checkpoint
from tests.decoder.stepping import Stepping, prompt

og = pytest.importorskip("onnxruntime_genai")
EOS = 2


@pytest.mark.parametrize("precision", ["int8", "int4", "fp16", "fp32"])
@pytest.mark.parametrize("numbers", [{}, {"head_dim": 8, "tie_word_embeddings": True, "attention_bias": True}])
def test_same_greedy_tokens(precision: str, numbers: dict[str, Any], tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "checkpoint", **numbers)
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
    wanted = Stepping(package).greedy(tokens, 100)
    if EOS in wanted:
        wanted = wanted[: wanted.index(EOS) + 1]
    assert len(wanted) > 5
    assert found == wanted


@pytest.mark.parametrize("ids", [{"eos_token_id": None}, {"bos_token_id": None}, {"pad_token_id": -1}])
def test_opens_whatever_tokens_are_special(ids: dict[str, Any], tmp_path: Path) -> None:
    """No end, no beginning, or the padding of -1 that early conversions carry."""
    make_checkpoint(tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "generation_config.json").unlink()
    edit_config(tmp_path / "checkpoint", **ids)
    og.Model(str(zoo.build(tmp_path / "checkpoint", output=tmp_path / "package").path))
