"""Write the files of a plugin project around a family's YAML."""

from __future__ import annotations

import json
import re

from zoo import API_VERSION, __version__

_PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "zoo-plugin-{name}"
version = "0.1.0"
description = "The {name} family for zoo"
requires-python = ">=3.11"
dependencies = ["zoo-framework>={version}"]

[project.optional-dependencies]
test = ["pytest", "zoo-framework[verify]"]

[project.entry-points.zoo]
{name} = "{module}"

[tool.setuptools]
packages = ["{module}"]

[tool.setuptools.package-data]
{module} = ["*.yaml"]
"""

_INIT = '''\
"""The {name} family."""

from pathlib import Path

from zoo import hookimpl

ZOO_API = {api}


@hookimpl
def register_families(register):
    register(Path(__file__).with_name("{name}.yaml"))
'''

_TEST = """\
from zoo.testing import *  # noqa: F403, I001
PLUGIN = "{name}"
"""

_README = """\
# zoo-plugin-{name}

The {name} family for zoo, declared in `{module}/{name}.yaml`.

    pip install -e '.[test]'
    zoo validate .      # what is wrong, and the questions that are still open
    pytest              # tiny random checkpoints of every model: build, parity with transformers, targets
    zoo list --family {name}
"""


def slug(text: str) -> str:
    """Make a name that people type of any text."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._") or "model"


def project_files(name: str, yaml: str) -> dict[str, str]:
    """Make the files of a plugin project, by their paths in it."""
    from zoo.declarations.family import Family

    module = "zoo_" + re.sub(r"[^a-z0-9]", "_", name)
    values = {"name": name, "module": module, "version": __version__, "api": API_VERSION}
    return {
        "pyproject.toml": _PYPROJECT.format(**values),
        "README.md": _README.format(**values),
        "family.schema.json": json.dumps(Family.model_json_schema(), indent=1) + "\n",
        f"{module}/__init__.py": _INIT.format(**values),
        f"{module}/{name}.yaml": yaml,
        f"tests/test_{module.removeprefix('zoo_')}.py": _TEST.format(**values),
    }
