"""The bundled plugin qwen, by the conformance kit."""

from zoo.testing import *  # noqa: F403

PLUGIN = "qwen"
