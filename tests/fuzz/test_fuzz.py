"""A short, repeatable run of every reader over spoiled files; ``python -m tests.fuzz.run`` runs for longer."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutations import spoil
from tests.fuzz.readers import READERS, settled

DEADLINE = 5.0
"""Seconds for one file, on a machine that does other things too."""


@pytest.mark.parametrize("name", READERS)
def test_samples_are_what_they_should_be(name):
    said = [settled(READERS[name], one) for one in READERS[name].samples()]
    if name == "index":  # the first is right, the others lead out of the folder; a link is followed as its owner meant
        assert all("not the name of a file inside" in one or one.startswith("link.safetensors: ") for one in said[1:])
        assert len(said) == 6
        said = said[:1]
    assert not any(said)


@pytest.mark.parametrize("name", READERS)
def test_spoiled_files_end_in_a_value_or_one_line(name):
    reader = READERS[name]
    samples = reader.samples()

    @settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**32), st.sampled_from(samples), st.binary(max_size=40))
    def check(seed: int, sample: bytes, noise: bytes) -> None:
        draw = random.Random(seed)
        raw = noise if draw.random() < 0.05 else spoil(sample, draw, text=reader.text)
        started = time.monotonic()
        settled(reader, raw)
        assert time.monotonic() - started < DEADLINE

    check()
