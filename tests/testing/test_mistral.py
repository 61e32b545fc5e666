"""The bundled plugin mistral, by the conformance kit."""

from zoo.testing import *  # noqa: F403

PLUGIN = "mistral"
