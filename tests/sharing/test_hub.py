"""Packages on a hub: pushed with their card, pulled as they were, refused where a file is another."""

from __future__ import annotations

from pathlib import Path

import pytest
from zoo_share import stage as share

from tests.hubserver import HubServer, hub
from tests.sharing.test_registry import contents
from zoo.errors import ZooError
from zoo.plugins import host


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    with hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_TOKEN", "hf_of_the_test")
        yield running


def test_there_and_back(server: HubServer, package: Path, tmp_path: Path) -> None:
    done = share.push(host().registry, package, "hf:team/tiny")
    repo = server.repos["team/tiny"]
    assert done == f"hf:team/tiny@{repo.commit}"
    card = repo.files["README.md"].decode()
    assert card.startswith('---\nlicense: "')
    assert "zoo pull hf:team/tiny -o zoo-tiny" in card
    share.pull("hf:team/tiny", tmp_path / "out")
    assert contents(tmp_path / "out") == contents(package)
    repo.files["config.json"] = repo.files["config.json"].replace(b"{", b"{ ", 1)[:-1]
    with pytest.raises(ZooError, match=r"config\.json"):
        share.pull("hf:team/tiny", tmp_path / "other")
    assert not (tmp_path / "other").exists()
    server.add("team/none", files={"a": b"b"})
    with pytest.raises(ZooError, match=r"is not a package: it holds no zoo\.json"):
        share.pull("hf:team/none", tmp_path / "other")
