"""What a part must offer: the protocols behind the hooks, and the few values that parts hand to each other.

A part is registered by a string, ``"package.module:Class"``, and imported on first use.

- An **architecture** says *what* is computed.
- A **quantizer** says *how small* a weight gets.
- A **target** says *for whom*.
- A **source** opens a location as a **checkpoint**, where the weights come from.
- A **transform** is a checkpoint over a checkpoint.

Only the builder knows all of them.
"""

from zoo.contracts.architecture import ArchitecturePart, InTransformers, OwnConfig, RepeatingLayers, Shrinking
from zoo.contracts.checkpoint import Checkpoint, Stamp, TensorInfo
from zoo.contracts.encoding import ArrayLayout, BlockTile, Encoding, FloatTile, Tile, TileWriter
from zoo.contracts.quantizer import FoldableLayer, Folding, FoldLink, LayerActivations, Quantizer, Slab
from zoo.contracts.source import CheckpointOver, Source, Transform, TransformedCheckpoint
from zoo.contracts.target import PackageContents, Target, View
from zoo.contracts.weights import (
    HeadPadding,
    Parameter,
    ParameterKind,
    RowSlice,
    StoredArray,
    flat_shape,
    interleaved,
    stacked,
)

__all__ = [
    "ArchitecturePart",
    "ArrayLayout",
    "BlockTile",
    "Checkpoint",
    "CheckpointOver",
    "Encoding",
    "FloatTile",
    "FoldLink",
    "FoldableLayer",
    "Folding",
    "HeadPadding",
    "InTransformers",
    "LayerActivations",
    "OwnConfig",
    "PackageContents",
    "Parameter",
    "ParameterKind",
    "Quantizer",
    "RepeatingLayers",
    "RowSlice",
    "Shrinking",
    "Slab",
    "Source",
    "Stamp",
    "StoredArray",
    "Target",
    "TensorInfo",
    "Tile",
    "TileWriter",
    "Transform",
    "TransformedCheckpoint",
    "View",
    "flat_shape",
    "interleaved",
    "stacked",
]
