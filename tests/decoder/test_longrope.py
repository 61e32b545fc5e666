"""LongRoPE against transformers: texts within the original context and longer ones, each by a package made for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.checkpoints import edit_config, make_of_type
from tests.decoder.stepping import prompt
from tests.decoder.test_config import SMALL, read
from tests.decoder.test_quirks import greedy_of
from zoo.errors import UsageError, ZooError
from zoo.plugins import host
from zoo.stages.verify import verify

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

ORIGINAL, CONTEXT, GREEDY, TOLERANCE = 256, 1024, 200, 1e-3
VARIATIONS: dict[str, dict[str, Any]] = {
    "mha": {"num_key_value_heads": 4},
    "gqa-partial": {"hidden_size": 128, "partial_rotary_factor": 0.75},
    "mqa-odd-head": {"hidden_size": 80, "num_key_value_heads": 1},
}


def longrope(pairs: int) -> dict[str, Any]:
    draw = np.random.default_rng(pairs)
    factors = {name: draw.uniform(1, most, pairs).tolist() for name, most in (("short_factor", 2), ("long_factor", 30))}
    return {"type": "longrope", **factors, "original_max_position_embeddings": ORIGINAL}


def make(folder: Path, **numbers: Any) -> Any:
    head = numbers.get("hidden_size", 64) // 4
    pairs = int(head * numbers.get("partial_rotary_factor", 1.0)) // 2
    return make_of_type(
        folder, "phi3", rope_scaling=longrope(pairs), max_position_embeddings=CONTEXT,
        original_max_position_embeddings=ORIGINAL, **numbers,
    )  # fmt: skip


@pytest.mark.parametrize(("length", "context"), [(40, ORIGINAL), (ORIGINAL + 20, None)], ids=["within", "longer"])
@pytest.mark.parametrize("name", VARIATIONS)
def test_is_transformers(tmp_path: Path, name: str, length: int, context: int | None) -> None:
    model = make(tmp_path / "checkpoint", **VARIATIONS[name])
    engine = zoo.open(zoo.build(tmp_path / "checkpoint", "fp32", context=context, output=tmp_path / "package").path)
    ids = prompt(length)
    with torch.no_grad():
        wanted = model(torch.tensor([ids])).logits[0].numpy()

    assert engine.context_length == (context or CONTEXT)
    np.testing.assert_allclose(engine.logits(ids), wanted, atol=TOLERANCE)
    assert engine.generate(ids, max_new_tokens=GREEDY, ignore_eos=True).token_ids == greedy_of(model, ids, GREEDY)


def test_other_factors_are_other_logits(tmp_path: Path) -> None:
    make(tmp_path / "checkpoint")
    ids, found = prompt(40), []
    for context in (ORIGINAL, ORIGINAL + 1):
        package = zoo.build(tmp_path / "checkpoint", "fp32", context=context, output=tmp_path / str(context))
        found.append(zoo.open(package.path).logits(ids))
        assert package.manifest.recipe.architecture.context_length == context
    assert np.abs(found[0] - found[1]).max() > 10 * TOLERANCE


@pytest.mark.parametrize("context", [ORIGINAL, None])
def test_verify_holds_short_texts_against_the_factors_of_the_context(tmp_path: Path, context: int | None) -> None:
    make(tmp_path / "checkpoint")
    package = zoo.build(tmp_path / "checkpoint", "fp32", context=context, output=tmp_path / "package")
    found = verify(host().registry, str(package.path), weights=str(tmp_path / "checkpoint"), quick=True)
    assert found.verdict.passed


def test_a_context_as_long_as_the_models_is_the_same_build(tmp_path: Path) -> None:
    make(tmp_path / "checkpoint")
    plans = [zoo.plan(tmp_path / "checkpoint", "int8", context=context) for context in (None, CONTEXT, ORIGINAL)]
    assert plans[0].recipe_hash == plans[1].recipe_hash != plans[2].recipe_hash
    with pytest.raises(UsageError, match=f"--context must be 1 to {CONTEXT}, the model's, not {CONTEXT + 1}"):
        zoo.plan(tmp_path / "checkpoint", "int8", context=CONTEXT + 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"short_factor": [1.0] * 3}, "short_factor and long_factor differ in length"),
        ({"short_factor": [1.0] * 3, "long_factor": [1.0] * 3}, "longrope has 3 factors for the 8 pairs that turn"),
        ({"long_factor": None}, "long_factor must be a list of numbers, not None"),
        ({"long_factor": [0.0] * 8}, "long_factor must be a number above 0, not 0.0"),
        ({"original_max_position_embeddings": None}, "original_max_position_embeddings is missing"),
    ],
)
def test_factors_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ZooError, match=message):
        read(**SMALL, rope_scaling={**longrope(8), **changes})


@pytest.mark.parametrize("name", ["su", "yarn", "longrope"])
def test_early_files_name_it_otherwise(tmp_path: Path, name: str) -> None:
    make(tmp_path / "checkpoint")
    edit_config(tmp_path / "checkpoint", rope_parameters=None, rope_scaling={**longrope(8), "type": name})
    arch = zoo.plan(tmp_path / "checkpoint", "int8").recipe.architecture
    assert arch.rope_scaling is not None
    assert arch.rope_scaling.rope_type == "longrope"
    assert arch.rope_scaling.factor == CONTEXT / ORIGINAL
