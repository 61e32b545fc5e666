"""Connections that cost nothing to keep: slow heads, slow readers and too many of them are cut off.

uvicorn waits for a request's head, and for a client to read what was written, as long as that takes.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from zoo.server.errors import ApiError
from zoo.server.logs import Log
from zoo.server.settings import ServerSettings


class Connection(H11Protocol):
    """A connection with time limits."""

    receive_timeout = 30.0
    send_timeout = 30.0
    max_connections = 512
    log: Log | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch the connection."""
        super().connection_made(transport)
        self._head: asyncio.TimerHandle | None = None
        self._unread = 0
        self._watch = self.loop.call_later(self.send_timeout, self._look)
        self._await_head()
        if len(self.connections) > self.max_connections:
            self.app = _full

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        self._watch.cancel()
        self._stop_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; a head that is not complete in time ends the connection."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._await_head()
        else:
            self._stop_head()

    def on_response_complete(self) -> None:
        """Go on to the next request, whose head may be there already."""
        super().on_response_complete()
        if not self.cycle.response_complete:
            self._stop_head()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, in the shape of every error here."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        error = ApiError(400, "this is no HTTP request", code="invalid_http")
        headers = [*error.headers(), (b"connection", b"close")]
        events = (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=error.content()),
            h11.EndOfMessage(),
        )
        self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.transport.close()

    def _await_head(self) -> None:
        if self._head is None:
            self._head = self.loop.call_later(self.receive_timeout, self._cut, "no request came in time")

    def _stop_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _cut(self, reason: str) -> None:
        if self.log is not None:
            self.log.event("connection_cut", reason=reason)
        self.transport.abort()

    def _look(self) -> None:
        """Cut the connection off if nothing of what waits for its client was read since the last look."""
        unread = self.transport.get_write_buffer_size()
        stuck = self.flow.write_paused or self.transport.is_closing()
        if stuck and unread and self._unread and unread >= self._unread:
            connection = self.transport.get_extra_info("socket")
            if connection is not None:  # what the kernel holds goes too
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._cut("nothing was read in time")
            return
        self._unread = unread if stuck else 0
        self._watch = self.loop.call_later(self.send_timeout, self._look)


async def _full(scope: Any, receive: Any, send: Any) -> None:
    """Answer a connection that is one too many."""
    error = ApiError(429, "too many connections; try again later", code="too_many_connections", retry_after=5)
    headers = [*error.headers(), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": error.content()})


def connection_class(settings: ServerSettings, log: Log) -> type[Connection]:
    """Make the class of a server's connections."""
    limits = {
        "receive_timeout": settings.receive_timeout,
        "send_timeout": settings.send_timeout,
        "max_connections": settings.max_connections,
        "log": log,
    }
    return type("Connection", (Connection,), limits)
