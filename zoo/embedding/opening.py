"""What opens a package of the target ``ort``: the engine of what it holds."""

from __future__ import annotations

from zoo.contracts import Engine
from zoo.engine import OrtEngine
from zoo.engine.session import GRAPH
from zoo.package.folder import Package


def is_encoder(package: Package) -> bool:
    """Tell whether a package holds no model that generates: its graph keeps no cache of what came before."""
    memory, files = package.manifest.memory, package.manifest.files
    return GRAPH not in files and "model.onnx" in files and memory is not None and memory.kv_bytes_per_token == 0


class OwnEngine:
    """Opens a package as a model that generates, or as one that embeds or scores texts."""

    @classmethod
    def open(cls, package: Package, *, threads: int | None = None) -> Engine:
        """Open a package; see ``Engine.open``."""
        if is_encoder(package):
            from zoo.embedding.engine import EncoderEngine

            return EncoderEngine.open(package, threads=threads)
        return OrtEngine.open(package, threads=threads)
