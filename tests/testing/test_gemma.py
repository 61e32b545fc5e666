"""The bundled plugin gemma, by the conformance kit."""

from zoo.testing import *  # noqa: F403

PLUGIN = "gemma"
