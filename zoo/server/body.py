"""Read a request's body: within its limit, in time, and only where it says that it is JSON."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from zoo.server.errors import ApiError, invalid
from zoo.server.schemas import Part

if TYPE_CHECKING:
    from starlette.requests import Request

    from zoo.server.settings import ServerSettings

SHARE = 16
"""Bodies of the largest size that may be in memory together, while they arrive."""
LINGER = 1.0
"""Seconds in which the rest of a refused body is thrown away, so that its sender gets to read why."""
GZIP = b"\x1f\x8b"
"""How compressed bodies begin, and no JSON does."""
Asked = TypeVar("Asked", bound=Part)


class Arriving:
    """Counts the bytes of all bodies that are being received, so that many clients together take bounded memory."""

    def __init__(self, max_body: int) -> None:
        self.limit = SHARE * max_body
        self.bytes = 0

    def take(self, size: int) -> None:
        """Count what came.

        Raises:
            ApiError: 429, it is more than all together may have.
        """
        if self.bytes + size > self.limit:
            raise ApiError(
                429, "too much is being received; try again later", code="rate_limit_exceeded", retry_after=2
            )
        self.bytes += size


async def read_body(request: Request, kind: type[Asked], settings: ServerSettings, arriving: Arriving) -> Asked:
    """Read and check a body.

    Raises:
        ApiError: it is too large, too slow, compressed, not JSON, or not what ``kind`` says.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        # It keeps web pages out, too: a browser asks first before it sends JSON to another site.
        raise ApiError(415, "the body must be JSON: send Content-Type: application/json", code="unsupported_media_type")
    raw = await _read(request, settings, arriving)
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity") or raw.startswith(GZIP):
        name = "gzip" if raw.startswith(GZIP) else coding[:40]
        message = f"the body is compressed ({name}); send it as it is, without Content-Encoding"
        raise ApiError(415, message, code="unsupported_encoding")
    try:
        asked = kind.model_validate_json(raw)
    except ValidationError as error:
        raise invalid(error) from None
    asked.check()
    return asked


async def _read(request: Request, settings: ServerSettings, arriving: Arriving) -> bytes:
    from starlette.requests import ClientDisconnect

    limit = settings.max_body
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
    except TimeoutError:
        raise ApiError(408, f"the body did not come within {settings.receive_timeout:g} s", code="timeout") from None
    except ClientDisconnect:
        raise ApiError(400, "the client left before its body was complete", code="disconnected") from None
    finally:
        arriving.bytes -= held
    return b"".join(chunks)
