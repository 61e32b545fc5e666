"""The package's side: its own graph and weights under ONNX Runtime, one decoder layer in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ZooError
from zoo.package.closed import has_file
from zoo.verify.cut import LOGITS, TOKENS, CutGraph

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GRAPH = "model.onnx"


class Candidate:
    """A package's computation in pieces: ``begin``, ``step`` for each layer, then ``logits``.

    Args:
        folder: the package, or another folder with a decoder's graph and its data.
        graph: the file of the graph: by default the one for other programs; the engine's own are read too.
    """

    def __init__(self, folder: Path, graph: str = GRAPH) -> None:
        self._folder = folder
        self._name = f"{folder.name}/{graph}"
        if not has_file(folder, graph):
            raise ZooError(f"{self._name}: missing; only packages with an ONNX graph can be verified")
        self._cut = CutGraph(folder / graph)
        self._values: list[dict[str, NDArray[Any]]] = []
        self._after: Any = None

    @property
    def num_layers(self) -> int:
        return self._cut.num_layers

    def begin(self, sequences: Sequence[NDArray[np.int64]]) -> None:
        """Embed token sequences, each (length,)."""
        self._after = None
        with self._opened(self._cut.before()) as session:
            self._values = [
                self._run(session, self._cut.boundary(-1), {TOKENS: ids[None]}, len(ids)) for ids in sequences
            ]

    def step(self, layer: int, given: Mapping[int, NDArray[np.float32]]) -> dict[int, NDArray[np.float32]]:
        """Send every sequence through the next layer.

        Args:
            given: hidden states (length, hidden) of some sequences, as the other side has them before the layer.

        Returns:
            What this layer makes of ``given``.
        """
        import numpy as np

        outputs, inputs = self._cut.boundary(layer), self._cut.boundary(layer - 1)
        made = {}
        with self._opened(self._cut.layer(layer)) as session:
            for index, states in given.items():
                # The values that enter a layer are summed up first thing, so that one of them may carry it all.
                zeros = dict.fromkeys(inputs, np.zeros_like(states[None]))
                made[index] = _sum(self._run(session, outputs, zeros | {inputs[0]: states[None]}, len(states)))
            for index, values in enumerate(self._values):
                self._values[index] = self._run(session, outputs, values, next(iter(values.values())).shape[1])
        return made

    def states(self, sequence: int) -> NDArray[np.float32]:
        """The hidden states of a sequence as they are now, (length, hidden)."""
        return _sum(self._values[sequence])

    def logits(self, sequence: int, start: int, stop: int) -> NDArray[np.float32]:
        """The logits of positions ``start`` to ``stop`` after the last layer, (positions, vocab)."""
        values = {name: value[:, start:stop] for name, value in self._values[sequence].items()}
        logits: NDArray[np.float32] = self._run(self._opened_after(), (LOGITS,), values, stop - start)[LOGITS][0]
        return logits

    def head(self, states: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the final norm and the head make of given hidden states: (length, hidden) → (length, vocab)."""
        import numpy as np

        inputs = self._cut.boundary(self.num_layers - 1)
        values = dict.fromkeys(inputs, np.zeros_like(states[None])) | {inputs[0]: states[None]}
        logits: NDArray[np.float32] = self._run(self._opened_after(), (LOGITS,), values, len(states))[LOGITS][0]
        return logits

    def _opened_after(self) -> Any:
        if self._after is None:
            self._after = self._session(self._cut.after())
        return self._after

    def _session(self, model: bytes) -> Any:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False  # what a layer took goes back before the next one
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the reference computes meanwhile
        options.add_session_config_entry(_DATA_FOLDER, str(self._folder.resolve()))
        try:
            return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own classes share no other base
            raise ZooError(f"{self._name}: ONNX Runtime refuses it: {_line(error)}") from None

    @contextmanager
    def _opened(self, model: bytes) -> Iterator[Any]:
        session = self._session(model)
        try:
            yield session
        finally:
            del session

    def _run(
        self, session: Any, outputs: Sequence[str], given: Mapping[str, NDArray[Any]], length: int
    ) -> dict[str, NDArray[Any]]:
        """Run a piece: an all-ones mask, an empty cache and every position stand in for what is not given."""
        import numpy as np

        feeds: dict[str, NDArray[Any]] = {}
        whole = _one_sequence(length)
        for value in session.get_inputs():
            if value.name in given:
                feeds[value.name] = given[value.name]
            elif value.name in (TOKENS, "attention_mask"):  # of the tokens, only their number
                feeds[value.name] = np.ones((1, length), np.int64)
            elif value.name.startswith("past_key_values."):
                feeds[value.name] = np.zeros((1, value.shape[1], 0, value.shape[3]), np.float32)
            elif value.name in whole:
                feeds[value.name] = whole[value.name]
            else:
                raise ZooError(f"{self._name}: input {value.name!r} is not known; it cannot be verified")
        if any(value.name == _KEEP for value in session.get_overridable_initializers()):
            feeds[_KEEP] = np.array([0], np.int64)
        try:
            outcome = session.run(list(outputs), feeds)
        except Exception as error:
            raise ZooError(f"{self._name}: ONNX Runtime fails: {_line(error)}") from None
        return dict(zip(outputs, outcome, strict=True))


_DATA_FOLDER = "session.model_external_initializers_file_folder_path"
"""Where a model given as bytes finds its data file."""
_KEEP = "num_logits_to_keep"
"""0 asks for the logits of all positions."""


def _one_sequence(length: int) -> dict[str, NDArray[Any]]:
    """What the engine's graph is told of one whole sequence, all of whose logits are wanted."""
    import numpy as np

    tokens = np.arange(length, dtype=np.int64)
    return {
        "sequence_lengths": np.array([length - 1], np.int32),
        "query_lengths": np.array([length], np.int32),
        "longest_sequence": np.array(length, np.int32),
        "spread_tokens": np.stack([np.zeros(length, np.int64), tokens], -1)[None],
        "token_places": np.stack([np.zeros(length, np.int64), tokens], -1)[None],
        "logit_rows": tokens,
    }


def _sum(values: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Add up the values that leave a layer: the residual stream and what is yet to be added to it."""
    parts = list(values.values())
    total: NDArray[np.float32] = parts[0][0]
    for part in parts[1:]:
        total = total + part[0]
    return total


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
