"""The gate that every request passes: a name it may come under, a key, and a line in the log when it is answered."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from zoo_server.errors import ApiError, send_error
from zoo_server.logs import Log
from zoo_server.settings import ServerSettings

if TYPE_CHECKING:
    from zoo_server.metrics import Metrics
    from zoo_server.pool import ModelPool

App = Callable[[Any, Any, Any], Awaitable[None]]
COMPLETIONS = frozenset(
    {"/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/rerank", "/v2/rerank"}
)
OPEN = frozenset({"/", "/health", "/healthz", "/ping"})
OPEN_FOLDER = "/static/"
"""What needs no key: the page itself and its files, and whether the server is well."""


class Gate:
    """Wraps the application: checks what comes in before anything reads it, and accounts for what goes out."""

    def __init__(self, app: App, pool: ModelPool, settings: ServerSettings, log: Log, metrics: Metrics) -> None:
        self._app, self._pool, self._settings, self._log, self._metrics = app, pool, settings, log, metrics
        key = settings.api_key
        self._key = None if key is None else hashlib.sha256(key.encode()).digest()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = f"req_{uuid.uuid4().hex}"
        record: dict[str, Any] = {}
        scope["zoo.record"] = record
        status = 0

        async def numbered(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
                message = {**message, "headers": headers}
            await send(message)

        try:
            try:
                self._check(scope)
                self._check_busy(scope)
                await self._app(scope, receive, numbered)
            except ApiError as error:
                record.setdefault("outcome", error.code or error.kind)
                await send_error(numbered, error)
            except Exception as error:
                self._log.error(error, id=request_id)
                record["outcome"] = "error"
                if status:
                    raise Broken from None  # the connection ends: what was sent is not a whole answer
                await send_error(numbered, ApiError(500, "internal error; see the server's log"))
        finally:
            # The route as it was declared: what a client makes up is neither logged nor counted by name.
            route = getattr(scope.get("route"), "path", scope["path"] if scope["path"] in COMPLETIONS else "other")
            self._metrics.requests.labels(route, str(status)).inc()
            seconds = round(time.perf_counter() - started, 6)
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._log.event(
                "request", id=request_id, method=method, route=route, status=status, seconds=seconds, **record
            )

    def _check(self, scope: Any) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        hosts = self._settings.hosts
        name = _host_name(headers.get(b"host", b""))
        if hosts is not None and name not in hosts and not name.endswith(".localhost"):
            shown = name[:100] if name.isprintable() else "another name"
            message = (
                f"this server answers under the names of this machine only, and the request asks for {shown!r}; "
                "zoo serve --allow-host NAME lets a name in"
            )
            raise ApiError(403, message, code="wrong_host")
        path = scope["path"]
        if self._key is None or path in OPEN or path.startswith(OPEN_FOLDER):
            return
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if not given.strip() or scheme.lower() != b"bearer":
            raise ApiError(401, "no API key: send Authorization: Bearer KEY", code="missing_api_key")
        # Digests are of one length, so that the comparison tells nothing of the key, not even that.
        if not hmac.compare_digest(hashlib.sha256(given.strip()).digest(), self._key):
            raise ApiError(401, "wrong API key", code="invalid_api_key")

    def _check_busy(self, scope: Any) -> None:
        if scope["path"] in COMPLETIONS:
            self._pool.check_busy()


METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH"})


class Broken(Exception):
    """Says to the HTTP server that an answer ends in the middle; the reason is logged already."""


_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:]*))(?::[0-9]*)?")
"""A Host header: an IPv6 address in brackets or a name, and a port. Source: RFC 9110, 7.2, and RFC 3986, 3.2.2."""


def _host_name(header: bytes) -> str:
    """Take the port off a Host header; what is not one stays as it is, and is not a name of this machine."""
    text = header.decode("latin-1").strip().lower()
    match = _HOST.fullmatch(text)
    return text if match is None else match[1] or match[2]
