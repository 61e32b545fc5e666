"""Read checkpoints as their users mean them: names without the usual prefix, heads that are tied or not, leftovers.

What transformers reads without a word is read here too; what it drops or makes up is said or refused.
"""

from __future__ import annotations

import fnmatch
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from zoo.contracts import ArchitecturePart, Checkpoint, StoredOtherwise, SwappedAxes, TensorInfo
from zoo.declarations.architecture import Architecture
from zoo.declarations.dtypes import READABLE
from zoo.errors import ZooError
from zoo.sources.buffers import is_buffer
from zoo.sources.content import tensor_digests
from zoo.sources.named import NamedCheckpoint, beneath
from zoo.sources.swapped import SwappedCheckpoint
from zoo.stages.weights import quant_method

log = logging.getLogger("zoo")

MULTIMODAL = ("vision_config", "audio_config", "mm_vision_tower", "vision_tower", "text_config")
"""Keys of a ``config.json`` that describe more than a language model."""
_QUANTIZED = ("quantization_config", "quantization")
"""Keys of a ``config.json`` that say how its weights are quantized."""
_LAYER = re.compile(r"(.*\blayers\.(\d+))\.")
_TOWER = re.compile(r"(model\.)?(vision_tower|vision_model|visual|audio_tower|multi_modal_projector|mm_projector)\.")
"""What sees or hears, beside a language model."""
_EXTRA = re.compile(r"(model\.)?mtp\.")
"""Modules that predict further tokens, where they stand outside the layers."""


def without_leftovers(checkpoint: Checkpoint) -> Checkpoint:
    """Read a checkpoint's configuration without what says that it is quantized, where a merge left that behind.

    Raises:
        ZooError: the weights are quantized, and no transform undoes it.
    """
    key = next((key for key in _QUANTIZED if checkpoint.config.get(key)), None)
    if key is None or not checkpoint.tensors:
        return checkpoint
    method = quant_method(checkpoint.config) or key
    quantized = next((info for info in checkpoint.tensors.values() if not _is_plain(info)), None)
    if quantized is not None:
        raise ZooError(
            f"{checkpoint.name}: its weights are quantized already ({method}; {quantized.name!r} is "
            f"{quantized.dtype}), and no loaded plugin undoes that; build from the original weights"
        )
    log.warning(
        "%s: config.json states %s (%s), but all weights are floats: they are read as they are",
        checkpoint.name, key, method,
    )  # fmt: skip
    kept = {name: value for name, value in checkpoint.config.items() if name != key}
    return NamedCheckpoint(checkpoint, config=kept)


def as_meant(
    part: ArchitecturePart, arch: Architecture, checkpoint: Checkpoint, allowed: Sequence[str], *, read: bool
) -> tuple[Architecture, Checkpoint]:
    """See a checkpoint's tensors under the architecture's names, without those that nobody reads.

    Args:
        part: the architecture's part.
        allowed: patterns of tensors that the user lets go unused.
        read: read what only the weights tell; otherwise a second head is taken for the embedding.

    Returns:
        The numbers, untied where the checkpoint's head is one of its own, and the checkpoint.

    Raises:
        ZooError: it holds more than a language model.
    """
    tensors = checkpoint.tensors
    if isinstance(part, StoredOtherwise):
        arch = part.as_stored(arch, tensors)
    if isinstance(part, SwappedAxes) and (swapped := part.swapped(arch, checkpoint)):
        checkpoint = SwappedCheckpoint(checkpoint, swapped)
    arch, names = _tied(part, arch, checkpoint, _finder(tensors), read=read)
    taken = set(names.values())
    hidden = _extra_layers(tensors, arch.num_hidden_layers)
    for pattern in allowed:
        unused = {name for name in fnmatch.filter(tensors, pattern) if name not in taken}
        if not unused:
            log.warning("%s: --allow-unused %s matches no tensor that is unused", checkpoint.name, pattern)
        hidden |= unused
    for name in sorted(tensors):
        tower = _TOWER.match(name)
        if tower and name not in taken | hidden:
            raise ZooError(
                f"{checkpoint.name}: a multimodal checkpoint (tensor {name!r}), of which the language model alone is "
                f"computed; save that by itself, or --allow-unused '{tower[0]}*' leaves the rest out"
            )
    left = {name: name for name in tensors if name not in taken | hidden and not is_buffer(name)}
    if not hidden and all(name == there for name, there in names.items()):
        return arch, checkpoint
    return arch, NamedCheckpoint(checkpoint, {**left, **names})


def _tied(
    part: ArchitecturePart, arch: Architecture, checkpoint: Checkpoint, find: Callable[[str], str | None], *, read: bool
) -> tuple[Architecture, dict[str, str]]:
    """Match the architecture's names, and decide whether the head is the embedding, as transformers does."""
    wanted = part.tensors(arch)
    if arch.tie_word_embeddings:
        untied = arch.model_copy(update={"tie_word_embeddings": False})
        heads = part.tensors(untied).keys() - wanted.keys()
        embeddings = [
            parameter.slices[0].tensor for parameter in part.parameters(arch) if parameter.kind == "embedding"
        ]
        if len(heads) == len(embeddings) == 1:
            head, embedding = find(next(iter(heads))), find(embeddings[0])
            if head is not None and embedding is None:
                return arch, {**_found(find, wanted), embeddings[0]: head}
            if head is not None and embedding is not None and read and _differ(checkpoint, head, embedding):
                log.warning(
                    "%s: config.json ties the head to the embedding, but %s is another tensor than %s: it is used",
                    checkpoint.name, head, embedding,
                )  # fmt: skip
                arch, wanted = untied, part.tensors(untied)
    return arch, _found(find, wanted)


def _found(find: Callable[[str], str | None], wanted: Iterable[str]) -> dict[str, str]:
    return {name: there for name in wanted if (there := find(name)) is not None}


def _finder(tensors: Mapping[str, TensorInfo]) -> Callable[[str], str | None]:
    """Make the function that says what the checkpoint calls a tensor: by its name, or without the model's own prefix.

    A model that was saved without its head has none of the prefix at all.
    """
    beginnings = {name.partition(".")[0] for name in tensors}

    def find(name: str) -> str | None:
        if name in tensors:
            return name
        first, _, rest = name.partition(".")
        return rest if first not in beginnings and rest in tensors else None

    return find


def _differ(checkpoint: Checkpoint, one: str, other: str) -> bool:
    """Tell whether two tensors hold other values, or the same ones otherwise stored."""
    infos = [checkpoint.tensors[name] for name in (one, other)]
    if infos[0].shape != infos[1].shape or infos[0].dtype != infos[1].dtype:
        return True
    below = beneath(checkpoint)
    digests = tensor_digests(below, (one, other))
    return digests[one] != digests[other]


def _extra_layers(tensors: Mapping[str, TensorInfo], layers: int) -> set[str]:
    """Name the tensors of layers that predict further tokens: behind the model's own, and told by what they join."""
    extra = set()
    for name in tensors:
        layer = _LAYER.match(name)
        if _EXTRA.match(name) or (layer and int(layer[2]) >= layers and f"{layer[1]}.eh_proj.weight" in tensors):
            extra.add(name)
    return extra


def _is_plain(info: TensorInfo) -> bool:
    return info.dtype in READABLE or is_buffer(info.name)
