"""The safetensors reader: what the format allows, and one line for everything it does not."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builds import write_safetensors
from zoo.errors import ZooError
from zoo.sources.safetensors import MAX_HEADER
from zoo.sources.weightfiles import header_of


def read_header(path):
    return header_of(path, path.name, "model.safetensors")


def write(path, header, body=b"", length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + body)
    return path


def entry(start, stop, dtype="F32", shape=None):
    return {"dtype": dtype, "shape": [(stop - start) // 4] if shape is None else shape, "data_offsets": [start, stop]}


def test_reads_what_the_format_allows(tmp_path):
    header = {
        "__metadata__": {"format": "pt"},
        "b": entry(8, 24, "F16", [2, 4]),
        "a": entry(0, 8, "F32", [2]),
        "none": entry(24, 24, "BF16", [0, 7]),
        "scalar": entry(24, 28, "F32", []),
        "odd": entry(28, 31, "X7", [5]),
    }
    path = write(tmp_path / "m.safetensors", json.dumps(header).encode() + b"   ", bytes(31))
    found = read_header(path)
    assert found.tensors["b"].shape == (2, 4)
    assert found.tensors["b"].file == "m.safetensors"
    assert found.tensors["scalar"].nbytes == 4
    assert found.tensors["odd"].dtype == "X7"
    assert found.offsets["b"] - found.offsets["a"] == 8
    assert found.offsets["a"] == path.stat().st_size - 31


BAD = {
    "truncated body": ({"a": entry(0, 16)}, bytes(12), None, r"'a': ends at byte 16 of 12.*truncated"),
    "overlap": ({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12), None, r"'a'.*'b' overlap"),
    "gap": ({"a": entry(0, 4), "b": entry(8, 12)}, bytes(12), None, r"leave 4 bytes between"),
    "gap at the front": ({"a": entry(4, 8)}, bytes(8), None, r"the header and tensor 'a' leave 4"),
    "rest": ({"a": entry(0, 4)}, bytes(6), None, r"2 bytes after the last tensor"),
    "backwards": ({"a": entry(8, 4, shape=[1])}, bytes(8), None, r"'a': data_offsets 8 to 4 run backwards"),
    "negative": ({"a": entry(-4, 0, shape=[1])}, bytes(8), None, r"'a': data_offsets"),
    "huge": ({"a": entry(0, 2**70, shape=[1])}, bytes(8), None, r"'a': data_offsets"),
    "size": ({"a": entry(0, 8, shape=[3])}, bytes(8), None, r"'a': F32 \[3\] does not take 8 bytes"),
    "shape": ({"a": entry(0, 8, shape=[2.0])}, bytes(8), None, r"'a': shape"),
    "boolean": ({"a": entry(0, 4, shape=[True])}, bytes(4), None, r"'a': shape"),
    "dtype": ({"a": {"dtype": 4, "shape": [1], "data_offsets": [0, 4]}}, bytes(4), None, r"'a': dtype"),
    "fields": ({"a": {"dtype": "F32", "shape": [1]}}, bytes(4), None, r"'a': its header entry"),
    "entry": ({"a": 3}, b"", None, r"'a': its header entry"),
    "metadata": ({"__metadata__": {"a": 1}}, b"", None, r"__metadata__"),
    "list": (b"[1]", b"", None, r"does not begin with"),
    "no json": (b"{nonsense", b"", None, r"not JSON"),
    "no utf-8": (b'{"\xff": 1}', b"", None, r"not UTF-8 at byte 2"),
    "duplicate": (
        b'{"a": %b, "a": %b}' % ((json.dumps(entry(0, 4)).encode(),) * 2),
        bytes(4),
        None,
        r"'a' appears twice",
    ),
    "deep": (b'{"a":' * 100_000, b"", None, r"nested too deep|not JSON"),
    "longer than the file": (b"{}", b"", 1000, r"header of 1000 bytes in a file of 10"),
    "longer than allowed": (b"{}", b"", MAX_HEADER + 1, r"more than the format allows"),
}


@pytest.mark.parametrize("case", BAD)
def test_refuses_in_one_line_with_the_file(tmp_path, case):
    header, body, length, message = BAD[case]
    path = write(tmp_path / "bad.safetensors", header, body, length)
    with pytest.raises(ZooError, match=message) as caught:
        read_header(path)
    assert "bad.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"1234567"])
def test_a_file_without_a_header(tmp_path, content):
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(ZooError, match="not a safetensors file"):
        read_header(tmp_path / "bad.safetensors")


def test_a_missing_file(tmp_path):
    with pytest.raises(ZooError, match=r"gone\.safetensors: No such file"):
        read_header(tmp_path / "gone.safetensors")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_never_ends_in_a_traceback(tmp_path, data):
    path = tmp_path / "m.safetensors"
    write_safetensors(path, {"a": ("F32", np.ones((3, 4), np.float32)), "b": ("F16", np.ones(5, np.float16))})
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, min(len(raw) - 1, 160)))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    try:
        header = read_header(path)
    except ZooError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        for name, info in header.tensors.items():
            assert header.offsets[name] + info.nbytes <= len(raw)
