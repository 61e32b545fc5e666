"""Small computations, by the reference and by ONNX Runtime from the graph that the target emits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from zoo.calibration.execute import Executor
from zoo.calibration.program import Segment
from zoo.contracts import Parameter, RowSlice
from zoo.declarations.scheme import FloatScheme
from zoo.operations import Angles, GraphOps, Program, Rotary, Value
from zoo.targets.ort import attention, experts, norms, ops  # noqa: F401
from zoo.targets.ort.emission import Emission
from zoo.targets.ort.graph import Graph
from zoo.targets.ort.inputs import MaskInputs, RaggedInputs, TextInputs
from zoo.targets.ort.placement import place

VOCAB, HIDDEN, CONTEXT = 61, 48, 64
Compose = Callable[[GraphOps, Value, Value], Value]
"""(ops, token ids, embedded) → what the head reads."""


def weight(name: str, *shape: int, kind: Any = "linear") -> Parameter:
    return Parameter(name, kind, (RowSlice(name, shape),))


def rotary(pairs: int, **options: Any) -> Rotary:
    """Rotary positions of so many pairs."""
    frequencies = (100.0 ** -np.linspace(0, 1, pairs)).astype(np.float32)
    angles = Angles(frequencies, frequencies, pairs)
    return Rotary(lambda: angles, **options)


def language_model(compose: Compose) -> Program:
    """One layer between an embedding and a head of logits."""
    recorded = GraphOps()
    ids = recorded.tokens(CONTEXT)
    x = recorded.embedding("embed", ids, weight("embed", VOCAB, HIDDEN, kind="embedding"))
    with recorded.layer(0):
        x = compose(recorded, ids, x)
    x = recorded.last_positions("last_positions", x)
    head = weight("head", VOCAB, _width(recorded, x))
    recorded.logits(recorded.linear("/head", x, head))
    return recorded.program()


def _width(recorded: GraphOps, x: Value) -> int:
    return recorded.program().width(x)


def values(program: Program, seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded weights of a program, norms near one."""
    rng, drawn = np.random.default_rng(seed), {}
    for step in program.steps:
        for one in step.operation.weights:
            scale = 1.5 / np.sqrt(one.shape[-1]) if len(one.shape) > 1 else 0.3
            shift = 1.0 if one.kind == "norm" else 0.0
            drawn.setdefault(one.name, (shift + scale * rng.standard_normal(one.shape)).astype(np.float32))
    return drawn


def reference(program: Program, weights: dict[str, np.ndarray], ids: np.ndarray) -> np.ndarray:
    """What torch makes of token ids (batch, sequence)."""
    import torch

    whole = Segment(program.steps, program.steps[0].output, program.steps[-1].output)
    tensors = {name: torch.from_numpy(one) for name, one in weights.items()}
    with torch.no_grad():
        result: np.ndarray = Executor().run(whole, torch.from_numpy(ids), tensors).numpy()
    return result


class Package:
    """The target's graph over the same weights, written into a folder and opened."""

    def __init__(self, program: Program, weights: dict[str, np.ndarray], folder: Path, feed: Any = MaskInputs) -> None:
        parameters = {one.name: one for step in program.steps for one in step.operation.weights}
        schemes: dict[str, Any] = {name: FloatScheme(dtype="float32") for name in parameters}
        arrays = place(list(parameters.values()), schemes)
        with (folder / "model.onnx.data").open("wb") as file:
            for array in arrays:
                file.seek(array.offset)
                file.write(weights[array.parameter.name].tobytes())
        graph = Graph(arrays)
        Emission(program, graph, feed(graph), schemes, 4).run()
        (folder / "model.onnx").write_bytes(graph.serialize())
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
        self.past: dict[str, np.ndarray] = {}

    def begin(self, batch: int, room: int = 0) -> None:
        """Empty the KV cache; with ``room`` it has so many positions from the start, as the engine's has."""
        self.past = {
            one.name: np.zeros((batch, one.shape[1], room, one.shape[3]), np.float32)
            for one in self.session.get_inputs()
            if one.name.startswith("past_")
        }

    def step(self, **feeds: Any) -> np.ndarray:
        """Run; the KV cache goes on."""
        names = [one.name for one in self.session.get_outputs()]
        found = dict(zip(names, self.session.run(names, {**self.past, **feeds}), strict=True))
        self.past = {name: found[name.replace("past_key_values", "present")] for name in self.past}
        first: np.ndarray = found[names[0]]
        return first


def by_steps(program: Program, weights: dict[str, np.ndarray], folder: Path, ids: np.ndarray) -> np.ndarray:
    """All logits of ids (1, sequence): a prompt, then one token after the other."""
    package, prompt, rows = Package(program, weights, folder), 7, []
    package.begin(1)
    for start, stop in [(0, prompt), *((at, at + 1) for at in range(prompt, ids.shape[1]))]:
        mask = np.ones((1, stop), np.int64)
        keep = np.array([0], np.int64)
        rows.append(package.step(input_ids=ids[:, start:stop], attention_mask=mask, num_logits_to_keep=keep))
    return np.concatenate(rows, 1)


def ragged(program: Program, weights: dict[str, np.ndarray], folder: Path, ids: np.ndarray) -> np.ndarray:
    """All logits of two sequences of ids (2, sequence), in steps that bring each a different number of tokens."""
    package, done = Package(program, weights, folder, RaggedInputs), np.zeros(2, np.int64)
    package.begin(2, CONTEXT)
    logits = np.zeros((*ids.shape, VOCAB), np.float32)
    for plan in ((5, 2), (1, 6), (0, 1), (ids.shape[1], ids.shape[1])):
        counts = np.minimum(plan, ids.shape[1] - done)
        tokens = [ids[row, done[row] : done[row] + counts[row]] for row in range(2)]
        places = [(row, at) for row in range(2) for at in range(counts[row])]
        spread = np.zeros((2, counts.max(), 2), np.int64)
        for token, where in enumerate(places):
            spread[where] = 0, token
        lengths = done + counts
        found = package.step(
            input_ids=np.concatenate(tokens)[None], spread_tokens=spread, token_places=np.array([places], np.int64),
            sequence_lengths=(lengths - 1).astype(np.int32), query_lengths=counts.astype(np.int32),
            longest_sequence=np.array(lengths.max(), np.int32), logit_rows=np.arange(len(places)),
        )[0]  # fmt: skip
        at = 0
        for row in range(2):
            logits[row, done[row] : lengths[row]] = found[at : at + counts[row]]
            at += counts[row]
        done = lengths
    return logits


def encoded(program: Program, weights: dict[str, np.ndarray], folder: Path, ids: np.ndarray, mask: np.ndarray,
            **more: np.ndarray) -> np.ndarray:  # fmt: skip
    """What an encoder's graph makes of ids and mask (batch, sequence)."""
    return Package(program, weights, folder, TextInputs).step(input_ids=ids, attention_mask=mask, **more)
