"""What a measurement is asked for, checked before anything is opened."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from zoo.bench.workload import PROMPTS_EACH, Cell, matrix
from zoo.errors import UsageError

DEFAULT_INPUT, DEFAULT_OUTPUT = 256, 128
RATE_PROMPTS = 20
"""Prompts where only their rate is given."""


@dataclass(frozen=True)
class Ask:
    """What to measure. A length, a number or a rate that is None was not asked for.

    Raises:
        UsageError: numbers that mean nothing, or requests that cannot be used together.
    """

    input_len: int | None = None
    output_len: int | None = None
    concurrency: int | None = None
    prompts: int | None = None
    matrix: bool = False
    dataset: str | None = None
    data: Path | None = None
    """A file of conversations, or a folder that holds the dataset's files."""
    request_rate: float | None = None
    """Requests a second; None sends one as soon as a place is free."""
    warmup: int = 1
    rounds: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("input_len", 1), ("output_len", 1), ("concurrency", 1), ("prompts", 1), ("rounds", 1), ("warmup", 0),
            ("seed", 0),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"--{name.replace('_', '-')} must be {least} or more, not {value}")
        _above_zero("--request-rate", self.request_rate)
        if self.prompts is not None and self.concurrency is not None and self.prompts < self.concurrency:
            raise UsageError(f"--prompts {self.prompts} cannot keep {self.concurrency} requests running at once")
        if self.matrix:
            self._exclude("--matrix", "input_len", "output_len", "concurrency", "dataset", "data", "request_rate")
        if self.varied:
            self._exclude("conversations", "input_len")

    def _exclude(self, what: str, *names: str) -> None:
        for name in names:
            if getattr(self, name) is not None:
                raise UsageError(f"{what} and --{name.replace('_', '-')} cannot be used together")

    @property
    def varied(self) -> bool:
        """Whether prompts come from conversations."""
        return self.dataset is not None or self.data is not None

    @property
    def places(self) -> int | None:
        """How many requests at once; None where only their rate says."""
        return self.concurrency if self.request_rate is not None else self.concurrency or 1

    @property
    def count(self) -> int:
        """How many prompts a round has."""
        return self.prompts or (PROMPTS_EACH * self.places if self.places else RATE_PROMPTS)

    def cells(self) -> list[Cell]:
        """List the workloads of fixed lengths."""
        if self.matrix:
            return matrix(self.prompts)
        return [
            Cell(
                input_len=self.input_len or DEFAULT_INPUT,
                output_len=self.output_len or DEFAULT_OUTPUT,
                concurrency=self.places,
                prompts=self.count,
            )
        ]


@dataclass(frozen=True)
class Server:
    """A server to measure.

    Raises:
        UsageError: numbers that mean nothing.
    """

    url: str
    model: str | None = None
    """Its name there; None for the only one."""
    api_key: str | None = None
    retries: int = 0
    """How often a request that it turns away (429, 503) is sent again; 0 counts it as failed."""
    timeout: float = 300.0
    """Seconds that may pass without a byte."""
    tokenizer: str | None = None
    """A package, a model that is built, or a folder: its tokenizer is the served model's."""

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise UsageError(f"--retries must be 0 or more, not {self.retries}")
        _above_zero("--timeout", self.timeout)


def _above_zero(name: str, value: float | None) -> None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise UsageError(f"{name} must be above 0, not {value:g}")
