"""Resolve special token ids: the checkpoint's, what a declaration adds or overrides, and the token that ends a turn."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.contracts import Checkpoint
from zoo.declarations.recipe import TokenIds
from zoo.errors import ZooError
from zoo.registry import DeclaredModel
from zoo.sources.companions import GENERATION
from zoo.sources.jsonfile import parse_object
from zoo.tokenizer.ends import end_of_turn
from zoo.tokenizer.files import TokenizerFiles, read_files
from zoo.tokenizer.resolve import TOKENIZER, ResolvedTokenizer, resolve_tokenizer
from zoo.tokenizer.templates import DEFAULT, chat_templates

log = logging.getLogger("zoo")

IDS = frozenset({"bos_token_id", "eos_token_id", "pad_token_id"})


def resolve_tokens(declared: DeclaredModel | None, checkpoint: Checkpoint | None, vocab_size: int) -> TokenIds:
    """Take special token ids from the checkpoint, and from the declaration what it lacks or overrides.

    The token that the chat template writes behind the assistant's turn ends a text too, unless a declaration overrides
    the ids.
    """
    own = checkpoint_tokens(checkpoint, vocab_size) if checkpoint is not None else TokenIds()
    tokens = own if declared is None else _declared_tokens(declared, own)
    if declared is not None and declared.tokens.added and not (checkpoint and checkpoint.companion(TOKENIZER)):
        of_code = {"added": declared.tokens.added, "begin": declared.tokens.begin or ()}
        tokens = tokens.model_copy(update=of_code)
    overridden = declared is not None and declared.tokens.override and declared.tokens.eos_token_id is not None
    if checkpoint is None or overridden:
        return tokens
    template = declared.chat_template if declared is not None else None
    return _with_end_of_turn(tokens, checkpoint, template, vocab_size)


def _declared_tokens(declared: DeclaredModel, own: TokenIds) -> TokenIds:
    tokens, result = declared.tokens, own.model_dump()
    for name in tokens.model_fields_set & IDS:
        value, actual = getattr(tokens, name), getattr(own, name)
        if value is None or value == actual:
            continue
        if actual in (None, ()):
            result[name] = value
        elif tokens.override:
            log.warning(
                "%s: %s %s replaces the checkpoint's %s: %s",
                declared.name, name, _ids(value), _ids(actual), tokens.override,
            )  # fmt: skip
            result[name] = value
        else:
            log.warning(
                "%s: declared %s %s; the checkpoint states %s, which is used",
                declared.name, name, _ids(value), _ids(actual),
            )  # fmt: skip
    return TokenIds.model_validate(result)


def _ids(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def checkpoint_tokens(checkpoint: Checkpoint, vocab_size: int) -> TokenIds:
    """Read special token ids as generation uses them: ``generation_config.json`` first, then ``config.json``.

    An id past the vocabulary is left out, with a line for one that would end a text: the model cannot write it, and
    nothing is padded.
    """
    sources: list[Mapping[str, Any]] = [checkpoint.config]
    generation = checkpoint.companion(GENERATION)
    if generation is not None:
        sources.insert(0, parse_object(generation, f"{checkpoint.name}/{GENERATION}"))
    result: dict[str, Any] = {}
    for name in TokenIds.model_fields.keys() & IDS:
        for source in sources:
            value = source.get(name)
            ids = value if isinstance(value, list) else [] if value is None else [value]
            if not all(isinstance(index, int) and not isinstance(index, bool) for index in ids):
                raise ZooError(
                    f"{checkpoint.name}: {name} must be a token id or a list of them, not {repr(value)[:60]}"
                )
            # -1 means "none" in older files.
            ids = [index for index in ids if index >= 0]
            past = [index for index in ids if index >= vocab_size]
            if past and name != "pad_token_id":
                where = f"{_ids(tuple(past))}, past the vocabulary of {vocab_size}"
                log.warning("%s: %s %s, is left out: the model cannot write it", checkpoint.name, name, where)
            ids = [index for index in ids if index < vocab_size]
            if ids:
                result[name] = tuple(ids) if name == "eos_token_id" else ids[0]
                break
    return TokenIds.model_validate(result)


def _with_end_of_turn(tokens: TokenIds, checkpoint: Checkpoint, declared: str | None, vocab_size: int) -> TokenIds:
    """Add the token that ends the assistant's turn, or warn of one that is only said to end a text."""
    companion = checkpoint.companion
    try:
        files = read_files(companion, checkpoint.name).with_tokens(tokens)
        template = declared or chat_templates(companion, files).get(DEFAULT)
        if template is None and not files.names.get("eos_token"):
            return tokens
        tokenizer = resolve_tokenizer(companion, files)
    except ZooError:
        return tokens  # the build says it; what needs no tokenizer goes on
    if tokenizer is None:
        return tokens
    known = tokens.eos_token_id
    end = _end_of_turn(template, files, tokenizer, tokens) if template is not None else None
    if end is not None and end < vocab_size and end not in known:
        log.warning(
            "%s: its chat template ends the assistant's turn with %s, id %d, which its eos ids (%s) lack: added",
            checkpoint.name, tokenizer.tokens.get(end), end, _ids(known) or "none",
        )  # fmt: skip
        return tokens.model_copy(update={"eos_token_id": (*known, end)})
    named = files.special_tokens().get("eos_token")
    index = tokenizer.id_of(named) if named else None
    if index is None or index >= vocab_size or index in known:
        return tokens
    if not known:
        log.warning(
            "%s: no eos_token_id is stated; its tokenizer's eos_token %s, id %d, is used", checkpoint.name, named, index
        )
        return tokens.model_copy(update={"eos_token_id": (index,)})
    log.warning(
        "%s: its tokenizer's eos_token %s (%d) is not one of its eos ids (%s); if answers run on, --stop-token-ids %d",
        checkpoint.name, named, index, _ids(known), index,
    )  # fmt: skip
    return tokens


def _end_of_turn(template: str, files: TokenizerFiles, tokenizer: ResolvedTokenizer, tokens: TokenIds) -> int | None:
    from zoo.engine.chat import render

    eos = tokens.eos_token_id[0] if tokens.eos_token_id else None
    of_class = {"bos_token": tokenizer.text_of(tokens.bos_token_id), "eos_token": tokenizer.text_of(eos)}
    names = files.special_tokens({**of_class, **tokenizer.of_class})

    def write(turns: Sequence[Mapping[str, Any]]) -> str:
        return render(template, turns, names, ask=False)

    end = end_of_turn(write, tokenizer.tokens.values())
    return None if end is None else tokenizer.id_of(end)
