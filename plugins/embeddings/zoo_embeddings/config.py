"""Read the ``config.json`` of an encoder, and refuse by name what is not supported.

Keys and defaults: transformers, ``configuration_bert.py``, ``configuration_roberta.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zoo import Architecture, ZooError

ACTIVATIONS = frozenset({"gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu", "tanh"})
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
MOST_LABELS = 100_000
"""Labels of a classifier at most; a head of so many is larger than the encoder."""
_CLASSIFIER = "ForSequenceClassification"
_OTHER_HEADS = ("ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice", "ForNextSentencePrediction")
_TRIVIAL: dict[str, tuple[Any, ...]] = {
    "position_embedding_type": ("absolute",),
    "is_decoder": (),
    "add_cross_attention": (),
    "is_encoder_decoder": (),
    "quantization_config": (),
}
"""Keys that change what is computed, each with the values, besides null and false, at which they change nothing."""


class EncoderOptions(BaseModel):
    """What an encoder has beside the numbers of every architecture (``Architecture.options``)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prefix: Literal["bert", "roberta"] = "bert"
    """What the names of its tensors begin with, and which of the two heads a classifier has."""
    type_vocab_size: int = Field(default=2, ge=1, le=1024)
    """How many types a token may have: which of two texts it is of."""
    first_position: int = Field(default=0, ge=0, le=2**20)
    """The row of the position table that a text's first token reads; those before it are never read."""
    labels: int = Field(default=0, ge=0, le=MOST_LABELS)
    """Labels of the classifier; 0 for an encoder whose result is the hidden states."""


def options_of(arch: Architecture) -> EncoderOptions:
    """Read what an encoder's ``Architecture.options`` say.

    Raises:
        ZooError: an option that an encoder does not have, or a value that it cannot have.
    """
    try:
        return EncoderOptions.model_validate(arch.options)
    except ValidationError as error:
        first = error.errors()[0]
        raise ZooError(f"architecture 'encoder': options: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def read_config(config: Mapping[str, Any], implied: Mapping[str, Any]) -> Architecture:
    """Read a checkpoint's ``config.json``.

    Args:
        implied: fields that hold where the file is silent; ``options`` state the prefix of a ``model_type``.

    Raises:
        ZooError: a number is missing, or a key says something that an encoder does not compute.
    """
    for name, trivial in _TRIVIAL.items():
        value = config.get(name)
        if value not in (None, False) and value not in trivial:
            raise ZooError(f"config.json: {name} {repr(value)[:60]} is not supported by this encoder")
    activation = config.get("hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        known = ", ".join(sorted(ACTIVATIONS))
        raise ZooError(f"config.json: hidden_act {repr(activation)[:60]} is not supported; known: {known}")
    options: dict[str, Any] = {**implied.get("options", {}), "labels": _labels(config)}
    options["type_vocab_size"] = _whole(config, "type_vocab_size", 2)
    positions = _whole(config, "max_position_embeddings", 512)
    if options.get("prefix") == "roberta":
        # The row of padding stays empty, and those before it: positions are counted from behind it.
        options["first_position"] = _whole(config, "pad_token_id", 1, least=0) + 1
        positions -= options["first_position"]
    numbers = {
        **implied,
        "hidden_act": activation,
        "rms_norm_eps": config.get("layer_norm_eps", 1e-12),
        "max_position_embeddings": positions,
        "options": options,
    }
    stated = {name: config[name] for name in SIZES if name in config}
    arch = Architecture.from_config(stated, numbers, type="encoder")
    return arch.model_copy(update={"options": options_of(arch).model_dump(mode="json")})


def _labels(config: Mapping[str, Any]) -> int:
    """Count the labels of a classifier; 0 where ``architectures`` names a model without that head."""
    classes = config.get("architectures") or []
    name = str(classes[0]) if isinstance(classes, list) and classes else ""
    if name.endswith(_OTHER_HEADS):
        raise ZooError(f"config.json: architectures names {name[:60]}, whose head is not supported by this encoder")
    if not name.endswith(_CLASSIFIER):
        return 0
    labels = config.get("id2label")
    count = len(labels) if isinstance(labels, Mapping) else config.get("num_labels", 2)
    if isinstance(count, bool) or not isinstance(count, int) or not 0 < count <= MOST_LABELS:
        raise ZooError(f"config.json: {name[:60]} is a classifier without labels: state id2label or num_labels")
    return count


def _whole(config: Mapping[str, Any], name: str, default: int, least: int = 1) -> int:
    value = config.get(name, default)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**31:
        raise ZooError(f"config.json: {name} must be a whole number of at least {least}, not {repr(value)[:60]}")
    return value
