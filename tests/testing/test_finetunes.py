"""The bundled plugin finetunes, whose models compute what their bases do, by the rest of the conformance kit."""

from zoo.testing import (  # noqa: F401
    test_every_target_takes_the_model,
    test_the_declaration_is_what_a_checkpoint_says,
    test_the_model_is_listed,
    test_the_plugin_loads,
)

PLUGIN = "finetunes"
