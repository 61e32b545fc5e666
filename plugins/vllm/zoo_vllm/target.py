"""The target ``vllm``: quantized safetensors that vLLM serves, or the script that serves original weights."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from zoo import (
    Encoding,
    Listening,
    Package,
    PackageContents,
    Parameter,
    Recipe,
    Scheme,
    StoredArray,
    TargetContext,
    Tool,
    ToolCommand,
    View,
    ZooError,
)
from zoo_vllm import levels, rules, shards
from zoo_vllm.encoding import ENCODINGS
from zoo_vllm.options import INSTALL, KEY, ORIGINAL, VllmOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEMPLATE = "chat_template.jinja"


class Vllm:
    """vLLM's OpenAI-compatible server, over weights that a build stores or over the original ones."""

    Options = VllmOptions
    precisions: ClassVar[dict[str, str]] = {"fp16": "float", "int8": "rtn", "int4": "rtn"}
    operations = None
    emitter_version = 2
    needs_weights = True
    without_weights: ClassVar[dict[str, Any]] = ORIGINAL
    engines: ClassVar[dict[str, str]] = {
        "vllm": "zoo_vllm.engine:VllmEngine",
        "transformers": "zoo_vllm.reading:Transformers",
    }
    verified_by: ClassVar[str] = "transformers"
    head_multiple = 1
    view: ClassVar[View] = "checkpoint"
    encoding: ClassVar[Encoding] = ENCODINGS["pack-quantized"]
    quantizer_options: ClassVar[dict[str, dict[str, Any]]] = {"int4": {"block_size": 128, "symmetric": True}}
    tools = (Tool("vllm", "serves the weights on one or more GPUs", INSTALL),)

    def check(self, recipe: Recipe) -> None:
        """Refuse sizes that the model cannot be split into, and precisions that vLLM does not serve it in."""
        options = _options(recipe)
        rules.check("vllm", recipe.architecture, options)
        if options.weights == "original" and recipe.precision != "fp16":
            raise ZooError(f"vllm: original weights are served as they are, not as {recipe.precision}; say -p fp16")
        if options.weights != "original" and recipe.architecture.experts_in_turn:
            raise ZooError("vllm: takes these experts as they are published; say --target-option weights=original")
        if recipe.architecture.type == "encoder" and recipe.precision != "fp16":
            raise ZooError(f"vllm: an encoder is served as floats, not as {recipe.precision}; say -p fp16")

    def adapt(self, recipe: Recipe, parameter: Parameter, scheme: Scheme) -> Scheme:
        """Give a weight a scheme that vLLM reads."""
        return levels.adapted(parameter, scheme, _options(recipe))

    def encoding_for(self, recipe: Recipe) -> Encoding:
        """Lay weights as the chosen format does."""
        return ENCODINGS[_options(recipe).format]

    def place(
        self, recipe: Recipe, parameters: Sequence[Parameter], schemes: Mapping[str, Scheme]
    ) -> Iterable[StoredArray]:
        """Place weights in files of a few gigabytes."""
        options = _options(recipe)
        return shards.place(parameters, schemes, self.encoding_for(recipe), options.shard_gb * 1e9, options.format)

    def headers(self, contents: PackageContents) -> Mapping[str, bytes]:
        """Make the headers of the safetensors files."""
        return shards.headers(contents)

    def files(self, contents: PackageContents) -> Iterator[tuple[str, bytes]]:
        """Make ``config.json``, the index, and ``serve.sh``."""
        recipe = contents.recipe
        options = _options(recipe)
        yield "config.json", levels.configuration(contents, options)
        yield from shards.files(contents, options.format)
        yield "serve.sh", _script(self._argv(recipe, Listening("127.0.0.1", 8000, recipe.model), (".",), ()))

    def read_back(self, package: Package) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Read every weight by safetensors and compressed-tensors."""
        from zoo_vllm.reading import weights

        return weights(package.path)

    def documents(self, recipe: Recipe, context: TargetContext) -> Iterator[tuple[str, bytes]]:
        """Write ``serve.sh``, and the declared chat template; a checkpoint's own is found by vLLM itself."""
        yield "serve.sh", _script(self._elsewhere(recipe, context))
        if recipe.chat_template is not None:
            yield TEMPLATE, recipe.chat_template.encode()

    def commands(self, recipe: Recipe, context: TargetContext) -> list[ToolCommand]:
        """List the one command."""
        return [ToolCommand(self._elsewhere(recipe, context), "serve")]

    def serve_command(self, recipe: Recipe, context: TargetContext, listening: Listening) -> ToolCommand:
        """Say how to serve right here: weights that are on this machine are taken from where they are."""
        weights = (str(context.weights.absolute()),) if context.weights is not None else self._hub_first(context)
        secrets = {KEY: listening.api_key} if listening.api_key else {}
        return ToolCommand(self._argv(recipe, listening, weights, _template(recipe)), "serve", secrets=secrets)

    def _elsewhere(self, recipe: Recipe, context: TargetContext) -> tuple[str, ...]:
        listening = Listening("127.0.0.1", 8000, recipe.model)
        return self._argv(recipe, listening, self._hub_first(context), _template(recipe))

    @staticmethod
    def _hub_first(context: TargetContext) -> tuple[str, ...]:
        """Name the weights as another machine finds them: by hub id and revision, else by folder."""
        if context.hub is None:
            return (str(context.weights.absolute()) if context.weights is not None else f"./{context.weights_name}",)
        return (context.hub, *(() if context.revision == "main" else (f"--revision={context.revision}",)))

    @staticmethod
    def _argv(
        recipe: Recipe, listening: Listening, weights: tuple[str, ...], template: tuple[str, ...]
    ) -> tuple[str, ...]:
        return (
            *("vllm", "serve", *weights, "--served-model-name", listening.model_name),
            *("--host", listening.host, "--port", str(listening.port)),
            *_options(recipe).arguments(),
            *template,
        )


def _options(recipe: Recipe) -> VllmOptions:
    return VllmOptions.model_validate(recipe.target.options)


def _template(recipe: Recipe) -> tuple[str, ...]:
    return ("--chat-template", TEMPLATE) if recipe.chat_template is not None else ()


def _script(command: Sequence[str]) -> bytes:
    return f'#!/bin/sh\ncd "$(dirname "$0")" && exec {shlex.join(command)} "$@"\n'.encode()
