"""The one table of types of numbers, against what numpy and torch say."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.declarations.dtypes import BY_CODE, BY_NAME, BY_STORAGE, READABLE


@pytest.mark.parametrize("dtype", [dtype for dtype in BY_CODE.values() if dtype.numpy], ids=lambda dtype: dtype.code)
def test_sizes_are_numpys(dtype):
    assert np.dtype(dtype.numpy).itemsize == dtype.nbytes


def test_names_are_torchs():
    torch = pytest.importorskip("torch")
    for name, dtype in BY_NAME.items():
        assert getattr(torch, name).itemsize == dtype.nbytes, name
    for name, dtype in BY_STORAGE.items():
        assert str(getattr(torch, name).dtype) == f"torch.{dtype.name}", name


def test_infinity_is_the_first_bit_pattern_that_is_not_finite():
    torch = pytest.importorskip("torch")
    assert set(READABLE) == {"F32", "F16", "BF16"}
    for code in ("F16", "BF16"):
        pattern = torch.tensor([READABLE[code].infinity], dtype=torch.int16)
        values = torch.cat([pattern, pattern - 1]).view(getattr(torch, READABLE[code].name))
        assert values.isinf().tolist() == [True, False]


def test_less_than_a_byte_has_no_bytes():
    with pytest.raises(ValueError, match="F4 takes 4 bits"):
        _ = BY_CODE["F4"].nbytes
