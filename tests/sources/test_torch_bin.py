"""PyTorch's ``.bin`` files: everything that torch writes is read in place, and nothing in them ever runs."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import resource
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo.contracts import flat_shape
from zoo.declarations.dtypes import READABLE
from zoo.errors import ZooError
from zoo.sources.folder import FolderCheckpoint, open_folder
from zoo.sources.torch_bin_pickle import _STEPS, MAX_STEPS, describe
from zoo.sources.weightfiles import header_of

pytestmark = pytest.mark.attack("b01_pickle.py", "a pickle that runs code, or grows")

torch = pytest.importorskip("torch")


def folder_of(path: Path, weights: Any, **options: Any) -> Path:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text('{"model_type": "example"}')
    torch.save(weights, path / "pytorch_model.bin", **options)
    return path


def raw_bytes(tensor: Any) -> bytes:
    """The values of a tensor, row by row."""
    tensor = tensor.detach().contiguous()
    return bytes((tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy().tobytes())


def assert_same(checkpoint: FolderCheckpoint, weights: dict[str, Any]) -> None:
    assert set(checkpoint.tensors) == set(weights)
    for name, tensor in weights.items():
        info = checkpoint.tensors[name]
        rows, columns = flat_shape(info.shape)
        assert info.shape == tuple(tensor.shape)
        assert checkpoint.read(name, 0, rows).tobytes() == raw_bytes(tensor), name
        if tensor.ndim and rows > 2:
            out = np.empty(info.nbytes + 7, np.uint8)
            assert checkpoint.read(name, 1, rows - 1, out).tobytes() == raw_bytes(
                tensor.reshape(rows, columns)[1:-1]
            ), name


def variants() -> dict[str, Any]:
    torch.manual_seed(0)
    base = torch.randn(6, 4)
    return {
        "float": torch.randn(5, 7),
        "half": torch.randn(3, 4).half(),
        "bfloat": torch.randn(6, 4).bfloat16(),
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 4),
        "vector": torch.randn(9),
        "whole": base,
        "part": base[1:4],
        "transposed": torch.randn(7, 5).half().t(),
        "every_other": torch.randn(4, 6)[:, ::2],
        "repeated": torch.randn(3).expand(4, 3),
        "three_axes": torch.randn(4, 3, 2).permute(2, 0, 1).bfloat16(),
        "parameter": torch.nn.Parameter(torch.randn(3, 3)),
        "one_row": torch.randn(5, 1).t(),
    }


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_kind_of_tensor_reads_as_torch_has_it(tmp_path: Path, protocol: int) -> None:
    weights = variants()
    checkpoint = open_folder(folder_of(tmp_path / "model", weights, pickle_protocol=protocol))
    assert_same(checkpoint, weights)
    assert {info.dtype for info in checkpoint.tensors.values()} == {"F32", "F16", "BF16"}
    assert all(info.file == "pytorch_model.bin" for info in checkpoint.tensors.values())


def test_a_state_dict_of_a_module_with_its_metadata(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3))
    weights = module.state_dict()
    assert isinstance(weights, OrderedDict)
    assert weights._metadata
    assert_same(open_folder(folder_of(tmp_path / "model", weights)), weights)


def test_an_archive_written_through_a_stream(tmp_path: Path) -> None:
    folder, weights = folder_of(tmp_path / "model", {}), variants()
    stream = io.BytesIO()
    torch.save(weights, stream)
    (folder / "pytorch_model.bin").write_bytes(stream.getvalue())
    assert_same(open_folder(folder), weights)


def shard(folder: Path, weights: dict[str, Any], parts: dict[str, list[str]]) -> None:
    (folder / "pytorch_model.bin").unlink(missing_ok=True)
    for file, names in parts.items():
        torch.save({name: weights[name] for name in names}, folder / file)
    weight_map = {name: file for file, names in parts.items() for name in names}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_shards(tmp_path: Path) -> None:
    folder, weights = folder_of(tmp_path / "model", {}), variants()
    names = sorted(weights)
    shard(folder, weights, {"pytorch_model-1.bin": names[:5], "pytorch_model-2.bin": names[5:]})
    checkpoint = open_folder(folder)
    assert_same(checkpoint, weights)
    assert set(checkpoint.stamps()) == {"pytorch_model-1.bin", "pytorch_model-2.bin"}
    (folder / "pytorch_model-2.bin").unlink()
    with pytest.raises(ZooError, match=r"pytorch_model-2\.bin is missing"):
        open_folder(folder)


def test_a_shard_that_contradicts_its_index(tmp_path: Path) -> None:
    folder, weights = folder_of(tmp_path / "model", {}), variants()
    shard(folder, weights, {"pytorch_model-1.bin": ["float", "half"]})
    torch.save({"float": weights["float"]}, folder / "pytorch_model-1.bin")
    with pytest.raises(ZooError, match="'half' is missing"):
        open_folder(folder)


def test_safetensors_come_first(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = folder_of(tmp_path / "model", {"from_bin": torch.zeros(2)})
    save_file({"from_safetensors": torch.zeros(2)}, folder / "model.safetensors")
    assert set(open_folder(folder).tensors) == {"from_safetensors"}


def test_the_digest_sees_the_weights_and_not_the_place(tmp_path: Path) -> None:
    first = open_folder(folder_of(tmp_path / "a", {"w": torch.zeros(3)})).digest
    again = open_folder(folder_of(tmp_path / "b", {"w": torch.zeros(3)})).digest
    other = open_folder(folder_of(tmp_path / "c", {"w": torch.ones(3)})).digest
    assert first == again != other


def test_torch_is_not_imported(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", variants())
    script = (
        "import sys; from pathlib import Path; from zoo.sources.folder import open_folder\n"
        "c = open_folder(Path(sys.argv[1])); c.read('transposed', 0, 2)\n"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True)


WIDE = {
    "runs far apart": lambda: torch.arange(40_000 * 6).half().view(6, 40_000).t(),
    "larger than a read": lambda: torch.arange(600_000.0).view(300, 2000).t(),
    "one long axis, cut": lambda: torch.randn(400_000, 2)[:, 0].view(1, -1).expand(3, -1),
    "three axes, far apart": lambda: torch.randn(3, 5, 50_000).bfloat16().permute(1, 2, 0),
    "the innermost axis last": lambda: torch.randn(700, 3, 90).permute(1, 0, 2),
}


@pytest.mark.parametrize("kind", WIDE)
def test_rows_that_lie_apart_are_read_in_bounded_pieces(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensor = WIDE[kind]()
    checkpoint = open_folder(folder_of(tmp_path / "model", {"w": tensor}))
    sizes, plain = [], os.preadv

    def preadv(file: int, views: list[memoryview], offset: int) -> int:
        sizes.append(len(views[0]))
        return plain(file, views, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    assert_same(checkpoint, {"w": tensor})
    assert max(sizes) <= 2**19
    assert len(sizes) < 100_000


@pytest.mark.parametrize("name", ["transposed", "whole"])
def test_an_error_of_the_disk_is_one_line(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = open_folder(folder_of(tmp_path / "model", variants()))

    def preadv(file: int, views: list[memoryview], offset: int) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", preadv)
    with pytest.raises(ZooError, match=r"^pytorch_model\.bin: reading at byte \d+ failed: Input/output error$"):
        checkpoint.read(name, 0, 2)


@pytest.mark.parametrize("name", ["transposed", "whole"])
def test_a_file_cut_short_after_it_was_opened_is_one_line(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path / "model", variants())
    checkpoint = open_folder(folder)
    os.truncate(folder / "pytorch_model.bin", 100)
    with pytest.raises(ZooError, match=r"^pytorch_model\.bin: ends at byte \d+, before its tensors do"):
        checkpoint.read(name, 0, 2)


# What is refused, and what is said.


def refusal(folder: Path) -> str:
    with pytest.raises(ZooError) as caught:
        open_folder(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def test_the_older_format_is_refused_with_a_command_that_works(tmp_path: Path) -> None:
    weights = {"w": torch.randn(4, 4)}
    folder = folder_of(tmp_path / "model", weights, _use_new_zipfile_serialization=False)
    message = refusal(folder)
    command = message[message.index("python -c") :].replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, check=True, cwd=folder)
    assert_same(open_folder(folder), weights)


def test_a_file_name_never_reaches_a_command_to_copy(tmp_path: Path) -> None:
    bad = "x'; import os #.bin"
    (tmp_path / bad).write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(ZooError, match="f='FILE'"):
        header_of(tmp_path / bad, bad, "pytorch_model.bin")


@pytest.mark.parametrize("level", ["state_dict", "model"])
def test_weights_one_level_down(tmp_path: Path, level: str) -> None:
    message = refusal(folder_of(tmp_path / "model", {level: {"w": torch.zeros(2)}, "epoch": 3}))
    assert f"under '{level}'" in message
    assert "torch.save(torch.load(f, weights_only=True)" in message


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([torch.zeros(2)], "holds a list, not a dict"),
        ({"w": torch.zeros(2), "epoch": 3}, "'epoch' is a int, not a tensor"),
        ({3: torch.zeros(2)}, "something named 3"),
        (torch.zeros(2), "holds a tensor, not a dict"),
        ({"w": torch.zeros(2, 2).to_sparse()}, "asks for 'torch._utils._rebuild_sparse_tensor'"),
        ({"w": torch.device("cpu")}, "asks for 'torch.device'"),
    ],
)
def test_what_is_no_state_dict(tmp_path: Path, weights: Any, said: str) -> None:
    assert said in refusal(folder_of(tmp_path / "model", weights))


def test_a_type_that_cannot_be_built_from(tmp_path: Path) -> None:
    checkpoint = open_folder(folder_of(tmp_path / "model", {"w": torch.zeros(2, dtype=torch.float8_e4m3fn)}))
    assert checkpoint.tensors["w"].dtype == "F8_E4M3"
    assert checkpoint.read("w", 0, 2).tolist() == [0, 0]  # bit patterns, for a transform
    assert "F8_E4M3" not in READABLE


# Archives made by hand.


def archive(
    folder: Path,
    pickled: bytes,
    members: dict[str, bytes] | None = None,
    *,
    root: str = "model/",
    compression: int = zipfile.ZIP_STORED,
    order: bytes = b"little",
) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w", compression) as file:
        file.writestr(f"{root}data.pkl", pickled)
        file.writestr(f"{root}byteorder", order)
        for name, data in (members or {}).items():
            file.writestr(root + name, data)
    return folder


def tensor_pickle(
    storage: str = "FloatStorage", numel: int = 4, offset: int = 0, shape: tuple[int, ...] = (2, 2), key: str = "0"
) -> bytes:
    """A state dict of one tensor, as torch would have written it."""

    def number(value: int) -> bytes:
        return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    strides = [1]
    for size in reversed(shape[1:]):
        strides.insert(0, strides[0] * size)
    sizes = b"(" + b"".join(number(one) for one in shape) + b"t"
    steps = b"(" + b"".join(number(one) for one in strides[: len(shape)]) + b"t"
    persistent = (
        b"(" + text("storage") + b"ctorch\n" + storage.encode() + b"\n" + text(key) + text("cpu") + number(numel)
    )
    call = b"ctorch._utils\n_rebuild_tensor_v2\n((" + persistent[1:] + b"tQ" + number(offset) + sizes + steps
    return b"\x80\x02}" + text("w") + call + b"\x89ccollections\nOrderedDict\n)RtRs."


def test_an_archive_by_hand_is_read(tmp_path: Path) -> None:
    data = np.arange(4, dtype="<f4").tobytes()
    checkpoint = open_folder(archive(tmp_path / "m", tensor_pickle(), {"data/0": data}))
    assert checkpoint.read("w", 0, 2).tobytes() == data


@pytest.mark.parametrize(
    ("options", "members", "said"),
    [
        ({}, {}, r"data/0\) are missing"),
        ({}, {"data/0": bytes(15)}, "should have 4 values, it has 15 bytes"),
        ({"offset": 1}, {"data/0": bytes(16)}, "reaches to byte 20 of 16"),
        ({"shape": (2, 3)}, {"data/0": bytes(16)}, "reaches to byte"),
        ({"shape": (2**40, 2**40)}, {"data/0": bytes(16)}, "reaches to byte"),
        ({"numel": -1}, {"data/0": bytes(16)}, "storage without type and size"),
        ({"storage": "Storage"}, {"data/0": bytes(16)}, "asks for 'torch.Storage'"),
        ({"key": "../../etc/passwd"}, {"data/0": bytes(16)}, "are missing"),
    ],
)
def test_tensors_that_lie_outside(
    tmp_path: Path, options: dict[str, Any], members: dict[str, bytes], said: str
) -> None:
    with pytest.raises(ZooError, match=said):
        open_folder(archive(tmp_path / "m", tensor_pickle(**options), members))


class _Runs:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("function", [os.system, eval, open, __import__, getattr, exec])
def test_a_pickle_that_would_run_code_runs_nothing(tmp_path: Path, function: Any, protocol: int) -> None:
    marker = tmp_path / "ran"
    pickled = pickle.dumps({"w": _Runs(function, f"touch {marker}")}, protocol)
    message = refusal(archive(tmp_path / "m", pickled))
    assert function.__name__ in message
    assert "could run code; refused" in message
    assert not marker.exists()


@pytest.mark.parametrize(
    "pickled",
    [
        b"",
        b"\x80\x02",
        b"\x80\x02}",
        b".",
        b"\x80\x02}}.",
        b"\x80\x02K\x01K\x02s.",
        b"\x80\x02}q\x00h\x01.",
        b"\x80\x02u.",
        b"\x80\x02(q\x00}.",
        b"\x80\x02)R.",
        b"\x80\x02}(K\x01\x85\x85K\x02u.",
        b"\x80\x02}X\xff\xff\xff\x7fabc.",
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
        b"\x80\x02\x8a\xff" + bytes(255) + b".",
        b"\x80\x04\x8d" + b"\xff" * 8 + b".",
        b"\x80\x02c" + b"a" * 5000,
        b"\x80\x02ccollections\n\xff\xfe\n.",
        b"\x80\x02ccollections\nOrderedDict\nK\x01\x85R.",
        b"\x80\x02ccollections\nOrderedDict\n)\x81.",
        b"\x80\x02K\x01Q.",
        b"\x80\x02Vtext\n.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02}\x94\x93.",
    ],
)
def test_damaged_pickles_are_one_line(pickled: bytes) -> None:
    with pytest.raises(ZooError) as caught:
        describe(pickled, "pytorch_model.bin")
    assert str(caught.value).startswith("pytorch_model.bin: ")
    assert "\n" not in str(caught.value)


def test_bombs_are_bounded() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Deep nesting, a memo index that an array would have to reach, doubling tuples, endless steps.
    describe(b"\x80\x02" + b"]" * 100_000 + b"0" * 99_999 + b".", "x")
    assert describe(b"\x80\x02}r\xff\xff\xff\xff0j\xff\xff\xff\xff.", "x") == {}
    doubling = b"".join(b"q%c0h%ch%c\x86" % (i, i, i) for i in range(200))
    nested = describe(b"\x80\x02)" + doubling + b".", "x")
    assert len(nested) == 2
    with pytest.raises(ZooError, match="neither text nor number"):
        describe(b"\x80\x02})" + doubling + b"K\x01s.", "x")
    with pytest.raises(ZooError, match="steps"):
        describe(b"\x80\x02" + b"N0" * MAX_STEPS, "x")
    deep = describe(b"\x80\x02)" + b"\x85" * 500_000 + b".", "x")
    del deep
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000


def test_a_name_that_stands_twice(tmp_path: Path) -> None:
    item = tensor_pickle()[3:-2]
    with pytest.raises(ZooError, match="'w' appears twice"):
        open_folder(archive(tmp_path / "m", b"\x80\x02}" + item + b"s" + item + b"s.", {"data/0": bytes(16)}))


def test_compressed_members_are_refused(tmp_path: Path) -> None:
    folder = archive(tmp_path / "m", tensor_pickle(), {"data/0": bytes(16)}, compression=zipfile.ZIP_DEFLATED)
    assert "compressed" in refusal(folder)


def test_a_zip_bomb_takes_no_memory(tmp_path: Path) -> None:
    folder = archive(tmp_path / "m", b"\x80" * 2**25, compression=zipfile.ZIP_DEFLATED)
    assert "compressed" in refusal(folder)
    folder = archive(tmp_path / "n", b"\x80" * (2**24 + 1))
    assert "data.pkl of 16777217 bytes" in refusal(folder)


def test_big_endian_is_refused(tmp_path: Path) -> None:
    folder = archive(tmp_path / "m", tensor_pickle(), {"data/0": bytes(16)}, order=b"big")
    assert "big-endian" in refusal(folder)


@pytest.mark.parametrize("root", ["", "any name/"])
def test_the_folder_inside_the_archive_may_have_any_name(tmp_path: Path, root: str) -> None:
    folder = archive(tmp_path / "m", tensor_pickle(), {"data/0": bytes(16)}, root=root)
    assert set(open_folder(folder).tensors) == {"w"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_torch_never_writes(tmp_path: Path) -> None:
    folder = archive(tmp_path / "m", tensor_pickle(), {"data/0": bytes(16), "code/x.py": b"", "constants.pkl": b""})
    assert "TorchScript" in refusal(folder)
    folder = archive(tmp_path / "n", tensor_pickle(), {"data/0": bytes(16), "inner/data.pkl": b""})
    assert "2 data.pkl" in refusal(folder)
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as file:
        file.writestr("readme.txt", "hello")
    assert "0 data.pkl" in refusal(folder)
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as file:
        file.writestr("m/data.pkl", tensor_pickle())
        file.writestr("m/data/0", bytes(16))
        file.writestr("m/data/0", bytes(16))
    assert "twice" in refusal(folder)


def test_members_that_overlap(tmp_path: Path) -> None:
    folder = archive(tmp_path / "m", tensor_pickle(), {"data/0": bytes(16), "data/1": bytes(16)})
    path = folder / "pytorch_model.bin"
    raw = bytearray(path.read_bytes())
    # The table of contents is at the end; make its last entry begin where the first one does.
    last = raw.rindex(b"PK\x01\x02")
    raw[last + 42 : last + 46] = struct.pack("<I", 0)
    path.write_bytes(raw)
    assert "damaged" in refusal(folder)


def test_a_member_that_reaches_past_the_end(tmp_path: Path) -> None:
    folder = archive(tmp_path / "m", tensor_pickle(), {"data/0": bytes(8)})
    path = folder / "pytorch_model.bin"
    raw = bytearray(path.read_bytes())
    last = raw.rindex(b"PK\x01\x02")
    raw[last + 20 : last + 28] = struct.pack("<II", 16, 16)
    path.write_bytes(raw)
    assert "'data/0' reaches past the end" in refusal(folder)


def test_files_that_are_no_archives(tmp_path: Path) -> None:
    folder = archive(tmp_path / "m", tensor_pickle(), {"data/0": bytes(16)})
    path = folder / "pytorch_model.bin"
    whole = path.read_bytes()
    for raw, said in (
        (b"", "empty"),
        (b"hello", "not a PyTorch file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"PK\x03\x04", "truncated or damaged"),
    ):
        path.write_bytes(raw)
        assert said in refusal(folder)
    for length in range(1, len(whole), 7):
        path.write_bytes(whole[:length])
        refusal(folder)


def test_any_damage_is_one_line_or_harmless(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", variants())
    path = folder / "pytorch_model.bin"
    whole = path.read_bytes()

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), min_size=1, max_size=8))
    def check(changes: list[tuple[int, int]]) -> None:
        raw = bytearray(whole)
        for position, value in changes:
            raw[position] = value
        path.write_bytes(raw)
        said = ""
        try:
            checkpoint = open_folder(folder)
            for name, info in checkpoint.tensors.items():
                checkpoint.read(name, 0, min(info.shape[0] if info.shape else 1, 4))
        except ZooError as error:
            said = str(error)
        assert "\n" not in said

    check()


def test_any_pickle_is_one_line_or_values() -> None:
    codes = st.sampled_from([bytes([code]) for code in _STEPS]) | st.binary(max_size=6)

    @settings(max_examples=500, deadline=None)
    @given(st.lists(codes, max_size=40))
    def check(parts: list[bytes]) -> None:
        said = "x: "
        try:
            describe(b"\x80\x02" + b"".join(parts) + b".", "x")
        except ZooError as error:
            said = str(error)
        assert said.startswith("x: ")

    check()
