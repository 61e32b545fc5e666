"""Public datasets that model families calibrate and measure with."""

from pathlib import Path

from zoo import hookimpl

ZOO_API = 1


@hookimpl
def register_datasets(register):
    register(Path(__file__).with_name("datasets.yaml"))
