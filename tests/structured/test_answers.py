"""Answers in a form: random schemas over random weights in a batch, with prompt lookup and the prefix cache."""

from __future__ import annotations

import json
import re

import jsonschema
import numpy as np
import pytest

from tests.engine.made import make_package
from tests.structured.answering import answers, tally
from zoo.contracts.constraint import ConstraintError
from zoo.engine import Limits, Sampling, Scheduler
from zoo.errors import UsageError
from zoo.structured import Structure

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 10},
        "age": {"type": "integer", "maximum": 150, "minimum": 0},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module", params=["byte_level", "byte_fallback"])
def engine(request, tmp_path_factory):
    pytest.importorskip("torch")
    pytest.importorskip("llguidance")
    return make_package(tmp_path_factory.mktemp("structured"), request.param, max_position_embeddings=512)[0]


@pytest.mark.parametrize("lookup", [False, True])
def test_whatever_ends_fits_its_schema(engine, lookup) -> None:
    counts, wrong = tally(answers(engine, 100, seed=int(lookup), lookup=lookup))
    assert not wrong, wrong[0]
    assert counts["refused"] <= 10, counts
    assert counts["stop"] >= 60, counts  # the others were cut by the longest answer, and say so


def test_lookup_changes_no_answer(engine) -> None:
    """A guess that the form forbids is not taken, one that it allows is judged by the scores that it leaves."""
    schema = {"type": "array", "items": {"enum": ["to be", "not to be"]}, "minItems": 12, "maxItems": 12}
    alone = engine.generate("Say", schema=schema, max_new_tokens=300)
    guessed = engine.generate("Say", schema=schema, max_new_tokens=300, lookup=True)
    assert guessed.text == alone.text
    assert len(json.loads(alone.text)) == 12


def test_each_request_of_a_batch_has_its_own_form(engine) -> None:
    forms = [
        Structure("schema", PERSON), Structure("regex", "[a-f]{3,6};"), None, Structure("choice", ["yes", "no"]),
        Structure("grammar", 'root ::= ("ab" | "ba")+ "."'),
    ]  # fmt: skip
    with Scheduler(engine, slots=5) as scheduler:
        tickets = [
            scheduler.submit(
                engine.encode("Hello"), Limits(120), Sampling(0.8, seed=at),
                constraint=None if form is None else engine.guide.follow(form),
            )
            for at, form in enumerate(forms)
        ]  # fmt: skip
        person, expression, free, choice, grammar = (ticket.result(60) for ticket in tickets)
    if person.finish_reason == "stop":
        jsonschema.validate(json.loads(person.text), PERSON)
    assert re.fullmatch("[a-f]{3,6};", expression.text)
    assert len(free.token_ids) == 120
    assert choice.text in ("yes", "no")
    assert re.fullmatch(r"(ab|ba)+\.", grammar.text) or grammar.finish_reason == "length"


def test_an_answer_that_is_cut_says_so(engine) -> None:
    generation = engine.generate("Hello", schema=PERSON, max_new_tokens=3)
    assert generation.finish_reason == "length"
    assert len(generation.token_ids) == 3


def test_an_answer_may_have_one_form_only(engine) -> None:
    with pytest.raises(UsageError, match="either schema or regex"):
        engine.generate("Hello", schema=PERSON, regex="a")
    with pytest.raises(UsageError, match="'not' is not supported"):
        engine.generate("Hello", schema={"not": {"type": "string"}})


class Hard:
    """Allows everything, until it has become too hard."""

    complete = False

    def __init__(self, vocab_size: int) -> None:
        self._allowed, self._left = np.ones(vocab_size, bool), 5

    def copy(self) -> Hard:
        return self

    def allowed(self) -> np.ndarray:
        if not self._left:
            raise ConstraintError("it explodes")
        return self._allowed

    def accept(self, token: int) -> None:
        self._left -= 1


def test_a_form_that_becomes_too_hard_ends_its_request_and_no_other(engine) -> None:
    with Scheduler(engine, slots=2) as scheduler:
        ticket = scheduler.submit(engine.encode("Hello"), Limits(200), constraint=Hard(engine.vocab_size))
        other = scheduler.submit(engine.encode("Hello"), Limits(40))
        assert len(other.result(60).token_ids) == 40
        with pytest.raises(ConstraintError, match="it explodes"):
            ticket.result(60)
        assert len(ticket.generation.token_ids) == 5
        assert len(scheduler.submit(engine.encode("Hello"), Limits(5)).result(60).token_ids) == 5
