"""Generate the text that zoo-tiny learns from: a seeded mix of stories, facts, questions and conversations.

python corpus.py --documents 20 --seed 1            print some
python corpus.py --held-out 150000 --output FILE    the held-out text (plain text, another seed)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

from dialogues import dialogue, fact_paragraph, questions
from scenes import story

SEED = 20250
HELD_OUT_SEED = 777_001


def document(rng: Random) -> str:
    """Write one document: 42 % stories, 25 % facts, 5 % questions, 28 % conversations."""
    chance = rng.random()
    if chance < 0.42:
        parts = [story(rng)] if rng.random() < 0.75 else [story(rng), story(rng)]
        return "\n".join(parts)
    if chance < 0.67:
        return fact_paragraph(rng)
    if chance < 0.72:
        return questions(rng)
    return dialogue(rng)


def documents(seed: int = SEED) -> Iterator[str]:
    """Give documents without end; the same seed gives the same text."""
    rng = Random(seed)
    while True:
        yield document(rng)


def plain_documents(seed: int) -> Iterator[str]:
    """Give only documents without chat markers."""
    return (text for text in documents(seed) if "<|" not in text)


def held_out_text(characters: int, seed: int = HELD_OUT_SEED) -> str:
    """Write held-out documents, one a block, parted by blank lines."""
    out: list[str] = []
    size = 0
    for text in plain_documents(seed):
        out.append(text)
        size += len(text) + 2
        if size >= characters:
            return "\n\n".join(out) + "\n"
    raise AssertionError("the stream of documents has no end")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=10)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--held-out", type=int, metavar="CHARACTERS")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.held_out:
        text = held_out_text(options.held_out)
    else:
        stream = documents(options.seed)
        text = "\n---\n".join(next(stream) for _ in range(options.documents)) + "\n"
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
