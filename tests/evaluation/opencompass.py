"""A tiny archive in OpenCompass's folder layout: every task's files, a few rows each."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path
from typing import Any

LETTERS = "ABCD"


def make_archive(folder: Path, rows: int = 3) -> Path:
    """Write the folders below ``data`` and return it."""
    data = folder / "data"
    for split, count in (("test", rows), ("dev", 5), ("val", 2)):
        for subject in ("abstract_algebra", "world_history"):
            _csv(data / f"mmlu/{split}/{subject}_{split}.csv", [_exam(subject, index) for index in range(count)])
    titles = ["id", "question", *LETTERS, "answer"]
    for split in ("dev", "val", "test"):
        for subject in ("computer_network", "law"):
            made = [[str(index), *_exam("网络", index)] for index in range(5 if split == "dev" else rows)]
            if split == "test":
                made = [row[:-1] for row in made]
            head = titles[:-1] if split == "test" else titles + (["explanation"] if split == "dev" else [])
            made = [[*row, "因为"] for row in made] if split == "dev" else made
            _csv(data / f"ceval/formal_ceval/{split}/{subject}_{split}.csv", [head, *made])
    for split in ("dev", "test"):
        made = [[str(index), *_exam("农学", index)] for index in range(5 if split == "dev" else rows)]
        _csv(data / f"cmmlu/{split}/agronomy.csv", [["", "Question", *LETTERS, "Answer"], *made])
    for short, long in (("c", "Challenge"), ("e", "Easy")):
        for split in ("Dev", "Test"):
            lines(data / f"ARC/ARC-{short}/ARC-{long}-{split}.jsonl", [_arc(index) for index in range(rows)])
    ends = [f"to house {one}" for one in range(4)]
    swag = [{"query": f"Running: Dog {one} went", "choices": ends, "gold": one % 4} for one in range(rows)]
    lines(data / "hellaswag/hellaswag.jsonl", swag)
    for split in ("dev", "train"):
        piqa = [{"goal": f"how are you {one}", "sol1": "fine", "sol2": "a house"} for one in range(rows)]
        lines(data / f"piqa/{split}.jsonl", piqa)
        (data / f"piqa/{split}-labels.lst").write_text("".join(f"{one % 2}\n" for one in range(rows)))
    names = {"option1": "dog", "option2": "bird"}
    gaps = [
        {"sentence": f"The dog met bird {one} and _ was fine.", **names, "answer": str(one % 2 + 1)}
        for one in range(rows)
    ]
    lines(data / "winogrande/dev.jsonl", gaps)
    boolq = [
        {"question": "is it fine", "passage": f"It is {one}.", "label": ("true", "false")[one % 2]}
        for one in range(rows)
    ]
    lines(data / "BoolQ/val.jsonl", boolq)
    for split in ("train", "test"):
        sums = [
            {"question": f"What is {one} + 2?", "answer": f"It is so.\n#### {one + 2}"} for one in range(max(rows, 5))
        ]
        lines(data / f"gsm8k/{split}.jsonl", sums)
    return data


def zipped(data: Path, path: Path) -> Path:
    """Pack the archive as its release is packed."""
    with zipfile.ZipFile(path, "w") as archive:
        for one in sorted(data.rglob("*")):
            if one.is_file():
                archive.write(one, one.relative_to(data.parent).as_posix())
    return path


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _csv(path: Path, rows: list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def _exam(subject: str, index: int) -> list[str]:
    return [f"What, in {subject},\nis number {index}?", *(f"thing {one}" for one in LETTERS), LETTERS[index % 4]]


def _arc(index: int) -> dict[str, Any]:
    labels = "12345"[:4] if index == 1 else LETTERS[: 3 if index == 2 else 4]
    choices = [{"text": f"thing {one}", "label": one} for one in labels]
    return {
        "id": f"q{index}",
        "question": {"stem": f"Which is {index}?", "choices": choices},
        "answerKey": labels[index % 3],
    }
