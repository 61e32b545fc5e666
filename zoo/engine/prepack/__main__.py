"""Prepare a package's weights and end: ``python -m zoo.engine.prepack PACKAGE``, for the background."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path


def main(folder: str) -> int:
    """Prepare the weights of a package folder with what processor time is left over; return the exit code."""
    with contextlib.suppress(AttributeError, OSError):
        os.nice(19)
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    from zoo.engine import prepack, rowwise
    from zoo.errors import ZooError
    from zoo.package.folder import open_package

    try:
        package = open_package(Path(folder))
        prepack.make(package)
        rowwise.make(package)
    except ZooError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
