"""The Qwen family, and what others made of it."""

from pathlib import Path

from zoo import hookimpl

ZOO_API = 1


@hookimpl
def register_families(register):
    for name in ("qwen", "mirothinker", "tongyi_deepresearch"):
        register(Path(__file__).with_name(f"{name}.yaml"))
