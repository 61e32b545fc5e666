"""The vendor's rules, each with its reason, and none that refuses what is right."""

from __future__ import annotations

import json

import pytest


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("llama2-7b", ["--shapes", "1000,2048"], "shape 1000 is not a multiple of 16"),
        ("llama2-7b", ["--shapes", "1024,2050"], "take 2048 or 2064"),
        ("llama-33b", ["--shapes", "1024,4096"], "shape 4096 is longer than the context of 2048"),
        ("llama-33b", ["--tp", "8"], "tp 8 does not divide the 52 attention heads"),
        ("llama2-13b", ["--tp", "16"], "tp may be 1, 2, 4, 5, 8, 10, 20, 40"),
    ],
)
@pytest.mark.parametrize("target", ["vamc", "llmdeploy", "vastgenx"])
def test_a_broken_rule_is_named_with_its_reason(zoo, tmp_path, target, model, options, message) -> None:
    result = zoo("build", model, "--target", target, *options, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("model", "tp", "aligned"),
    [
        # 70B: 64 heads, 8 KV heads.
        ("llama2-70b", 1, False),
        ("llama2-70b", 8, False),
        ("llama2-70b", 16, True),
        ("llama2-70b", 32, True),
        # MHA: what divides the heads divides the KV heads.
        ("llama-33b", 13, False),
        ("llama2-7b", 32, False),
    ],
)
def test_align_qkv_exactly_where_kv_heads_do_not_divide(zoo, tmp_path, model, tp, aligned) -> None:
    import yaml

    out = tmp_path / "out"
    result = zoo("build", model, "--target", "vamc", "-p", "fp16", "--tp", tp, "-o", out)
    assert result.exit_code == 0, result.output
    (file,) = out.glob("*.yaml")
    kwargs = yaml.safe_load(file.read_bytes())["frontend"]["model_kwargs"]
    assert kwargs == {"tp": tp, "b2s": True, "model_arch": "vacc"} | ({"align_qkv": True} if aligned else {})


@pytest.mark.parametrize(
    ("model", "deep"), [("llama-33b", True), ("llama2-70b", True), ("llama2-13b", False), ("llama2-7b", False)]
)
def test_a_deep_stack_from_32b_on(zoo, tmp_path, model, deep) -> None:
    report = json.loads(zoo("build", model, "--target", "vamc", "-o", tmp_path / "out", "--json").stdout)
    environments = [one["environment"] for one in report["commands"] if one["argv"][0] == "vamc"]
    assert environments == [{"VACC_STACK_SIZE": "256"} if deep else {}] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tp", "0"], "option tp"),
        (["--tp", "many"], "option tp"),
        (["--shapes", "1024"], "option shapes"),
        (["--shapes", "1024,2048,4096"], "option shapes"),
        (["--shapes", "x,y"], "option shapes"),
        (["--throughput", "--latency"], "cannot be used together"),
        (["--kv-cache", "int4"], "option kv_cache"),
        (["--extra", "{"], "JSON"),
        (["--shape", "1024"], "--shapes"),
        (["--prec", "int8"], "--precision"),
        (["-p", "fp32"], "builds fp16, int8, not fp32"),
        (["--workspace", "~/deploy"], "home folder"),
        (["--quantizer", "rtn", "--calibration", "c4"], "needs no calibration data"),
    ],
)
def test_wrong_usage_is_one_line(zoo, tmp_path, options, message) -> None:
    result = zoo("build", "llama2-7b", "--target", "vamc", *options, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_options_of_another_target_are_not_taken(zoo, tmp_path) -> None:
    result = zoo("build", "zoo-tiny", "--tp", "2", "-o", tmp_path / "out")
    assert (result.exit_code, "--tp" in result.stderr) == (2, True)


def test_the_help_lists_the_target_s_options(zoo) -> None:
    shown = zoo("build", "--target", "vamc", "--help").stdout
    assert "--tp" in shown
    assert "--latency" in shown
    assert "--tp" not in zoo("build", "--help").stdout
