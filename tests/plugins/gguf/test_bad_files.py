"""GGUF files that are not what they say: one line each, and no memory taken for what they state."""

from __future__ import annotations

import re
import struct
import tracemalloc

import pytest

import zoo
from tests.plugins.gguf.test_source import made, model_of, opened
from tests.plugins.gguf.test_tokenizer import byte_pairs
from zoo.errors import ZooError


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def entry(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def array(kind: int, count: int, items: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + items


def file(*parts: bytes, tensors: int = 0, pairs: int | None = None, version: int = 3) -> bytes:
    pairs = sum(part[8:9].isalpha() for part in parts) - tensors if pairs is None else pairs
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs) + b"".join(parts) + bytes(64)


HUGE = 2**62
BAD = {
    "no magic": (b"GGML" + bytes(99), "not a GGUF file"),
    "empty": (b"", "header ends at byte 0; truncated"),
    "version": (file(version=1), "GGUF version 1 is not read"),
    "big-endian": (file(version=3 << 24), "big-endian files are not read"),
    "count of tensors": (file(tensors=HUGE, pairs=0), f"states {HUGE} tensors, more than"),
    "count of entries": (file(pairs=HUGE), f"states {HUGE} metadata entries, more than"),
    "length of a key": (file(struct.pack("<Q", HUGE), pairs=1), "bytes in a key of its metadata, more than"),
    "length of a text": (file(entry("a.b", 8, struct.pack("<Q", HUGE))), "bytes in metadata 'a.b', more than"),
    "not UTF-8": (file(entry("a.b", 8, struct.pack("<Q", 2) + b"\xff\xff")), "metadata 'a.b' is not UTF-8"),
    "length of an array": (file(entry("a.b", 9, array(4, HUGE))), "its arrays hold more than"),
    "array past the end": (file(entry("a.b", 9, array(12, 2**20))), "numbers in metadata 'a.b', more than"),
    "strings past the end": (file(entry("a.b", 9, array(8, 2**20))), "strings in metadata 'a.b', more than"),
    "nested arrays": (file(entry("a.b", 9, array(9, 3))), "holds arrays in an array"),
    "type of a value": (file(entry("a.b", 77, b"")), "metadata 'a.b' is of type 77, which is not known"),
    "a key twice": (file(entry("a.b", 7, b"\1"), entry("a.b", 7, b"\1")), "metadata 'a.b' stands there twice"),
    "alignment": (file(entry("general.alignment", 4, struct.pack("<I", 24))), "must be a power of two"),
    "alignment of nothing": (file(entry("general.alignment", 4, bytes(4))), "must be a power of two"),
    "type of a tensor": (file(tensor("a", (4,), 999), tensors=1, pairs=0), "'a' is of type 999, which is not known"),
    "dimensions": (file(tensor("a", (1,) * 9), tensors=1, pairs=0), "'a' has 9 dimensions, not 1 to 4"),
    "sizes": (file(tensor("a", (2**39, 2**39)), tensors=1, pairs=0), "is not a tensor of this file"),
    "no rows": (file(tensor("a", (0, 4)), tensors=1, pairs=0), "is not a tensor of this file"),
    "past the end": (file(tensor("a", (999,)), tensors=1, pairs=0), "truncated, fetch it again"),
    "offset": (file(tensor("a", (4,), offset=7), tensors=1, pairs=0), "not aligned to 32"),
    "far offset": (file(tensor("a", (4,), offset=2**63), tensors=1, pairs=0), "is not a tensor of this file"),
    "blocks": (file(tensor("a", (33,), kind=8), tensors=1, pairs=0), "not whole blocks of 32 (Q8_0)"),
    "a tensor twice": (file(tensor("a", (1,)), tensor("a", (1,), offset=32), tensors=2, pairs=0), "listed twice"),
    "overlapping": (file(tensor("a", (9,)), tensor("b", (1,), offset=32), tensors=2, pairs=0), "overlaps"),
    "no name": (file(tensor("", (1,)), tensors=1, pairs=0), "has 0 characters"),
    "no architecture": (file(pairs=0), "names no general.architecture"),
    "architecture": (file(entry("general.architecture", 8, text("rwkv7"))), "architecture 'rwkv7' is not read; known:"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_crafted_file(tmp_path, name) -> None:
    raw, message = BAD[name]
    (tmp_path / "m.gguf").write_bytes(raw)
    with pytest.raises(ZooError):
        opened(tmp_path / "m.gguf")  # imports what it uses, which is not the file's doing
    tracemalloc.start()
    with pytest.raises(ZooError) as error:
        opened(tmp_path / "m.gguf")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert peak < 8 * 2**20


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_of(tmp_path_factory.mktemp("model") / "ck", "llama")


def test_a_file_cut_anywhere(tmp_path, model) -> None:
    path = made.write(tmp_path / "m.gguf", model, "llama", byte_pairs())
    raw = path.read_bytes()
    for end in (3, 20, 30, 500, 5000, 12000, len(raw) // 2, len(raw) - 1):
        path.write_bytes(raw[:end])
        with pytest.raises(ZooError, match=r"truncated|more than its"):
            opened(path)


def test_parts_of_a_set(tmp_path, model) -> None:
    first = made.write(tmp_path / "m.gguf", model, "llama", byte_pairs(), split=7)
    parts = sorted(tmp_path.glob("m-*.gguf"))
    assert opened(parts[-1]).tensors.keys() == opened(first).tensors.keys()
    held = parts[1].read_bytes()
    parts[1].unlink()
    with pytest.raises(ZooError, match=f"its part {parts[1].name} is missing"):
        opened(first)
    parts[1].write_bytes(parts[2].read_bytes())
    with pytest.raises(ZooError, match="says that it is part 2"):
        opened(first)
    parts[1].write_bytes(held)
    alone = tmp_path / "alone.gguf"
    alone.write_bytes(held)
    with pytest.raises(ZooError, match="one of 3 parts, but 1 are there"):
        opened(alone)
    with pytest.raises(ZooError, match="part 4 of 3 is not a part of a set"):
        opened(parts[1].rename(tmp_path / "m-00004-of-00003.gguf"))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"vocab_size": 7}, "llama.vocab_size is 7, but token_embd.weight has"),
        ({"attention__head_count": 5}, "rows, which 5 heads (num_attention_heads) do not divide"),
        ({"attention__head_count": "many"}, "llama.attention.head_count must be a number, not 'many'"),
        ({"attention__head_count_kv": [2, 1]}, "differs from layer to layer"),
        ({"rope__dimension_count": 4}, "positions turn 4 of 16 values"),
    ],
)
def test_numbers_against_tensors(tmp_path, model, numbers, message) -> None:
    path = made.write(tmp_path / "m.gguf", model, "llama", byte_pairs(), **numbers)
    with pytest.raises(ZooError) as error:
        opened(path)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("arch", "left_out", "numbers", "message"),
    [
        ("internlm2", "blk.1.attn_k.weight", {}, "'blk.1.attn_k.weight' is missing, without which blk.1.attn_q means"),
        ("deepseek2", "blk.0.attn_v_b.weight", {}, "'blk.0.attn_v_b.weight' is missing"),
        ("deepseek2", None, {"attention__head_count": 1.5}, "[4, 32, 12], not rows for 1.5 groups"),
        ("deepseek2", None, {"attention__head_count": 3}, "attn_k_b.weight' is [4, 32, 12], not rows for 3 groups"),
        ("deepseek2", None, {"attention__head_count": 8}, "[4, 32, 12], not rows for 8 groups"),
        ("deepseek2", None, {"expert_gating_func": 4}, "expert_gating_func is 4, which is not read; known: 1, 2"),
        ("deepseek2", None, {"rope__dimension_count": 20}, "its heads have 20 values, of which positions turn 20"),
        ("deepseek2", None, {"attention__value_length_mla": 0, "attention__value_length": None}, "and 0 of a value"),
    ],
)
def test_joined_tensors_and_latents(tmp_path, arch, left_out, numbers, message) -> None:
    few = {"num_hidden_layers": 2} | ({"first_k_dense_replace": 1} if arch == "deepseek2" else {})
    model = model_of(tmp_path / "ck", arch, **few)
    path = made.write(tmp_path / "m.gguf", model, arch, byte_pairs(), left_out=left_out, **numbers)
    with pytest.raises(ZooError) as error:
        opened(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_frequencies_that_nobody_knows(tmp_path, model) -> None:
    path = made.write(tmp_path / "m.gguf", model, "llama", byte_pairs(), factors=[1.0, 2.0, 9.0, 3.0] * 2)
    with pytest.raises(ZooError, match="stretches positions in a way that is not known"):
        opened(path)


def test_a_pre_tokenizer_that_nobody_knows(tmp_path, model) -> None:
    path = made.write(tmp_path / "m.gguf", model, "llama", byte_pairs("made-up"))
    with pytest.raises(ZooError, match="pre-tokenizer 'made-up' is not known"):
        opened(path).companions()


def test_experts_that_are_not_a_matrix_each(tmp_path) -> None:
    model = model_of(tmp_path / "ck", "mixtral")
    for shape in ((4 * 112, 64), (4, 7168, 1)):
        raw = made.tensors(model, "llama")["blk.0.ffn_up_exps.weight"].reshape(shape)
        replaced = {"blk.0.ffn_up_exps.weight": (raw, None)}
        path = made.write(tmp_path / "m.gguf", model, "llama", byte_pairs(), replaced=replaced)
        if len(shape) == 2:
            with pytest.raises(ZooError, match=r"ffn_up_exps.weight' is \[448, 64\], not a matrix for each"):
                opened(path)
        else:
            with pytest.raises(ZooError, match=r"experts.0.w3.weight' has shape \[7168, 1\], but"):
                zoo.build(path, "fp32", output=tmp_path / "out")


@pytest.mark.parametrize("name", ["none.gguf", "models/none.gguf", "./none.gguf"])
def test_a_file_that_is_not_there(tmp_path, monkeypatch, name) -> None:
    """It is not taken for a repository, which would be asked for over the network."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZooError, match=f"there is no (file|folder) {re.escape(name)}"):
        zoo.plan(name, "int8")
