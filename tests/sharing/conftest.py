"""A package that is shared, a key that signs it, and a real registry."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

import zoo
from zoo import plugins


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reach servers of this machine."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real, small package; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("shared") / "zoo-tiny-int4"
    zoo.build("zoo-tiny", "int4", output=folder)
    plugins.host.cache_clear()
    return folder


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A private key and its public one, PEM."""
    pytest.importorskip("model_signing")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("keys")
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / "key.pem", folder / "key.pub"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


class RealRegistry:
    """Debian's docker-registry over a folder."""

    def __init__(self, host: str, storage: Path) -> None:
        self.host, self.storage = host, storage

    def blob(self, sha256: str) -> Path:
        """Where it keeps a layer."""
        return self.storage / "docker/registry/v2/blobs/sha256" / sha256[:2] / sha256 / "data"


@pytest.fixture
def registry(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RealRegistry]:
    """A real registry; one that wants a password where the test gives ``htpasswd``."""
    pytest.importorskip("oras")
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed (Debian's package of that name)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    storage = tmp_path / "registry"
    entries = getattr(request, "param", None)
    auth = ""
    if entries:
        (tmp_path / "htpasswd").write_text(entries)
        auth = f"auth: {{htpasswd: {{realm: zoo, path: {tmp_path / 'htpasswd'}}}}}\n"
    (tmp_path / "registry.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {storage}}}}}\n"
        f"http: {{addr: '{host}'}}\n{auth}"
    )
    process = subprocess.Popen(
        [program, "serve", str(tmp_path / "registry.yml")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            try:
                httpx2.get(f"http://{host}/v2/", timeout=5)
                break
            except httpx2.TransportError:
                assert process.poll() is None, "docker-registry ended"
                time.sleep(0.05)
        yield RealRegistry(host, storage)
    finally:
        process.terminate()
        process.wait(10)
