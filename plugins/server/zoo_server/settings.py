"""What a server allows: each limit that it keeps, in one value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zoo.declarations.option import option
from zoo.errors import UsageError

MIB = 2**20


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Limits of a server; the defaults suit one machine and a few users."""

    api_key: str | None = None
    """Asked for at everything but the page and ``/health``; None asks for none."""
    slots: int = option(8, "Sequences computed at the same time.", metavar="N", min=1, max=256)
    queue: int = option(64, "Sequences that may wait for a slot; more are rejected (429).", metavar="N", min=0)
    memory: int | None = option(
        None, "Memory for loaded models, such as 12GB; by default what is free now.", metavar="BYTES", size=True
    )
    max_body: int = option(4 * MIB, "Maximum size of a request body.", metavar="BYTES", size=True, written="4MiB")
    max_prompt_tokens: int | None = option(
        None, "Maximum length of a prompt, in tokens; the context limits it too.", metavar="N", min=1
    )
    max_output_tokens: int | None = option(
        None, "Maximum length of an answer, in tokens; the context limits it too.", metavar="N", min=1
    )
    max_connections: int = option(512, "Maximum number of connections.", metavar="N", min=1)
    max_choices: int = 16
    """Answers that one request may ask for: prompts times ``n``."""
    timeout: float = option(600.0, "Timeout of a request, in seconds.", metavar="S", min=0.1)
    receive_timeout: float = option(30.0, "Seconds for a complete request to arrive.", metavar="S", min=0.1)
    send_timeout: float = option(
        30.0, "Seconds after which a client that does not read is disconnected.", metavar="S", min=0.1
    )
    drain_timeout: float = option(30.0, "Seconds for answers to finish after SIGTERM.", metavar="S", min=1)
    threads: int | None = option(None, "Threads; one per physical core by default.", metavar="N", min=1)
    lookup: bool = option(False, "Draft tokens from the text so far; greedy answers do not change.")
    allow_host: frozenset[str] = option(
        frozenset(), "Host name that requests may use, such as a proxy's; may be repeated.", metavar="NAME"
    )
    hosts: frozenset[str] | None = None
    """Names that a request's Host header may carry; None allows any. A server on the loopback interface allows only
    loopback names and ``allow_host``, so that no web page reaches it under a name that was made to resolve there (DNS
    rebinding)."""
    root_path: str = option(
        "", "Path at which a proxy mounts the server, such as /zoo.", metavar="PATH", show_default=False
    )
    cors_origin: tuple[str, ...] = option(
        (), "Origin whose pages may call the server from a browser, or *; may be repeated.", metavar="ORIGIN"
    )
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Further names that clients may ask for → the model that they mean."""
    keep_alive: float = option(30.0, "Seconds that an idle connection is kept open.", metavar="S", min=1)
    ssl_certfile: Path | None = option(None, "Certificate chain (PEM); turns TLS on.", metavar="FILE")
    ssl_keyfile: Path | None = option(None, "Its private key, if in another file.", metavar="FILE")
    log_prompts: bool = option(False, "Also log prompts.")

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
        for origin in self.cors_origin:
            if not _ORIGIN.fullmatch(origin):
                raise UsageError(f"--cors-origin is an origin as https://example.org, or *, not {origin!r}")


_ROOT = re.compile(r"(/[A-Za-z0-9._~-]+)+/?")
_ORIGIN = re.compile(r"\*|https?://[^\s/?#@]+")
