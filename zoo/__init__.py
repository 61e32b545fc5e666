"""A model zoo framework: declare a model family once; list, plan, fetch, build, verify, run, measure and serve it.

    import zoo

    package = zoo.build("zoo-tiny", "int8")
    engine = zoo.open(package.path)
    print(engine.generate("Once upon a time", max_new_tokens=40).text)

What plugin authors need is exported here too: ``hookimpl``, the declarations, and the contracts behind the hooks.
"""

from __future__ import annotations

import importlib
from typing import Any

from zoo.hookspecs import API_VERSION, hookimpl

__version__ = "0.1.0"

_EXPORTS = {
    "build": "zoo.api:build",
    "plan": "zoo.api:plan",
    "open": "zoo.api:open_package",
    "prepare": "zoo.api:prepare",
    "benchmark": "zoo.api:benchmark",
    "evaluate": "zoo.api:evaluate",
    "Engine": "zoo.contracts:Engine",
    "Answer": "zoo.contracts:Answer",
    "Ability": "zoo.contracts:Ability",
    "AnswerOptions": "zoo.engine.options:AnswerOptions",
    "read_options": "zoo.engine.options:read_options",
    "Limits": "zoo.engine:Limits",
    "Sampling": "zoo.engine:Sampling",
    "LogitEngine": "zoo.contracts:LogitEngine",
    "TextEngine": "zoo.engine.worded:TextEngine",
    "ServerEngine": "zoo.engine.served:ServerEngine",
    "ServerProcess": "zoo.engine.server_process:ServerProcess",
    "TokenLogprob": "zoo.engine:TokenLogprob",
    "Recomputed": "zoo.engine.recomputed:Recomputed",
    "Tokenizer": "zoo.engine.text:Tokenizer",
    "Generation": "zoo.engine:Generation",
    "Piece": "zoo.engine:Piece",
    "Timings": "zoo.engine:Timings",
    "Package": "zoo.package:Package",
    "host": "zoo.plugins:host",
    "ZooError": "zoo.errors:ZooError",
    "UsageError": "zoo.errors:UsageError",
    "WeightsAbsent": "zoo.errors:WeightsAbsent",
    "Family": "zoo.declarations.family:Family",
    "Model": "zoo.declarations.family:Model",
    "Weights": "zoo.declarations.family:Weights",
    "Tokens": "zoo.declarations.family:Tokens",
    "Architecture": "zoo.declarations.architecture:Architecture",
    "RopeScaling": "zoo.declarations.architecture:RopeScaling",
    "Dataset": "zoo.declarations.dataset:Dataset",
    "DatasetFile": "zoo.declarations.dataset:DatasetFile",
    "DatasetUses": "zoo.declarations.dataset:DatasetUses",
    "CalibrationUse": "zoo.declarations.dataset:CalibrationUse",
    "Licence": "zoo.declarations.licence:Licence",
    "Recipe": "zoo.declarations.recipe:Recipe",
    "Plan": "zoo.declarations.plan:Plan",
    "Manifest": "zoo.declarations.manifest:Manifest",
    "DTYPES": "zoo.declarations.dtypes:BY_NAME",
    "FloatScheme": "zoo.declarations.scheme:FloatScheme",
    "BlockScheme": "zoo.declarations.scheme:BlockScheme",
    "Scheme": "zoo.declarations.scheme:Scheme",
    "Encoding": "zoo.contracts:Encoding",
    "Tile": "zoo.contracts:Tile",
    "View": "zoo.contracts:View",
    "ArrayLayout": "zoo.contracts:ArrayLayout",
    "FloatTile": "zoo.contracts:FloatTile",
    "BlockTile": "zoo.contracts:BlockTile",
    "TileWriter": "zoo.contracts:TileWriter",
    "ArchitecturePart": "zoo.contracts:ArchitecturePart",
    "Decoder": "zoo.decoder:Decoder",
    "Elsewhere": "zoo.contracts:Elsewhere",
    "RepeatingLayers": "zoo.contracts:RepeatingLayers",
    "InTransformers": "zoo.contracts:InTransformers",
    "OwnConfig": "zoo.contracts:OwnConfig",
    "Shrinking": "zoo.contracts:Shrinking",
    "Operation": "zoo.operations:Operation",
    "Value": "zoo.operations:Value",
    "Program": "zoo.operations:Program",
    "Step": "zoo.operations:Step",
    "Rotary": "zoo.operations:Rotary",
    "Angles": "zoo.operations:Angles",
    "rotary": "zoo.decoder.forward:rotary",
    "record": "zoo.operations:record",
    "compute_program": "zoo.operations.compute:compute_program",
    "Quantizer": "zoo.contracts:Quantizer",
    "LayerActivations": "zoo.contracts:LayerActivations",
    "Folding": "zoo.contracts:Folding",
    "FoldableLayer": "zoo.contracts:FoldableLayer",
    "FoldLink": "zoo.contracts:FoldLink",
    "Target": "zoo.contracts:Target",
    "Adapting": "zoo.contracts:Adapting",
    "Rearranging": "zoo.contracts:Rearranging",
    "ReadBack": "zoo.contracts:ReadBack",
    "Selective": "zoo.contracts:Selective",
    "WeightsOptional": "zoo.contracts:WeightsOptional",
    "round_to_nearest": "zoo.quantizers.rtn:round_to_nearest",
    "narrowed": "zoo.quantizers.narrow:narrowed",
    "widened": "zoo.quantizers.narrow:widened",
    "Checkpoint": "zoo.contracts:Checkpoint",
    "Source": "zoo.contracts:Source",
    "Stamp": "zoo.contracts:Stamp",
    "ByteReader": "zoo.sources.bytereader:ByteReader",
    "FileReader": "zoo.sources.bytereader:FileReader",
    "FileHeader": "zoo.sources.safetensors:Header",
    "WeightFiles": "zoo.sources.shards:Shards",
    "HubFiles": "zoo.sources.hub_files:HubFiles",
    "hub_location": "zoo.sources.hub_files:split_location",
    "sampled_digest": "zoo.sources.samples:sampled_digest",
    "content_digest": "zoo.sources.folder:content_digest",
    "companion_hashes": "zoo.sources.folder:companion_hashes",
    "Transform": "zoo.contracts:Transform",
    "TransformedCheckpoint": "zoo.contracts:TransformedCheckpoint",
    "TransformPin": "zoo.declarations.recipe:TransformPin",
    "GraphOps": "zoo.operations:GraphOps",
    "Parameter": "zoo.contracts:Parameter",
    "RowSlice": "zoo.contracts:RowSlice",
    "HeadPadding": "zoo.contracts:HeadPadding",
    "stacked": "zoo.contracts:stacked",
    "interleaved": "zoo.contracts:interleaved",
    "Slab": "zoo.contracts:Slab",
    "PackageContents": "zoo.contracts:PackageContents",
    "StoredArray": "zoo.contracts:StoredArray",
    "ReadsColumns": "zoo.contracts:ReadsColumns",
    "StoresBlocks": "zoo.contracts:StoresBlocks",
    "TensorInfo": "zoo.contracts:TensorInfo",
    "one_line": "zoo.terminal:one_line",
    "printable": "zoo.terminal:printable",
    "command_line": "zoo.terminal:command_line",
    "YamlDocument": "zoo.yamlfile:Document",
    "TargetContext": "zoo.toolchain:TargetContext",
    "DocumentTarget": "zoo.toolchain:DocumentTarget",
    "Serving": "zoo.toolchain:Serving",
    "Listening": "zoo.toolchain:Listening",
    "Probing": "zoo.toolchain:Probing",
    "Probe": "zoo.toolchain:Probe",
    "Tool": "zoo.toolchain:Tool",
    "ToolCommand": "zoo.toolchain:ToolCommand",
}

__all__ = ["API_VERSION", "__version__", "hookimpl", *_EXPORTS]


def __getattr__(name: str) -> Any:
    """Import an export on first use, so that ``import zoo`` costs a plugin nothing."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    module, _, attribute = _EXPORTS[name].partition(":")
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
