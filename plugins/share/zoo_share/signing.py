"""Signatures of packages by OpenSSF's ``model-signing``: an elliptic key, no network, no ledger.

``trust.toml`` under ``$ZOO_HOME`` says whose packages are taken: a pull from a location that a rule names needs a
signature by that rule's key.

    [[trust]]
    location = "oci://registry.example.com/models/*"
    key = "/etc/zoo/team.pub"
"""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from zoo.declarations.base import Value
from zoo.errors import UsageError, ZooError
from zoo.home import zoo_home
from zoo.tomlfile import read_toml


class TrustRule(Value):
    """Whose signature a location's packages need."""

    location: Annotated[str, Field(min_length=1, max_length=1000)]
    """A pattern of locations."""
    key: Annotated[str, Field(min_length=1, max_length=4096)]
    """The file of a public key, PEM."""


class TrustPolicy(Value):
    """``trust.toml``."""

    trust: tuple[TrustRule, ...] = Field(default=(), max_length=1000)


def required_keys(location: str) -> list[Path]:
    """List the keys of which one must have signed what is pulled from a location; none where no rule names it.

    Raises:
        ZooError: the policy cannot be read, or is wrong.
    """
    path = zoo_home() / "trust.toml"
    if not path.is_file():
        return []
    rules = read_toml(path, TrustPolicy).trust
    return [Path(rule.key).expanduser() for rule in rules if fnmatch.fnmatchcase(location, rule.location)]


def sign(folder: Path, key: Path, signature: Path) -> None:
    """Sign every file of a folder.

    Args:
        key: the private key, PEM, without a password.
        signature: where the signature goes, outside of the folder.

    Raises:
        ZooError: the key cannot be read or is not one.
    """
    signing = _library().signing
    _require(key)
    try:
        signing.Config().use_elliptic_key_signer(private_key=key).sign(folder, signature)
    except (ValueError, TypeError, OSError) as error:
        raise ZooError(f"{key}: cannot sign: {' '.join(str(error).split())[:200]}") from None


def check(folder: Path, signature: Path, keys: list[Path], location: str) -> Path:
    """Check that one of several keys signed every file of a folder, and no other files are there.

    Returns:
        The key that did.

    Raises:
        ZooError: none did.
    """
    verifying = _library().verifying
    said = ""
    for key in keys:
        _require(key)
        try:
            verifying.Config().use_elliptic_key_verifier(public_key=key).verify(folder, signature)
            return key
        except Exception as error:  # whatever a stranger's signature makes the library raise
            said = " ".join(str(error).split())[:200]
    raise ZooError(f"{location}: not signed by {' or '.join(map(str, keys))}: {said or 'the signature does not match'}")


def _require(key: Path) -> None:
    if not key.is_file():
        raise UsageError(f"{key}: no such key")


def _library() -> Any:
    try:
        import model_signing
    except ImportError:
        raise UsageError(
            "signatures need the package model-signing; pip install 'model-zoo-framework[share]'"
        ) from None
    return model_signing
