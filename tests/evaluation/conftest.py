"""Packages that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluation.made import TEMPLATE, build, make_checkpoint_folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint_folder(tmp_path_factory.mktemp("evaluated") / "small")


@pytest.fixture(scope="session")
def fp32(checkpoint: Path) -> Path:
    return build(checkpoint, checkpoint.parent / "fp32")


@pytest.fixture(scope="session")
def int8(checkpoint: Path) -> Path:
    return build(checkpoint, checkpoint.parent / "int8", "int8")


@pytest.fixture(scope="session")
def int4(checkpoint: Path) -> Path:
    return build(checkpoint, checkpoint.parent / "int4", "int4")


@pytest.fixture(scope="session")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conversing")
    return build(make_checkpoint_folder(folder / "talker", chat_template=TEMPLATE), folder / "package")
