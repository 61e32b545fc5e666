"""An OpenAI-compatible server of completions in this process: streams words, counts them, and misbehaves on demand."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Behaviour:
    """How the server answers; what is left alone is what a well-behaved one does."""

    models: tuple[dict[str, Any], ...] = ({"id": "tiny", "object": "model"},)
    key: str | None = None
    known: frozenset[str] = frozenset({"ignore_eos", "stream_options"})
    """Optional fields that it takes; others are an error."""
    context: int = 4096
    usage: bool = True
    ids: bool = True
    """Takes prompts of token ids."""
    first_s: float = 0.0
    each_s: float = 0.0
    most: int | None = None
    """Tokens of an answer at most, whatever is asked for."""
    busy: int = 0
    """Requests that are turned away before it answers."""
    busy_after: int = 0
    """Requests that are answered before it is busy."""
    retry_after: str | None = "0.01"
    break_every: int = 0
    """Every so manieth answer of several tokens breaks off in the middle."""
    stall_s: float = 0.0
    """How long every answer stops after its first token."""
    body: tuple[int, str, str] | None = None
    """Status, content type and body of every answer instead."""
    error_event: str | None = None
    empty_first: bool = False
    """Send a first event without text."""


@dataclass
class Fake:
    """A running server: its address, and what it was asked."""

    url: str
    behaviour: Behaviour
    asked: list[dict[str, Any]] = field(default_factory=list)
    most_at_once: int = 0


@contextmanager
def serving(**behaviour: Any) -> Iterator[Fake]:
    """Serve until left."""
    fake = Fake("", Behaviour(**behaviour))
    lock, running, answered, turned_away = threading.Lock(), [0], [0], [0]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None: ...

        def do_GET(self) -> None:
            if fake.behaviour.body is not None:
                self.whole(*fake.behaviour.body)
            elif self.allowed():
                self.whole(200, "application/json", json.dumps({"object": "list", "data": fake.behaviour.models}))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            how = fake.behaviour
            if how.body is not None:
                self.whole(*how.body)
                return
            if not self.allowed():
                return
            with lock:
                fake.asked.append(body)
                running[0] += 1
                fake.most_at_once = max(fake.most_at_once, running[0])
            self.running = True
            try:
                self.answer(body, how)
            finally:
                self.ran()

        def ran(self) -> None:
            """Count the answer as given, before whoever waits for its end can send another request."""
            with lock:
                running[0] -= self.running
                self.running = False

        def allowed(self) -> bool:
            key = fake.behaviour.key
            if key is None or self.headers.get("Authorization") == f"Bearer {key}":
                return True
            self.refuse(401, "no such key")
            return False

        def answer(self, body: dict[str, Any], how: Behaviour) -> None:
            if body["model"] not in [one["id"] for one in how.models]:
                return self.refuse(404, f"The model `{body['model']}` does not exist")
            for name in ("ignore_eos", "stream_options"):
                if name in body and name not in how.known:
                    return self.refuse(400, f"Unrecognized request argument supplied: {name}")
            prompt = body["prompt"]
            if not isinstance(prompt, str) and not how.ids:
                return self.refuse(400, "prompt must be a string")
            count = 1 + len(prompt.split()) if isinstance(prompt, str) else len(prompt)
            if count + body["max_tokens"] > how.context:
                return self.refuse(400, f"this model's maximum context length is {how.context} tokens")
            with lock:
                busy = len(fake.asked) > how.busy_after and turned_away[0] < how.busy
                turned_away[0] += busy
                answered[0] += not busy and body["max_tokens"] > 1
                number = answered[0]
            if busy:
                headers = {"Retry-After": how.retry_after} if how.retry_after is not None else {}
                return self.refuse(429, "too many requests", headers)
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            time.sleep(how.first_s)
            tokens = min(body["max_tokens"], how.most or body["max_tokens"])
            if how.empty_first:
                self.event({"choices": [{"index": 0, "text": "", "finish_reason": None}]})
            for token in range(tokens):
                if how.break_every and tokens > 1 and number % how.break_every == 0 and token == tokens // 2:
                    return None
                last = token == tokens - 1
                text = {"index": 0, "text": f" word{token}", "finish_reason": "length" if last else None}
                self.event({"object": "text_completion", "choices": [text]})
                time.sleep(how.each_s + (how.stall_s if token == 0 else 0))
            if how.error_event is not None:
                return self.event({"error": {"message": how.error_event}})
            if how.usage and body.get("stream_options", {}).get("include_usage"):
                self.event({"choices": [], "usage": {"prompt_tokens": count, "completion_tokens": tokens}})
            self.ran()
            self.wfile.write(b": done\n\ndata: [DONE]\n\n")

        def event(self, value: dict[str, Any]) -> None:
            self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
            self.wfile.flush()

        def refuse(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
            self.whole(status, "application/json", json.dumps({"error": {"message": message}}), headers)

        def whole(self, status: int, kind: str, body: str, headers: dict[str, str] | None = None) -> None:
            raw = body.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(raw)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exception(), ConnectionError):  # whoever asked may leave at any time
                super().handle_error(request, client_address)

    server = Quiet(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
