"""What travels beside the weights: configuration, tokenizer, templates and licence texts."""

from __future__ import annotations

import json
from typing import Any

from zoo.contracts import Checkpoint
from zoo.declarations.recipe import Recipe
from zoo.errors import ZooError
from zoo.sources.companions import CONFIG, GENERATION, licences
from zoo.sources.jsonfile import parse_object

COPIED = ("special_tokens_map.json", "added_tokens.json")


def companion_files(recipe: Recipe, checkpoint: Checkpoint | None) -> tuple[dict[str, bytes], list[str]]:
    """Make the files that a package takes from the checkpoint, by name, and the warnings to show.

    Raises:
        ZooError: a file is no JSON, or the tokenizer has more tokens than the model.
    """
    files: dict[str, bytes] = {}
    warnings: list[str] = []
    if checkpoint is None:
        return files, warnings
    config = checkpoint.companion(CONFIG)
    if config is not None:
        files[CONFIG] = _with_tokens(config, recipe, CONFIG, checkpoint)
    generation = checkpoint.companion(GENERATION)
    if generation is not None:
        files[GENERATION] = _with_tokens(generation, recipe, GENERATION, checkpoint, only_present=True)
    tokenizer = _tokenizer(checkpoint)
    if tokenizer is None:
        warnings.append(f"{checkpoint.name} has no tokenizer: the package builds, but takes no text")
    else:
        _check_size(tokenizer, recipe, checkpoint)
        files["tokenizer.json"] = tokenizer
    for name in COPIED:
        raw = checkpoint.companion(name)
        if raw is not None:
            files[name] = raw
    files |= _templates(recipe, checkpoint)
    for name in licences(checkpoint.companions()):
        raw = checkpoint.companion(name)
        if raw is not None:
            files[name] = raw
    return files, warnings


def _tokenizer(checkpoint: Checkpoint) -> bytes | None:
    """The checkpoint's ``tokenizer.json``, or one converted from ``tokenizer.model``."""
    raw = checkpoint.companion("tokenizer.json")
    if raw is not None:
        return raw
    model = checkpoint.companion("tokenizer.model")
    if model is None:
        return None
    from zoo.sources.sentencepiece import convert

    settings, added = (_object(checkpoint, name) for name in ("tokenizer_config.json", "added_tokens.json"))
    return convert(model, settings, added, f"{checkpoint.name}/tokenizer.model")


def _object(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    raw = checkpoint.companion(name)
    return {} if raw is None else parse_object(raw, f"{checkpoint.name}/{name}", duplicates=True)


def _check_size(tokenizer: bytes, recipe: Recipe, checkpoint: Checkpoint) -> None:
    where = f"{checkpoint.name}/tokenizer.json"
    data = parse_object(tokenizer, where, duplicates=True)
    model = data.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    added = data.get("added_tokens", [])
    if isinstance(vocab, dict):
        largest = max((one for one in vocab.values() if isinstance(one, int)), default=-1)
    elif isinstance(vocab, list):
        largest = len(vocab) - 1
    else:
        raise ZooError(f"{where}: no tokenizer: it holds no vocabulary")
    if isinstance(added, list):
        ids = [one["id"] for one in added if isinstance(one, dict) and isinstance(one.get("id"), int)]
        largest = max([largest, *ids])
    if largest >= recipe.architecture.vocab_size:
        raise ZooError(
            f"{where}: its tokens go up to id {largest}, but vocab_size is {recipe.architecture.vocab_size}; "
            "tokenizer and weights do not belong together"
        )


def _with_tokens(raw: bytes, recipe: Recipe, name: str, checkpoint: Checkpoint, *, only_present: bool = False) -> bytes:
    """The file with the recipe's token ids, byte for byte as it was where they agree."""
    data = parse_object(raw, f"{checkpoint.name}/{name}")
    changed = False
    for key, wanted in _token_ids(recipe).items():
        if only_present and key not in data:
            continue
        found = data.get(key)
        if found != wanted and [found] != wanted and not (key not in data and wanted is None):
            data[key] = wanted
            changed = True
    return f"{json.dumps(data, indent=2, ensure_ascii=False)}\n".encode() if changed else raw


def _token_ids(recipe: Recipe) -> dict[str, Any]:
    tokens = recipe.tokens
    ids: dict[str, Any] = {}
    if tokens.bos_token_id is not None:
        ids["bos_token_id"] = tokens.bos_token_id
    if tokens.eos_token_id:
        ids["eos_token_id"] = tokens.eos_token_id[0] if len(tokens.eos_token_id) == 1 else list(tokens.eos_token_id)
    if tokens.pad_token_id is not None:
        ids["pad_token_id"] = tokens.pad_token_id
    return ids


def _templates(recipe: Recipe, checkpoint: Checkpoint) -> dict[str, bytes]:
    """``tokenizer_config.json`` and ``chat_template.jinja``, with the declared template where there is one."""
    files: dict[str, bytes] = {}
    settings = checkpoint.companion("tokenizer_config.json")
    template = checkpoint.companion("chat_template.jinja")
    if recipe.chat_template is not None:
        template = recipe.chat_template.encode()
        if settings is not None:
            data = parse_object(settings, f"{checkpoint.name}/tokenizer_config.json", duplicates=True)
            if data.get("chat_template", recipe.chat_template) != recipe.chat_template:
                data["chat_template"] = recipe.chat_template
                settings = f"{json.dumps(data, indent=2, ensure_ascii=False)}\n".encode()
    elif template is None and (wrapped := checkpoint.companion("chat_template.json")) is not None:
        text = parse_object(wrapped, f"{checkpoint.name}/chat_template.json").get("chat_template")
        template = text.encode() if isinstance(text, str) else None
    if settings is not None:
        files["tokenizer_config.json"] = settings
    if template is not None:
        files["chat_template.jinja"] = template
    return files
