"""What an architecture composes is recorded as it was said, and nonsense is refused where it is said."""

from __future__ import annotations

import pytest

from zoo.contracts import Parameter, RowSlice
from zoo.errors import ZooError
from zoo.operations import Add, GraphOps, Linear, RmsNorm, Value, lacking
from zoo.operations.matching import needs


def weight(name: str, *shape: int) -> Parameter:
    return Parameter(name, "linear", (RowSlice(name, shape),))


def small() -> GraphOps:
    """An embedding, one layer of a norm and a linear beside a residual, a head."""
    ops = GraphOps()
    x = ops.embedding("embed", ops.tokens(64), weight("embed", 11, 8))
    with ops.layer(0):
        y = ops.rms_norm("norm", x, weight("norm", 8), eps=1e-6)
        y = ops.activation("act", ops.linear("up", y, weight("up", 8, 8)), "silu")
        x = ops.add("residual", x, y)
    ops.logits(ops.linear("/head", x, weight("head", 11, 8)))
    return ops


def test_steps_state_name_layer_and_operation() -> None:
    program = small().program()
    assert [(step.name, step.layer, step.operation.kind) for step in program.steps] == [
        ("/model/input_ids", None, "token_ids"),
        ("/model/embed", None, "embedding"),
        ("/model/layers.0/norm", 0, "rms_norm"),
        ("/model/layers.0/up", 0, "linear"),
        ("/model/layers.0/act", 0, "activation"),
        ("/model/layers.0/residual", 0, "add"),
        ("/head", None, "linear"),
        ("/model/logits", None, "logits"),
    ]
    (norm,) = program.all(RmsNorm)
    assert (norm.eps, norm.weight.name, norm.inputs) == (1e-6, "norm", (Value(1),))
    assert [step.name for step in program.readers(Value(1))] == ["/model/layers.0/norm", "/model/layers.0/residual"]
    assert [program.width(step.output) for step in program.steps] == [1, 8, 8, 8, 8, 8, 11, 11]
    assert program.num_layers == 1
    assert program.kv_values_per_token == 0


def test_an_operation_reads_other_values_on_request() -> None:
    add = Add(Value(3), Value(4))
    assert add.reading({Value(4): Value(9)}).inputs == (Value(3), Value(9))
    assert Linear(Value(1), weight("w", 2, 2)).weights[0].name == "w"


def test_layers_come_in_order() -> None:
    ops = GraphOps()
    with pytest.raises(ZooError, match="layer 1 where layer 0 is due"), ops.layer(1):
        pass
    with ops.layer(0), pytest.raises(ZooError, match="layer 1"), ops.layer(1):
        pass


def test_a_name_is_given_once_and_values_are_ones_own() -> None:
    ops = small()
    with pytest.raises(ZooError, match="two operations named '/head'"):
        ops.linear("/head", Value(1), weight("head", 11, 8))
    with pytest.raises(ZooError, match="values that it did not make"):
        GraphOps().scale("x", Value(0), 2.0)


def test_what_a_target_lacks_is_named() -> None:
    program = small().program()
    everything = needs(program)
    assert everything["activation"] == {"silu"}
    assert lacking(program, everything) == []
    less = {kind: features for kind, features in everything.items() if kind != "rms_norm"} | {"activation": frozenset()}
    assert lacking(program, less) == ["rms_norm", "activation(silu)"]


def test_widths_of_a_deep_model_are_told() -> None:
    ops = GraphOps()
    x = ops.embedding("embed", ops.tokens(64), weight("embed", 11, 8))
    for layer in range(1500):
        with ops.layer(layer):
            x = ops.add("residual", x, x)
    assert ops.program().width(x) == 8
