"""A plan: what a build will read, write and cost, computed from headers before a weight is read."""

from __future__ import annotations

from zoo.declarations.base import Value
from zoo.declarations.recipe import Recipe


class TensorRead(Value):
    """A tensor of the checkpoint that the build reads."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


class TensorWrite(Value):
    """A stored array of the package: where it lies in a data file."""

    name: str
    file: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    """Counted from the end of the file's header."""
    nbytes: int


class Plan(Value):
    """What a build does and costs. All sizes are bytes."""

    recipe: Recipe
    recipe_hash: str
    output: str
    """Name of the package folder."""
    steps: tuple[str, ...]
    reads: tuple[TensorRead, ...]
    writes: tuple[TensorWrite, ...]
    format: str | None = None
    """What the weights are stored in: ``safetensors``, ``gguf`` …"""
    quantization: str | None = None
    """The type or method that most of them are quantized by; None where all are floats."""
    taken_over: int = 0
    """Parameters whose stored levels the package keeps."""
    rounded: int = 0
    """Parameters that are quantized, and that the build rounds a second time."""
    parameters: int
    bits_per_weight: float
    download_bytes: int
    read_bytes: int
    write_bytes: int
    """Size of the finished package."""
    peak_memory_bytes: int
    """Predicted peak resident set size of the build."""
    disk_cache_bytes: int
    """Space that downloads will take."""
    disk_output_bytes: int
    """Space that the output needs while building."""
    run_memory_bytes: int
    """Predicted resident set size of running the package at ``run_context`` tokens."""
    run_int8_kv_bytes: int
    """The same with ``--kv int8``."""
    run_context: int
