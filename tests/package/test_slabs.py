"""Slabs: whichever rows the slices of a parameter take, they come out where the slices lay them."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builds import to_bf16
from zoo.contracts import HeadPadding, Parameter, RowSlice, TensorInfo, interleaved, stacked
from zoo.errors import ZooError
from zoo.package import slabs
from zoo.package.slabs import SlabKind, SlabReader, job_bytes, slab_jobs, slab_kinds
from zoo.quantizers.slab import Scratch
from zoo.sources import rows as rows_module


class Memory:
    """A checkpoint in memory, which counts the bytes that are read and refuses rows that it does not have."""

    def __init__(self, **tensors):
        self._values = {
            name: values.reshape(-1, values.shape[-1]) for name, values in tensors.items() if values.ndim > 1
        }
        self._values |= {name: values for name, values in tensors.items() if values.ndim == 1}
        kinds = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16", np.dtype(np.uint16): "BF16"}
        self.tensors = {
            name: TensorInfo(name, kinds[values.dtype], values.shape, values.nbytes) for name, values in tensors.items()
        }
        self.read_bytes = 0

    def read(self, name, start, stop, out):
        values = self._values[name]
        assert 0 <= start <= stop <= len(values)
        wanted = values[start:stop]
        assert out.nbytes >= wanted.nbytes
        self.read_bytes += wanted.nbytes
        found = out[: wanted.nbytes].view(values.dtype).reshape(wanted.shape)
        found[...] = wanted
        return found


def read_all(checkpoint, parameter):
    """Read a parameter slab by slab, with room for just what the estimate says."""
    jobs = list(slab_jobs(parameter, checkpoint.tensors))
    assert [job.start for job in jobs[1:]] == [job.stop for job in jobs[:-1]]
    sizes = [job_bytes(job, checkpoint.tensors) for job in jobs]
    each = ((job.stop - job.start, checkpoint.tensors[job.slices[0].tensor].dtype) for job in jobs)
    kinds = slab_kinds(parameter, checkpoint.tensors, {})
    assert kinds == Counter(SlabKind(*one, size) for one, size in zip(each, sizes, strict=True))
    reader = SlabReader(checkpoint, max(size.read for size in sizes), max(size.laid for size in sizes), Scratch())
    return np.concatenate([(slab := reader.read(job)).float32(0, slab.rows).copy() for job in jobs])


def matrix(rows, columns, start=0.0, dtype=np.float16):
    return (np.arange(rows * columns).reshape(rows, columns) % 512 + start).astype(dtype)


@pytest.fixture(params=[64, 4096])
def small(request, monkeypatch):
    monkeypatch.setattr(slabs, "SLAB", request.param)
    monkeypatch.setattr(rows_module, "WINDOW", 256)
    monkeypatch.setattr(rows_module, "_RUN", 64)


@pytest.mark.usefixtures("small")
def test_ranges_of_a_fused_tensor():
    fused = matrix(24, 8)
    checkpoint = Memory(fused=fused)
    for rows in (range(4, 12), range(1, 24, 3), range(20, 2, -2)):
        parameter = Parameter("p", "linear", (RowSlice("fused", (24, 8), rows),))
        assert parameter.shape == (len(rows), 8)
        assert np.array_equal(read_all(checkpoint, parameter), fused[list(rows)])


@pytest.mark.usefixtures("small")
def test_a_gather_keeps_its_order():
    fused = matrix(64, 8)
    rows = tuple(int(row) for row in np.random.default_rng(0).permutation(64)[:40])
    parameter = Parameter("p", "linear", (RowSlice("fused", (64, 8), rows),))
    assert np.array_equal(read_all(Memory(fused=fused), parameter), fused[list(rows)])


def test_scattered_rows_cost_few_reads_of_what_lies_between():
    fused = matrix(4096, 8)
    checkpoint = Memory(fused=fused)
    parameter = Parameter("p", "linear", (RowSlice("fused", (4096, 8), range(0, 4096, 2)),))
    assert np.array_equal(read_all(checkpoint, parameter), fused[::2])
    assert checkpoint.read_bytes < 2 * fused.nbytes


@pytest.mark.usefixtures("small")
def test_interleaved_slices():
    gate, up = matrix(10, 8), matrix(10, 8, 512)
    slices = interleaved(RowSlice("gate", (10, 8)), RowSlice("up", (10, 8)))
    found = read_all(Memory(gate=gate, up=up), Parameter("p", "linear", slices))
    assert np.array_equal(found[0::2], gate)
    assert np.array_equal(found[1::2], up)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_transposed_slices(scale):
    """The keys of each head, (size, latent) among others, as (heads, latent, size); slabs end within a head."""
    heads, keys, values, latent = 3, 6, 2, 10
    fused = matrix(heads * (keys + values), latent)
    taken = [range(at, at + keys) for at in range(0, len(fused), keys + values)]
    slices = [RowSlice("fused", fused.shape, rows, scale=scale, transposed=True) for rows in taken]
    parameter = Parameter("p", "linear", stacked(*slices), experts=heads)
    assert parameter.shape == (heads, latent, keys)
    wanted = fused.reshape(heads, keys + values, latent)[:, :keys].swapaxes(1, 2).astype(np.float32) * scale
    assert np.array_equal(read_all(Memory(fused=fused), parameter).reshape(parameter.shape), wanted)


@pytest.mark.usefixtures("small")
def test_experts_of_one_tensor_and_of_many():
    """(experts, 2 · ffn, hidden) of a fused tensor, and a tensor an expert, become the same interleaved parameter."""
    experts, ffn, hidden = 3, 4, 8
    fused = matrix(experts * 2 * ffn, hidden).reshape(experts, 2 * ffn, hidden)
    shape, slices, apart, tensors = fused.shape, [], [], {}
    for expert in range(experts):
        at = expert * 2 * ffn
        slices += interleaved(
            RowSlice("fused", shape, range(at, at + ffn)),
            RowSlice("fused", shape, range(at + ffn, at + 2 * ffn)),
            at=at,
        )
        apart += interleaved(RowSlice(f"{expert}.gate", (ffn, hidden)), RowSlice(f"{expert}.up", (ffn, hidden)), at=at)
        tensors |= {f"{expert}.gate": fused[expert, :ffn], f"{expert}.up": fused[expert, ffn:]}
    one, many = (Parameter("p", "linear", tuple(each), experts=experts) for each in (slices, apart))
    assert one.shape == many.shape == (experts, 2 * ffn, hidden)
    found = read_all(Memory(fused=fused), one)
    assert np.array_equal(found.reshape(one.shape)[:, 0::2], fused[:, :ffn])
    assert np.array_equal(found.reshape(one.shape)[:, 1::2], fused[:, ffn:])
    assert np.array_equal(read_all(Memory(**tensors), many), found)


@pytest.mark.usefixtures("small")
def test_types_and_what_is_done_to_values_may_differ_within_a_slab():
    a, b = matrix(6, 8, 1), to_bf16(matrix(6, 8, 3, np.float32))
    checkpoint = Memory(a=a, b=b)
    slices = interleaved(RowSlice("a", (6, 8), scale=0.5, offset=1.0), RowSlice("b", (6, 8)))
    found = read_all(checkpoint, Parameter("p", "linear", slices))
    assert np.array_equal(found[0::2], a.astype(np.float32) * 0.5 + 1)
    assert np.array_equal(found[1::2], (b.astype(np.uint32) << 16).view(np.float32))


@pytest.mark.usefixtures("small")
def test_padding_stays_zero_when_values_are_moved():
    norm = np.arange(1, 7, dtype=np.float16)
    pad = HeadPadding(1, 6, 16, rotary=True)
    found = read_all(Memory(norm=norm), Parameter("p", "norm", (RowSlice("norm", (6,), pad_rows=pad, offset=1.0),)))
    assert np.array_equal(np.flatnonzero(found), [0, 1, 2, 8, 9, 10])
    assert np.array_equal(found[[0, 1, 2, 8, 9, 10], 0], norm + 1)


@pytest.mark.usefixtures("small")
def test_heads_are_widened_within_rows_of_a_fused_tensor():
    """q and k of one tensor, gathered in another order and widened: what a grouped checkpoint with odd heads needs."""
    fused = matrix(24, 8, 1)
    q = (0, 1, 2, 3, 8, 9, 10, 11)
    pad = HeadPadding(2, 4, 16, rotary=True)
    slices = stacked(
        RowSlice("fused", (24, 8), q, pad_rows=pad),
        RowSlice("fused", (24, 8), tuple(row for row in range(24) if row not in q)),
    )
    parameter = Parameter("p", "linear", slices)
    assert parameter.shape == (32 + 16, 8)
    assert parameter.size == fused.size
    found = read_all(Memory(fused=fused), parameter)
    kept = [0, 1, 8, 9, 16, 17, 24, 25]
    assert np.array_equal(found[kept], fused[list(q)])
    assert not np.delete(found[:32], kept, axis=0).any()
    assert np.array_equal(found[32:], np.delete(fused, q, axis=0))


def test_a_value_that_is_not_finite_names_the_tensors_of_the_slab():
    a, b = matrix(4, 8), matrix(4, 8)
    b[2, 3] = np.nan
    parameter = Parameter("p", "linear", interleaved(RowSlice("a", (4, 8)), RowSlice("b", (4, 8))))
    with pytest.raises(ZooError, match="tensor 'a' or 'b' holds NaN"):
        read_all(Memory(a=a, b=b), parameter)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_division_of_rows_comes_out_where_it_was_laid(data):
    rows = data.draw(st.integers(1, 40))
    order = data.draw(st.permutations(range(rows)))
    cuts = sorted(data.draw(st.sets(st.integers(1, rows), max_size=3)) | {rows})
    values = matrix(rows, 4)
    slices, begin = [], 0
    for cut in cuts:
        slices.append(RowSlice("t", (rows, 4), tuple(order[begin:cut])))
        begin = cut
    slab = data.draw(st.sampled_from([8, 40, 1000]))
    before, slabs.SLAB = slabs.SLAB, slab
    try:
        found = read_all(Memory(t=values), Parameter("p", "linear", stacked(*slices)))
    finally:
        slabs.SLAB = before
    assert np.array_equal(found, values[order])


def test_a_plan_needs_headers_alone():
    tensors = {"t": SimpleNamespace(dtype="BF16")}
    jobs = list(slab_jobs(Parameter("p", "linear", (RowSlice("t", (8192, 4096)),)), tensors))
    assert len(jobs) == 16
    assert all(job_bytes(job, tensors) == (slabs.SLAB, 0, 0) for job in jobs)
