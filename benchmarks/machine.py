"""Say what kind of machine measured, without saying which: no host name, no path, no user."""

import platform
from pathlib import Path
from typing import Any

import psutil

EXTENSIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp")


def cpu_fields() -> dict[str, str]:
    """Return the first processor's entry in /proc/cpuinfo, empty where there is none."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    first = path.read_text().split("\n\n", 1)[0]
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def describe() -> dict[str, Any]:
    """Return CPU model, cores, memory, system and Python."""
    fields = cpu_fields()
    model = fields.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in fields:
        model += f" (family {fields['cpu family']}, model {fields.get('model', '?')})"
    return {
        "cpu": model,
        "cores": psutil.cpu_count(logical=True),
        "extensions": [name for name in EXTENSIONS if name in fields.get("flags", fields.get("Features", "")).split()],
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
