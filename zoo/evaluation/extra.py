"""The optional extra that evaluation needs."""

from __future__ import annotations

import importlib.util
import logging
import os

from zoo.errors import ZooError


def require_harness() -> None:
    """Make sure that lm-evaluation-harness can be imported, and keep it quiet.

    Raises:
        ZooError: it is not installed; the message gives the command.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise ZooError(
            "zoo eval scores with lm-evaluation-harness; install it: pip install 'model-zoo-framework[eval]'"
        )
    os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is imported, which the harness does
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # what it warns of is checked before
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
