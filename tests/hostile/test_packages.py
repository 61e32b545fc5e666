"""A package is a closed world: nothing is opened that its manifest does not list, and nothing outside its folder."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import zoo
from zoo.engine import OrtEngine
from zoo.errors import ZooError
from zoo.package import external, open_package, verified
from zoo.package.onnx_schema import MESSAGES
from zoo.package.verified import sha256_of

attack = pytest.mark.attack
PROMPT = "Once upon a time"
Edit = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small trained model as a package."""
    return zoo.build("zoo-tiny", "int8", output=tmp_path_factory.mktemp("packages") / "tiny").path


@pytest.fixture
def package(sound: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(sound, tmp_path / "pkg"))


def relist(package: Path, edit: Edit) -> None:
    """Change the files that a manifest lists."""
    manifest = json.loads((package / "zoo.json").read_text())
    edit(manifest["files"])
    (package / "zoo.json").write_text(json.dumps(manifest))


def list_again(package: Path, name: str, raw: bytes) -> None:
    """Put a file into a package as if it had been built so."""
    (package / name).write_bytes(raw)
    relist(package, lambda f: f.update({name: {"size": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}}))


def graph(package: Path, name: str = "batch.onnx") -> Any:
    return onnx.load(str(package / name), load_external_data=False)


def located(model: Any, location: str) -> bytes:
    """Let every external tensor lie in another file."""
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    return bytes(model.SerializeToString())


def refused(package: Path, match: str) -> str:
    """Open a package as the engine does and as a check does, and be refused; return the line."""
    with pytest.raises(ZooError, match=match):
        zoo.open(package).generate(PROMPT, max_new_tokens=2)
    with pytest.raises(ZooError, match=match) as caught:
        OrtEngine.open(open_package(package))
    line = str(caught.value)
    assert "\n" not in line
    assert line.isprintable()
    return line


def test_a_sound_package_answers(package):
    assert zoo.open(package).generate(PROMPT, max_new_tokens=2).token_ids


@attack("p03_package_tricks.py", "zoo.json leaves out a file that would be read")
@pytest.mark.parametrize("name", ["batch.onnx", "model.onnx.data", "genai_config.json"])
def test_an_unlisted_file_is_not_there(package, name):
    relist(package, lambda files: files.pop(name))
    refused(package, "batch.onnx|model.onnx.data|genai_config.json")


@attack("p03_package_tricks.py", "a tokenizer or a template that zoo.json does not list")
@pytest.mark.parametrize(
    "name", ["tokenizer.json", "chat_template.jinja", "tokenizer_config.json", "generation_config.json"]
)
def test_unlisted_texts_are_not_read(package, name):
    relist(package, lambda files: files.pop(name, None))
    raw = {
        "chat_template.jinja": "INJECTED {{ messages[0].content }}",
        "tokenizer_config.json": json.dumps({"chat_template": "INJECTED"}),
        "generation_config.json": json.dumps({"do_sample": True, "temperature": 77.0}),
    }
    if name in raw:
        (package / name).write_text(raw[name])
    engine = zoo.open(package)
    if name == "tokenizer.json":
        assert engine.tokenizer is None
        with pytest.raises(ZooError, match="has no tokenizer"):
            engine.encode("x")
    assert "INJECTED" not in str(engine.chat_templates)
    assert engine.chat_defaults.fields.get("temperature") != 77.0


@attack("p03_package_tricks.py, p04_prepack_reads_outside.py", "external data by a path that leads elsewhere")
@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize(
    "location",
    ["../outside.data", "/etc/passwd", "ABSOLUTE", "./model.onnx.data", "model.onnx.data/../../outside.data",
     "*/_ORT_MEM_ADDR_/*", "", "tokenizer.json", "MODEL.ONNX.DATA", "model.onnx.data\0x"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["batch.onnx", "model.onnx"])
def test_weights_kept_elsewhere_are_refused(package, tmp_path, location, listed, name):
    shutil.copy(package / "model.onnx.data", tmp_path / "outside.data")
    location = str(tmp_path / "outside.data") if location == "ABSOLUTE" else location
    raw = located(graph(package, name), location)
    if listed:
        list_again(package, name, raw)
    else:
        (package / name).write_bytes(raw)
    refused(package, "not in a data file of the package; refused" if listed else "SHA-256|bytes")


@attack("p03_package_tricks.py", "a tensor that ends past its data file, or whose extent is left open or absurd")
@pytest.mark.parametrize(
    ("key", "value"),
    [("offset", "5450000"), ("length", "999999999"), ("length", None), ("offset", None), ("offset", "-1"),
     ("length", "1e3"), ("offset", "0x10"), ("length", "٣"), ("offset", "9" * 30), ("checksum", "x"),
     ("prepacked_0", "k|0;8;0"), ("location", "model.onnx.data")],
)  # fmt: skip
def test_extents_lie_within_the_data_file(package, key, value):
    model = graph(package)
    tensor = next(one for one in model.graph.initializer if one.external_data)
    if value is None:
        kept = [(entry.key, entry.value) for entry in tensor.external_data if entry.key != key]
        del tensor.external_data[:]
        for name, text in kept:
            tensor.external_data.add(key=name, value=text)
    else:
        same = [entry for entry in tensor.external_data if entry.key == key]
        if same and key != "location":
            same[0].value = value
        else:
            tensor.external_data.add(key=key, value=value)
    list_again(package, "batch.onnx", model.SerializeToString())
    refused(package, "a tensor ends at byte|external data with")


def secret_tensor(path: Path, name: str = "secret") -> Any:
    tensor = TensorProto(name=name, data_type=TensorProto.UINT8, dims=[8], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", str(path)), ("offset", "0"), ("length", "8")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def hidden_places(tensor: Any) -> dict[str, Callable[[Any], None]]:
    """Every place of a model where a tensor can lie."""
    inner = helper.make_graph([], "inner", [], [], [tensor])
    sparse = onnx.SparseTensorProto(
        values=tensor, indices=numpy_helper.from_array(np.zeros(1, np.int64), "i"), dims=[8]
    )

    def function(model: Any) -> None:
        made = helper.make_function("d", "F", ["x"], ["y"], [helper.make_node("Constant", [], ["y"], value=tensor)], [])
        model.functions.append(made)

    return {
        "initializer": lambda model: model.graph.initializer.append(tensor),
        "sparse": lambda model: model.graph.sparse_initializer.append(sparse),
        "constant": lambda model: model.graph.node.append(helper.make_node("Constant", [], ["k"], value=tensor)),
        "subgraph": lambda model: model.graph.node.append(
            helper.make_node("If", ["c"], ["k"], then_branch=inner, else_branch=inner)
        ),
        "function": function,
    }


@attack("p04_prepack_reads_outside.py", "a tensor that reads a file of the machine, in any corner of the graph")
@pytest.mark.parametrize("place", ["initializer", "sparse", "constant", "subgraph", "function"])
@pytest.mark.parametrize("mode", ["never", "always"])
def test_no_corner_of_a_graph_reads_a_file_of_the_machine(package, tmp_path, monkeypatch, place, mode):
    secret = tmp_path / "private.txt"
    secret.write_text("the key is hunter2 and nobody may read it")
    monkeypatch.setenv("ZOO_PREPACK", mode)
    monkeypatch.setenv("ZOO_KERNELS", "never")  # ours prepare nothing
    model = graph(package)
    hidden_places(secret_tensor(secret))[place](model)
    list_again(package, "batch.onnx", model.SerializeToString())
    refused(package, "not in a data file of the package; refused")
    kept = [path for path in (tmp_path / "zoo-home").rglob("*") if path.is_file()]
    assert not any(b"hunter2" in path.read_bytes() for path in kept)


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


@attack("p06_protobuf_differential.py", "bytes that readers of protobuf read differently hide a tensor")
@pytest.mark.parametrize(
    "tag",
    [b"\x2a", b"\xaa\x00", b"\xaa\x80\x80\x80\x10", b"\xaa\x80\x80\x80\x40", b"\xaa\x80\x80\x80\x80\x00", b"\x2b",
     b"\x29"],
)  # fmt: skip
@pytest.mark.parametrize("where", ["graph", "model", "second graph"])
def test_bytes_that_mean_two_things_are_refused(package, tmp_path, tag, where):
    secret = tmp_path / "private.txt"
    secret.write_text("x" * 100)
    tensor = secret_tensor(secret).SerializeToString()
    field = tag + varint(len(tensor)) + tensor
    raw = (package / "batch.onnx").read_bytes()
    if where == "model":
        raw += b"\xba\x80\x80\x80\x10" + varint(len(field)) + field
    elif where == "second graph":
        raw += b"\x3a" + varint(len(field)) + field
    else:
        inner = graph(package).graph.SerializeToString() + field
        raw = b"\x08\x0a\x3a" + varint(len(inner)) + inner
    list_again(package, "batch.onnx", raw)
    refused(package, "not an ONNX model that zoo would open|not in a data file")


@attack("p06_protobuf_differential.py", "external data that is only external for some readers")
@pytest.mark.parametrize("value", [b"\x70\x00", b"\x70\x01\x70\x00", b"\x70\x81\x00", b"\x70\x02", b""])
def test_a_data_location_that_is_not_clear_is_refused(package, tmp_path, value):
    tensor = secret_tensor(tmp_path / "x")
    tensor.ClearField("data_location")
    body = tensor.SerializeToString() + value
    inner = graph(package).graph.SerializeToString() + b"\x2a" + varint(len(body)) + body
    list_again(package, "batch.onnx", b"\x08\x0a\x3a" + varint(len(inner)) + inner)
    refused(package, "not an ONNX model that zoo would open|not in a data file")


def test_the_schema_is_that_of_the_library():
    kinds = {1: "d", 2: "f", 3: "v", 4: "v", 5: "v", 9: "s", 12: "s", 14: "v"}

    def check(descriptor: Any, known: set[str]) -> None:
        if descriptor.name in known or descriptor.name not in MESSAGES:
            return
        known.add(descriptor.name)
        by_number = descriptor.fields_by_number
        for number, field in MESSAGES[descriptor.name].items():
            theirs = by_number[number]
            kind = theirs.message_type.name if theirs.message_type else kinds[theirs.type]
            repeated = theirs.is_repeated if hasattr(theirs, "is_repeated") else theirs.label == 3
            assert (field.kind, field.repeated) == (kind, repeated), f"{descriptor.name}.{theirs.name}"
            if theirs.message_type:
                check(theirs.message_type, known)

    known: set[str] = set()
    check(onnx.ModelProto.DESCRIPTOR, known)
    assert known == set(MESSAGES)


def replace_by_link(package: Path, name: str) -> None:
    target = package.parent / "outside"
    os.rename(package / name, target)
    (package / name).symlink_to(target)


@attack("p03_package_tricks.py", "a listed file is a link, even one that stays inside")
@pytest.mark.parametrize("name", ["model.onnx.data", "batch.onnx", "tokenizer.json", "zoo.json"])
@pytest.mark.parametrize("inside", [True, False])
def test_a_link_is_not_a_file_of_the_package(package, name, inside):
    if inside:
        os.rename(package / name, package / "other")
        (package / name).symlink_to("other")
    else:
        replace_by_link(package, name)
    refused(package, "is a link")


@attack("p03_package_tricks.py", "a fifo, a folder or a device in the place of a file")
@pytest.mark.parametrize("name", ["genai_config.json", "model.onnx.data", "zoo.json", "batch.onnx"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "socket"])
def test_something_else_than_a_file_does_not_hang(package, name, kind):
    (package / name).unlink()
    if kind == "fifo":
        os.mkfifo(package / name)
    elif kind == "folder":
        (package / name).mkdir()
    else:
        import socket

        with socket.socket(socket.AF_UNIX) as bound:
            where = os.getcwd()
            os.chdir(package)  # a socket's path is short
            try:
                bound.bind(name)
            finally:
                os.chdir(where)
    refused(package, "not a regular file|Is a directory|No such device|no package of")


@attack("p03_package_tricks.py", "names in zoo.json that lead out, or that a terminal obeys")
@pytest.mark.parametrize(
    "name",
    ["./zoo.json", "../x", "/etc/passwd", "a/../b", "a//b", "a/", ".", "", "C:x", "a\\b", "a\x1b[31m\nzoo: ok",
     "a\x00b", "a\u202eb", "zoo.json", "a/./b"],
)  # fmt: skip
def test_names_that_are_not_plain_are_refused(package, name):
    relist(package, lambda files: files.update({name: {"size": 1, "sha256": "0" * 64}}))
    refused(package, "is not a name of a file inside the package")


@attack("p03_package_tricks.py", "a manifest of two hundred thousand files, or of gigabytes")
def test_a_manifest_is_bounded(package):
    relist(package, lambda files: files.update({f"f{i}": {"size": 0, "sha256": "0" * 64} for i in range(200_000)}))
    refused(package, "more than any package has")
    with (package / "zoo.json").open("wb") as file:
        file.truncate(2**32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(package, "larger than")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 2**18  # KiB: it is not read


@attack("p01_prepack_poison.sh, p02_prepack_silent.sh", "a byte of a package is altered, its size kept")
@pytest.mark.parametrize("mode", ["never", "auto", "always"])
@pytest.mark.parametrize("where", [0, 0.5, 1])
def test_an_altered_package_is_never_opened_nor_prepared(package, monkeypatch, tmp_path, mode, where):
    monkeypatch.setenv("ZOO_PREPACK", mode)
    monkeypatch.setenv("ZOO_KERNELS", "never")  # ours prepare nothing
    path = package / "model.onnx.data"
    at = int(where * (path.stat().st_size - 1))
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0x55]))
    refused(package, r"model\.onnx\.data: its SHA-256 is not the one in zoo\.json")
    with pytest.raises(ZooError, match="SHA-256"):
        zoo.prepare(package)
    assert not list((tmp_path / "zoo-home").glob("prepacked/*-*"))


@attack("p01_prepack_poison.sh", "what an altered package left is used for the sound one")
def test_prepared_weights_are_of_the_sound_package_only(package, sound, monkeypatch):
    monkeypatch.setenv("ZOO_PREPACK", "never")
    wanted = zoo.open(sound).generate(PROMPT, max_new_tokens=6).token_ids
    data = package / "model.onnx.data"
    with data.open("r+b") as file:
        file.seek(data.stat().st_size // 2)
        file.write(bytes(200_000))
    monkeypatch.setenv("ZOO_PREPACK", "always")
    monkeypatch.setenv("ZOO_KERNELS", "never")  # ours prepare nothing
    refused(package, "SHA-256")
    assert zoo.open(sound).generate(PROMPT, max_new_tokens=6).token_ids == wanted
    shutil.copy(sound / "model.onnx.data", data)
    assert zoo.open(package).generate(PROMPT, max_new_tokens=6).token_ids == wanted


@attack("p01_prepack_poison.sh", "a package is altered while its weights are prepared from it")
def test_a_package_that_changes_while_it_is_prepared_leaves_nothing(package, monkeypatch, tmp_path):
    from zoo.engine.prepack import making

    monkeypatch.setenv("ZOO_PREPACK", "always")
    monkeypatch.setenv("ZOO_KERNELS", "never")  # ours prepare nothing
    original = making._prepare

    def altered(graph: Path, part: Path, *args: Any) -> None:
        data = graph.with_name("model.onnx.data")
        whole, times = data.read_bytes(), data.stat()
        data.write_bytes(bytes(len(whole)))
        original(graph, part, *args)
        data.write_bytes(whole)
        os.utime(data, ns=(times.st_atime_ns, times.st_mtime_ns))  # as if nothing had been

    monkeypatch.setattr(making, "_prepare", altered)
    with pytest.raises(ZooError, match="changed while it was used"):
        zoo.prepare(package)
    assert not [path for path in (tmp_path / "zoo-home").glob("prepacked/*") if path.is_dir()]


@pytest.fixture(scope="module")
def prepared(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared weights of the sound package, to copy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_HOME", str(tmp_path_factory.mktemp("prepared")))
        patch.setenv("ZOO_PREPACK", "always")
        patch.setenv("ZOO_KERNELS", "never")  # ours prepare nothing
        return zoo.prepare(sound).folder


@attack("p01_prepack_poison.sh", "a cache of another user, or one that others may write to")
@pytest.mark.parametrize("kind", ["writable by all", "writable by the group", "a link", "another user's"])
@pytest.mark.parametrize("level", ["prepacked", "entry"])
def test_a_cache_that_is_not_ours_alone_is_ignored_with_a_line(
    sound, prepared, monkeypatch, tmp_path, caplog, kind, level
):
    from zoo import trust
    from zoo.engine import prepack

    monkeypatch.setenv("ZOO_PREPACK", "always")
    monkeypatch.setenv("ZOO_KERNELS", "never")  # ours prepare nothing
    trust._ignored.cache_clear()
    shutil.copytree(prepared.parent, tmp_path / "zoo-home" / "prepacked")
    entry = zoo.prepare(sound).folder
    at = entry.parent if level == "prepacked" else entry
    if kind == "writable by all":
        at.chmod(0o777)
    elif kind == "writable by the group":
        at.chmod(0o770)
    elif kind == "a link":
        os.rename(at, tmp_path / "moved")
        at.symlink_to(tmp_path / "moved")
    elif os.geteuid() == 0:
        os.chown(at, 12345, 12345)
    else:
        pytest.skip("only root gives files away")
    with caplog.at_level(logging.WARNING, "zoo"):
        assert prepack.find(open_package(sound)) is None
        assert prepack.find(open_package(sound)) is None
    said = [record.getMessage() for record in caplog.records if "is not used" in record.getMessage()]
    assert len(said) == 1
    assert str(at) in said[0]


@attack("p01_prepack_poison.sh", "a package of another owner, as a store mounted into a container")
def test_a_package_of_another_owner_opens_once_its_hashes_are_verified(package):
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    for path in [package, *package.iterdir()]:
        os.chown(path, 12345, 12345)
        path.chmod(0o777 if path.is_dir() else 0o666)
    assert zoo.open(package).generate(PROMPT, max_new_tokens=2).token_ids


class TestRemembered:
    """The hash of a large file is computed once for a state of it."""

    @pytest.fixture
    def reads(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        seen: list[str] = []
        original = hashlib.file_digest

        def counted(file: Any, name: str) -> Any:
            if os.fstat(file.fileno()).st_size > verified.SMALL:
                seen.append(file.name if isinstance(file.name, str) else "large")
            return original(file, name)

        monkeypatch.setattr(verified.hashlib, "file_digest", counted)
        return seen

    def test_at_publication_already(self, tmp_path, reads):
        built = zoo.build("zoo-tiny", "int8", output=tmp_path / "out").path
        zoo.open(built)
        open_package(built)
        assert reads == []

    def test_once_for_a_copy(self, package, reads):
        open_package(package)
        open_package(package)
        assert len(reads) == 1
        open_package(package, hashes=True)
        assert len(reads) == 2

    @pytest.mark.parametrize("change", ["content", "times set back", "replaced", "touched"])
    def test_again_after_any_change(self, package, reads, change):
        data = package / "model.onnx.data"
        open_package(package)
        before = data.stat()
        if change == "touched":
            os.utime(data)
        elif change == "replaced":
            shutil.copy(data, package / "copy")
            os.replace(package / "copy", data)
        else:
            with data.open("r+b") as file:
                file.write(b"\xff\xff")
            if change == "times set back":
                os.utime(data, ns=(before.st_atime_ns, before.st_mtime_ns))
        if change in ("touched", "replaced"):
            open_package(package)
        else:
            with pytest.raises(ZooError, match="SHA-256"):
                open_package(package)
        assert len(reads) == 2

    @pytest.mark.parametrize("damage", ["other digest", "not JSON", "link", "writable", "folder writable"])
    def test_a_note_that_is_not_ours_is_not_believed(self, package, tmp_path, reads, damage):
        from zoo import trust

        trust._ignored.cache_clear()
        open_package(package)
        (note,) = (tmp_path / "zoo-home" / "verified").iterdir()
        assert note.stat().st_mode & 0o077 == 0
        assert note.parent.stat().st_mode & 0o077 == 0
        if damage == "other digest":
            said = json.loads(note.read_text())
            note.write_text(json.dumps(said | {"stamp": [0, 0, 0, 0, 0]}))
        elif damage == "not JSON":
            note.write_text("[" * 100_000)
        elif damage == "link":
            os.rename(note, tmp_path / "note")
            note.symlink_to(tmp_path / "note")
        elif damage == "writable":
            note.chmod(0o666)
        else:
            note.parent.chmod(0o777)
        open_package(package)
        assert len(reads) == 2

    def test_a_file_that_changes_while_it_is_read(self, package, monkeypatch):
        data = package / "model.onnx.data"
        original = hashlib.file_digest

        def meanwhile(file: Any, name: str) -> Any:
            made = original(file, name)
            os.utime(data)
            return made

        monkeypatch.setattr(verified.hashlib, "file_digest", meanwhile)
        with pytest.raises(ZooError, match="changed while it was read"):
            sha256_of(data, "x")


def test_extents_are_read_as_onnx_reads_them(sound):
    for name in ("model.onnx", "batch.onnx"):
        model = graph(sound, name)
        said = [{entry.key: entry.value for entry in tensor.external_data} for tensor in model.graph.initializer]
        theirs = [(one["location"], one["offset"], one["length"]) for one in said if one]
        extents = external.external_extents((sound / name).read_bytes(), name)
        assert sorted((one.location, str(one.offset), str(one.length)) for one in extents) == sorted(theirs)
