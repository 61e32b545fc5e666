"""Write a fine-tune: the same model with other weights."""

from __future__ import annotations

from zoo_scaffold.family import plain


def fine_tune_yaml(name: str, base: str, licence: str, weights: str) -> str:
    """Write a family of one model that is ``base`` (``family/model``) with other weights.

    Args:
        weights: what stands after ``weights:``, for example ``{hub: me/tuned}``.
    """
    return (
        f"name: {plain(name)}\n"
        f"title: {plain(name)}\n"
        f"licence: {{id: {plain(licence)}}}\n"
        "models:\n"
        f"  - {{name: {plain(name)}, base: {plain(base)}, weights: {weights}}}\n"
    )
