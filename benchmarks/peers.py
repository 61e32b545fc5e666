#!/usr/bin/env python3
"""Set up the programs that zoo is compared with, each in a virtual environment of its own.

    python benchmarks/peers.py setup --cache DIR [--only NAME]... [--llama-cpp BUILD_DIR] [--torch-index URL]
    python benchmarks/peers.py list --cache DIR

What became of each peer is kept in DIR/peers.json: its interpreter and versions, or why it could not be installed.
"""

import argparse
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

from backends import BACKENDS, PEERS, Backend, Site

CONSTRAINTS = "torch==2.13.0\n"
VERSIONS = """
import importlib.metadata as m, json, sys
def version(name):
    try: return m.version(name)
    except m.PackageNotFoundError: return None
print(json.dumps({n: version(n) for n in sys.argv[1:]}))
"""


def log(text: str) -> None:
    """Print progress to stderr."""
    print(text, file=sys.stderr, flush=True)


def read_state(cache: Path) -> dict[str, Any]:
    """Return what is known of each peer, by name."""
    path = cache / "peers.json"
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def versions_of(python: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of installed distributions, leaving out those that are absent."""
    done = subprocess.run([str(python), "-c", VERSIONS, *names], capture_output=True, text=True, check=True)
    return {name: version for name, version in json.loads(done.stdout).items() if version}


def sites(cache: Path) -> dict[str, Site]:
    """Return the peers that are ready to use."""
    found = {}
    for name, entry in read_state(cache).items():
        if entry["status"] == "ready" and name in PEERS:
            native = Path(entry["native"]) if entry.get("native") else None
            found[name] = Site(Path(entry["python"]), cache / name, native)
    return found


def available(cache: Path, names: list[str], zoo_python: Path) -> tuple[dict[str, Site], dict[str, str]]:
    """Return the programs that can be measured, and for the others why not."""
    state, ready = read_state(cache), sites(cache)
    ready["zoo"] = Site(zoo_python, cache / "zoo")
    absent = {"reason": "not set up: run benchmarks/peers.py setup"}
    missing = {name: state.get(name, absent)["reason"] for name in names if name not in ready}
    return {name: ready[name] for name in names if name in ready}, missing


def versions(cache: Path, found: dict[str, Site]) -> dict[str, dict[str, str]]:
    """Return the versions of what is measured."""
    state = read_state(cache)
    return {
        name: versions_of(site.python, BACKENDS[name].versions) if name == "zoo" else state[name]["versions"]
        for name, site in found.items()
        if name == "zoo" or name in state
    }


def install(peer: Backend, cache: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Create the peer's environment and return its entry for peers.json; raise CalledProcessError where pip fails."""
    home = cache / peer.name
    python = home / "venv" / "bin" / "python"
    if not python.is_file():
        venv.create(home / "venv", with_pip=True)
    constraints = cache / "constraints.txt"
    constraints.write_text(CONSTRAINTS)
    index = ["--extra-index-url", options["torch_index"]] if options.get("torch_index") else []
    command = [str(python), "-m", "pip", "install", "-q", "-c", str(constraints), *index, *peer.requirements]
    log(f"{peer.name}: pip install {' '.join(peer.requirements)}")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if peer.remove:
        subprocess.run(
            [str(python), "-m", "pip", "uninstall", "-q", "-y", *peer.remove], check=True, capture_output=True
        )
    native = peer.prepare(Site(python, home), options) if peer.prepare else None
    versions = versions_of(python, peer.versions)
    if native is not None:
        versions = {peer.name: source_version(native), **versions}
    return {"status": "ready", "python": str(python), "versions": versions, "native": str(native) if native else None}


def source_version(native: Path) -> str:
    """Return the version of the distribution whose sources were compiled, read from its folder's name."""
    for parent in native.parents:
        if parent.name.startswith("llama_cpp_python-"):
            return f"sources of llama-cpp-python {parent.name.removeprefix('llama_cpp_python-')}"
    return "sources of unknown version"


def reason(error: Exception) -> str:
    """Say in one line why a peer could not be set up."""
    text = getattr(error, "stderr", None) or str(error)
    lines = [line for line in str(text).splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or [type(error).__name__])[-1].strip()


def setup(cache: Path, names: list[str], options: dict[str, Any]) -> bool:
    """Set the named peers up; return whether all of them are ready."""
    cache.mkdir(parents=True, exist_ok=True)
    good = True
    for name in names:
        try:
            entry = install(PEERS[name], cache, options)
        except (subprocess.CalledProcessError, OSError) as error:
            entry, good = {"status": "failed", "reason": reason(error)}, False
        (cache / "peers.json").write_text(json.dumps({**read_state(cache), name: entry}, indent=1))
        log(f"{name}: {entry['status']} {entry.get('versions') or entry.get('reason')}")
    return good


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that a set-up takes."""
    parser.add_argument("--llama-cpp", default=os.environ.get("ZOO_BENCH_LLAMA_CPP"), metavar="BUILD_DIR",
                        help="a finished cmake build folder inside llama.cpp's sources")  # fmt: skip
    parser.add_argument("--torch-index", metavar="URL", help="a package index that has CPU-only torch")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["setup", "list"])
    parser.add_argument("--cache", type=Path, default=Path(".bench"), help="folder for the peers [.bench]")
    parser.add_argument("--only", action="append", choices=list(PEERS), help="one peer; may be repeated")
    add_options(parser)
    args = parser.parse_args()
    cache = args.cache.resolve()
    if args.action == "list":
        print(json.dumps(read_state(cache), indent=1))
        return
    sys.exit(0 if setup(cache, args.only or list(PEERS), vars(args)) else 1)


if __name__ == "__main__":
    main()
