"""``zoo embed`` and ``zoo rerank``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import zoo
from tests.encoders import TEXTS, describe, make_encoder
from zoo.cli import app

pytest.importorskip("transformers")
RUN = CliRunner()


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An encoder that embeds, and one that ranks."""
    folder = tmp_path_factory.mktemp("encoders")
    make_encoder(folder / "embeds")
    describe(folder / "embeds", longest=10)
    make_encoder(folder / "ranks", labels=1)
    return {
        name: str(zoo.build(folder / name, "fp32", output=folder / f"{name}-p", threads=1).path)
        for name in ("embeds", "ranks")
    }


def test_vectors_are_printed_and_written(packages: dict[str, str], tmp_path: Path) -> None:
    lines = RUN.invoke(app, ["embed", packages["embeds"], "dog", "blue house"]).stdout.splitlines()
    done = RUN.invoke(app, ["embed", packages["embeds"], "-", "--json"], input="dog\nblue house\n")
    said = json.loads(done.stdout)
    assert (said["model"], said["dimensions"]) == ("embeds", 48)
    assert [(one["index"], one["tokens"], one["truncated"]) for one in said["data"]] == [(0, 3, False), (1, 4, False)]
    vectors = np.array([one["embedding"] for one in said["data"]])
    np.testing.assert_allclose(np.array([line.split() for line in lines], float), vectors, atol=1e-7)
    file = tmp_path / "vectors.npy"
    assert RUN.invoke(app, ["embed", packages["embeds"], "dog", "--npy", str(file)]).stdout == ""
    written = np.load(file)
    assert (written.dtype, written.shape) == (np.float32, (1, 48))
    np.testing.assert_allclose(written[0], vectors[0], atol=1e-7)


def test_documents_come_in_order(packages: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "documents.txt"
    file.write_text("\n".join(TEXTS) + "\n")
    lines = RUN.invoke(app, ["rerank", packages["ranks"], "the cat", str(file)]).stdout.splitlines()
    said = json.loads(RUN.invoke(app, ["rerank", packages["ranks"], "the cat", str(file), "--json"]).stdout)
    order = [one["index"] for one in said["results"]]
    assert [line.split("  ", 1)[1] for line in lines] == [TEXTS[index] for index in order]
    scores = [one["score"] for one in said["results"]]
    assert scores == sorted(scores, reverse=True)
    top = RUN.invoke(app, ["rerank", packages["ranks"], "the cat", str(file), "--top", "1"])
    assert top.stdout.splitlines() == lines[:1]


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (["embed", "embeds", ""], 2, "text 0 is empty"),
        (["embed", "embeds", "cat " * 20], 1, "text 0 has 20 tokens; embeds-p takes 8"),
        (["embed", "embeds", "dog", "--prompt", "query"], 2, "unknown prompt 'query'"),
        (["embed", "embeds", "dog", "--dimensions", "99"], 2, "dimensions must be 1 to 48"),
        (["embed", "ranks", "dog"], 1, "ranks-p ranks documents: use zoo rerank, not zoo embed"),
        (["rerank", "embeds", "dog", "-"], 1, "embeds-p embeds texts: use zoo embed, not zoo rerank"),
        (["rerank", "ranks", "dog", "/no/such/file"], 2, "/no/such/file: No such file"),
        (["rerank", "ranks", "", "-"], 2, "the query is empty"),
        (["run", "embeds", "dog"], 1, "embeds-p embeds texts and generates nothing; use zoo embed"),
    ],
)
def test_bad_input_is_one_line(line: list[str], code: int, said: str, packages: dict[str, str]) -> None:
    command, package, *rest = line
    done = RUN.invoke(app, [command, packages[package], *rest], input="cat\n")
    assert done.exit_code == code
    message = str(done.exception) if done.exception and not done.stderr else done.stderr
    assert said in message
    assert len(message.strip().splitlines()) == 1
    assert done.stdout == ""


def test_what_was_cut_is_said(packages: dict[str, str]) -> None:
    done = RUN.invoke(app, ["embed", packages["embeds"], "cat " * 20, "dog", "--truncate", "--json"])
    assert [one["truncated"] for one in json.loads(done.stdout)["data"]] == [True, False]
    assert done.stderr.strip() == "zoo: 1 of 2 texts were truncated to the model's limit"


def test_a_line_that_is_empty_is_named(packages: dict[str, str]) -> None:
    done = RUN.invoke(app, ["embed", packages["embeds"]], input="dog\n\ncat\n")
    assert "stdin: line 2 is empty" in (done.stderr or str(done.exception))
