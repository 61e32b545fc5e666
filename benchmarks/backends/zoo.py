"""This project, through its command line and its Python interface."""

from dataclasses import replace
from pathlib import Path

from backends.base import RUNNERS, Backend, Load, Site


def build(site: Site, checkpoint: Path, out: Path, precision: str) -> list[list[str]]:
    """Build as a user does; hashing and fsync are part of it."""
    return [[str(site.python), "-m", "zoo", "build", str(checkpoint), "-p", precision, "-o", str(out), "--json"]]


def build_block_128(site: Site, checkpoint: Path, out: Path, precision: str) -> list[list[str]]:
    """Build with blocks as long as int8's, and as some peers' 4 bits have."""
    return [[*build(site, checkpoint, out, precision)[0], "--block-size", "128"]]


def run(site: Site, package: Path, load: Load) -> list[str]:
    """Generate with the project's engine."""
    return [str(site.python), str(RUNNERS / "zoo_runner.py"), str(package), *load.argv()]


def logits(site: Site, package: Path, tokens: str, out: str) -> list[str]:
    """Ask the project's engine."""
    return [str(site.python), str(RUNNERS / "logits_zoo.py"), str(package), tokens, out]


ZOO = Backend(
    name="zoo",
    distribution="model-zoo-framework",
    formats={"int8": "int8, default block", "int4": "int4, default block", "fp16": "fp16", "fp32": "fp32"},
    versions=("model-zoo-framework", "onnxruntime", "numpy"),
    build=build,
    run=run,
    logits=logits,
)

ZOO_BLOCK_128 = replace(ZOO, name="zoo (block 128)", formats={"int4": "int4"}, build=build_block_128)
"""Fewer scales: less exact, and faster."""
