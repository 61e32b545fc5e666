"""How ``zoo run`` writes answers: text as it comes, timings, JSON."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.cli.output import print_json

if TYPE_CHECKING:
    from zoo.engine import Engine, Generation


@dataclass
class Answers:
    """Generates answers and writes them to stdout as they come."""

    engine: Engine
    options: Mapping[str, Any]
    verbose: bool = False
    as_json: bool = False

    def answer(
        self, *, prompt: str | Sequence[int] | None = None, messages: Sequence[Mapping[str, Any]] | None = None
    ) -> Generation:
        """Write one answer.

        Raises:
            KeyboardInterrupt: interrupted; what had come so far was written.
        """
        stream = self.engine.stream(prompt, messages=messages, continued=messages is not None, **self.options)
        write = _raw_writer()
        try:
            for piece in stream:
                if not self.as_json:
                    write(piece.text)
        except KeyboardInterrupt:
            self._close(stream.generation)
            raise
        self._close(stream.generation)
        return stream.generation

    def _close(self, generation: Generation) -> None:
        if self.as_json:
            print_json(describe(generation))
        elif sys.stdout.isatty() and not generation.text.endswith("\n"):
            # The line is ended for whoever looks at the terminal; stdout keeps to the continuation.
            print(file=sys.stderr, flush=True)
        if self.options.get("schema") is not None and generation.finish_reason == "length":
            count = len(generation.token_ids)
            print(f"zoo: the answer was cut at {count} tokens, and is not whole JSON", file=sys.stderr, flush=True)
        if self.verbose:
            print(timings_text(generation), file=sys.stderr, flush=True)


def describe(generation: Generation) -> dict[str, Any]:
    """Tell everything about an answer, as plain values."""
    timings = generation.timings
    return {
        "text": generation.text,
        "token_ids": generation.token_ids,
        "prompt_tokens": len(generation.prompt_ids),
        "completion_tokens": len(generation.token_ids),
        "finish_reason": generation.finish_reason,
        "timings": {
            "load_s": timings.load_s,
            "prefill_s": timings.prefill_s,
            "decode_s": timings.decode_s,
            "prefill_tokens": timings.prefill_tokens,
            "decode_tokens": timings.decode_tokens,
            "prefill_tokens_per_s": timings.prefill_tokens_per_s,
            "decode_tokens_per_s": timings.decode_tokens_per_s,
            "rowwise": timings.rowwise,
        },
    }


def sampling_text(options: Mapping[str, Any]) -> str:
    """Write how tokens are chosen."""
    if options["temperature"] == 0:
        chosen = "greedy"
    else:
        chosen = ", ".join(f"{name} {options[name]:g}" for name in ("temperature", "top_k", "top_p"))
        chosen += f", min_p {options['min_p']:g}" if options["min_p"] else ""
    penalty = options["repetition_penalty"]
    return f"sampling {chosen}" + (f", repetition_penalty {penalty:g}" if penalty != 1 else "")


def timings_text(generation: Generation) -> str:
    """Write where the time of an answer went."""
    timings = generation.timings
    cached = len(generation.prompt_ids) - timings.prefill_tokens
    notes = [f"{cached} more from the cache"] * (cached > 0) + ["row-wise"] * timings.rowwise
    return "\n".join(
        (
            f"load     {timings.load_s:.2f} s",
            f"prefill  {timings.prefill_s:.2f} s, {timings.prefill_tokens} tokens, "
            f"{timings.prefill_tokens_per_s:.1f} tokens/s" + (f" ({', '.join(notes)})" if notes else ""),
            f"decode   {timings.decode_s:.2f} s, {timings.decode_tokens} tokens, "
            f"{timings.decode_tokens_per_s:.1f} tokens/s ({generation.finish_reason or 'unfinished'})",
        )
    )


def _raw_writer() -> Any:
    """Make a function that writes text to stdout as it is, at once, whatever the locale can encode."""
    out = sys.stdout
    if hasattr(out, "reconfigure"):
        out.reconfigure(errors="replace", newline="")

    def write(text: str) -> None:
        if text:
            out.write(text)
            out.flush()

    return write
