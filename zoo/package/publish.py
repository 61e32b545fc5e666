"""From a staging folder to a name: complete or absent, and nothing that zoo did not make is removed on the way.

What stands at the output is looked at before the work begins, again before anything moves, and again when it has been
taken away; whatever is found too late is put back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.declarations.manifest import Manifest
from zoo.errors import ZooError
from zoo.package.contents import PACKAGE, Contents, foreign, is_empty, refuse_foreign
from zoo.package.exchange import exchange, rename_new
from zoo.package.files import guarded, sync_folder, write_file
from zoo.package.folder import MANIFEST, read_manifest
from zoo.package.journal import JOURNAL
from zoo.package.locking import lock_file, locked
from zoo.package.place import workplace
from zoo.package.staging import Staging, find_stagings, make_staging, remove_beginnings, remove_entry

log = logging.getLogger("zoo")


def standing(output: Path, contents: Contents = PACKAGE) -> str | None:
    """Tell what stands at an output before work on it begins, for ``publish`` to find it again.

    Returns:
        None for nothing or an empty folder; else the SHA-256 of the file that makes the folder whole.
    """
    if not os.path.lexists(output) or (output.is_dir() and not output.is_symlink() and is_empty(output)):
        return None
    with guarded(output):
        return hashlib.sha256((output / contents.last).read_bytes()).hexdigest()


def existing(output: Path, recipe_hash: str, *, force: bool) -> Manifest | None:
    """Look at what stands where a package is to go.

    Returns:
        The manifest when this very recipe is already there and nothing forces a new build; otherwise None.

    Raises:
        ZooError: something else stands there that must not be replaced.
    """
    if not os.path.lexists(output):
        return None
    if not output.is_dir() or output.is_symlink():
        raise ZooError(f"{output}: exists and is not a folder; choose another -o")
    with guarded(output):
        if is_empty(output):
            return None
    if not (output / MANIFEST).exists():
        raise ZooError(f"{output}: is not empty and not a package; choose another -o")
    try:
        manifest = read_manifest(output)
    except ZooError as error:
        raise ZooError(f"{output}: holds no valid package ({error}); remove it or choose another -o") from None
    if force:
        refuse_foreign(output, PACKAGE, "choose another -o")
        return None
    if manifest.recipe_hash == recipe_hash:
        return manifest
    raise ZooError(
        f"{output}: holds another build ({manifest.recipe.model} {manifest.recipe.precision}, "
        f"recipe {manifest.recipe_hash[:12]}); --force replaces it"
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``zoo.json``, the last file of a package."""
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False, sort_keys=False)
    write_file(folder, MANIFEST, f"{text}\n".encode())


def publish(staging: Staging, before: str | None, contents: Contents = PACKAGE) -> None:
    """Give what was made in a staging folder its name, wait until the disk knows it, and remove the staging folder.

    An output that is absent appears by one rename; a folder of ours that stood there changes places with the new one,
    so that at every moment one of the two stands there. An empty folder, and a mount point, stay the folder they are
    and are filled, the file that makes them whole last.

    Args:
        staging: whose ``new`` is finished.
        before: what ``standing`` said before the work began.
        contents: which kind of folder it is.

    Raises:
        ZooError: something appeared at the output meanwhile, or the system refuses; the work is kept.
    """
    output = staging.output
    with guarded(output):
        sync_folder(staging.new)
        now = _check_unchanged(output, before, contents)
        if not os.path.lexists(output):
            try:
                rename_new(staging.new, output)
            except FileExistsError:
                raise _appeared(output) from None
        elif now is None or staging.path.parent == output:
            write_file(staging.path, staging.step.name, json.dumps({"step": "fill"}).encode())
            _fill(staging, contents)
        else:
            _swap(staging, contents)
        sync_folder(output.parent)
    staging.remove()


def _check_unchanged(output: Path, before: str | None, contents: Contents) -> str | None:
    """Refuse to go on where something else stands at the output than before the work; return what ``standing`` says."""
    try:
        now = standing(output, contents)
    except ZooError:
        raise _appeared(output) from None
    if now is not None and now != before:
        raise _appeared(output)
    if now is not None:
        refuse_foreign(output, contents, "choose another -o; finished work is kept")
    return now


def _appeared(output: Path) -> ZooError:
    return ZooError(
        f"{output}: something was put there while zoo worked on it; it is left alone, and so is the finished work: "
        "move it away and run the same command again"
    )


def _swap(staging: Staging, contents: Contents) -> None:
    """Let the new folder and the one that stands there change places, and look at what was taken away."""
    output = staging.output
    note = {"step": "swap", "old": output.stat().st_ino}
    write_file(staging.path, staging.step.name, json.dumps(note).encode())
    if exchange(staging.new, output):
        os.rename(staging.new, staging.old)
    else:
        os.rename(output, staging.old)
        try:
            rename_new(staging.new, output)
        except OSError:
            os.rename(staging.old, output)
            raise
    try:
        refuse_foreign(staging.old, contents, "choose another -o")
    except ZooError:
        os.rename(output, staging.new)
        os.rename(staging.old, output)
        staging.step.unlink()
        raise _appeared(output) from None
    staging.let_go()


def _fill(staging: Staging, contents: Contents) -> None:
    """Move the new files into a folder that stays, those of an earlier package out of it; it may have begun before.

    The file that makes the folder whole leaves it first and enters it last: half-moved, it is nobody's package.
    """
    output, new, old = staging.output, staging.new, staging.old
    names = contents.listed(new)
    if (output / contents.last).exists():
        old.mkdir(exist_ok=True)
        os.rename(output / contents.last, old / contents.last)
    if (old / contents.last).exists():
        for name in contents.listed(old) - {contents.last}:
            # A name that both have is the old one's as long as the new one waits in its place.
            waits = name not in names or (new / name).exists()
            if waits and (output / name).exists() and not (old / name).exists():
                (old / name).parent.mkdir(parents=True, exist_ok=True)
                os.rename(output / name, old / name)
                _remove_empty(output, (output / name).parent)
    for name in sorted(names - {contents.last}):
        if (new / name).exists():
            (output / name).parent.mkdir(parents=True, exist_ok=True)
            rename_new(new / name, output / name)
    sync_folder(output)
    rename_new(new / contents.last, output / contents.last)
    sync_folder(output)


def _remove_empty(top: Path, folder: Path) -> None:
    """Remove a folder and those above it, below ``top``, as far as they are empty."""
    with contextlib.suppress(OSError):
        while folder != top:
            folder.rmdir()
            folder = folder.parent


def left_over(output: Path) -> bool:
    """Tell whether a command that was killed left something to clear up or to continue."""
    return bool(find_stagings(output)) or os.path.lexists(lock_file(output))


def clear_up(output: Path, contents: Contents = PACKAGE) -> None:
    """Clear up what a killed command left at an output, unless somebody is at work there."""
    if left_over(output):
        with contextlib.suppress(ZooError), locked(output):
            recover(output, contents)


def recover(output: Path, contents: Contents = PACKAGE) -> Staging | None:
    """Clear up after a command that was killed; only by who holds the lock.

    A folder that was taken away and has no successor gets its name back; one that has is removed, if it holds nothing
    of anybody else's; a folder that was being filled is filled.

    Returns:
        The staging folder whose work can be continued, if there is one.
    """
    continued: Staging | None = None
    remove_beginnings(output)
    with guarded(output):
        for staging in find_stagings(output):
            _end_step(staging, contents)
            if os.path.lexists(staging.old):
                log.warning("%s: holds files that zoo did not make; take them, and remove the folder", staging.old)
            elif continued is None and (staging.path / JOURNAL).is_file() and staging.new.is_dir():
                continued = staging
            else:
                staging.remove()
    return continued


def _end_step(staging: Staging, contents: Contents) -> None:
    """End the publication or the removal that a staging folder was in the middle of."""
    step = _read_step(staging)
    output, new, old = staging.output, staging.new, staging.old
    if step.get("step") == "fill":
        if (new / contents.last).is_file():
            _fill(staging, contents)
        if new.is_dir():
            remove_entry(new)
    if step.get("step") == "remove" and staging.path.parent == output and (old / contents.last).is_file():
        _take_out(staging, contents)
    if step.get("step") == "swap" and new.is_dir() and not old.exists() and new.stat().st_ino == step.get("old"):
        os.rename(new, old)
    if old.is_dir():
        if not os.path.lexists(output) and step.get("step") != "remove":
            os.rename(old, output)
        else:
            with contextlib.suppress(ZooError):
                if step.get("step") == "fill" or not foreign(old, contents):
                    staging.let_go()
    staging.step.unlink(missing_ok=True)


def _read_step(staging: Staging) -> dict[str, Any]:
    try:
        said = json.loads(staging.step.read_bytes())
        return said if isinstance(said, dict) else {}
    except (OSError, ValueError):
        return {}


def remove_package(folder: Path) -> int:
    """Remove a package, which vanishes as a whole; a folder without a valid ``zoo.json`` is never touched.

    Returns:
        How many bytes it held.

    Raises:
        ZooError: the folder is not a package, or a link to one, or holds what zoo did not make, or a build writes it.
    """
    folder = Path(os.path.abspath(folder))
    if folder.is_symlink():
        raise ZooError(f"{folder}: is a link; name the folder that it leads to, or remove the link itself")
    read_manifest(folder)
    with locked(folder):
        recover(folder)
        refuse_foreign(folder, PACKAGE, "remove it yourself")
        size = sum((folder / name).lstat().st_size for name in PACKAGE.listed(folder) if (folder / name).is_file())
        with guarded(folder):
            staging = make_staging(folder)
            write_file(staging.path, staging.step.name, json.dumps({"step": "remove"}).encode())
            if workplace(folder) == folder:
                _take_out(staging, PACKAGE)
            else:
                os.rename(folder, staging.old)
                try:
                    refuse_foreign(staging.old, PACKAGE, "remove it yourself")
                except ZooError as error:
                    os.rename(staging.old, folder)
                    staging.step.unlink()
                    staging.remove()
                    raise ZooError(str(error).replace(str(staging.old), str(folder))) from None
            staging.let_go()
        staging.remove()
    return size


def remove_damaged_package(folder: Path, names: frozenset[str]) -> None:
    """Remove a package whose ``zoo.json`` is missing or unreadable.

    Args:
        names: every file that the package had; a folder that holds anything else is left alone.

    Raises:
        ZooError: it holds something else, or a build writes it.
    """
    with locked(folder):
        recover(folder)
        if not os.path.lexists(folder):
            return
        refuse_foreign(folder, _Named(names), "remove it yourself")
        with guarded(folder):
            staging = make_staging(folder)
            os.rename(folder, staging.gone)
        staging.remove()


@dataclass(frozen=True)
class _Named:
    """A package of which the files are known without its manifest."""

    names: frozenset[str]
    last = MANIFEST

    def listed(self, folder: Path) -> frozenset[str]:
        return self.names | {MANIFEST}


def _take_out(staging: Staging, contents: Contents) -> None:
    """Move what zoo made out of a folder that stays, the file that makes it whole first; it may have begun before."""
    folder, old = staging.output, staging.old
    names = contents.listed(old if (old / contents.last).exists() else folder)
    for name in [contents.last, *sorted(names - {contents.last})]:
        if os.path.lexists(folder / name) and not os.path.lexists(old / name):
            (old / name).parent.mkdir(parents=True, exist_ok=True)
            os.rename(folder / name, old / name)
            _remove_empty(folder, (folder / name).parent)
