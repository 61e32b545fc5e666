"""What a server allows: each limit that it keeps, in one value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zoo.errors import UsageError

MIB = 2**20


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Limits of a server; the defaults suit one machine and a few users."""

    api_key: str | None = None
    """Asked for at everything but the page and ``/health``; None asks for none."""
    slots: int = 8
    """Sequences of a model that are computed together."""
    queue: int = 64
    """Sequences of a model that may wait for a slot; what comes on top is refused (429)."""
    memory: int | None = None
    """Bytes that the loaded models may take together; None sets no limit."""
    max_body: int = 4 * MIB
    """Bytes of a request's body."""
    max_prompt_tokens: int | None = None
    """Tokens of a prompt; the context always limits it too."""
    max_output_tokens: int | None = None
    """Tokens of an answer; the context always limits it too."""
    max_connections: int = 512
    max_choices: int = 16
    """Answers that one request may ask for: prompts times ``n``."""
    request_timeout: float = 600.0
    """Seconds from the end of a request's body to the end of its answer."""
    receive_timeout: float = 30.0
    """Seconds for a request's head, and again for its body."""
    send_timeout: float = 30.0
    """Seconds without progress after which a client that reads nothing is cut off."""
    drain_timeout: float = 30.0
    """Seconds that answers may take to finish once the server was told to stop."""
    threads: int | None = None
    lookup: bool = False
    """Guess tokens from the text so far (prompt lookup)."""
    log_prompts: bool = False
    allowed_hosts: frozenset[str] = frozenset()
    """Names beside the machine's own that a server on the loopback interface answers under, as a proxy sends them."""
    hosts: frozenset[str] | None = None
    """Names that a request's Host header may carry; None allows any. A server on the loopback interface allows only
    loopback names, so that no web page reaches it under a name that was made to resolve there (DNS rebinding)."""

    root_path: str = ""
    """Path that a proxy mounts the server at, such as ``/zoo``."""
    origins: tuple[str, ...] = ()
    """Origins whose pages may ask the server from a browser (CORS); ``*`` is any."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Further names that clients may ask for → the model that they mean."""
    keep_alive: float = 30.0
    """Seconds that a connection may wait for its next request."""
    certificate: Path | None = None
    """Certificate chain in PEM; None serves without TLS."""
    certificate_key: Path | None = None
    """Its private key, where that is a file of its own."""

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            UsageError: a key that cannot be sent in a header, a path or an origin that is none.
        """
        key = self.api_key
        if key is not None and (not key or not key.isascii() or not key.isprintable() or key != key.strip()):
            raise UsageError("the API key must be printable ASCII without spaces at its ends, and not empty")
        root = self.root_path
        if root and (not _ROOT.fullmatch(root) or root.endswith("/")):
            raise UsageError(f"--root-path is a path as /zoo, without a slash at its end, not {root!r}")
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                raise UsageError(f"--cors-origin is an origin as https://example.org, or *, not {origin!r}")


_ROOT = re.compile(r"(/[A-Za-z0-9._~-]+)+/?")
_ORIGIN = re.compile(r"\*|https?://[^\s/?#@]+")
