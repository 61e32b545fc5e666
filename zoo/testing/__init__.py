"""The conformance kit: what every family must pass, as tests that a plugin's test file brings in with two lines.

    from zoo.testing import *
    PLUGIN = "mine"

For each model that the plugin declares it makes a tiny random checkpoint with the same quirks, and checks declaration,
listing, plan, builds in every precision, parity with transformers, tokenizer, chat template, memory, resume, and the
files of every target. Fixtures come from the pytest plugin ``zoo.pytest_plugin``, which an installed zoo brings.

A test file may also state ``MODEL_TYPE``, the ``model_type`` of checkpoints, where no loaded family claims one, and
``REFERENCE``, where transformers does not compute the model: a function of a checkpoint's folder and a list of token
ids that returns the logits of every position. ``OWN_OPERATIONS_SUFFICE = True``, as ``zoo ci`` states it, holds such a
model against the architecture's own operations in torch instead.
"""

from zoo.testing.conformance import *  # noqa: F403
from zoo.testing.conformance import __all__ as __all__
