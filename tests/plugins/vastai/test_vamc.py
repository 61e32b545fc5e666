"""The compile and quantization files equal what people wrote by hand, and go where a package goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

# One file for each model and precision, as written by hand; `checkpoint` is left out, it is a place.
HAND_WRITTEN = """
name: {folder}-{precision}-tp4-1024-2048
frontend:
  type: huggingface
  shape:
    input_ids: [[1024], [2048]]
  model_kwargs:
    tp: 4
    b2s: true
    model_arch: vacc
{quantize}
backend:
  type: tvm_vacc
  dtype: {precision}
  merge_params: true
  compile:
    data_type: 0
    gather_data_vccl_dsp_enable: true
workspace:
  path: ./vacc_deploy
  workers: 4
"""
FOLDERS = {
    "llama-33b": "LLaMA-33B-HF",
    "llama2-7b": "Llama-2-7b-hf",
    "llama2-7b-chat": "Llama-2-7b-chat-hf",
    "llama2-13b": "Llama-2-13b-hf",
    "llama2-13b-chat": "Llama-2-13b-chat-hf",
    "llama2-70b": "Llama-2-70b-hf",
    "llama2-70b-chat": "Llama-2-70b-chat-hf",
}
CALIBRATION = {"c4": 1024, "ceval": 128, "alpaca": 512}


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_bytes())


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("model", FOLDERS)
def test_defaults_are_the_hand_written_files(zoo, tmp_path, model, precision) -> None:
    out = tmp_path / "out"
    result = zoo("build", model, "--target", "vamc", "-p", precision, "-o", out)
    assert result.exit_code == 0, result.output
    quantize = "  quantize: {type: w8a16_gptq}" if precision == "int8" else ""
    wanted = yaml.safe_load(HAND_WRITTEN.format(folder=FOLDERS[model], precision=precision, quantize=quantize))
    found = read(out / f"{wanted['name']}.yaml")
    assert found["frontend"].pop("checkpoint") == f"./{FOLDERS[model]}"
    assert found == wanted


def test_every_declared_model_of_both_families_is_held_against_a_file() -> None:
    from zoo.plugins import host

    families = host().registry.families
    assert {one.name for name in ("llama", "llama2") for one in families[name].models} == set(FOLDERS)


def test_int8_brings_a_quantization_file_for_each_calibration_dataset(zoo, tmp_path) -> None:
    out = tmp_path / "out"
    assert zoo("build", "llama-33b", "--target", "vamc", "-o", out).exit_code == 0
    name = "LLaMA-33B-HF-int8-tp4-1024-2048"
    compiled = read(out / f"{name}.yaml")
    for dataset, length in CALIBRATION.items():
        quant = read(out / f"{name}-quant-{dataset}.yaml")
        assert quant.pop("dataset") == {
            "type": "huggingface",
            "nsamples": 128,
            "name": dataset,
            "path": f"./datasets/{dataset}",
            "seqlen": length,
        }
        assert quant["frontend"].pop("quantize") == {
            "type": "w8a16_gptq",
            "device": "cuda:5",
            "calib_args": {"true_sequential": False},
        }
        assert compiled["frontend"]["quantize"] == {"type": "w8a16_gptq"}
        quant["frontend"]["quantize"] = {"type": "w8a16_gptq"}
        assert quant == compiled
    assert len(list(out.glob("*-quant-*.yaml"))) == 3


def test_fp16_needs_no_quantization(zoo, tmp_path) -> None:
    result = zoo("build", "llama2-7b", "--target", "vamc", "-p", "fp16", "-o", tmp_path / "out", "--json")
    report = json.loads(result.stdout)
    assert report["files"] == ["Llama-2-7b-hf-fp16-tp4-1024-2048.yaml"]
    assert [one["argv"][:2] for one in report["commands"]] == [["hf", "download"], ["vamc", "compile"]]


def test_the_folder_is_a_package_with_its_hashes_and_without_places(zoo, tmp_path, config_folder) -> None:
    import hashlib

    weights = config_folder("LLaMA-33B-HF", hidden_size=6656, intermediate_size=17920, num_hidden_layers=60,
                            num_attention_heads=52, num_key_value_heads=52, vocab_size=32000,
                            max_position_embeddings=2048, rms_norm_eps=1e-6)  # fmt: skip
    out = tmp_path / "out"
    result = zoo("build", "llama-33b", "--target", "vamc", "--weights", weights, "-o", out)
    assert result.exit_code == 0, result.output
    manifest = json.loads((out / "zoo.json").read_bytes())
    assert manifest["parameters"] == 32_528_943_616
    files = {path.name for path in out.iterdir()} - {"zoo.json"}
    assert set(manifest["files"]) == files
    for name, record in manifest["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == record["sha256"]
    # The tool needs the place; the recipe and the manifest must not know it.
    assert read(out / "LLaMA-33B-HF-int8-tp4-1024-2048.yaml")["frontend"]["checkpoint"] == str(weights)
    assert str(tmp_path) not in (out / "zoo.json").read_text()
    assert "download alexl83" not in result.stdout


def test_a_checkpoint_that_nobody_declared_needs_only_its_config(zoo, tmp_path, config_folder) -> None:
    folder, out = config_folder(), tmp_path / "out"
    result = zoo("build", folder, "--target", "vamc", "-o", out)
    assert result.exit_code == 0, result.output
    # Six heads do not divide by 4, and the context of 512 holds no 1024 tokens; 2 KV heads divide by tp 2.
    document = read(out / "Small-Llama-HF-int8-tp2-256-512.yaml")
    assert document["frontend"]["model_kwargs"] == {"tp": 2, "b2s": True, "model_arch": "vacc"}
    assert document["frontend"]["shape"] == {"input_ids": [[256], [512]]}
    assert (out / "Small-Llama-HF-int8-tp2-256-512-quant-c4.yaml").is_file()


def test_any_declared_model_builds_with_its_defaults(zoo, tmp_path) -> None:
    from zoo.plugins import host
    from zoo.stages.catalog import written
    from zoo.stages.resolve import pin_declared

    registry = host().registry
    target = registry.target("vamc")
    for model in registry.models():
        recipe = pin_declared(registry, model, "vamc", "int8")
        made = written(registry, model, target, recipe, 1)
        assert any(name.endswith(".yaml") for name in made.files), model.full_name
    for family in registry.families.values():
        model = next(iter(family.models))
        result = zoo("build", model.full_name, "--target", "vamc", "-o", tmp_path / model.name)
        assert result.exit_code == 0, result.output


def test_options_become_keys(zoo, tmp_path) -> None:
    out = tmp_path / "out"
    options = ("--tp", "2", "--shapes", "512,1024", "--latency", "--device", "cuda:0", "--workers", "8")
    extra = json.dumps({"backend": {"compile": {"data_type": 2}}})
    result = zoo("build", *options, "llama2-13b", "--target", "vamc", "--extra", extra, "-o", out)
    assert result.exit_code == 0, result.output
    document = read(out / "Llama-2-13b-hf-int8-tp2-512-1024.yaml")
    assert document["frontend"]["model_kwargs"] == {"tp": 2, "b2s": False, "model_arch": "vacc"}
    assert document["backend"]["compile"] == {"data_type": 2, "gather_data_vccl_dsp_enable": True}
    assert document["workspace"]["workers"] == 8
    quant = read(out / "Llama-2-13b-hf-int8-tp2-512-1024-quant-c4.yaml")
    assert quant["frontend"]["quantize"]["device"] == "cuda:0"


def test_an_eight_bit_kv_cache_is_w16kv8(zoo, tmp_path) -> None:
    out = tmp_path / "out"
    assert zoo("build", "llama2-7b", "--target", "vamc", "-p", "fp16", "--kv-cache", "int8", "-o", out).exit_code == 0
    document = read(out / "Llama-2-7b-hf-fp16-tp4-1024-2048-kv8.yaml")
    assert document["frontend"]["quantize"] == {"type": "w16kv8"}
    refused = zoo("build", "llama2-7b", "--target", "vamc", "-p", "int8", "--kv-cache", "int8", "-o", out)
    assert refused.exit_code == 1
    assert "w16kv8" in refused.stderr


def test_the_calibration_dataset_can_be_chosen(zoo, tmp_path) -> None:
    arguments = ("build", "llama2-7b", "--target", "vamc", "-o", tmp_path / "out", "--json")
    report = json.loads(zoo(*arguments, "--calibration", "ceval").stdout)
    quant = [one["argv"] for one in report["commands"] if one["argv"][:2] == ["vamc", "quant"]]
    assert quant == [["vamc", "quant", "../out/Llama-2-7b-hf-int8-tp4-1024-2048-quant-ceval.yaml"]]
    other = zoo(*arguments, "--calibration", "sharegpt")
    assert (other.exit_code, "not a calibration dataset" in other.stderr) == (2, True)


def test_already_built(zoo, tmp_path) -> None:
    arguments = ("build", "llama-33b", "--target", "vamc", "-o", tmp_path / "out")
    assert zoo(*arguments).stdout.startswith("built ")
    assert zoo(*arguments).stdout.startswith("already built ")
    other = zoo(*arguments, "--tp", "2")
    assert other.exit_code == 1
    assert "--force" in other.stderr
    assert zoo(*arguments, "--tp", "2", "--force").exit_code == 0
    assert {one.name for one in (tmp_path / "out").glob("*tp4*")} == set()


def test_dry_run_writes_nothing(zoo, tmp_path) -> None:
    result = zoo("build", "llama-33b", "--target", "vamc", "-o", tmp_path / "out", "--dry-run")
    assert result.exit_code == 0
    assert "LLaMA-33B-HF-int8-tp4-1024-2048.yaml" in result.stdout
    assert not (tmp_path / "out").exists()


def test_show_tells_the_options_and_what_int8_means(zoo) -> None:
    fields = json.loads(zoo("show", "llama2-70b", "--json").stdout)["fields"]["target vamc"]
    assert fields["shapes"]["value"] == [1024, 2048]
    assert fields["tp"]["value"] == 4
    assert fields["int8"]["value"] == "quantizer w8a16_gptq"


def test_a_family_changes_the_defaults(zoo, tmp_path, monkeypatch, family_yaml) -> None:
    text = family_yaml() + "targets: {vamc: {tp: 2, workers: 1}}\n"
    (tmp_path / "families").mkdir()
    (tmp_path / "families" / "example.yaml").write_text(text)
    monkeypatch.setenv("ZOO_PATH", str(tmp_path / "families"))
    result = zoo("build", "example-1b", "--target", "vamc", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert read(tmp_path / "out" / "one-int8-tp2-32-64.yaml")["workspace"]["workers"] == 1
    # It declares no calibration data, so there is nothing to quantize with; the compile file stands.
    assert list((tmp_path / "out").glob("*-quant-*")) == []


@pytest.mark.parametrize("command", [["run", "hello"], ["verify"]])
def test_zoo_refuses_to_run_it_by_name(zoo, tmp_path, command) -> None:
    out = tmp_path / "llama-vamc"
    assert zoo("build", "llama-33b", "--target", "vamc", "-o", out).exit_code == 0
    result = zoo(command[0], out, *command[1:])
    assert result.exit_code == 1
    assert "llama-vamc was built for target 'vamc'" in result.stderr


def test_a_stored_one_is_refused_or_passed_over(zoo) -> None:
    from zoo.errors import ZooError
    from zoo.plugins import host
    from zoo.stages.subject import find_package

    assert zoo("build", "llama-33b", "--target", "vamc").exit_code == 0
    with pytest.raises(ZooError, match=r"was built for target 'vamc'.*zoo build llama-33b -p int8"):
        find_package(host().registry, "llama-33b")


def test_a_package_of_a_target_that_is_gone_is_named(zoo, tmp_path, monkeypatch) -> None:
    from zoo import plugins
    from zoo.errors import ZooError
    from zoo.stages.subject import find_package

    assert zoo("build", "llama-33b", "--target", "vamc", "-o", tmp_path / "out").exit_code == 0
    monkeypatch.setenv("ZOO_PLUGINS", "llama")
    plugins.host.cache_clear()
    with pytest.raises(ZooError, match="'vamc', which no loaded plugin brings"):
        find_package(plugins.host().registry, str(tmp_path / "out"))


def test_from_python(tmp_path) -> None:
    import zoo

    package = zoo.build("llama-33b", "fp16", target="vamc", target_options={"tp": 2}, output=tmp_path / "out")
    assert list(package.manifest.files) == ["LLaMA-33B-HF-fp16-tp2-1024-2048.yaml"]
    with pytest.raises(zoo.UsageError, match="nothing to plan"):
        zoo.plan("llama-33b", "fp16", target="vamc")
