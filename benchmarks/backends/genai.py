"""onnxruntime-genai: its own model builder and its own generator, both with their defaults."""

from pathlib import Path

from backends.base import RUNNERS, Backend, Load, Site


def build(site: Site, checkpoint: Path, out: Path, precision: str) -> list[list[str]]:
    """Build with the builder's defaults for the CPU."""
    return [[str(site.python), "-m", "onnxruntime_genai.models.builder", "-i", str(checkpoint), "-o", str(out),
             "-p", precision, "-e", "cpu", "-c", str(out / "cache")]]  # fmt: skip


def run(site: Site, package: Path, load: Load) -> list[str]:
    """Generate with its own engine."""
    return [str(site.python), str(RUNNERS / "genai_runner.py"), str(package), *load.argv()]


def logits(site: Site, package: Path, tokens: str, out: str) -> list[str]:
    """Run the graph itself: logits are the same whoever samples from them."""
    return [str(site.python), str(RUNNERS / "logits_onnx.py"), str(package), tokens, out]


GENAI = Backend(
    name="onnxruntime-genai",
    distribution="onnxruntime-genai",
    formats={"int8": "int8, block 32", "int4": "int4, block 32", "fp32": "fp32"},
    requirements=(
        *("torch", "transformers", "onnx", "onnxruntime", "onnxruntime-genai", "onnx-ir"),
        *("sentencepiece", "protobuf", "huggingface_hub"),
    ),
    versions=("onnxruntime-genai", "onnxruntime", "onnx-ir", "torch", "transformers"),
    build=build,
    run=run,
    logits=logits,
    work=("cache",),
    notes="its builder's default options",
)
