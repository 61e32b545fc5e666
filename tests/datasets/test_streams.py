"""Files and archives: what they hold, and what is refused by name."""

from __future__ import annotations

import gzip
import stat
import zipfile

import pytest

from zoo.datasets import streams
from zoo.datasets.streams import damage, open_streams
from zoo.errors import ZooError
from zoo.evaluation.datafiles import open_data


def zipped(path, members, **attributes):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = attributes.get("mode", 0o644) << 16
            archive.writestr(entry, content)
    return path


def read(path):
    found = []
    for one in open_streams(path):
        with damage(one.name):
            found.append((one.name, one.kind, one.file.read()))
    return found


def test_plain_gzip_and_zip(tmp_path):
    (tmp_path / "a.txt").write_text("one\n")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b"{}\n"))
    zipped(tmp_path / "c.zip", {"y/2.csv": "a,b\n", "x/1.json": "[]"})
    assert read(tmp_path / "a.txt") == [("a.txt", ".txt", b"one\n")]
    assert read(tmp_path / "b.jsonl.gz") == [("b.jsonl.gz", ".jsonl", b"{}\n")]
    assert read(tmp_path / "c.zip") == [("c.zip/x/1.json", ".json", b"[]"), ("c.zip/y/2.csv", ".csv", b"a,b\n")]


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:/evil.txt"])
def test_paths_that_lead_outside_are_refused(tmp_path, name):
    with pytest.raises(ZooError, match=r"bad\.zip: entry .* leads outside"):
        read(zipped(tmp_path / "bad.zip", {"good.txt": "x", name: "evil"}))


def test_links_are_refused(tmp_path):
    with pytest.raises(ZooError, match="is a link"):
        read(zipped(tmp_path / "bad.zip", {"a.txt": "/etc/passwd"}, mode=stat.S_IFLNK | 0o777))


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "BOMB_FREE", 2**20)
    with pytest.raises(ZooError, match=r"entry 'a\.txt' would unpack to 4,194,304 bytes"):
        read(zipped(tmp_path / "bomb.zip", {"a.txt": bytes(4 * 2**20)}))


def test_many_members_together_are_a_bomb_too(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "MAX_ARCHIVE", 1000)
    with pytest.raises(ZooError, match="1,200 in all"):
        read(zipped(tmp_path / "bomb.zip", {"a.txt": b"x" * 600, "b.txt": b"y" * 600}))


def test_a_member_larger_than_its_entry_states(tmp_path):
    path = zipped(tmp_path / "liar.zip", {"a.txt": b"x" * 5000})
    raw = bytearray(path.read_bytes())
    at = raw.index(b"PK\x01\x02")
    raw[at + 24 : at + 28] = (100).to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(ZooError, match=r"liar\.zip/a\.txt"):
        read(path)


@pytest.mark.parametrize("keep", [20, -40])
def test_truncated_archives(tmp_path, keep):
    path = zipped(tmp_path / "a.zip", {"a.txt": "text\n" * 1000})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ZooError, match=r"a\.zip: is truncated, or not a zip archive"):
        read(path)


def test_damaged_member(tmp_path):
    path = zipped(tmp_path / "a.zip", {"a.txt": "text\n" * 1000})
    raw = bytearray(path.read_bytes())
    raw[45] ^= 255
    path.write_bytes(raw)
    with pytest.raises(ZooError, match=r"a\.zip/a\.txt: is damaged"):
        read(path)


def test_truncated_gzip(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(bytes(range(256)) * 100)[:-30])
    with pytest.raises(ZooError, match=r"a\.jsonl\.gz: is truncated"):
        read(tmp_path / "a.jsonl.gz")


def test_damaged_gzip(tmp_path):
    raw = bytearray(gzip.compress(b"text of some length\n" * 50))
    raw[-6] ^= 255
    (tmp_path / "a.txt.gz").write_bytes(raw)
    with pytest.raises(ZooError, match=r"a\.txt\.gz: is damaged"):
        read(tmp_path / "a.txt.gz")


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.jsonl.gz", b"{}", "is not gzip"),
        ("a.zip", b"{}", "not a zip archive"),
        ("a.txt", b"", "is empty"),
        ("a.gz", b"", "is empty"),
    ],
)
def test_not_what_the_name_says(tmp_path, name, content, what):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ZooError, match=what):
        read(tmp_path / name)


def test_no_file(tmp_path):
    with pytest.raises(ZooError, match="No such file"):
        read(tmp_path / "none.txt")
    with pytest.raises(ZooError, match="not a file"):
        read(tmp_path)


def test_names_that_are_damaged_are_one_line(tmp_path):
    raw = zipped(tmp_path / "a.zip", {"é.txt": "x"}).read_bytes()
    (tmp_path / "bytes.zip").write_bytes(raw.replace("é".encode(), b"\xc3\x28", 1))  # in the header before the content
    with pytest.raises(ZooError, match=r"bytes\.zip/é\.txt: cannot be unpacked"):
        read(tmp_path / "bytes.zip")
    raw = zipped(tmp_path / "a.zip", {"abc": "x"}).read_bytes()
    listed = raw.index(b"PK\x01\x02")
    cut = raw[: listed + 28] + b"\0\0\3\0" + raw[listed + 32 :]  # its three bytes count as something else
    (tmp_path / "none.zip").write_bytes(cut)
    with pytest.raises(ZooError, match="an entry has no name"):
        read(tmp_path / "none.zip")
    for name in ("bytes.zip", "none.zip"):
        with pytest.raises(ZooError, match=r"no name|cannot be read"):
            open_data(tmp_path / name).read("é.txt")
