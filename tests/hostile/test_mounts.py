"""Outputs and homes on file systems of another kind: mount points, read-only, small, without hard links or exchange."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from zoo import reports
from zoo.catalog.folder import publish_site
from zoo.errors import ZooError
from zoo.package import files, open_package, place, publish
from zoo.package.publish import remove_package

attack = pytest.mark.attack


@pytest.fixture
def mounted(tmp_path):
    """Mount small file systems, by kind; unmount them at the end."""
    places: list[Path] = []

    def mount(folder: Path, *options: str) -> Path:
        folder.mkdir(exist_ok=True)
        argv = ["mount", *(options or ("-t", "tmpfs", "-o", "size=16m", "tmpfs")), str(folder)]
        if subprocess.run(argv, capture_output=True).returncode:
            pytest.skip("mounting takes privileges")
        places.append(folder)
        return folder

    yield mount
    for folder in reversed(places):
        subprocess.run(["umount", str(folder)], check=True)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@attack("l02_mounts.sh", "-o is a mount point, or a bind mount of the same disk")
@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_an_output_that_is_a_mount_point(tmp_path, make, mounted, kind):
    (tmp_path / "source").mkdir()
    out = (
        mounted(tmp_path / "out") if kind == "tmpfs" else mounted(tmp_path / "out", "--bind", str(tmp_path / "source"))
    )
    home = {"zoo-home"}  # where hashes of files that lie still are remembered
    before = names(tmp_path) - home
    package = make(out)
    whole = names(out)
    assert whole == {*package.manifest.files, "zoo.json"}
    assert make(out).manifest == package.manifest
    other = make(out, "fp16", force=True)
    open_package(out, hashes=True)
    assert other.manifest.recipe.precision == "fp16"
    (out / "mine").write_text("precious")
    with pytest.raises(ZooError, match="did not make: mine"):
        make(out, force=True)
    (out / "mine").unlink()
    remove_package(out)
    assert names(out) == set()
    publish_site(out, [("index.html", [b"x"]), ("models/a.html", [b"a"])])
    publish_site(out, [("index.html", [b"y"])])
    assert names(out) == {"index.html", ".zoo-catalog"}
    assert names(tmp_path) - home == before


@attack("l02_mounts.sh", "-o is an empty folder in a folder that takes no files (a container's read-only root)")
def test_an_output_whose_parent_takes_no_files(tmp_path, make, mounted):
    root = mounted(tmp_path / "root")
    (root / "out").mkdir()
    inner = mounted(root / "out")
    subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
    make(inner)
    open_package(inner, hashes=True)
    with pytest.raises(ZooError, match="Read-only file system") as caught:
        make(root / "other")
    assert "\n" not in str(caught.value)


@attack("l02_mounts.sh", "a disk that is full when the work is nearly done")
def test_a_disk_too_small_for_the_last_files_keeps_the_work(tmp_path, make, mounted, monkeypatch):
    disk = mounted(tmp_path / "disk")
    original = publish.write_file

    def full(folder, name, content):
        if name == "zoo.json":
            raise ZooError(f"{folder}: no space left")
        original(folder, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(publish, "write_file", full)
        with pytest.raises(ZooError, match="no space left"):
            make(disk / "out")
    assert any(name.endswith(".zoo-partial") for name in names(disk))
    make(disk / "out")
    assert names(disk) == {"out"}


@attack("l02_mounts.sh", "a mount point is noticed at the last moment only")
def test_a_rename_that_the_system_refuses_keeps_the_work(tmp_path, make, monkeypatch):
    make(tmp_path / "out")

    def refuse(*args: object) -> bool:
        raise OSError(errno.EBUSY, "Device or resource busy", str(tmp_path / "out"))

    with monkeypatch.context() as patch:
        patch.setattr(publish, "exchange", refuse)
        with pytest.raises(ZooError, match="Device or resource busy"):
            make(tmp_path / "out", "int4", force=True)
    assert (tmp_path / "out" / "zoo.json").exists()
    assert make(tmp_path / "out", "int4", force=True).manifest.recipe.precision == "int4"
    assert {name for name in names(tmp_path) if name.startswith(".")} == set()


@attack("l02_mounts.sh, l03_no_hardlinks.py", "a file system without hard links, exchange or exclusive renames")
@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_without_hard_links_reports_are_kept_and_never_replaced(tmp_path, make, monkeypatch, number):
    package = make(tmp_path / "out")

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    report = reports.make_report("verify", package, {}, {"kl": 0.0})
    paths = [reports.keep_report(report) for _ in range(3)]
    assert len(set(paths)) == 3
    assert len(reports.reports(package.manifest.recipe_hash)) == 3
    assert all(path.stat().st_mode & 0o777 == 0o666 & ~files._umask() for path in paths)
    assert names(paths[0].parent) == {path.name for path in paths}


@attack("l02_mounts.sh", "packages and reports on FAT")
def test_a_fat_file_system(tmp_path, make, mounted):
    image = tmp_path / "fat.img"
    image.write_bytes(bytes(40 * 2**20))
    try:
        made = subprocess.run(["mkfs.vfat", str(image)], capture_output=True).returncode
    except FileNotFoundError:
        made = 1
    if made:
        pytest.skip("mkfs.vfat is not here")
    fat = mounted(tmp_path / "fat", "-o", "loop", str(image))
    make(fat / "out")
    make(fat / "out", "int4", force=True)
    open_package(fat / "out", hashes=True)
    remove_package(fat / "out")
    assert names(fat) == set()


@attack("l02_mounts.sh", "a file that a report or a table is to replace")
def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "table.csv"
    for name in (".table.csv.part", ".table.csv.partial"):
        (tmp_path / name).write_text("precious")
    files.write_whole(path, b"one", replace=True)
    files.write_whole(path, b"two", replace=True)
    with pytest.raises(FileExistsError):
        files.write_whole(path, b"three", replace=False)
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == {"table.csv", ".table.csv.part", ".table.csv.partial"}


def test_mounts_are_told_from_folders(tmp_path, mounted, monkeypatch):
    assert place.is_mount(Path("/"))
    assert not place.is_mount(tmp_path)
    spaced = tmp_path / "with space"
    table = tmp_path / "mountinfo"
    table.write_text(f"36 35 98:0 / {str(spaced).replace(' ', chr(92) + '040')} rw - ext3 /dev/root rw\n")
    spaced.mkdir()
    monkeypatch.setattr(place, "_MOUNTS", table)
    assert place.is_mount(spaced)
    assert place.workplace(spaced) == spaced
    assert place.workplace(tmp_path / "other") == tmp_path
