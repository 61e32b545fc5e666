"""The bundled plugin internlm, by the conformance kit."""

from zoo.testing import *  # noqa: F403

PLUGIN = "internlm"
