"""Compare a package's row-wise graph with the one that it would replace: is it faster here, and is it as exact?

Both round activations, so neither is the other's measure: that is the same weights with activations left in float32.
"""

from __future__ import annotations

import math
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.engine.prepack.making import SOURCES, external_tensors, locate, place, source
from zoo.engine.rowwise import Trial
from zoo.engine.session import MAX_CHUNK, Row, Session
from zoo.verify.candidate import Candidate
from zoo.verify.metrics import LogitFigures, TextFigures
from zoo.verify.samples import make_samples
from zoo.verify.tolerances import TOLERANCES

if TYPE_CHECKING:
    from zoo.package.folder import Package

ROUNDS = 5
SHARE = 0.1
"""Share of what ``zoo verify`` tolerates that it may add."""
EXACT = "exact.onnx"


def run_trial(package: Package, blocks: Path, rowwise: Path, left: str | None = None) -> Trial:
    """Measure both graphs of a package.

    Args:
        blocks: the graph over prepared weights in blocks.
        rowwise: the other one.
        left: what that leaves out.

    Raises:
        ZooError: onnxruntime cannot run one of them.
    """
    if source(package) != SOURCES[0]:
        from zoo.verify.encoder_trial import run_encoder_trial

        return run_encoder_trial(package, blocks, rowwise, left)
    speedup = _speedup(package, blocks, rowwise)
    architecture = package.manifest.recipe.architecture
    samples = make_samples(package.path, architecture.vocab_size, architecture.max_position_embeddings, quick=True)
    exact = blocks.with_name(EXACT)
    try:
        exact.write_bytes(with_float_activations(blocks))
        graphs = [Candidate(place.parent, place.name) for place in (exact, blocks, rowwise)]
        for graph in graphs:
            graph.begin([sample.ids for sample in samples])
        for layer in range(graphs[0].num_layers):
            for graph in graphs:
                graph.step(layer, {})
        tolerance = TOLERANCES[package.manifest.recipe.precision]
        found = [LogitFigures(), LogitFigures()]
        text = TextFigures()
        for index, sample in enumerate(samples):
            wanted, *logits = (graph.logits(index, 0, len(sample.ids)) for graph in graphs)
            for figures, one in zip(found, logits, strict=True):
                figures.add(wanted, one, tolerance.tie)
            if sample.text:
                text.add(logits[0][:-1], logits[1][:-1], sample.ids[1:])
    finally:
        exact.unlink(missing_ok=True)
    change = text.perplexity(text.package) / text.perplexity(text.reference) - 1 if text.tokens else 0.0
    return Trial(
        speedup=speedup,
        kl_blocks=found[0].kl_mean,
        kl_rowwise=math.inf if found[1].not_finite else found[1].kl_mean,
        perplexity=change,
        kl_limit=SHARE * tolerance.kl_mean,
        # On a short text a difference may be chance.
        perplexity_limit=SHARE * tolerance.perplexity + (2 * text.chance if text.tokens else 0.0),
        left=left,
    )


def _speedup(package: Package, blocks: Path, rowwise: Path) -> float:
    """Time a chunk of a prompt both ways, in turns."""
    session = Session(package.path, graph=blocks, rowwise=rowwise)
    length = min(MAX_CHUNK, session.context)
    ids = np.random.default_rng(0).integers(0, session.vocab_size, length).tolist()
    slots = session.new_slots(1, length)
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(ROUNDS + 1):
        for rows, found in times.items():
            slots.keep(0, 0)
            started = time.perf_counter()
            session.step(slots, [Row(0, ids)], rowwise=rows)
            found.append(time.perf_counter() - started)
    plain, other = (statistics.median(row[1:]) for row in times.values())
    return plain / other


def with_float_activations(graph: Path) -> bytes:
    """Make the same graph, whose products leave activations in float32."""
    import onnx

    model: Any = onnx.load(str(graph), load_external_data=False)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = 1
    for tensor in external_tensors(model).values():
        locate(tensor, *place(tensor))  # what was prepared is for the other kernel
    return bytes(model.SerializeToString())
