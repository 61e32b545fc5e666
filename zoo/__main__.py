"""``python -m zoo`` is ``zoo``."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; a plugin that fails under ``ZOO_STRICT_PLUGINS=1`` ends it in one line."""
    if sys.argv[1:] == ["--version"]:  # the commands and the plugins have no say in it
        from zoo import __version__

        try:
            os.write(1, f"zoo {__version__}\n".encode())
        except OSError as error:
            sys.exit(f"zoo: {error.strerror}")
        return
    import gc
    import logging

    from zoo.errors import ZooError
    from zoo.terminal import PrintableFormatter

    if logging.lastResort is not None:  # what the stages warn of goes to stderr by it
        logging.lastResort.setFormatter(PrintableFormatter())

    # Starting makes thousands of objects that all stay: looking for garbage among them takes a tenth of the time.
    gc.disable()
    try:
        from zoo.cli import app
    except ZooError as error:
        print(f"zoo: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    gc.freeze()
    gc.enable()
    app(prog_name="zoo")


if __name__ == "__main__":
    main()
