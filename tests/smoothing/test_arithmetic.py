"""What smoothing computes in numpy is what the reference computes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.operations.computing import VOCAB, language_model, reference, values
from tests.operations.test_parity import CASES
from zoo.operations import Embedding, LastPositions, Linear, Logits, Softcap, TokenIds
from zoo.smoothing.arithmetic import compute, supported

pytest.importorskip("torch")

OUTSIDE = ("sinks", "smooth", "sigmoid", "tanh", "softcap of logits", "positions")
"""What a decoder before its head does not need, or what is left alone."""


def by_numpy(program, weights, ids):
    made = {}
    for step in program.steps:
        operation, inputs = step.operation, [made.get(one) for one in step.operation.inputs]
        if isinstance(operation, TokenIds):
            made[step.output] = ids
        elif isinstance(operation, Embedding):
            made[step.output] = weights[operation.weight.name][ids]
        elif isinstance(operation, Linear):
            made[step.output] = inputs[0] @ weights[operation.weight.name].T
        elif isinstance(operation, LastPositions | Logits):
            made[step.output] = inputs[0]
        else:
            assert supported(operation)
            made[step.output] = compute(operation, inputs, lambda one: weights[one.name])
    return made[program.steps[-1].output]


@pytest.mark.parametrize("name", [name for name in CASES if not any(word in name for word in OUTSIDE)])
def test_it_computes_as_the_reference(name: str) -> None:
    program = language_model(CASES[name])
    weights, ids = values(program), np.random.default_rng(1).integers(0, VOCAB, 19)
    wanted = reference(program, weights, ids[None])[0]
    np.testing.assert_allclose(by_numpy(program, weights, ids), wanted, atol=2e-5 * wanted.std(), rtol=1e-4)


def test_what_it_does_not_compute_is_not_supported() -> None:
    program = language_model(CASES["softcap of logits"])
    assert not all(supported(one) for one in program.all(Softcap))
