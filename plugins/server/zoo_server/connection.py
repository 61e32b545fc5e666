"""Connections that cost nothing to keep: slow heads, slow readers and too many of them are cut off.

uvicorn waits for a request's head, and for a client to read what was written, as long as that takes.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import struct

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from zoo_server.errors import ApiError
from zoo_server.logs import Log
from zoo_server.settings import ServerSettings

TOLD = 32
"""Connections over the limit that are told so before they are closed; more are closed at once."""
TELLING = 0.3
"""Seconds until such a connection is closed."""
RESERVE = 40 + TOLD
"""Descriptors for what is open in any case: the listener, the log, libraries, refused connections."""
PER_MODEL = 8
"""Descriptors that a loaded model may take: its files while they are opened, its worker."""


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
        self._refused = len(self.connections) > self.max_connections
        if self._refused:
            self._refuse()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        self._watch.cancel()
        self._stop_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; a head that is not complete in time ends the connection."""
        if self._refused:
            self.transport.close()  # what it asked is read, so that closing does not take the answer from it
            return
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
        """Refuse what is not HTTP, in the shape of every error here."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        error = ApiError(400, "not an HTTP request", code="invalid_http")
        headers = [*error.headers(), (b"connection", b"close")]
        events = (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=error.content()),
            h11.EndOfMessage(),
        )
        self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.transport.close()

    def _refuse(self) -> None:
        """Close a connection that is one too many: each costs a descriptor, whether it asks or not.

        The first few over the limit are told why, and have a moment to read it.
        """
        if self.log is not None:
            self.log.event("connection_refused", reason="too many connections", most=self.max_connections)
        if len(self.connections) > self.max_connections + TOLD:
            self.transport.abort()
            return
        error = ApiError(429, "too many connections; try again later", code="too_many_connections", retry_after=5)
        lines = [b"HTTP/1.1 429 Too Many Requests", *(b": ".join(header) for header in error.headers())]
        head = b"\r\n".join([*lines, b"connection: close", b"", b""])
        self.transport.write(head + error.content())
        if self.transport.can_write_eof():  # TLS cannot
            self.transport.write_eof()
        self.loop.call_later(TELLING, self.transport.abort)

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


def most_connections(wanted: int, models: int, backlog: int) -> int:
    """Say how many connections there may be, so that descriptors are left for models, workers and the next client.

    Args:
        wanted: the limit that is set.
        models: how many models may be loaded.
        backlog: connections that are accepted at once, before any is looked at.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + backlog + RESERVE + PER_MODEL * models
    if soft != resource.RLIM_INFINITY and soft < needed and (hard == resource.RLIM_INFINITY or soft < hard):
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, max(soft - (needed - wanted), soft // 4)))


def connection_class(settings: ServerSettings, log: Log, most: int | None = None) -> type[Connection]:
    """Make the class of a server's connections; ``most`` is how many there may be, by default as set."""
    limits = {
        "receive_timeout": settings.receive_timeout,
        "send_timeout": settings.send_timeout,
        "max_connections": settings.max_connections if most is None else most,
        "log": log,
    }
    return type("Connection", (Connection,), limits)
