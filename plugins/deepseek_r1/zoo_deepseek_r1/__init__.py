"""DeepSeek-V2, V3 and R1, and what R1 taught other models."""

from pathlib import Path

from zoo import hookimpl

ZOO_API = 1


@hookimpl
def register_families(register):
    register(Path(__file__).with_name("deepseek_r1.yaml"))
    register(Path(__file__).with_name("deepseek_v3.yaml"))
