"""What is known of a family before its author says anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

QUESTION = "TODO(you)"

EXAMPLE_NUMBERS: dict[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1.0e-5,
    "rope_theta": 10000.0,
}
"""A complete llama-like model, to be replaced: a declaration without numbers could not be tested."""


@dataclass(frozen=True)
class Facts:
    """Everything that a declaration is filled with; None is a question to the author."""

    name: str
    model: str
    title: str
    organisation: str | None = None
    hub: str | None = None
    licence: str | None = None
    model_type: str | None = None
    claimed: bool = False
    """Another family speaks for checkpoints of this type."""
    numbers: dict[str, Any] | None = None
    tokens: dict[str, Any] = field(default_factory=dict)
    chat_template: str | None = None
    source: str | None = None
    """Where the numbers were read."""
