"""Nothing is deleted that zoo did not make: beside an output, inside it, at its place while it is made."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.catalog.folder import publish_site
from zoo.errors import ZooError
from zoo.package import exchange, open_package, publish
from zoo.package.locking import locked
from zoo.package.publish import remove_package
from zoo.package.staging import SUFFIX, make_staging

attack = pytest.mark.attack


def plant(folder: Path, name: str = "notes.txt", text: str = "precious") -> Path:
    """Put a user's file into a folder."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@attack("f01_data_loss.sh", "a user's folder has a name that zoo might give to its own")
@pytest.mark.parametrize(
    "name",
    [".out.old", ".out.partial", ".out.removed", ".out.lock.d", f".out{SUFFIX}", f".out.0123abcd{SUFFIX}"],
)
def test_folders_beside_an_output_are_left_alone(tmp_path, make, name):
    kept = [plant(tmp_path / name), plant(tmp_path / name, "model.onnx.data"), plant(tmp_path / name, "journal.jsonl")]
    make(tmp_path / "out")
    make(tmp_path / "out")
    make(tmp_path / "out", "int4", force=True)
    remove_package(tmp_path / "out")
    publish_site(tmp_path / "out", [("index.html", [b"x"])])
    publish_site(tmp_path / "out", [("index.html", [b"y"])])
    assert [path.read_text() for path in kept] == ["precious"] * 3
    assert hidden(tmp_path) == [name, "zoo-home"][:1]


@attack("f01_data_loss.sh", "a copy of zoo's own folder, with a user's file in it, under another name")
def test_a_marker_under_another_name_marks_nothing(tmp_path, make):
    with locked(tmp_path / "out"):
        staging = make_staging(tmp_path / "out")
    copied = tmp_path / f".out.00000000{SUFFIX}"
    os.rename(staging.path, copied)
    note = plant(copied / "new")
    make(tmp_path / "out")
    assert note.read_text() == "precious"


@attack("f01_data_loss.sh", "a user's files inside a package, then --force or zoo rm")
@pytest.mark.parametrize("name", [".git/HEAD", "results.csv", "subdir/thesis.tex", ".zoo-partial", "zoo.json.bak"])
@pytest.mark.parametrize("command", ["force", "rm"])
def test_files_inside_a_package_are_named_and_kept(tmp_path, make, name, command):
    make(tmp_path / "out")
    note = plant(tmp_path / "out", name)
    with pytest.raises(ZooError) as caught:
        make(tmp_path / "out", "int4", force=True) if command == "force" else remove_package(tmp_path / "out")
    shown = name.partition("/")[0] + ("/" if "/" in name else "")
    assert f"holds what zoo did not make: {shown}; move it away" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert note.read_text() == "precious"
    assert make(tmp_path / "out").manifest.recipe.precision == "int8"  # and the package is as it was
    note.unlink()
    if "/" in name:
        note.parent.rmdir()
    assert remove_package(tmp_path / "out") > 0
    assert not (tmp_path / "out").exists()
    assert hidden(tmp_path) == []


@attack("f01_data_loss.sh", "a link inside a package that leads to a user's folder")
def test_a_link_inside_a_package_is_not_followed(tmp_path, make):
    make(tmp_path / "out")
    note = plant(tmp_path / "mine")
    (tmp_path / "out" / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(ZooError, match="did not make: link;"):
        remove_package(tmp_path / "out")
    assert note.read_text() == "precious"


@attack("f01_data_loss.sh", "an empty folder of the user's is the output, with a shell in it (-o .)")
def test_an_empty_folder_stays_the_folder_it_is(tmp_path, make):
    (tmp_path / "seven").mkdir(mode=0o750)
    before = (tmp_path / "seven").stat()
    make(tmp_path / "seven")
    after = (tmp_path / "seven").stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    open_package(tmp_path / "seven", hashes=True)
    assert hidden(tmp_path) == []


@attack("f01_data_loss.sh", "zoo rm by a link, with and without a slash")
@pytest.mark.parametrize("text", ["link", "link/"])
def test_a_link_to_a_package_is_not_removed(tmp_path, make, text):
    make(tmp_path / "out")
    (tmp_path / "link").symlink_to("out")
    with pytest.raises(ZooError, match="is a link"):
        remove_package(Path(f"{tmp_path}/{text}"))
    open_package(tmp_path / "out", hashes=True)


def appears(what: str, output: Path) -> None:
    """Let something appear at an output."""
    if what == "file":
        output.write_text("precious")
    elif what == "folder":
        plant(output)
    elif what == "link":
        output.symlink_to(output.parent / "mine")
    else:
        plant(output, "zoo.json", "{}")


@attack("f01_data_loss.sh", "something appears at -o while the build runs")
@pytest.mark.parametrize("what", ["file", "folder", "link", "a folder with some zoo.json"])
def test_what_appears_at_the_output_is_kept(tmp_path, make, monkeypatch, what):
    plant(tmp_path / "mine")
    original = publish.sync_folder

    def late(folder):
        if folder.name == "new" and not os.path.lexists(tmp_path / "out"):
            appears(what, tmp_path / "out")
        original(folder)

    with monkeypatch.context() as patch:
        patch.setattr(publish, "sync_folder", late)
        with pytest.raises(ZooError, match="something was put there while zoo worked on it") as caught:
            make(tmp_path / "out")
    assert "\n" not in str(caught.value)
    kept = tmp_path / "out"
    if what == "link":
        assert kept.is_symlink()
    else:
        assert kept.is_file() or list(kept.iterdir())
    # The work is kept: once the way is free, the same command has only to read it back.
    os.rename(kept, tmp_path / "moved")
    make(tmp_path / "out")
    open_package(tmp_path / "out", hashes=True)
    assert hidden(tmp_path) == []


@attack("f01_data_loss.sh", "a file appears inside a package while --force replaces it")
@pytest.mark.parametrize("moment", ["before the exchange", "after the exchange", "without exchange"])
def test_a_file_that_appears_in_a_package_being_replaced_is_kept(tmp_path, make, monkeypatch, moment):
    make(tmp_path / "out")
    inode = (tmp_path / "out").stat().st_ino
    original = publish.exchange

    def late(source, target):
        if moment == "before the exchange":
            plant(target, "late.txt")
        done = moment != "without exchange" and original(source, target)
        if moment == "after the exchange":
            plant(source, "late.txt")  # by a process that works in the folder, wherever it lies
        if moment == "without exchange":
            plant(target, "late.txt")
        return done

    with monkeypatch.context() as patch:
        patch.setattr(publish, "exchange", late)
        with pytest.raises(ZooError, match="something was put there"):
            make(tmp_path / "out", "int4", force=True)
    assert (tmp_path / "out" / "late.txt").read_text() == "precious"
    assert (tmp_path / "out").stat().st_ino == inode
    assert open_package(tmp_path / "out", hashes=True).manifest.recipe.precision == "int8"
    (tmp_path / "out" / "late.txt").unlink()
    assert make(tmp_path / "out", "int4", force=True).manifest.recipe.precision == "int4"
    assert hidden(tmp_path) == []


@attack("l01_locks.sh", "the lock's name is a link, a second name, a fifo or a folder of the user's")
@pytest.mark.parametrize("kind", ["symlink", "dangling", "hard link", "fifo", "folder", "file"])
def test_a_lock_that_is_not_ours_is_neither_written_nor_removed(tmp_path, make, kind):
    victim, lock = plant(tmp_path, "victim"), tmp_path / ".out.zoo-lock"
    if kind == "symlink":
        lock.symlink_to(victim)
    elif kind == "dangling":
        lock.symlink_to(tmp_path / "nowhere")
    elif kind == "hard link":
        os.link(victim, lock)
    elif kind == "fifo":
        os.mkfifo(lock)
    elif kind == "folder":
        lock.mkdir()
    else:
        lock.write_text("zoo tickets\n")
    with pytest.raises(ZooError, match="is not a lock of zoo's"):
        make(tmp_path / "out")
    assert victim.read_text() == "precious"
    assert os.path.lexists(lock)
    assert not (tmp_path / "nowhere").exists()


@attack("l01_locks.sh", "files and links planted into the folder that a build continues")
@pytest.mark.parametrize("kind", ["symlink", "hard link", "folder"])
def test_a_link_in_unfinished_work_is_not_written_through(tmp_path, make, monkeypatch, kind):
    victim = plant(tmp_path, "victim")
    with locked(tmp_path / "out"):
        staging = make_staging(tmp_path / "out")
    (staging.path / "journal.jsonl").write_text('{"work": "x"}\n')
    data = staging.new / "weights.data"
    if kind == "symlink":
        data.symlink_to(victim)
    elif kind == "hard link":
        os.link(victim, data)
    else:
        plant(data)
    make(tmp_path / "out")
    assert victim.read_text() == "precious"
    open_package(tmp_path / "out", hashes=True)


@attack("l01_locks.sh", "zoo's folders are links to a user's folder")
def test_a_staging_folder_that_is_a_link_is_not_ours(tmp_path, make):
    note = plant(tmp_path / "mine")
    name = f".out.0123abcd{SUFFIX}"
    (tmp_path / "mine" / "zoo-staging.json").write_text(json.dumps({"zoo_staging": name, "output": "out"}))
    (tmp_path / name).symlink_to(tmp_path / "mine")
    make(tmp_path / "out")
    make(tmp_path / "out", "int4", force=True)
    assert note.read_text() == "precious"


CHILD = """
import os, sys
from pathlib import Path
from tests.builds import architecture, make_recipe, registry
from zoo.sources.folder import open_folder
from zoo.stages.build import build
from zoo.package import publish, exchange
if sys.argv[3] == "no exchange":
    publish.exchange = lambda source, target: False
count, kill = [0], [0]
def counted(original):
    def call(*args, **kwargs):
        count[0] += 1
        if count[0] == kill[0]:
            os.kill(os.getpid(), 9)
        return original(*args, **kwargs)
    return call
for name in ("rename", "mkdir", "unlink", "rmdir", "replace", "fsync"):
    setattr(os, name, counted(getattr(os, name)))
publish.rename_new = counted(publish.rename_new)
publish.exchange = counted(publish.exchange)
recipe, parts = make_recipe(architecture(), "int4"), registry()
for line in sys.stdin:
    if process := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
        continue
    kill[0] = int(line)
    build(recipe, open_folder(Path(sys.argv[1])), Path(sys.argv[2]), parts, force=True, warn=lambda line: None)
    os._exit(0)
"""
"""Builds in a process of its own for each number that it reads, and kills it before so many steps; says how it ended.

What a build needs is imported once, and each build begins as a fork of that.
"""


@attack("f01_data_loss.sh", "a build is killed before every step of its publication")
@pytest.mark.parametrize("way", ["rename", "exchange", "no exchange", "fill", "mount"])
def test_killed_at_every_step_it_is_absent_or_whole(tmp_path, make, checkpoint, way):
    room, kill = tmp_path / "room", 0
    output = room / "out"
    make(tmp_path / "reference", "int4")
    argv = [sys.executable, "-c", CHILD, str(checkpoint), str(output), way]
    builder = subprocess.Popen(
        argv, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    while True:
        kill += 1
        room.mkdir()
        if way in ("exchange", "no exchange"):
            make(output)
        elif way in ("fill", "mount"):
            output.mkdir()
        mounted = way == "mount" and mount(output)
        if way == "mount" and not mounted:
            pytest.skip("mounting takes privileges")
        try:
            assert builder.stdin is not None
            assert builder.stdout is not None
            print(kill, file=builder.stdin, flush=True)
            ended = int(builder.stdout.readline())
            assert ended in (0, -signal.SIGKILL)
            if (output / "zoo.json").exists():
                open_package(output, hashes=True)
            elif way in ("exchange",):
                raise AssertionError("neither the old nor the new package stands there")
            make(output, "int4", force=True)
            made = files(output)
            assert made == files(tmp_path / "reference")
            assert hidden(room) == []
        finally:
            if mounted:
                subprocess.run(["umount", str(output)], check=True)
        for path in sorted(room.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        room.rmdir()
        if ended == 0:
            break
    builder.communicate(timeout=60)
    assert kill > 8


def mount(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True).returncode == 0


def test_names_are_given_only_where_nothing_has_them(tmp_path, monkeypatch):
    for known in (True, False):
        if not known:
            monkeypatch.setattr(exchange, "_rename", None)
        source, target = plant(tmp_path, "source", "new"), plant(tmp_path, "target", "old")
        with pytest.raises(FileExistsError):
            exchange.rename_new(source, target)
        assert (source.read_text(), target.read_text()) == ("new", "old")
        target.unlink()
        exchange.rename_new(source, target)
        assert target.read_text() == "new"
