"""Sliding windows: which layers of a ``config.json`` see only so many tokens back.

A window's size and the keys around it: transformers, ``masking_utils.sliding_window_overlay`` (a token sees itself and
the ``sliding_window - 1`` before it) and the configurations of the model types that have windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.declarations.architecture import Architecture
from zoo.declarations.traits import Trait, fields_with
from zoo.errors import ZooError

_FULL, _SLIDING = "full_attention", "sliding_attention"


def windows(config: Mapping[str, Any], implied: Mapping[str, Any], layers: int, context: int) -> dict[str, Any]:
    """Read the fields of an architecture that are about windows; one that hides nothing is none.

    Args:
        config: ``config.json`` with what it leaves unsaid.
        implied: what it leaves unsaid; a type that implies nothing about windows computes none.

    Raises:
        ZooError: a key is not what it must be, or speaks of a window that is not supported.
    """
    size, used = config.get("sliding_window"), config.get("use_sliding_window", True)
    if not isinstance(used, bool | None):
        raise ZooError(f"config.json: use_sliding_window must be true or false, not {used!r:.40}")
    if size not in (None, False) and (isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 2**63):
        raise ZooError(f"config.json: sliding_window must be a number of tokens, not {size!r:.40}")
    kinds = _kinds(config, layers)
    # What is stated layer by layer leaves nothing to a pattern.
    fields: dict[str, Any] = {} if kinds is None else {"sliding_window_pattern": None}
    if not size or used is False or size >= context:
        if not size and kinds is not None and _SLIDING in kinds:
            raise ZooError(f"config.json: layer_types {_SLIDING!r} needs a sliding_window")
        return fields
    if not implied.keys() & set(fields_with(Architecture, Trait.WINDOW)):
        raise ZooError(f"config.json: sliding_window {size} is not supported for this model_type")
    if kinds is None:
        first = config.get("max_window_layers", None if implied.get("use_sliding_window") is False else 0)
        if isinstance(first, bool) or not isinstance(first, int) or first < 0:
            raise ZooError(f"config.json: max_window_layers must be a number of layers, not {first!r:.40}")
        kinds = [_FULL if layer < first else _SLIDING for layer in range(layers)]
    if _SLIDING not in kinds:
        return fields
    fields["sliding_window"] = size
    if _FULL in kinds:
        fields["layer_types"] = tuple(kinds)
    return fields


def _kinds(config: Mapping[str, Any], layers: int) -> list[str] | None:
    stated = config.get("layer_types")
    if stated is None or stated == []:
        return None
    kinds: list[Any] = list(stated) if isinstance(stated, list | tuple) else [stated]
    for kind in kinds:
        if kind not in (_FULL, _SLIDING):
            raise ZooError(f"config.json: layer_types {kind!r:.40} is not supported by this decoder")
    if len(kinds) != layers:
        raise ZooError(f"config.json: layer_types lists {len(kinds)} layers of {layers}")
    return kinds
