"""The bundled plugin llama3, by the conformance kit."""

from zoo.testing import *  # noqa: F403

PLUGIN = "llama3"
