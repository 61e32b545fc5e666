"""CPU features, kernels, memory and disk."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from zoo.declarations.architecture import Architecture
from zoo.declarations.plan import Plan
from zoo.declarations.recipe import Precision
from zoo.engine.machine import memory_limit
from zoo.home import packages_folder
from zoo.operations import record
from zoo.registry import Registry
from zoo.stages.doctor.findings import Finding, Status
from zoo.terminal import command_line
from zoo.toolchain import Probing
from zoo.units import bytes_text

_FEATURES = {
    "x86_64": (("avx2",), ("avx512_vnni", "avx_vnni")),
    "amd64": (("avx2",), ("avx512_vnni", "avx_vnni")),
    "aarch64": (("asimd",), ("asimddp",)),
    "arm64": (("asimd",), ("asimddp",)),
}
"""Machine → features that the kernels count on, and features of which one makes 8-bit products fast."""


def cpu_flags() -> frozenset[str] | None:
    """Read the CPU's features; None where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return None


def cpu() -> Iterator[Finding]:
    """Check the features that the quantized kernels use."""
    machine, flags = platform.machine().lower(), cpu_flags()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    needed, fast = _FEATURES.get(machine, ((), ()))
    described = f"{machine}, {cores} cores"
    if flags is None or not needed:
        yield Finding("cpu", "features", "note", f"{described}; its features are not known here")
        return
    lacking = [feature for feature in needed if feature not in flags]
    quick = [feature for feature in fast if feature in flags]
    if lacking:
        mend = "run on a CPU that has it; onnxruntime falls back to slow kernels here"
        yield Finding("cpu", "features", "warning", f"{described}, no {lacking[0]}", mend)
    elif not quick:
        mend = f"a CPU with {' or '.join(fast)} multiplies 8-bit weights several times as fast"
        yield Finding("cpu", "features", "note", f"{described}, {' '.join(needed)}", mend)
    else:
        yield Finding("cpu", "features", "ok", f"{described}, {' '.join((*needed, *quick))}")


def kernels(
    registry: Registry, target: str, architecture: Architecture | None, precisions: Sequence[Precision]
) -> Iterator[Finding]:
    """Try each operator that a build for the target would use."""
    part: object = registry.target(target)
    if not isinstance(part, Probing):
        return
    mend = "pip install --upgrade --force-reinstall onnxruntime"
    program = None
    if architecture is not None and registry.target(target).operations is not None:
        multiple = registry.target(target).head_multiple
        program = record(registry.architecture(architecture.type), architecture, multiple)
    for probe in part.probes(program, precisions):
        try:
            probe.run()
        except Exception as error:
            text = " ".join(str(error).split())[:200] or type(error).__name__
            yield Finding("kernel", probe.name, "missing", text, mend)
        else:
            yield Finding("kernel", probe.name, "ok", "computes")


def memory(plan: Plan, model: str) -> Iterator[Finding]:
    """Hold the memory against what building and running take."""
    total, available = memory_limit()
    for subject, needed in (
        ("build", plan.peak_memory_bytes),
        (f"run at {plan.run_context} tokens", plan.run_memory_bytes),
    ):
        status: Status = "missing" if needed > total else "warning" if needed > available else "ok"
        described = f"needs {bytes_text(needed)}, {bytes_text(available)} of {bytes_text(total)} free"
        mend = None
        if status == "missing":
            smaller = (
                f"{command_line('zoo', 'build', model, '-p', 'int4')}, or " if plan.recipe.precision != "int4" else ""
            )
            mend = f"{smaller}a machine with more memory"
        elif status == "warning":
            mend = "close other programs first"
        yield Finding("memory", subject, status, described, mend)


def disk(plan: Plan, cache: Path) -> Iterator[Finding]:
    """Hold the free disk against what downloading and building take; one file system is asked for the sum."""
    wanted = [("packages", packages_folder(), plan.disk_output_bytes, "ZOO_HOME")]
    if plan.disk_cache_bytes:
        wanted.append(("hub cache", cache, plan.disk_cache_bytes, "HF_HOME"))
    taken: dict[int, int] = {}
    for subject, folder, needed, variable in wanted:
        there = folder
        while not there.exists() and there != there.parent:
            there = there.parent
        device = there.stat().st_dev
        taken[device] = taken.get(device, 0) + needed
        free = free_space(there)
        enough = taken[device] <= free
        described = f"needs {bytes_text(taken[device])}, {bytes_text(free)} free"
        more = bytes_text(taken[device] - free)
        mend = None if enough else f"free {more}, or set {variable} to a folder on another disk"
        yield Finding("disk", subject, "ok" if enough else "missing", described, mend)


def free_space(folder: Path) -> int:
    """Read how many bytes the folder's file system has left for this user."""
    return shutil.disk_usage(folder).free
