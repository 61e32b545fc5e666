"""A decoder that ranks by its next token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import zoo
from tests.encoder.test_embedder import make_decoder
from tests.encoders import TEXTS
from tests.server.serving import post, serving
from zoo.cli import app
from zoo.declarations.embedding import EmbeddingUse, Judging
from zoo.embedding.judging import Judge
from zoo.errors import UsageError, ZooError
from zoo.stages import embedding

transformers = pytest.importorskip("transformers")
TEMPLATE = "the {instruction} saw {query} and {document} with old"
JUDGING = Judging(template=TEMPLATE, instruction="house", yes_token="red", no_token="blue")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judge") / "decoder"
    make_decoder(folder, "Qwen3ForCausalLM")
    return zoo.build(folder, "fp32", output=folder.with_name("package"), threads=1).path


def test_scores_are_the_share_of_yes(package: Path) -> None:
    import torch

    judge: Any = Judge(zoo.open(package, threads=1), JUDGING)
    model = transformers.AutoModelForCausalLM.from_pretrained(package.with_name("decoder"))
    wanted = []
    for text in TEXTS:
        prompt = f"the house saw dog and {text} with old"
        ids = judge.tokenizer.encode(prompt, special=False)
        yes, no = judge.tokenizer.id_of("red"), judge.tokenizer.id_of("blue")
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0, -1]
        wanted.append(float(torch.softmax(logits[[no, yes]], 0)[1]))
    done = judge.rank("dog", TEXTS)
    assert [one.index for one in done] == np.argsort(-np.array(wanted), kind="stable").tolist()
    for one in done:
        assert one.score == pytest.approx(wanted[one.index], abs=1e-4)
    assert judge.generate("dog", max_new_tokens=2).token_ids  # it still generates
    assert judge.rank("dog", TEXTS[:1], instruction="cat")[0].score != pytest.approx(wanted[0], abs=1e-6)


def test_what_is_too_long_is_cut_where_that_is_asked_for(package: Path) -> None:
    judge = Judge(zoo.open(package, threads=1), JUDGING, longest=20)
    with pytest.raises(ZooError, match="document 0 and the query have 45 tokens; package takes 18"):
        judge.rank("dog", ["cat " * 40])
    (cut,) = judge.rank("dog", ["cat " * 40], truncate=True)
    assert (cut.truncated, cut.tokens) == (True, 20)
    with pytest.raises(ZooError, match="takes 18"):
        judge.rank("dog " * 30, ["cat"], truncate=True)
    with pytest.raises(UsageError, match="document 1 is empty"):
        judge.rank("dog", ["cat", ""])


def test_a_decoder_without_its_tokens_is_refused(package: Path) -> None:
    with pytest.raises(ZooError, match="its tokenizer has no token 'yes', which ranking compares"):
        Judge(zoo.open(package, threads=1), Judging(template=TEMPLATE, instruction="house"))
    done = CliRunner().invoke(app, ["rerank", str(package), "dog", "-"], input="cat\n")
    assert done.exit_code == 1
    assert "package generates text: use zoo run, not zoo rerank" in (done.stderr or str(done.exception))


def test_a_server_ranks_with_it_and_generates_nothing(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use = EmbeddingUse(sequence_length=20, judging=JUDGING)
    monkeypatch.setattr(embedding, "declared_use", lambda *_: use)
    wanted = zoo.open(package, threads=1).rank("dog", TEXTS, truncate=True)
    with serving([package], threads=1) as served:
        asked = {"model": "decoder", "query": "dog", "documents": TEXTS}
        status, _, refused = post(served, "/v1/rerank", asked)
        assert (status, "document 2 and the query have 24 tokens" in refused["error"]["message"]) == (400, True)
        _, _, done = post(served, "/v1/rerank", {**asked, "truncate": True})
        assert [one["index"] for one in done["results"]] == [one.index for one in wanted]
        assert [one["relevance_score"] for one in done["results"]] == pytest.approx([one.score for one in wanted])
        assert done["usage"]["truncated_texts"] == 1
        assert served.pool.models[0].task == "rank"
        status, _, refused = post(served, "/v1/completions", {"model": "decoder", "prompt": "dog"})
        assert (status, "ask /v1/embeddings or /v1/rerank" in refused["error"]["message"]) == (400, True)
