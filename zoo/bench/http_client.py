"""Requests to an OpenAI-compatible server: streamed completions over HTTP, whoever serves them.

The protocol is ``POST /v1/completions`` with ``stream`` as OpenAI documents it: server-sent events, one JSON object a
``data:`` line, ``[DONE]`` at the end. ``stream_options.include_usage`` asks for the server's own count of tokens;
``ignore_eos``, which most servers of open models know, keeps answers at their full length. A server that knows either
not is asked without.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from zoo.bench.load import OnTokens
from zoo.bench.timeline import Timeline
from zoo.bench.workload import Prompt
from zoo.errors import UsageError, ZooError

if TYPE_CHECKING:
    import httpx2

BUSY = (429, 503)
"""Statuses by which a server turns a request away for now."""
REFUSED = (400, 422)
"""Statuses by which a server refuses what a request says."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a request that was turned away is sent again: doubled each time, unless the server says how long."""
OPTIONAL: dict[str, Any] = {"ignore_eos": True, "stream_options": {"include_usage": True}}
"""What is asked for beyond the plain protocol."""


class Refusal(ZooError):
    """The server says that a request is wrong: too long, or of an unknown model."""


@dataclass(slots=True)
class Answer:
    """What a stream said beside its text."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    pieces: int = 0


@dataclass
class HttpClient:
    """Sends prompts to one server and one model.

    Attributes:
        url: where ``/v1`` is, with or without it.
        model: its name at the server.
        retries: how often a request that is turned away is sent again; 0 counts it as failed at once.
        timeout: seconds that may pass without a byte.
        extra: what is asked for beyond the plain protocol; ``agree`` finds out what the server takes.
    """

    url: str
    model: str | None = None
    api_key: str | None = None
    retries: int = 0
    timeout: float = 300.0
    extra: dict[str, Any] = field(default_factory=lambda: dict(OPTIONAL))

    def __post_init__(self) -> None:
        import httpx2

        self.url = base_url(self.url)
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        self._client = httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(self.timeout, connect=min(10.0, self.timeout), pool=None),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def models(self) -> list[dict[str, Any]]:
        """List what the server says of its models; nothing where it does not say.

        Raises:
            ZooError: there is no server, or it asks for another key.
        """
        try:
            response = await self._client.get(f"{self.url}/models")
        except Exception as error:
            raise self._failure(error) from None
        if response.status_code in (401, 403):
            raise ZooError(f"{self.url}: {_refusal(response)}; give the right --api-key")
        try:
            listed = response.json()["data"]
        except (ValueError, KeyError, TypeError):
            return []
        return [model for model in listed if isinstance(model, dict)] if isinstance(listed, list) else []

    async def agree(self, prompt: Prompt) -> Answer:
        """Send a first prompt, and find out what of the optional fields the server takes.

        Raises:
            Refusal: it refuses the prompt even without them.
            ZooError: it does not answer, or not as the protocol says.
        """
        refusal: Refusal | None = None
        for left_out in ((), ("ignore_eos",), ("stream_options",), tuple(OPTIONAL)):
            self.extra = {key: value for key, value in OPTIONAL.items() if key not in left_out}
            try:
                return await self.ask(prompt)
            except Refusal as error:
                refusal = refusal or error
        assert refusal is not None
        raise refusal

    async def send(self, prompt: Prompt, timeline: Timeline, on_tokens: OnTokens) -> None:
        """Send a prompt and fill its timeline; what goes wrong becomes its error."""
        try:
            answer = await self.ask(prompt, timeline, on_tokens)
        except ZooError as error:
            timeline.error = str(error)
            timeline.finished = time.perf_counter()
            return
        timeline.prompt_tokens = prompt.tokens if answer.prompt_tokens is None else answer.prompt_tokens
        timeline.counted = answer.completion_tokens is not None
        timeline.output_tokens = answer.pieces if answer.completion_tokens is None else answer.completion_tokens

    async def ask(
        self, prompt: Prompt, timeline: Timeline | None = None, on_tokens: OnTokens = lambda count: None
    ) -> Answer:
        """Send a prompt once, or again while it is turned away; return what the stream said.

        Raises:
            ZooError: why there is no complete answer.
        """
        timeline = timeline or Timeline(arrival=time.perf_counter())
        body = {
            "model": self.model,
            "prompt": prompt.content,
            "max_tokens": prompt.output_len,
            "temperature": 0,
            "stream": True,
            **self.extra,
        }
        pause = FIRST_PAUSE
        while True:
            try:
                async with self._client.stream("POST", f"{self.url}/completions", json=body) as response:
                    if response.status_code == 200:
                        return await self._read(response, timeline, on_tokens)
                    await response.aread()
            except ZooError:
                raise
            except Exception as error:
                raise self._failure(error) from None
            if response.status_code not in BUSY or timeline.retries >= self.retries:
                raise self._refused(response)
            timeline.retries += 1
            await asyncio.sleep(_retry_after(response, pause))
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _read(self, response: httpx2.Response, timeline: Timeline, on_tokens: OnTokens) -> Answer:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "text/event-stream":
            raise ZooError(f"{self.url}/completions: answers with {kind or 'no content type'}, not with a stream")
        answer, done, first = Answer(), False, 0.0
        async for event in _events(response):
            now = time.perf_counter()
            if event is None:
                done = True
                break
            first = first or now
            if event.get("error"):
                raise ZooError(f"the server broke off: {_message(event)}")
            usage = event.get("usage")
            if isinstance(usage, dict):
                answer.prompt_tokens = _count(usage.get("prompt_tokens"), answer.prompt_tokens)
                answer.completion_tokens = _count(usage.get("completion_tokens"), answer.completion_tokens)
            if _has_text(event):
                answer.pieces += 1
                timeline.token_times.append(now)
                on_tokens(1)
            done = done or _finish_reason(event)
        if not done:
            raise ZooError("the stream ended before the answer did")
        timeline.finished = time.perf_counter()
        if not timeline.token_times and answer.completion_tokens:
            timeline.token_times.append(first)  # tokens that are not text, all of them
        return answer

    def _refused(self, response: httpx2.Response) -> ZooError:
        said = _refusal(response)
        if response.status_code in REFUSED:
            return Refusal(f"the server refuses the request: {said}")
        if response.status_code in BUSY:
            return ZooError(f"the server is busy: {said}")
        if response.status_code in (401, 403):
            return ZooError(f"{self.url}: {said}; give the right --api-key")
        if response.status_code == 404:
            named = f"the model {self.model!r} is unknown there, or " if self.model else ""
            return ZooError(f"{self.url}/completions: {said}; {named}this is not an OpenAI-compatible server")
        return ZooError(f"the server failed: {said}")

    def _failure(self, error: Exception) -> ZooError:
        """Say in a line why there was no answer."""
        import httpx2

        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            return ZooError(f"{self.url}: no server answers ({_line(error)}); is it running?")
        if isinstance(error, httpx2.TimeoutException):
            return ZooError(f"the server sent nothing for {self.timeout:g} s")
        if isinstance(error, httpx2.TransportError):
            return ZooError(f"the connection broke: {_line(error)}")
        if isinstance(error, httpx2.HTTPError | httpx2.InvalidURL | ValueError | OSError):
            return ZooError(f"{self.url}: {_line(error)}")
        raise error


def base_url(text: str) -> str:
    """Find where ``/v1`` is from what a user gives: the server, its ``/v1`` or a path below it.

    Raises:
        UsageError: no address of a server.
    """
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise UsageError(f"--url {text}: is not an address of a server; it begins with http:// or https://")
    path = parts.path.rstrip("/").removesuffix("/completions").removesuffix("/chat")
    return f"{parts.scheme}://{parts.netloc}{path if path.endswith('/v1') else path + '/v1'}"


async def _events(response: httpx2.Response) -> AsyncIterator[dict[str, Any] | None]:
    """The objects of a stream; None for its ``[DONE]``."""
    async for line in response.aiter_lines():
        name, _, value = line.partition(":")
        if name != "data":
            continue  # comments that keep a connection open, names of events, the empty line after each
        value = value.strip()
        if value == "[DONE]":
            yield None
            continue
        try:
            event = json.loads(value)
        except ValueError:
            raise ZooError(f"the stream holds what is not JSON: {value[:60]}") from None
        if isinstance(event, dict):
            yield event


def _choice(event: dict[str, Any]) -> dict[str, Any]:
    choices = event.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _has_text(event: dict[str, Any]) -> bool:
    return bool(_choice(event).get("text"))


def _finish_reason(event: dict[str, Any]) -> bool:
    return bool(_choice(event).get("finish_reason"))


def _count(value: Any, otherwise: int | None) -> int | None:
    return value if isinstance(value, int) and value >= 0 else otherwise


def _retry_after(response: httpx2.Response, otherwise: float) -> float:
    try:
        return min(max(0.0, float(response.headers["retry-after"])), LONGEST_PAUSE)
    except (KeyError, ValueError):
        return otherwise


def _refusal(response: httpx2.Response) -> str:
    """What a response says is wrong, with its status."""
    try:
        said = _message(response.json())
    except ValueError:
        said = ""
    return f"{response.status_code} {said or response.reason_phrase}".strip()


def _message(body: Any) -> str:
    """The message of an error object, as OpenAI writes it or as others do."""
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or ""
    return " ".join(str(error).split())[:200]


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
