"""Run every attack and write the table of them into docs/reliability.md.

    python docs/attacks.py [--write] [PYTEST-ARGUMENT ...]

An attack is a test marked ``@pytest.mark.attack("where it was found", "what it tries")``; its variants are the cases of
the test. Without ``--write`` the table goes to stdout. The exit code is 1 where an attack gets through.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "| attack | found by |", "## Fuzzing"
"""Between these the page holds the table."""


@dataclass
class Attack:
    """What was tried, and how it ended."""

    script: str
    what: str
    place: str
    held: int = 0
    skipped: int = 0
    through: list[str] = field(default_factory=list)


class Collector:
    """A pytest plugin that keeps the attacks among the tests and notes how each ended."""

    def __init__(self) -> None:
        self.attacks: dict[tuple[str, str, str], Attack] = {}
        self._of_test: dict[str, Attack] = {}

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        config.hook.pytest_deselected(items=[item for item in items if not item.get_closest_marker("attack")])
        items[:] = [item for item in items if item.get_closest_marker("attack")]
        for item in items:
            marker = item.get_closest_marker("attack")
            assert marker is not None
            script, what = marker.args
            place = Path(item.location[0]).relative_to("tests").as_posix()
            attack = self.attacks.setdefault((script, place, what), Attack(script, what, place))
            self._of_test[item.nodeid] = attack

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        attack = self._of_test[report.nodeid]
        if report.failed:
            attack.through.append(report.nodeid)
        elif report.skipped:
            attack.skipped += 1
        elif report.when == "call":
            attack.held += 1


def attacks_table(result: dict[str, Any]) -> list[str]:
    """Return the lines of the table of attacks."""
    lines = [
        "| attack | found by | variants | held | got through | its tests, under `tests/` |",
        "|---|---|---:|---:|---:|---|",
    ]
    for attack in result["attacks"]:
        through = len(attack["through"])
        skipped = f" ({attack['skipped']} not tried here)" if attack["skipped"] else ""
        lines.append(
            f"| {attack['what']} | {attack['script']} | {attack['held'] + through}{skipped} | {attack['held']} "
            f"| {through} | {attack['place']} |"
        )
    held = sum(attack["held"] for attack in result["attacks"])
    through = sum(len(attack["through"]) for attack in result["attacks"])
    return [
        *lines,
        "",
        f"{len(lines) - 2} attacks, {held + through} variants, {through} got through; {result['date']}.",
    ]


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.relative_to(ROOT)}")
    options, rest = parser.parse_known_args()
    collector, started = Collector(), time.monotonic()
    code = pytest.main(["-q", "--no-header", "-p", "no:cacheprovider", *(rest or [str(ROOT / "tests")])], [collector])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return int(code)
    found = [asdict(collector.attacks[key]) for key in sorted(collector.attacks)]
    result = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "attacks": found}
    if options.write:
        before, _, rest_of_page = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        after = rest_of_page[rest_of_page.index(END) :]
        PAGE.write_text(before + "\n".join([*attacks_table(result), "", after]), encoding="utf-8")
    else:
        print("\n".join(attacks_table(result)))
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
    return 1 if code else 0


if __name__ == "__main__":
    sys.exit(main())
