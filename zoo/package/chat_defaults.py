"""How a model's authors want a conversation sampled: ``generation_config.json``, where its ``do_sample`` is true."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.errors import ZooError
from zoo.package.closed import files_of
from zoo.sources.companions import GENERATION, MAX_CONFIG
from zoo.sources.jsonfile import parse_object

GREEDY: dict[str, float] = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0}
"""What stands for a field where nobody says anything: the likeliest token, of all tokens."""
_NOT_APPLIED: dict[str, tuple[Any, ...]] = {
    "typical_p": (1,), "no_repeat_ngram_size": (0,), "epsilon_cutoff": (0,), "eta_cutoff": (0,),
    "top_h": (), "length_penalty": (1,), "encoder_repetition_penalty": (1,), "bad_words_ids": (), "suppress_tokens": (),
    "begin_suppress_tokens": (), "forced_bos_token_id": (), "forced_eos_token_id": (), "sequence_bias": (),
    "guidance_scale": (1,), "num_beams": (1,), "penalty_alpha": (0,), "exponential_decay_length_penalty": (),
}  # fmt: skip
"""Keys that change the choice of tokens and are not applied, each with the values at which they change nothing."""


@dataclass(frozen=True)
class ChatDefaults:
    """Sampling of a conversation for which the user asks nothing else.

    Attributes:
        fields: what the file states, by the names of ``Sampling``; empty for greedy.
        remarks: what of the file is not applied, a line each.
    """

    fields: Mapping[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @classmethod
    def read(cls, raw: bytes | None) -> ChatDefaults:
        """Read ``generation_config.json``; None is a model without one.

        Raises:
            ZooError: it is not a JSON object.
        """
        stated = {} if raw is None else parse_object(raw, GENERATION)
        if stated.get("do_sample") is not True:
            return cls()
        fields: dict[str, float] = {"temperature": 1.0}
        remarks = []
        for name in GREEDY:
            value = stated.get(name)
            if value is None:
                continue
            if _is_valid(name, value):
                fields[name] = int(value) if name == "top_k" else float(value)
            else:
                remarks.append(f"{name} {repr(value)[:40]} is out of range and not applied")
        ignored = [
            name
            for name, neutral in _NOT_APPLIED.items()
            if (value := stated.get(name)) is not None and value is not False and value not in neutral
        ]
        if ignored:
            remarks.append(f"{', '.join(ignored)} not applied: chat samples by {', '.join(GREEDY)} alone")
        return cls(fields, tuple(remarks))

    @classmethod
    def of_package(cls, folder: Path) -> ChatDefaults:
        """Read a package's own; one that cannot be read states nothing."""
        try:
            return cls.read(files_of(folder, MAX_CONFIG)(GENERATION))
        except ZooError:
            return cls()

    def with_options(self, **given: float | None) -> dict[str, float]:
        """Return every field: what was given, else what the file states, else greedy. None is not given."""
        stated = {name: value for name, value in given.items() if value is not None}
        return {**GREEDY, **self.fields, **stated}

    def describe(self) -> str:
        """Write them on one line, for people."""
        if not self.fields:
            return "greedy"
        return ", ".join(f"{name} {value:g}" for name, value in self.fields.items())


def _is_valid(name: str, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    if name == "top_k":
        return isinstance(value, int) and value >= 0
    if name in ("top_p", "min_p"):
        return 0 <= value <= 1 and (name == "min_p" or value > 0)
    return value >= 0 if name == "temperature" else value > 0
