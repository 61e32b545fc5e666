"""The page's files, what they may do in a browser, and the cards of models."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx2
import pytest
from zoo_server.page import TYPES

from tests.server.serving import Served, serving
from zoo.declarations.report import MachineKind, Report
from zoo.package.folder import read_manifest
from zoo.reports import keep_report


def get(served: Served, path: str, **headers: str) -> httpx2.Response:
    return httpx2.get(f"{served.url}{path}", headers=headers, timeout=20)


def policy(response: httpx2.Response) -> dict[str, str]:
    parts = (one.split(maxsplit=1) for one in response.headers["content-security-policy"].split(";"))
    return {one[0]: one[1] if len(one) > 1 else "" for one in parts}


def test_every_file_comes_under_a_strict_policy(served: Served) -> None:
    for path in ("/", *(f"/static/{name}" for name in TYPES)):
        found = get(served, path)
        assert found.status_code == 200
        assert found.headers["x-content-type-options"] == "nosniff"
        rules = policy(found)
        assert rules["default-src"] == "'none'"
        assert {rules[name] for name in ("script-src", "style-src", "connect-src", "img-src")} == {"'self'"}
        assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
        assert rules["require-trusted-types-for"] == "'script'"
        assert httpx2.head(f"{served.url}{path}").status_code == 200


def test_the_page_names_its_own_files_and_nothing_outside() -> None:
    folder = files("zoo_server.page")
    text = {name: (folder / name).read_text(encoding="utf-8") for name in TYPES}
    namespace = "http://www.w3.org/2000/svg"
    assert not [name for name, one in text.items() if re.search(r"https?://|//cdn", one.replace(namespace, ""))]
    for name in re.findall(r"(?:src|href)=\"static/([^\"]+)\"", text["index.html"]):
        assert name in TYPES
    for one in text.values():
        assert all(f"{name}.js" in TYPES for name in re.findall(r"from \"\./(\w+)\.js\"", one))
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|cookie", one)
    # One file keeps conversations in the browser; it never sees the key.
    assert [name for name, one in text.items() if "localStorage" in one or "sessionStorage" in one] == ["store.js"]
    assert "key}" not in text["store.js"]
    assert '$("key")' not in text["store.js"]
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", text["index.html"])


@pytest.mark.parametrize("path", ["/static/__init__.py", "/static/card.py", "/static/..%2fapp.py", "/static/", "/page"])
def test_nothing_else_is_served(served: Served, path: str) -> None:
    found = get(served, path)
    assert found.status_code == 404
    assert found.json()["error"]["type"] == "not_found_error"


def test_the_page_needs_no_key_and_the_card_does(package: Path) -> None:
    with serving([package], api_key="sesame") as served:
        assert get(served, "/").status_code == 200
        assert get(served, "/static/page.js").status_code == 200
        assert get(served, "/zoo/models/zoo-tiny").status_code == 401
        assert get(served, "/zoo/models/zoo-tiny", Authorization="Bearer sesame").status_code == 200


def report(package: Path, kind: str, measured: dict[str, Any], **more: Any) -> Report:
    manifest = read_manifest(package)
    machine = MachineKind(cpu="A CPU", cores=2, memory_bytes=8 * 10**9, system="Linux x86_64")
    fields: dict[str, Any] = {"settings": {}, "measured_at": datetime(2026, 1, 2, tzinfo=UTC), **more}
    return Report(
        kind=kind, recipe_hash=manifest.recipe_hash, model="zoo-tiny", precision="int8", measured=measured,
        machine=machine, versions={}, zoo_version="0.1.0", **fields,
    )  # type: ignore[arg-type]  # fmt: skip


def test_a_card_says_what_was_built_and_what_was_measured(served: Served, package: Path) -> None:
    card = get(served, "/zoo/models/zoo-tiny").json()
    manifest = read_manifest(package)
    assert card["id"] == "zoo-tiny"
    assert card["chat"] is True
    assert card["parameters"] == manifest.parameters
    assert card["build"]["recipe_hash"] == manifest.recipe_hash
    assert card["recipe"]["precision"] == "int8"
    assert card["licence"]["use"] == "commercial"
    # What the plugin ships for these very bytes, until this machine has measured them.
    assert card["verification"]["passed"] is True
    assert [one["name"].split(",")[0] for one in card["accuracy"]] == ["zoo_tiny_choice"]
    assert card["speed"]["machine"] != "A CPU, 2 cores"
    assert str(package) not in str(card)
    checks = [{"name": "mean KL, nats", "value": 0.00173, "limit": 0.005, "passed": True}]
    keep_report(report(package, "verify", {"checks": checks}, passed=True))
    figures = {"acc": 0.512, "acc_stderr": 0.0123, "samples": 30}
    keep_report(report(package, "eval", {**figures, "acc": 0.1}, settings={"task": "arc_easy", "limit": None}))
    later = datetime(2026, 1, 3, tzinfo=UTC)
    settings = {"task": "arc_easy", "limit": 30}
    keep_report(report(package, "eval", figures, settings=settings, measured_at=later))
    keep_report(report(package, "eval", {"perplexity": 5.25}, settings={"task": "text", "limit": None}))
    highest = {"label": "64 in, 32 out, 8 at once", "output_throughput": 211.5}
    keep_report(report(package, "bench", {"highest": highest, "workloads": [{"label": "x", "output_throughput": 1.0}]}))
    card = get(served, "/zoo/models/zoo-tiny").json()
    assert card["verification"]["passed"] is True
    assert card["verification"]["quick"] is False
    assert card["verification"]["checks"] == [{"name": "mean KL, nats", "value": "0.00173", "limit": "0.005"}]
    first, second = sorted(card["accuracy"], key=lambda one: one["name"])
    assert (first["value"], first["name"], first["note"]) == (
        "0.512 ± 0.012",
        "arc_easy, acc",
        "first 30 questions only",
    )
    assert (second["value"], second["name"], second["note"]) == ("5.25", "text, perplexity", None)
    assert card["speed"]["value"] == "211.5 tokens/s"
    assert card["speed"]["note"] == "64 in, 32 out, 8 at once"
    assert card["speed"]["machine"] == "A CPU, 2 cores"


def test_a_card_of_an_unknown_model(served: Served) -> None:
    found = get(served, "/zoo/models/zoo-tinny")
    assert found.status_code == 404
    assert "did you mean zoo-tiny" in found.json()["error"]["message"]
