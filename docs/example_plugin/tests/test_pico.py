from zoo.testing import *  # noqa: F403, I001
PLUGIN = "pico"
