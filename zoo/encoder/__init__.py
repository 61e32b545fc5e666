"""The architecture ``encoder``: whole texts, seen in both directions, as vectors or scores; and decoders that embed."""

from zoo.encoder.embedder import Embedder
from zoo.encoder.encoder import Encoder

__all__ = ["Embedder", "Encoder"]
