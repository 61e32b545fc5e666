"""Archives, files of data, headers and addresses that a stranger made."""

from __future__ import annotations

import gzip
import http.server
import ipaddress
import json
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from zoo.datasets import streams
from zoo.datasets.texts import read_texts
from zoo.declarations.dataset import Dataset
from zoo.errors import ZooError
from zoo.evaluation import datafiles
from zoo.sources import redirects, transfer
from zoo.sources.dataset_files import bring_dataset

attack = pytest.mark.attack
ROOT = Path(__file__).parents[2]
GZIP = gzip.compress(bytes(2**16), mtime=0)
"""Always the same bytes: they name a test, and every worker must collect the same names."""


def compressed(path: Path, piece: bytes, count: int) -> Path:
    """Write many equal pieces, compressed."""
    with gzip.open(path, "wb", 9) as file:
        for _ in range(count):
            file.write(piece)
    return path


@attack("d01_data_bombs.py", "a compressed file that unpacks to gigabytes of blanks, lines or one endless line")
@pytest.mark.parametrize("name", ["c.jsonl.gz", "l.txt.gz", "j.json.gz", "t.csv.gz"])
@pytest.mark.parametrize("byte", [b"\n", b" ", b"a", b"[", b"\t"])
def test_a_compressed_file_ends(tmp_path, monkeypatch, name, byte):
    monkeypatch.setattr(streams, "BOMB_FREE", 4 * 2**20)
    path = compressed(tmp_path / name, byte * 2**20, 64)
    started = time.monotonic()
    with pytest.raises(ZooError) as caught:
        for _ in read_texts([path]):
            pass
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)
    assert time.monotonic() - started < 10


@attack("d01_data_bombs.py", "texts that compress well are no bomb")
def test_a_text_that_compresses_well_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "BOMB_FREE", 2**20)
    path = tmp_path / "x.jsonl.gz"
    with gzip.open(path, "wb", 9) as file:
        for number in range(30_000):
            file.write(json.dumps({"text": f"The quick brown fox jumps over the lazy dog, {number} times."}).encode())
            file.write(b"\n")
    assert sum(1 for _ in read_texts([path])) == 30_000


def archive(path: Path, *entries: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, raw in entries:
            file.writestr(name, raw)
    return path


def linked() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("a.jsonl")
    info.external_attr = 0o120777 << 16
    return info


@attack("d01_data_bombs.py", "zoo eval --data: an archive with a bomb, links, or paths that lead out")
@pytest.mark.parametrize(
    ("entry", "raw", "match"),
    [("SuperGLUE/BoolQ/val.jsonl", b" " * 8 * 2**20, "that is not a dataset"), ("../../x.jsonl", b"x", "leads outside"),
     ("/etc/x.jsonl", b"x", "leads outside"), ("a/../../x", b"x", "leads outside"), ("C:/x", b"x", "leads outside"),
     (linked(), b"/etc/passwd", "is a link")],
)  # fmt: skip
def test_the_archive_of_an_evaluation_has_the_limits_of_datasets(tmp_path, monkeypatch, entry, raw, match):
    monkeypatch.setattr(streams, "BOMB_FREE", 2**20)
    path = archive(tmp_path / "x.zip", (entry, raw))
    with pytest.raises(ZooError, match=match) as caught:
        datafiles.open_data(path)
    assert "\n" not in str(caught.value)


@attack("d01_data_bombs.py", "zoo eval --data: a file too large to be held, in a folder, an archive or alone")
@pytest.mark.parametrize("kind", ["folder", "archive", "file"])
def test_a_file_of_a_task_is_bounded(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(datafiles, "MAX_FILE", 1000)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x.jsonl").write_bytes(b"y" * 2000)
    path = {"folder": tmp_path / "d", "file": tmp_path / "d" / "x.jsonl"}.get(kind)
    data = datafiles.open_data(path or archive(tmp_path / "x.zip", ("x.jsonl", b"y" * 2000)))
    with pytest.raises(ZooError, match=r"larger than 1000|more than 1,000"):
        data.read("x.jsonl")


@attack("d01_data_bombs.py", "zoo eval --data: an archive that is cut short or damaged")
def test_a_damaged_archive_is_one_line(tmp_path):
    raw = archive(tmp_path / "x.zip", ("x.jsonl", b"some text that is long enough" * 50)).read_bytes()
    lines = []
    for at in range(0, len(raw), 7):
        (tmp_path / "bad.zip").write_bytes(raw[:at] + bytes([raw[at] ^ 0xFF]) + raw[at + 1 :])
        try:
            data = datafiles.open_data(tmp_path / "bad.zip")
            for name in data.match("*"):
                data.read(name)
        except ZooError as error:
            lines.append(str(error))
    assert len(lines) > 10
    assert not any("\n" in line for line in lines)


HEADER = """
    import resource, struct, sys
    from zoo.errors import ZooError
    from zoo.sources.weightfiles import header_of
    from pathlib import Path
    path = Path(sys.argv[1])
    small = path.with_name("small.safetensors")
    small.write_bytes(struct.pack("<Q", 2) + b"{}")
    header_of(small, "x", "model.safetensors")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = "value"
    try:
        kept = header_of(path, "x", "model.safetensors")
    except ZooError as error:
        said = str(error)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024, said[:300])
"""
ENTRY = b'"%07x":{"dtype":"F32","shape":[1],"data_offsets":[%d,%d]}'


@attack("b02_safetensors.py", "a header of small things that become large objects")
@pytest.mark.parametrize(
    "kind",
    [
        "lists",
        "objects",
        "names",
        "tensors",
        "one name",
        "metadata",
        "strings in metadata",
        "deep",
        "escapes",
        "floats",
    ],
)
def test_a_header_takes_memory_in_proportion(tmp_path, kind):
    count, body = 1_000_000, 0
    if kind == "tensors":
        body = 4 * 100_000
        header = b"{" + b",".join(ENTRY % (i, 4 * i, 4 * i + 4) for i in range(100_000)) + b"}"
    else:
        header = {
            "lists": b'{"a":[' + b",".join([b"[]"] * count) + b"]}",
            "objects": b'{"a":[' + b",".join([b"{}"] * count) + b"]}",
            "names": b"{" + b",".join(b'"%07x":0' % i for i in range(count // 2)) + b"}",
            "one name": b'{"' + b"a" * 5 * count + b'":0}',
            "metadata": b'{"__metadata__":{"a":[' + b",".join([b"{}"] * count) + b"]}}",
            "strings in metadata": b'{"__metadata__":{' + b",".join(b'"%x":""' % i for i in range(count // 2)) + b"}}",
            "deep": b'{"a":' + b"[" * 3 * count,
            "escapes": b'{"' + b"\\u0041" * count + b'":0}',
            "floats": b'{"a":{"dtype":"F32","shape":[' + b",".join([b"1e5"] * count) + b'],"data_offsets":[0,4]}}',
        }[kind]
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(body))
    started = time.monotonic()
    argv = [sys.executable, "-c", textwrap.dedent(HEADER), str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT)
    grown, _, said = done.stdout.strip().partition(" ")
    assert int(grown) <= 10 * len(header), f"{int(grown) / len(header):.1f} times the header"
    assert time.monotonic() - started < 15
    assert said.startswith("value" if kind in ("tensors", "strings in metadata") else "x: ")


Answer = namedtuple("Answer", "status headers body")


class Misbehaving(http.server.BaseHTTPRequestHandler):
    """Answers by path, and notes what it was asked."""

    answers: dict[str, Answer] = {}  # noqa: RUF012
    seen: list[tuple[str, str, dict[str, str]]] = []  # noqa: RUF012

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(head=True)

    def do_GET(self) -> None:
        self._answer(head=False)

    def _answer(self, *, head: bool) -> None:
        self.seen.append((self.command, self.path, dict(self.headers)))
        answer = self.answers.get(self.path, Answer(404, {}, b""))
        self.send_response(answer.status)
        for key, value in answer.headers.items():
            self.send_header(key, value)
        self.end_headers()
        if not head:
            pieces = answer.body if isinstance(answer.body, list) else [answer.body]
            try:
                for piece in pieces:
                    self.wfile.write(piece)
            except OSError:
                pass


@pytest.fixture
def address(monkeypatch):
    """Start a server on the loopback; return how to bring a file from one of its paths."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr("zoo.sources.hub_errors.FIRST_WAIT", 0.01)
    Misbehaving.answers, Misbehaving.seen = {}, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Misbehaving)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def fetched(path: str, sha256: str | None = None) -> bytes:
        dataset = Dataset.model_validate(
            {"name": "data", "title": "t", "format": "text-jsonl", "purposes": ["calibration"], "licence": {"id": "x"},
             "files": [{"path": "x.txt", "url": f"http://127.0.0.1:{server.server_port}{path}", "sha256": sha256}]}
        )  # fmt: skip
        return bring_dataset(dataset)[0]["x.txt"].read_bytes()

    yield fetched
    server.shutdown()
    thread.join()


def left_behind(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "datasets").rglob("*") if path.is_file())


@attack("d02_dataset_url.py", "an address that redirects to files, to this machine, to private networks, or for ever")
@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "http://127.0.0.1:1/internal", "http://localhost:1/x", "http://[::1]:1/x", "//127.0.0.1:1/x",
     "http://169.254.169.254/latest/meta-data", "http://10.0.0.1/x", "http://192.168.1.1/", "http://[::ffff:127.0.0.1]/",
     "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://0.0.0.0:1/", "http://0x7f.1/", "http://2130706433/",
     "ftp://example.org/x", "http://nowhere.invalid/", "http://", "http://[::1", "gopher:x", "http://100.64.0.1/",
     "http://[fe80::1]/", "http://224.0.0.1/"],
)  # fmt: skip
def test_redirects_lead_to_public_hosts_only(address, tmp_path, location):
    Misbehaving.answers["/go"] = Answer(302, {"Location": location}, b"")
    with pytest.raises(ZooError, match=r"refused|cannot be reached|not a web address") as caught:
        address("/go")
    assert "\n" not in str(caught.value)
    assert left_behind(tmp_path / "zoo-home") == []
    assert all(path == "/go" for _, path, _ in Misbehaving.seen)


@attack("d02_dataset_url.py", "a redirect of the body alone, when the size was asked without one")
def test_a_redirect_of_the_body_is_refused_too(address, tmp_path, monkeypatch):
    Misbehaving.answers["/inside"] = Answer(200, {"Content-Length": "8"}, b"internal")
    Misbehaving.answers["/go"] = Answer(302, {"Location": "/inside"}, b"")
    monkeypatch.setattr("zoo.sources.dataset_files._describe", lambda url: (None, ""))
    with pytest.raises(ZooError, match="a host of this machine or of a private network; refused"):
        address("/go")
    assert left_behind(tmp_path / "zoo-home") == []


@attack("d02_dataset_url.py", "redirects without end")
def test_redirects_end(address, monkeypatch):
    monkeypatch.setattr(redirects, "is_public", lambda host, port: True)
    Misbehaving.answers["/loop"] = Answer(302, {"Location": "/loop"}, b"")
    with pytest.raises(ZooError, match="redirects more than 5 times"):
        address("/loop")
    assert len(Misbehaving.seen) == 6


def test_a_redirect_between_public_hosts_is_followed(address, monkeypatch):
    monkeypatch.setattr(redirects, "is_public", lambda host, port: True)
    Misbehaving.answers["/go"] = Answer(302, {"Location": "/there"}, b"")
    Misbehaving.answers["/there"] = Answer(200, {"Content-Length": "5"}, b"hello")
    assert address("/go") == b"hello"
    assert not any("authorization" in {key.lower() for key in headers} for _, _, headers in Misbehaving.seen)


@attack("d02_dataset_url.py", "sizes that no disk holds, that are no sizes, or that do not hold")
@pytest.mark.parametrize(
    ("headers", "body", "match"),
    [({"Content-Length": str(2**60)}, b"x" * 1000, r"takes 1152921.* more, and .* are free"),
     ({"Content-Length": "-5"}, b"", "data"), ({"Content-Length": "9" * 400}, b"", "data"),
     ({"Content-Length": "1000"}, b"abc", "data"), ({}, [b"a" * 2**16] * 20, "data"),
     ({"Content-Encoding": "gzip", "Content-Length": "60"}, GZIP[:60], "sends it compressed")],
)  # fmt: skip
def test_sizes_that_do_not_hold(address, tmp_path, headers, body, match):
    Misbehaving.answers["/x"] = Answer(200, headers, body)
    started = time.monotonic()
    with pytest.raises(ZooError, match=match) as caught:
        address("/x")
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 20
    assert len(Misbehaving.seen) < 20
    assert left_behind(tmp_path / "zoo-home") == []


@attack("d02_dataset_url.py", "a file without a stated size that would fill the disk")
def test_a_file_without_a_size_is_bounded(address, tmp_path, monkeypatch):
    chunk = b"10000\r\n" + b"a" * 2**16 + b"\r\n"
    Misbehaving.answers["/x"] = Answer(200, {"Transfer-Encoding": "chunked"}, [chunk] * 64 + [b"0\r\n\r\n"])
    monkeypatch.setattr(Misbehaving, "protocol_version", "HTTP/1.1")
    monkeypatch.setattr(transfer, "_LOOK", 2**17)
    monkeypatch.setattr(transfer, "MOST_UNSTATED", 2**20)
    with pytest.raises(ZooError, match=r"states no size, and .* are more than there is room for"):
        address("/x")
    assert left_behind(tmp_path / "zoo-home") == []


@attack("d02_dataset_url.py", "what is left of a download whose address has another version now")
def test_partial_files_of_other_versions_are_removed(address, tmp_path):
    folder = tmp_path / "zoo-home" / "datasets" / "data"
    folder.mkdir(parents=True)
    (folder / ".x.txt.0123456789ab.zoo-partial").write_bytes(b"of another version")
    Misbehaving.answers["/x"] = Answer(200, {"Content-Length": "3", "ETag": '"../../two\x1b[31m"'}, b"abc")
    assert address("/x") == b"abc"
    assert left_behind(tmp_path / "zoo-home") == ["x.txt"]


def test_public_addresses_are_told_from_others(monkeypatch):
    for text, public in {"8.8.8.8": True, "2606:4700::1": True, "127.0.0.1": False, "::1": False}.items():
        assert redirects._is_public_address(text) is public
        assert ipaddress.ip_address(text)
    both = [(socket.AF_INET, 1, 6, "", ("8.8.8.8", 80)), (socket.AF_INET, 1, 6, "", ("10.0.0.1", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: both)
    assert not redirects.is_public("two.example", 80)
