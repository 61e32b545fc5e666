"""Accelerators that models are spread over, from a file that comes with zoo and changes by a pull request."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field

from zoo.declarations.base import HttpUrl, Value
from zoo.errors import UsageError, unknown
from zoo.yamlfile import Document

FILE = Path(__file__).with_name("devices.yaml")
MOST = 4096
"""Devices of one plan."""
Positive = Annotated[float, Field(gt=0)]


class Device(Value):
    """An accelerator, as its maker states it."""

    name: str
    title: str
    memory_gb: Positive
    bandwidth_gb_s: Positive
    """Of its memory."""
    tflops: Positive
    """Dense products of 16-bit floats."""
    link_gb_s: Positive
    """To the other devices of its node, one way."""
    node: Annotated[int, Field(gt=0)]
    """Devices of a node, which the link joins."""
    source: HttpUrl


class Devices(Value):
    """``devices.yaml``."""

    target: str
    """Whose packages are served on them."""
    devices: tuple[Device, ...]


@cache
def read_devices() -> Devices:
    """Read the file."""
    return Document(FILE).validate(Devices)


def parse_devices(text: str) -> tuple[int, Device]:
    """Read ``8xH100``, or ``H100`` for one.

    Raises:
        UsageError: no such device, or no such number of them.
    """
    match = re.fullmatch(r"(?:(\d{1,9})x)?([A-Za-z][\w-]*)", text.strip())
    if match is None:
        raise UsageError(f"--devices is a number and a device as 8xH100, not {text!r}")
    count = int(match[1] or 1)
    if not 1 <= count <= MOST:
        raise UsageError(f"--devices takes 1 to {MOST} devices, not {count}")
    known = {device.name.lower(): device for device in read_devices().devices}
    if match[2].lower() not in known:
        raise unknown("device", match[2], [device.name for device in known.values()])
    return count, known[match[2].lower()]
