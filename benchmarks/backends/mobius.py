"""mobius-onnx: builds an ONNX package for onnxruntime-genai; it casts weights and does not quantize them."""

from pathlib import Path

from backends.base import RUNNERS, Backend, Load, Site


def build(site: Site, checkpoint: Path, out: Path, precision: str) -> list[list[str]]:
    """Build in float32, the only precision that onnxruntime computes in on a CPU."""
    return [[str(site.python.parent / "mobius"), "build", "--config", str(checkpoint), "--ep", "cpu",
             "--dtype", "f32", "--optimize", "--runtime", "ort-genai", str(out)]]  # fmt: skip


def run(site: Site, package: Path, load: Load) -> list[str]:
    """Generate with onnxruntime-genai, for which the package was made."""
    return [str(site.python), str(RUNNERS / "genai_runner.py"), str(package), *load.argv()]


def logits(site: Site, package: Path, tokens: str, out: str) -> list[str]:
    """Run the graph itself: logits are the same whoever samples from them."""
    return [str(site.python), str(RUNNERS / "logits_onnx.py"), str(package), tokens, out]


MOBIUS = Backend(
    name="mobius-onnx",
    distribution="mobius-onnx",
    formats=dict.fromkeys(("int8", "int4", "fp32"), "fp32 (does not quantize)"),
    requirements=(
        *("torch", "transformers", "onnxruntime", "onnxruntime-genai", "mobius-onnx", "accelerate"),
        *("sentencepiece", "protobuf"),
    ),
    versions=("mobius-onnx", "onnxruntime-genai", "onnxruntime", "torch", "transformers"),
    build=build,
    run=run,
    logits=logits,
    notes="fp32 whatever precision the table is about: it has no quantizer",
)
