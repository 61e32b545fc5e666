"""The bundled plugin llama, by the conformance kit."""

from zoo.testing import *  # noqa: F403

PLUGIN = "llama"
