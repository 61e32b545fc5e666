"""The kit builds a checkpoint of 400 MB for each kind of model; here, for one of each kind of layer in a plugin."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the other large builds of a plugin to ``make test-all``."""
    seen: set[tuple[object, ...]] = set()
    for item in items:
        if not isinstance(item, pytest.Function) or item.originalname != "test_a_build_reads_slab_by_slab":
            continue
        numbers = item.callspec.params["zoo_case"].architecture
        kind = item.module, numbers.type, numbers.num_experts is None, numbers.kv_lora_rank is None
        if kind in seen:
            item.add_marker(pytest.mark.exhaustive)
        seen.add(kind)
