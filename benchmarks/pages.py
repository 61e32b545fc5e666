#!/usr/bin/env python3
"""Write the pages of measured figures: docs/NAME.md is benchmarks/pages/NAME.md, filled from benchmarks/results/.

    python benchmarks/pages.py [NAME ...] [--check]

The templates are Jinja's. --check writes nothing and exits 1 where a page is not what the results give.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2

HERE = Path(__file__).resolve().parent
RESULTS, DOCS = HERE / "results", HERE.parent / "docs"


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


def cell(figures: dict[str, Any], key: str, own: dict[str, Any] | None = None, more: bool = True) -> str:
    """Write median, spread and, for a peer, how many times better zoo (`own`) is; `more` where more is better."""
    known, middle = values(figures, key), median(figures, key)
    if middle is None:
        return "-"
    text = number(middle)
    if number(min(known)) != number(max(known)):
        text += f" ({number(min(known))}–{number(max(known))})"
    mine = median(own, key) if own is not None and own is not figures else None
    return text + (f" **×{mine / middle if more else middle / mine:.2f}**" if mine else "")


def kl(value: float) -> str:
    """Write a divergence."""
    if value < 1e-3:
        return "< 1e-6" if value < 1e-6 else f"{value:.1e}"
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}"


def against(figures: dict[str, Any], key: str) -> str:
    """Say how zoo's medians compare with the best peer's."""
    known = {name: found for name, row in figures.items() if (found := median(row, key)) and name != "read"}
    own = {name: known.pop(name) for name in list(known) if name.split(" (")[0] == "zoo"}
    if not known or "zoo" not in own:
        return "no peer to compare with"
    peer = max(known, key=lambda name: known[name])
    first = own.pop("zoo") / known[peer]
    others = "".join(f"; {name}: {value / known[peer]:.2f}" for name, value in own.items())
    return f"{first:.2f} times the best peer's ({peer}){others}"


def noise(parts: list[dict[str, Any]]) -> str:
    """Say how much others took of the processors, if that is worth a line."""
    most = max((share for part in parts for row in part["figures"].values() for share in values(row, "others_cpu")),
               default=0.0)  # fmt: skip
    return f"other programs took at most {most:.0%} of the machine's processor time" if most > 0.005 else ""


def machine(found: dict[str, Any]) -> str:
    """Write the machine in one line."""
    return (f"{found['cpu']}, {found['cores']} cores ({', '.join(found['extensions'])}), "
            f"{found['memory_gb']} GB, {found['system']}, Python {found['python']}")  # fmt: skip


def versions(found: dict[str, dict[str, str]]) -> str:
    """Write each program's versions as a list entry."""
    return "\n".join(f"- {name}: " + ", ".join(f"{what} {text}" for what, text in parts.items())
                     for name, parts in found.items())  # fmt: skip


def environment() -> jinja2.Environment:
    """Return where the templates are, with the filters that they use."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "pages"), undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    found.filters |= {"number": number, "kl": kl, "machine": machine, "versions": versions,
                      "median": statistics.median, "percent": lambda share, digits=0: f"{share:.{digits}%}",
                      "digits": lambda value, form: format(value, form)}  # fmt: skip
    found.globals |= {"cell": cell, "median_of": median, "against": against, "noise": noise, "values": values}
    return found


def read(name: str) -> Any:
    """Return a result, or None where nothing was measured."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def accuracy() -> dict[str, Any]:
    """A real model beside its peers (real.py)."""
    import real_page

    result = read("real")
    return {"result": result, "of_bandwidth": real_page.of_bandwidth}


def benchmarks() -> dict[str, Any]:
    """Builds and the engine beside their peers (compare.py, large_build.py), by machine and day."""
    groups: dict[str, dict[str, Any]] = {}
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if result.get("kind") in ("engine", "large_build"):
            where = f"{machine(result['machine'])}; {result['date']}"
            group = groups.setdefault(where, {"versions": {}, "engine": [], "large_build": []})
            group[result["kind"]].append(result)
            for name, found in result["versions"].items():
                group["versions"].setdefault(name, {}).update(found)
    newest = sorted(groups.items(), key=lambda group: group[0].rpartition("; ")[2], reverse=True)
    return {"groups": dict(newest)}


def evaluation() -> dict[str, Any]:
    """Scores (eval.py)."""
    return {name: read(f"eval-{name}") for name in ("accuracy", "equal", "speed")}


def performance() -> dict[str, Any]:
    """How costs grow (performance.py)."""
    import performance_page

    return performance_page.tables(read("performance"))


def serving() -> dict[str, Any]:
    """The server beside llama.cpp's (serve.py)."""
    import serve

    result = read("serve")
    return {"result": result, "rows": serve.rows(result)}


PAGES: dict[str, Callable[[], dict[str, Any]]] = {
    page.__name__: page for page in (accuracy, benchmarks, evaluation, performance, serving)
}


def render(name: str) -> str:
    """Return a page's text."""
    text = environment().get_template(f"{name}.md").render(PAGES[name]())
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text.rstrip() + "\n"


def write(name: str) -> None:
    """Write a page."""
    (DOCS / f"{name}.md").write_text(render(name), encoding="utf-8")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(PAGES)}; all that are there by default")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if unknown := {*args.names} - {*PAGES}:
        parser.error(f"unknown pages: {', '.join(sorted(unknown))}")
    stale = []
    for name in args.names or (name for name in PAGES if (DOCS / f"{name}.md").is_file()):
        if not args.check:
            write(name)
        elif (DOCS / f"{name}.md").read_text(encoding="utf-8") != render(name):
            stale.append(f"docs/{name}.md")
    sys.exit(f"stale: {', '.join(stale)}; run python benchmarks/pages.py" if stale else 0)


if __name__ == "__main__":
    main()
