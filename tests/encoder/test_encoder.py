"""The architecture ``encoder``: packages that compute what transformers computes, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.encoders import TEXTS, cosines, hidden_states, make_encoder
from zoo.embedding import EncoderEngine
from zoo.errors import ZooError

transformers = pytest.importorskip("transformers")


def opened(folder: Path, precision: str = "fp32") -> Any:
    package = zoo.build(folder, precision, output=folder.with_name(f"{folder.name}-{precision}"), threads=1)
    return zoo.open(package.path, threads=1)


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta"])
def test_a_package_embeds_as_transformers_does(kind: str, tmp_path: Path) -> None:
    model = make_encoder(tmp_path / kind, kind)
    wanted = np.stack([states.mean(0) for states in hidden_states(model, tmp_path / kind, TEXTS)])
    engine = opened(tmp_path / kind)
    assert isinstance(engine, EncoderEngine)
    np.testing.assert_allclose(engine.embed(TEXTS).vectors, wanted, atol=1e-4)
    assert cosines(opened(tmp_path / kind, "int8").embed(TEXTS).vectors, wanted).min() > 0.995


@pytest.mark.parametrize(("kind", "labels"), [("bert", 1), ("bert", 3), ("roberta", 2), ("xlm-roberta", 1)])
def test_a_classifier_scores_pairs_as_transformers_does(kind: str, labels: int, tmp_path: Path) -> None:
    import torch

    model = make_encoder(tmp_path / kind, kind, labels=labels)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / kind)
    with torch.inference_mode():
        wanted = [
            model(**tokenizer(TEXTS[0], text, return_tensors="pt", return_token_type_ids=kind == "bert")).logits[0]
            for text in TEXTS
        ]
    engine = opened(tmp_path / kind)
    pairs = engine._tokens.pairs(TEXTS[0], TEXTS, truncate=False)
    np.testing.assert_allclose(engine.logits(pairs), np.stack(wanted), atol=1e-4)
    assert len(engine.labels) == labels


@pytest.mark.parametrize("cls", ["BertForMaskedLM", "BertForPreTraining"])
def test_heads_of_other_tasks_are_left_out(cls: str, tmp_path: Path) -> None:
    model = make_encoder(tmp_path / "bert", cls=cls)
    wanted = np.stack([states.mean(0) for states in hidden_states(model.bert, tmp_path / "bert", TEXTS)])
    np.testing.assert_allclose(opened(tmp_path / "bert").embed(TEXTS).vectors, wanted, atol=1e-4)


def test_the_graph_is_for_other_programs_too(tmp_path: Path) -> None:
    import onnxruntime

    for kind, inputs in (
        ("bert", {"input_ids", "attention_mask", "token_type_ids"}),
        ("roberta", {"input_ids", "attention_mask"}),
    ):
        model = make_encoder(tmp_path / kind, kind)
        folder = zoo.build(tmp_path / kind, "fp32", output=tmp_path / f"{kind}-p", threads=1).path
        session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
        assert {one.name for one in session.get_inputs()} == inputs
        assert not (folder / "genai_config.json").exists()
        ids = np.array([[7, 5, 6, 2, 0, 0]])
        feeds = {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64), "token_type_ids": np.zeros_like(ids)}
        states = session.run(["last_hidden_state"], {name: feeds[name] for name in inputs})[0]
        import torch

        with torch.inference_mode():
            wanted = model(torch.tensor([[7, 5, 6, 2]])).last_hidden_state[0]
        np.testing.assert_allclose(states[0, :4], wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"architectures": ["BertForSequenceClassification"], "id2label": {}}, "a classifier without labels"),
        ({"architectures": ["BertForSequenceClassification"], "num_labels": "two"}, "a classifier without labels"),
        ({"architectures": ["BertForTokenClassification"]}, "BertForTokenClassification"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'"),
        ({"hidden_act": "mish"}, "hidden_act 'mish'"),
        ({"type_vocab_size": 0}, "type_vocab_size must be"),
        ({"type_vocab_size": 2**40}, "type_vocab_size must be"),
        ({"num_hidden_layers": None}, "num_hidden_layers"),
        ({"is_decoder": True}, "is_decoder True"),
    ],
)
def test_what_is_not_computed_is_refused(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    make_encoder(tmp_path / "bert")
    file = tmp_path / "bert/config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))
    with pytest.raises(ZooError, match=said) as caught:
        zoo.build(tmp_path / "bert", "fp32", output=tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_vocabulary_of_words_alone_is_converted(tmp_path: Path) -> None:
    make_encoder(tmp_path / "bert")
    words = [*json.loads((tmp_path / "bert/tokenizer.json").read_text())["model"]["vocab"], "[MASK]"]
    (tmp_path / "bert/vocab.txt").write_text("\n".join(words))
    (tmp_path / "bert/tokenizer.json").unlink()
    (tmp_path / "bert/tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
    engine = opened(tmp_path / "bert")
    assert engine.encode("The CAT") == [1, 4, 5, 2]
