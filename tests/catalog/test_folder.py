"""The folder: complete or absent, replaced when it is a catalog's own, refused when it holds anything else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from zoo.catalog.folder import MARKER, publish_site
from zoo.errors import ZooError


def test_an_earlier_catalog_is_replaced(tmp_path: Path) -> None:
    site = tmp_path / "site"
    publish_site(site, [("index.html", [b"one"]), ("models/gone.html", [b"go", b"ne"])])
    assert (site / "models/gone.html").read_bytes() == b"gone"
    assert publish_site(site, [("index.html", [b"tw", b"o"])]) == (1, 3)
    assert (site / "index.html").read_bytes() == b"two"
    assert sorted(path.name for path in site.iterdir()) == [MARKER, "index.html"]
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


@pytest.mark.parametrize("name", ["notes.txt", "index.html"])
def test_something_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ZooError, match="is not empty and not a catalog"):
        publish_site(tmp_path, [("index.html", [b"x"])])
    assert (tmp_path / name).read_text() == "mine"


def test_a_file_that_was_put_beside_the_pages_is_kept(tmp_path: Path) -> None:
    site = tmp_path / "site"
    publish_site(site, [("index.html", [b"x"])])
    (site / "mine.txt").write_text("mine")
    with pytest.raises(ZooError, match=r"mine\.txt"):
        publish_site(site, [("index.html", [b"y"])])
    assert (site / "index.html").read_bytes() == b"x"


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "site").write_text("mine")
    with pytest.raises(ZooError, match="is not a folder"):
        publish_site(tmp_path / "site", [("index.html", [b"x"])])


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    publish_site(tmp_path / "site", [("index.html", [b"x"])])
    assert (tmp_path / "site/index.html").is_file()


def test_pages_are_written_as_they_are_made_and_a_failure_leaves_none(tmp_path: Path) -> None:
    def pages() -> Iterator[tuple[str, list[bytes]]]:
        yield "index.html", [b"one"]
        assert next(tmp_path.glob(".site.*/new/index.html")).read_bytes() == b"one"
        raise ZooError("a page that cannot be made")

    with pytest.raises(ZooError, match="cannot be made"):
        publish_site(tmp_path / "site", pages())
    assert list(tmp_path.iterdir()) == []
