"""What travels beside the weights: configuration, tokenizer, templates and licence texts."""

from __future__ import annotations

import json
from typing import Any

from zoo.contracts import Checkpoint
from zoo.declarations.recipe import Recipe
from zoo.package.chat_defaults import ChatDefaults
from zoo.sources.companions import CONFIG, EMBEDDING, GENERATION, licences
from zoo.sources.jsonfile import parse_object
from zoo.tokenizer.files import ADDED, NAMED, SETTINGS, Companion, TokenizerFiles, read_files
from zoo.tokenizer.resolve import TOKENIZER, ResolvedTokenizer, resolve_tokenizer
from zoo.tokenizer.templates import DEFAULT, FILE, TOOLS_FILE, chat_templates

COPIED = (NAMED, ADDED, *EMBEDDING)


def companion_files(recipe: Recipe, checkpoint: Checkpoint | None) -> tuple[dict[str, bytes], list[str]]:
    """Make the files that a package takes from the checkpoint, by name, and the warnings to show.

    ``tokenizer.json`` is complete: it holds every token that the checkpoint's other files name.

    Raises:
        ZooError: a file is not JSON, or the tokenizer cannot be read.
    """
    files: dict[str, bytes] = {}
    warnings: list[str] = []
    if checkpoint is None:
        return files, warnings
    companion = checkpoint.companion
    config = companion(CONFIG)
    if config is not None:
        files[CONFIG] = _with_tokens(config, recipe, CONFIG, checkpoint)
    generation = companion(GENERATION)
    if generation is not None:
        files[GENERATION] = _with_tokens(generation, recipe, GENERATION, checkpoint, only_present=True)
        warnings += [f"{checkpoint.name}/{GENERATION}: {line}" for line in ChatDefaults.read(generation).remarks]
    beside = read_files(companion, checkpoint.name).with_tokens(recipe.tokens)
    tokenizer = resolve_tokenizer(companion, beside)
    if tokenizer is None:
        warnings.append(f"{checkpoint.name} has no tokenizer: the package builds, but takes no text")
    else:
        warnings += _remarks(tokenizer, recipe, checkpoint)
        files[TOKENIZER] = tokenizer.raw
    for name in COPIED:
        raw = companion(name)
        if raw is not None:
            files[name] = raw
    files |= _templates(recipe, companion, beside, tokenizer.of_class if tokenizer is not None else {})
    for name in licences(checkpoint.companions()):
        raw = companion(name)
        if raw is not None:
            files[name] = raw
    return files, warnings


def _remarks(tokenizer: ResolvedTokenizer, recipe: Recipe, checkpoint: Checkpoint) -> list[str]:
    """Say what a user should know of the tokenizer: tokens that the model has no row for, and ids that moved."""
    lines = []
    vocab = recipe.architecture.vocab_size
    if tokenizer.highest_id >= vocab:
        past = sorted(text for index, text in tokenizer.tokens.items() if index >= vocab)
        named = f" ({', '.join(past[:3])}{', ...' if len(past) > 3 else ''})" if past else ""
        lines.append(
            f"{checkpoint.name}: its tokenizer's ids go up to {tokenizer.highest_id}, past the vocabulary of {vocab}; "
            f"text with such a token{named} is refused"
        )
    for text, (stated, given) in list(tokenizer.moved.items())[:3]:
        lines.append(
            f"{checkpoint.name}: token {text} is stated as id {stated}; its tokenizer makes it {given}, which is used"
        )
    return lines


def _with_tokens(raw: bytes, recipe: Recipe, name: str, checkpoint: Checkpoint, *, only_present: bool = False) -> bytes:
    """The file with the recipe's token ids, byte for byte as it was where they agree."""
    data = parse_object(raw, f"{checkpoint.name}/{name}")
    changed = False
    for key, wanted in _token_ids(recipe).items():
        stated = data.get(key)
        if only_present and key not in data:
            continue
        if stated != wanted and [stated] != wanted and (wanted is not None or _past(stated, recipe)):
            data[key] = wanted
            changed = True
    return f"{json.dumps(data, indent=2, ensure_ascii=False)}\n".encode() if changed else raw


def _past(stated: Any, recipe: Recipe) -> bool:
    """Whether a file's id, or one of its list, is past the vocabulary: transformers would refuse the folder."""
    ids = stated if isinstance(stated, list) else [stated]
    return any(isinstance(index, int) and index >= recipe.architecture.vocab_size for index in ids)


def _token_ids(recipe: Recipe) -> dict[str, Any]:
    """The ids as configuration files write them; None where there is none."""
    eos = recipe.tokens.eos_token_id
    return {
        "bos_token_id": recipe.tokens.bos_token_id,
        "eos_token_id": (eos[0] if len(eos) == 1 else list(eos)) if eos else None,
        "pad_token_id": recipe.tokens.pad_token_id,
    }


def _templates(
    recipe: Recipe, companion: Companion, beside: TokenizerFiles, of_class: dict[str, str]
) -> dict[str, bytes]:
    """``tokenizer_config.json`` and ``chat_template.jinja``, with the declared template where there is one.

    Args:
        of_class: special tokens that no file names, which the package's names.
    """
    files: dict[str, bytes] = {}
    settings, template = companion(SETTINGS), companion(FILE)
    changed: dict[str, Any] = dict(of_class)
    if recipe.chat_template is not None:
        template = recipe.chat_template.encode()
        if beside.settings.get("chat_template", recipe.chat_template) != recipe.chat_template:
            changed["chat_template"] = recipe.chat_template
    elif template is None and beside.settings.get("chat_template") is None:
        wrapped = chat_templates(companion, beside).get(DEFAULT)  # of chat_template.json
        template = wrapped.encode() if wrapped is not None else None
    if recipe.chat_template is None and companion(TOOLS_FILE) is not None:
        # Files win over the list, and a package has no folders: the list holds them all.
        named = chat_templates(companion, beside).items()
        changed["chat_template"] = [{"name": name, "template": text} for name, text in named]
        template = None
    if changed:
        settings = f"{json.dumps({**beside.settings, **changed}, indent=2, ensure_ascii=False)}\n".encode()
    if settings is not None:
        files[SETTINGS] = settings
    if template is not None:
        files[FILE] = template
    return files
