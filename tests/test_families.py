"""Families are found by name and by claim, without looking at all of them."""

from __future__ import annotations

from pathlib import Path

from zoo.families import Families
from zoo.plugins import host
from zoo.registry import DeclaredFamily
from zoo.yamlfile import Document


def family(tmp_path: Path, text: str) -> DeclaredFamily:
    from zoo.declarations.family import Family

    file = tmp_path / "family.yaml"
    file.write_text(text)
    return DeclaredFamily(Document(file).validate(Family), "test")


def test_claims_follow_what_is_added_replaced_and_removed(tmp_path, family_yaml) -> None:
    one = family(tmp_path, family_yaml("one", claims="[a, b]"))
    two = family(tmp_path, family_yaml("two", claims="[b]"))
    families = Families({"one": one})
    families["two"] = two
    assert [declared.family.name for declared in families.claimants("b")] == ["one", "two"]
    families["one"] = family(tmp_path, family_yaml("one", claims="[c]"))
    assert families.claimants("a") == []
    assert families.claimants("b") == [two]
    del families["two"]
    assert families.claimants("b") == []
    assert list(families) == ["one"]


def test_every_bundled_claim_is_found() -> None:
    families = host().registry.families
    for declared in families.values():
        assert families[declared.family.name] is declared
        for claim in declared.family.claims:
            assert families.claimants(claim) == [declared]
        for model in declared.models:
            assert declared.model(model.name) is model
            assert host().registry.find(model.full_name) is model


def test_a_copied_family_finds_its_own_models(tmp_path, family_yaml) -> None:
    declared = family(tmp_path, family_yaml())
    assert declared.family.positions == {"example-1b": 0}
    renamed = declared.family.models[0].model_copy(update={"name": "other"})
    assert declared.family.model_copy(update={"models": (renamed,)}).positions == {"other": 0}
