"""What the pages hold: every model, relative links that lead somewhere, escaped texts, the same bytes every time."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.catalog.conftest import report
from tests.conftest import REGISTER_FAMILY
from zoo import plugins
from zoo.declarations.family import Family
from zoo.stages.listing import parameter_count
from zoo.stages.resolve import pin_declared


class Links(HTMLParser):
    """Every address that a page names, and every id that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.followed: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "src" or (name == "href" and tag == "link"):
                self.loaded.append(value or "")
            elif name == "href":
                self.followed.append(value or "")
            elif name == "id":
                self.ids.add(value or "")


def test_links_are_relative_and_lead_somewhere(make) -> None:
    site = make()
    pages = {page: Links(page.read_text(encoding="utf-8")) for page in site.rglob("*.html")}
    checked = 0
    for page, links in pages.items():
        assert not [one for one in links.loaded if "//" in one or one.startswith("/")]
        for link in [*links.loaded, *(one for one in links.followed if not one.startswith("http"))]:
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.is_file(), f"{page}: {link}"
            assert not anchor or anchor in pages[target].ids, f"{page}: {link}"
            checked += 1
    assert checked > 100


def test_every_model_has_a_row_and_a_page(make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_PLUGINS", "datasets,embeddings,llama2,mistral,tiny,vastai")
    plugins.host.cache_clear()
    site = make()
    index = (site / "index.html").read_text(encoding="utf-8")
    data = json.loads((site / "catalog.json").read_bytes())
    registry = plugins.host().registry
    models = list(registry.models())
    assert [one["model"] for one in data["models"]] == [
        one.name for one in sorted(models, key=lambda one: (one.family.name, one.name))
    ]
    for model, card in ((one, next(c for c in data["models"] if c["model"] == one.name)) for one in models):
        assert f'href="{card["page"]}"' in index
        assert (site / card["page"]).is_file()
        assert card["parameters"] == parameter_count(registry, model)
        assert sum(one["parameters"] for one in card["shares"]) == card["parameters"]


def test_a_third_partys_model_appears_with_no_other_step(make, install_plugin, family_yaml) -> None:
    install_plugin("mine", REGISTER_FAMILY, family__yaml=family_yaml())
    site = make()
    assert "example-1b" in (site / "index.html").read_text(encoding="utf-8")
    page = (site / "models/example/example-1b.html").read_text(encoding="utf-8")
    assert "zoo build example-1b -p int8" in page
    assert "4 query heads share 2 heads of keys and values" in page
    assert (site / "families/example.html").is_file()


def test_texts_are_escaped(make, install_plugin, family_yaml) -> None:
    evil = "<script>alert(1)</script>"
    source = family_yaml().replace(
        "title: Example", f"title: '{evil}'\nsummary: '{evil}'\nnotes: ['\" onload=x {evil}']"
    )
    install_plugin("mine", REGISTER_FAMILY, family__yaml=source)
    one = report("verify", {evil: 1.0, "rows": [{"name": evil, "x": 1.0}, {"name": "b", "x": 2.0}]})
    site = make(reports=[one])
    for page in site.rglob("*.html"):
        assert "<script>alert" not in page.read_text(encoding="utf-8"), page
    assert "&lt;script&gt;alert(1)" in (site / "models/tiny/zoo-tiny.html").read_text(encoding="utf-8")


def test_the_same_zoo_gives_the_same_bytes(make) -> None:
    reports = [report("verify", {"top1": 0.5}, passed=True), report("bench", {"output_throughput": 12.5})]
    first, second = make("one", reports), make("two", list(reversed(reports)))
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(second) for path in second.rglob("*") if path.is_file())
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes(), file
        assert b" at 0x" not in (first / file).read_bytes(), file  # an address, which another process has not


def test_memory_is_what_a_plan_predicts(tmp_path: Path) -> None:
    from zoo.catalog.costs import BUILD_BASE, THREADS, Numbers
    from zoo.package.layout import lay_out
    from zoo.package.memory import working_memory
    from zoo.package.running import RUN_BASE, run_memory
    from zoo.sources.declared import DeclaredCheckpoint

    registry = plugins.host().registry
    model = registry.model("llama2-7b")
    for precision in ("int8", "int4", "fp16", "fp32"):
        recipe = pin_declared(registry, model, "ort", precision)
        layout = lay_out(recipe, registry)
        parts = {each.tensor: each.tensor_shape for one in layout.placed for each in one.parameter.slices}
        headers = DeclaredCheckpoint.of(parts.items())
        cost = Numbers(model.architecture, registry).cost(recipe)
        memory = run_memory(layout)
        assert memory is not None
        assert cost.run_memory_bytes == RUN_BASE + memory.running(cost.run_context)
        assert cost.bits_per_weight == layout.bits_per_weight
        assert cost.weights_bytes == sum(array.nbytes for array in layout.arrays)
        whole = BUILD_BASE + working_memory(layout, headers, THREADS)
        assert cost.build_memory_bytes == pytest.approx(whole, rel=0.05)


@pytest.mark.parametrize(
    ("allowed", "gated", "said"),
    [
        (True, False, "Commercial use is allowed"),
        (False, False, "Commercial use is not allowed"),
        (None, True, "It is not stated whether commercial use is allowed"),
    ],
)
def test_the_licence_is_said_plainly(make, install_plugin, family_yaml, allowed, gated, said) -> None:
    stated = "" if allowed is None else f", commercial_use: {str(allowed).lower()}"
    licence = f"licence: {{id: mit{stated}, gated: {str(gated).lower()}}}"
    install_plugin("mine", REGISTER_FAMILY, family__yaml=family_yaml().replace("licence: {id: mit}", licence))
    page = (make() / "models/example/example-1b.html").read_text(encoding="utf-8")
    assert said in page
    assert ("after its terms are accepted" in page) is gated
    assert ("export HF_TOKEN" in page) is gated


def test_reports_of_any_kind_are_shown(make) -> None:
    places = [{"name": f"layer {n}", "own": 0.01 * (n + 1), "carried": None if n == 3 else 0.1 + n} for n in range(20)]
    checks = [{"name": "KL", "value": 0.1, "limit": 0.2, "passed": True}]
    site = make(
        reports=[
            report("verify", {"figures": {"top1": 0.987, "places": places}, "checks": checks}, passed=True,
                   own_weights=True),
            report("bench", {"levels": [{"concurrency": 1, "tok_s": 10.0}, {"concurrency": 4, "tok_s": 30.0}],
                             "output_throughput": 31.25}),
            report("eval", {"results": {"some_task": {"acc": 0.625, "acc_stderr": 0.01}}}),
        ]
    )  # fmt: skip
    page = (site / "models/tiny/zoo-tiny.html").read_text(encoding="utf-8")
    for text in (
        "figures.top1",
        "0.987",
        "layer 19",
        "A &lt;CPU&gt; &amp; more",
        "results.some_task.acc",
        "0.625",
        "parity → verified",
    ):
        assert text in page
    assert page.count('class="plot"') == 2 + 2  # own and carried; concurrency and tok_s; checks are no plot
    row = re.search(r'<tr data-family="tiny".*?</tr>', (site / "index.html").read_text(encoding="utf-8"), re.S)
    assert row is not None
    assert "31.25 tok/s" in row.group()
    assert ">0.625<" in row.group()
    assert '<td class="minor" data-sort="1">int8</td>' in row.group()


def test_a_later_failed_verification_is_no_longer_verified(make) -> None:
    from datetime import UTC, datetime

    later = report("verify", {}, passed=False, measured_at=datetime(2026, 2, 2, tzinfo=UTC))
    data = json.loads((make(reports=[report("verify", {}, passed=True), later]) / "catalog.json").read_bytes())
    card = next(one for one in data["models"] if one["model"] == "zoo-tiny")
    assert card["verified"] == []


def test_the_guides_example_is_a_family() -> None:
    import zoo.catalog
    from zoo.yamlfile import Document

    folder = Path(str(zoo.catalog.__file__)).parent / "example"
    family = Document(folder / "example.yaml").validate(Family)
    assert [one.name for one in family.models] == ["example-1b", "example-1b-chat"]


def test_a_broken_part_says_so_on_its_page(make, install_plugin) -> None:
    install_plugin(
        "mine",
        """
        from zoo import hookimpl

        @hookimpl
        def register_targets(register):
            register("nowhere", "no_such_module:Thing")
        """,
    )
    assert "cannot be imported" in (make() / "targets/nowhere.html").read_text(encoding="utf-8")


def test_more_than_a_hundred_models(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    lines = ["name: big", "title: Big", "licence: {id: mit}", "models:"]
    for n in range(120):
        numbers = (
            f"vocab_size: 32000, max_position_embeddings: 4096, hidden_size: {1024 + 64 * (n % 2)}, head_dim: 64, "
            f"intermediate_size: 4096, num_hidden_layers: {2 + n % 3}, num_attention_heads: 16, "
            f"num_key_value_heads: {(1, 4, 16)[n % 3]}"
        )
        lines.append(f"  - {{name: big-{n:04d}, weights: {{hub: a/b{n}}}, architecture: {{{numbers}}}}}")
    (loose / "big.yaml").write_text("\n".join(lines))
    monkeypatch.setenv("ZOO_PATH", str(loose))
    plugins.host.cache_clear()
    site = make()
    assert len(list((site / "models/big").iterdir())) == 120
    assert (site / "index.html").read_text(encoding="utf-8").count('<tr data-family="big"') == 120
