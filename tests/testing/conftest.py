"""The kit builds a checkpoint of 400 MB for each kind of model; here, for each way in which layers are stored."""

from __future__ import annotations

import pytest

from zoo.declarations.architecture import Architecture


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave large builds that try no other way of storing layers to ``make test-all``."""
    seen: set[object] = set()
    for item in items:
        if not isinstance(item, pytest.Function) or item.originalname != "test_a_build_reads_slab_by_slab":
            continue
        ways = _ways(item.callspec.params["zoo_case"].architecture)
        if ways <= seen:
            item.add_marker(pytest.mark.exhaustive)
        seen |= ways


def _ways(arch: Architecture) -> set[object]:
    """Name how the tensors of a model's layers are cut."""
    experts = arch.num_experts is not None and ("fused" if arch.fused_experts else "apart")
    return {
        ("encoder", arch.type == "encoder"), ("experts", experts), ("latent", arch.kv_lora_rank is not None),
        ("qkv", arch.qkv_layout), ("fused gate and up", arch.fused_gate_up),
    }  # fmt: skip
