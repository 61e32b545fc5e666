"""``zoo run``: the continuation of a prompt on stdout and nothing else, or a prompt loop on a terminal."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cli.answers import Answers, sampling_text
from zoo.cli.options import DRAFT_HELP, KV_HELP, EngineName, Precision
from zoo.cli.output import print_notice
from zoo.cli.progress import step_progress
from zoo.declarations.memory import KV
from zoo.errors import UsageError, ZooError

CHAT_DEFAULT = "Default: greedy; with --chat what generation_config.json says."
INTERRUPTED = 130
"""Exit code after an interrupt: 128 and the number of SIGINT, as shells count."""


def run(
    model: Annotated[str, typer.Argument(metavar="MODEL|PACKAGE", help="A built model or a package folder.")],
    prompt: Annotated[
        str | None, typer.Argument(help="Without it: a prompt loop on a terminal, otherwise stdin.")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Converse through the model's chat template.")] = False,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="The system message of a conversation.")] = None,
    max_new_tokens: Annotated[int, typer.Option(metavar="N", help="Maximum number of tokens in the answer.")] = 256,
    temperature: Annotated[
        float | None, typer.Option(metavar="T", help=f"0 is greedy. {CHAT_DEFAULT}", show_default=False)
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            metavar="K", help=f"Sample from the K most likely tokens; 0 means all. {CHAT_DEFAULT}", show_default=False
        ),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help=f"Sample from the most likely tokens with total probability P; 1 means all. {CHAT_DEFAULT}",
            show_default=False,
        ),
    ] = None,
    repetition_penalty: Annotated[
        float | None,
        typer.Option(
            metavar="R",
            help=f"Above 1, repeated tokens become less likely. {CHAT_DEFAULT}",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="S", help="Seed for sampling.")] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="End before this text or special token; may be given several times."),
    ] = None,
    stop_token_ids: Annotated[str | None, typer.Option(metavar="ID,ID", help="Also end at these token ids.")] = None,
    lookup: Annotated[
        bool,
        typer.Option("--lookup", help="Draft tokens from the text so far: faster where answers repeat the prompt."),
    ] = False,
    draft: Annotated[
        str | None, typer.Option(metavar="MODEL|PACKAGE|auto", help=DRAFT_HELP, show_default=False)
    ] = None,
    kv: Annotated[KV, typer.Option(help=KV_HELP)] = "auto",
    schema: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Answer in JSON that fits this JSON schema.", dir_okay=False)
    ] = None,
    no_think: Annotated[bool, typer.Option("--no-think", help="With --chat: turn thinking off.")] = False,
    show_thinking: Annotated[
        bool, typer.Option("--show-thinking", help="With --chat: write the thinking to stderr.")
    ] = False,
    precision: Precision = None,
    engine: EngineName = None,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Print load, prefill and decode times to stderr.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run a package: print the continuation of a prompt as it is generated, and nothing else."""
    from zoo.cli.thinking import Thoughts
    from zoo.contracts import OWN_ENGINE, require
    from zoo.engine import Sampling
    from zoo.engine.chat import find_templates
    from zoo.package.chat_defaults import ChatDefaults
    from zoo.plugins import host
    from zoo.stages.manners import find_manners
    from zoo.stages.opening import find_draft, open_engine
    from zoo.stages.subject import find_package

    if max_new_tokens < 1:
        raise UsageError(f"--max-new-tokens must be 1 or more, not {max_new_tokens}")
    if "" in (stop or ()):
        raise UsageError("--stop must not be empty")
    if system is not None and not chat:
        raise UsageError("--system needs --chat")
    if (no_think or show_thinking) and not chat:
        raise UsageError("--no-think and --show-thinking need --chat")
    sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "repetition_penalty": repetition_penalty}
    greedy = ChatDefaults().with_options(**sampling)
    Sampling(**greedy, seed=seed)  # type: ignore[arg-type]  # refuse what is out of range before anything loads
    for given in (prompt, system, *(stop or ())):
        _require_text(given)
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        **greedy,
        "seed": seed,
        "stop": tuple(stop or ()),
        "stop_token_ids": _ids(stop_token_ids),
        "lookup": lookup,
        "schema": None if schema is None else _read_schema(schema),
    }
    registry = host().registry
    folder = find_package(registry, model, precision)
    loop = prompt is None and sys.stdin is not None and sys.stdin.isatty()
    if prompt is None and not loop:
        prompt = _read_stdin()
    try:
        smaller = None if draft is None else find_draft(registry, folder, draft)
        with step_progress() as progress:
            opened = open_engine(
                registry,
                folder,
                name=engine,
                draft=smaller,
                kv=kv,
                preparing="later",
                warn=print_notice,
                progress=progress,
            )
        if "text" not in opened.abilities:
            raise ZooError(f"{folder.name} has no tokenizer, so it takes no text; build it from a checkpoint with one")
        if lookup:
            require(opened, "lookup", "--lookup")
        if schema is not None:
            require(opened, "forms", "--schema")
        if chat:
            options |= ChatDefaults.of_package(folder).with_options(**sampling)
        if verbose:
            print(sampling_text(options), file=sys.stderr, flush=True)
        if no_think and opened.name != OWN_ENGINE:
            raise ZooError(f"--no-think: the engine {opened.name!r} writes its prompts by itself")
        manners = find_manners(registry, opened.package.manifest.recipe, find_templates(folder))
        thoughts = Thoughts.choose(manners.thinking, off=no_think, show=show_thinking, name=folder.name)
        answers = Answers(opened, options, verbose=verbose, as_json=as_json, thoughts=thoughts)
        if loop:
            from zoo.cli.prompt_loop import prompt_loop

            prompt_loop(answers, chat=chat, system=system)
        elif chat:
            answers.answer(messages=[*_system(system), {"role": "user", "content": prompt}])
        else:
            answers.answer(prompt=prompt)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # The reader has had enough. What is buffered must not be written again when the interpreter ends.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        raise typer.Exit(0) from None


def _read_schema(path: Path) -> Any:
    """Read a JSON schema; reject an invalid one before the model is loaded."""
    from zoo.structured.schema import MAX_TEXT, prepare_schema

    try:
        with open(path, "rb") as file:
            raw = file.read(8 * MAX_TEXT)
        value = json.loads(raw)
    except OSError as error:
        raise UsageError(f"--schema {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--schema {path}: not JSON: {' '.join(str(error).split())[:200]}") from None
    try:
        prepare_schema(value)
    except UsageError as error:
        raise UsageError(f"--schema {path}: {error}") from None
    return value


def _system(text: str | None) -> list[dict[str, str]]:
    return [] if text is None else [{"role": "system", "content": text}]


def _ids(text: str | None) -> tuple[int, ...]:
    """Parse token ids separated by commas."""
    parts = [part.strip() for part in text.split(",")] if text is not None else []
    if not all(part.isascii() and part.isdigit() and len(part) < 12 for part in parts):
        raise UsageError(f"--stop-token-ids takes token ids with commas between them, as 2,32000, not {text!r}")
    return tuple(map(int, parts))


def _read_stdin() -> str:
    """Read stdin as UTF-8, without one newline at its end."""
    if sys.stdin is None:
        raise UsageError("no prompt: stdin is closed")
    raw = sys.stdin.buffer.read()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"the prompt on stdin is not UTF-8: byte {error.start}") from None
    if not text:
        raise UsageError("no prompt: stdin is empty")
    return text.removesuffix("\n").removesuffix("\r")


def _require_text(text: str | None) -> None:
    """Reject text that came from bytes that are invalid in the locale's encoding."""
    try:
        (text or "").encode("utf-8")
    except UnicodeEncodeError as error:
        where = f"character {error.start}"
        raise UsageError(f"{text!r} is not valid text: its {where} came from bytes that are not UTF-8") from None
