"""A model's text work in a process of its own: its template and its tokenizer hold up nobody else, and end in time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from zoo.engine.text import check_text
from zoo.errors import ZooError
from zoo.worker.process import Worker

if TYPE_CHECKING:
    from zoo.engine.text import Tokenizer

SECONDS = 5.0
"""How long one rendering or one text may take."""
MEMORY = 2 * 2**30
"""Bytes of address space for the tokenizer, a template and one request's text; what is in use is far less."""
THREADS = 2
"""Requests of a model that are turned into ids at once."""


class TextWork:
    """The worker process of one model, and the threads that wait for it."""

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self.worker = Worker(MEMORY, SECONDS, ("jinja2", "markupsafe", "tokenizers", "pydantic_core"))
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="zoo-encode")
        self._where = (
            None if tokenizer is None else {"path": str(tokenizer.path), "split_special": tokenizer.split_special}
        )
        if self._where is not None:
            threading.Thread(target=self._warm, name="zoo-warm", daemon=True).start()

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Turn text into ids.

        Raises:
            UsageError: it is not valid text.
            Overrun: it takes more than ``SECONDS``, or too much memory.
            ZooError: the tokenizer cannot take it.
        """
        check_text(text)
        what, work = "the tokenizer", "zoo.rendering.tokens:encode_here"
        ids: list[int] = self.worker.call(work, what, text=text, special=special, **(self._where or {}))
        return ids

    def close(self) -> None:
        """End the process, also in the middle of a text."""
        self.threads.shutdown(wait=False, cancel_futures=True)
        self.worker.close()

    def _warm(self) -> None:
        """Load what the first request needs."""
        try:
            self.worker.call("zoo.rendering.tokens:warm", "the tokenizer", **(self._where or {}))
        except ZooError:
            return  # the first request says so
