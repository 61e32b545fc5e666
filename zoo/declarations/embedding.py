"""What an embedding model or a reranker is used with: facts of its page that no ``config.json`` states."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from zoo.declarations.base import Value

Pooling = Literal["cls", "max", "mean", "mean_sqrt_len", "weightedmean", "lasttoken"]
"""What of a text's hidden states is its embedding; the names are sentence-transformers'."""
Tokens = Annotated[int, Field(gt=0, le=2**31 - 1)]


class Judging(Value):
    """How a decoder ranks: it is asked whether a document answers a query, and two tokens are compared."""

    template: str
    """The prompt, with ``{instruction}``, ``{query}`` and ``{document}``."""
    instruction: str
    """What is asked for where nobody says anything else."""
    yes_token: str = "yes"
    """The token that says so."""
    no_token: str = "no"
    """The token that says not so."""


class EmbeddingUse(Value):
    """How texts are put to a model, and what becomes of its hidden states."""

    dimensions: Tokens | None = None
    """Values of an embedding; None for a reranker."""
    matryoshka: tuple[Tokens, ...] = ()
    """How many of the first values may be used alone, as the model was trained for."""
    sequence_length: Tokens | None = None
    """Tokens of the longest text that it was made for."""
    pooling: Pooling | None = None
    """What of the hidden states is the embedding."""
    normalize: bool = True
    """Embeddings have the length 1."""
    prompts: dict[str, str] = Field(default_factory=dict)
    """What is put before a text, by what the text is: ``query``, ``document`` …"""
    judging: Judging | None = None
    """How it ranks, where it is a decoder."""
