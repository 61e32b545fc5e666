#!/usr/bin/env python3
"""Write docs/calibration.md from the figures in benchmarks/results/calibration/.

python benchmarks/calibration_page.py
"""

import json
import statistics
import textwrap
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "calibration"
PAGE = HERE.parent / "docs" / "calibration.md"
HEAD = """\
# Calibrated quantizers

<!-- Written by benchmarks/calibration_page.py; do not edit. -->

What quantizing costs when the quantizer has seen samples, against the original weights in float32. How to use it is in
[a guide](guides/calibration.md); what rounding to nearest costs is in [accuracy.md](accuracy.md).

Samples and measured text are different parts of one file (`heldout.txt`: text that the model was not trained on).
*Float activations* computes in float32 with the stored weights: the loss of the weights alone. *As shipped* is the
package under ONNX Runtime, whose kernels round activations to 8 bits. KL is KL(original ‖ quantized), mean of all
positions, in nats: unlike perplexity, which a rounding error may lower by chance, it is never below zero.

Everything here was computed on a CPU. `--device cuda` runs the same code on a GPU; no GPU was at hand, so it has not
been tried, and neither its speed nor its results are known.
"""


def spread(found: dict[str, Any], key: str, form: str) -> str:
    """Write a mean, and the range where there is one."""
    values = [run[key] for run in found["runs"]]
    low, high = format(min(values), form), format(max(values), form)
    return format(statistics.mean(values), form) + (f" ({low} … {high})" if len(values) > 1 else "")


def row(found: dict[str, Any], others: list[dict[str, Any]]) -> str:
    """Write a line of the table; the last column is the loss as a share of what rounding to nearest loses."""
    plain = next(
        one for one in others
        if one["quantizer"] == "rtn"
        and all(one[key] == found[key] for key in ("precision", "block", "symmetric"))
    )  # fmt: skip
    loss, base = (statistics.mean(run["float_kl"] for run in one["runs"]) for one in (found, plain))
    share = "-" if found is plain else f"{loss / base:.2f}"
    points = "no" if found["symmetric"] else "yes"
    return (
        f"| {found['precision']} | {found['block']} | {points} | {found['name'].replace('symmetric True, ', '')} | "
        f"{spread(found, 'float_kl', '.1e')} | {share} | {spread(found, 'float', '+.3%')} | "
        f"{spread(found, 'shipped_kl', '.1e')} | {spread(found, 'shipped', '+.3%')} |"
    )


def quality(found: dict[str, Any]) -> list[str]:
    """Write the tables of calibration.py."""
    lines = [
        "## What each quantizer loses",
        "",
        "Head and embedding have 8 bits throughout. Where samples are drawn: mean of three seeds (lowest … highest).",
        "*Of rtn's* divides by what round to nearest loses at the same block size and symmetry.",
        "",
        "    python benchmarks/calibration.py " + shown(found),
        "",
    ]
    for result in found["results"]:
        lines += [
            f"### {result['model']}",
            "",
            f"{result['about']} Perplexity in float32: {result['perplexity']:.4f} on {result['tokens']} tokens of "
            f"{result['text']}.",
            "",
            "| precision | block | zero points | quantizer | KL, float activations | of rtn's "
            "| perplexity, float activations | KL, as shipped | perplexity, as shipped |",
            "|---|---|---|---|---|---|---|---|---|",
            *(row(one, result["variants"]) for one in result["variants"]),
            "",
        ]
    return [*lines, measured(found), ""]


def peers(found: dict[str, Any]) -> list[str]:
    """Write the comparison with maintained implementations."""
    lines = [
        "## Beside maintained implementations of GPTQ",
        "",
        "The same model, the same sample tokens, 4 bits, symmetric; head and embedding stay floats on both sides.",
        "Each implementation with its own defaults for everything else. What the weights then stand for is computed",
        "in float32; KL as above, lower is better.",
        "",
        "    python benchmarks/calibration_peers.py setup && python benchmarks/calibration_peers.py run "
        + shown(found),
        "",
        "| model | block | " + " | ".join(names := list_names(found)) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for result in found["results"]:
        for block in sorted({run["block"] for run in result["runs"]}):
            cells = []
            for name in names:
                values = [run["kl"] for run in result["runs"] if run["block"] == block and run["name"] == name]
                cells.append(span(values) if values else "-")
            lines.append(f"| {result['model']} | {block} | " + " | ".join(cells) + " |")
    versions = {}
    for result in found["results"]:
        for run in result["runs"]:
            versions |= run.get("versions", {})
    first = found["results"][0]
    notes = f"{first['samples']} samples of {first['length']} tokens. " + found.get("note", "")
    return [
        *lines,
        "",
        *textwrap.wrap(notes, 118),
        "",
        measured({**found, "versions": {**found["versions"], **versions}}),
        "",
    ]


def list_names(found: dict[str, Any]) -> list[str]:
    """List what was compared, in the order of the runs."""
    return list(dict.fromkeys(run["name"] for result in found["results"] for run in result["runs"]))


def span(values: list[float]) -> str:
    """Write a mean, and the range where there is one."""
    mean = f"{statistics.mean(values):.2e}"
    return mean + (f" ({min(values):.2e} … {max(values):.2e})" if len(values) > 1 else "")


def shown(found: dict[str, Any]) -> str:
    """Write the models as the command takes them."""
    return " ".join(f"--model {one['model']} {one['text']}" for one in found["results"])


def measured(found: dict[str, Any]) -> str:
    """Say where it was measured."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return f"Measured on {found['machine']}, with {versions}."


SECTIONS = {"quality": quality, "peers": peers}
ONCE = "<!-- What follows was measured once"


def main() -> None:
    """Write the page of what was measured."""
    lines = [*HEAD.splitlines(), ""]
    for name, section in SECTIONS.items():
        path = RESULTS / f"{name}.json"
        if path.is_file():
            lines += section(json.loads(path.read_text(encoding="utf-8")))
    text = "\n".join(lines)
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    before = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(f"{text.rstrip()}\n\n{before[before.index(ONCE) :]}", encoding="utf-8")


if __name__ == "__main__":
    main()
