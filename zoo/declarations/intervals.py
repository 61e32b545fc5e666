"""What is stated as an interval of layers, listed layer by layer."""

from __future__ import annotations

from typing import Any, Literal

MOST_LAYERS = 10_000
"""More is a mistake in a file; the list of their tensors alone would fill the memory."""
LayerType = Literal["full_attention", "sliding_attention"]


def by_interval(data: dict[str, Any]) -> None:
    """Put the list where ``sliding_window_pattern`` or ``no_rope_layer_interval`` stood among a decoder's numbers."""
    pattern, interval = data.pop("sliding_window_pattern", None), data.pop("no_rope_layer_interval", None)
    every = len(pattern) if isinstance(pattern, str) else pattern or 0
    if isinstance(pattern, str) and pattern != "L" * (every - 1) + "G":
        raise ValueError(f"sliding_window_pattern {pattern:.40} is not a number, or L's before a G")
    layers = data.get("num_hidden_layers")
    if not isinstance(layers, int) or not 0 < layers <= MOST_LAYERS:
        return
    if 0 < every <= layers and data.get("sliding_window") and data.get("layer_types") is None:
        in_turn: tuple[LayerType, LayerType] = ("sliding_attention", "full_attention")
        data["layer_types"] = tuple(in_turn[(layer + 1) % every == 0] for layer in range(layers))
    if isinstance(interval, int) and 0 < interval <= layers and data.get("no_rope_layers") is None:
        data["no_rope_layers"] = tuple(int((layer + 1) % interval != 0) for layer in range(layers))
