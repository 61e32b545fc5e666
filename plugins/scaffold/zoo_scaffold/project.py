"""Write the files of a plugin project around a family's YAML."""

from __future__ import annotations

import datetime
import json
import re

from zoo import API_VERSION, __version__
from zoo.declarations.family import Family
from zoo.plugins import DISTRIBUTION

_PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "zoo-plugin-{name}"
version = "0.1.0"
description = "The {name} family for zoo"
license = "MIT"
license-files = ["LICENSE"]
requires-python = ">=3.11"
dependencies = ["{core}>={version}"]

[project.urls]
# TODO(you): where the project is
Source = "https://github.com/me/zoo-plugin-{name}"
Issues = "https://github.com/me/zoo-plugin-{name}/issues"

[project.optional-dependencies]
test = ["pytest", "{core}[verify]"]

[project.entry-points.zoo]
{name} = "{module}"

[tool.setuptools]
packages = ["{module}"]

[tool.setuptools.package-data]
{module} = ["*.yaml", "results/*.yaml", "py.typed"]
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

_LICENSE = """\
MIT License

Copyright (c) {year} the authors of zoo-plugin-{name}

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES
OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""

_WORKFLOW = """\
# The plugin's tests against the oldest core that pyproject.toml allows, and the newest.
name: test
on: [push, pull_request]
jobs:
  test:
    runs-on: ubuntu-latest
    strategy:
      fail-fast: false
      matrix:
        core: ["{core}[verify]=={version}", "{core}[verify]"]
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {{python-version: "3.11"}}
      - run: pip install pytest "${{{{ matrix.core }}}}" .
      - run: zoo validate --offline .
      - run: pytest
        env: {{ZOO_STRICT_PLUGINS: "1"}}
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


def module_name(name: str) -> str:
    """Name the module of a plugin's project."""
    return "zoo_" + re.sub(r"[^a-z0-9]", "_", name)


def distribution_name(name: str) -> str:
    """Name the distribution of a plugin's project."""
    return f"zoo-plugin-{name}"


def project_files(name: str, yaml: str) -> dict[str, str]:
    """Make the files of a plugin project, by their paths in it."""
    from zoo_scaffold.schema import described_schema

    module = module_name(name)
    values: dict[str, object] = {"name": name, "module": module, "version": __version__, "api": API_VERSION}
    values |= {"core": DISTRIBUTION, "year": datetime.date.today().year}
    return {
        ".github/workflows/test.yml": _WORKFLOW.format(**values),
        "LICENSE": _LICENSE.format(**values),
        f"{module}/py.typed": "",
        "pyproject.toml": _PYPROJECT.format(**values),
        "README.md": _README.format(**values),
        "family.schema.json": json.dumps(described_schema(Family), indent=1) + "\n",
        f"{module}/__init__.py": _INIT.format(**values),
        f"{module}/{name}.yaml": yaml,
        f"tests/test_{module.removeprefix('zoo_')}.py": _TEST.format(**values),
    }
