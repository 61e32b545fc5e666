"""What is asked for: lengths, how many requests at once, and when they arrive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zoo.declarations.base import Value

PROMPTS_EACH = 5
"""Prompts for each request that runs at once, where no number is given."""
WARMUP_OUTPUT = 32
"""Tokens of a warm-up answer at most: enough to touch every buffer and to wake the threads."""
MATRIX_INPUT = (510, 1020, 2040)
MATRIX_OUTPUT = (512, 1024, 2048)
MATRIX_CONCURRENCY = (1, 4, 8, 16)


class Cell(Value):
    """One workload of fixed lengths."""

    input_len: int
    """Tokens of each prompt."""
    output_len: int
    """Tokens of each answer; the model's own end of text does not end it."""
    concurrency: int | None
    """Requests that run at once; None where only the arrivals say."""
    prompts: int

    @property
    def label(self) -> str:
        """Its name in tables and messages."""
        return f"{self.input_len}+{self.output_len}" + (f" ×{self.concurrency}" if self.concurrency else "")

    def fits(self, context: int | None) -> bool:
        """Tell whether a prompt and its answer fit a context; one that nobody knows does not refuse."""
        return context is None or self.input_len + self.output_len <= context


def matrix(prompts: int | None = None) -> list[Cell]:
    """List every workload of the matrix that serving systems are compared by; five prompts a request at once."""
    return [
        Cell(
            input_len=input_len,
            output_len=output_len,
            concurrency=concurrency,
            prompts=prompts or PROMPTS_EACH * concurrency,
        )
        for input_len in MATRIX_INPUT
        for output_len in MATRIX_OUTPUT
        for concurrency in MATRIX_CONCURRENCY
    ]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt to send."""

    content: str | Sequence[int]
    """Text, or token ids."""
    tokens: int
    """How many tokens it has, as far as is known before anybody counts."""
    output_len: int
    """Tokens to answer with."""
