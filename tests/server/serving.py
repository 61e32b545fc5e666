"""A server on a free port of the loopback interface, in a thread of the tests."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zoo_server.listening import bind, url
from zoo_server.logs import Log
from zoo_server.run import LOOPBACK, make_server
from zoo_server.served import served_models
from zoo_server.settings import ServerSettings

from zoo.plugins import host


@dataclass
class Served:
    """A running server."""

    url: str
    port: int
    server: Any
    lines: io.StringIO

    @property
    def pool(self) -> Any:
        return self.server.config.app.state.service.pool

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """What it logged so far."""
        found = [json.loads(line) for line in self.lines.getvalue().splitlines()]
        return [one for one in found if name is None or one["event"] == name]

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


@contextlib.contextmanager
def serving(packages: Sequence[Path], settings: ServerSettings | None = None, **changes: Any) -> Iterator[Served]:
    """Serve packages while the block runs; everything is closed at its end."""
    models = served_models(host().registry, [str(one) for one in packages])
    settings = replace(settings or ServerSettings(), **changes)
    settings = replace(settings, hosts=LOOPBACK | settings.allow_host)
    listener = bind("127.0.0.1", 0)
    lines = io.StringIO()
    log = Log(lines)
    server = make_server(models, settings, log)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield Served(url(listener, settings), listener.getsockname()[1], server, lines)
    finally:
        server.should_exit = True
        thread.join(30)
        log.close()
        assert not thread.is_alive(), "the server did not stop"


def post(served: Served, path: str, body: Any, **headers: str) -> tuple[int, dict[str, str], Any]:
    """Post JSON, or bytes as they are; return status, headers and what came."""
    import httpx2

    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    # No certificates: loading them takes longer than most requests.
    found = httpx2.post(f"{served.url}{path}", content=content, headers=sent, timeout=60, verify=False)
    try:
        value = found.json()
    except ValueError:
        value = found.text
    return found.status_code, dict(found.headers), value


def read_all(socket: socket.socket) -> bytes:
    """Read until the other side closes."""
    parts = []
    while part := socket.recv(65536):
        parts.append(part)
    return b"".join(parts)
