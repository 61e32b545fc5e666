"""The kit's tests that take a model as it is declared and build nothing: ``from zoo.testing.declared import *``."""

from zoo.testing.conformance import (
    test_a_chat_template_renders,
    test_every_target_takes_the_model,
    test_the_model_is_listed,
    test_the_plugin_loads,
)

__all__ = [
    "test_a_chat_template_renders",
    "test_every_target_takes_the_model",
    "test_the_model_is_listed",
    "test_the_plugin_loads",
]
