"""The packages of a real model that are held beside each other: what each is called, and the commands that build it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backends import BACKENDS, Site
from backends.llama_cpp import native

CALIBRATED = 32
"""Samples of calibration text, of 512 tokens each, for everyone who takes any."""


@dataclass(frozen=True)
class Inputs:
    """What packages are built from."""

    checkpoint: Path
    text: Path
    """Calibration text."""
    packages: Path
    """Folder of all packages of this checkpoint."""
    samples: int = CALIBRATED


Builder = Callable[[Site, Inputs, Path], list[list[str]]]


@dataclass(frozen=True)
class Entry:
    """A package: `build(site, inputs, out)` gives the commands that make it; without, it opens another one's."""

    name: str
    backend: str
    bits: int
    build: Builder | None = None
    opens: str = ""
    """The entry whose package it opens."""
    calibrated: bool = False


def plain(name: str, precision: str) -> Builder:
    """Build as the backend does for a precision."""
    return lambda site, inputs, out: BACKENDS[name].build(site, inputs.checkpoint, out, precision)


def zoo_gptq(site: Site, inputs: Inputs, out: Path) -> list[list[str]]:
    """Build int4 with GPTQ on the calibration text."""
    given = ["--calibration", str(inputs.text), "--samples", str(inputs.samples), "--sequence-length", "512"]
    return [[*BACKENDS["zoo"].build(site, inputs.checkpoint, out, "int4")[0], "--quantizer", "gptq", *given]]


def gguf(kind: str, importance: bool = False) -> Builder:
    """Quantize the float32 file, with an importance matrix of the calibration text where asked."""

    def build(site: Site, inputs: Inputs, out: Path) -> list[list[str]]:
        tools, source = native(site) / "bin", inputs.packages / FLOAT / "model.gguf"
        matrix = out / "work" / "matrix.gguf"
        first = [str(tools / "llama-imatrix"), "-m", str(source), "-f", str(inputs.text), "-o", str(matrix)]
        first += ["-c", "512", "--chunks", str(inputs.samples)]
        given = ["--imatrix", str(matrix)] if importance else []
        last = [str(tools / "llama-quantize"), *given, str(source), str(out / "model.gguf"), kind]
        return [first, last] if importance else [last]

    return build


FLOAT = "llama.cpp F32"
ENTRIES = (
    Entry("zoo fp32", "zoo", 32, plain("zoo", "fp32")),
    Entry("zoo int8", "zoo", 8, plain("zoo", "int8")),
    Entry("zoo int4", "zoo", 4, plain("zoo", "int4")),
    Entry("zoo int4 GPTQ", "zoo", 4, zoo_gptq, calibrated=True),
    Entry(FLOAT, "llama.cpp", 32, plain("llama.cpp", "fp32")),
    Entry("llama.cpp Q8_0", "llama.cpp", 8, gguf("Q8_0")),
    Entry("llama.cpp Q4_0", "llama.cpp", 4, gguf("Q4_0")),
    Entry("llama.cpp Q4_K_M", "llama.cpp", 4, gguf("Q4_K_M")),
    Entry("llama.cpp Q4_K_M, imatrix", "llama.cpp", 4, gguf("Q4_K_M", importance=True), calibrated=True),
    Entry("ik_llama.cpp Q8_0", "ik_llama.cpp", 8, opens="llama.cpp Q8_0"),
    Entry("ik_llama.cpp Q4_0", "ik_llama.cpp", 4, opens="llama.cpp Q4_0"),
    Entry("ik_llama.cpp Q4_K_M", "ik_llama.cpp", 4, opens="llama.cpp Q4_K_M"),
    Entry("onnxruntime-genai int8", "onnxruntime-genai", 8, plain("onnxruntime-genai", "int8")),
    Entry("onnxruntime-genai int4", "onnxruntime-genai", 4, plain("onnxruntime-genai", "int4")),
    Entry("OpenVINO int8", "openvino", 8, plain("openvino", "int8")),
    Entry("OpenVINO int4", "openvino", 4, plain("openvino", "int4")),
)
