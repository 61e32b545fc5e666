"""``evaluate``: reports of tasks, against another package and against the harness' own model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.made import build, choice_task, make_checkpoint_folder, questions, sentence
from zoo.errors import UsageError, ZooError
from zoo.evaluation.harness_model import Step
from zoo.plugins import host
from zoo.registry import Registry
from zoo.reports import recorded_reports, reports
from zoo.stages.evaluate.request import EvaluationRequest
from zoo.stages.evaluate.stage import evaluate


def registry(*tasks: dict[str, Any]) -> Registry:
    return replace(host().registry, tasks={one["task"]: one for one in tasks})


def test_a_report_is_kept_with_all_that_decides_the_score(fp32: Path, tmp_path: Path) -> None:
    task = choice_task(tmp_path, questions(12))
    done = evaluate(registry(task), EvaluationRequest(str(fp32), ["quiz"], limit=8, seed=3))
    (report,) = done.reports
    assert report.kind == "eval"
    assert report.settings["task"] == "quiz"
    assert report.settings["scoring"] == "likelihood"
    assert report.settings["limit"] == 8
    assert report.settings["seed"] == 3
    assert report.settings["num_fewshot"] == 0
    assert report.measured["samples"] == 8
    assert report.measured["cut_short"] == 0
    assert 0 <= report.measured["acc"] <= 1
    assert report.measured["acc_stderr"] >= 0
    assert {"lm_eval", "onnxruntime", "tokenizers"} <= set(report.versions)
    assert reports(report.recipe_hash, "eval") == [report]
    assert done.paths[0].is_file()
    text = report.model_dump_json()
    assert str(tmp_path) not in text


def test_hashes_tell_prompts_and_data_apart(fp32: Path, tmp_path: Path) -> None:
    rows = questions(6)
    first = choice_task(tmp_path, rows, "first")
    other_prompt = choice_task(tmp_path, rows, "second", doc_to_text="Q: {{question}}")
    other_data = choice_task(tmp_path, questions(6, seed=1), "third")
    done = evaluate(
        registry(first, other_prompt, other_data), EvaluationRequest(str(fp32), ["first", "second", "third"])
    )
    one, two, three = (report.settings for report in done.reports)
    assert one["data_hash"] == two["data_hash"] != three["data_hash"]
    assert len({one["prompt_hash"], two["prompt_hash"], three["prompt_hash"]}) == 3
    assert one["task_hash"] != two["task_hash"]


def test_samples_are_kept_when_asked_for(fp32: Path, tmp_path: Path) -> None:
    done = evaluate(
        registry(choice_task(tmp_path, questions(5))), EvaluationRequest(str(fp32), ["quiz"], log_samples=True)
    )
    rows = [json.loads(line) for line in done.samples[0].read_text(encoding="utf-8").splitlines()]
    assert [one["doc_id"] for one in rows] == [0, 1, 2, 3, 4]
    assert len(rows[0]["filtered_resps"]) == 3
    assert sum(one["acc"] for one in rows) / 5 == done.reports[0].measured["acc"]
    assert reports(done.reports[0].recipe_hash) == done.reports


@pytest.mark.parametrize("how", ["zero", "shots", "rolling"])
def test_fp32_is_the_harness_own_model_to_the_last_sample(
    how: str, fp32: Path, checkpoint: Path, tmp_path: Path
) -> None:
    rows = questions(10, words=6)
    changes: dict[str, Any] = {}
    if how == "shots":
        changes = {"num_fewshot": 3, "fewshot_split": "test"}
    task = choice_task(tmp_path, rows, **changes)
    if how == "rolling":
        task |= {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{question}}"}
        del task["doc_to_choice"], task["metric_list"]
    request = EvaluationRequest(str(fp32), ["quiz"], against="hf", weights=str(checkpoint), seed=5)
    done = evaluate(registry(task), request)
    (comparison,) = done.comparisons
    assert comparison.samples == 10
    for one in comparison.metrics:
        assert one.value == pytest.approx(one.other, rel=1e-5), one.metric
    if how != "rolling":
        assert comparison.agreement == 1.0
        assert "the same at every sample" in comparison.verdict
    assert done.reports[0].measured["against"]["other"] == "transformers fp32"


def test_answers_are_those_of_the_harness_own_model(chat: Path, tmp_path: Path) -> None:
    task = choice_task(tmp_path, questions(6), num_fewshot=1, fewshot_split="test") | {
        "output_type": "generate_until",
        "doc_to_target": "{{choices[answer]}}",
        "generation_kwargs": {"until": ["e"], "max_gen_toks": 12},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    del task["doc_to_choice"]
    request = EvaluationRequest(
        str(chat), ["quiz"], against="hf", weights=str(chat.parent / "talker"), log_samples=True
    )
    done = evaluate(registry(task), request)
    assert done.reports[0].settings["scoring"] == "generation"
    assert done.reports[0].settings["chat_template"] is True
    assert done.comparisons[0].agreement == 1.0
    rows = [json.loads(line) for line in done.samples[0].read_text(encoding="utf-8").splitlines()]
    assert rows[0]["arguments"][0][0].startswith("<user>")
    assert any(one["resps"][0][0] for one in rows)


def test_packages_are_compared_sample_by_sample(fp32: Path, int8: Path, tmp_path: Path) -> None:
    task = choice_task(tmp_path, questions(20))
    done = evaluate(registry(task), EvaluationRequest(str(int8), ["quiz"], against=str(fp32)))
    (comparison,) = done.comparisons
    assert (comparison.what, comparison.other) == ("int8", "fp32")
    assert 0.5 < (comparison.agreement or 0) <= 1
    kept = [one for one in recorded_reports() if one.precision == "fp32"]
    assert kept[0].measured["acc"] == comparison.metrics[0].other
    assert kept[0].settings == done.reports[0].settings
    one = comparison.metrics[0]
    assert one.difference == pytest.approx(one.value - one.other)
    assert one.stderr is not None


def test_a_killed_run_goes_on_and_ends_in_the_same(fp32: Path, tmp_path: Path) -> None:
    tasks = registry(choice_task(tmp_path, questions(12)))
    request = EvaluationRequest(str(fp32), ["quiz"])
    whole = evaluate(tasks, request).reports[0].measured

    def kill(step: Step) -> None:
        if step.done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(tasks, request, progress=kill)
    journals = list((tmp_path / "zoo-home" / "evaluations").iterdir())
    assert len(journals) == 1
    seen: list[int] = []
    again = evaluate(tasks, request, progress=lambda step: seen.append(step.done)).reports[0].measured
    assert seen[0] == 21
    assert {**again, "seconds": 0} == {**whole, "seconds": 0}
    assert not list((tmp_path / "zoo-home" / "evaluations").iterdir())


def test_samples_past_the_context_are_counted(fp32: Path, tmp_path: Path) -> None:
    import random

    rows = questions(4)
    rows[2]["question"] = sentence(random.Random(0), 400)
    done = evaluate(registry(choice_task(tmp_path, rows)), EvaluationRequest(str(fp32), ["quiz"]))
    assert done.reports[0].measured["cut_short"] == 1
    assert any("1 of 4 samples are longer than the context of 256 tokens" in note for note in done.notes)


def test_an_option_longer_than_the_context_is_refused(fp32: Path, tmp_path: Path) -> None:
    import random

    rows = questions(2)
    rows[1]["choices"][0] = sentence(random.Random(0), 400)
    with pytest.raises(ZooError, match=r"document 1: an option has \d+ tokens, more than the context of 256"):
        evaluate(registry(choice_task(tmp_path, rows)), EvaluationRequest(str(fp32), ["quiz"]))


@pytest.mark.parametrize(
    ("answer", "match"),
    [(None, "without an answer"), (7, "without an answer among its 3 options"), ("", "where rows before have int")],
)
def test_a_row_without_an_answer_is_named(answer: Any, match: str, fp32: Path, tmp_path: Path) -> None:
    rows = questions(4)
    rows[2]["answer"] = answer
    with pytest.raises(ZooError, match=rf"quiz\.jsonl:3: .*{match}"):
        evaluate(registry(choice_task(tmp_path, rows)), EvaluationRequest(str(fp32), ["quiz"]))


def test_an_unknown_task_offers_the_nearest(fp32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.tasks import TaskManager

    from zoo.evaluation import tasks

    # The harness' own ten thousand names take seconds to gather.
    monkeypatch.setattr(tasks, "_manager", lambda: TaskManager(include_defaults=False))
    with pytest.raises(UsageError, match="unknown task 'qiuz'; did you mean quiz"):
        evaluate(registry(choice_task(tmp_path, questions(2))), EvaluationRequest(str(fp32), ["qiuz"]))


def test_a_text_with_a_token_past_the_vocabulary_is_refused(fp32: Path, tmp_path: Path) -> None:
    import hashlib
    import shutil

    package = tmp_path / "package"
    shutil.copytree(fp32, package)
    tokenizer = json.loads((package / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["zebra"] = 4000
    foreign = {"id": 4000, "content": "zebra", "special": False, "normalized": False}
    tokenizer["added_tokens"].append(foreign | {"single_word": False, "lstrip": False, "rstrip": False})
    raw = json.dumps(tokenizer).encode()
    (package / "tokenizer.json").write_bytes(raw)
    manifest = json.loads((package / "zoo.json").read_text())
    manifest["files"]["tokenizer.json"] = {"size": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    (package / "zoo.json").write_text(json.dumps(manifest))
    zebra = {"question": "A zebra", "choices": ["sat", "ran"], "answer": 0}
    with pytest.raises(ZooError, match=r"holds the token zebra, id \d+, which is not in the model's vocabulary"):
        evaluate(registry(choice_task(tmp_path, [*questions(1), zebra])), EvaluationRequest(str(package), ["quiz"]))


def test_wrong_values_are_refused(fp32: Path, tmp_path: Path) -> None:
    tasks = registry(choice_task(tmp_path, questions(2)))
    for request in (
        EvaluationRequest(str(fp32), []),
        EvaluationRequest(str(fp32), ["quiz"], limit=0),
        EvaluationRequest(str(fp32), ["quiz"], num_fewshot=-1),
        EvaluationRequest(str(fp32), ["quiz"], scoring="guessing"),
        EvaluationRequest(str(fp32), ["quiz"], weights="somewhere"),
    ):
        with pytest.raises(UsageError):
            evaluate(tasks, request)


def test_the_extra_is_named_where_it_is_missing(fp32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "lm_eval" else found(name, *rest)
    )
    with pytest.raises(ZooError, match=r"pip install 'model-zoo-framework\[eval\]'"):
        evaluate(registry(choice_task(tmp_path, questions(2))), EvaluationRequest(str(fp32), ["quiz"]))


def test_prompts_that_transformers_reads_otherwise_are_counted(tmp_path: Path) -> None:
    folder = make_checkpoint_folder(tmp_path / "small", "byte_fallback")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    # This class of transformers takes the vocabulary and makes rules of its own for spaces.
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": "LlamaTokenizer"}))
    rows = questions(4)
    rows[1]["question"] = " " + rows[1]["question"]
    package = build(folder, tmp_path / "package")
    task = choice_task(tmp_path, rows)
    done = evaluate(registry(task), EvaluationRequest(str(package), ["quiz"], against="hf", weights=str(folder)))
    assert "quiz: transformers makes other token ids of 1 of 4 prompts than tokenizer.json does" in done.notes


def test_a_prompt_that_leaves_no_room_for_an_answer_is_counted(chat: Path, tmp_path: Path) -> None:
    import random

    rows = questions(3)
    rows[0]["question"] = sentence(random.Random(0), 400)
    task = choice_task(tmp_path, rows) | {
        "output_type": "generate_until", "doc_to_target": "{{choices[answer]}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 4},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip
    del task["doc_to_choice"]
    done = evaluate(registry(task), EvaluationRequest(str(chat), ["quiz"]))
    assert done.reports[0].measured["cut_short"] == 1
    assert done.reports[0].measured["samples"] == 3
