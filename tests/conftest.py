"""What every test stands on: a home of its own, no network, and plugins made on the fly."""

from __future__ import annotations

import copy
import functools
import gc
import os
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zoo import plugins, yamlfile
from zoo.engine import machine, session
from zoo.registry import Registry

# Compiled modules are kept: hundreds of tests start programs that import them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The tests run a process for each core already; other threads, torch's and the engine's, would only spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")
machine.usable_cores = session.usable_cores = functools.wraps(machine.usable_cores)(lambda: 1)

# No test pulls the plug, and a disk takes milliseconds for each file; programs that tests start wait for it as ever.
os.fsync = lambda file: os.fstat(file if isinstance(file, int) else file.fileno()) and None

# The YAML of the bundled plugins is composed once in a process.
yamlfile.compose = functools.lru_cache(256)(yamlfile.compose)


def _loaded_once(load: Callable[[], plugins.Host]) -> Callable[[], plugins.Host]:
    """Load the bundled plugins once in a process, and give each caller a registry of its own.

    Where a test installs others, or one says anything while it is loaded, all are loaded anew.
    """
    path = list(sys.path)
    known: dict[str | None, plugins.Host] = {}

    def loaded() -> plugins.Host:
        chosen = os.environ.get("ZOO_PLUGINS")
        if sys.path != path or os.environ.get("ZOO_PATH") or any(one.startswith("plugin_") for one in sys.modules):
            return load()
        if chosen not in known:
            host = load()
            if any(one.status == "failed" for one in host.records) or _names_unknown(chosen, host):
                return host
            known[chosen] = host
        host = known[chosen]
        return plugins.Host(_own(host.registry), host.records)

    return loaded


def _names_unknown(chosen: str | None, host: plugins.Host) -> bool:
    """Tell whether ``ZOO_PLUGINS`` names a plugin that is not there."""
    named = {name.strip().removeprefix("-") for name in (chosen or "").split(",")} - {""}
    return not named <= {one.name for one in host.records}


def _own(registry: Registry) -> Registry:
    """Copy the tables of a registry; what is in them does not change."""
    copied = copy.copy(registry)
    for name, table in vars(registry).items():
        setattr(copied, name, type(table)(table))
    return copied


plugins.load = _loaded_once(plugins.load)

# A shell that puts the tests in the background has them ignore interrupts, and so would every program they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep each test away from the user's zoo, hub cache and network."""
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "zoo-home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("ZOO_PLUGINS", "ZOO_PATH", "ZOO_STRICT_PLUGINS", "ZOO_API_KEY", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    plugins.host.cache_clear()
    yield
    plugins.host.cache_clear()


@pytest.fixture
def install_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Install a plugin the way pip would: a module on the path and a distribution that names its entry point."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def install(name: str, source: str, *, distribution: str | None = None, **files: str) -> Path:
        module = f"plugin_{name.replace('-', '_')}"
        folder = site / module
        folder.mkdir()
        (folder / "__init__.py").write_text(textwrap.dedent(source), encoding="utf-8")
        for file, text in files.items():
            (folder / file.replace("__", ".")).write_text(textwrap.dedent(text), encoding="utf-8")
        dist = distribution or f"example-{name}"
        info = site / f"{dist.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[zoo]\n{name} = {module}\n", encoding="utf-8")
        plugins.host.cache_clear()
        return folder

    yield install
    for module in [one for one in sys.modules if one.startswith("plugin_")]:
        del sys.modules[module]


FAMILY = """
name: {name}
title: Example
licence: {{id: mit}}
claims: {claims}
architecture: {{vocab_size: 320, max_position_embeddings: 64}}
models:
  - name: {model}
    weights: {{hub: example/one}}
    architecture:
      {{hidden_size: 64, intermediate_size: 128, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2}}
"""


@pytest.fixture
def family_yaml() -> Callable[..., str]:
    """Write the YAML of a small family."""

    def write(name: str = "example", model: str = "example-1b", claims: str = "[]") -> str:
        return FAMILY.format(name=name, model=model, claims=claims)

    return write


REGISTER_FAMILY = """
from pathlib import Path
from zoo import hookimpl

@hookimpl
def register_families(register):
    register(Path(__file__).with_name("family.yaml"))
"""


def pytest_collection_finish(session: pytest.Session) -> None:
    """Spare the garbage collector what stays to the end: the tests, and the libraries that they import."""
    gc.collect()
    gc.freeze()
