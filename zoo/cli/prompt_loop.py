"""The prompt loop of ``zoo run``: one prompt a line, or a conversation whose history stays within the context."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.cli.answers import Answers

PROMPT = "> "
LEAVE = ("/exit", "/quit", "/bye")
RESET = "/clear"
Messages = list[dict[str, str]]


def prompt_loop(answers: Answers, *, chat: bool, system: str | None) -> None:
    """Ask for prompts until the user leaves: ``/exit``, end of file.

    An interrupt while an answer is written ends that answer; at the prompt it leaves.

    Raises:
        KeyboardInterrupt: interrupted at the prompt.
    """
    commands = f"{LEAVE[0]} or Ctrl-D quits, Ctrl-C stops an answer" + (
        f", {RESET} starts a new conversation" if chat else ""
    )
    print(commands, file=sys.stderr, flush=True)
    start: Messages = [] if system is None else [{"role": "system", "content": system}]
    history = list(start)
    while True:
        line = _ask()
        if line is None or line.strip() in LEAVE:
            return
        if not line.strip():
            continue
        if chat and line.strip() == RESET:
            history = list(start)
            continue
        try:
            if chat:
                history = _turn(answers, [*history, {"role": "user", "content": line}], len(start))
            else:
                answers.answer(prompt=line)
        except KeyboardInterrupt:
            print("(stopped)", file=sys.stderr, flush=True)
        except ZooError as error:
            print(f"zoo: {error}", file=sys.stderr, flush=True)


def _ask() -> str | None:
    """Read a line; None at the end. stdout gets no prompt unless it is the terminal that the user types at."""
    try:
        if sys.stdout.isatty():
            with contextlib.suppress(ImportError):  # not on every platform
                import readline  # noqa: F401  (gives the line an editor and a memory)
            return input(PROMPT)
        print(PROMPT, end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            print(file=sys.stderr)
            return None
        return line.removesuffix("\n")
    except EOFError:
        print(file=sys.stderr)
        return None
    except UnicodeDecodeError:
        print("zoo: that line is not UTF-8", file=sys.stderr)
        return ""


def _turn(answers: Answers, messages: Messages, fixed: int) -> Messages:
    """Answer the last message; return the conversation with the answer, or without the message if interrupted."""
    kept = fit(answers, messages, fixed)
    try:
        answers.answer(messages=kept)
    except KeyboardInterrupt:
        print("(stopped; this turn is forgotten)", file=sys.stderr, flush=True)
        return messages[:-1]
    return [*kept, {"role": "assistant", "content": answers.content}]


def fit(answers: Answers, messages: Sequence[dict[str, str]], fixed: int) -> Messages:
    """Drop the oldest turns until the conversation leaves room for an answer.

    Args:
        fixed: how many messages at the beginning always stay (the system message).
    """
    engine = answers.engine
    kept = list(messages)
    # An answer as long as asked for, but a small context is not given away to it.
    room = min(int(answers.options["max_new_tokens"]), engine.context_length // 4)
    dropped = 0
    while len(kept) > fixed + 2 and len(answers.thoughts.encode(engine, kept)) + room > engine.context_length:
        del kept[fixed : fixed + 2]  # a question and its answer: templates want them to alternate
        dropped += 1
    if dropped:
        turns = "turn" if dropped == 1 else "turns"
        print(f"(the oldest {dropped} {turns} no longer fit the context)", file=sys.stderr, flush=True)
    return kept
