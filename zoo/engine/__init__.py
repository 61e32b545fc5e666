"""Run a package: session, KV cache, sampling, text."""

from zoo.engine.engine import Engine, Stream
from zoo.engine.generation import Generation, Piece, Timings
from zoo.engine.sampling import Sampling

__all__ = ["Engine", "Generation", "Piece", "Sampling", "Stream", "Timings"]
