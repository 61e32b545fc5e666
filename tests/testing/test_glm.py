"""The bundled plugin glm, by the conformance kit."""

from zoo.testing import *  # noqa: F403

PLUGIN = "glm"
