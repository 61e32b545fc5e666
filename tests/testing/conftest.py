"""The kit builds a checkpoint of 400 MB for each kind of model; here, for each way in which layers are stored."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the other large builds to ``make test-all``."""
    seen: set[tuple[object, ...]] = set()
    for item in items:
        if not isinstance(item, pytest.Function) or item.originalname != "test_a_build_reads_slab_by_slab":
            continue
        numbers = item.callspec.params["zoo_case"].architecture
        experts = numbers.num_experts is not None, numbers.fused_experts
        kind = numbers.type, *experts, numbers.kv_lora_rank is None, numbers.qkv_layout, numbers.fused_gate_up
        if kind in seen:
            item.add_marker(pytest.mark.exhaustive)
        seen.add(kind)
