"""The bundled plugin open_models, by the part of the conformance kit that is about what a family computes."""

from zoo.testing import (  # noqa: F401
    test_every_precision_builds_as_planned,
    test_the_declaration_is_what_a_checkpoint_says,
    test_the_engine_computes_what_the_reference_computes,
    test_the_model_is_listed,
    test_the_plugin_loads,
)

PLUGIN = "open_models"
