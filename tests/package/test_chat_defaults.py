"""Sampling of conversations by ``generation_config.json``."""

from __future__ import annotations

import json

import pytest

from zoo.errors import ZooError
from zoo.package.chat_defaults import GREEDY, ChatDefaults


def read(**stated) -> ChatDefaults:
    return ChatDefaults.read(json.dumps(stated).encode())


def test_what_the_file_says_where_it_samples() -> None:
    stated = {
        "do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.05, "repetition_penalty": 1.05,
    }  # fmt: skip
    defaults = read(**stated)
    assert defaults.with_options() == {key: value for key, value in stated.items() if key != "do_sample"}
    assert defaults.describe() == "temperature 0.6, top_k 20, top_p 0.95, min_p 0.05, repetition_penalty 1.05"


def test_one_option_overrides_one_field() -> None:
    defaults = read(do_sample=True, temperature=0.6, top_k=20)
    assert defaults.with_options(temperature=0.0) == {**GREEDY, "temperature": 0.0, "top_k": 20}
    assert defaults.with_options(top_p=0.5, top_k=None) == {**GREEDY, "temperature": 0.6, "top_k": 20, "top_p": 0.5}


def test_sampling_without_a_temperature_is_at_one() -> None:
    assert read(do_sample=True).with_options() == {**GREEDY, "temperature": 1.0}


@pytest.mark.parametrize("stated", [{}, {"do_sample": False}, {"do_sample": None}, {"do_sample": "yes"}])
def test_else_it_is_greedy(stated) -> None:
    assert read(**stated, temperature=0.6, top_k=5).with_options() == GREEDY
    assert ChatDefaults.read(None).describe() == "greedy"


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", -1), ("temperature", True), ("top_k", 1.5), ("top_k", -1), ("top_p", 0), ("top_p", 1.1),
     ("repetition_penalty", 0), ("repetition_penalty", "1"),],
)  # fmt: skip
def test_values_out_of_range_are_named_and_not_applied(name, value) -> None:
    defaults = read(do_sample=True, **{name: value})
    assert defaults.with_options() == {**GREEDY, "temperature": 1.0}
    assert len(defaults.remarks) == 1
    assert defaults.remarks[0].startswith(name)


def test_a_file_that_is_not_json() -> None:
    with pytest.raises(ZooError, match=r"generation_config\.json: not JSON"):
        ChatDefaults.read(b"{")
