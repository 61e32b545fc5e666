"""Accounting: every row of every tensor is used once, every row of every parameter filled once."""

from __future__ import annotations

import pytest

from zoo.contracts import HeadPadding, Parameter, RowSlice, interleaved, stacked
from zoo.errors import ZooError
from zoo.package.account import check_rows

SHAPE = (12, 4)
TENSORS = {"t": SHAPE}


def parameter(*slices, **more):
    return Parameter("p", "linear", slices, **more)


def rows_of(*taken, **more):
    return RowSlice("t", SHAPE, *taken, **more)


@pytest.mark.parametrize(
    "parameters",
    [
        [parameter(rows_of())],
        [parameter(rows_of(range(12)))],
        [parameter(*stacked(rows_of(range(6, 12)), rows_of(range(6))))],
        [parameter(*interleaved(rows_of(range(6)), rows_of(range(6, 12))))],
        [parameter(rows_of(range(0, 12, 2))), parameter(rows_of(range(1, 12, 2)))],
        [parameter(rows_of(tuple(reversed(range(12)))), experts=3)],
        [parameter(rows_of(pad_rows=HeadPadding(3, 4, 16, rotary=True)))],
    ],
)
def test_every_row_once(parameters):
    check_rows("architecture 'a'", parameters, TENSORS)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ([parameter(rows_of(range(9)))], "uses rows 9 to 11 of tensor 't' never"),
        ([parameter(rows_of(range(1, 12)))], "uses row 0 of tensor 't' never"),
        ([parameter(rows_of()), parameter(rows_of(range(4, 6)))], "uses rows 4 to 5 of tensor 't' twice"),
        ([parameter(rows_of((*range(12), 3)))], "uses row 3 of tensor 't' twice"),
        ([parameter(rows_of(range(13)))], r"uses rows of tensor 't' that it does not have \(12 rows\)"),
        ([parameter(rows_of((-1, *range(1, 12))))], "uses rows of tensor 't' that it does not have"),
        ([parameter(rows_of(range(6)), rows_of(range(6, 12)))], "fills rows 0 to 5 of p twice"),
        ([parameter(rows_of(range(6)), rows_of(range(6, 12), at=8))], "fills rows 6 to 7 of p never"),
        ([parameter(rows_of(at=-1))], "places rows before the first of p"),
        ([parameter(rows_of(at=2))], "fills rows 0 to 1 of p never"),
        ([parameter(rows_of(), experts=5)], "12 rows of p do not divide among 5 experts"),
        ([parameter(rows_of(pad_rows=HeadPadding(2, 4, 16, rotary=True)))], "2 heads of 4 in p, .* has 12 rows"),
        ([parameter(rows_of()), parameter(RowSlice("u", (2, 4)))], "contradicts itself about tensor 'u'"),
        ([parameter(RowSlice("t", (12, 5)))], "contradicts itself about tensor 't'"),
        ([], "contradicts itself about tensor 't'"),
    ],
)
def test_rows_that_are_used_or_filled_otherwise(parameters, message):
    with pytest.raises(ZooError, match=f"architecture 'a'.* {message}.* defective"):
        check_rows("architecture 'a'", parameters, TENSORS)


def test_rows_of_another_length():
    slices = stacked(rows_of(), RowSlice("u", (2, 5)))
    with pytest.raises(ZooError, match="rows of 5 and of 4 values in p"):
        check_rows("architecture 'a'", [parameter(*slices)], {**TENSORS, "u": (2, 5)})
