"""This project, through its command line and its Python interface."""

from pathlib import Path

from backends.base import RUNNERS, Backend, Load, Site


def build(site: Site, checkpoint: Path, out: Path, precision: str) -> list[list[str]]:
    """Build as a user does; hashing and fsync are part of it."""
    return [[str(site.python), "-m", "zoo", "build", str(checkpoint), "-p", precision, "-o", str(out), "--json"]]


def run(site: Site, package: Path, load: Load) -> list[str]:
    """Generate with the project's engine."""
    return [str(site.python), str(RUNNERS / "zoo_runner.py"), str(package), *load.argv()]


def logits(site: Site, package: Path, tokens: str, out: str) -> list[str]:
    """Ask the project's engine."""
    return [str(site.python), str(RUNNERS / "logits_zoo.py"), str(package), tokens, out]


ZOO = Backend(
    name="zoo",
    distribution="zoo-framework",
    formats={"int8": "int8, default block", "int4": "int4, default block", "fp16": "fp16", "fp32": "fp32"},
    versions=("zoo-framework", "onnxruntime", "numpy"),
    build=build,
    run=run,
    logits=logits,
)
