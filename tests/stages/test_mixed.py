"""``--mixed auto``: what is measured, what is chosen, that the recipe says it, and what is refused."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from tests.checkpoints import make_checkpoint
from tests.stages.test_calibrate import add_tokenizer, words
from zoo.calibration import sensitivity
from zoo.cli import app
from zoo.errors import UsageError, ZooError
from zoo.package import open_package
from zoo.package.layout import lay_out
from zoo.plugins import host
from zoo.reports import recorded_reports, reports
from zoo.stages.calibrate import calibrated
from zoo.stages.mixed import mixed, parse_budget
from zoo.stages.resolve import Request, resolve


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def model(tmp_path):
    make_checkpoint(tmp_path / "model")
    return add_tokenizer(tmp_path / "model")


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(words(20, seed) for seed in range(100)))
    return path


def run(model, tmp_path, *more, code=0):
    """Build; return stdout, or the line of error where one is expected."""
    arguments = ["build", str(model), "-o", str(tmp_path / "p"), *map(str, more)]
    result = CliRunner().invoke(app, arguments)
    found = result.exception.exit_code if isinstance(result.exception, ZooError) else result.exit_code
    assert found == code, result.output
    if code == 0:
        return result.stdout
    return str(result.exception) if isinstance(result.exception, ZooError) else result.stderr.strip()


def options(text, quantizer="gptq"):
    return ["--quantizer", quantizer, "--calibration", text, "--samples", 4, "--sequence-length", 32, "--mixed", "auto"]


@pytest.mark.parametrize("quantizer", ["gptq", "rtn", "awq"])
def test_the_recipe_states_the_choice(model, text, tmp_path, quantizer):
    found = json.loads(run(model, tmp_path, "-p", "int4", *options(text, quantizer), "--json"))
    choice = found["mixed"]
    assert choice["plain_bits_per_weight"] * 1.1 >= found["bits_per_weight"] == choice["bits_per_weight"]
    raised = {one["name"] for one in choice["weights"] if one["precision"] == "int8"}
    assert raised
    assert choice["predicted_kl"] < choice["plain_kl"]
    manifest = open_package(tmp_path / "p").manifest
    keep = manifest.recipe.quantizer.options["keep"]
    # Head and embedding have 8 bits without a word; of the others those are named that got more.
    outside = {"model.embed_tokens.weight", "lm_head.weight"}
    assert {name for name, precision in keep.items() if precision == "int8"} == raised - outside
    assert {name for name, precision in keep.items() if precision == "int4"} == outside - raised
    assert (manifest.recipe.calibration is None) == (quantizer == "rtn")
    # The same choice by hand is the same recipe, and the same package.
    by_hand = ["--quantizer", quantizer, "--quantizer-option", f"keep={json.dumps(keep)}"]
    if quantizer != "rtn":
        by_hand += ["--calibration", text, "--samples", 4, "--sequence-length", 32]
    else:  # what was measured is rounded as it was measured
        by_hand += ["--smoothing", "none"]
    assert run(model, tmp_path, "-p", "int4", *by_hand).startswith("already built")


def test_it_is_measured_once(model, text, tmp_path, monkeypatch):
    assert "int8" in run(model, tmp_path, "-p", "int4", *options(text))
    request = Request(
        str(model), "int4", quantizer="gptq", calibration=str(text), samples=4, sequence_length=32,
    )  # fmt: skip
    plain, _ = calibrated(host().registry, request, resolve(host().registry, request))
    kept = reports(plain.recipe.hash, "sensitivity")
    assert len(kept) == 1
    assert kept[0].settings == {"low": "int4", "high": "int8", "tokens": 128}
    assert str(tmp_path) not in kept[0].model_dump_json()
    assert recorded_reports() == []  # it is of no build
    monkeypatch.setattr(sensitivity, "measure", lambda *more, **named: pytest.fail("measured again"))
    assert "already built" in run(model, tmp_path, "-p", "int4", *options(text))
    plan = json.loads(
        run(model, tmp_path, "-p", "int4", *options(text), "--mixed-budget", "7.5", "--dry-run", "--json")
    )
    assert plan["recipe"]["quantizer"]["options"]["keep"]
    assert plan["bits_per_weight"] <= 7.5


def test_a_larger_budget_loses_less(model, text, tmp_path):
    run(model, tmp_path, "-p", "int4", *options(text))
    registry = host().registry
    losses = []
    for budget in ("0%", "10%", "25%", "40%"):
        request = Request(
            str(model), "int4", quantizer="gptq", calibration=str(text), samples=4, sequence_length=32,
            mixed="auto", mixed_budget=budget,
        )  # fmt: skip
        resolved, tokens = calibrated(registry, request, resolve(registry, request))
        resolved, choice = mixed(registry, request, resolved, tokens, planning=True)
        assert lay_out(resolved.recipe, registry).bits_per_weight == choice.bits_per_weight <= choice.budget
        losses.append(choice.predicted_kl)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] / 2


def test_what_is_chosen_by_hand_stays(model, text, tmp_path):
    keep = {"*.layers.0.*": "int8"}
    more = ["--quantizer-option", f"keep={json.dumps(keep)}", "--quantizer-option", "head_bits=4"]
    found = json.loads(run(model, tmp_path, "-p", "int4", *options(text), *more, "--json"))
    names = {one["name"] for one in found["mixed"]["weights"]}
    assert "lm_head.weight" not in names
    assert not any(".layers.0." in one for one in names)
    assert any(".layers.1." in one for one in names)
    chosen = open_package(tmp_path / "p").manifest.recipe.quantizer.options["keep"]
    assert next(iter(chosen)) == "*.layers.0.*"


def test_int8_gives_some_weights_float16(model, text, tmp_path):
    found = json.loads(run(model, tmp_path, "-p", "int8", *options(text), "--json"))
    assert {one["precision"] for one in found["mixed"]["weights"]} == {"int8", "fp16"}


def test_the_table_for_people(model, text, tmp_path):
    lines = run(model, tmp_path, "-p", "int4", *options(text)).splitlines()
    assert lines[0].split() == ["WEIGHT", "PRECISION", "SIZE", "KL", "int4", "KL", "int8", "GAIN,", "NATS/GB"]
    assert any(" int8 " in line for line in lines[1:])
    assert "bits per weight of" in lines[-3]
    assert lines[-2].startswith("without --mixed: ")
    assert lines[-1].startswith("built ")


BAD = [
    (["--mixed", "manual"], 2, "--mixed is auto, not 'manual'"),
    (["--mixed-budget", "5"], 2, "--mixed-budget is for --mixed auto"),
    (["--mixed", "auto", "--mixed-budget", "much"], 2, "bits per weight (5.2) or a percentage more (10%), not 'much'"),
    (["--mixed", "auto", "--mixed-budget", "-3"], 2, "not '-3'"),
    (["--mixed", "auto", "--mixed-budget", "2.5"], 2, "everything at int4 takes"),
    (["--mixed", "auto", "-p", "fp16", "--quantizer", "float"], 2, "'float' makes fp16"),
    (["--mixed", "auto", "--quantizer-option", 'keep={"*":"int8"}'], 2, "has no choice"),
    (["--mixed", "auto", "--dry-run"], 2, "measures weights, which --dry-run does not read"),
]


@pytest.mark.parametrize(("more", "code", "message"), BAD)
def test_what_is_refused(model, text, tmp_path, more, code, message):
    base = [] if "--quantizer" in more else ["--quantizer", "gptq"]
    calibration = ["--calibration", text, "--samples", 4, "--sequence-length", 32]
    precision = [] if "-p" in more else ["-p", "int4"]
    found = run(model, tmp_path, *precision, *base, *calibration, *more, code=code)
    assert message in found
    assert "\n" not in found
    assert not (tmp_path / "p").exists()


def test_without_data_it_says_so(model, tmp_path):
    found = run(model, tmp_path, "-p", "int4", "--mixed", "auto", code=1)
    # The family's first dataset is what it would take, and it is not here.
    assert "dataset c4 is not on this machine" in found


def test_budgets():
    assert parse_budget(None, 5.0) == pytest.approx(5.5)
    assert parse_budget("0%", 5.0) == 5.0
    assert parse_budget("4.75", 5.0) == 4.75
    for wrong in ("", "nan", "inf", "0", "%", "1e999%"):
        with pytest.raises(UsageError):
            parse_budget(wrong, 5.0) if wrong else parse_budget(" ", 5.0)
