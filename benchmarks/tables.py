"""Turn measured figures into Markdown: medians, spread and the ratio to zoo."""

import statistics
from typing import Any

BUILD = (
    ("durable_s", "wall until on disk, s", "less"),
    ("wall_s", "wall, s", "less"),
    ("cpu_s", "processor, s", "less"),
    ("peak_rss_mb", "peak RSS, MB", "less"),
    ("package_mb", "package, MB", "less"),
)
RUN = (
    ("load_s", "load, s", "less"),
    ("prefill_tok_s", "prefill, tok/s", "more"),
    ("decode_tok_s", "decode, tok/s", "more"),
    ("rss_mb", "peak RSS, MB", "less"),
)


def values(figures: dict[str, Any], key: str) -> list[float]:
    """Return the known values of a figure."""
    return [value for value in figures.get(key, []) if value is not None]


def median(figures: dict[str, Any], key: str) -> float | None:
    """Return a figure's median, or None where it was not measured."""
    known = values(figures, key)
    return statistics.median(known) if known else None


def number(value: float) -> str:
    """Write a figure with about three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio(own: float | None, other: float | None, better: str) -> float | None:
    """Return how many times better `own` is than `other`."""
    if not own or not other:
        return None
    return other / own if better == "less" else own / other


def cell(own: dict[str, Any] | None, figures: dict[str, Any], key: str, better: str) -> str:
    """Write median, spread and, for a peer, how many times better zoo is."""
    known = values(figures, key)
    middle = median(figures, key)
    if middle is None:
        return "-"
    text = number(middle)
    if len(known) > 1 and number(min(known)) != number(max(known)):
        text += f" ({number(min(known))}–{number(max(known))})"
    times = ratio(median(own, key), middle, better) if own is not None and own is not figures else None
    return text + (f" **×{times:.2f}**" if times else "")


def table(title: str, columns: tuple[tuple[str, str, str], ...], figures: dict[str, Any], labels: dict[str, str],
          errors: dict[str, str]) -> list[str]:  # fmt: skip
    """Return the lines of one table, zoo first; programs that failed follow with their reason."""
    own = figures.get("zoo")
    names = sorted(figures, key=lambda name: name != "zoo")
    heads = " | ".join(label for _, label, _ in columns)
    lines = [f"### {title}", "", f"| | {heads} |", "|---" * (len(columns) + 1) + "|"]
    for name in names:
        cells = [cell(own, figures[name], key, better) for key, _, better in columns]
        lines.append(f"| {labels.get(name, name)} | " + " | ".join(cells) + " |")
    lines += ["", *(f"- {name}: not measured: {text}" for name, text in errors.items())]
    if any(figures[name].get("others_cpu") for name in names):
        worst = max(max(values(figures[name], "others_cpu"), default=0.0) for name in names)
        lines.append(f"- other programs took at most {worst:.0%} of the machine's processor time during a round")
    return [*lines, ""] if lines[-1] else lines


def machine_line(machine: dict[str, Any]) -> str:
    """Write the machine in one line."""
    return (f"{machine['cpu']}, {machine['cores']} cores ({', '.join(machine['extensions'])}), "
            f"{machine['memory_gb']} GB, {machine['system']}, Python {machine['python']}")  # fmt: skip


def versions_lines(versions: dict[str, dict[str, str]]) -> list[str]:
    """Write each program's versions as a list entry."""
    return [f"- {name}: " + ", ".join(f"{what} {text}" for what, text in found.items())
            for name, found in versions.items()]  # fmt: skip


def comparison(result: dict[str, Any]) -> list[str]:
    """Return the Markdown of one result of compare.py."""
    settings = result["settings"]
    labels = {name: f"{name}: {text}" for name, text in result["formats"].items()}
    where = f"{settings['shape']}, {settings['precision']}"
    if settings.get("note"):
        where += f" ({settings['note']})"
    lines = []
    if result.get("build"):
        lines += table(f"Build: {where}", BUILD, result["build"], labels, result["errors"].get("build", {}))
    if result.get("run"):
        title = f"Run: {where}, prompt of {settings['prompt']} tokens, {settings['new']} new"
        lines += table(title, RUN, result["run"], labels, result["errors"].get("run", {}))
    return lines
