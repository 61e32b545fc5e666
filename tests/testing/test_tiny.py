"""The bundled plugin tiny, by the conformance kit."""

from zoo.testing import *  # noqa: F403

PLUGIN = "tiny"
