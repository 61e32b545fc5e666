"""What the core itself brings, registered through the same hooks as anyone's."""

from __future__ import annotations

from zoo.hookspecs import RegisterPart, RegisterSource, hookimpl


@hookimpl
def register_sources(register: RegisterSource) -> None:
    register("safetensors", "zoo.sources.local:SafetensorsFolder")
    register("bin", "zoo.sources.local:BinFolder")
    register("hub", "zoo.sources.hub_source:Hub")
    register.transform("rename", "zoo.sources.rename:Rename")


@hookimpl
def register_architectures(register: RegisterPart) -> None:
    register("decoder", "zoo.decoder:Decoder")
    register("embedder", "zoo.decoder.embedder:Embedder")


@hookimpl
def register_quantizers(register: RegisterPart) -> None:
    register("float", "zoo.quantizers.floats:Float")
    register("rtn", "zoo.quantizers.rtn:Rtn")


@hookimpl
def register_targets(register: RegisterPart) -> None:
    register("ort", "zoo.targets.ort:OrtTarget")
