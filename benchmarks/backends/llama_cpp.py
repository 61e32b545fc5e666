"""llama.cpp, compiled from the sources that llama-cpp-python's source distribution carries."""

import os
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backends.base import RUNNERS, Backend, Load, Site

TARGETS = ("llama-batched-bench", "llama-imatrix", "llama-quantize", "llama-server")
QUANTIZED = {"int8": "q8_0", "int4": "Q4_0", "fp32": "f32", "fp16": "f16"}


def prepare(site: Site, options: dict[str, Any]) -> Path:
    """Return a cmake build folder with the tools: the one given as `llama_cpp`, or one compiled for this CPU."""
    if given := options.get("llama_cpp"):
        folder = Path(given).resolve()
        missing = [name for name in TARGETS if not (folder / "bin" / name).is_file()]
        if missing:
            raise FileNotFoundError(f"no {', '.join(missing)} in {folder / 'bin'}")
        return folder
    subprocess.run(
        [str(site.python), "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "llama-cpp-python", "-d",
         str(site.home), "llama-cpp-python"], check=True)  # fmt: skip
    archive = sorted(site.home.glob("llama_cpp_python-*.tar.gz"))[-1]
    with tarfile.open(archive) as tar:
        tar.extractall(site.home, filter="data")
    sources = site.home / archive.name.removesuffix(".tar.gz") / "vendor" / "llama.cpp"
    folder = sources / "build"
    env = {**os.environ, "PATH": f"{site.python.parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["cmake", "-S", str(sources), "-B", str(folder), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
                    "-DGGML_NATIVE=ON", "-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_UI=OFF",
                    "-DLLAMA_USE_PREBUILT_UI=OFF"], check=True, env=env)  # fmt: skip
    subprocess.run(["cmake", "--build", str(folder), "--target", *TARGETS], check=True, env=env)
    return folder


def native(site: Site) -> Path:
    """Return the build folder that `prepare` found."""
    if site.native is None:
        raise FileNotFoundError("llama.cpp has no build folder")
    return site.native


def build(site: Site, checkpoint: Path, out: Path, precision: str) -> list[list[str]]:
    """Convert straight to q8_0, or to f16 and then quantize to Q4_0."""
    folder = native(site)
    convert = [str(site.python), str(folder.parent / "convert_hf_to_gguf.py"), str(checkpoint)]
    if precision != "int4":
        return [[*convert, "--outtype", QUANTIZED[precision], "--outfile", str(out / "model.gguf")]]
    middle = out / "work" / "f16.gguf"
    return [
        [*convert, "--outtype", "f16", "--outfile", str(middle)],
        [str(folder / "bin" / "llama-quantize"), str(middle), str(out / "model.gguf"), "Q4_0"],
    ]


def run(site: Site, package: Path, load: Load) -> list[str]:
    """Measure a prompt and the tokens after it through the library's Python bindings."""
    runner = [str(site.python), str(RUNNERS / "llama_python.py"), "run", str(native(site))]
    return [*runner, str(package / "model.gguf"), *load.argv()]


def streams(site: Site, package: Path, prompt: int, new: int, counts: Sequence[int], threads: int) -> list[str]:
    """Measure several sequences at once, each with a prompt of its own; one JSON line for each number of them."""
    context = max(counts) * (prompt + new)
    return [str(native(site) / "bin" / "llama-batched-bench"), "-m", str(package / "model.gguf"),
            "-npp", str(prompt), "-ntg", str(new), "-npl", ",".join(map(str, counts)), "-c", str(context),
            "-t", str(threads), "-tb", str(threads), "--output-format", "jsonl"]  # fmt: skip


def logits(site: Site, package: Path, tokens: str, out: str) -> list[str]:
    """Ask the library itself, through its Python bindings."""
    runner = [str(site.python), str(RUNNERS / "llama_python.py"), "logits", str(native(site))]
    return [*runner, str(package / "model.gguf"), tokens, out]


LLAMA_CPP = Backend(
    name="llama.cpp",
    distribution="llama-cpp-python",
    formats={"int8": "Q8_0, block 32", "int4": "Q4_0, block 32 (f16 first, then llama-quantize)", "fp32": "f32"},
    requirements=("torch", "transformers", "numpy", "sentencepiece", "protobuf", "pyyaml", "tqdm", "cmake", "ninja"),
    versions=("torch", "transformers", "numpy"),
    prepare=prepare,
    build=build,
    run=run,
    logits=logits,
    work=("work",),
    notes="sources of llama-cpp-python's sdist, GGML_NATIVE=ON",
)
