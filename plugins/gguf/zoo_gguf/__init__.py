"""GGUF files: a source of weights with tokenizers and templates, and a target that llama.cpp and Ollama open."""

from zoo import hookimpl

ZOO_API = 1


@hookimpl
def register_sources(register):
    register("gguf", "zoo_gguf.source:GgufFiles")


@hookimpl
def register_quantizers(register):
    register("ggml", "zoo_gguf.rounding:Ggml")
    register("imatrix", "zoo_gguf.weighted:Imatrix")


@hookimpl
def register_targets(register):
    register("gguf", "zoo_gguf.target:Gguf")
