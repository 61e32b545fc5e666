"""One model under test: its tiny checkpoint, and its packages, each made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from math import prod
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from zoo.contracts import OwnConfig, Shrinking
from zoo.declarations.architecture import Architecture
from zoo.declarations.plan import Plan
from zoo.errors import ZooError
from zoo.families import Families
from zoo.package import Package
from zoo.registry import DeclaredFamily, DeclaredModel, Registry
from zoo.stages.request import Request
from zoo.testing.checkpoint import write_config, write_empty, write_random, write_tokenizer
from zoo.testing.shrink import shrink, with_numbers

if TYPE_CHECKING:
    from zoo.stages.resolve import Resolved

RUNS_ON = "ort"
"""The target whose packages the engine opens."""
LARGE_ENOUGH = 400_000_000
"""Bytes of the checkpoint whose build must stay far below it in memory."""


Reference = Callable[[Path, list[int]], Any]
"""A checkpoint's folder and token ids → the logits of every position, (tokens, vocabulary)."""


class Case:
    """A declared model in a size that tests can build, or with the weights that its plugin ships."""

    def __init__(self, registry: Registry, declared: DeclaredModel, folder: Path, stated: ModuleType | None = None):
        self.declared, self.folder, self.installed = declared, folder, registry
        self._model_type: str | None = getattr(stated, "MODEL_TYPE", None)
        self.reference: Reference | None = getattr(stated, "REFERENCE", None)
        self.own_operations_suffice: bool = getattr(stated, "OWN_OPERATIONS_SUFFICE", False)
        shipped = declared.weights_folder
        self.arch = declared.architecture if shipped else small(registry, declared.architecture)
        self.registry = registry if shipped else with_numbers(registry, declared, self.arch)
        self._packages: dict[str, Package] = {}
        self._engines: dict[str, Any] = {}

    @property
    def name(self) -> str:
        return self.declared.full_name

    @cached_property
    def model_type(self) -> str:
        """The ``model_type`` of checkpoints: as declared, or one that says nothing beyond what the file states."""
        stated = self._model_type or self.declared.model_type
        if stated is not None:
            return stated
        for declared in self.installed.families.values():
            for claim in declared.family.claims:
                unsaid: Any = declared.family.claim(claim)
                if not unsaid.model_fields_set and (_type(declared) or "decoder") == self.arch.type:
                    return claim
        raise ZooError(f"no family claims a model_type for {self.arch.type!r}; state MODEL_TYPE in the test file")

    @cached_property
    def checkpoint(self) -> Path:
        """The folder of weights: what the plugin ships, or a random one that is made here."""
        shipped = self.declared.weights_folder
        if shipped is not None:
            return shipped
        path = self.folder / "checkpoint"
        self._write_config(path, self.arch)
        write_random(path, self.registry.architecture(self.arch.type).tensors(self.arch), seed=7)
        write_tokenizer(path)
        return path

    def _write_config(self, path: Path, arch: Architecture) -> None:
        stated = self._declared_here.tokens
        ends = list(stated.eos_token_id or (2,))
        begin = 1 if stated.bos_token_id is None else stated.bos_token_id
        tokens: dict[str, Any] = {"bos_token_id": begin, "eos_token_id": ends if len(ends) > 1 else ends[0]}
        part = self.registry.architecture(arch.type)
        own = dict(part.write_config(arch)) if isinstance(part, OwnConfig) else None
        tokens["pad_token_id"] = (own or {}).get("pad_token_id", stated.pad_token_id)
        claimant = self.registry.claimant(self.model_type)
        claim = claimant.family.claim(self.model_type) if claimant is not None else None
        write_config(path, arch, self.model_type, tokens, own, claim=claim)

    @property
    def _declared_here(self) -> DeclaredModel:
        return self.registry.model(self.name)

    def resolve(self, precision: str = "fp32", target: str = RUNS_ON) -> Resolved:
        """Pin a build of the checkpoint."""
        from zoo.stages.resolve import resolve

        request = Request(self.name, precision, weights=str(self.checkpoint), target=target)
        return resolve(self.registry, request)

    def plan(self, precision: str) -> Plan:
        """Plan a build."""
        from zoo.stages.plan import plan

        resolved = self.resolve(precision)
        return plan(resolved.recipe, resolved.checkpoint, self.registry, self.folder / precision)

    def package(self, precision: str) -> Package:
        """Build a precision, once."""
        from zoo.stages.build import build

        if precision not in self._packages:
            resolved, output = self.resolve(precision), self.folder / precision
            self._packages[precision] = build(resolved.recipe, resolved.checkpoint, output, self.registry, threads=1)
        return self._packages[precision]

    def engine(self, precision: str) -> Any:
        """Open a package, once: a decoder's or an encoder's."""
        if precision not in self._engines:
            engine = self.registry.engine(RUNS_ON, next(iter(self.registry.target(RUNS_ON).engines)))
            self._engines[precision] = engine.open(self.package(precision), threads=1)
        return self._engines[precision]

    def precisions(self) -> tuple[str, ...]:
        """Name the precisions that run here."""
        return tuple(self.installed.target(RUNS_ON).precisions)

    def empty_checkpoint(self) -> tuple[Path, int]:
        """Write a checkpoint of zeros with the same quirks, far larger than one slab; return it and its bytes."""
        part = self.installed.architecture(self.arch.type)
        arch, layers = self.arch, LAYERS_AT_MOST
        wide = {"vocab_size": 32000, "intermediate_size": 4096}
        if arch.moe_intermediate_size is not None:
            wide["moe_intermediate_size"] = 2048
        while layers > 1:
            arch = self.arch.with_layers(layers).model_copy(update=wide)
            if 2 * sum(map(prod, part.tensors(arch).values())) <= LARGE_ENOUGH:
                break
            layers = layers * 3 // 4
        path = self.folder / "empty"
        self._write_config(path, arch)
        if arch.type == "embedder":  # what tells it from a decoder that generates
            (path / "modules.json").write_text("[]", encoding="utf-8")
        return path, write_empty(path, part.tensors(arch))


def _type(declared: DeclaredFamily) -> str | None:
    fields: Any = declared.family.architecture
    return None if fields.type is None else str(fields.type)


LAYERS_AT_MOST = 512


def small(registry: Registry, arch: Architecture) -> Architecture:
    """Shrink numbers, those that only the architecture knows too."""
    part, numbers = registry.architecture(arch.type), shrink(arch)
    return part.shrink(numbers) if isinstance(part, Shrinking) else numbers


def distinct(registry: Registry, models: Iterator[DeclaredModel]) -> list[DeclaredModel]:
    """Keep one model of each kind: two that differ in sizes, ratios and bases alone are one."""
    seen: dict[str, DeclaredModel] = {}
    for model in models:
        own = model.weights_folder is not None
        seen.setdefault(model.full_name if own else _kind(small(registry, model.architecture)), model)
    return list(seen.values())


def _kind(arch: Architecture) -> str:
    """Name all about small numbers that is computed in another way."""
    numbers = arch.model_dump_json(exclude=_SIZES)
    return f"{arch.attention} {arch.hidden_size == arch.num_attention_heads * arch.head_dim} {numbers}"


_SIZES = {"hidden_size", "num_attention_heads", "num_key_value_heads", "rope_theta", "rms_norm_eps"}


def only(registry: Registry, plugin: str) -> Registry:
    """Narrow a registry to the families of one plugin."""
    mine = {name: declared for name, declared in registry.families.items() if declared.plugin == plugin}
    return replace(registry, families=Families(mine))
