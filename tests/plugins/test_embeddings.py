"""The bundled families that embed or rank: what they declare is what a checkpoint of theirs says."""

from __future__ import annotations

from typing import Any

import pytest

from zoo.plugins import host
from zoo.stages.listing import parameter_count
from zoo.stages.resolve import implied

PLUGIN = "embeddings"
# Weights that the checkpoints hold, without poolers that nothing reads and buffers.
TOTALS = {"all-minilm-l6-v2": 22_565_376, "bge-base-en-v1.5": 108_891_648, "bge-reranker-v2-m3": 567_755_777}


class Config:
    """A checkpoint of which nothing but ``config.json`` is looked at."""

    name = "checkpoint"

    def __init__(self, config: Any) -> None:
        self.config = config


def families() -> list[Any]:
    return [one for one in host().registry.families.values() if one.plugin == PLUGIN]


def test_all_families_are_there() -> None:
    names = {one.family.name for one in families()}
    assert names == {
        "acge", "all-minilm", "bce", "bert", "bge", "bge-reranker", "gte", "m3e", "multilingual-e5", "qwen3-embedding",
        "qwen3-reranker", "roberta", "text2vec",
    }  # fmt: skip


def test_a_config_of_the_declared_numbers_reads_back_as_them() -> None:
    registry = host().registry
    for declared in families():
        for model in declared.models:
            if model.architecture.type != "encoder":
                continue
            part: Any = registry.architecture("encoder")
            config = {"model_type": model.model_type, **part.write_config(model.architecture)}
            checkpoint: Any = Config(config)
            unsaid = implied(registry, model, checkpoint)
            assert part.read_config(config, unsaid) == model.architecture, model.full_name


def test_each_model_says_how_it_is_used() -> None:
    for declared in families():
        for model in declared.models:
            use, _ = model.last("embedding")
            if declared.family.name in ("bert", "roberta"):
                continue
            arch = model.architecture
            assert use is not None, model.full_name
            ranks = use.judging is not None or arch.options.get("labels") == 1
            assert ranks == (use.dimensions is None), model.full_name
            assert ranks or use.pooling is not None, model.full_name
            assert use.sequence_length is not None
            assert use.sequence_length <= arch.context_length
            if use.judging is not None:
                assert all(name in use.judging.template for name in ("{instruction}", "{query}", "{document}"))
                assert use.judging.template.endswith("</think>\n\n")


@pytest.mark.parametrize("name", TOTALS)
def test_counts_are_those_of_the_checkpoints(name: str) -> None:
    registry = host().registry
    assert parameter_count(registry, registry.model(name)) == TOTALS[name]
