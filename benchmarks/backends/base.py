"""Say what a compared program must offer: requirements, build commands, a run command and a reader of its output."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RUNNERS = Path(__file__).resolve().parent.parent / "runners"


@dataclass(frozen=True)
class Site:
    """Where a program is installed on this machine."""

    python: Path
    home: Path
    native: Path | None = None
    """Build folder of compiled sources, where the program has them."""


@dataclass(frozen=True)
class Load:
    """What a run measures: prompt and new tokens, how often in one process, threads, vocabulary for random prompts."""

    prompt: int = 256
    new: int = 64
    repeats: int = 3
    threads: int = 2
    vocab: int = 32000

    def argv(self) -> list[str]:
        """Return the arguments every script in runners/ takes after the package."""
        return [str(n) for n in (self.prompt, self.new, self.repeats, self.threads, self.vocab)]


@dataclass(frozen=True)
class Backend:
    """One compared program.

    `build(site, checkpoint, out, precision)` gives the commands that make the package, in order.  `run(site, package,
    load)` is the command that measures it and `read(stdout, stderr)` finds its figures: load_s, prefill_tok_s and
    decode_tok_s (lists, one entry a repeat).  `logits(site, package, tokens, out)` is the command that reads token ids
    [windows, length] and writes what the package predicts after each, float32 [windows, length, vocab], both as .npy.

    `formats` says in words what a precision becomes; one that is absent is not offered.  `remove` names distributions
    that pip brings along and that do not work beside torch's CPU build, `work` folders under `out` that the build
    leaves behind and that are no part of the package.
    """

    name: str
    distribution: str
    formats: dict[str, str]
    build: Callable[[Site, Path, Path, str], list[list[str]]]
    run: Callable[[Site, Path, Load], list[str]]
    logits: Callable[[Site, Path, str, str], list[str]]
    requirements: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    prepare: Callable[[Site, dict[str, Any]], Path | None] | None = None
    read: Callable[[str, str], dict[str, Any]] = field(default=lambda out, err: last_json(out))
    work: tuple[str, ...] = ()
    notes: str = ""


def last_json(text: str) -> dict[str, Any]:
    """Return the JSON object on the last line of `text` that holds one."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            return dict(json.loads(line))
    raise ValueError("no JSON line in the output")
