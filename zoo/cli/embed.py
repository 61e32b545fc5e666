"""``zoo embed`` and ``zoo rerank``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.options import EngineName, Json, Precision
from zoo.cli.output import echo, print_json, print_notice
from zoo.errors import UsageError, ZooError

if TYPE_CHECKING:
    from zoo.contracts import Engine

_USES = {
    "embeddings": ("embeds texts", "embed"),
    "scores": ("ranks documents", "rerank"),
    "text": ("generates text", "run"),
    "logits": ("generates tokens", "run"),
}
"""Ability → what a package with it does, and the command for that."""
MAX_INPUT = 2**30
"""Bytes of a file of texts."""
_Model = Annotated[str, typer.Argument(metavar="MODEL|PACKAGE", help="A built model or a package folder.")]
_Truncate = Annotated[
    bool, typer.Option("--truncate", help="Truncate texts that are too long for the model, and print how many.")
]


def embed(
    model: _Model,
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT...|-]", help="Texts; without any, or with -, read from stdin, one per line."),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Prompt to put before each text, such as query; zoo show lists them."),
    ] = None,
    dimensions: Annotated[
        int | None, typer.Option(metavar="N", help="Keep the first N values, for models trained for that.")
    ] = None,
    truncate: _Truncate = False,
    npy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the vectors as a NumPy array, float32 (texts, N).")
    ] = None,
    precision: Precision = None,
    engine: EngineName = None,
    as_json: Json = False,
) -> None:
    """Turn texts into vectors: one per line, values separated by spaces."""
    given = _lines("-") if texts in (None, [], ["-"]) else texts
    assert given is not None
    with _opened(model, precision, engine, "embeddings", "zoo embed") as opened:
        done = opened.embed(given, prompt=prompt, dimensions=dimensions, truncate=truncate)
    _tell_cut(sum(done.truncated), len(done))
    if npy is not None:
        _save(npy, done.vectors)
    if as_json:
        data = [
            {"index": index, "embedding": vector.tolist(), "tokens": tokens, "truncated": truncated}
            for index, (vector, tokens, truncated) in enumerate(
                zip(done.vectors, done.tokens, done.truncated, strict=True)
            )
        ]
        name = opened.package.manifest.recipe.model
        print_json({"model": name, "dimensions": done.vectors.shape[1], "data": data})
    elif npy is None:
        for vector in done.vectors:
            echo(" ".join(f"{value:.8g}" for value in vector.tolist()))


def rerank(
    model: _Model,
    query: Annotated[str, typer.Argument(help="The query.")],
    documents: Annotated[str, typer.Argument(metavar="DOCS", help="File with one document per line, or - for stdin.")],
    top: Annotated[int | None, typer.Option("--top", metavar="N", help="Print only the best N.")] = None,
    truncate: _Truncate = False,
    precision: Precision = None,
    engine: EngineName = None,
    as_json: Json = False,
) -> None:
    """Order documents by how well they answer a query: score and document, the best first."""
    if top is not None and top < 1:
        raise UsageError(f"--top must be 1 or more, not {top}")
    lines = _lines(documents)
    with _opened(model, precision, engine, "scores", "zoo rerank") as opened:
        done = opened.rank(query, lines, truncate=truncate)
    _tell_cut(sum(result.truncated for result in done), len(done))
    done = done[:top]
    if as_json:
        print_json({"results": [{"index": result.index, "score": result.score} for result in done]})
        return
    for result in done:
        echo(f"{result.score:.6f}  {lines[result.index]}")


@contextmanager
def _opened(model: str, precision: str | None, engine: str | None, ability: Any, asked: str) -> Iterator[Any]:
    """Open a package that embeds or ranks."""
    from zoo.plugins import host
    from zoo.stages.opening import open_engine
    from zoo.stages.subject import find_package

    registry = host().registry
    opened: Engine = open_engine(registry, find_package(registry, model, precision), name=engine)
    try:
        if ability not in opened.abilities:
            does, use = next(
                _USES[ability] for ability in ("embeddings", "scores", "text", "logits") if ability in opened.abilities
            )
            raise ZooError(f"{opened.package.name} {does}: use zoo {use}, not {asked}")
        yield opened
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    finally:
        opened.close()


def _lines(source: str) -> Sequence[str]:
    """Read texts, one a line, from a file or from stdin.

    Raises:
        UsageError: there are none, one is empty, or they are not UTF-8.
    """
    where = "stdin" if source == "-" else source
    try:
        if source == "-":
            raw = sys.stdin.buffer.read(MAX_INPUT + 1) if sys.stdin is not None else b""
        else:
            with open(source, "rb") as file:
                raw = file.read(MAX_INPUT + 1)
    except OSError as error:
        raise UsageError(f"{source}: {error.strerror or error}") from None
    if len(raw) > MAX_INPUT:
        raise UsageError(f"{where}: larger than {MAX_INPUT:,} bytes")
    try:
        lines = raw.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{where}: not UTF-8 at byte {error.start}") from None
    lines = [line.removesuffix("\r") for line in lines]
    for number, line in enumerate(lines, 1):
        if not line:
            raise UsageError(f"{where}: {'holds no text' if lines == [''] else f'line {number} is empty'}")
    return lines


def _tell_cut(cut: int, count: int) -> None:
    if cut:
        print_notice(f"{cut} of {count} texts were truncated to the model's limit")


def _save(path: Path, vectors: Any) -> None:
    """Write a NumPy file atomically."""
    import io

    import numpy as np

    from zoo.package.files import write_whole

    buffer = io.BytesIO()
    np.save(buffer, vectors)
    try:
        write_whole(path, buffer.getvalue(), replace=True)
    except OSError as error:
        raise ZooError(f"{path}: cannot be written: {error.strerror or error}") from None
