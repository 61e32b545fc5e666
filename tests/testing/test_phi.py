"""The bundled plugin phi, by the conformance kit."""

from zoo.testing import *  # noqa: F403

PLUGIN = "phi"
