"""Draw what real.py measured, and keep what `zoo verify` shows of it."""

import json
import math
import statistics
from pathlib import Path
from typing import Any

import zoo
from zoo import svg

LOSSES = Path(zoo.__file__).parent / "verify" / "data" / "losses.json"

DOCS = Path(__file__).resolve().parent.parent / "docs"


def write(result: dict[str, Any]) -> None:
    """Write the picture, and what `zoo verify` shows beside a package."""
    (DOCS / "pictures" / "accuracy.svg").write_text(picture(result), encoding="utf-8")
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


def of_bandwidth(name: str, row: dict[str, Any], speed: dict[str, Any]) -> float | None:
    """Return the share of the measured read bandwidth that a decode step's weights take."""
    rates, steps = speed.get("read", {}).get("read_gb_s"), speed.get(name, {}).get("decode_tok_s")
    if not rates or not steps or not name.startswith(("zoo", "llama.cpp", "ik_llama.cpp")):
        return None  # others keep embedding and head apart, or round the head again
    return float(row["weights_mb"] / 1e3 * statistics.median(steps) / statistics.median(rates))


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
    for power in range(math.floor(low), math.ceil(high)):
        for digit in (1, 2, 5):
            if low <= math.log10(digit * 10**power) <= high:
                y = at(0, digit * 10**power)[1]
                marks += [svg.line(LEFT, y, WIDTH - RIGHT, y, "grid"),
                          svg.text(LEFT - 8, y + 4, f"{digit * 10.0**power:g}", anchor="end")]  # fmt: skip
    step = 10 ** math.floor(math.log10(fastest)) / (2 if fastest < 3 * 10 ** math.floor(math.log10(fastest)) else 1)
    for index in range(int(fastest / step) + 1):
        x = at(index * step, 10**low)[0]
        marks += [svg.line(x, TOP, x, HEIGHT - BOTTOM, "grid"),
                  svg.text(x, HEIGHT - BOTTOM + 18, f"{index * step:.0f}", anchor="middle")]  # fmt: skip
    marks.append(svg.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "decode, tokens/s", anchor="middle"))
    taken = [(at(x, y)[0] - 7, at(x, y)[1] - 7, at(x, y)[0] + 7, at(x, y)[1] + 7) for _, x, y in points]
    for name, x, y in sorted(points, key=lambda point: at(*point[1:])[1]):
        (across, down), css = at(x, y), "zoo" if name.startswith("zoo") else "peer"
        left, base, anchor = label_place(across, down, 7.0 * len(name), taken)
        marks.append(svg.rect(across - 5, down - 5, 10, 10, css, radius=0 if "8" in name.split()[1] else 5, title=name))
        marks.append(svg.text(left, base, name, "bold" if css == "zoo" else "", anchor))
    return svg.document(WIDTH, HEIGHT, "Mean KL against decode speed, zoo and its peers", STYLE, marks)


Box = tuple[float, float, float, float]


def label_place(x: float, y: float, width: float, taken: list[Box]) -> tuple[float, float, str]:
    """Return where a point's label stands (x, baseline, anchor): the first place that covers nothing; claim it."""
    for lift in (0, 14, -14, 28, -28):
        for anchor, left in (("start", x + 9), ("end", x - 9 - width)):
            box = (left, y + lift - 8, left + width, y + lift + 6)
            if left + width < WIDTH and not any(
                box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in taken
            ):
                taken.append(box)
                return (left if anchor == "start" else x - 9), y + lift + 4, anchor
    return x + 9, y + 4, "start"
