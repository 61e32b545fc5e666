"""The target ``llmdeploy``: one deploy file for the interface, the web page, the benchmark and the evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zoo import Recipe, TargetContext, Tool, ToolCommand
from zoo_vastai import rules
from zoo_vastai.documents import dump
from zoo_vastai.options import LlmdeployOptions
from zoo_vastai.places import checkpoint_template, dataset_file, dataset_folder, fetch_dataset
from zoo_vastai.vamc import INSTALL, VendorTarget, compiled_name

INPUT_OUTPUT = 512
"""Tokens of a benchmark's prompt, and of its answer."""


class Llmdeploy(VendorTarget):
    """The vendor's server: its YAML for a model that ``vamc`` compiled."""

    Options = LlmdeployOptions
    tools = (Tool("llmdeploy", "serves, measures and evaluates the compiled model", INSTALL, minimum=(1, 6)),)

    def check(self, recipe: Recipe) -> None:
        """Refuse what ``vamc`` could not have compiled."""
        options = LlmdeployOptions.model_validate(recipe.target.options)
        rules.check("llmdeploy", recipe.architecture, options.tp, options.shapes)
        rules.check_devices("llmdeploy", options)

    def documents(self, recipe: Recipe, context: TargetContext) -> Iterator[tuple[str, bytes]]:
        """Write ``NAME-llmdeploy.yaml``."""
        name = compiled_name(recipe, context, LlmdeployOptions.model_validate(recipe.target.options))
        yield f"{name}-llmdeploy.yaml", dump(deploy_document(recipe, context))

    def commands(self, recipe: Recipe, context: TargetContext) -> list[ToolCommand]:
        """List: fetch the datasets that are missing, then each of the four uses."""
        name = compiled_name(recipe, context, LlmdeployOptions.model_validate(recipe.target.options))
        steps: list[ToolCommand] = []
        for dataset in (*context.uses.performance[:1], *context.uses.accuracy[:1]):
            steps += fetch_dataset(context, dataset)
        uses = {
            "api": "serve the interface",
            "webui": "serve the web page",
            "benchmark": "measure the speed",
            "eval": "measure the accuracy",
        }
        file = context.document(f"{name}-llmdeploy.yaml")
        return steps + [ToolCommand(("llmdeploy", use, file), purpose) for use, purpose in uses.items()]


def deploy_document(recipe: Recipe, context: TargetContext) -> dict[str, Any]:
    """Make the input of ``llmdeploy``."""
    options = LlmdeployOptions.model_validate(recipe.target.options)
    assert options.tp is not None
    assert options.shapes is not None
    name = compiled_name(recipe, context, options)
    prefill, decode = options.shapes
    template = recipe.chat_template or checkpoint_template(context)
    half = min(INPUT_OUTPUT, decode // 2)
    performance, accuracy = context.uses.performance, context.uses.accuracy
    return {
        "model": {
            "model_name": name,
            "batch_size": options.batch_size,
            "prompt_template": template,
            "model_deploy_config": options.deploy_config,
            "model_infer_type": "tp",
            "publish_port": options.publish_port,
            "subscribe_port": options.subscribe_port,
            "tp_device_ids_list": list(options.devices or range(options.tp)),
            "tp_elf_path_list": [options.compiled or f"./vacc_deploy/{name}"],
            "top_k": options.top_k,
            "top_p": options.top_p,
            "temperature": options.temperature,
            "max_answer_tokens": options.max_answer_tokens or max(decode - prefill, 0) or decode,
        },
        "api": {"server_host": options.host, "server_port": options.port},
        "webui": {
            "server_host": options.host,
            "server_port": options.webui_port,
            "webui_image_path": None,
            "with_prompt": template is not None,
            "max_input_size": prefill,
            "model_deploy_lists": [name],
        },
        "benchmark": {
            "use_api": True,
            "input_output_len": [half, half],
            "test_batch_sizes": [16, 32, 64],
            "test_counts": 100,
            "card_type": options.card_type,
            "test_txt": dataset_file(context, performance[0]) if performance else None,
            "save_result": f"./results/{name}/benchmark",
        },
        "eval": {
            "config_path": options.eval_config,
            "save_result": f"./results/{name}/eval",
            "datasets_dir": f"{dataset_folder(context, accuracy[0])}/data" if accuracy else None,
            "dry_run": False,
            "eval_mode": options.eval_mode,
        },
    }
