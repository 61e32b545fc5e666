"""Small tokenizers and the folders that they lie in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
WORDS = ("<unk>", "<s>", "</s>", "Hello", "there", "im", "end", "|", "<", ">", "zoo")


def words(*added: str) -> dict[str, Any]:
    """A tokenizer of whole words; ``added`` tokens follow them."""
    tokens = [{"id": index, "content": text, **FLAGS} for index, text in enumerate(WORDS[:3])]
    tokens += [{"id": len(WORDS) + at, "content": text, **FLAGS} for at, text in enumerate(added)]
    return {
        "version": "1.0",
        "added_tokens": tokens,
        "pre_tokenizer": {"type": "Whitespace"},
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": {word: at for at, word in enumerate(WORDS)}, "unk_token": "<unk>"},
    }


def write(folder: Path, **files: Any) -> Path:
    """Write files by name, ``_`` for the dot; what is not text becomes JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        stem, _, kind = name.rpartition("_")
        text = content if isinstance(content, str) else json.dumps(content)
        path = folder / f"{stem}.{kind}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def in_folder(folder: Path) -> Callable[[str], bytes | None]:
    """Return the reader of a folder's files."""
    return lambda name: (folder / name).read_bytes() if (folder / name).is_file() else None
