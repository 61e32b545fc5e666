"""LongRoPE in a GGUF file: both lists of factors, of which llama.cpp takes one by the context that it serves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import zoo
from tests.decoder.stepping import prompt
from tests.decoder.test_longrope import CONTEXT, ORIGINAL, make
from zoo.errors import ZooError
from zoo.plugins import host
from zoo.stages.request import Request
from zoo.stages.resolve import resolve
from zoo.testing.checkpoint import write_tokenizer

torch = pytest.importorskip("torch")
gguf = pytest.importorskip("gguf")


@pytest.mark.parametrize(("length", "context"), [(40, ORIGINAL), (ORIGINAL + 20, None)], ids=["within", "longer"])
def test_llama_cpp_continues_as_transformers_does(tmp_path: Path, length: int, context: int | None) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp: pip install xllamacpp")
    model = make(tmp_path / "in", hidden_size=128, partial_rotary_factor=0.75, initializer_range=0.1, vocab_size=320)
    write_tokenizer(tmp_path / "in")
    package = zoo.build(tmp_path / "in", "fp16", target="gguf", context=context, output=tmp_path / "out")
    ids = prompt(length, 320)
    engine = zoo.open(package.path, threads=1)
    continued = engine.generate(ids, max_new_tokens=12, ignore_eos=True).token_ids
    engine.close()
    with torch.inference_mode():
        logits = model(torch.tensor([ids + continued])).logits[0, len(ids) - 1 : -1]
    chosen = logits.gather(1, torch.tensor(continued)[:, None])[:, 0]
    assert (logits.max(-1).values - chosen < 0.05).all()


def test_a_file_states_what_the_checkpoint_does(tmp_path: Path) -> None:
    make(tmp_path / "in", vocab_size=320)
    path = zoo.build(tmp_path / "in", "fp16", target="gguf", output=tmp_path / "out").path / "model.gguf"
    found, wanted = (
        resolve(host().registry, Request(str(each))).recipe.architecture for each in (path, tmp_path / "in")
    )
    assert found.rope_scaling is not None
    assert wanted.rope_scaling is not None
    assert found.context_length == CONTEXT
    assert found.rope_scaling.original_max_position_embeddings == ORIGINAL
    assert found.rope_scaling.magnitude == pytest.approx(wanted.rope_scaling.magnitude, rel=1e-6)
    for name in ("short_factor", "long_factor"):
        np.testing.assert_allclose(getattr(found.rope_scaling, name), getattr(wanted.rope_scaling, name), rtol=1e-6)


def test_a_file_with_one_list_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "in", vocab_size=320)
    path = zoo.build(tmp_path / "in", "fp16", target="gguf", output=tmp_path / "out").path / "model.gguf"
    path.write_bytes(path.read_bytes().replace(b"rope_factors_short.weight", b"rope_factors_shore.weight"))
    with pytest.raises(ZooError, match="short_factor must be a list of numbers, not None"):
        resolve(host().registry, Request(str(path)))
