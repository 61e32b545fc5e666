"""The target ``vllm``: a script and a chat template to take elsewhere, and the command that serves right here."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import ClassVar

from zoo import Listening, Recipe, TargetContext, Tool, ToolCommand
from zoo_vllm import rules
from zoo_vllm.options import VllmOptions

TEMPLATE = "chat_template.jinja"
KEY = "VLLM_API_KEY"
"""The variable in which vLLM looks for the key that requests must carry."""
INSTALL = "pip install vllm, in an environment of its own (https://docs.vllm.ai says for which GPUs)"


class Vllm:
    """vLLM's OpenAI-compatible server over the original weights, which it reads, or fetches, by itself."""

    Options = VllmOptions
    precisions: ClassVar[dict[str, str]] = {"fp16": "float"}
    operations = None
    emitter_version = 1
    needs_weights = False
    engines: ClassVar[dict[str, str]] = {}
    head_multiple = 1
    tools = (Tool("vllm", "serves the original weights on one or more GPUs", INSTALL),)

    def check(self, recipe: Recipe) -> None:
        """Refuse sizes that the model cannot be split into."""
        rules.check("vllm", recipe.architecture, VllmOptions.model_validate(recipe.target.options))

    def documents(self, recipe: Recipe, context: TargetContext) -> Iterator[tuple[str, bytes]]:
        """Write ``serve.sh``, and the declared chat template; a checkpoint's own is found by vLLM itself."""
        command = shlex.join(self._elsewhere(recipe, context))
        yield "serve.sh", f'#!/bin/sh\ncd "$(dirname "$0")" && exec {command} "$@"\n'.encode()
        if recipe.chat_template is not None:
            yield TEMPLATE, recipe.chat_template.encode()

    def commands(self, recipe: Recipe, context: TargetContext) -> list[ToolCommand]:
        """List the one command."""
        return [ToolCommand(self._elsewhere(recipe, context), "serve")]

    def serve_command(self, recipe: Recipe, context: TargetContext, listening: Listening) -> ToolCommand:
        """Say how to serve right here: weights that are on this machine are taken from where they are."""
        weights = (str(context.weights.absolute()),) if context.weights is not None else self._hub_first(context)
        secrets = {KEY: listening.api_key} if listening.api_key else {}
        return ToolCommand(self._argv(recipe, listening, weights), "serve", secrets=secrets)

    def _elsewhere(self, recipe: Recipe, context: TargetContext) -> tuple[str, ...]:
        return self._argv(recipe, Listening("127.0.0.1", 8000, recipe.model), self._hub_first(context))

    @staticmethod
    def _hub_first(context: TargetContext) -> tuple[str, ...]:
        """Name the weights as another machine finds them: by hub id and revision, else by folder."""
        if context.hub is None:
            return (str(context.weights.absolute()) if context.weights is not None else f"./{context.weights_name}",)
        return (context.hub, *(() if context.revision == "main" else (f"--revision={context.revision}",)))

    @staticmethod
    def _argv(recipe: Recipe, listening: Listening, weights: tuple[str, ...]) -> tuple[str, ...]:
        options = VllmOptions.model_validate(recipe.target.options)
        template = ("--chat-template", TEMPLATE) if recipe.chat_template is not None else ()
        return (
            *("vllm", "serve", *weights, "--served-model-name", listening.model_name),
            *("--host", listening.host, "--port", str(listening.port)),
            *options.arguments(),
            *template,
        )
