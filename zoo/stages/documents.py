"""Recipe → Package for a target that writes documents for other tools: no weights are read, few bytes are written."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo import __version__
from zoo.declarations.base import Name
from zoo.declarations.dataset import DatasetUses
from zoo.declarations.manifest import FileRecord, Manifest
from zoo.declarations.recipe import Recipe
from zoo.errors import ZooError
from zoo.package.files import write_file
from zoo.package.folder import Package, open_package
from zoo.package.locking import locked
from zoo.package.publish import clear_up, existing, publish, recover, standing, write_manifest
from zoo.package.staging import make_staging
from zoo.registry import Registry
from zoo.stages.resolve import Resolved
from zoo.toolchain import DocumentTarget, TargetContext, ToolCommand


@dataclass(frozen=True)
class Written:
    """The folder of documents, and the commands that take it further."""

    package: Package
    commands: Sequence[ToolCommand]
    already_built: bool


def work_folder(output: Path) -> Path:
    """Name the folder that the commands run in: beside the documents, so that replacing them loses nothing."""
    return output.with_name(f"{output.name}.work")


def document_target(registry: Registry, name: str) -> DocumentTarget:
    """Get a target that writes documents.

    Raises:
        ZooError: it reads no weights, but writes no documents either.
    """
    target: object = registry.target(name)
    if not isinstance(target, DocumentTarget):
        raise ZooError(f"target {name!r} neither reads weights nor writes documents; it is defective")
    return target


def write_documents(resolved: Resolved, output: Path, registry: Registry, *, force: bool = False) -> Written:
    """Write the documents of a recipe, or find them written.

    The folder is complete or absent, like any package; the commands are not run here.

    Raises:
        ZooError: the target refuses the recipe, or something else stands at ``output``.
    """
    recipe = resolved.recipe
    output = Path(os.path.abspath(output))
    target = document_target(registry, recipe.target.name)
    context = target_context(registry, resolved, output)
    commands = target.commands(recipe, context)
    clear_up(output)
    if existing(output, recipe.hash, force=force):
        return Written(open_package(output), commands, already_built=True)
    files = dict(target.documents(recipe, context))
    with locked(output):
        recover(output)
        if existing(output, recipe.hash, force=force):  # another process finished it while this one waited
            return Written(open_package(output), commands, already_built=True)
        manifest = Manifest(
            recipe=recipe,
            recipe_hash=recipe.hash,
            parameters=context.parameters,
            bits_per_weight=0.0,
            files={
                name: FileRecord(size=len(raw), sha256=hashlib.sha256(raw).hexdigest())
                for name, raw in sorted(files.items())
            },
            versions={"python": platform.python_version(), "model-zoo-framework": __version__},
        )
        before, staging = standing(output), make_staging(output)
        for name, raw in files.items():
            write_file(staging.new, name, raw)
        write_manifest(staging.new, manifest)
        publish(staging, before)
    return Written(open_package(output), commands, already_built=False)


def document_names(resolved: Resolved, registry: Registry, output: Path) -> frozenset[str]:
    """Name every file that a recipe's documents are."""
    target = document_target(registry, resolved.recipe.target.name)
    return frozenset(dict(target.documents(resolved.recipe, target_context(registry, resolved, output))))


def target_context(registry: Registry, resolved: Resolved, output: Path | None = None) -> TargetContext:
    """Collect what documents may say beyond the recipe.

    Args:
        output: the folder of the documents, where commands run beside it rather than in it.
    """
    recipe, source = resolved.recipe, resolved.source
    declared = resolved.subject.declared
    family = registry.families.get(recipe.family) if recipe.family is not None else None
    uses = family.family.datasets if family is not None else DatasetUses()
    names: set[Name] = {*(use.dataset for use in uses.calibration), *uses.performance, *uses.accuracy}
    if recipe.calibration is not None:
        names.add(recipe.calibration.dataset)
    return TargetContext(
        weights_name=source.name,
        weights=source.folder,
        hub=source.hub,
        revision=source.revision,
        parameters=parameter_count(registry, recipe),
        chat=bool(declared.chat) if declared is not None else False,
        uses=uses,
        datasets={name: registry.datasets[name] for name in sorted(names) if name in registry.datasets},
        documents="." if output is None else f"../{output.name}",
    )


def parameter_count(registry: Registry, recipe: Recipe) -> int:
    """Count a recipe's weights from its numbers alone."""
    return registry.architecture(recipe.architecture.type).parameter_count(recipe.architecture)
