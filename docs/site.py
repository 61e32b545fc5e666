"""Hooks of the documentation site (`make site`): pages that stand elsewhere in the repository, and every guide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

API = """\
# Python API

What `import zoo` offers, from its docstrings; [hooks](hooks.md) and [fields](fields.md) have pages of their own.

::: zoo.api
::: zoo.contracts
"""

LINKS = {
    "docs/tutorials)": "tutorials/first-model.md)",
    "docs/guides)": "guides/team.md)",
    "docs/explanation)": "explanation/engine.md)",
    "docs/reference)": "reference/commands.md)",
    "docs/": "",
    "CHANGELOG.md)": "changelog.md)",
}
"""How links of the pages that stand outside ``docs/`` begin there, and here."""


def on_config(config: Any) -> Any:
    """Put every guide that the navigation does not name behind those that it names."""
    guides = next(section["How to"] for section in config["nav"] if "How to" in section)
    named = guides[:-1]
    pages = (f"guides/{path.name}" for path in sorted(Path(config["docs_dir"], "guides").glob("*.md")))
    guides[:] = [*named, *(page for page in pages if page not in named)]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the README as the first page, the changelog, and the page of the Python API."""
    root = Path(config["config_file_path"]).parent
    pages = {"reference/api.md": API}
    for source, page in (("README.md", "index.md"), ("CHANGELOG.md", "changelog.md")):
        text = (root / source).read_text(encoding="utf-8")
        for link, target in LINKS.items():
            text = text.replace(f"]({link}", f"]({target}")
        pages[page] = text
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files
