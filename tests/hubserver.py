"""A hub in this process: the HTTP protocol that huggingface_hub speaks, with faults on demand.

What it serves is as the hub's API documents it and as huggingface_hub asks for it: ``/api/models/{id}/revision/{rev}``,
``/api/models/{id}/tree/{rev}`` and ``/{id}/resolve/{rev}/{file}`` with etag, commit and linked size, ranges included.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Repo:
    """A repository with one revision."""

    files: dict[str, bytes]
    commit: str = "0123456789abcdef0123456789abcdef01234567"
    card: dict[str, Any] = field(default_factory=dict)
    gated: bool = False
    token: str | None = None
    """Who asks for a file without it is turned away."""
    large: frozenset[str] = frozenset()
    """Files in large-file storage besides those that end as weights do; their etag is their SHA-256."""

    def is_large(self, name: str) -> bool:
        return name in self.large or name.endswith((".safetensors", ".bin", ".model", ".h5", ".zip"))

    def etag(self, name: str) -> str:
        data = self.files[name]
        if self.is_large(name):
            return hashlib.sha256(data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]


Fault = Callable[["Handler", Request], bool]
"""Answers a request itself and says so, or lets it pass."""


class HubServer(ThreadingHTTPServer):
    """Repositories by ``id``, or ``datasets/id``; what was asked; the faults still to come."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, Repo] = {}
        self.plain: dict[str, bytes] = {}
        """Files at addresses of their own, by path."""
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.contents: dict[str, bytes] = {}
        """What is sent for a file instead of what was hashed, by its name."""
        self.sent = 0
        """Bytes of file contents that were sent."""
        self.listing = "siblings"
        """``tree`` leaves the siblings out, as some mirrors do."""
        self.large: dict[str, bytes] = {}
        """What was uploaded into large-file storage, by SHA-256."""
        self.storage: str | None = None
        """Another address that large files are redirected to."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, name: str, folder: Path | None = None, files: dict[str, bytes] | None = None, **options: Any) -> Repo:
        """Serve a folder, or files, as a repository."""
        found = {} if folder is None else {
            str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
        }  # fmt: skip
        self.repos[name] = Repo(found | (files or {}), **options)
        return self.repos[name]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def asked(self, method: str, part: str) -> list[Request]:
        """List the requests of a method whose path holds a text."""
        return [one for one in self.requests if one.method == method and part in one.path]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._receive()

    def do_PUT(self) -> None:
        self._receive()

    def _receive(self) -> None:
        """Take a repository or a commit, as the hub's API and git-lfs' batch API are documented."""
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size) if size or "chunked" not in self.headers.get("Transfer-Encoding", "") else b""
        if not size and "chunked" in self.headers.get("Transfer-Encoding", ""):
            while length := int(self.rfile.readline(), 16):
                body += self.rfile.read(length)
                self.rfile.readline()
            self.rfile.readline()
        self.server.requests.append(Request(self.command, unquote(self.path), {}))
        path = unquote(urlsplit(self.path).path)
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            self.server.repos.setdefault(name, Repo({}))
            self._json({"url": f"{self.server.url}/{name}", "name": name})
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            large = self.server.repos[path.removeprefix("/api/models/").partition("/preupload/")[0]]
            files = json.loads(body)["files"]
            modes = [
                {"path": one["path"], "shouldIgnore": False,
                 "uploadMode": "lfs" if large.is_large(one["path"]) else "regular"} for one in files
            ]  # fmt: skip
            self._json({"files": modes})
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            for one in objects:
                if one["oid"] not in self.server.large:
                    one["actions"] = {"upload": {"href": f"{self.server.url}/lfs/{one['oid']}"}}
            self._json({"transfer": "basic", "objects": objects})
        elif path.startswith("/lfs/"):
            self.server.large[path.removeprefix("/lfs/")] = body
            self.send(200)
        elif "/commit/" in path:
            self._commit(path.removeprefix("/api/models/").partition("/commit/")[0], body)
        else:
            self.send(404)

    def _commit(self, name: str, body: bytes) -> None:
        repo = self.server.repos[name]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repo.files[value["path"]] = self.server.large[value["oid"]]
        self._json({"commitOid": repo.commit, "commitUrl": f"{self.server.url}/{name}/commit/{repo.commit}"})

    def log_message(self, *_: Any) -> None:
        pass

    def send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Send a whole answer."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _answer(self) -> None:
        request = Request(self.command, unquote(self.path), {k.lower(): v for k, v in self.headers.items()})
        self.server.requests.append(request)
        for fault in list(self.server.faults):
            if fault(self, request):
                return
        self._route(request)

    def _route(self, request: Request) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/api/"):
            self._api(path)
        elif "/resolve/" in path:
            self._resolve(path, request)
        elif path in self.server.plain:
            self._body(self.server.plain[path], request, {})
        else:
            self.send(404)

    def _find(self, name: str) -> Repo | None:
        repo = self.server.repos.get(name)
        if repo is None:
            self.send(404, b'{"error":"Repository not found"}', {"X-Error-Code": "RepoNotFound"})
        return repo

    def _api(self, path: str) -> None:
        kind, _, rest = path.removeprefix("/api/").partition("/")
        head, _, tail = rest.partition("/revision/") if "/revision/" in rest else rest.partition("/tree/")
        repo = self._find(("datasets/" if kind == "datasets" else "") + head)
        if repo is None:
            return
        if tail and tail.split("/")[0] not in ("main", repo.commit, "v1"):
            self.send(404, b'{"error":"Invalid rev id"}', {"X-Error-Code": "RevisionNotFound"})
            return
        blobs = parse_qs(urlsplit(self.path).query).get("blobs")
        if "/tree/" in rest:
            self._json(
                [{"type": "file", "path": n, "size": len(d), "oid": repo.etag(n)} for n, d in repo.files.items()]
            )
            return
        siblings = []
        for name, data in repo.files.items() if self.server.listing == "siblings" else ():
            sibling: dict[str, Any] = {"rfilename": name}
            if blobs:
                sibling |= {"size": len(data), "blobId": repo.etag(name)}
                if repo.is_large(name):
                    sibling["lfs"] = {"sha256": repo.etag(name), "size": len(data), "pointerSize": 130}
            siblings.append(sibling)
        self._json(
            {"id": head, "sha": repo.commit, "gated": repo.gated, "private": False, "cardData": repo.card,
             "siblings": siblings, "tags": [], "downloads": 0, "likes": 0}
        )  # fmt: skip

    def _json(self, value: Any) -> None:
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _resolve(self, path: str, request: Request) -> None:
        head, _, tail = path.strip("/").partition("/resolve/")
        revision, _, name = tail.partition("/")
        repo = self._find(head)
        if repo is None:
            return
        common = {"X-Repo-Commit": repo.commit}
        if revision not in ("main", repo.commit, "v1"):
            self.send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif repo.token is not None and request.headers.get("authorization") != f"Bearer {repo.token}":
            code = {"X-Error-Code": "GatedRepo"} if repo.gated else {"X-Error-Code": "RepoNotFound"}
            self.send(401 if "authorization" not in request.headers else 403, b'{"error":"Access is restricted"}', code)
        elif name not in repo.files:
            self.send(404, b"", {"X-Error-Code": "EntryNotFound", **common})
        elif repo.is_large(name):
            linked = {**common, "X-Linked-Size": str(len(repo.files[name])), "X-Linked-Etag": f'"{repo.etag(name)}"'}
            if self.server.storage is not None:
                self.send(302, b"", {**linked, "Location": f"{self.server.storage}{path}"})
            else:
                self._body(self.server.contents.get(name, repo.files[name]), request, {**linked, "ETag": '"storage"'})
        else:
            data = self.server.contents.get(name, repo.files[name])
            self._body(data, request, {**common, "ETag": f'"{repo.etag(name)}"'})

    def _body(self, data: bytes, request: Request, headers: dict[str, str]) -> None:
        start, stop, status = 0, len(data), 200
        wanted = request.headers.get("range", "")
        if wanted.startswith("bytes="):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start = int(first)
            stop = min(int(last) + 1 if last else len(data), len(data))
            if start >= len(data):
                self.send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                return
            status = 206
            headers = {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
        self.send(status, data[start:stop], {**headers, "Content-Length": str(stop - start)})
        if self.command == "GET":
            self.server.sent += stop - start


@contextmanager
def hub() -> Iterator[HubServer]:
    """Run a hub until the block ends."""
    server = HubServer()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


# Faults.


def _matches(request: Request, method: str | None, part: str) -> bool:
    return part in request.path and method in (None, request.method)


def status(
    code: int, part: str = "", *, times: int = 10**9, method: str | None = None, headers: dict[str, str] | None = None
) -> Fault:
    """Answer with a status, so many times."""
    left = [times]

    def fault(handler: Handler, request: Request) -> bool:
        if not _matches(request, method, part) or left[0] <= 0:
            return False
        left[0] -= 1
        handler.send(code, b"", headers or {})
        return True

    return fault


def break_off(part: str, after: int, *, times: int = 1) -> Fault:
    """Send ``after`` bytes of a file's answer and close the connection, so many times."""
    left = [times]

    def fault(handler: Handler, request: Request) -> bool:
        if not _matches(request, "GET", part) or left[0] <= 0:
            return False
        left[0] -= 1
        whole, sink = handler.wfile, _Cut(handler.wfile, after)
        handler.wfile = sink  # type: ignore[assignment]
        faults, handler.server.faults = handler.server.faults, []
        try:
            handler._route(request)
        finally:
            handler.server.faults = faults
            handler.wfile = whole
        handler.close_connection = True
        return True

    return fault


class _Cut:
    """A stream that swallows what comes after so many bytes of the body."""

    def __init__(self, sink: Any, after: int) -> None:
        self._sink, self._left, self._head = sink, after, True

    def write(self, data: bytes) -> int:
        if self._head:
            self._head = False
            self._sink.write(data)
        elif self._left > 0:
            self._sink.write(data[: self._left])
            self._left -= len(data)
        return len(data)

    def flush(self) -> None:
        self._sink.flush()


def without_ranges() -> Fault:
    """Ignore that a part was asked for."""

    def fault(_: Handler, request: Request) -> bool:
        request.headers.pop("range", None)
        return False

    return fault


def slow(part: str, seconds: float) -> Fault:
    """Wait before an answer."""

    def fault(_: Handler, request: Request) -> bool:
        if _matches(request, "GET", part):
            threading.Event().wait(seconds)
        return False

    return fault
