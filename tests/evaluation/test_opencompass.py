"""The bundled tasks over a tiny archive in OpenCompass's folder layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.evaluation.opencompass import lines, make_archive, zipped
from zoo.errors import UsageError, ZooError
from zoo.plugins import host
from zoo.stages.evaluate.request import EvaluationRequest
from zoo.stages.evaluate.stage import Evaluation, evaluate

TASKS = (
    *("oc_mmlu", "oc_ceval", "oc_cmmlu", "oc_arc_c", "oc_arc_e", "oc_hellaswag", "oc_piqa", "oc_winogrande"),
    *("oc_boolq", "oc_gsm8k"),
)

HELLASWAG = "hellaswag/hellaswag.jsonl"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_archive(tmp_path_factory.mktemp("opencompass"))


def run(package: Path, data: Path | None, *tasks: str, **options: object) -> Evaluation:
    return evaluate(host().registry, EvaluationRequest(str(package), tasks, data=data, **options))  # type: ignore[arg-type]


def test_every_task_is_registered() -> None:
    assert {*TASKS, "perplexity", "zoo_tiny_choice"} <= set(host().registry.tasks)


def test_a_base_model_is_scored_by_likelihood(fp32: Path, data: Path) -> None:
    done = run(fp32, data, *TASKS, limit=2)
    by_task = {str(one.settings["task"]): one for one in done.reports}
    assert set(by_task) == set(TASKS)
    for name, report in by_task.items():
        likelihood = name != "oc_gsm8k"
        assert report.settings["scoring"] == ("likelihood" if likelihood else "generation")
        assert report.settings["chat_template"] is False
        assert ("acc" if likelihood else "exact_match,strict") in report.measured
    assert by_task["oc_mmlu"].settings["num_fewshot"] == 5
    assert by_task["oc_mmlu"].measured["samples"] == 4
    subjects = [one["task"] for one in by_task["oc_mmlu"].measured["tasks"]]  # type: ignore[union-attr,index]
    assert subjects == ["oc_mmlu_abstract_algebra", "oc_mmlu_world_history"]
    assert by_task["oc_arc_c"].settings["num_fewshot"] == 0
    assert "oc_mmlu: 2 of 57 subjects are there" in done.notes


def test_a_chat_model_writes(chat: Path, data: Path) -> None:
    done = run(chat, data, *TASKS, limit=1, num_fewshot=1, log_samples=True)
    for report, samples in zip(done.reports, done.samples, strict=True):
        assert report.settings["scoring"] == "generation"
        assert report.settings["chat_template"] is True
        assert any(name.startswith("exact_match") for name in report.measured)
        prompt = json.loads(samples.read_text(encoding="utf-8").splitlines()[0])["arguments"][0][0]
        assert prompt.count("<assistant>") == 2
        assert prompt.endswith("<assistant>")


def test_examples_stand_before_the_options(fp32: Path, data: Path) -> None:
    done = run(fp32, data, *TASKS[3:], limit=1, num_fewshot=2, scoring="likelihood", log_samples=True)
    for report, samples in zip(done.reports, done.samples, strict=True):
        assert report.settings["num_fewshot"] == 2
        prompt = json.loads(samples.read_text(encoding="utf-8").splitlines()[0])["arguments"][0][0]
        assert prompt.count("\n\n") >= 2


def test_told_otherwise_a_chat_model_is_scored_by_likelihood(chat: Path, data: Path) -> None:
    (report,) = run(chat, data, "oc_piqa", limit=2, scoring="likelihood").reports
    assert report.settings["scoring"] == "likelihood"
    assert "acc_norm" in report.measured


def test_the_archive_is_read_as_it_was_fetched(fp32: Path, data: Path, tmp_path: Path) -> None:
    dataset = host().registry.dataset("opencompass-core")
    with pytest.raises(ZooError, match="zoo fetch --dataset opencompass-core"):
        run(fp32, None, "oc_piqa")
    place = tmp_path / "zoo-home" / "datasets" / dataset.name / dataset.files[0].path
    place.parent.mkdir(parents=True)
    zipped(data, place)
    fetched = run(fp32, None, "oc_piqa", "oc_mmlu", limit=2)
    for folder in (data, data.parent):
        named = run(fp32, folder, "oc_piqa", "oc_mmlu", limit=2)
        assert [one.settings for one in named.reports] == [one.settings for one in fetched.reports]
        assert [one.measured["acc"] for one in named.reports] == [one.measured["acc"] for one in fetched.reports]


def test_perplexity_of_any_text(fp32: Path, tmp_path: Path) -> None:
    text = tmp_path / "words.txt"
    text.write_text("The dog lived in a house. " * 80, encoding="utf-8")
    (report,) = run(fp32, text, "perplexity").reports
    assert report.measured["samples"] == 1
    assert report.measured["byte_perplexity"] > 1  # type: ignore[operator]
    with pytest.raises(UsageError, match="--data FILE"):
        run(fp32, None, "perplexity")


def test_a_folder_of_another_layout(fp32: Path, tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="no such folder"):
        run(fp32, tmp_path / "nowhere", "oc_piqa")
    (tmp_path / "other" / "things").mkdir(parents=True)
    (tmp_path / "other" / "things" / "file.txt").write_text("x")
    with pytest.raises(ZooError, match=r"oc_mmlu: there is no mmlu/test/\*_test.csv in .*, which holds things"):
        run(fp32, tmp_path / "other", "oc_mmlu")


@pytest.mark.parametrize(
    ("task", "file", "rows", "match"),
    [
        ("oc_hellaswag", HELLASWAG, [{"query": "a", "choices": ["b", "c"]}], "1: a row without an answer"),
        ("oc_hellaswag", HELLASWAG, [{"query": "a", "choices": ["b"], "gold": 7}], "not one of 0, 1, 2, 3"),
        ("oc_hellaswag", HELLASWAG, [{"ctx": "a", "gold": 1}], "no 'query'; it is not of the layout"),
        ("oc_piqa", "piqa/dev.jsonl", [{"goal": "a", "sol1": "b", "sol2": "c"}], "3 labels for the 1 rows"),
        ("oc_gsm8k", "gsm8k/test.jsonl", [{"question": "a", "answer": ""}], "jsonl:1: a row without an answer"),
    ],
)  # fmt: skip
def test_rows_that_are_wrong_are_named(
    task: str,
    file: str,
    rows: list,
    match: str,
    fp32: Path,
    data: Path,
    tmp_path: Path,
) -> None:
    shutil.copytree(data, tmp_path / "data")
    lines(tmp_path / "data" / file, rows)
    with pytest.raises(ZooError, match=match):
        run(fp32, tmp_path, task)


@pytest.mark.parametrize("label", ["--1", "²", "one"])
def test_labels_that_are_no_numbers_are_named(label: str, fp32: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    labels = tmp_path / "data" / "piqa/dev-labels.lst"
    labels.write_text("\n".join([label, *labels.read_text().splitlines()[1:]]))
    with pytest.raises(ZooError, match=f"dev.jsonl:1: the answer '{label}' is not one of 0, 1"):
        run(fp32, tmp_path, "oc_piqa")
