"""Read a request's body: within its limit, in time, and only where it says that it is JSON."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from zoo_server.errors import ApiError, invalid
from zoo_server.schemas import RequestPart
from zoo_server.settings import ServerSettings

if TYPE_CHECKING:
    from starlette.requests import Request


SHARE = 16
"""Bodies of the largest size that may be in memory together, until they are parsed."""
SMALL = 16 * 1024
"""Bytes of a body that is parsed at once, in a millisecond; larger ones are parsed beside the event loop."""
MAX_VALUES = 1_000_000
"""Texts and numbers of a body."""
MAX_CONTAINERS = 50_000
"""Lists and objects of a body; an empty list of two bytes takes sixty, and the interpreter's time to watch it."""
_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
LINGER = 1.0
"""Seconds in which the rest of a refused body is thrown away, so that its sender gets to read why."""
GZIP = b"\x1f\x8b"
"""How compressed bodies begin, and no JSON does."""
Asked = TypeVar("Asked", bound=RequestPart)


class Arriving:
    """Counts the bytes of all bodies that are being received and parsed, so that many clients take bounded memory.

    Attributes:
        parsers: threads in which larger bodies are parsed, few at once.
    """

    def __init__(self, max_body: int, parsers: Executor | None = None) -> None:
        self.limit = SHARE * max_body
        self.bytes = 0
        self.parsers = parsers

    def take(self, size: int) -> None:
        """Count what came.

        Raises:
            ApiError: 429, it is more than all together may have.
        """
        if self.bytes + size > self.limit:
            raise ApiError(
                429, "too many bytes are being received; try again later", code="rate_limit_exceeded", retry_after=2
            )
        self.bytes += size


def describe_body(kind: type[RequestPart]) -> dict[str, Any]:
    """Describe a body to OpenAPI; it is read by hand, within limits."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": kind.model_json_schema()}}}}


async def read_body(request: Request, kind: type[Asked], settings: ServerSettings, arriving: Arriving) -> Asked:
    """Read and check a body.

    Raises:
        ApiError: it is too large, too slow, compressed, not JSON, or not what ``kind`` says.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        # It keeps web pages out, too: a browser asks first before it sends JSON to another site.
        raise ApiError(415, "the body must be JSON: send Content-Type: application/json", code="unsupported_media_type")
    raw, held = await _read(request, settings, arriving)
    try:
        return await _parse_off_loop(raw, request, kind, arriving)
    finally:
        arriving.bytes -= held


async def _parse_off_loop(raw: bytes, request: Request, kind: type[Asked], arriving: Arriving) -> Asked:
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity") or raw.startswith(GZIP):
        name = "gzip" if raw.startswith(GZIP) else coding[:40]
        message = f"the body is compressed ({name}); send it uncompressed"
        raise ApiError(415, message, code="unsupported_encoding")
    if len(raw) <= SMALL:
        return parse(raw, kind)
    return await asyncio.get_running_loop().run_in_executor(arriving.parsers, parse, raw, kind)


def parse(raw: bytes, kind: type[Asked]) -> Asked:
    """Parse and check a body; what it takes is bounded by its bytes, and it stops at the first mistake.

    Raises:
        ApiError: it is not JSON, holds too many values, or is not what ``kind`` says.
    """
    if len(raw) > SMALL:
        _check_work(raw)
    try:
        asked = kind.model_validate_json(raw)
    except ValidationError as error:
        raise invalid(error) from None
    asked.check()
    return asked


def _check_work(raw: bytes) -> None:
    """Refuse a body of very many values, before any of them is made.

    Raises:
        ApiError: it has more than ``MAX_CONTAINERS`` lists and objects, or more than ``MAX_VALUES`` other values.
    """
    outside = _TEXT.sub(b"", raw)
    containers = outside.count(b"[") + outside.count(b"{")
    if containers > MAX_CONTAINERS:
        message = f"the body holds more than {MAX_CONTAINERS} lists and objects; send fewer in one request"
        raise ApiError(400, message, code="invalid_value")
    if outside.count(b",") > MAX_VALUES:
        message = f"the body holds more than {MAX_VALUES} values; send a prompt as text"
        raise ApiError(400, message, code="invalid_value")


async def _read(request: Request, settings: ServerSettings, arriving: Arriving) -> tuple[bytes, int]:
    """Receive a body; return it and how many of its bytes are counted as arriving, which the caller gives back."""
    from starlette.requests import ClientDisconnect

    limit, complete = settings.max_body, False
    stated = request.headers.get("content-length", "")
    chunks, size, held, over = [], 0, 0, stated.isdecimal() and len(stated) < 20 and int(stated) > limit
    try:
        async with asyncio.timeout(settings.receive_timeout):
            stream = request.stream()
            if not over:
                async for chunk in stream:
                    size += len(chunk)
                    if size > limit:
                        over = True
                        break
                    arriving.take(len(chunk))
                    held += len(chunk)
                    chunks.append(chunk)
        if over:
            chunks.clear()
            try:
                async with asyncio.timeout(LINGER):
                    async for _ in stream:
                        pass
            except TimeoutError:
                pass
            raise ApiError(413, f"the body is larger than {limit} bytes", code="body_too_large")
        complete = True
    except TimeoutError:
        raise ApiError(408, f"the body did not arrive within {settings.receive_timeout:g} s", code="timeout") from None
    except ClientDisconnect:
        raise ApiError(400, "the client disconnected before its body was complete", code="disconnected") from None
    finally:
        if not complete:
            arriving.bytes -= held
    return b"".join(chunks), held
