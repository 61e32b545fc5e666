"""The bundled plugin deepseek_r1, by the conformance kit."""

from zoo.testing import *  # noqa: F403

PLUGIN = "deepseek_r1"
