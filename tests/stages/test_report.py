"""``make_table``: what is recorded of a model, a row a figure under conditions that compare."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from zoo.declarations.report import MachineKind, Report
from zoo.errors import UsageError, ZooError
from zoo.plugins import host
from zoo.reports import keep_report
from zoo.stages.report import ReportRow, Table, make_table, tabulate

START = datetime(2026, 1, 1, tzinfo=UTC)
HASHES = {"fp32": "a" * 64, "int8": "b" * 64, "int4": "c" * 64}


def report(
    kind: str, precision: str, settings: dict[str, Any], measured: dict[str, Any], at: int = 0, **more: Any
) -> Report:
    machine = MachineKind(cpu=more.pop("cpu", "CPU"), cores=2, memory_bytes=1, system="Linux x86_64")
    return Report(
        kind=kind, recipe_hash=more.pop("recipe_hash", HASHES[precision]), model=more.pop("model", "zoo-tiny"),
        family=more.pop("family", "tiny"),
        precision=precision, measured_at=START + timedelta(minutes=at), settings=settings, measured=measured,
        machine=machine, versions={"onnxruntime": "1"}, zoo_version="0", **more,
    )  # fmt: skip


def scored(precision: str, acc: float, at: int = 0, **settings: Any) -> Report:
    asked = {
        "task": "quiz",
        "scoring": "likelihood",
        "num_fewshot": 0,
        "data_hash": "d",
        "prompt_hash": "p",
        **settings,
    }
    return report("eval", precision, asked, {"acc": acc, "acc_stderr": 0.01, "samples": 9, "cut_short": 0}, at)


def row(table: Table, what: str, metric: str) -> list[ReportRow]:
    return [one for one in table.rows if one.what == what and one.metric == metric]


def test_builds_stand_side_by_side() -> None:
    table = tabulate("zoo-tiny", [scored("int8", 0.5), scored("fp32", 0.6)])
    assert [one.label for one in table.builds] == ["fp32", "int8"]
    (found,) = row(table, "quiz", "acc")
    assert {hash_: cell.value for hash_, cell in found.cells.items()} == {HASHES["fp32"]: 0.6, HASHES["int8"]: 0.5}
    assert found.cells[HASHES["int8"]].stderr == 0.01
    assert found.conditions == "likelihood, 0-shot, 9 samples"


@pytest.mark.parametrize(
    "other", [{"data_hash": "e"}, {"prompt_hash": "q"}, {"num_fewshot": 5}, {"seed": 1}, {"scoring": "generation"}]
)
def test_what_does_not_compare_has_a_row_of_its_own(other: dict[str, Any]) -> None:
    table = tabulate("zoo-tiny", [scored("int8", 0.5), scored("fp32", 0.6, **other)])
    found = row(table, "quiz", "acc")
    assert [len(one.cells) for one in found] == [1, 1]
    assert found[0].conditions != found[1].conditions


def test_the_latest_of_the_same_conditions_counts() -> None:
    table = tabulate("zoo-tiny", [scored("int8", 0.5, at=0), scored("int8", 0.7, at=1)])
    assert row(table, "quiz", "acc")[0].cells[HASHES["int8"]].value == 0.7


def test_two_builds_of_one_precision_are_told_apart() -> None:
    other = report("eval", "int8", {"task": "quiz"}, {"acc": 0.4, "samples": 2}, recipe_hash="d" * 64)
    table = tabulate("zoo-tiny", [scored("int8", 0.5), other])
    assert [one.label for one in table.builds] == ["int8 bbbbbbbb", "int8 dddddddd"]


def test_verifications_and_speeds_are_rows_too() -> None:
    figures = {"top1": 0.99, "kl_mean": 1e-4, "perplexity": 7.0}
    load = {"label": "128+64 x1", "input_len": 128, "output_len": 64, "concurrency": 1, "output_throughput": 30.0}
    found = [
        report("verify", "int8", {"quick": False, "sequences": 9}, {"figures": figures}, passed=True),
        report(
            "verify", "int4", {"quick": False, "sequences": 9}, {"figures": {**figures, "kl_mean": None}}, passed=False
        ),
        report("bench", "int8", {"workload": "fixed"}, {"load_s": 1.0, "workloads": [load]}),
        report("bench", "int4", {"workload": "fixed"}, {"workloads": [{**load, "output_throughput": 50.0}]}),
        report("bench", "fp32", {"workload": "fixed"}, {"workloads": [load]}, cpu="Another"),
    ]
    table = tabulate("zoo-tiny", found)
    (verified,) = row(table, "against transformers", "verified")
    assert [verified.cells[HASHES[one]].value for one in ("int8", "int4")] == [1.0, 0.0]
    assert verified.cells[HASHES["int4"]].note == "past its tolerance"
    assert list(row(table, "against transformers", "mean KL, nats")[0].cells) == [HASHES["int8"]]
    speeds = row(table, "128+64 x1", "output, tokens/s")
    assert [set(one.cells) for one in speeds] == [{HASHES["fp32"]}, {HASHES["int8"], HASHES["int4"]}]


def test_a_model_by_its_name() -> None:
    registry = host().registry
    with pytest.raises(ZooError, match="nothing is recorded of zoo-tiny; measure it: zoo verify"):
        make_table(registry, "zoo-tiny")
    keep_report(scored("int8", 0.5))
    assert make_table(registry, "zoo-tiny").model == "zoo-tiny"
    with pytest.raises(ZooError, match="nothing is recorded of llama-33b"):
        make_table(registry, "llama-33b")
    with pytest.raises(UsageError, match="did you mean zoo-tiny"):
        make_table(registry, "zoo-tinny")
