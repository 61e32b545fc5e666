"""An ONNX Runtime session over an encoder's ``model.onnx``: batches of token ids to hidden states or scores."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.embedding.batches import plan_batches
from zoo.embedding.tokens import TextTokens
from zoo.engine.machine import usable_cores
from zoo.engine.session import open_session
from zoo.errors import ZooError

SLOW = "SkipLayerNormFusion"
"""What onnxruntime must leave alone: the fused kernel takes several times as long as the two that it replaces."""
HIDDEN, LOGITS = "last_hidden_state", "logits"


class TextSession:
    """A loaded graph; calls of several threads wait for each other.

    Attributes:
        result: ``last_hidden_state`` or ``logits``.
        width: values of the result's last axis.
    """

    def __init__(self, graph: Path, name: str, threads: int | None = None) -> None:
        """Load a graph.

        Raises:
            ZooError: onnxruntime cannot load it, or it is not an encoder.
        """
        self._name, self.threads, started = name, threads or usable_cores(), time.perf_counter()
        self._session, self.kernels = self._open(graph)
        self.load_seconds = time.perf_counter() - started
        self._inputs = {value.name for value in self._session.get_inputs()}
        outputs = {value.name: value for value in self._session.get_outputs()}
        self.result = next((name for name in (HIDDEN, LOGITS) if name in outputs), "")
        known = {"input_ids", "attention_mask", "token_type_ids"}
        if not self.result or not {"input_ids", "attention_mask"} <= self._inputs <= known:
            raise ZooError(f"{name}: its graph takes or gives something else than an encoder's")
        self.width = int(outputs[self.result].shape[-1])
        self._lock = threading.Lock()

    def _open(self, graph: Path) -> tuple[Any, int]:
        try:
            return open_session(str(graph), self.threads, graph.parent, disabled_optimizers=[SLOW])
        except Exception as error:  # onnxruntime's errors have no common base of their own
            raise ZooError(f"{self._name}: onnxruntime cannot open it: {' '.join(str(error).split())[:300]}") from None

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
        for batch in plan_batches([len(text) for text in texts]):
            result = self._compute([texts[at] for at in batch])
            for row, at in enumerate(batch):
                taken[at] = take(result[row, : len(texts[at])] if self.result == HIDDEN else result[row])
        return taken

    def _compute(self, batch: Sequence[TextTokens]) -> NDArray[np.float32]:
        shape = len(batch), max(map(len, batch))
        ids, mask, types = (np.zeros(shape, np.int64) for _ in range(3))
        for row, text in enumerate(batch):
            ids[row, : len(text)], types[row, : len(text)], mask[row, : len(text)] = text.ids, text.types, 1
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        given = {name: value for name, value in feeds.items() if name in self._inputs}
        try:
            with self._lock:
                result: NDArray[np.float32] = self._session.run([self.result], given)[0]
        except Exception as error:  # onnxruntime's errors have no common base of their own
            raise ZooError(f"{self._name}: onnxruntime failed: {' '.join(str(error).split())[:300]}") from None
        return result
