"""Texts to vectors and scores: the engine of encoders, and of decoders that embed or rank."""

from zoo.embedding.engine import EncoderEngine
from zoo.embedding.opening import OwnEngine, is_encoder
from zoo.embedding.results import Embeddings, Ranked

__all__ = ["Embeddings", "EncoderEngine", "OwnEngine", "Ranked", "is_encoder"]
