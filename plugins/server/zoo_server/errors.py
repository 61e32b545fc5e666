"""Errors in OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}`` with the right status."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """A request that gets an error instead of an answer.

    Args:
        status: of HTTP.
        message: one line for the client: no path, no host name, nothing of other requests.
        param: the field that is wrong.
        retry_after: seconds after which it is worth trying again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.retry_after = retry_after

    @property
    def kind(self) -> str:
        """OpenAI's name of this kind of error."""
        return _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")

    def body(self) -> dict[str, Any]:
        """Write the error as OpenAI does."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def content(self) -> bytes:
        return json.dumps(self.body(), ensure_ascii=False).encode("utf-8", "replace")

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of the answer, without those that a server adds."""
        content = self.content()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        if self.retry_after is not None:
            headers.append((b"retry-after", str(self.retry_after).encode()))
        if self.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if self.status in (408, 413):
            headers.append((b"connection", b"close"))  # what is left of the body is not read
        return headers


async def send_error(send: Any, error: ApiError) -> None:
    """Answer a request with an error."""
    await send({"type": "http.response.start", "status": error.status, "headers": error.headers()})
    await send({"type": "http.response.body", "body": error.content()})


def invalid(error: ValidationError) -> ApiError:
    """Say what is wrong with a body: the first mistake, by its field."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    param = ".".join(str(step) for step in first["loc"]) or None
    message = str(first["msg"]).removeprefix("Value error, ")[:300]
    if first["type"] == "json_invalid" and "recursion limit" in message:
        return ApiError(400, "the body is nested too deeply", code="invalid_json")
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {message.removeprefix('Invalid JSON: ')}", code="invalid_json")
    if first["type"] == "missing":
        return ApiError(400, f"the field {param!r} is missing", code="missing_field", param=param)
    return ApiError(400, f"{param}: {message}" if param else message, code="invalid_value", param=param)
