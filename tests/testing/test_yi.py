"""The bundled plugin yi, by the conformance kit."""

from zoo.testing import *  # noqa: F403

PLUGIN = "yi"
