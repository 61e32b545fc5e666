"""Behind a proxy: a path that the server is mounted at, and pages of other origins that may ask it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

App = Callable[[Any, Any, Any], Awaitable[None]]


class RootPath:
    """Takes the path that a proxy mounts the server at off requests, where the proxy leaves it on.

    Args:
        root: such as ``/zoo``; empty for none.
    """

    def __init__(self, app: App, root: str) -> None:
        self._app, self._root = app, root

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on; the mount point itself leads to the page, whose addresses are relative."""
        if scope["type"] != "http" or not self._root:
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        if path == self._root:
            headers = [(b"location", f"{self._root}/".encode()), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 307, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        if path.startswith(f"{self._root}/"):
            rest = path[len(self._root) :]
            raw = scope.get("raw_path")
            mounted = raw is not None and raw.startswith(self._root.encode() + b"/")
            scope = {**scope, "path": rest, "raw_path": raw[len(self._root.encode()) :] if mounted else rest.encode()}
        await self._app(scope, receive, send)
