"""An ONNX Runtime session over an encoder's ``model.onnx``: batches of token ids to hidden states or scores."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.embedding.batches import plan_batches
from zoo.embedding.tokens import TextTokens
from zoo.engine.machine import usable_cores
from zoo.engine.session import session_options
from zoo.errors import ZooError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

ROWWISE = 8
"""Tokens from which on a text goes through the row-wise graph; the vectors of shorter ones show its rounding most."""
SLOW = "SkipLayerNormFusion"
"""What onnxruntime must leave alone: the fused kernel takes several times as long as the two that it replaces."""
HIDDEN, LOGITS = "last_hidden_state", "logits"


class TextSession:
    """A loaded graph; calls of several threads wait for each other.

    Attributes:
        result: ``last_hidden_state`` or ``logits``.
        width: values of the result's last axis.
    """

    def __init__(self, graph: Path, name: str, threads: int | None = None, rowwise: Path | None = None) -> None:
        """Load a graph, and the row-wise one beside it.

        Raises:
            ZooError: onnxruntime cannot load it, or it is not an encoder.
        """
        self._name, self.threads, started = name, threads or usable_cores(), time.perf_counter()
        self._session = self._open(graph)
        self._rowwise = None if rowwise is None else self._open(rowwise)
        self.load_seconds = time.perf_counter() - started
        self._inputs = {value.name for value in self._session.get_inputs()}
        outputs = {value.name: value for value in self._session.get_outputs()}
        self.result = next((name for name in (HIDDEN, LOGITS) if name in outputs), "")
        known = {"input_ids", "attention_mask", "token_type_ids"}
        if not self.result or not {"input_ids", "attention_mask"} <= self._inputs <= known:
            raise ZooError(f"{name}: its graph takes or gives something else than an encoder's")
        self.width = int(outputs[self.result].shape[-1])
        self._lock = threading.Lock()

    def _open(self, graph: Path) -> Any:
        import onnxruntime as ort

        try:
            options = session_options(self.threads)
            return ort.InferenceSession(
                str(graph), options, providers=["CPUExecutionProvider"], disabled_optimizers=[SLOW]
            )
        except Exception as error:  # onnxruntime's errors have no common base of their own
            raise ZooError(f"{self._name}: onnxruntime cannot open it: {' '.join(str(error).split())[:300]}") from None

    @property
    def rowwise(self) -> bool:
        """Whether there is a row-wise graph."""
        return self._rowwise is not None

    def run(self, texts: Sequence[TextTokens], take: Callable[[NDArray[np.float32]], Any]) -> list[Any]:
        """Compute texts in batches of nearly one length.

        Args:
            take: called with each text's result: its hidden states, float32 (tokens, width), or its logits (labels,).
                They are valid until it returns.

        Returns:
            What it returned, in the order of the texts.

        Raises:
            ZooError: onnxruntime fails.
        """
        taken: list[Any] = [None] * len(texts)
        long = [at for at, text in enumerate(texts) if self._rowwise is not None and len(text) >= ROWWISE]
        apart = set(long)
        short = [at for at in range(len(texts)) if at not in apart]
        for session, places in ((self._rowwise, long), (self._session, short)):
            for batch in plan_batches([len(texts[at]) for at in places]):
                group = [places[index] for index in batch]
                result = self._compute(session, [texts[at] for at in group])
                for row, at in enumerate(group):
                    taken[at] = take(result[row, : len(texts[at])] if self.result == HIDDEN else result[row])
        return taken

    def _compute(self, session: Any, batch: Sequence[TextTokens]) -> NDArray[np.float32]:
        shape = len(batch), max(map(len, batch))
        ids, mask, types = (np.zeros(shape, np.int64) for _ in range(3))
        for row, text in enumerate(batch):
            ids[row, : len(text)], types[row, : len(text)], mask[row, : len(text)] = text.ids, text.types, 1
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        given = {name: value for name, value in feeds.items() if name in self._inputs}
        try:
            with self._lock:
                result: NDArray[np.float32] = session.run([self.result], given)[0]
        except Exception as error:  # onnxruntime's errors have no common base of their own
            raise ZooError(f"{self._name}: onnxruntime failed: {' '.join(str(error).split())[:300]}") from None
        return result
