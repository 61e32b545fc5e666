"""The generic decoder: every quirk is a field of its numbers."""

from zoo.decoder.decoder import Decoder

__all__ = ["Decoder"]
