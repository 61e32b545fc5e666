"""What a part must offer: the protocols behind the hooks, and the few values that parts hand to each other.

A part is registered by a string, ``"package.module:Class"``, and imported on first use.

- An **architecture** says *what* is computed.
- A **quantizer** says *how small* a weight gets.
- A **target** says *for whom*; an **engine** of it opens what it built, and answers.
- A **source** opens a location as a **checkpoint**, where the weights come from.
- A **transform** is a checkpoint over a checkpoint.

Only the builder knows all of them.
"""

from zoo.contracts.architecture import (
    ArchitecturePart,
    Elsewhere,
    InTransformers,
    OwnConfig,
    RepeatingLayers,
    Shrinking,
    StoredOtherwise,
    SwappedAxes,
    few_layers,
)
from zoo.contracts.checkpoint import (
    Checkpoint,
    FollowsTokens,
    ReadsColumns,
    Stamp,
    StoresBlocks,
    StoresQuantized,
    TensorInfo,
    block_scheme,
    stored_type,
)
from zoo.contracts.encoding import ArrayLayout, BlockTile, Encoding, FloatTile, Tile, TileWriter
from zoo.contracts.engine import (
    OWN_ENGINE,
    Ability,
    Answer,
    Batching,
    Engine,
    LogitEngine,
    RequestQueue,
    ServedEngine,
    require,
)
from zoo.contracts.quantizer import FoldableLayer, Folding, FoldLink, LayerActivations, Quantizer, Slab
from zoo.contracts.source import CheckpointOver, Source, Transform, TransformedCheckpoint
from zoo.contracts.target import (
    Adapting,
    PackageContents,
    ReadBack,
    Rearranging,
    Selective,
    Target,
    View,
    WeightsOptional,
    reads_weights,
)
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
    "OWN_ENGINE",
    "Ability",
    "Adapting",
    "Answer",
    "ArchitecturePart",
    "ArrayLayout",
    "Batching",
    "BlockTile",
    "Checkpoint",
    "CheckpointOver",
    "Elsewhere",
    "Encoding",
    "Engine",
    "FloatTile",
    "FoldLink",
    "FoldableLayer",
    "Folding",
    "FollowsTokens",
    "HeadPadding",
    "InTransformers",
    "LayerActivations",
    "LogitEngine",
    "OwnConfig",
    "PackageContents",
    "Parameter",
    "ParameterKind",
    "Quantizer",
    "ReadBack",
    "ReadsColumns",
    "Rearranging",
    "RepeatingLayers",
    "RequestQueue",
    "RowSlice",
    "Selective",
    "ServedEngine",
    "Shrinking",
    "Slab",
    "Source",
    "Stamp",
    "StoredArray",
    "StoredOtherwise",
    "StoresBlocks",
    "StoresQuantized",
    "SwappedAxes",
    "Target",
    "TensorInfo",
    "Tile",
    "TileWriter",
    "Transform",
    "TransformedCheckpoint",
    "View",
    "WeightsOptional",
    "block_scheme",
    "few_layers",
    "flat_shape",
    "interleaved",
    "reads_weights",
    "require",
    "stacked",
    "stored_type",
]
