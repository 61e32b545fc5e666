"""Write the bundled plugins' entries of the plugin directory from a run of the conformance kit.

    zoo ci --tier tiny --junit checks.xml
    python docs/directory.py checks.xml          # or `make directory`, which does both

Name, families and parts are what the plugin registers; the summary, where it has no families, and the licence are what
its ``pyproject.toml`` says, versions those that are installed, and ``conformance`` what the run said. Entries of other
distributions stay as they are.
"""

from __future__ import annotations

import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from zoo.catalog.directory import FILE
from zoo.plugins import PluginRecord, host

ROOT = Path(__file__).parents[1]
OURS = "model-zoo-framework"
HEAD = """\
# Plugins that people can install. To list yours, add it in a pull request, with what `zoo ci --tier tiny --plugin NAME`
# counted as `conformance`. Only names that are registered on the index: an entry sends people there.
# The entries of model-zoo-framework are written by docs/directory.py.
"""


def counts(junit: Path) -> dict[str, dict[str, int]]:
    """Count the kit's tests by plugin and outcome."""
    counted: dict[str, dict[str, int]] = {}
    for case in ElementTree.parse(junit).iter("testcase"):
        name = case.get("name", "")
        if name.startswith("test_"):
            status = {"failure": "failed", "skipped": "skipped"}.get(case[0].tag if len(case) else "", "passed")
            suite = counted.setdefault(case.get("classname", ""), {"passed": 0, "failed": 0, "skipped": 0})
            suite[status] += 1
    return counted


def brings(record: PluginRecord) -> Iterator[str]:
    """Name the parts that a plugin registers, each with its kind."""
    for kind, names in record.registered.items():
        if kind not in ("families", "models", "datasets"):
            yield from (f"{kind.removesuffix('s')} {name}" for name in names)
    if sets := record.registered.get("datasets"):
        yield f"{len(sets)} datasets"


def entry(record: PluginRecord, counted: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Describe a bundled plugin."""
    stated = tomllib.loads((ROOT / "plugins" / record.name / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = [f"{name} {version(name)}" for name in ("transformers", "onnxruntime")]
    families = list(record.registered.get("families", ()))
    titles = ", ".join(host().registry.families[name].family.title for name in families)
    return {
        "name": record.name,
        "distribution": OURS,
        "summary": titles or stated["description"],
        **({"families": families} if families else {}),
        **({"brings": parts} if (parts := list(brings(record))) else {}),
        "licence": stated["license"],
        "api": record.api,
        "tested": ", ".join([f"zoo {version(OURS)}", *versions]),
        **({"conformance": counted[record.name] | {"on": date.today().isoformat()}} if families else {}),
    }


def main() -> None:
    counted = counts(Path(sys.argv[1]))
    ours = [entry(record, counted) for record in host().records if record.name != "core"]
    before = yaml.safe_load(FILE.read_text(encoding="utf-8"))["plugins"]
    others = [one for one in before if one["distribution"] != OURS]
    data = {"plugins": sorted([*ours, *others], key=lambda one: str(one["name"]))}
    FILE.write_text(
        HEAD + yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None),
        encoding="utf-8",
    )
    print(f"wrote {FILE.relative_to(ROOT)}: {len(data['plugins'])} plugins")


if __name__ == "__main__":
    main()
