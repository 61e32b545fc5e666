"""What a server offers: packages under names, each with what it takes in memory."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.engine.chat import find_template
from zoo.engine.machine import memory_limit
from zoo.errors import UsageError, ZooError
from zoo.package.folder import MANIFEST, read_manifest
from zoo.registry import Registry
from zoo.stages.subject import find_package

if TYPE_CHECKING:
    from zoo.declarations.manifest import Manifest


@dataclass(frozen=True)
class ServedModel:
    """A package under the name that clients ask for."""

    name: str
    path: Path
    manifest: Manifest
    chat: bool
    """It has a chat template."""

    @property
    def created(self) -> int:
        """When the package was built, seconds since 1970; 0 where it is gone."""
        try:
            return int((self.path / MANIFEST).stat().st_mtime)
        except OSError:
            return 0

    @property
    def weight_bytes(self) -> int:
        """What the weights take while the package runs; onnxruntime holds float16 as float32."""
        stored = sum(record.size for name, record in self.manifest.files.items() if name.endswith(".data"))
        return stored * 2 if self.manifest.recipe.precision == "fp16" else stored

    @property
    def token_bytes(self) -> int:
        """What keys and values of one token take, float32."""
        arch = self.manifest.recipe.architecture
        return 2 * arch.num_hidden_layers * arch.num_key_value_heads * arch.head_dim * 4

    @property
    def context_length(self) -> int:
        return self.manifest.recipe.architecture.max_position_embeddings

    def cache_bytes(self, slots: int) -> int:
        """What the KV cache of full slots takes."""
        return slots * self.context_length * self.token_bytes

    def memory(self, slots: int) -> int:
        """What the model takes at most while it is loaded, bytes."""
        return self.weight_bytes + self.cache_bytes(slots)


def served_models(registry: Registry, texts: Sequence[str], precision: str | None = None) -> list[ServedModel]:
    """Find the packages that MODEL|PACKAGE... mean, and name them.

    A package goes by its model's name; where two of one model are served, by model and precision; where that is the
    same too, by its folder's name. No name is a path.

    Raises:
        ZooError: one is not built, or two would have the same name.
    """
    if not texts:
        raise UsageError("nothing to serve: name a model or a package")
    paths = list(dict.fromkeys(find_package(registry, text, precision).resolve() for text in texts))
    manifests = [read_manifest(path) for path in paths]
    recipes = [one.recipe for one in manifests]
    names = [recipe.model for recipe in recipes]
    for longer in (
        [f"{recipe.model}-{recipe.precision}" for recipe in recipes],
        [path.name for path in paths],
    ):
        count = Counter(names)
        names = [other if count[name] > 1 else name for name, other in zip(names, longer, strict=True)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ZooError(f"two packages would be served as {twice[0]!r}; rename the folder of one")
    return [
        ServedModel(name, path, manifest, find_template(path) is not None)
        for name, path, manifest in zip(names, paths, manifests, strict=True)
    ]


def require_server() -> None:
    """Refuse to serve where what serves is not installed.

    Raises:
        ZooError: with what to install.
    """
    for name in ("fastapi", "uvicorn", "prometheus_client"):
        if importlib.util.find_spec(name) is None:
            raise ZooError(
                f"serving needs {name}, which is not installed; install it with: pip install 'zoo-framework[serve]'"
            )


def free_memory() -> int:
    """Count the bytes that models may take: what this machine, or this container, has free now."""
    return memory_limit()[1]
