"""What a measurement is asked for, checked before anything is opened."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from zoo.bench.workload import PROMPTS_EACH, Cell, matrix
from zoo.declarations.option import option
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

    input_len: int | None = option(None, "Tokens of each prompt; 256 by default.", metavar="N")
    output_len: int | None = option(
        None, "Tokens of each answer; 128 by default, or the conversations' own.", metavar="N"
    )
    concurrency: int | None = option(None, "Concurrent requests; 1 by default.", metavar="N")
    prompts: int | None = option(None, "Requests a round; by default 5 times the concurrency.", metavar="N")
    matrix: bool = option(
        False, "Input 510, 1020, 2040 × output 512, 1024, 2048 × concurrency 1, 4, 8, 16, as far as it fits."
    )
    dataset: str | None = option(None, "Prompts from a declared dataset of conversations.", metavar="NAME")
    data: Path | None = option(
        None, "A file of conversations, or the folder where the dataset's files are.", metavar="PATH"
    )
    request_rate: float | None = option(
        None, "Requests a second, at random (Poisson); without it, full load.", metavar="R"
    )
    warmup: int = option(1, "Warm-up requests before each run.", metavar="N")
    rounds: int = option(1, "Number of rounds.", metavar="N")
    seed: int = option(0, "Seed of prompts and arrivals.", metavar="S")

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
    served_model: str | None = option(
        None, "Model to measure, if the server has several.", flag="--model", metavar="NAME"
    )
    api_key: str | None = option(None, "API key of the server.", metavar="K", envvar="ZOO_API_KEY", show_envvar=True)
    retries: int = option(
        0, "Retries of a request that the server rejects (429, 503); 0 counts it as failed.", metavar="N"
    )
    timeout: float = option(300.0, "Seconds to wait for the server to send something.", metavar="S")
    tokenizer: str | None = option(
        None, "The served model's tokenizer: exact prompts of token ids, and conversations.", metavar="PATH|MODEL"
    )

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise UsageError(f"--retries must be 0 or more, not {self.retries}")
        _above_zero("--timeout", self.timeout)


def _above_zero(name: str, value: float | None) -> None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise UsageError(f"{name} must be above 0, not {value:g}")
