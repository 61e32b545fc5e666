"""OCI registries, as CNCF's ModelPack lays models out in them.

One layer a file, raw, so that its digest is the SHA-256 of ``zoo.json`` and a file that the registry has is not sent
again. Media types and configuration: https://github.com/modelpack/model-spec (docs/spec.md, docs/config.md). oras
speaks to the registry and finds the credentials of ``docker login``; files come down by our own resumed transfer.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from zoo.declarations.manifest import Manifest
from zoo.errors import UsageError, ZooError
from zoo.package.folder import MAX_FILES
from zoo.sources.hub_errors import Place
from zoo.sources.transfer import Wanted
from zoo_share.remote import Step, Upload

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT = "application/vnd.cncf.model.manifest.v1+json"
CONFIG = "application/vnd.cncf.model.config.v1+json"
LAYERS = {
    "weight": "application/vnd.cncf.model.weight.v1.raw",
    "config": "application/vnd.cncf.model.weight.config.v1.raw",
    "doc": "application/vnd.cncf.model.doc.v1.raw",
    "signature": "application/vnd.dev.sigstore.bundle.v0.3+json",
}
FILEPATH = "org.cncf.model.filepath"
MAX_MANIFEST = 4 * 2**20
"""Bytes of an OCI manifest; registries take no larger ones."""
CHUNK = 16 * 2**20
TIMEOUT = 60.0
"""Seconds that a registry may say nothing."""
_LOCATION = re.compile(
    r"oci://(?P<host>[\w.-]+(?::\d{1,5})?|\[[0-9a-f:]+\](?::\d{1,5})?)/(?P<repository>[a-z0-9][a-z0-9._/-]{0,254})"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?P<digest>@sha256:[0-9a-f]{64})?"
)
_LOCAL = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class OciRemote:
    """A package in a registry."""

    def __init__(self, location: str, *, plain_http: bool = False) -> None:
        match = _LOCATION.fullmatch(location)
        if match is None:
            raise UsageError(f"{location!r} is not a registry address; write oci://host/repository:tag")
        try:
            import oras.container
            import oras.provider
        except ImportError:
            raise UsageError("registries need the package oras; pip install 'model-zoo-framework[share]'") from None
        self.location = location
        host, reference = match["host"], match["digest"] or f":{match['tag'] or 'latest'}"
        insecure = plain_http or _LOCAL.fullmatch(host) is not None
        self._registry = oras.provider.Registry(host, insecure=insecure)
        # Its own request sleeps for two minutes before it says that nobody answers.
        once = oras.provider.Registry.do_request.__wrapped__
        self._registry.do_request = once.__get__(self._registry)
        self._registry.session.request = partial(self._registry.session.request, timeout=TIMEOUT)
        self._container = oras.container.Container(f"{match['repository']}{reference}", host)
        self._container.registry = host  # a name without a dot is taken for a part of the repository
        self._base = f"{'http' if insecure else 'https'}://"
        self.place = Place(location, None, f"{self._base}{host}", "address")
        self._host = host
        self._expected = match["digest"].removeprefix("@") if match["digest"] else None

    def files(self) -> Mapping[str, Wanted]:
        """List the layers by the paths that they state."""
        raw = self._manifest()
        layers = raw.get("layers")
        if not isinstance(layers, list) or len(layers) > MAX_FILES:
            raise ZooError(f"{self.location}: not a model, its manifest lists no layers")
        files: dict[str, Wanted] = {}
        headers: dict[str, str] | None = None
        for layer in layers:
            layer = layer if isinstance(layer, dict) else {}
            annotations = layer.get("annotations")
            name = annotations.get(FILEPATH) if isinstance(annotations, dict) else None
            digest, size = layer.get("digest"), layer.get("size")
            if not isinstance(name, str) or not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
                continue  # a layer of somebody else's
            if not isinstance(size, int) or size < 0 or name in files:
                raise ZooError(f"{self.location}: its manifest lists {name[:200]!r} twice, or without a size")
            if headers is None:
                headers = self._authorization(digest)
            url = f"{self._base}{self._container.get_blob_url(digest)}"
            files[name] = Wanted(name, url, size, digest.removeprefix("sha256:"), headers)
        return files

    def push(self, uploads: Sequence[Upload], manifest: Manifest, step: Step | None = None) -> str:
        """Send the layers that the registry lacks, then the configuration, then the manifest that names them."""
        if self._expected is not None:
            raise UsageError(f"{self.location}: cannot push to a digest; push to a tag")
        self._call(self._log_in)
        layers = []
        for done, upload in enumerate(uploads):
            if step is not None:
                step(upload.name, done, len(uploads))
            layer = {
                "mediaType": LAYERS[upload.kind], "digest": f"sha256:{upload.sha256}", "size": upload.size,
                "annotations": {FILEPATH: upload.name},
            }  # fmt: skip
            self._send(upload.path, layer)
            layers.append(layer)
        config = _configuration(manifest, layers)
        described = {"mediaType": CONFIG, "digest": f"sha256:{hashlib.sha256(config).hexdigest()}", "size": len(config)}
        self._send_bytes(config, described)
        document = {
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": ARTIFACT, "config": described, "layers": layers,
        }  # fmt: skip
        raw = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
        url = f"{self._base}{self._container.manifest_url()}"
        put = lambda: self._registry.do_request(url, "PUT", data=raw, headers={"Content-Type": MANIFEST})  # noqa: E731
        self._check(self._call(put), "the manifest")
        return f"{self.location.partition('@')[0]}@sha256:{hashlib.sha256(raw).hexdigest()}"

    def _log_in(self) -> None:
        """Find the credentials that docker keeps for the registry, and the way in which it wants them."""
        auth, config = self._registry.auth, Path(os.environ.get("DOCKER_CONFIG", "~/.docker")).expanduser()
        auth.load_configs(self._container, [str(path) for path in [config / "config.json"] if path.is_file()])
        asked = self._registry.session.request("GET", f"{self._base}{self._host}/v2/").headers
        if asked.get("Www-Authenticate", "").lower().startswith("basic"):
            stored = getattr(auth, "_basic_auth", None)
            if stored is None:
                raise self._refused(401)
            import oras.auth

            self._registry.auth = oras.auth.get_auth_backend("basic", self._registry.session)
            self._registry.auth._basic_auth = stored
            self._registry.session.headers["Authorization"] = f"Basic {stored}"

    def _manifest(self) -> dict[str, Any]:
        self._call(self._log_in)
        url = f"{self._base}{self._container.manifest_url()}"
        answer = self._call(lambda: self._registry.do_request(url, "GET", headers={"Accept": MANIFEST}, stream=True))
        self._check(answer, "the manifest")
        raw = self._call(lambda: answer.raw.read(MAX_MANIFEST + 1, decode_content=True))
        if len(raw) > MAX_MANIFEST:
            raise ZooError(f"{self.location}: its manifest is larger than {MAX_MANIFEST} bytes")
        if self._expected not in (None, f"sha256:{hashlib.sha256(raw).hexdigest()}"):
            raise ZooError(f"{self.location}: the registry returned a manifest that does not match the digest")
        try:
            document = json.loads(raw)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise ZooError(f"{self.location}: its manifest is not JSON")
        return document

    def _authorization(self, digest: str) -> dict[str, str]:
        """Find out what a registry wants to see before it hands a blob out."""
        url = f"{self._base}{self._container.get_blob_url(digest)}"
        sent = self._call(lambda: self._registry.do_request(url, "HEAD")).request.headers
        return {"Authorization": sent["Authorization"]} if "Authorization" in sent else {}

    def _send(self, path: Path, layer: dict[str, Any]) -> None:
        send = lambda: self._registry.upload_blob(  # noqa: E731
            str(path), self._container, layer, do_chunked=True, chunk_size=CHUNK
        )
        self._check(self._call(send), path.name)

    def _send_bytes(self, raw: bytes, layer: dict[str, Any]) -> None:
        with tempfile.NamedTemporaryFile(prefix="zoo-config-") as file:
            file.write(raw)
            file.flush()
            self._send(Path(file.name), layer)

    def _call(self, call: Callable[[], Any]) -> Any:
        """Call oras, whose errors become one line."""
        import requests

        try:
            return call()
        except ZooError:
            raise
        except requests.exceptions.SSLError as error:
            raise ZooError(f"{self.location}: no TLS there ({str(error)[:120]}); --plain-http turns TLS off") from None
        except requests.exceptions.RequestException as error:
            kind = type(error).__name__
            raise ZooError(f"{self.location}: {self.place.host} cannot be reached ({kind}); try again") from None
        except (ValueError, KeyError, OSError) as error:
            text = " ".join(str(error).split())[:200]
            if "authent" in text:
                text = "it needs other credentials; `docker login` stores them"
            raise ZooError(f"{self.location}: {text}") from None

    def _check(self, answer: Any, what: str) -> None:
        status = answer.status_code
        if status in (200, 201, 202, 204):
            return
        if status in (401, 403):
            raise self._refused(status)
        if status == 404:
            raise ZooError(f"{self.location}: no such package (404)")
        raise ZooError(f"{self.location}: {self.place.host} does not support {what} ({status})")

    def _refused(self, status: int) -> ZooError:
        return ZooError(f"{self.location}: refused ({status}); `docker login {self._host}` stores credentials")


def _configuration(manifest: Manifest, layers: Sequence[Mapping[str, Any]]) -> bytes:
    """Write ModelPack's configuration: what the model is, and the digests of its layers."""
    recipe = manifest.recipe
    document = {
        "descriptor": {
            "name": recipe.model,
            "version": recipe.hash[:12],
            "licenses": [recipe.licence.id],
            **({"family": recipe.family} if recipe.family else {}),
            **({"sourceURL": f"https://huggingface.co/{recipe.weights.hub}"} if recipe.weights.hub else {}),
            **({"revision": recipe.weights.revision} if recipe.weights.revision else {}),
        },
        "config": {
            "architecture": recipe.architecture.type,
            "format": "onnx" if any(name.endswith(".onnx") for name in manifest.files) else recipe.target.name,
            "paramSize": str(manifest.parameters),
            "precision": recipe.precision,
            "quantization": recipe.quantizer.name,
        },
        "modelfs": {"type": "layers", "diffIds": [layer["digest"] for layer in layers]},
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
