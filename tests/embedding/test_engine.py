"""Texts to vectors: pooling, prompts, dimensions, cutting, batches; and ranking."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.encoders import TEXTS, describe, hidden_states, make_encoder
from zoo.embedding.batches import plan_batches
from zoo.embedding.modules import read_modules
from zoo.errors import UsageError, ZooError

pytest.importorskip("transformers")


def opened(folder: Path) -> Any:
    return zoo.open(zoo.build(folder, "fp32", output=folder.with_name("package"), threads=1).path, threads=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A checkpoint, and its hidden states of the texts."""
    folder = tmp_path_factory.mktemp("made") / "bert"
    model = make_encoder(folder)
    return folder, hidden_states(model, folder, TEXTS)


def copied(made: tuple[Path, list[Any]], tmp_path: Path, **stated: Any) -> Path:
    import shutil

    folder = tmp_path / "bert"
    shutil.copytree(made[0], folder)
    describe(folder, **stated)
    return folder


@pytest.mark.parametrize(
    ("mode", "formula"),
    [
        ("cls_token", lambda states: states[0]),
        ("lasttoken", lambda states: states[-1]),
        ("max_tokens", lambda states: states.max(0)),
        ("mean_sqrt_len_tokens", lambda states: states.sum(0) / len(states) ** 0.5),
        (
            "weightedmean_tokens",
            lambda states: np.average(states, axis=0, weights=np.arange(1, len(states) + 1)),
        ),
        (["cls_token", "mean_tokens"], lambda states: np.concatenate([states[0], states.mean(0)])),
    ],
)
def test_pooling_is_what_the_files_state(mode: Any, formula: Any, made: Any, tmp_path: Path) -> None:
    engine = opened(copied(made, tmp_path, pooling=mode, normalize=False))
    wanted = np.stack([formula(states) for states in made[1]])
    np.testing.assert_allclose(engine.embed(TEXTS).vectors, wanted, atol=1e-4)


def test_vectors_are_cut_and_normalized(made: Any, tmp_path: Path) -> None:
    engine = opened(copied(made, tmp_path))
    whole, cut = engine.embed(TEXTS).vectors, engine.embed(TEXTS, dimensions=7).vectors
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(cut, whole[:, :7] / np.linalg.norm(whole[:, :7], axis=1, keepdims=True), atol=1e-6)
    for wrong in (0, 49):
        with pytest.raises(UsageError, match="dimensions must be 1 to 48"):
            engine.embed(TEXTS, dimensions=wrong)


def test_prompts_stand_before_a_text(made: Any, tmp_path: Path) -> None:
    prompts = {"query": "red house ", "document": ""}
    engine = opened(copied(made, tmp_path, prompts=prompts, default="query"))
    usual, query = engine.embed("dog").vectors, engine.embed("dog", prompt="query").vectors
    plain = engine.embed("dog", prompt="").vectors
    np.testing.assert_array_equal(usual, query)
    np.testing.assert_allclose(query, engine.embed("red house dog", prompt="document").vectors, atol=1e-6)
    assert np.abs(plain - query).max() > 0.01
    with pytest.raises(UsageError, match="unknown prompt 'quary'; did you mean query"):
        engine.embed("dog", prompt="quary")


def test_a_long_text_is_cut_only_where_that_is_asked_for(made: Any, tmp_path: Path) -> None:
    engine = opened(copied(made, tmp_path, longest=10))
    long = " ".join(["cat"] * 12)
    with pytest.raises(ZooError, match=r"text 1 has 12 tokens; package takes 8"):
        engine.embed(["dog", long])
    done = engine.embed(["dog", long], truncate=True)
    assert (done.tokens, done.truncated) == ((3, 10), (False, True))
    np.testing.assert_allclose(done.vectors[1], engine.embed(" ".join(["cat"] * 8)).vectors[0], atol=1e-6)


def test_what_is_no_text_is_refused(made: Any, tmp_path: Path) -> None:
    engine = opened(copied(made, tmp_path))
    for texts, said in (
        (["dog", ""], "text 1 is empty"),
        ([7], "text 0 is not a text"),
        (["\ud800"], "half of a pair"),
    ):
        with pytest.raises(UsageError, match=said):
            engine.embed(texts)
    assert engine.embed([]).vectors.shape == (0, 48)
    for refused in (lambda: engine.generate("dog"), lambda: engine.rank("dog", ["cat"])):
        with pytest.raises(ZooError, match="embeds texts and generates nothing; use zoo embed"):
            refused()


def test_a_text_is_the_same_alone_and_among_many(made: Any, tmp_path: Path) -> None:
    engine, rng = opened(copied(made, tmp_path)), np.random.default_rng(0)
    texts = [" ".join(rng.choice(["cat", "dog", "red", "mat"], size)) for size in rng.integers(1, 38, 150)]
    together = engine.embed(texts).vectors
    for index in (0, 70, 149):
        np.testing.assert_allclose(together[index], engine.embed(texts[index]).vectors[0], atol=1e-5)


def test_batches_pad_little_and_hold_every_text_once() -> None:
    lengths = np.random.default_rng(1).integers(1, 512, 1000).tolist()
    batches = plan_batches(lengths)
    assert sorted(index for batch in batches for index in batch) == list(range(1000))
    padded = [len(batch) * max(lengths[index] for index in batch) for batch in batches]
    assert max(padded) <= 1024
    assert sum(padded) <= 1.1 * sum(lengths)
    assert len(plan_batches([3] * 30)) == 1
    assert plan_batches([5000, 2]) == [[0], [1]]


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("modules.json", [{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}], "module 'Dense'"),
        ("modules.json", {"type": "x"}, "is not a list of modules"),
        ("1_Pooling/config.json", {"pooling_mode_median_tokens": True}, "pooling 'pooling_mode_median_tokens'"),
        ("1_Pooling/config.json", {"pooling_mode": "median"}, "pooling 'median' is not known"),
        ("1_Pooling/config.json", {}, "pooling 'nothing' is not known"),
        ("sentence_bert_config.json", {"max_seq_length": -1}, "max_seq_length must be"),
        ("config_sentence_transformers.json", {"prompts": ["x"]}, "prompts must be texts by name"),
        ("config_sentence_transformers.json", {"default_prompt_name": "q"}, "default_prompt_name 'q'"),
    ],
)
def test_a_description_that_is_not_computed_is_refused(file: str, content: Any, said: str, tmp_path: Path) -> None:
    describe(tmp_path)
    (tmp_path / file).write_text(json.dumps(content))

    def read(name: str) -> bytes | None:
        path = tmp_path / name
        return path.read_bytes() if path.is_file() else None

    with pytest.raises(ZooError, match=said) as caught:
        read_modules(read, "model")
    assert "\n" not in str(caught.value)


def test_documents_are_ranked(tmp_path: Path) -> None:
    make_encoder(tmp_path / "bert", labels=1)
    engine = opened(tmp_path / "bert")
    done = engine.rank("the cat", TEXTS)
    assert sorted(one.index for one in done) == [0, 1, 2, 3]
    assert [one.score for one in done] == sorted((one.score for one in done), reverse=True)
    pairs = engine.prepare_pairs("the cat", TEXTS)
    logits = engine.logits(pairs)[:, 0]
    assert [one.score for one in done] == pytest.approx(sorted(1 / (1 + np.exp(-logits)), reverse=True), abs=1e-6)
    with pytest.raises(ZooError, match="document 0 has 40 tokens; package takes 35 beside this query"):
        engine.rank("the cat", ["cat " * 40])
    assert engine.rank("the cat", ["cat " * 40], truncate=True)[0].truncated
    with pytest.raises(ZooError, match="the query has 60 tokens"):
        engine.rank("cat " * 60, ["cat"], truncate=True)
    with pytest.raises(ZooError, match="scores texts and generates nothing; use zoo rerank"):
        engine.embed("dog")


def test_a_classifier_of_several_labels_ranks_nothing(tmp_path: Path) -> None:
    make_encoder(tmp_path / "bert", labels=3)
    with pytest.raises(ZooError, match="a classifier of 3 labels"):
        opened(tmp_path / "bert").rank("dog", TEXTS)


def test_what_describes_an_embedding_comes_from_the_hub_and_into_the_package(made: Any, tmp_path: Path) -> None:
    from zoo.sources.hub import companion_names

    folder = copied(made, tmp_path, longest=10, prompts={"query": "red "})
    names = {"modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "config_sentence_transformers.json"}
    there = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    assert names <= set(companion_names([*there, "2_Dense/pytorch_model.bin"]))
    assert names <= set(opened(folder).package.manifest.files)


def test_a_pooling_that_is_not_known_is_refused_before_anything_is_built(made: Any, tmp_path: Path) -> None:
    folder = copied(made, tmp_path, pooling="median_tokens")
    with pytest.raises(ZooError, match="pooling 'pooling_mode_median_tokens' is not known"):
        zoo.build(folder, "fp32", output=tmp_path / "package")
    assert not (tmp_path / "package").exists()
