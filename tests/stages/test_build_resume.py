"""Builds that were stopped: they go on where they were, and end in the same bytes."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.builds import architecture, make_recipe, registry, write_checkpoint
from zoo.errors import ZooError
from zoo.package import open_package
from zoo.package import slabs as slabs_module
from zoo.package.datafile import DataFiles
from zoo.package.layout import lay_out
from zoo.package.locking import locked
from zoo.package.staging import find_stagings
from zoo.quantizers.rtn import Rtn
from zoo.sources.folder import open_folder
from zoo.stages.build import build

ROOT = Path(__file__).parents[2]
ARCH = {"num_hidden_layers": 12}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A checkpoint, its recipe, and the files of an undisturbed build."""
    monkeypatch.setattr(slabs_module, "SLAB", 2048)
    arch = architecture(**ARCH)
    opened = open_folder(write_checkpoint(tmp_path / "ck", arch))
    recipe = make_recipe(arch)
    package = build(recipe, opened, tmp_path / "reference", registry(), threads=1)
    return opened, recipe, contents(package.path)


def contents(folder):
    return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in folder.iterdir()}


def hidden(folder):
    return sorted(one.name for one in folder.iterdir() if one.name.startswith("."))


def left_behind(folder):
    """What a build left beside its output, by kind; names carry a random part."""
    return sorted(name.rpartition(".zoo-")[2] for name in hidden(folder))


def fail_after(monkeypatch, slabs):
    """Let a build fail once it has quantized some slabs."""
    original, seen = Rtn.quantize, [0]

    def quantize(self, *args, **kwargs):
        seen[0] += 1
        if seen[0] > slabs:
            raise ZooError("the test pulls the plug")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Rtn, "quantize", quantize)
    return seen


@pytest.mark.parametrize("slabs", [0, 1, 5, 40, 100])
def test_goes_on_where_it_was(small, tmp_path, monkeypatch, slabs):
    opened, recipe, reference = small
    with monkeypatch.context() as patch:
        fail_after(patch, slabs)
        with pytest.raises(ZooError, match="pulls the plug"):
            build(recipe, opened, tmp_path / "out", registry(), threads=2)
    assert left_behind(tmp_path) == ["partial"]
    seen = []
    with monkeypatch.context() as patch:
        counted = fail_after(patch, 10**9)
        build(recipe, opened, tmp_path / "out", registry(), threads=2, progress=seen.append)
    assert contents(tmp_path / "out") == reference
    assert hidden(tmp_path) == []
    if slabs >= 40:
        assert seen[0].bytes_resumed > 0
        placed = lay_out(recipe, registry()).placed
        total = sum(len(list(slabs_module.slab_jobs(one.parameter, opened.tensors))) for one in placed)
        assert counted[0] < total - slabs / 2


def interrupted(small, tmp_path, monkeypatch, slabs=60):
    opened, recipe, reference = small
    with monkeypatch.context() as patch:
        fail_after(patch, slabs)
        with pytest.raises(ZooError):
            build(recipe, opened, tmp_path / "out", registry(), threads=1)
    (staging,) = find_stagings(tmp_path / "out")
    return opened, recipe, reference, staging


@pytest.mark.parametrize("damage", ["first byte", "middle", "truncated", "no data", "torn journal", "wild journal"])
def test_damaged_partial_work_is_noticed(small, tmp_path, monkeypatch, damage):
    opened, recipe, reference, staging = interrupted(small, tmp_path, monkeypatch)
    data, journal = staging.new / "weights.data", staging.path / "journal.jsonl"
    raw = bytearray(data.read_bytes())
    lines = journal.read_text().splitlines(keepends=True)
    assert len(lines) > 4
    if damage == "first byte":
        raw[0] ^= 1
        data.write_bytes(raw)
    elif damage == "middle":
        raw[int(lines[3].split('"stop": ')[1].split(",")[0]) - 5] ^= 1
        data.write_bytes(raw)
    elif damage == "truncated":
        data.write_bytes(raw[:9000])
    elif damage == "no data":
        data.unlink()
    elif damage == "torn journal":
        journal.write_text("".join(lines)[:-17])
    else:
        journal.write_text("".join(lines[:3]) + '{"stop": 99999999999, "sha256": "00"}\n[1]\n\xff{{{\n')
    build(recipe, opened, tmp_path / "out", registry())
    assert contents(tmp_path / "out") == reference


def test_other_work_is_not_continued(small, tmp_path, monkeypatch):
    opened, _, _, staging = interrupted(small, tmp_path, monkeypatch)
    (staging.new / "stray").mkdir()
    (staging.new / "stray" / "file").write_text("x")
    lines = []
    other = make_recipe(architecture(**ARCH), "int4")
    package = build(other, opened, tmp_path / "out", registry(), warn=lines.append)
    assert any("starting over" in line for line in lines)
    open_package(package.path, hashes=True)
    assert not (package.path / "stray").exists()
    assert contents(package.path) == contents(build(other, opened, tmp_path / "fresh", registry()).path)


def test_weights_that_changed_since_are_noticed(small, tmp_path, monkeypatch):
    opened, recipe, reference, _ = interrupted(small, tmp_path, monkeypatch)
    os.utime(opened.folder / "model.safetensors", ns=(1, 1))
    lines = []
    build(recipe, opened, tmp_path / "out", registry(), warn=lines.append)
    assert any("changed since" in line for line in lines)
    assert contents(tmp_path / "out") == reference


def test_weights_that_change_while_they_are_read_are_refused(small, tmp_path, monkeypatch):
    opened, recipe, reference = small
    original = DataFiles.write

    def write(self, offset, data):
        os.utime(opened.folder / "model.safetensors", ns=(time.time_ns(), time.time_ns()))
        return original(self, offset, data)

    with monkeypatch.context() as patch:
        patch.setattr(DataFiles, "write", write)
        with pytest.raises(ZooError, match="changed while they were read"):
            build(recipe, opened, tmp_path / "out", registry())
    assert not (tmp_path / "out").exists()
    build(recipe, opened, tmp_path / "out", registry())
    assert contents(tmp_path / "out") == reference


CHILD = """
    import sys, time
    from pathlib import Path
    from tests.builds import architecture, make_recipe, registry
    from zoo.errors import ZooError
    from zoo.package import slabs
    from zoo.quantizers.rtn import Rtn
    from zoo.sources.folder import open_folder
    from zoo.stages.build import build
    slabs.SLAB = 2048
    folder, output, delay = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    quantize = Rtn.quantize
    def slow(self, *args, **kwargs):
        time.sleep(delay)
        return quantize(self, *args, **kwargs)
    Rtn.quantize = slow
    print("ready", flush=True)
    recipe = make_recipe(architecture(num_hidden_layers=12))
    try:
        build(recipe, open_folder(folder), output, registry(), threads=2, warn=lambda line: None)
    except ZooError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
"""


def start(folder, output, delay=0.0, limit=None):
    before = None
    if limit is not None:
        import resource

        def before():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(folder), str(output), str(delay)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_in_one_line_and_keep_the_work(small, tmp_path, number):
    opened, recipe, reference = small
    child = start(opened.folder, tmp_path / "out", 0.01)
    time.sleep(0.5)
    child.send_signal(number)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 128 + number
    assert errors.splitlines() == ["error: stopped; finished work is kept, the same command continues from there"]
    assert left_behind(tmp_path) == ["partial"]
    seen = []
    build(recipe, opened, tmp_path / "out", registry(), progress=seen.append)
    assert seen[0].bytes_resumed > 0
    assert contents(tmp_path / "out") == reference


@pytest.mark.parametrize("kills", [4, pytest.param(30, marks=pytest.mark.exhaustive)])
def test_kill_at_random_moments(small, tmp_path, kills):
    opened, recipe, reference = small
    draw = random.Random(7)
    for _ in range(kills):
        child = start(opened.folder, tmp_path / "out", 0.002)
        time.sleep(draw.uniform(0, 0.5))
        child.kill()
        child.communicate()
        if (tmp_path / "out").exists():
            assert contents(tmp_path / "out") == reference
            for file in (tmp_path / "out").iterdir():
                file.unlink()
            (tmp_path / "out").rmdir()
        elif draw.random() < 0.3:
            build(recipe, opened, tmp_path / "out", registry())
            assert contents(tmp_path / "out") == reference
            assert hidden(tmp_path) == []
            for file in (tmp_path / "out").iterdir():
                file.unlink()
            (tmp_path / "out").rmdir()
    build(recipe, opened, tmp_path / "out", registry())
    assert contents(tmp_path / "out") == reference
    assert hidden(tmp_path) == []


def test_two_builds_of_one_output(small, tmp_path):
    opened, recipe, reference = small
    child = start(opened.folder, tmp_path / "out", 0.02)
    time.sleep(0.5)
    with pytest.raises(ZooError, match=rf"another build is writing it \(process {child.pid}\)"):
        build(recipe, opened, tmp_path / "out", registry())
    child.kill()
    child.communicate()
    assert left_behind(tmp_path) == ["lock", "partial"]
    build(recipe, opened, tmp_path / "out", registry())
    assert contents(tmp_path / "out") == reference
    assert hidden(tmp_path) == []


def test_the_lock_goes_with_whoever_holds_it(tmp_path):
    with locked(tmp_path / "a"):
        assert hidden(tmp_path) == [".a.zoo-lock"]
        with pytest.raises(ZooError, match=f"process {os.getpid()}"), locked(tmp_path / "a"):
            pass
    assert hidden(tmp_path) == []
    (tmp_path / ".a.zoo-lock").write_text("zoo 12345\n")
    with locked(tmp_path / "a"):
        pass
    assert hidden(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="there is no folder that takes no files, whoever asks")
def test_a_folder_that_takes_no_files_is_not_taken_for_a_build_under_way():
    with (
        pytest.raises(ZooError, match=r"/proc: takes no files; choose another -o|Permission denied"),
        locked(Path("/proc/package")),
    ):
        pass


def test_a_limit_on_the_size_of_files(small, tmp_path):
    opened, recipe, reference = small
    child = start(opened.folder, tmp_path / "out", limit=100_000)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 1
    assert len(errors.splitlines()) == 1
    assert "larger than this system lets a file be" in errors
    assert not (tmp_path / "out").exists()
    assert left_behind(tmp_path) == ["partial"]
    build(recipe, opened, tmp_path / "out", registry())
    assert contents(tmp_path / "out") == reference


def test_a_disk_that_is_too_small(small, tmp_path):
    opened, recipe, reference = small
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small file system takes privileges")
    try:
        with pytest.raises(ZooError, match=r"kB free, but the package takes \d+\.\d\d kB more"):
            build(recipe, opened, disk / "out", registry())
        assert left_behind(disk) == ["partial"]
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        build(recipe, opened, disk / "out", registry())
        assert contents(disk / "out") == reference
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_fills_while_building(small, tmp_path, monkeypatch):
    opened, recipe, reference = small
    import errno

    def pwrite(file, data, offset):
        if offset > 60_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(file, data, offset)

    original = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        with pytest.raises(ZooError, match=r"weights\.data: no space left"):
            build(recipe, opened, tmp_path / "out", registry())
    assert left_behind(tmp_path) == ["partial"]
    seen = []
    build(recipe, opened, tmp_path / "out", registry(), progress=seen.append)
    assert seen[0].bytes_resumed > 0
    assert contents(tmp_path / "out") == reference


def test_a_folder_that_may_not_be_written(small, tmp_path):
    opened, recipe, _ = small
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match=r"file"):
        build(recipe, opened, tmp_path / "file" / "out", registry())
