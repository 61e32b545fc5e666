"""When the tokens of one request came, as its client saw it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Timeline:
    """One request, measured. Times are seconds of ``time.perf_counter``."""

    arrival: float
    """When the request was due: latencies count from here, so that waiting for a free place is part of them."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    token_times: list[float] = field(default_factory=list)
    """When each token came, or each piece of text where a server sends several tokens at once."""
    finished: float = 0.0
    """When the answer was complete."""
    error: str | None = None
    """Why there is no complete answer."""
    retries: int = 0
    """How often the request was turned away and sent again."""
    counted: bool = True
    """Whether somebody who sees tokens counted them; otherwise ``output_tokens`` counts pieces of text."""
