"""The way from nothing to a package: a lock, a partial folder beside the output, one rename at the end."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo.declarations.manifest import Manifest
from zoo.errors import ZooError
from zoo.package.exchange import exchange
from zoo.package.folder import MANIFEST, read_manifest
from zoo.package.journal import JOURNAL


def partial_folder(output: Path) -> Path:
    """Name the folder that a build works in: beside the output, so that one rename finishes it."""
    return output.parent / f".{output.name}.partial"


@contextlib.contextmanager
def locked(output: Path) -> Iterator[None]:
    """Hold the one lock of an output.

    The system drops the lock of a process that dies, whatever kills it, so a file left behind is no obstacle: it is
    stale, and taken over.

    Raises:
        ZooError: another process holds it, named by its id; or the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    path = _lock_file(output)
    with guarded(output.parent):
        output.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0, is_singleton=False, thread_local=False)
    for _ in range(100):
        with guarded(path):
            try:
                lock.acquire()
            except Timeout:
                if not path.exists():
                    raise ZooError(f"{output.parent}: takes no files; choose another -o") from None
                holder = _holder(path)
                raise ZooError(f"{output}: another build is writing it{holder}; wait for it, or choose -o") from None
        # Whoever held it before may have removed the file between our opening and locking it: then ours guards nothing.
        if _same_file(lock, path):
            break
        lock.release(force=True)
    else:
        raise ZooError(f"{path}: cannot be locked; its folder is changed all the time")
    try:
        with contextlib.suppress(OSError):
            path.write_text(f"{os.getpid()}\n")
        yield
    finally:
        # Removed while still held: nobody can lock the name and find it gone.
        with contextlib.suppress(OSError):
            path.unlink()
        with contextlib.suppress(OSError):
            lock.release(force=True)


def _same_file(lock: Any, path: Path) -> bool:
    descriptor = getattr(getattr(lock, "_context", None), "lock_file_fd", None)
    if not isinstance(descriptor, int):
        return True
    try:
        return os.path.sameopenfile(descriptor, descriptor) and os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return f" (process {int(path.read_text())})"
    return ""


@contextlib.contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Turn what the system refuses into one line that names the path."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        if error.errno == errno.ENOSPC or error.errno == getattr(errno, "EDQUOT", -1):
            raise ZooError(
                f"{where}: no space left; free some, finished work is kept and the same command continues"
            ) from None
        if error.errno == errno.EFBIG:
            raise ZooError(f"{where}: larger than this system lets a file be (see `ulimit -f`)") from None
        raise ZooError(f"{where}: {error.strerror or error}") from None


def existing(output: Path, recipe_hash: str, *, force: bool) -> Manifest | None:
    """Look at what stands where a package is to go.

    Returns:
        The manifest when this very recipe is already there and nothing forces a new build; otherwise None.

    Raises:
        ZooError: something else stands there that must not be replaced.
    """
    if not output.exists() and not output.is_symlink():
        return None
    if not output.is_dir() or output.is_symlink():
        raise ZooError(f"{output}: is there and is no folder; choose another -o")
    if not any(output.iterdir()):
        return None
    if not (output / MANIFEST).exists():
        raise ZooError(f"{output}: holds something that is no package; choose another -o")
    try:
        manifest = read_manifest(output)
    except ZooError as error:
        raise ZooError(f"{output}: holds no valid package ({error}); remove it or choose another -o") from None
    if force:
        return None
    if manifest.recipe_hash == recipe_hash:
        return manifest
    raise ZooError(
        f"{output}: holds another build ({manifest.recipe.model} {manifest.recipe.precision}, "
        f"recipe {manifest.recipe_hash[:12]}); --force replaces it"
    )


def write_file(folder: Path, name: str, content: bytes) -> None:
    """Write a small file and wait until it is on the disk."""
    path = folder / name
    with guarded(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``zoo.json``, the last file of a package."""
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False, sort_keys=False)
    write_file(folder, MANIFEST, f"{text}\n".encode())


def publish(partial: Path, output: Path) -> None:
    """Give a finished partial folder its name, in one step, and wait until the disk knows it.

    A package that stood there before changes places with it and is removed after: at every moment one of the two
    stands there. Where the system cannot exchange folders, the old one is put aside first, and ``recover`` brings it
    back should the process die between the two steps.
    """
    with guarded(output):
        sync_folder(partial)
        # The journal goes last: as long as it is there, a killed build costs nothing but reading back.
        (partial / JOURNAL).unlink(missing_ok=True)
        aside = _aside(output)
        if aside.exists() and output.exists():
            shutil.rmtree(aside)
        if not output.exists():
            os.rename(partial, output)
        elif exchange(partial, output):
            os.rename(partial, aside)
        else:
            os.rename(output, aside)
            os.rename(partial, output)
        sync_folder(output.parent)
    shutil.rmtree(aside, ignore_errors=True)


def recover(output: Path) -> None:
    """Clear up after a build that was killed while it published; only by who holds the lock.

    A package that was put aside and has no successor gets its name back; one that has is removed.
    """
    aside, partial = _aside(output), partial_folder(output)
    with guarded(output):
        if aside.exists():
            if (output / MANIFEST).is_file():
                shutil.rmtree(aside)
            elif (aside / MANIFEST).is_file() and (not output.exists() or not any(output.iterdir())):
                os.replace(aside, output)
        # Without a journal nothing in it can be continued: it is the package that was replaced, or a mere beginning.
        if (output / MANIFEST).is_file() and partial.is_dir() and not (partial / JOURNAL).exists():
            shutil.rmtree(partial)


def left_over(output: Path) -> bool:
    """Tell whether a build that was killed while it published left something to clear up."""
    return any(one.exists() for one in (_aside(output), partial_folder(output), _lock_file(output)))


def _lock_file(output: Path) -> Path:
    return output.parent / f".{output.name}.lock"


def _aside(output: Path) -> Path:
    return output.parent / f".{output.name}.old"


def remove_package(folder: Path) -> int:
    """Remove a package, which vanishes as a whole; a folder without a valid ``zoo.json`` is never touched.

    Returns:
        How many bytes it held.

    Raises:
        ZooError: the folder is no package, or a link to one, or a build is writing it.
    """
    folder = Path(os.path.abspath(folder))
    if folder.is_symlink():
        raise ZooError(f"{folder}: is a link; name the folder that it leads to, or remove the link itself")
    read_manifest(folder)
    with locked(folder):
        aside = folder.parent / f".{folder.name}.removed"
        with guarded(folder):
            if aside.exists():  # an earlier removal was killed in the middle
                shutil.rmtree(aside)
            os.rename(folder, aside)
            size = sum(file.stat().st_size for file in aside.rglob("*") if file.is_file() and not file.is_symlink())
            shutil.rmtree(aside)
    return size


def sync_folder(folder: Path) -> None:
    """Wait until a folder's entries are on the disk, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
