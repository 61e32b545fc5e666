"""A small HTTP client over asyncio streams: posts JSON, reads answers whole or event by event, and times what comes.

It does little on purpose: client and server share the machine, and a client library's work would be measured too.
"""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Answer:
    """What came of a request; times are `time.perf_counter()` seconds."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    """The JSON, of an answer that was no stream."""
    events: list[Any] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """When each event that carries text came."""
    sent: float = 0.0
    finished: float = 0.0
    whole: bool = False
    """The stream ended as it should."""

    def texts(self) -> dict[int, str]:
        """Return the text of each choice."""
        found: dict[int, str] = {}
        for event in self.events if self.events else [self.body]:
            for choice in event.get("choices", ()):
                message = choice.get("delta") or choice.get("message") or choice
                text = message.get("text") if "text" in message else message.get("content")
                found[choice["index"]] = found.get(choice["index"], "") + (text or "")
        return found

    def finishes(self) -> list[str]:
        """Return how each choice ended."""
        choices = [one for event in (self.events or [self.body]) for one in event.get("choices", ())]
        return [one["finish_reason"] for one in sorted(choices, key=lambda one: one["index"]) if one["finish_reason"]]

    @property
    def tokens(self) -> int:
        """Tokens of the answers, by the server's own count."""
        usages = [one["usage"] for one in (self.events or [self.body]) if one.get("usage")]
        return int(usages[-1]["completion_tokens"]) if usages else 0


async def connect(url: str, receive_buffer: int | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection to a server."""
    parts = urlsplit(url)
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, (parts.hostname, parts.port))
    return await asyncio.open_connection(sock=connection, limit=2**24)


def request(url: str, path: str, body: bytes, content_type: str = "application/json") -> bytes:
    """Write a request that ends its connection."""
    host = urlsplit(url).netloc
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\nConnection: close\r\n"
    return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


async def post(
    url: str, path: str, body: Any, *, limit: float = 300.0, on_event: Callable[[Answer], bool] | None = None
) -> Answer:
    """Post JSON and read the answer.

    Args:
        body: a value, or bytes as they are.
        limit: seconds to wait at most.
        on_event: called after each event of a stream; True leaves.
    """
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with asyncio.timeout(limit):
        reader, writer = await connect(url)
        try:
            answer = Answer(sent=time.perf_counter())
            writer.write(request(url, path, raw))
            await read_answer(reader, answer, on_event)
        finally:
            writer.close()
    return answer


async def read_answer(
    reader: asyncio.StreamReader, answer: Answer, on_event: Callable[[Answer], bool] | None = None
) -> None:
    """Read an answer, whole or as a stream."""
    status = await reader.readline()
    if not status:
        raise ConnectionResetError("closed without an answer")
    answer.status = int(status.split()[1])
    while (line := await reader.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode().partition(":")
        answer.headers[name.strip().lower()] = value.strip()
    if not answer.headers.get("content-type", "").startswith("text/event-stream"):
        content = b"".join([part async for part in _parts(reader, answer)])
        answer.finished = time.perf_counter()
        answer.body, answer.whole = json.loads(content), True
        return
    rest = b""
    async for part in _parts(reader, answer):
        now = time.perf_counter()
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if not line.startswith(b"data: "):
                continue
            if line[6:].strip() == b"[DONE]":
                answer.whole, answer.finished = True, now
                continue
            event = json.loads(line[6:])
            answer.events.append(event)
            if any(_text(choice) for choice in event.get("choices", ())):
                answer.times.append(now)
            if on_event is not None and on_event(answer):
                return
    answer.finished = answer.finished or time.perf_counter()


def _text(choice: Any) -> Any:
    return choice.get("text") or (choice.get("delta") or {}).get("content")


async def _parts(reader: asyncio.StreamReader, answer: Answer) -> AsyncIterator[bytes]:
    """Yield the body in the pieces that it was sent in."""
    if answer.headers.get("transfer-encoding") == "chunked":
        while size := int((await reader.readline()).strip() or b"0", 16):
            yield (await reader.readexactly(size + 2))[:-2]
        return
    length = answer.headers.get("content-length")
    yield await (reader.read(-1) if length is None else reader.readexactly(int(length)))
