"""GPTQ against the paper's procedure spelled out in float64, and against rounding to nearest."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from zoo_calibrated.gptq import Gptq

from zoo.contracts import Parameter, RowSlice
from zoo.errors import ZooError
from zoo.quantizers.rtn import Rtn
from zoo.quantizers.slab import RawSlab, Scratch
from zoo.quantizers.tiles import NEUTRAL, ArrayWriter, empty_arrays, read_back


class Seen:
    """What a layer tells of a linear's inputs."""

    device = "cpu"

    def __init__(self, inputs):
        self.tokens = len(inputs)
        self.values = (inputs.T @ inputs).astype(np.float32)

    def hessian(self, parameter):
        return self.values


def correlated(columns, tokens=2048, seed=0):
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((tokens, columns)) @ rng.standard_normal((columns, columns)) * 0.3
    return (mixed + rng.standard_normal((tokens, columns))) * rng.lognormal(0, 1, columns)


def run(kind, weight, seen, precision="int4", rows=None, **options):
    """Quantize and read back: (values, stored arrays)."""
    parameter = Parameter("layer.w", "linear", (RowSlice("w", weight.shape),))
    quantizer = kind(precision, kind.Options(**options))
    scheme = quantizer.scheme(parameter)
    out = empty_arrays(NEUTRAL, scheme, weight.shape)
    step = rows or len(weight)
    for start in range(0, len(weight), step):
        part = {name: one[start : start + step] for name, one in out.items()}
        slab = RawSlab(weight[start : start + step], "F32", "w", Scratch())
        quantizer.quantize(parameter, slab, ArrayWriter(NEUTRAL, scheme, weight.shape[1], part, Scratch()), seen)
    found = np.empty_like(weight)
    read_back(NEUTRAL, scheme, out, found)
    return found, out


def lost(weight, found, seen):
    delta = (weight - found).astype(np.float64)
    return float(((delta @ seen.values) * delta).sum())


def plain_gptq(weight, hessian, scales, zero, top, block, damping=0.4, order=None):
    """Algorithm 1 without batches or factors: eliminate one column after the other from the inverse, in float64."""
    columns = len(hessian)
    order = np.arange(columns) if order is None else order
    h = hessian.astype(np.float64) + damping * np.diag(np.diag(hessian))
    inverse = np.linalg.inv(h[np.ix_(order, order)])
    work = weight.astype(np.float64)[:, order]
    result = np.empty_like(work)
    for at, column in enumerate(order):
        scale = scales[:, column // block].astype(np.float64)
        level = np.clip(np.rint(work[:, at] / scale + zero), 0, top)
        result[:, at] = (level - zero) * scale
        error = (work[:, at] - result[:, at]) / inverse[at, at]
        work[:, at:] -= np.outer(error, inverse[at, at:])
        inverse -= np.outer(inverse[:, at], inverse[at]) / inverse[at, at]
    back = np.empty_like(result)
    back[:, order] = result
    return back


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_it_is_the_papers_procedure(precision, ordered):
    # More columns than a batch has, so that corrections cross batches.
    weight = np.random.default_rng(1).standard_normal((24, 192)).astype(np.float32)
    seen = Seen(correlated(192))
    options = {"block_size": 32, "activation_order": ordered, "symmetric": True}
    found, out = run(Gptq, weight, seen, precision, **options)
    bits = 8 if precision == "int8" else 4
    order = np.argsort(-np.diag(seen.values), kind="stable") if ordered else None
    wanted = plain_gptq(weight, seen.values, out["scales"], 2 ** (bits - 1), 2**bits - 1, 32, order=order)
    differing = np.abs(found - wanted) > 1e-4
    # A value at the middle between two levels may fall to either side, and the rest of its row with it.
    assert differing.any(axis=1).mean() < (0.3 if bits == 4 else 0.9)
    assert abs(lost(weight, found, seen) / lost(weight, wanted, seen) - 1) < 0.02


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("columns", [128, 200])
def test_it_loses_less_than_rounding(precision, symmetric, columns):
    weight = np.random.default_rng(2).standard_normal((64, columns)).astype(np.float32)
    seen = Seen(correlated(columns))
    options = {"block_size": 32, "symmetric": symmetric}
    found, _ = run(Gptq, weight, seen, precision, **options)
    rounded, _ = run(Rtn, weight, None, precision, **options)
    assert lost(weight, found, seen) < 0.5 * lost(weight, rounded, seen)


def test_the_activation_order_helps():
    weight = np.random.default_rng(3).standard_normal((128, 256)).astype(np.float32)
    seen = Seen(correlated(256))
    in_order, as_they_stand = (
        lost(weight, run(Gptq, weight, seen, block_size=64, activation_order=ordered)[0], seen)
        for ordered in (True, False)
    )
    assert in_order < as_they_stand


@pytest.mark.parametrize("symmetric", [True, False])
def test_rows_do_not_depend_on_the_slabs(symmetric):
    weight = np.random.default_rng(4).standard_normal((30, 96)).astype(np.float32)
    seen = Seen(correlated(96))
    whole, _ = run(Gptq, weight, seen, symmetric=symmetric)
    pieces, _ = run(Gptq, weight, seen, rows=7, symmetric=symmetric)
    assert np.mean(whole != pieces) < 0.01


def test_channels_never_excited_are_rounded():
    weight = np.random.default_rng(5).standard_normal((8, 64)).astype(np.float32)
    inputs = correlated(64)
    inputs[:, 10:20] = 0
    seen = Seen(inputs)
    found, out = run(Gptq, weight, seen, "int8", block_size=16)
    step = np.repeat(out["scales"], 16, 1)
    assert np.all(np.abs(found - weight)[:, 10:20] <= 0.501 * step[:, 10:20])


def test_fewer_tokens_than_columns():
    weight = np.random.default_rng(6).standard_normal((16, 128)).astype(np.float32)
    seen = Seen(correlated(128, tokens=20))
    found, _ = run(Gptq, weight, seen, block_size=32)
    rounded, _ = run(Rtn, weight, None, "int4", block_size=32)
    assert np.isfinite(found).all()
    assert lost(weight, found, seen) < lost(weight, rounded, seen)


def test_damping_is_raised_where_the_hessian_is_indefinite(caplog):
    weight = np.random.default_rng(7).standard_normal((4, 32)).astype(np.float32)
    seen = Seen(correlated(32))
    seen.values = np.eye(32, dtype=np.float32)
    seen.values[0, 1] = seen.values[1, 0] = 1.05
    found, _ = run(Gptq, weight, seen, damping=0.01)
    assert np.isfinite(found).all()
    assert "layer.w: its Hessian is singular at damping 0.01; 0.1 is used" in caplog.text


def test_a_hopeless_hessian_is_named():
    weight = np.ones((4, 32), np.float32)
    seen = Seen(correlated(32))
    seen.values = np.eye(32, dtype=np.float32)
    seen.values[0, 1] = seen.values[1, 0] = 1e6
    with pytest.raises(ZooError, match=r"layer\.w: the Hessian .* not positive definite even at damping 4000"):
        run(Gptq, weight, seen)
    seen.values[3, 3] = np.nan
    with pytest.raises(ZooError, match=r"layer\.w: the Hessian of its inputs holds NaN"):
        run(Gptq, weight, seen)


@pytest.mark.parametrize("precision", ["int4", "int8"])
def test_a_weight_whose_inputs_are_zero_is_rounded_and_named_once(precision, caplog):
    weight = np.random.default_rng(0).standard_normal((12, 70)).astype(np.float32)
    found, stored = run(Gptq, weight, Seen(np.zeros((9, 70))), precision, rows=4)
    nearest, rounded = run(Rtn, weight, None, precision)
    assert np.array_equal(found, nearest)
    assert {name: array.tobytes() for name, array in stored.items()} == {
        name: array.tobytes() for name, array in rounded.items()
    }
    assert caplog.messages == [
        "layer.w: its inputs are zero on every calibration token; it is rounded to nearest instead"
    ]


def test_zero_and_tiny_weights():
    seen = Seen(correlated(64))
    weight = np.zeros((4, 64), np.float32)
    weight[1] = 1e-42
    for symmetric in (True, False):
        found, _ = run(Gptq, weight, seen, symmetric=symmetric)
        assert np.isfinite(found).all()
        assert np.abs(found).max() < 1e-6


def test_the_factor_goes_with_the_hessian():
    parameter = Parameter("w", "linear", (RowSlice("w", (4, 32)),))
    gptq = Gptq("int4", Gptq.Options())
    seen = Seen(correlated(32))
    slab = RawSlab(np.ones((4, 32), np.float32), "F32", "w", Scratch())
    scheme = gptq.scheme(parameter)
    arrays = empty_arrays(NEUTRAL, scheme, (4, 32))
    gptq.quantize(parameter, slab, ArrayWriter(NEUTRAL, scheme, 32, arrays, Scratch()), seen)
    assert gptq._factor is not None
    del seen
    gc.collect()
    assert gptq._factor is None


def test_kept_precisions():
    options = {"keep": {"attn.o_proj": "int8", "*.layers.0.*": "fp16", "lm_head": "fp32"}, "block_size": 32}
    rtn = Rtn("int4", Rtn.Options(**options))

    def scheme(layer, role, kind="linear"):
        return rtn.scheme(
            Parameter(f"model.layers.{layer}.{role}.weight", kind, (RowSlice("w", (8, 64)),), layer, role)
        )

    assert scheme(0, "mlp.up_proj").dtype == "float16"
    assert scheme(1, "mlp.up_proj").bits == 4
    assert scheme(1, "attn.o_proj").bits == 8
    assert scheme(9, "lm_head").dtype == "float32"
    assert scheme(0, "input_layernorm", "norm").dtype == "float32"


@pytest.mark.parametrize("size", [1, 7, 96, 1100])
def test_a_triangle_is_inverted_and_reversed_in_place(size):
    import torch
    from zoo_calibrated.gptq import _invert_lower, _reverse

    rng = np.random.default_rng(size)
    made = np.tril(rng.standard_normal((size, size))) * 0.1 + np.eye(size) * 2
    lower = torch.from_numpy(made.astype(np.float32))
    _invert_lower(lower)
    assert np.abs(lower.numpy() @ made - np.eye(size)).max() < 1e-3
    flat = torch.arange(size * size)
    _reverse(flat)
    assert flat.tolist() == list(range(size * size))[::-1]
