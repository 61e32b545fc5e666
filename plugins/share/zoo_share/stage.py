"""Package → registry or hub → Package: nothing of what comes is opened before it is what its manifest says."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.declarations.base import digest
from zoo.declarations.manifest import FileRecord, Manifest
from zoo.errors import UsageError, ZooError
from zoo.package.contents import PACKAGE, refuse_foreign
from zoo.package.files import guarded, write_file
from zoo.package.folder import MANIFEST, MAX_MANIFEST, Package, open_package, parse_bytes, remember_files
from zoo.package.hashes import stated_contents
from zoo.package.journal import JOURNAL
from zoo.package.locking import locked
from zoo.package.publish import clear_up, existing, publish, recover, standing
from zoo.package.staging import Staging, make_staging
from zoo.package.store import output_folder
from zoo.registry import Registry
from zoo.results import of_build
from zoo.sources.transfer import Arrival, Tally, Wanted, bring
from zoo.stages.report import KINDS, tabulate
from zoo.units import bytes_text
from zoo_share.describe import bill_of_materials, model_card
from zoo_share.remote import CARD, SIGNATURE, Remote, Step, Upload, open_remote
from zoo_share.signing import check, required_keys, sign

_LABEL = re.compile(r"\w[\w.+-]{0,150}")
_MAX_SIGNATURE = 2**24


@dataclass(frozen=True)
class Pulled:
    """A package that was pulled."""

    package: Package
    already_there: bool
    signed_by: Path | None
    """The key whose signature it bears; None where none was asked for."""


def push(
    registry: Registry,
    folder: Path,
    location: str,
    *,
    key: Path | None = None,
    plain_http: bool = False,
    step: Step | None = None,
) -> str:
    """Push a package with a card, and a signature where there is a key.

    Args:
        folder: the package.
        location: ``oci://host/repository:tag`` or ``hf:organisation/name``.
        key: a private key, PEM, that signs it.
        plain_http: speak to a registry without TLS.
        step: called before each file.

    Returns:
        The location, with the digest or the commit that it has now.

    Raises:
        ZooError: the package is not whole, or it is not taken.
    """
    remote, package = open_remote(location, plain_http=plain_http), open_package(folder)
    manifest = package.manifest
    uploads = [
        Upload(name, package.path / name, record.size, record.sha256, _kind(name, record))
        for name, record in manifest.files.items()
    ]
    with tempfile.TemporaryDirectory(prefix="zoo-push-") as place:
        beside = Path(place)
        uploads.append(_upload(package.path / MANIFEST, MANIFEST, "config"))
        if CARD not in manifest.files:
            card = model_card(manifest, location, _measured(registry, manifest))
            write_file(beside, CARD, card.encode())
            uploads.append(_upload(beside / CARD, CARD, "doc"))
        if key is not None:
            if SIGNATURE in manifest.files:
                raise ZooError(f"{package.name}: already contains a file {SIGNATURE}")
            refuse_foreign(package.path, PACKAGE, "remove it before signing")
            sign(package.path, key, beside / SIGNATURE)
            uploads.append(_upload(beside / SIGNATURE, SIGNATURE, "signature"))
        return remote.push(uploads, manifest, step)


def _kind(name: str, record: FileRecord) -> Any:
    """Tell ModelPack's kind of a file: documents and small files are apart from weights."""
    if name.startswith(("LICENSE", "NOTICE", "USE_POLICY", "README")):
        return "doc"
    return "weight" if name.endswith((".data", ".onnx", ".safetensors", ".gguf", ".bin")) else "config"


def _upload(path: Path, name: str, kind: Any) -> Upload:
    raw = path.read_bytes()
    return Upload(name, path, len(raw), hashlib.sha256(raw).hexdigest(), kind)


def _measured(registry: Registry, manifest: Manifest) -> list[tuple[str, str, str, str]]:
    """List what was measured of a package."""
    mine = of_build(registry, manifest)
    table = tabulate(manifest.recipe.model, [report for report in mine if report.kind in KINDS])
    return [
        (f"{row.kind}: {row.what}", row.conditions, row.metric, f"{cell.value:.4g}")
        for row in table.rows
        for cell in row.cells.values()
    ]


def pull(
    location: str,
    output: Path | None = None,
    *,
    key: Path | None = None,
    plain_http: bool = False,
    force: bool = False,
    progress: Callable[[Arrival], None] | None = None,
) -> Pulled:
    """Pull a package; every file is checked against its manifest, and the signature where one is asked for.

    Args:
        output: the package folder to make; by default its place in the store.
        key: a public key, PEM, that must have signed it; by default what ``trust.toml`` asks for.
        plain_http: speak to a registry without TLS.
        force: replace another package that stands there.
        progress: told after each piece that arrives.

    Raises:
        ZooError: it is not there, is not what its manifest says, or is not signed as it must be. What has arrived is
            kept, and the same call goes on.
    """
    keys = [key] if key is not None else required_keys(location)
    remote = open_remote(location, plain_http=plain_http)
    files = remote.files()
    raw = _read(remote, files, MANIFEST, MAX_MANIFEST)
    manifest = parse_bytes(raw, f"{location}: {MANIFEST}")
    _compare(location, files, manifest)
    signature = _read(remote, files, SIGNATURE, _MAX_SIGNATURE) if keys else None
    folder = Path(os.path.abspath(output or _store_place(location, manifest)))
    clear_up(folder)
    already = existing(folder, manifest.recipe_hash, force=force) if folder.exists() else None
    if already is not None:
        if stated_contents(already) != stated_contents(manifest):
            raise ZooError(f"{folder}: has the same recipe but other bytes; --force replaces it")
        signed = _signed(folder, signature, keys, location)
        return Pulled(open_package(folder), True, signed)
    with locked(folder):
        unfinished = recover(folder)
        before = standing(folder)
        staging = unfinished or make_staging(folder)
        _receive(remote, files, manifest, raw, staging, progress)
        signed = _signed(staging.new, signature, keys, location)
        publish(staging, before)
        remember_files(folder, manifest)
    return Pulled(open_package(folder), False, signed)


def _store_place(location: str, manifest: Manifest) -> Path:
    if not _LABEL.fullmatch(manifest.recipe.model):
        raise UsageError(f"{location}: its model is called {manifest.recipe.model[:100]!r}; name the folder with -o")
    return output_folder(manifest.recipe)


def _compare(location: str, files: Mapping[str, Wanted], manifest: Manifest) -> None:
    """Hold what a place lists against the package's manifest, before anything large comes."""
    for name, record in manifest.files.items():
        wanted = files.get(name)
        if wanted is None:
            raise ZooError(f"{location}: {name} is missing, but {MANIFEST} lists it")
        if wanted.size not in (None, record.size) or wanted.sha256 not in (None, record.sha256):
            raise ZooError(f"{location}: {name} does not match its {MANIFEST}; nothing was pulled")


def _read(remote: Remote, files: Mapping[str, Wanted], name: str, limit: int) -> bytes:
    """Read a small file."""
    wanted = files.get(name)
    if wanted is None:
        what = "is not signed" if name == SIGNATURE else f"is not a package: it holds no {name}"
        raise ZooError(f"{remote.location}: {what}")
    if wanted.size is None or wanted.size > limit:
        raise ZooError(f"{remote.location}: {name} is larger than {limit} bytes, the limit")
    with tempfile.TemporaryDirectory(prefix="zoo-pull-") as place:
        bring(wanted, Path(place) / "file", Tally(wanted.size), remote.place)
        return (Path(place) / "file").read_bytes()


def _receive(
    remote: Remote,
    files: Mapping[str, Wanted],
    manifest: Manifest,
    raw: bytes,
    staging: Staging,
    progress: Callable[[Arrival], None] | None,
) -> None:
    """Bring every file into a staging folder, going on from what an earlier call brought; the manifest comes last."""
    mark = f"{digest(['pull', hashlib.sha256(raw).hexdigest()])}\n".encode()
    same = (staging.path / JOURNAL).is_file() and (staging.path / JOURNAL).read_bytes() == mark
    staging.clear_new(set(manifest.files) if same else set())
    write_file(staging.path, JOURNAL, mark)
    total = sum(record.size for record in manifest.files.values())
    there = sum(path.stat().st_size for path in staging.new.rglob("*") if path.is_file())
    free = shutil.disk_usage(staging.path).free
    if total - there > free:
        raise ZooError(f"{staging.output.parent}: {bytes_text(free)} free, the package takes {bytes_text(total)}")
    tally = Tally(total, progress)
    for name, record in sorted(manifest.files.items(), key=lambda item: item[1].size):
        wanted = Wanted(name, files[name].url, record.size, record.sha256, files[name].headers)
        with guarded(staging.new / name):
            (staging.new / name).parent.mkdir(parents=True, exist_ok=True)
            bring(wanted, staging.new / name, tally, remote.place)
    write_file(staging.new, MANIFEST, raw)


def _signed(folder: Path, signature: bytes | None, keys: list[Path], location: str) -> Path | None:
    if signature is None:
        return None
    with tempfile.TemporaryDirectory(prefix="zoo-pull-") as place:
        write_file(Path(place), SIGNATURE, signature)
        return check(folder, Path(place) / SIGNATURE, keys, location)


def sbom(folder: Path) -> dict[str, Any]:
    """Write the CycloneDX ML-BOM of a package.

    Raises:
        ZooError: it is not whole.
    """
    package = open_package(folder)
    return bill_of_materials(package.manifest, package.name)
