"""OpenVINO: export and weight compression by optimum-intel and nncf, generation by openvino-genai."""

from pathlib import Path

from backends.base import RUNNERS, Backend, Load, Site


def build(site: Site, checkpoint: Path, out: Path, precision: str) -> list[list[str]]:
    """Export with weight-only compression."""
    return [[str(site.python.parent / "optimum-cli"), "export", "openvino", "-m", str(checkpoint), "--task",
             "text-generation-with-past", "--weight-format", precision, str(out)]]  # fmt: skip


def run(site: Site, package: Path, load: Load) -> list[str]:
    """Generate with openvino-genai's pipeline."""
    return [str(site.python), str(RUNNERS / "openvino_runner.py"), str(package), *load.argv()]


def logits(site: Site, package: Path, tokens: str, out: str) -> list[str]:
    """Run the model itself in OpenVINO's runtime."""
    return [str(site.python), str(RUNNERS / "logits_openvino.py"), str(package), tokens, out]


OPENVINO = Backend(
    name="openvino",
    distribution="openvino-genai",
    formats={"int8": "int8, per channel", "int4": "int4, group 128", "fp32": "fp32"},
    requirements=("torch", "openvino-genai", "optimum-intel", "nncf", "sentencepiece", "protobuf"),
    remove=("torchvision",),
    versions=("openvino-genai", "openvino", "optimum-intel", "nncf", "torch", "transformers"),
    build=build,
    run=run,
    logits=logits,
    notes="optimum-intel's defaults for each weight format",
)
