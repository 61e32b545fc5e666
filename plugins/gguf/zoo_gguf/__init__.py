"""GGUF files as a source of weights, with their tokenizers, templates and ends."""

from zoo import hookimpl

ZOO_API = 1


@hookimpl
def register_sources(register):
    register("gguf", "zoo_gguf.source:GgufFiles")
