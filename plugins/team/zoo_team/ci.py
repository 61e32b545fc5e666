"""Loaded plugins and ``zoo.toml`` → checks, each passed, failed or skipped: what a team runs on every change.

Three tiers, each with the cheaper ones before it: ``declare`` takes every declared model as data; ``tiny`` runs the
conformance kit, one tiny checkpoint for each shape of quirks; ``real`` builds, verifies, scores and measures what
``zoo.toml`` lists, and holds it against its limits.
"""

from __future__ import annotations

import subprocess
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import UsageError, ZooError, unknown
from zoo.stages.kit import Check, Say
from zoo_team.lock import read_lock, read_workspace, sync, unlocked
from zoo_team.workspace import LOCK, Lock, WantedModel, Workspace

if TYPE_CHECKING:
    from zoo.plugins import Host
    from zoo.registry import Registry

TIERS = ("declare", "tiny", "real")


def choose_plugins(host: Host, named: Sequence[str] = (), changed: str | None = None) -> list[str]:
    """Choose the plugins that are checked: those that declare families.

    Args:
        named: only these.
        changed: only those whose files differ from this commit of the repository in the working directory.

    Raises:
        UsageError: an unknown plugin, or a commit that git does not know.
    """
    folders = {
        declared.plugin: declared.path.parent
        for declared in host.registry.families.values()
        if declared.path is not None
    }
    plugins = list(dict.fromkeys(declared.plugin for declared in host.registry.families.values()))
    for name in named:
        if name not in plugins:
            raise unknown("plugin with a family", name, plugins)
    chosen = [name for name in plugins if not named or name in named]
    if changed is None:
        return chosen
    files = _changed_files(changed)
    return [name for name in chosen if name in folders and any(folders[name] in file.parents for file in files)]


def _changed_files(commit: str) -> list[Path]:
    """List the files that differ from a commit, those that git does not track yet too."""
    commands = (["rev-parse", "--show-toplevel"], ["diff", "--name-only", commit, "--"],
                ["ls-files", "--others", "--exclude-standard", "--full-name"])  # fmt: skip
    lines = []
    for command in commands:
        done = subprocess.run(["git", *command], capture_output=True, text=True)
        if done.returncode or commit.startswith("-"):
            raise UsageError(f"--changed {commit}: {(done.stderr.strip() or 'not a commit').splitlines()[0]}")
        lines.append(done.stdout.splitlines())
    top = Path(lines[0][0]).resolve()
    return [top / name for names in lines[1:] for name in names]


def read_both(path: Path) -> tuple[Workspace, Lock]:
    """Read ``zoo.toml`` and the ``zoo.lock`` beside it.

    Raises:
        ZooError: one is not there, or wrong.
    """
    return read_workspace(path), read_lock(path.with_name(LOCK.name))


def plugin_checks(host: Host) -> list[Check]:
    """Check that no plugin failed to load."""
    return [
        Check(record.name, "loads", "failed" if record.status == "failed" else "passed", 0.0, record.error or "")
        for record in host.records
        if record.status != "disabled"
    ]


def lock_checks(workspace: Workspace, lock: Lock) -> list[Check]:
    """Check that ``zoo.toml`` and ``zoo.lock`` ask for the same."""
    odd = list(unlocked(workspace, lock))
    return [Check("zoo.lock", "answers zoo.toml", "failed" if odd else "passed", 0.0, "\n".join(odd))]


def real_checks(
    registry: Registry, workspace: Workspace, lock: Lock, *, workers: str | None = None, say: Say | None = None
) -> Iterator[Check]:
    """Build, verify, score and measure what ``zoo.toml`` lists, and hold the figures against its limits.

    Args:
        workers: what ``zoo eval --workers`` takes: processes, or ``ray://…``.
        say: given each check before it begins.
    """
    for wanted in workspace.model:
        one = Workspace(model=(wanted,))
        locked = lock.find(wanted)
        mine = Lock(zoo=lock.zoo, model=(locked,) if locked is not None else ())
        paths: list[Path] = []

        def build(one: Workspace = one, mine: Lock = mine, paths: list[Path] = paths) -> str:
            paths += [synced.path for synced in sync(registry, one, mine)]
            return ""

        yield _check(wanted.label, "builds what is locked", build, say)
        if not paths:
            continue
        for name, measure in _measures(registry, wanted, paths[0], workers):
            yield _check(wanted.label, name, measure, say)


def _check(suite: str, name: str, run: Callable[[], str], say: Say | None) -> Check:
    """Run one check: it returns what is wrong, or nothing."""
    if say is not None:
        say(f"{suite}: {name}")
    started = time.monotonic()
    try:
        message = run()
    except ZooError as error:
        message = str(error)
    return Check(suite, name, "failed" if message else "passed", round(time.monotonic() - started, 3), message)


def _measures(
    registry: Registry, wanted: WantedModel, path: Path, workers: str | None
) -> Iterator[tuple[str, Callable[[], str]]]:
    """List what a package's limits ask to be measured."""
    limits, package = wanted.limits, str(path)

    def verified() -> str:
        from zoo.stages.verify import verify
        from zoo.verify.result import Check, Verdict

        verdict = verify(registry, package, weights=wanted.weights, quick=True).verdict
        failed = [
            f"{check.name} {check.value}, tolerance {check.limit}"
            for check in verdict.checks
            if not check.passed and (not isinstance(check, Check) or check.breaks)
        ]
        if not isinstance(verdict, Verdict):
            return "; ".join(failed)  # vectors have no tokens to agree on
        kl, top1 = verdict.figures.kl_mean, verdict.figures.top1
        if limits.kl_mean is not None and (kl is None or kl > limits.kl_mean):
            failed.append(f"mean KL {kl}, zoo.toml allows {limits.kl_mean}")
        if limits.top1 is not None and top1 < limits.top1:
            failed.append(f"top-1 agreement {top1:.4f}, zoo.toml asks for {limits.top1}")
        return "; ".join(failed)

    def scored(task: str, least: float) -> str:
        from zoo.stages.evaluate.request import EvaluationRequest
        from zoo.stages.evaluate.stage import evaluate
        from zoo.stages.report import first_metric

        request = EvaluationRequest(package, [task], limit=limits.questions, workers=workers)
        (report,) = evaluate(registry, request).reports
        metric, value = first_metric(report)
        return "" if value >= least else f"{metric} {value:.4f}, zoo.toml asks for {least}"

    def fast() -> str:
        from zoo.stages.bench.ask import Ask
        from zoo.stages.bench.package import bench_package
        from zoo.stages.bench.result import Bench

        ask = Ask(input_len=64, output_len=64, concurrency=1, prompts=2)
        measured = bench_package(registry, package, None, ask)
        speed = max(row.decode_throughput or 0.0 for row in measured.rows) if isinstance(measured, Bench) else 0.0
        least = limits.decode_tok_s or 0.0
        return "" if speed >= least else f"{speed:.1f} tokens/s, zoo.toml asks for {least:g}"

    if registry.target(wanted.target).engines:
        yield "verify", verified
    for task, least in sorted(limits.task.items()):
        yield f"task {task}", lambda task=task, least=least: scored(task, least)  # type: ignore[misc]
    if limits.decode_tok_s is not None:
        yield "decode", fast


def junit(checks: Sequence[Check]) -> str:
    """Write checks as JUnit XML."""
    root = ElementTree.Element("testsuites")
    for name in dict.fromkeys(check.suite for check in checks):
        mine = [check for check in checks if check.suite == name]
        counts = {status: str(sum(check.status == status for check in mine)) for status in ("failed", "skipped")}
        suite = ElementTree.SubElement(
            root, "testsuite", name=name, tests=str(len(mine)), failures=counts["failed"], errors="0",
            skipped=counts["skipped"], time=f"{sum(check.seconds for check in mine):.3f}",
        )  # fmt: skip
        for check in mine:
            case = ElementTree.SubElement(
                suite, "testcase", classname=name, name=_xml(check.name), time=f"{check.seconds:.3f}"
            )
            if check.status != "passed":
                tag = {"failed": "failure", "skipped": "skipped"}[check.status]
                first = (check.message.strip().splitlines() or [""])[-1]
                ElementTree.SubElement(case, tag, message=_xml(first)).text = _xml(check.message)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def markdown(checks: Sequence[Check]) -> str:
    """Write checks as a Markdown summary: counts for each suite, then what failed."""
    lines = ["| suite | passed | failed | skipped | seconds |", "|---|---:|---:|---:|---:|"]
    for name in dict.fromkeys(check.suite for check in checks):
        mine = [check for check in checks if check.suite == name]
        counts = [sum(check.status == status for check in mine) for status in ("passed", "failed", "skipped")]
        cells = [name.replace("|", "\\|"), *map(str, counts), f"{sum(check.seconds for check in mine):.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    for check in (check for check in checks if check.status == "failed"):
        lines += ["", f"**{check.suite}: {check.name}**", "", *(f"    {line}" for line in check.message.splitlines())]
    return "\n".join(lines) + "\n"


def _xml(text: str) -> str:
    """Leave out what XML cannot hold."""
    return "".join(letter for letter in text if letter.isprintable() or letter in "\n\t")
