"""How much memory a run takes: what is predicted of a package, held against the opened package."""

from __future__ import annotations

import pytest

from tests.engine.made import make_package
from zoo.package.layout import lay_out
from zoo.package.memory import run_memory
from zoo.plugins import host
from zoo.stages.serve import served_models

pytest.importorskip("torch")


@pytest.mark.parametrize("head_dim", [16, 20])
def test_keys_and_values_are_counted_as_wide_as_the_graph_has_them(tmp_path, head_dim) -> None:
    engine, _ = make_package(tmp_path, head_dim=head_dim)
    recipe, expected = engine.package.manifest.recipe, engine.session.token_bytes
    layout = lay_out(recipe, host().registry)
    assert run_memory(layout, 101) - run_memory(layout, 1) == 100 * expected
    (served,) = served_models(host().registry, [str(engine.package.path)])
    assert served.token_bytes == expected
