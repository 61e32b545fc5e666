"""Packages that embed or rank against the original weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import zoo
from tests.encoder.test_embedder import make_decoder
from tests.encoders import describe, make_encoder
from zoo.cli import app
from zoo.plugins import host
from zoo.stages.verify import verify
from zoo.verify.embeddings import correlation

pytest.importorskip("transformers")
RUN = CliRunner()


@pytest.mark.parametrize("case", ["bert", "roberta", "classifier", "several labels", "decoder"])
def test_a_package_is_verified(case: str, tmp_path: Path) -> None:
    if case == "decoder":
        make_decoder(tmp_path / "model")
        describe(tmp_path / "model", pooling="lasttoken")
    else:
        labels = {"classifier": 1, "several labels": 3}.get(case, 0)
        make_encoder(tmp_path / "model", "roberta" if case == "roberta" else "bert", labels=labels)
    for precision in ("fp32", "int8") if case in ("bert", "classifier") else ("fp32",):
        zoo.build(tmp_path / "model", precision, output=tmp_path / precision, threads=1)
        done: Any = verify(host().registry, str(tmp_path / precision), weights=str(tmp_path / "model"), quick=True)
        limits = {check.name: check.value for check in done.verdict.checks}
        if precision == "fp32":
            assert done.verdict.passed, limits
        else:  # random weights that are 48 wide lose more than trained ones; they must be near all the same
            assert limits["smallest cosine"] > 0.9
        assert json.loads(done.path.read_text())["passed"] is done.verdict.passed


def test_a_spoiled_package_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.embedding import EncoderEngine

    make_encoder(tmp_path / "model")
    describe(tmp_path / "model")
    zoo.build(tmp_path / "model", "fp32", output=tmp_path / "package", threads=1)
    line = ["verify", str(tmp_path / "package"), "--weights", str(tmp_path / "model"), "--quick"]
    done = RUN.invoke(app, line)
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == "verified"
    right = EncoderEngine.vectors
    monkeypatch.setattr(EncoderEngine, "vectors", lambda self, texts: right(self, texts)[:, ::-1])
    done = RUN.invoke(app, line)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == "not verified"
    assert "FAILED" in done.stdout


def test_without_a_folder_the_operations_are_the_reference(tmp_path: Path) -> None:
    from zoo.sources.folder import open_folder
    from zoo.sources.named import NamedCheckpoint
    from zoo.verify.embeddings import reference_of

    make_encoder(tmp_path / "model")
    registry, folder = host().registry, open_folder(tmp_path / "model")
    part = registry.architecture("encoder")
    claim: Any = registry.families["bert"].family.claim("bert")
    arch = part.read_config(folder.config, claim.model_dump(exclude_unset=True))
    names = {name: name.removeprefix("bert.") for name in part.tensors(arch)}

    class Elsewhere(NamedCheckpoint):
        folder = None

    checkpoint = Elsewhere(folder, names)
    ids = [1, 5, 6, 7, 2]
    (name, other), (_, right) = (reference_of(one, part, arch) for one in (checkpoint, folder))
    assert name == "its own operations in torch"
    np.testing.assert_allclose(other(ids), right(ids), atol=1e-4)


def test_ranks_are_correlated_as_spearman_defined_it() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 9, 40), rng.integers(0, 9, 40)
    assert correlation(one, other) == pytest.approx(spearmanr(one, other).statistic, abs=1e-12)
    assert correlation(np.arange(5), np.arange(5) ** 3) == 1
    assert correlation(np.arange(5), -np.arange(5)) == -1
