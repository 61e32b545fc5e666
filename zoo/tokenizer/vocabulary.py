"""``vocab.json`` and ``merges.txt``, or ``vocab.txt``, without a ``tokenizer.json``: converted by transformers.

They hold pieces and merges; how text is cut before them is code of the class that ``tokenizer_config.json``
names, which only transformers has. It reads the files alone, in a folder of their own, and never code that comes with
them.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from zoo.errors import ZooError
from zoo.sources.companions import CONFIG
from zoo.sources.jsonfile import parse_object
from zoo.tokenizer.files import ADDED, NAMED, SETTINGS, Companion, TokenizerFiles

VOCAB, MERGES, WORDS = "vocab.json", "merges.txt", "vocab.txt"


def convert(companion: Companion, files: TokenizerFiles) -> tuple[bytes, dict[str, str]] | None:
    """Make ``tokenizer.json`` of ``vocab.json`` and ``merges.txt``, or of ``vocab.txt``; None where they are not there.

    Returns:
        The file, and the special tokens by name, those among them that only the class knows.

    Raises:
        ZooError: transformers is not installed, or cannot read them.
    """
    raw = {name: content for name in (VOCAB, MERGES, WORDS) if (content := companion(name)) is not None}
    if WORDS not in raw and not raw.keys() >= {VOCAB, MERGES}:
        return None
    where = f"{files.where}: {WORDS if WORDS in raw else f'{VOCAB} and {MERGES}'}"
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise ZooError(
            f"{where} are converted by transformers, which is not installed: pip install "
            "'model-zoo-framework[verify]', or bring a tokenizer.json "
            "(AutoTokenizer.from_pretrained(...).save_pretrained writes one)"
        ) from None
    with tempfile.TemporaryDirectory(prefix="zoo-tokenizer-") as folder:
        for name, content in {**raw, **_beside(companion, files)}.items():
            (Path(folder) / name).write_bytes(content)
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
            text: str = tokenizer.backend_tokenizer.to_str()
            names: dict[str, str] = dict(tokenizer.special_tokens_map)
        except (Exception, RecursionError) as error:  # it raises whatever its readers raise
            said = " ".join(str(error).replace(folder, files.where).split())[:200]
            raise ZooError(f"{where}: transformers cannot read them: {said}; bring a tokenizer.json") from None
    return text.encode(), names


def _beside(companion: Companion, files: TokenizerFiles) -> dict[str, bytes]:
    """Collect what decides how the class reads them, without references to code."""
    settings = {name: value for name, value in files.settings.items() if name not in ("auto_map", "chat_template")}
    beside = {SETTINGS: json.dumps(settings).encode()}
    config = companion(CONFIG)
    if config is not None and not settings.get("tokenizer_class"):  # then the type of the model says which class
        kind = parse_object(config, f"{files.where}/{CONFIG}").get("model_type")
        beside[CONFIG] = json.dumps({"model_type": kind}).encode()
    for name in (NAMED, ADDED):
        raw = companion(name)
        if raw is not None:
            beside[name] = raw
    return beside
