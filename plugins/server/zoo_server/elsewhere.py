"""Serve a model's original weights by another engine: a target that is ``Serving`` says how its tool is called."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from zoo.contracts import WeightsOptional
from zoo.declarations.licence import Licence
from zoo.errors import UsageError, ZooError, unknown
from zoo.package.folder import read_manifest
from zoo.package.store import output_folder
from zoo.registry import Registry
from zoo.sources.hub import is_offline
from zoo.stages.documents import document_target, target_context, write_documents
from zoo.stages.opening import engine_names
from zoo.stages.resolve import Request, resolve
from zoo.stages.subject import identify
from zoo.stages.tools import run_tool
from zoo.terminal import command_line
from zoo.toolchain import DocumentTarget, Listening, Serving, Tool, ToolCommand

GRACE = 60.0
"""Seconds that an interrupted server has to finish what it began."""


@dataclass(frozen=True)
class Elsewhere:
    """What serves a model by another engine: a command, and the folder of documents that it runs in."""

    command: ToolCommand
    folder: Path
    tool: Tool | None
    """The program, and how to get it; None where the target names none."""
    licence: Licence

    @property
    def installed(self) -> bool:
        """Whether the program is on the PATH."""
        return shutil.which(self.command.argv[0]) is not None


def server_names(registry: Registry) -> list[str]:
    """Name the servers of original weights that plugins bring; a target that cannot be imported is passed over."""
    names = []
    for name in registry.targets:
        try:
            if isinstance(registry.target(name), Serving):
                names.append(name)
        except ZooError:
            continue
    return names


def serves_elsewhere(registry: Registry, name: str, model: str) -> bool:
    """Tell whether ``--engine NAME`` means a server of original weights, and not what opens a package.

    Raises:
        UsageError: it means neither.
    """
    opens = name in engine_names(registry)
    if name not in server_names(registry):
        if not opens:
            engine(registry, name)  # offers the nearest names
        return False
    if not opens:
        return True
    package = identify(registry, model).package
    if package is None:
        return True
    target = read_manifest(package).recipe.target.name
    return target not in registry.targets or name not in registry.target(target).engines


def engine(registry: Registry, name: str) -> DocumentTarget:
    """Get the target that serves by an engine.

    Raises:
        UsageError: no plugin brings such an engine.
        ZooError: it serves, but writes no documents.
    """
    if name not in registry.targets or not isinstance(registry.target(name), Serving):
        raise unknown("engine", name, [*server_names(registry), *engine_names(registry)])
    return document_target(registry, name)


def prepare(
    registry: Registry,
    request: Request,
    *,
    host: str,
    port: int,
    api_key: str | None = None,
) -> Elsewhere:
    """Check that an engine can serve a model, write what its tool reads, and say how it is called.

    No weights are read or fetched: where they are not on this machine, the tool fetches them.

    Args:
        request: the model and where its weights are; ``target`` names the engine, ``target_options`` its options.
        host: the address to listen on.
        port: the port to listen on.
        api_key: what every request must carry.

    Raises:
        UsageError: an unknown engine, model or option, or a package in place of original weights.
        ZooError: the engine cannot serve this model with these options, or nothing says where its weights are.
    """
    target = engine(registry, request.target)
    if isinstance(target, WeightsOptional):
        request = replace(request, target_options={**request.target_options, **target.without_weights})
    subject = identify(registry, request.model)
    if subject.package is not None and request.weights is None:
        raise UsageError(
            f"{subject.label} is a package; {request.target} serves original weights: name the model or its checkpoint"
        )
    resolved = resolve(registry, request, fetch=False)
    folder, hub = resolved.source.folder, resolved.source.hub
    if folder is not None and resolved.checkpoint is not None and not resolved.checkpoint.tensors:
        raise ZooError(f"{folder} holds no weights, only their configuration; {request.target} serves weights")
    if folder is None and _offline():
        raise ZooError(
            f"the weights of {resolved.recipe.model} are not on this machine and the network is off; "
            f"with the network on: {command_line('zoo', 'fetch', request.model)}"
        )
    assert folder is not None or hub is not None  # a subject is declared with one of them, or is one of them
    written = write_documents(resolved, output_folder(resolved.recipe), registry)
    listening = Listening(host=host, port=port, model_name=resolved.recipe.model, api_key=api_key)
    assert isinstance(target, Serving)
    command = target.serve_command(resolved.recipe, target_context(registry, resolved), listening)
    tool = next((tool for tool in target.tools if tool.name == command.argv[0]), None)
    return Elsewhere(command, written.package.path, tool, resolved.recipe.licence)


def serve(prepared: Elsewhere) -> int:
    """Run the tool until it ends; what it prints goes to stderr, interrupts and terminations are passed on.

    Returns:
        Its exit code, 128 + its number for a signal.

    Raises:
        KeyboardInterrupt: after an interrupt, once the tool has ended.
        SystemExit: 143 after a termination, 129 after a hang-up, once the tool has ended.
    """
    return run_tool(prepared.command, prepared.folder, grace=GRACE)


def _offline() -> bool:
    return is_offline()
