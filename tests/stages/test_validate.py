"""`zoo validate`: what is wrong with a declaration, where, and how to mend it."""

from __future__ import annotations

import json
import re
import textwrap
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from zoo import plugins
from zoo.cli import app
from zoo.plugins import host
from zoo.stages.validate import validate

from ..conftest import REGISTER_FAMILY

ROOT = Path(__file__).parents[2]

GOOD = """
name: mine
title: Mine
licence: {id: mit}
architecture: {vocab_size: 32000, max_position_embeddings: 2048}
datasets:
  calibration: [{dataset: c4, sequence_length: 512}]
models:
  - name: mine-7b
    weights: {hub: me/mine-7b}
    architecture:
      {hidden_size: 4096, intermediate_size: 11008, num_hidden_layers: 32, num_attention_heads: 32}
"""


@pytest.fixture
def judge(tmp_path):
    """Validate a family YAML and return what was found, without the note on the network."""

    def run(text, name="mine.yaml"):
        (tmp_path / name).write_text(textwrap.dedent(text))
        found = validate(plugins.host(), [str(tmp_path / name)])
        return [one for one in found.findings if "network is off" not in one.message]

    return run


def test_the_bundled_declarations_are_right() -> None:
    found = validate(plugins.host(), [str(ROOT / "plugins")])
    names = {path.name for path in ROOT.glob("plugins/*/zoo_*/*.yaml")}
    assert {Path(one).name for one in found.files} == names
    told = [one for one in found.findings if one.severity != "note"]
    # MobiLlama's half billion shares one MLP, counted in every layer as the checkpoint is said to store it.
    assert [one for one in told if "not 0.5b" not in one.message] == []
    assert validate(plugins.host(), ["llama2"]).ok


def test_a_good_family_passes(judge) -> None:
    assert judge(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "line", "severity", "message"),
    [
        ("title: Mine", "titel: Mine", 3, "error", "unknown field; did you mean title"),
        ("dataset: c4", "dataset: c5", 7, "error", "did you mean c4"),
        ("dataset: c4", "dataset: sharegpt", 7, "error", "is for performance, not for calibration"),
        ("num_attention_heads: 32", "num_attention_heads: 33", 12, "error", "not divisible"),
        ("num_attention_heads: 32", "num_attention_heads: 32, hidden_act: swiglu", 12, "error", "unknown activation"),
        ("mine-7b\n", "mine-13b\n", 9, "warning", "not 13b"),
        ("licence: {id: mit}", "licence: {id: mit}\ntokens: {bos_token_id: 32000}", 5, "error", "not in the vocab"),
        ("licence: {id: mit}", "licence: {id: mit}\nclaims: [llama]", 5, "error", "already claims model_type 'llama'"),
        ("name: mine\n", "name: llama2\n", 2, "error", "the family 'llama2' is declared by plugin 'llama2' too"),
        ("mine-7b\n", "llama2-7b\n", 9, "warning", "declares a model 'llama2-7b' too; users will have to write"),
        ("hub: me/mine-7b", "hub: meta-llama/Llama-2-7b-hf", 10, "warning", "is declared as llama2/llama2-7b too"),
        ("hub: me/mine-7b", "hub: meta-llama/Llama-2-13b-hf", 10, "error", "with hidden_size 5120, not 4096"),
        ("hub: me/mine-7b", "path: nowhere", 10, "error", "there is no checkpoint in 'nowhere'"),
        ("hub: me/mine-7b}", "hub: me/mine-7b}\n    base: llama2/llama2-8b", 11, "error", "unknown base"),
        ("hub: me/mine-7b}", "hub: me/mine-7b}\n    draft: llama2-7", 11, "error", "unknown model 'llama2-7'"),
        ("hub: me/mine-7b}", "hub: me/mine-7b}\n    draft: llama2-70b", 11, "error", "is not smaller than mine-7b"),
        ("title: Mine", "title: Mine\ntargets: {vamc: {tpp: 2}}", 4, "error", "unknown field; did you mean tp"),
        ("title: Mine", "title: Mine\ntargets: {vamc: {tp: 3}}", 4, "error", "3"),
        ("title: Mine", "title: Mine\ntargets: {nowhere: {a: 1}}", 4, "warning", "unknown target 'nowhere'"),
        ("title: Mine", "title: Mine\ntargets: {vllm: {trust_remote_code: true}}", 4, "error", "code run, which no"),
        ("title: Mine", "title: 33", 3, "error", "expected text, not 33; put it in quotes"),
        ("title: Mine", "title: Mine: you", 3, "error", "put a text that holds ': ' in quotes"),
        ("title: Mine", "title: Mine\n\tx: 3", 4, "error", "indent with spaces"),
        ("title: Mine", "title: Mine\ntitle: Mine", 4, "error", "stands here twice; remove one"),
        ("title: Mine", "title: Mine\nclaims:\n  - mine_x\n  - a b", 6, "error", "expected a model_type: letters"),
        ("title: Mine", "title: Mine\nclaims:\n  mine_x:\n    norm_ofset: 1", 6, "error", "did you mean norm_offset?"),
        ("title: Mine", "title: Mine\nclaims: mine", 4, "error", "expected a list of model types, or a mapping"),
        ("title: Mine", "title: Mine\nclaims:\n  - mine_x\n  - llama", 6, "error", "already claims model_type 'llama'"),
        ("title: Mine", "title: Mine\ntokens:\n  eos_token_id: two", 5, "error", "expected a whole number, not 'two'"),
        ("title: Mine", "title: Mine\ntokens: {eos: 2}", 4, "error", "remove it; known: bos_token_id, eos_token_id"),
        ("    weights:", "    base: other\n    weights:", 10, "error", "not declared above it"),
        ("    weights:", "    unconfirmed: [rope_theta]\n    weights:", 10, "error", "does not state rope_theta"),
        ("hidden_size: 4096, ", "", 11, "error", "required; state it for the model or its family"),
        ("num_attention_heads: 32", "\n      num_attention_heads: 32, num_key_value_heads: 5", 13, "error", "num_"),
        ("title: Mine", "title: Mine  # TODO(you): is it?", 3, "note", "an open question: is it?"),
        ("title: Mine", "title: Mine\nchat_template: '{{ nope('", 4, "error", "template"),
        ("title: Mine", "title: Mine\nchat_template: 'always the same'", 4, "error", "omits a message"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place_and_mend(judge, old, new, line, severity, message) -> None:
    assert old in GOOD
    found = judge(GOOD.replace(old, new, 1))
    matching = [one for one in found if message in str(one)]
    assert matching, [str(one) for one in found]
    assert matching[0].severity == severity
    assert matching[0].line == line
    assert re.match(rf".*mine\.yaml:{line}:\d+: {severity}: ", str(matching[0]))
    for finding in found:
        assert not re.search(r"constrained|ArchitectureFields|Input should|Value error|\[key\]", str(finding))


def test_what_is_no_yaml_is_named_with_its_place(judge) -> None:
    (one,) = judge("name: [\n")
    assert (one.severity, one.line) == ("error", 2)


def test_several_files_see_each_other(tmp_path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD.replace("dataset: c4", "dataset: own"))
    (tmp_path / "tunes.yaml").write_text(
        "name: tunes\ntitle: T\nlicence: {id: mit}\n"
        "models: [{name: tuned, base: mine/mine-7b, weights: {hub: me/tuned}}]\n"
    )
    (tmp_path / "data.yaml").write_text(
        "datasets:\n  - {name: own, title: Own, hub: me/own, files: [{path: a.jsonl}], format: text-jsonl,"
        " purposes: [calibration], licence: {id: mit}}\n"
    )
    (tmp_path / "other.yaml").write_text("steps: [1, 2]\n")
    found = validate(plugins.host(), [str(tmp_path)])
    assert [Path(one).name for one in found.files] == ["data.yaml", "mine.yaml", "tunes.yaml"]
    assert [one for one in found.findings if one.severity != "note"] == []


def test_a_dataset_declared_differently_clashes(tmp_path) -> None:
    (tmp_path / "data.yaml").write_text(
        "datasets:\n  - {name: c4, title: Own, hub: me/own, files: [{path: a.jsonl}], format: text-jsonl,"
        " purposes: [calibration], licence: {id: mit}}\n"
    )
    (one,) = [one for one in validate(plugins.host(), [str(tmp_path)]).findings if one.severity == "error"]
    assert "'c4' is already declared with other title" in one.message
    assert one.line == 2


def test_an_edited_copy_of_a_loaded_family_is_judged_as_it_is_now(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ZOO_PATH", str(tmp_path))
    (tmp_path / "mine.yaml").write_text(GOOD)
    plugins.host.cache_clear()
    host = plugins.host()
    (tmp_path / "mine.yaml").write_text(GOOD.replace("mine-7b\n", "mine-13b\n"))
    found = [one for one in validate(host, [str(tmp_path)]).findings if one.severity != "note"]
    assert [one.field for one in found] == ["models[0].name"]


def test_a_plugin_that_failed_is_an_error(install_plugin, family_yaml) -> None:
    install_plugin("odd", REGISTER_FAMILY, family__yaml=family_yaml().replace("title", "titel"))
    found = validate(plugins.host(), ["odd"])
    assert not found.ok
    assert "family.yaml:2:1: title: this field is required" in found.findings[0].message


def test_the_hub_is_asked_when_there_is_one(tmp_path, server) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD)
    server.add("me/mine-7b", files={"config.json": b"{}", "model.safetensors": b"x" * 9})
    assert validate(plugins.host(), [str(tmp_path)]).findings == ()
    server.add("me/mine-7b", files={"README.md": b""})
    (one,) = [one for one in validate(plugins.host(), [str(tmp_path)]).findings if "config.json" in one.message]
    assert (one.severity, one.line) == ("error", 10)
    (tmp_path / "mine.yaml").write_text(GOOD.replace("me/mine-7b", "me/nowhere"))
    assert not validate(plugins.host(), [str(tmp_path)]).ok


def test_the_command_exits_by_what_it_found(tmp_path) -> None:
    file = tmp_path / "mine.yaml"
    runner = CliRunner()
    file.write_text(GOOD.replace("mine-7b\n", "mine-13b\n"))
    done = runner.invoke(app, ["validate", str(file)])
    assert done.exit_code == 0, done.output
    assert f"{file}:9:" in done.stdout
    assert "warning" in done.stdout
    file.write_text(GOOD.replace("c4", "c5"))
    done = runner.invoke(app, ["validate", str(file), "--json"])
    assert done.exit_code == 1
    answer = json.loads(done.stdout)
    assert not answer["ok"]
    assert {"severity", "file", "line", "column", "field", "message", "mend"} == answer["findings"][0].keys()
    assert runner.invoke(app, ["validate", str(tmp_path / "nowhere")]).exit_code != 0


def test_it_is_offered_as_a_pre_commit_hook() -> None:
    import yaml

    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert hook["id"] == "zoo-validate"
    words = [*hook["entry"].split()[1:], *hook["args"]]
    assert CliRunner().invoke(app, ["validate", "--help"]).exit_code == 0
    assert words == ["validate", "."]


@pytest.mark.parametrize("shape", ["one file", "many files"])
def test_time_is_linear_in_the_number_of_models(shape, tmp_path, family_yaml) -> None:
    """Quadrupling the models takes about four times as long, not sixteen times."""

    def seconds(count: int) -> float:
        folder = tmp_path / f"{shape} {count}"
        folder.mkdir()
        if shape == "one file":
            model = (
                "  - {{name: m{0}, weights: {{hub: a/m{0}}}, architecture: {{hidden_size: 64, intermediate_size: 128, "
            )
            model += "num_hidden_layers: {1}, num_attention_heads: 4}}}}\n"
            models = "".join(model.format(index, index % 7 + 1) for index in range(count))
            (folder / "many.yaml").write_text(family_yaml().split("  - name")[0] + models)
        else:
            for index in range(count):
                text = family_yaml(f"f{index}", f"f{index}-1b", f"[f{index}]").replace(
                    "example/one", f"example/f{index}"
                )
                (folder / f"f{index}.yaml").write_text(text)
        begun = time.process_time()
        found = validate(host(), [str(folder)])
        took = time.process_time() - begun
        assert found.ok, found.findings[:3]
        return took

    seconds(20)
    small = min(seconds(100), seconds(101))
    assert seconds(400) < 9 * small


def test_a_name_that_all_take_is_told_a_few_times(tmp_path, family_yaml) -> None:
    for index in range(30):
        text = family_yaml(f"f{index}", "same", "[same]").replace("example/one", f"example/f{index}")
        (tmp_path / f"f{index}.yaml").write_text(text)
    found = validate(host(), [str(tmp_path)])
    assert 29 <= found.count("error") <= 3 * 30
    assert 29 <= found.count("warning") <= 3 * 30


def test_a_hub_that_is_out_of_reach_is_tried_once(tmp_path, monkeypatch, server) -> None:
    """A thousand models would otherwise wait for it one after another."""
    from zoo.sources import hub_errors

    asked: list[float] = []
    monkeypatch.setattr(hub_errors, "rest", lambda seconds, stop: asked.append(seconds))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    models = "".join(f"  - {{name: tuned-{n}, base: mine-7b, weights: {{hub: me/t{n}}}}}\n" for n in range(40))
    (tmp_path / "mine.yaml").write_text(GOOD + models)
    found = validate(plugins.host(), [str(tmp_path)]).findings
    (line,) = [str(one) for one in found if "hub" in one.message]
    assert "note: models: the hub was not checked" in line
    assert len(asked) == hub_errors.TRIES - 1


def test_every_model_is_looked_for_on_the_hub(tmp_path, server) -> None:
    models = "".join(f"  - {{name: tuned-{n}, base: mine-7b, weights: {{hub: me/t{n}}}}}\n" for n in range(20))
    (tmp_path / "mine.yaml").write_text(GOOD + models)
    files = {"config.json": b"{}", "model.safetensors": b"x" * 9}
    for name in ("mine-7b", *(f"t{n}" for n in range(20) if n not in (3, 17))):
        server.add(f"me/{name}", files=files)
    found = validate(plugins.host(), [str(tmp_path)]).findings
    first = GOOD.count("\n") + 1
    assert [one.line for one in found if one.severity == "error"] == [first + 3, first + 17]
