"""Packages in a real registry: the same bytes come back, changed ones are refused, broken transfers go on."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner, Result
from zoo_share import stage as share
from zoo_share.remote import open_remote

from tests.sharing.conftest import RealRegistry
from zoo.cli import app
from zoo.errors import UsageError, ZooError
from zoo.package.folder import read_manifest
from zoo.plugins import host

OCI = "application/vnd.oci.image.manifest.v1+json"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_a_package_comes_back_signed_and_the_same(
    registry: RealRegistry, package: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    location = f"oci://{registry.host}/team/tiny:v1"
    pushed = run("push", package, location, "--sign", keys[0])
    assert pushed.exit_code == 0, pushed.output
    assert f"{location}@sha256:" in pushed.stdout
    out = tmp_path / "out"
    done = run("pull", location, "-o", out, "--key", keys[1], "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["signed_by"] == str(keys[1])
    assert contents(out) == contents(package)
    assert "already there" in run("pull", location, "-o", out).stdout
    # As others see it: ModelPack's types, one layer a file, the card among them.
    document = httpx2.get(
        f"http://{registry.host}/v2/team/tiny/manifests/v1", headers={"Accept": OCI}
    ).json()  # fmt: skip
    assert document["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    kinds = {one["annotations"]["org.cncf.model.filepath"]: one["mediaType"] for one in document["layers"]}
    assert kinds["model.onnx.data"] == "application/vnd.cncf.model.weight.v1.raw"
    assert kinds["README.md"] == "application/vnd.cncf.model.doc.v1.raw"
    config = json.loads(registry.blob(document["config"]["digest"][7:]).read_bytes())
    assert (config["config"]["precision"], config["descriptor"]["name"]) == ("int4", "zoo-tiny")
    assert config["modelfs"]["diffIds"] == [one["digest"] for one in document["layers"]]
    # A digest names this very manifest, whatever the tag means later.
    named = pushed.stdout.split()[-1]
    assert "already there" in run("pull", named, "-o", out).stdout
    assert run("pull", f"{location}@sha256:{'0' * 64}").exit_code == 1


def test_a_changed_layer_is_refused(registry: RealRegistry, package: Path, tmp_path: Path) -> None:
    location = f"oci://{registry.host}/tiny:v1"
    share.push(host().registry, package, location)
    record = read_manifest(package).files["model.onnx.data"]
    blob = registry.blob(record.sha256)
    before = blob.read_bytes()
    blob.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    done = run("pull", location, "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert "model.onnx.data" in done.stderr
    assert not (tmp_path / "out").exists()
    blob.write_bytes(before)
    assert run("pull", location, "-o", tmp_path / "out").exit_code == 0


def test_a_manifest_that_names_other_layers_is_refused(registry: RealRegistry, package: Path, tmp_path: Path) -> None:
    """Whoever may write to the registry swaps a layer for another one of theirs."""
    location = f"oci://{registry.host}/tiny:v1"
    share.push(host().registry, package, location)
    url = f"http://{registry.host}/v2/tiny/manifests/v1"
    document = httpx2.get(url, headers={"Accept": OCI}).json()
    layers = {one["annotations"]["org.cncf.model.filepath"]: one for one in document["layers"]}
    layers["tokenizer.json"] |= {key: layers["config.json"][key] for key in ("digest", "size")}
    httpx2.put(url, content=json.dumps(document), headers={"Content-Type": OCI}).raise_for_status()
    with pytest.raises(ZooError, match=r"tokenizer\.json does not match its zoo\.json"):
        share.pull(location, tmp_path / "out")
    document["layers"].remove(layers["tokenizer.json"])
    httpx2.put(url, content=json.dumps(document), headers={"Content-Type": OCI}).raise_for_status()
    with pytest.raises(ZooError, match=r"tokenizer\.json is missing"):
        share.pull(location, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_layers_that_are_there_are_not_sent_and_half_a_file_goes_on(
    registry: RealRegistry, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = f"oci://{registry.host}/tiny:v1"
    share.push(host().registry, package, location)
    from oras.provider import Registry

    sent: list[str] = []
    whole = Registry.chunked_upload

    def upload(self: Registry, blob: str, *rest: object, **more: object) -> object:
        sent.append(blob)
        return whole(self, blob, *rest, **more)

    monkeypatch.setattr(Registry, "chunked_upload", upload)
    share.push(host().registry, package, f"oci://{registry.host}/tiny:v2")
    assert {Path(name).parent for name in sent}.isdisjoint({package}), "the card and the configuration alone"

    def interrupt(arrival: object) -> None:
        if getattr(arrival, "file", "") == "model.onnx.data":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        share.pull(location, tmp_path / "out", progress=interrupt)
    arrived = []
    size = read_manifest(package).files["model.onnx.data"].size
    share.pull(location, tmp_path / "out", progress=lambda one: arrived.append(one.bytes_done))
    assert arrived[0] > 0, "what had come is counted first"
    assert contents(tmp_path / "out") == contents(package)
    assert size > 0
    assert [path.name for path in tmp_path.iterdir() if "zoo-partial" in path.name] == []


def test_a_policy_asks_for_signatures(
    registry: RealRegistry, package: Path, keys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "zoo-home"
    home.mkdir()
    (home / "trust.toml").write_text(f'[[trust]]\nlocation = "oci://{registry.host}/team/*"\nkey = "{keys[1]}"\n')
    share.push(host().registry, package, f"oci://{registry.host}/team/a:v1", key=keys[0])
    share.push(host().registry, package, f"oci://{registry.host}/team/b:v1")
    share.push(host().registry, package, f"oci://{registry.host}/other:v1")
    assert share.pull(f"oci://{registry.host}/team/a:v1", tmp_path / "a").signed_by == keys[1]
    with pytest.raises(ZooError, match="is not signed"):
        share.pull(f"oci://{registry.host}/team/b:v1", tmp_path / "b")
    assert share.pull(f"oci://{registry.host}/other:v1", tmp_path / "c").signed_by is None
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = other.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "other.pub").write_bytes(pem)
    with pytest.raises(ZooError, match=r"not signed by .*other\.pub"):
        share.pull(f"oci://{registry.host}/team/a:v1", tmp_path / "d", key=tmp_path / "other.pub")
    assert not (tmp_path / "d").exists()
    (home / "trust.toml").write_text("[[trust]]\n")
    assert "trust.toml: trust.0.location: this field is required" in run("pull", f"oci://{registry.host}/a:v1").stderr


# `htpasswd -nbB team secret`.
@pytest.mark.parametrize(
    "registry", ["team:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"], indirect=True, ids=["htpasswd"]
)
def test_credentials_are_those_that_docker_keeps(
    registry: RealRegistry, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location, docker = f"oci://{registry.host}/tiny:v1", tmp_path / "docker"
    monkeypatch.setenv("DOCKER_CONFIG", str(docker))
    with pytest.raises(ZooError, match=rf"refused \(401\); `docker login {registry.host}`"):
        share.push(host().registry, package, location)
    docker.mkdir()
    auths = {"auths": {registry.host: {"auth": base64.b64encode(b"team:secret").decode()}}}
    (docker / "config.json").write_text(json.dumps(auths))
    share.push(host().registry, package, location)
    assert contents(share.pull(location, tmp_path / "out").package.path) == contents(package)
    auths["auths"][registry.host]["auth"] = base64.b64encode(b"team:other").decode()
    (docker / "config.json").write_text(json.dumps(auths))
    with pytest.raises(ZooError, match="docker login"):
        share.pull(location, tmp_path / "other")


def test_places_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("oci://", "oci://host", "oci://host/UPPER:v1", "oci://host/a:v 1", "oci://u:p@host/a", "s3://x/y"):
        with pytest.raises(UsageError):
            open_remote(text)
    assert "the network is off" in run("pull", "oci://127.0.0.1:9/a:v1", "--offline").stderr
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with pytest.raises(ZooError, match=r"127\.0\.0\.1:9 cannot be reached"):
        open_remote("oci://127.0.0.1:9/a:v1").files()
