"""One revision of a hub repository: what it lists, and its files brought into the shared cache."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo import __version__
from zoo.declarations.licence import UNKNOWN_LICENCE, Licence
from zoo.errors import ZooError
from zoo.sources.hub_errors import Place, attempt, describe_licence
from zoo.sources.parallel import each
from zoo.sources.transfer import Arrival, Stopped, Tally, Wanted, bring
from zoo.units import bytes_text

log = logging.getLogger("zoo")

_SPARE = 64 * 2**20
"""Bytes that a download leaves free on the disk."""
_SHA256 = re.compile(r"^[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of the repository, as the hub describes it."""

    wanted: Wanted
    blob: str
    """Its name in the cache: its etag."""


class Repository:
    """A revision of a repository, pinned to its commit.

    Args:
        place: what was asked of whom.
        commit: the commit that the revision means.
        files: the names that it holds.
        checksums: SHA-256 of the files for which the listing states it.
        storage: the repository's folder in the cache.
        headers: what authorizes requests.
    """

    def __init__(
        self,
        place: Place,
        commit: str,
        files: list[str],
        checksums: dict[str, str],
        storage: Path,
        headers: dict[str, str],
    ) -> None:
        self.place = place
        self.commit = commit
        self.files = files
        self.storage = storage
        self.snapshot = storage / "snapshots" / commit
        self._checksums = checksums
        self._headers = headers
        self._known: dict[str, RemoteFile] = {}
        self._announced = False

    def describe(self, name: str) -> RemoteFile:
        """Ask for a file's size, etag and address, once.

        Raises:
            ZooError: the hub does not hand it out, or describes it in a way that cannot be trusted.
        """
        if name not in self._known:
            self._known[name] = self._ask(name)
        return self._known[name]

    def missing(self, names: Iterable[str]) -> list[RemoteFile]:
        """List the files that the cache does not hold whole."""
        described = each(self.describe, list(names))
        return [file for file in described if not self._is_here(file.wanted)]

    def _is_here(self, wanted: Wanted) -> bool:
        path = self.snapshot / wanted.name
        return path.exists() and wanted.size in (None, path.stat().st_size)

    def pull(
        self,
        names: Iterable[str],
        *,
        progress: Callable[[Arrival], None] | None = None,
        checksums: dict[str, str] | None = None,
    ) -> int:
        """Bring files into the cache, several at once, the licence shown before; count the bytes that came.

        Args:
            names: which.
            progress: told after each piece.
            checksums: SHA-256 of files, from elsewhere than the hub.

        Raises:
            ZooError: why one did not come; what arrived of the others is kept.
        """
        self._checksums |= checksums or {}
        described = self.missing(names)
        if not described:
            return 0
        self._check_space(described)
        if not self._announced:
            self._announced = True
            log.warning("%s: licence %s", self.place.repository, describe_licence(self.place.licence))
        tally = Tally(sum(file.wanted.size or 0 for file in described), progress)
        # The largest first: it takes longest.
        described.sort(key=lambda one: -(one.wanted.size or 0))
        each(lambda one: self._bring(one, tally), described, tally.stop)
        return tally.arrived

    def keep_revision(self) -> None:
        """Note in the cache which commit the revision means, now that the commit's files are there."""
        revision = self.place.revision or "main"
        if revision == self.commit:
            return
        path = self.storage / "refs" / revision
        # Who may not write into a shared cache can still use what is in it.
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
            fresh.write_text(self.commit, encoding="utf-8")
            fresh.replace(path)

    def _ask(self, name: str) -> RemoteFile:
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        url = hf_hub_url(
            self.place.repository, name, repo_type=self.place.kind, revision=self.commit, endpoint=self.place.endpoint
        )
        place = self.place
        described = attempt(lambda: get_hf_file_metadata(url, headers=self._headers, endpoint=place.endpoint), place)
        etag, size = described.etag or "", described.size
        if not etag:
            raise ZooError(f"{place.repository}: {place.host} gives no etag for {name}; is HF_ENDPOINT right?")
        stated = {digest for digest in (self._checksums.get(name), etag) if digest and _SHA256.match(digest)}
        if len(stated) > 1:
            raise ZooError(f"{place.repository}: {place.host} states two checksums for {name}; try another mirror")
        sha256 = stated.pop() if stated else None
        blob = etag if re.fullmatch(r"[\w-]{8,128}", etag) else _digest(etag)
        return RemoteFile(Wanted(name, url, size, sha256, self._headers), blob)

    def _bring(self, file: RemoteFile, tally: Tally) -> None:
        """Bring one file into ``blobs`` and link it into the snapshot; two commands do not bring it twice."""
        from filelock import FileLock, Timeout

        wanted = file.wanted
        blob = self.storage / "blobs" / file.blob
        lock = self.storage.parent / ".locks" / self.storage.name / f"{file.blob}.lock"
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            guard = FileLock(lock)
            while True:
                if tally.stop.is_set():
                    raise Stopped
                with contextlib.suppress(Timeout):
                    guard.acquire(timeout=1.0)
                    break
            try:
                if not blob.exists() or (wanted.size is not None and blob.stat().st_size != wanted.size):
                    partial = blob.with_name(f"{blob.name}.zoo-partial")
                    bring(wanted, partial, tally, self.place)
                    partial.replace(blob)
                else:
                    tally.add(wanted.name, wanted.size or 0, arrived=False)
                _link(blob, self.snapshot / wanted.name)
            finally:
                guard.release()
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            raise ZooError(
                f"{wanted.name}: cannot be put into the hub's cache: {error.strerror or error}{where}"
            ) from None

    def _check_space(self, files: list[RemoteFile]) -> None:
        """Refuse a download that the disk cannot hold.

        Raises:
            ZooError: how much it takes, how much there is, and what to do.
        """
        needed = 0
        for file in files:
            partial = self.storage / "blobs" / f"{file.blob}.zoo-partial"
            there = partial.stat().st_size if partial.exists() else 0
            if not partial.with_name(file.blob).exists():
                needed += max((file.wanted.size or 0) - there, 0)
        folder = self.storage
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        if needed and needed + _SPARE > free:
            raise ZooError(
                f"{self.place.repository}: {bytes_text(needed)} to download, {bytes_text(free)} free in the hub's "
                "cache; make room, or set HF_HOME to a folder on another disk"
            )


def inspect(
    repository: str,
    revision: str,
    storage: Path,
    *,
    kind: str = "model",
    licence: Licence | None = None,
    token: str | None = None,
) -> Repository:
    """Ask the hub what a revision holds.

    Args:
        repository: a hub id.
        revision: a branch, a tag or a commit.
        storage: its folder in the cache.
        kind: ``model`` or ``dataset``.
        licence: the declared one; by default what the repository states.
        token: by default ``HF_TOKEN`` or the saved login.

    Raises:
        ZooError: why not, and what to do.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    headers = build_hf_headers(token=token, library_name="zoo", library_version=__version__)
    place = Place(repository, revision, endpoint, kind, licence, "authorization" in headers)
    api = HfApi(endpoint=endpoint, token=token, library_name="zoo", library_version=__version__)
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT

    def ask() -> Any:
        return api.repo_info(repository, revision=revision, repo_type=kind, files_metadata=True, timeout=timeout)

    info = attempt(ask, place)
    commit = str(info.sha or "")
    if not re.fullmatch(r"[0-9A-Za-z]{6,64}", commit):
        raise ZooError(f"{repository}: {place.host} names no commit for {revision}; is HF_ENDPOINT right?")
    files, checksums = [], {}
    for sibling in info.siblings or []:
        files.append(sibling.rfilename)
        sha256 = getattr(sibling.lfs, "sha256", None)
        if isinstance(sha256, str) and _SHA256.match(sha256):
            checksums[sibling.rfilename] = sha256
    if not files:
        tree = attempt(
            lambda: list(api.list_repo_tree(repository, revision=commit, repo_type=kind, recursive=True)), place
        )
        files = [entry.path for entry in tree if hasattr(entry, "size")]
    stated = Place(repository, revision, endpoint, kind, licence or _stated_licence(info), place.token_sent)
    return Repository(stated, commit, sorted(files), checksums, storage, headers)


def _stated_licence(info: Any) -> Licence:
    """Read the licence from the head of the repository's page, as the hub has parsed it."""
    card = info.card_data.to_dict() if info.card_data is not None else {}
    stated, name, link = card.get("license"), card.get("license_name"), card.get("license_link")
    if isinstance(stated, list):
        stated = ", ".join(map(str, stated))
    if not stated:
        return UNKNOWN_LICENCE.model_copy(update={"gated": bool(info.gated)})
    url = link if isinstance(link, str) and re.match(r"^https?://\S+\Z", link) else None
    return Licence(id=str(stated)[:100], name=str(name)[:100] if name else None, url=url, gated=bool(info.gated))


def _link(blob: Path, pointer: Path) -> None:
    """Make a file of a snapshot: a relative link to its blob, a copy where the system has no links."""
    pointer.parent.mkdir(parents=True, exist_ok=True)
    fresh = pointer.with_name(f".{pointer.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        fresh.symlink_to(os.path.relpath(blob, pointer.parent))
    except OSError:
        shutil.copyfile(blob, fresh)
    fresh.replace(pointer)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
