"""The original weights as the harness' own ``hf`` model: what a package is held against. Needs torch."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM

from zoo.errors import ZooError
from zoo.evaluation.harness_model import Progress, Step
from zoo.evaluation.journal import Journal, request_key

_NEEDED = ("torch", "transformers", "accelerate", "peft")


def require_original() -> None:
    """Make sure that what the harness' own model computes with can be imported.

    Raises:
        ZooError: something is missing; the message gives the command.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ZooError(
            f"--against hf computes with the harness' own model, which needs {' and '.join(missing)}; "
            "install: pip install 'model-zoo-framework[verify]' 'lm_eval[hf]'"
        )


class OriginalModel(LM):  # type: ignore[misc]  # the harness has no types
    """The harness' ``hf`` model over a checkpoint folder, float32, with a journal of its answers."""

    def __init__(
        self, folder: Path, journal: Journal, *, batch_size: int = 8, progress: Progress | None = None
    ) -> None:
        """Open a checkpoint folder.

        Raises:
            ZooError: transformers cannot open it.
        """
        super().__init__()
        import transformers

        transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        try:
            self._model: Any = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=batch_size)
        except Exception as error:  # transformers raises of every kind
            reason = " ".join(str(error).split())[:300]
            raise ZooError(f"{folder.name}: transformers cannot open it: {reason}") from None
        self._journal, self._progress = journal, progress
        self.has_template = self._model.tokenizer.chat_template is not None

    def encode(self, text: str) -> list[int]:
        """Turn a text into ids as transformers does."""
        return list(self._model.tok_encode(text))

    @property
    def tokenizer_name(self) -> str:
        """The harness' name for the tokenizer."""
        return str(self._model.tokenizer_name)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Write a conversation as transformers does."""
        return str(self._model.apply_chat_template(chat_history, add_generation_prompt))

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Score continuations."""
        return [(float(answer[0]), bool(answer[1])) for answer in self._answer("loglikelihood", requests)]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """Score whole texts."""
        return [float(answer) for answer in self._answer("loglikelihood_rolling", requests)]

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Write answers."""
        return [str(answer) for answer in self._answer("generate_until", requests)]

    def _answer(self, kind: str, requests: Sequence[Any]) -> list[Any]:
        keys = [request_key(kind, list(request.args)) for request in requests]
        known = {key: found for key in keys if (found := self._journal.known(key)) is not None}
        unknown = [one for key, one in zip(keys, requests, strict=True) if key not in known]
        if unknown:
            self._model.set_cache_hook(_Hook(lambda args, answer: self._came(kind, args, answer, known, len(requests))))
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):  # it draws bars of its own
                answers = getattr(self._model, kind)(unknown)
            known |= {request_key(kind, list(one.args)): got for one, got in zip(unknown, answers, strict=True)}
        return [known[key] for key in keys]

    def _came(self, kind: str, args: Sequence[Any], answer: Any, known: dict[str, Any], total: int) -> None:
        key = request_key(kind, list(args))
        known[key] = answer
        self._journal.add(key, answer)
        if self._progress is not None:
            self._progress(Step("answers of transformers", len(known), total, None))


class _Hook:
    """What the harness' model tells of every answer as it comes."""

    def __init__(self, tell: Callable[[Sequence[Any], Any], None]) -> None:
        self._tell = tell

    def add_partial(self, kind: str, args: Sequence[Any], answer: Any) -> None:
        self._tell(args, answer)
