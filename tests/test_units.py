"""Sizes and counts as people read them."""

from __future__ import annotations

import pytest

from zoo.units import bytes_text, count_text


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (98_304, "98.30 kB"), (5_455_000, "5.46 MB"),
        (34 * 10**9, "34.00 GB"), (138 * 10**12, "138.00 TB"), (5 * 10**15, "5000.00 TB"), (-2500, "-2.50 kB"),
    ],
)  # fmt: skip
def test_sizes_are_decimal(size: float, said: str) -> None:
    assert bytes_text(size) == said


@pytest.mark.parametrize(
    ("number", "said"), [(7, "7"), (4100, "4.1k"), (355 * 10**6, "355.0M"), (6_738_415_616, "6.7B")]
)
def test_counts_are_written_as_models_are_named(number: int, said: str) -> None:
    assert count_text(number) == said
