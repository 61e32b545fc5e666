"""Calibration data of a request: found, read, tokenized, and pinned in the recipe by its very tokens."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.contracts import reads_weights
from zoo.datasets.texts import read_texts
from zoo.declarations.recipe import CalibrationPin
from zoo.errors import UsageError, ZooError
from zoo.registry import Registry
from zoo.sources.dataset_files import bring_dataset, find_in_folder, locate_dataset
from zoo.stages.choices import is_path
from zoo.stages.resolve import Request, Resolved
from zoo.tokenizer.files import read_files
from zoo.tokenizer.resolve import resolve_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def calibrated(
    registry: Registry, request: Request, resolved: Resolved, *, data: Path | None = None, planning: bool = False
) -> tuple[Resolved, NDArray[np.int32] | None]:
    """Read the calibration samples that a recipe needs.

    Args:
        data: a folder that holds the dataset's files already.
        planning: weights that are not here yet bring no tokenizer, and their plan is not pinned to tokens.

    Returns:
        The recipe pinned to the tokens, and the tokens (samples, length); None where nothing is calibrated here.

    Raises:
        UsageError: lengths that the model has not, or data for nothing.
        ZooError: the data is not on this machine, is damaged, or holds too little.
    """
    pin = resolved.recipe.calibration
    if pin is None and data is not None:
        raise UsageError(f"quantizer {resolved.recipe.quantizer.name!r} needs no calibration data; leave --data out")
    target = registry.target(request.target)
    if pin is None or resolved.checkpoint is None or not reads_weights(target, resolved.recipe.target.options):
        return resolved, None
    from zoo.calibration.samples import fingerprint

    context = resolved.recipe.architecture.longest_text
    if request.sequence_length is None and pin.sequence_length > context:
        pin = pin.model_copy(update={"sequence_length": context})
    if pin.sequence_length > context:
        raise UsageError(
            f"calibration samples of {pin.sequence_length} tokens are longer than the context of "
            f"{resolved.recipe.model}, {context}; say --sequence-length {context} or less"
        )
    companion = resolved.checkpoint.companion
    beside = read_files(companion, resolved.checkpoint.name).with_tokens(resolved.recipe.tokens)
    tokenizer = resolve_tokenizer(companion, beside)
    if tokenizer is None:
        if planning:
            return resolved, None
        raise ZooError(f"{resolved.checkpoint.name}: has no tokenizer, which calibration samples need")
    files, form = locate(registry, request, pin.dataset, data)
    stamps = tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    share: Any = resolved.recipe.quantizer.options.get("random_share", 0)
    tokens = _drawn(stamps, form, tokenizer.raw, pin, resolved.recipe.architecture.vocab_size, share)
    pinned = pin.model_copy(update={"fingerprint": fingerprint(tokens)})
    recipe = resolved.recipe.model_copy(update={"calibration": pinned})
    return replace(resolved, recipe=type(recipe).model_validate(recipe.model_dump())), tokens


@lru_cache(maxsize=1)
def _drawn(
    stamps: tuple[tuple[Path, int, int], ...],
    form: str | None,
    tokenizer: bytes,
    pin: CalibrationPin,
    vocab: int,
    random_share: float,
) -> NDArray[np.int32]:
    """Draw samples; those of several targets are drawn once.

    Args:
        stamps: each file, its size and when it was changed.
        tokenizer: ``tokenizer.json``.
    """
    from zoo.calibration.samples import draw

    texts = read_texts([path for path, _, _ in stamps], form)
    tokens = draw(
        texts, tokenizer,
        samples=pin.samples, length=pin.sequence_length, seed=pin.seed, vocab=vocab, name=pin.dataset,
        random_share=random_share,
    )  # fmt: skip
    tokens.flags.writeable = False
    return tokens


def locate(registry: Registry, request: Request, name: str, data: Path | None) -> tuple[list[Path], str | None]:
    """Find the files of calibration data, and how their rows read.

    Raises:
        ZooError: they are not on this machine; the message says what brings them.
    """
    asked = request.calibration or name
    if is_path(asked, registry):
        path = Path(asked)
        if not path.is_file():
            raise ZooError(f"{path}: no such file of calibration data")
        return [path], None
    dataset = registry.dataset(asked)
    if data is not None:
        located = find_in_folder(dataset, data)
    else:
        located = locate_dataset(dataset) or bring_dataset(dataset)[0]
    paths = [located[file.path] for file in dataset.files]
    training = [path for path, file in zip(paths, dataset.files, strict=True) if file.split in (None, "train")]
    return training or paths, dataset.format
