"""ik_llama.cpp: a fork of llama.cpp that repacks weights as it opens a file; built for AVX2, with Python bindings."""

from dataclasses import replace
from pathlib import Path

from backends.base import RUNNERS, Load, Site
from backends.llama_cpp import LLAMA_CPP


def run(site: Site, package: Path, load: Load) -> list[str]:
    """Evaluate a prompt, then token by token."""
    runner = [str(site.python), str(RUNNERS / "llama_python.py"), "run", "ik"]
    return [*runner, str(package / "model.gguf"), *load.argv()]


def logits(site: Site, package: Path, tokens: str, out: str) -> list[str]:
    """Ask the library."""
    runner = [str(site.python), str(RUNNERS / "llama_python.py"), "logits", "ik"]
    return [*runner, str(package / "model.gguf"), tokens, out]


IK_LLAMA = replace(
    LLAMA_CPP,
    name="ik_llama.cpp",
    distribution="ik-llama-cpp-python",
    formats={"int8": "Q8_0, block 32", "int4": "Q4_0, block 32"},
    requirements=("ik-llama-cpp-python", "numpy"),
    versions=("ik-llama-cpp-python",),
    prepare=None,
    run=run,
    logits=logits,
    notes="opens llama.cpp's files",
)
