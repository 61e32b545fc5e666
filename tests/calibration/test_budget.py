"""The knapsack behind ``--mixed auto``, against every possible choice."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from zoo.calibration.budget import choose


def best(gains, sizes, room):
    return max(
        sum(gains[one] for one in subset)
        for count in range(len(gains) + 1)
        for subset in itertools.combinations(range(len(gains)), count)
        if sum(sizes[one] for one in subset) <= room
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_it_is_the_best_choice(seed, share):
    rng = np.random.default_rng(seed)
    gains = rng.lognormal(0, 2, 10).tolist()
    sizes = rng.integers(1_000, 100_000, 10).tolist()
    room = int(sum(sizes) * share)
    chosen = choose(gains, sizes, room)
    assert sum(sizes[one] for one in chosen) <= room
    assert sum(gains[one] for one in chosen) >= 0.995 * best(gains, sizes, room)


def test_a_large_item_is_not_crowded_out():
    # By gain for its size the small one comes first, and the large one fits no more.
    assert choose([2.0, 10.0], [10, 100], 100) == {1}


def test_what_gains_nothing_is_left():
    assert choose([0.0, -1.0, 1.0], [1, 1, 1], 10) == {2}
    assert choose([], [], 10) == set()
