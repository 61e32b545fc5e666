"""The target ``vastgenx``: the command that serves a compiled model with an OpenAI-compatible interface."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from zoo import Recipe, TargetContext, Tool, ToolCommand
from zoo_vastai import rules
from zoo_vastai.options import VastgenxOptions
from zoo_vastai.vamc import INSTALL, VendorTarget, compiled_name


class Vastgenx(VendorTarget):
    """The server that succeeds ``llmdeploy``."""

    Options = VastgenxOptions
    tools = (Tool("vastgenx", "serves the compiled model", INSTALL),)

    def check(self, recipe: Recipe) -> None:
        """Refuse what ``vamc`` could not have compiled."""
        options = VastgenxOptions.model_validate(recipe.target.options)
        rules.check("vastgenx", recipe.architecture, options.tp, options.shapes)
        rules.check_devices("vastgenx", options)

    def documents(self, recipe: Recipe, context: TargetContext) -> Iterator[tuple[str, bytes]]:
        """Write ``serve.sh``."""
        command = shlex.join(self.serve(recipe, context))
        work = 'work="$(cd "$(dirname "$0")" && pwd -P).work" && mkdir -p "$work" && cd "$work"'
        yield "serve.sh", f'#!/bin/sh\n{work} && exec {command} "$@"\n'.encode()

    def commands(self, recipe: Recipe, context: TargetContext) -> list[ToolCommand]:
        """List the one command."""
        return [ToolCommand(self.serve(recipe, context), "serve")]

    def serve(self, recipe: Recipe, context: TargetContext) -> tuple[str, ...]:
        """Make the serve command."""
        options = VastgenxOptions.model_validate(recipe.target.options)
        assert options.tp is not None
        devices = ",".join(str(device) for device in options.devices or range(options.tp))
        model = options.compiled or f"./vacc_deploy/{compiled_name(recipe, context, options)}"
        return (
            *("vastgenx", "serve", "--model", model, "--host", options.host, "--port", str(options.port)),
            *("--batch_size", str(options.batch_size), "--llm_devices", f"[{devices}]"),
        )
