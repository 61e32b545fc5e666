"""What the target says it implements is what it emits."""

from __future__ import annotations

import zoo.targets.ort.attention
import zoo.targets.ort.experts
import zoo.targets.ort.ops  # noqa: F401
from zoo.operations import Operation
from zoo.targets.ort.emission import EMITTERS
from zoo.targets.ort.implemented import OPERATIONS


def test_every_operation_that_is_listed_is_emitted_and_the_other_way_round() -> None:
    assert {kind.kind for kind in EMITTERS} == set(OPERATIONS)


def test_every_operation_that_is_emitted_has_a_reference() -> None:
    for kind in EMITTERS:
        if kind.kind != "token_ids":
            assert kind.compute is not Operation.compute, kind
