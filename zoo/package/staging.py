"""The folder of zoo's own that an output is made in, known by a random name and a marker.

Its name alone says nothing: what is removed, continued or written to is a folder that holds a marker with this very
name, written by the zoo, belonging to this user and closed to others.

    .NAME.RANDOM.zoo-partial/
        zoo-staging.json     the marker
        journal.jsonl        how far a build got
        new/                 what becomes NAME
        old/                 what was NAME, until it is known to hold nothing but what zoo made
    gone/                what was NAME, on its way out
        step.json            what a publication is about to do
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zoo.package.files import guarded, write_file
from zoo.package.place import workplace

SUFFIX = ".zoo-partial"
MARKER = "zoo-staging.json"
_LONGEST_MARKER = 4096


@dataclass(frozen=True, slots=True)
class Staging:
    """A staging folder and the output that it is for; ``path`` holds its marker."""

    path: Path
    output: Path

    @property
    def new(self) -> Path:
        """What becomes the output."""
        return self.path / "new"

    @property
    def old(self) -> Path:
        """What stood at the output before, to be looked at before it goes."""
        return self.path / "old"

    @property
    def gone(self) -> Path:
        """What is on its way out."""
        return self.path / "gone"

    def let_go(self) -> None:
        """Give ``old`` up: from here on it may be half-removed."""
        os.rename(self.old, self.gone)

    @property
    def step(self) -> Path:
        """Notes what a publication is about to do, so that one that is killed can be ended."""
        return self.path / "step.json"

    def clear_new(self, keep: frozenset[str] | set[str] = frozenset()) -> None:
        """Make ``new``, and remove everything in it but the regular files named in ``keep``."""
        with guarded(self.new):
            if self.new.is_symlink() or (self.new.exists() and not self.new.is_dir()):
                self.new.unlink()
            self.new.mkdir(exist_ok=True)
            for entry in self.new.iterdir():
                if entry.name in keep and _is_own_file(entry):
                    continue
                remove_entry(entry)

    def remove(self) -> None:
        """Remove the staging folder with all that is in it, the marker last: killed half-way, it is known still."""
        with contextlib.suppress(OSError):
            for entry in self.path.iterdir():
                if entry.name != MARKER:
                    remove_entry(entry)
            (self.path / MARKER).unlink()
            self.path.rmdir()


def make_staging(output: Path) -> Staging:
    """Make a new staging folder for an output, which only this user may enter."""
    place = workplace(output)
    with guarded(place):
        while True:
            path = place / f".{output.name}.{secrets.token_hex(4)}{SUFFIX}"
            try:
                path.mkdir(mode=0o700)
                break
            except FileExistsError:
                continue
    made = Staging(path, output)
    write_file(path, MARKER, _marker(path.name, output.name))
    with guarded(path):
        made.new.mkdir(mode=0o777)
    return made


def find_stagings(output: Path) -> list[Staging]:
    """List the staging folders that earlier commands left for an output, by name."""
    return list(_stagings(workplace(output), output))


def remove_beginnings(output: Path) -> None:
    """Remove staging folders whose maker was killed before the marker stood: empty, or with a part of a marker."""
    shape = re.compile(re.escape(f".{output.name}.") + "[0-9a-f]{8}" + re.escape(SUFFIX))
    with contextlib.suppress(OSError):
        for entry in workplace(output).iterdir():
            if shape.fullmatch(entry.name) and entry.is_dir() and not entry.is_symlink():
                with contextlib.suppress(OSError):
                    marker = entry / MARKER
                    if [path.name for path in entry.iterdir()] == [MARKER] and _marker(
                        entry.name, output.name
                    ).startswith(marker.read_bytes()[:_LONGEST_MARKER]):
                        marker.unlink()
                    entry.rmdir()  # which fails where anything is in it


def _marker(name: str, output_name: str) -> bytes:
    return f"{json.dumps({'zoo_staging': name, 'output': output_name})}\n".encode()


def _stagings(place: Path, output: Path) -> Iterator[Staging]:
    begins = f".{output.name}."
    with contextlib.suppress(OSError):
        for entry in sorted(place.iterdir()):
            if entry.name.startswith(begins) and entry.name.endswith(SUFFIX) and is_staging(entry, output.name):
                yield Staging(entry, output)


def is_staging(path: Path, output_name: str) -> bool:
    """Tell whether a folder was made by ``make_staging``: by its marker, its owner and its mode."""
    try:
        folder, marker = path.lstat(), (path / MARKER).lstat()
        if not stat.S_ISDIR(folder.st_mode) or not stat.S_ISREG(marker.st_mode) or marker.st_size > _LONGEST_MARKER:
            return False
        if hasattr(os, "geteuid") and (folder.st_uid != os.geteuid() or marker.st_uid != os.geteuid()):
            return False
        said = json.loads((path / MARKER).read_bytes())
        return bool(said == {"zoo_staging": path.name, "output": output_name})
    except (OSError, ValueError, RecursionError):
        return False


def remove_entry(entry: Path) -> None:
    """Remove a file, a link or a folder."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()


def _is_own_file(path: Path) -> bool:
    """Tell whether a path is a file and nothing but it: no link to elsewhere, no second name."""
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1
