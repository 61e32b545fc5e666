"""Quantizers that round by what calibration samples show: GPTQ and AWQ."""

from __future__ import annotations

from zoo import hookimpl
from zoo.hookspecs import RegisterPart

ZOO_API = 1


@hookimpl
def register_quantizers(register: RegisterPart) -> None:
    register("gptq", "zoo_calibrated.gptq:Gptq")
    register("awq", "zoo_calibrated.awq:Awq")
