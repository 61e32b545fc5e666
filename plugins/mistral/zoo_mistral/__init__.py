"""The Mistral and Mixtral families."""

from pathlib import Path

from zoo import hookimpl

ZOO_API = 1


@hookimpl
def register_families(register):
    register(Path(__file__).with_name("mistral.yaml"))
    register(Path(__file__).with_name("mixtral.yaml"))
