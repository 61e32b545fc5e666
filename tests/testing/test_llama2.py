"""The bundled plugin llama2, by the conformance kit."""

from zoo.testing import *  # noqa: F403

PLUGIN = "llama2"
