"""Weights from the hub: only the files that a build needs, resumed, verified, in the cache that every tool shares.

huggingface_hub brings names to addresses: endpoint, revision, token, session, errors. The transfer itself is the zoo's
own, since the library (2.4) throws a partial file away when it is interrupted, checks no hash, and waits as long as a
server asks. The cache keeps the library's documented layout, so any other tool finds what is here, and the other way:
``models--org--name/blobs/<etag>``, ``snapshots/<commit>/<file>`` as links to them, ``refs/<revision>`` with a commit.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.declarations.licence import Licence
from zoo.errors import UsageError, ZooError
from zoo.sources.companions import CONFIG, EMBEDDING, GENERATION, LICENCES, TOKENIZER
from zoo.sources.jsonfile import read_object
from zoo.sources.otherkinds import ADAPTER
from zoo.sources.repository import Repository, inspect
from zoo.sources.safetensors import MAX_HEADER
from zoo.sources.transfer import Arrival
from zoo.sources.weightfiles import absence, choose, is_index, shards, siblings
from zoo.terminal import command_line

PAGE = "README.md"
"""The repository's page; its head states the licence."""
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json")
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]*\w\Z")
_LIKE_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+\Z")
_REVISION = re.compile(r"^\w[\w./-]*\Z")
_TRUE = {"1", "ON", "YES", "TRUE"}


@dataclass(frozen=True, slots=True)
class Fetched:
    """A snapshot that is complete for a build."""

    folder: Path
    repository: str
    commit: str
    licence: Licence | None
    """What the repository states, or the declaration; None where only the cache was asked."""
    files: dict[str, int]
    """Name and size of every file that a build needs."""
    downloaded: int
    """Bytes that came over the network now."""


def is_offline(offline: bool = False) -> bool:
    """Tell whether the network is off: asked for, or by the environment."""
    stated = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return offline or stated.upper() in _TRUE


def cache_folder() -> Path:
    """Find the hub's cache from the environment as it is now; the library reads it only when it is first imported."""
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    return Path(os.path.expandvars(os.path.expanduser(cache)))


def is_hub_id(text: str) -> bool:
    """Tell whether a text can only be meant as a hub id, well-formed or not."""
    return bool(_LIKE_HUB_ID.match(text)) and ".." not in text


def check_id(repository: str) -> None:
    """Refuse what cannot be a hub id.

    Raises:
        UsageError: it is none.
    """
    if not _HUB_ID.match(repository) or len(repository) > 192 or "--" in repository or ".." in repository:
        raise UsageError(f"{repository[:200]!r} is not a hub id; a hub id is organisation/name")


def check_revision(revision: str) -> None:
    """Refuse what cannot be a branch, a tag or a commit.

    Raises:
        UsageError: it is none.
    """
    if not _REVISION.match(revision) or len(revision) > 255 or ".." in revision:
        raise UsageError(f"{revision[:200]!r} is not a revision; give a branch, a tag or a commit")


def storage_folder(repository: str, kind: str = "model") -> Path:
    """Find a repository's folder in the cache."""
    return cache_folder() / "--".join([f"{kind}s", *repository.split("/")])


def locate(repository: str, revision: str = "main", *, offline: bool = False) -> Path | None:
    """Find a snapshot in the cache that is complete for a build; asks nobody.

    Args:
        repository: a hub id.
        revision: a branch, a tag or a commit.
        offline: take a snapshot without a tokenizer too; otherwise it counts as incomplete, since another tool may
            have brought the weights alone.

    Raises:
        UsageError: no hub id, or no revision.
    """
    check_id(repository)
    check_revision(revision)
    snapshot = cached_snapshot(storage_folder(repository), revision)
    if snapshot is None:
        return None
    files = _build_files(snapshot)
    if files is None or not all((snapshot / name).is_file() for name in files):
        return None
    complete = is_offline(offline) or any((snapshot / name).is_file() for name in _VOCABULARIES)
    return snapshot if complete else None


def download(
    repository: str,
    revision: str = "main",
    *,
    licence: Licence | None = None,
    offline: bool = False,
    token: str | None = None,
    progress: Callable[[Arrival], None] | None = None,
) -> Path:
    """Bring what a build needs and return the snapshot's folder; see ``fetch``."""
    fetched = fetch(repository, revision, licence=licence, offline=offline, token=token, progress=progress)
    return fetched.folder


def fetch(
    repository: str,
    revision: str = "main",
    *,
    licence: Licence | None = None,
    offline: bool = False,
    token: str | None = None,
    progress: Callable[[Arrival], None] | None = None,
) -> Fetched:
    """Bring what a build needs: configuration, tokenizer, licence texts, and the weights in one format.

    Args:
        repository: a hub id.
        revision: a branch, a tag or a commit.
        licence: the declared one; by default what the repository states.
        offline: take what the cache holds, or fail.
        token: by default ``HF_TOKEN`` or the saved login.
        progress: told after each piece.

    Raises:
        UsageError: no hub id, or no revision.
        ZooError: why it could not be brought, and what to do.
    """
    check_id(repository)
    check_revision(revision)
    if is_offline(offline):
        return _from_cache(repository, revision, licence)
    remote = inspect(repository, revision, storage_folder(repository), licence=licence, token=token)
    downloaded = bring_companions(remote, progress)
    downloaded += bring_weights(remote, progress)
    names = [*companion_names(remote.files), *weight_files(remote)]
    sizes = {name: (remote.snapshot / name).stat().st_size for name in names}
    return Fetched(remote.snapshot, repository, remote.commit, remote.place.licence, sizes, downloaded)


def companion_names(names: Sequence[str]) -> list[str]:
    """Choose the files beside the weights that a build reads or copies, and the index of shards."""
    wanted = {CONFIG, GENERATION, *TOKENIZER, *EMBEDDING, PAGE, ADAPTER}
    prefixes = tuple(pattern.rstrip("*") for pattern in LICENCES)
    chosen = [name for name in names if name in wanted or ("/" not in name and name.upper().startswith(prefixes))]
    choice = choose(names)
    return sorted({*chosen, choice} if choice is not None and is_index(choice) else chosen)


def bring_companions(remote: Repository, progress: Callable[[Arrival], None] | None = None) -> int:
    """Bring the small files first, so that a snapshot with all its weights is complete; count the bytes that came.

    Raises:
        ZooError: the repository holds no model that can be built.
    """
    gguf = next((name for name in remote.files if name.endswith(".gguf")), None)
    if CONFIG not in remote.files and gguf is not None:
        raise ZooError(f"{remote.place.repository} holds GGUF files; name one: {remote.place.repository}:{gguf}")
    if CONFIG not in remote.files:
        raise ZooError(f"{remote.place.repository} holds no {CONFIG}, so it cannot be built")
    if choose(remote.files) is None:
        raise ZooError(f"{remote.place.repository}: {absence(remote.files)}")
    return remote.pull(companion_names(remote.files), progress=progress)


def bring_weights(remote: Repository, progress: Callable[[Arrival], None] | None = None) -> int:
    """Bring the weights after the small files, and note the revision; count the bytes that came."""
    downloaded = remote.pull(weight_files(remote), progress=progress)
    remote.keep_revision()
    return downloaded


def weight_files(remote: Repository) -> list[str]:
    """List the files of weights; the index has to be there."""
    choice = choose(remote.files)
    assert choice is not None
    if not is_index(choice):
        return siblings(choice)
    named = list(shards(read_object(remote.snapshot / choice, MAX_HEADER, choice), choice))
    missing = [name for name in named if name not in remote.files]
    if missing:
        raise ZooError(f"{remote.place.repository}: {choice} names {missing[0][:200]!r}, which the repository lacks")
    return named


def _from_cache(repository: str, revision: str, licence: Licence | None) -> Fetched:
    snapshot = locate(repository, revision, offline=True)
    if snapshot is None:
        partly = " (only part of it is)" if cached_snapshot(storage_folder(repository), revision) else ""
        raise ZooError(
            f"{repository} at {revision} is not on this machine{partly}, and the network is off (--offline or "
            f"HF_HUB_OFFLINE); run `{command_line('zoo', 'fetch', repository)}` with the network on"
        )
    names = sorted({*companion_names(sorted(os.listdir(snapshot))), *(_build_files(snapshot) or ())})
    sizes = {name: (snapshot / name).stat().st_size for name in names}
    return Fetched(snapshot, repository, snapshot.name, licence, sizes, 0)


def cached_snapshot(storage: Path, revision: str) -> Path | None:
    """Find the snapshot that a revision meant when it was last asked for."""
    try:
        commit = (storage / "refs" / revision).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        commit = revision
    if not re.fullmatch(r"[\w.-]{1,64}", commit) or ".." in commit:
        return None
    snapshot = storage / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None


def _build_files(snapshot: Path) -> list[str] | None:
    """List the files that a build cannot do without; None where that cannot be told."""
    choice = choose(os.listdir(snapshot))
    if choice is None:
        return None
    if not is_index(choice):
        return [CONFIG, *siblings(choice)]
    try:
        return [CONFIG, choice, *shards(read_object(snapshot / choice, MAX_HEADER, choice), choice)]
    except ZooError:
        return None
