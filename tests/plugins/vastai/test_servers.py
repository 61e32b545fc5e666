"""The deploy file and the serve command for a compiled model."""

from __future__ import annotations

import json
import subprocess

import yaml

NAME = "Llama-2-7b-chat-hf-int8-tp4-1024-2048"


def test_llmdeploy_file(zoo, tmp_path) -> None:
    out = tmp_path / "out"
    result = zoo("build", "llama2-7b-chat", "--target", "llmdeploy", "-o", out, "--card-type", "VA1")
    assert result.exit_code == 0, result.output
    document = yaml.safe_load((out / f"{NAME}-llmdeploy.yaml").read_bytes())
    assert {key: set(document[key]) for key in document} == {
        "model": {
            *("model_name", "batch_size", "prompt_template", "model_deploy_config", "model_infer_type"),
            *("publish_port", "subscribe_port", "tp_device_ids_list", "tp_elf_path_list"),
            *("top_k", "top_p", "temperature", "max_answer_tokens"),
        },
        "api": {"server_host", "server_port"},
        "webui": {
            *("server_host", "server_port", "webui_image_path", "with_prompt", "max_input_size"),
            "model_deploy_lists",
        },
        "benchmark": {
            *("use_api", "input_output_len", "test_batch_sizes", "test_counts", "card_type", "test_txt"),
            "save_result",
        },
        "eval": {"config_path", "save_result", "datasets_dir", "dry_run", "eval_mode"},
    }
    model = document["model"]
    assert model["model_name"] == NAME
    assert model["model_infer_type"] == "tp"
    assert model["tp_device_ids_list"] == [0, 1, 2, 3]
    assert model["tp_elf_path_list"] == [f"./vacc_deploy/{NAME}"]
    assert document["api"]["server_port"] == 7863
    assert document["webui"]["server_port"] == 8502
    assert document["benchmark"]["input_output_len"] == [512, 512]
    assert document["benchmark"]["test_batch_sizes"] == [16, 32, 64]
    assert document["benchmark"]["test_counts"] == 100
    assert document["benchmark"]["card_type"] == "VA1"
    assert document["benchmark"]["test_txt"].endswith("sharegpt/ShareGPT_V3_unfiltered_cleaned_split.json")
    assert document["eval"]["datasets_dir"].endswith("opencompass-core/data")
    assert document["eval"]["eval_mode"] == "all"


def test_the_chat_template_is_the_prompt_template(zoo, tmp_path) -> None:
    from jinja2 import Template

    zoo("build", "llama2-7b-chat", "--target", "llmdeploy", "-o", tmp_path / "chat")
    zoo("build", "llama2-7b", "--target", "llmdeploy", "-o", tmp_path / "base")
    (chat,), (base,) = ((tmp_path / name).glob("*.yaml") for name in ("chat", "base"))
    template = yaml.safe_load(chat.read_bytes())["model"]["prompt_template"]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    prompt = Template(template).render(messages=messages, bos_token="<s>", eos_token="</s>")
    assert prompt == "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHello [/INST]"
    document = yaml.safe_load(base.read_bytes())
    assert document["model"]["prompt_template"] is None
    assert document["webui"]["with_prompt"] is False


def test_a_checkpoint_s_own_template(zoo, tmp_path, config_folder) -> None:
    folder = config_folder()
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages[0].content }}"}))
    assert zoo("build", folder, "--target", "llmdeploy", "-o", tmp_path / "out").exit_code == 0
    (file,) = (tmp_path / "out").glob("*.yaml")
    assert yaml.safe_load(file.read_bytes())["model"]["prompt_template"] == "{{ messages[0].content }}"


def test_llmdeploy_shows_its_four_uses_and_runs_none(zoo, tmp_path, fake_tool) -> None:
    fake_tool("llmdeploy", "raise SystemExit(3)")
    result = zoo("build", "llama2-7b", "--target", "llmdeploy", "-o", tmp_path / "out")
    assert result.exit_code == 0
    for use in ("api", "webui", "benchmark", "eval"):
        assert f"llmdeploy {use} ../out/Llama-2-7b-hf-int8-tp4-1024-2048-llmdeploy.yaml" in result.stdout


def test_vastgenx_serve_command(zoo, tmp_path, fake_tool) -> None:
    out = tmp_path / "out"
    options = ("--tp", "2", "--devices", "3,1", "--batch-size", "8", "--host", "0.0.0.0", "--port", "9100")
    result = zoo("build", "llama2-70b", "--target", "vastgenx", *options, "-o", out, "--json")
    assert result.exit_code == 0, result.output
    wanted = [
        *("vastgenx", "serve", "--model", "./vacc_deploy/Llama-2-70b-hf-int8-tp2-1024-2048"),
        *("--host", "0.0.0.0", "--port", "9100", "--batch_size", "8", "--llm_devices", "[3,1]"),
    ]
    assert [one["argv"] for one in json.loads(result.stdout)["commands"]] == [wanted]
    fake_tool("vastgenx", "import json, os, sys; print(json.dumps([os.getcwd(), *sys.argv[1:]]))")
    done = subprocess.run(["sh", out / "serve.sh", "--extra"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [f"{out}.work", *wanted[1:], "--extra"]


def test_vastgenx_defaults(zoo, tmp_path) -> None:
    result = zoo("build", "llama2-7b", "--target", "vastgenx", "-o", tmp_path / "out", "--json")
    argv = json.loads(result.stdout)["commands"][0]["argv"]
    assert argv[argv.index("--port") + 1] == "9000"
    assert argv[argv.index("--batch_size") + 1] == "16"
    assert argv[-1] == "[0,1,2,3]"


def test_devices_are_one_for_each_part(zoo, tmp_path) -> None:
    for devices in ("0,1", "0,1,2,2"):
        result = zoo("build", "llama2-7b", "--target", "vastgenx", "--devices", devices, "-o", tmp_path / "out")
        assert result.exit_code == 1
        assert "not 4 different ones" in result.stderr
