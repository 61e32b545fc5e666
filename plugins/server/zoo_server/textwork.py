"""A model's text work in a process of its own: its template and its tokenizer hold up nobody else, and end in time."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zoo.engine.text import Tokenizer, check_text
from zoo.errors import ZooError
from zoo.worker.process import Worker

SECONDS = 5.0
"""How long one rendering or one text may take."""
MEMORY = 2 * 2**30
"""Bytes of address space for the tokenizer, a template and one request's text; what is in use is far less."""
THREADS = 2
"""Requests of a model that are turned into ids at once."""


class TextWork:
    """The worker process of one model, and the threads that wait for it.

    It starts at once and imports what it needs, so that it is there before its model is.
    """

    def __init__(self) -> None:
        self.worker = Worker(MEMORY, SECONDS, ("jinja2", "markupsafe", "tokenizers", "pydantic_core"))
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="zoo-encode")
        self._path: str | None = None
        self._split_special = False
        self._prepare("zoo.rendering.tokens:warm")

    def open(self, folder: Path) -> None:
        """Begin to load a package's tokenizer, while the model is loaded."""
        if (folder / "tokenizer.json").is_file():
            self._path = str(folder / "tokenizer.json")
            self._prepare("zoo.rendering.tokens:load", path=self._path)

    def follow(self, tokenizer: Tokenizer | None) -> None:
        """Tokenize as the engine's tokenizer does."""
        self._path = None if tokenizer is None else str(tokenizer.path)
        self._split_special = tokenizer is not None and tokenizer.split_special

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Turn text into ids.

        Raises:
            UsageError: it is not valid text.
            Overrun: it takes more than ``SECONDS``, or too much memory.
            ZooError: the tokenizer cannot take it.
        """
        check_text(text)
        ids: list[int] = self.worker.call(
            "zoo.rendering.tokens:encode_here", "the tokenizer",
            path=self._path, split_special=self._split_special, text=text, special=special,
        )  # fmt: skip
        return ids

    def close(self) -> None:
        """End the process, also in the middle of a text."""
        self.threads.shutdown(wait=False, cancel_futures=True)
        self.worker.close()

    def _prepare(self, function: str, **arguments: str) -> None:
        """Let the process do something that nobody waits for; the first request says what is wrong."""

        def ask() -> None:
            with contextlib.suppress(ZooError):
                self.worker.call(function, "the tokenizer", **arguments)

        threading.Thread(target=ask, name="zoo-warm", daemon=True).start()
