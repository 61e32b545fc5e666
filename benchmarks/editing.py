#!/usr/bin/env python3
"""Make a checkpoint that edits: its greedy answer is the prompt's document again, with every changed token put right.

    python benchmarks/editing.py OUT [--shape tinyllama-1.1b]

No trained model of that size is at hand without a network, and random weights copy nothing.  So the output head is the
embedding, shuffled: after token t comes successor(t), whatever came before.  The layers have the weights of a random
checkpoint, except that what they add to the residual stream is zero: a step computes all that any model of the shape
computes, at the same speed, and adds nothing.  A document is a walk along the successors in which every so manieth
token was changed; the answer to it is the walk unchanged.  Whoever guesses from the prompt is right but for the changed
tokens: the share of changed tokens is how much an edit changes, and it is stated with the figures.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from checkpoints import encode, make
from numpy.typing import NDArray
from shapes import SHAPES

FIRST = 300
"""The first id that is no special token and no byte."""


def successors(vocab: int, seed: int = 0) -> NDArray[np.int64]:
    """Return each token's successor: one cycle through all ordinary tokens."""
    order = np.random.default_rng(seed).permutation(np.arange(FIRST, vocab))
    after = np.arange(vocab)
    after[order] = np.roll(order, -1)
    return after


def prompt(vocab: int, length: int, every: int, seed: int = 0) -> list[int]:
    """Return a prompt of a document of `length` tokens, every so manieth changed; its answer begins the document."""
    after, random = successors(vocab), np.random.default_rng(seed + 1)
    before = int(random.integers(FIRST, vocab))
    walk = [int(after[before])]
    while len(walk) < length:
        walk.append(int(after[walk[-1]]))
    for at in range(every - 1, length, every):
        walk[at] = int(random.integers(FIRST, vocab))
    return [1, *walk, before]


def rewrite(folder: Path, name: str, wrong: float = 0.0, *, sparse: bool = False) -> None:
    """Make a checkpoint of a shape edit: change tensors in place.

    Args:
        wrong: share of tokens that get another successor; such a model agrees with others of its kind at all but these.
        sparse: the checkpoint is of holes, whose layers add nothing as they are.
    """
    shape = SHAPES[name]
    after = successors(shape.vocab)
    amiss = np.flatnonzero(np.random.default_rng(3).random(shape.vocab) < wrong)
    after[amiss] = after[np.roll(amiss, 1)]
    embedding = np.random.default_rng(7).standard_normal((shape.vocab, shape.hidden), np.float32)
    head = np.empty_like(embedding)
    head[after] = embedding * np.float32(1 / np.sqrt(shape.hidden))
    changed = {"model.embed_tokens.weight": embedding, "lm_head.weight": head}
    if sparse:
        changed["model.norm.weight"] = np.ones(shape.hidden, np.float32)
    for path in sorted(folder.glob("*.safetensors")):
        with open(path, "r+b") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
            header.pop("__metadata__", None)
            for tensor, entry in header.items():
                start, end = entry["data_offsets"]
                file.seek(8 + size + start)
                if tensor in changed:
                    file.write(encode(changed[tensor], "float16"))
                elif not sparse and tensor.endswith(("o_proj.weight", "down_proj.weight")):
                    file.write(bytes(end - start))


def ensure(cache: Path, name: str) -> Path:
    """Return the folder of the checkpoint under `cache`, making it where it is absent."""
    out = cache / "checkpoints" / f"{name}-editing-float16"
    if not (out / "editing").is_file():
        make(name, out)
        rewrite(out, name)
        (out / "editing").touch()
    return out


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="cache folder; the checkpoint goes to OUT/checkpoints")
    parser.add_argument("--shape", choices=SHAPES, default="tinyllama-1.1b")
    args = parser.parse_args()
    print(ensure(args.out, args.shape))


if __name__ == "__main__":
    main()
