"""What the bundled plugin embeddings computes, by the conformance kit; memory and resuming are other plugins' tests."""

from zoo.testing import (
    test_every_precision_builds_as_planned,  # noqa: F401
    test_the_declaration_is_what_a_checkpoint_says,  # noqa: F401
    test_the_engine_computes_what_the_reference_computes,  # noqa: F401
    test_the_tokenizer_is_the_checkpoints,  # noqa: F401
)

PLUGIN = "embeddings"
