"""Functions that the tests' workers call."""

from __future__ import annotations

import os
import sys
import time

from zoo.errors import UsageError, ZooError


def double(number: int) -> int:
    return 2 * number


def who() -> int:
    return os.getpid()


def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


def spin() -> None:
    while True:
        pass


def eat(mebibytes: int) -> int:
    return len(bytearray(mebibytes * 2**20))


def fail(kind: str) -> None:
    if kind == "exit":
        os._exit(3)
    if kind == "recursion":
        fail(kind)
    raise {"zoo": ZooError, "usage": UsageError, "other": ValueError}[kind]("said so")


def chatter() -> str:
    print("on stdout")
    print("on stderr", file=sys.stderr)
    os.write(1, b"raw")
    return "quiet"


def write(path: str) -> None:
    with open(path, "w") as file:
        file.write("x" * 10)
