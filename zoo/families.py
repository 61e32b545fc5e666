"""Declared families by name, and by the ``model_type`` of checkpoints that they speak for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.registry import DeclaredFamily


class Families(MutableMapping[str, "DeclaredFamily"]):
    """Families by name, in the order they came; who claims a ``model_type`` is found without looking at all."""

    def __init__(self, families: Mapping[str, DeclaredFamily] | Iterable[tuple[str, DeclaredFamily]] = ()) -> None:
        self._by_name: dict[str, DeclaredFamily] = {}
        self._claimants: dict[str, dict[str, None]] = {}
        self.update(families)

    def claimants(self, model_type: str) -> list[DeclaredFamily]:
        """List the families that claim this ``model_type``, in the order they came."""
        return [self._by_name[name] for name in self._claimants.get(model_type, ())]

    def __getitem__(self, name: str) -> DeclaredFamily:
        return self._by_name[name]

    def __setitem__(self, name: str, declared: DeclaredFamily) -> None:
        if name in self._by_name:
            self._forget_claims(name)
        self._by_name[name] = declared
        for model_type in declared.family.claims:
            self._claimants.setdefault(model_type, {})[name] = None

    def __delitem__(self, name: str) -> None:
        self._forget_claims(name)
        del self._by_name[name]

    def _forget_claims(self, name: str) -> None:
        for model_type in self._by_name[name].family.claims:
            self._claimants[model_type].pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return f"Families({list(self._by_name)})"
