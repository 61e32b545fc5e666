"""Text encoders, and the embedding models and rerankers made of them."""

from pathlib import Path

from zoo import hookimpl

ZOO_API = 1


@hookimpl
def register_architectures(register):
    register("encoder", "zoo_embeddings.encoder:Encoder")


@hookimpl
def register_families(register):
    for path in sorted(Path(__file__).parent.glob("*.yaml")):
        register(path)
