"""How ``zoo run`` writes answers: text as it comes, timings, JSON."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from zoo.cli.output import print_json
from zoo.cli.thinking import ThoughtReader, Thoughts

if TYPE_CHECKING:
    from zoo.contracts import Answer, Engine
    from zoo.engine import Generation, OrtEngine


@dataclass
class Answers:
    """Generates answers and streams them to stdout."""

    engine: Engine
    options: Mapping[str, Any]
    verbose: bool = False
    as_json: bool = False
    thoughts: Thoughts = field(default_factory=Thoughts)
    content: str = ""
    """The last answer, without its thinking."""

    def answer(
        self, *, prompt: str | Sequence[int] | None = None, messages: Sequence[Mapping[str, Any]] | None = None
    ) -> Generation:
        """Write one answer.

        Raises:
            KeyboardInterrupt: interrupted; what had come so far was written.
        """
        stream, reader = self._start(prompt, messages)
        write = _raw_writer()
        try:
            for piece in stream:
                text = reader.add(piece.text)
                if not self.as_json:
                    write(text)
        finally:  # what came before an interrupt counts
            rest = reader.add("", last=True)
            if not self.as_json:
                write(rest)
            self.content = reader.content
            self._close(stream.generation, reader.reasoning)
        return stream.generation

    def _start(
        self, prompt: str | Sequence[int] | None, messages: Sequence[Mapping[str, Any]] | None
    ) -> tuple[Answer, ThoughtReader]:
        """Start an answer; a conversation reuses its cached prefix, and the answer may start with thinking."""
        from zoo.contracts import OWN_ENGINE

        thoughts = self.thoughts
        if messages is None:
            return self.engine.stream(prompt, **self.options), Thoughts().reader(False)  # text has none
        if self.engine.name != OWN_ENGINE:  # what a prompt begins with is its own matter
            return self.engine.stream(messages=messages, continued=True, **self.options), thoughts.reader(False)
        from zoo.engine.options import read_options

        engine = cast("OrtEngine", self.engine)
        ids = engine.check_prompt(thoughts.encode(engine, messages))
        opened = thoughts.opened(engine, ids)
        options = {name: value for name, value in self.options.items() if name != "schema"}
        limits, sampling = read_options(options, engine.stop_token_ids)
        constraint = thoughts.constraint(engine, self.options.get("schema"), opened)
        lookup = bool(self.options.get("lookup"))
        stream = engine.answer(ids, limits, sampling, constraint=constraint, lookup=lookup, continued=True)
        return stream, thoughts.reader(opened)

    def _close(self, generation: Generation, reasoning: str) -> None:
        if self.as_json:
            print_json(describe(generation) | ({"content": self.content, "reasoning": reasoning} if reasoning else {}))
        elif sys.stdout.isatty() and not generation.text.endswith("\n"):
            # The line is ended for whoever looks at the terminal; stdout keeps to the continuation.
            print(file=sys.stderr, flush=True)
        if self.options.get("schema") is not None and generation.finish_reason == "length":
            count = len(generation.token_ids)
            print(f"zoo: the answer was cut at {count} tokens and is incomplete JSON", file=sys.stderr, flush=True)
        if self.verbose:
            print(timings_text(generation), file=sys.stderr, flush=True)


def describe(generation: Generation) -> dict[str, Any]:
    """Return everything about an answer as plain values."""
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
            "guessed": timings.guessed,
            "guessed_right": timings.guessed_right,
        },
    }


def sampling_text(options: Mapping[str, Any]) -> str:
    """Format the sampling options."""
    if options["temperature"] == 0:
        chosen = "greedy"
    else:
        chosen = ", ".join(f"{name} {options[name]:g}" for name in ("temperature", "top_k", "top_p"))
        chosen += f", min_p {options['min_p']:g}" if options["min_p"] else ""
    penalty = options["repetition_penalty"]
    return f"sampling {chosen}" + (f", repetition_penalty {penalty:g}" if penalty != 1 else "")


def timings_text(generation: Generation) -> str:
    """Format the timings of an answer."""
    timings = generation.timings
    cached = len(generation.prompt_ids) - timings.prefill_tokens
    return "\n".join(
        (
            f"load     {timings.load_s:.2f} s",
            f"prefill  {timings.prefill_s:.2f} s, {timings.prefill_tokens} tokens, "
            f"{timings.prefill_tokens_per_s:.1f} tokens/s" + (f" ({cached} more from the cache)" if cached else ""),
            f"decode   {timings.decode_s:.2f} s, {timings.decode_tokens} tokens, "
            f"{timings.decode_tokens_per_s:.1f} tokens/s ({generation.finish_reason or 'unfinished'})"
            + (f", {timings.guessed_right} of {timings.guessed} guesses right" if timings.guessed else ""),
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
