"""Random checkpoints over the whole space of the decoder's fields: built, opened, and compared with transformers."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import zoo
from tests.checkpoints import make_of_type
from tests.parity.fields import CONTEXT, numbers

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def logits(folder: Path, fields: dict[str, Any], precision: str, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits of every position by transformers on the checkpoint, and by the engine on a package of it."""
    make_of_type(folder / "checkpoint", **fields)
    package = zoo.build(str(folder / "checkpoint"), precision, output=folder / "package")
    ids = np.random.default_rng(fields["seed"]).integers(0, fields["vocab_size"], length, dtype=np.int64)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "checkpoint", dtype=torch.float32).eval()
    with torch.inference_mode():
        wanted = model(torch.from_numpy(ids)[None]).logits[0].numpy()
    found = zoo.open(package.path).logits(ids.tolist())
    assert found.shape == wanted.shape
    return found, wanted


def apart(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference, in standard deviations of the logits."""
    return float(np.abs(found - wanted).max() / max(float(wanted.std()), 1e-6))


def check(fields: dict[str, Any], precision: str, length: int, limit: float) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        difference = apart(*logits(folder, fields, precision, length))
    finally:
        shutil.rmtree(folder)
    assert difference < limit, f"{difference:.2e} standard deviations apart"


quick = settings(
    max_examples=25, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@quick
@given(fields=numbers(), length=st.sampled_from([1, 2, 17, CONTEXT]))
def test_fp32_is_transformers(fields: dict[str, Any], length: int) -> None:
    check(fields, "fp32", length, 2e-3)


@settings(quick, max_examples=8)
@given(fields=numbers())
def test_fp16_is_transformers_up_to_the_rounding_of_weights(fields: dict[str, Any]) -> None:
    check(fields, "fp16", 33, 5e-3 if fields["dtype"] == "float16" else 5e-2)


@pytest.mark.exhaustive
@settings(quick, max_examples=100)
@given(fields=numbers(), length=st.sampled_from([1, 2, 17, CONTEXT]))
def test_fp32_is_transformers_in_many_more_cases(fields: dict[str, Any], length: int) -> None:
    check(fields, "fp32", length, 2e-3)
