"""The bundled small model, built and opened once, and a server of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zoo
from tests.server.serving import Served, serving


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo.build("zoo-tiny", "int8", output=tmp_path_factory.mktemp("serve") / "tiny-int8").path


@pytest.fixture(scope="session")
def engine(package: Path) -> Any:
    return zoo.open(package)


@pytest.fixture(scope="session")
def served(package: Path) -> Iterator[Served]:
    with serving([package], threads=1) as one:
        yield one


@pytest.fixture(scope="session")
def client(served: Served) -> Any:
    import openai

    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0, timeout=60)
