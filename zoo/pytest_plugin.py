"""The pytest plugin of the conformance kit: which models a test file is about, and what their tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from zoo.plugins import PluginRecord, host
from zoo.registry import DeclaredModel

if TYPE_CHECKING:
    from zoo.testing.case import Case


pytest.register_assert_rewrite("zoo.testing.conformance")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every test of the kit the models of the plugin that the test file names."""
    wanted = {"zoo_case", "zoo_model"} & set(metafunc.fixturenames)
    plugin = getattr(metafunc.module, "PLUGIN", None)
    if not wanted or plugin is None:
        return
    from zoo.testing.case import distinct, only

    models = list(only(host().registry, plugin).models())
    if "zoo_case" in wanted:
        models = distinct(host().registry, iter(models))
    metafunc.parametrize(
        wanted.pop(), [pytest.param(model, id=model.name) for model in models], indirect=True, scope="module"
    )


@pytest.fixture
def zoo_plugin(request: pytest.FixtureRequest) -> PluginRecord:
    """What became of the plugin under test."""
    name = request.module.PLUGIN
    records = [record for record in host().records if record.name == name]
    assert records, f"no plugin {name!r} is installed; install its folder with `pip install -e .`"
    return records[0]


@pytest.fixture(scope="module")
def zoo_model(request: pytest.FixtureRequest) -> DeclaredModel:
    """A model that the plugin declares."""
    model: DeclaredModel = request.param
    return model


@pytest.fixture(scope="module")
def zoo_case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A model that the plugin declares, in a size that can be built here."""
    from zoo.testing.case import Case

    model: Any = request.param
    return Case(host().registry, model, tmp_path_factory.mktemp("zoo"), request.module)
