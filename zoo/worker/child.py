"""What a worker process runs: one call after the other, within the limits that it sets itself."""

from __future__ import annotations

import importlib
import json
import os
import resource
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

from zoo.errors import ZooError

HEAD = struct.Struct(">I")
CPU = 60
"""Seconds of computing after which a call ends the process, in case nobody is left to end it."""
CHUNK = 1 << 16


def main(memory: int) -> None:
    """Answer calls on stdin until it is closed.

    Args:
        memory: bytes of address space that the process may have.
    """
    answers = os.dup(1)
    os.dup2(2, 1)  # what a library prints is not an answer
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    while True:
        head = _read(HEAD.size)
        if head is None:
            return
        raw = _read(HEAD.unpack(head)[0])
        if raw is None:
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + CPU
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        answer = _answer(raw)
        whole = HEAD.pack(len(answer)) + answer
        while whole:
            whole = whole[os.write(answers, whole[:CHUNK]) :]


def _answer(raw: bytes) -> bytes:
    last = False
    try:
        request = json.loads(raw)
        result = _function(request["function"])(**request["arguments"])
        return json.dumps({"result": result}).encode()
    except MemoryError:
        message, kind, last = "it takes too much memory", "MemoryError", True
    except ZooError as error:
        message, kind = str(error), type(error).__name__
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a library's panic is not even an Exception
        said = " ".join(str(error).split())[:200]
        message, kind = f"{type(error).__name__}: {said}" if said else type(error).__name__, "ZooError"
    return json.dumps({"error": message, "kind": kind, "last": last}).encode()


@cache
def _function(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return function


def _read(size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        chunk = os.read(0, min(CHUNK, size - len(data)))
        if not chunk:
            return None
        data += chunk
    return bytes(data)
