"""Make the multiple-choice items of the task zoo_tiny_choice, and the held-out text for perplexity.

    python items.py --output ../zoo_tiny/task

Each item is the start of a text whose last words are missing, with four endings of one kind. Facts come in a wording that no
training text uses for them; stories come with combinations (thing and place, thing and colour, numbers and thing) that the
training text leaves out; an item that the training text holds word for word is dropped all the same. The answer's position
is even over the four.
"""
# ruff: noqa: E501 (a sentence reads better unbroken)

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from random import Random

from corpus import documents, held_out_text
from dialogues import kept_wording
from facts import FACTS
from grammar import NUMBERS, Person, count, expand, held_out, plural
from stories import fill, place_pair
from world import ANIMALS, COLOURS, DAYS, FOODS, SPOTS, TOYS

SEED = 424_242
TRAINED_DOCUMENTS = 180_000  # a little more than the shipped model saw
Item = tuple[str, str, list[str]]  # context, right ending, wrong endings


def _some(rng: Random, words: list[str], *without: str, number: int = 3) -> list[str]:
    return rng.sample([word for word in dict.fromkeys(words) if word not in without], number)


def fact_items(rng: Random, number: int, seen: str) -> list[Item]:
    """Give facts in their kept wordings, at most 14 of one relation."""
    chosen: list[Item] = []
    used: dict[str, int] = {}
    for fact in rng.sample(FACTS, len(FACTS)):
        kept = kept_wording(fact)
        if kept < 0 or len(fact.pool) < 3 or used.get(fact.relation, 0) == 14 or len(chosen) == number:
            continue
        if f"{expand(rng, fact.statements[kept])} {fact.answer}" in seen:
            continue
        used[fact.relation] = used.get(fact.relation, 0) + 1
        chosen.append((expand(rng, fact.statements[kept]), fact.answer, rng.sample(fact.pool, 3)))
    return chosen


def put(rng: Random) -> Item:
    """Where a thing is after other things happened; the other place of the text is a wrong ending."""
    a = Person(rng)
    b = Person(rng, a)
    toy, spot, other = place_pair(rng, training=False)
    text = fill(rng, "[One day|After school|Last week|Today], {a} [put|hid|left] {a.his} {toy} in the {spot}. {b} put a {second} in the {other}. [Later|In the "
                "evening|After a while], {a} looked for the {toy}. [The {toy} was still in the|{a.he} looked in the|{b} remembered and said: \"It is in the]",
                a=a, b=b, toy=toy, spot=spot, other=other, second=_some(rng, TOYS, toy)[0])  # fmt: skip
    return text, spot, [other, *_some(rng, SPOTS, spot, other, number=2)]


def moved(rng: Random) -> Item:
    """Where a thing is after it was moved; its first place is a wrong ending."""
    a = Person(rng)
    b = Person(rng, a)
    toy, spot, other = place_pair(rng, training=False)
    text = fill(rng, "The {toy} was in the {spot}. [{a} took it out and put it in the {other}.|{a} moved it to the {other}.] {b} came home and looked for it. "
                "[\"Where is the {toy}?\" asked {b}. \"It is in the|Now the {toy} is in the]", a=a, b=b, toy=toy, spot=spot, other=other)  # fmt: skip
    return text, other, [spot, *_some(rng, SPOTS, spot, other, number=2)]


def gift(rng: Random) -> Item:
    """What somebody has after a present: wrong endings change the colour, the thing, or both."""
    a = Person(rng)
    b = Person(rng, a)
    colours = [c for c in COLOURS if c != "orange"]
    while True:
        toy, colour = rng.choice(TOYS), rng.choice(colours)
        if held_out("gift", toy, colour):
            break
    colour2, colour3, toy2, toy3 = *_some(rng, colours, colour, number=2), *_some(rng, TOYS, toy, number=2)
    text = fill(rng, "[It was {b}'s birthday.|{a} and {b} were friends.|{b} was sad today.] {a} [gave {b} a {colour} {toy}|brought a {colour} {toy} for {b}]. [{b} smiled "
                "and said thank you.|\"This is for you,\" said {a}.] Now {b} has a", a=a, b=b, toy=toy, colour=colour)  # fmt: skip
    return text, f"{colour} {toy}", [f"{colour2} {toy}", f"{colour} {toy2}", f"{colour3} {toy3}"]


def sums(rng: Random) -> Item:
    """How many there are after some were given; wrong endings are near numbers or one of the two given."""
    a = Person(rng)
    b = Person(rng, a)
    while True:
        x, y, noun = (
            rng.randint(1, 10),
            rng.randint(1, 6),
            rng.choice([f[0] for f in FOODS] + ["coin", "shell", "marble", "book"]),
        )
        if held_out("sum", x, y, noun):
            break
    total = x + y
    wrong = _some(
        rng,
        [
            plural(noun) + "|" + str(n)
            for n in (total - 2, total - 1, total + 1, total + 2, x, y)
            if n > 1 and n != total
        ],
    )
    text = fill(
        rng,
        "{a} [had|found|bought] {x}. {b} [gave {a.him}|brought {a.him}] {y} more. [{a} counted them.|] Now {a} has",
        a=a,
        b=b,
        x=count(x, noun),
        y=NUMBERS[y],
    )
    return text, count(total, noun), [count(int(w.split("|")[1]), noun) for w in wrong]


def compare(rng: Random) -> Item:
    """Who is the most of three, from two comparisons."""
    a = Person(rng)
    b = Person(rng, a)
    c = Person(rng, a, b)
    low, high, low_most, high_most = rng.choice([
        ("smaller", "taller", "smallest", "tallest"), ("younger", "older", "youngest", "oldest"), ("slower", "faster", "slowest", "fastest"),
        ("weaker", "stronger", "weakest", "strongest"),
    ])  # fmt: skip
    pair = [
        rng.choice([f"{a} is {high} than {b}.", f"{b} is {low} than {a}."]),
        rng.choice([f"{b} is {high} than {c}.", f"{c} is {low} than {b}."]),
    ]
    rng.shuffle(pair)
    best, most, least = rng.choice([(a, high_most, low_most), (c, low_most, high_most)])
    others = [p for p in (a, b, c) if p is not best]
    return f"{a}, {b} and {c} are friends. {pair[0]} {pair[1]} So", f"{best} is the {most} of the three.", [
        *(f"{p} is the {most} of the three." for p in others), f"{best} is the {least} of the three."]  # fmt: skip


def week(rng: Random) -> Item:
    """Which day it will be."""
    a = Person(rng)
    b = Person(rng, a)
    i, step = rng.randrange(7), rng.choice([1, 2])
    gap = "tomorrow" if step == 1 else "in two days"
    text = fill(rng, "Today is {d}. {a} said to {b}: \"I will [visit you|play with you|go to the zoo with you] {gap}.\" {b} [counted the days|thought about it]. {gap} it will be",
                a=a, b=b, d=DAYS[i], gap=gap)  # fmt: skip
    right = DAYS[(i + step) % 7]
    return text, right, _some(rng, DAYS, right)


def tool(rng: Random) -> Item:
    """Which thing serves a purpose, inside a story."""
    a = Person(rng)
    fact = rng.choice([f for f in FACTS if f.relation == "tool" and "your" not in f.subject])
    return (
        fill(rng, "[Today|One morning|Last week], {a} wanted to {use}. {a.he} needed", a=a, use=fact.subject),
        fact.answer,
        rng.sample(fact.pool, 3),
    )


def home(rng: Random) -> Item:
    """Which home an animal leaves or where its food is, inside a story."""
    name, _, _, food, _, _, _, _, size = rng.choice([row for row in ANIMALS if row[0] != "fish"])
    fact = next(f for f in FACTS if f.relation == "food" and f.subject == name)
    return fill(rng, "[Once there was|In a small village lived] a [young|{size}|clever] {name}. [One evening|One morning], the {name} was hungry. It went to find", name=name,
                size=size), food, rng.sample(fact.pool, 3)  # fmt: skip


STORIES: list[tuple[Callable[[Random], Item], int]] = [
    (put, 50),
    (moved, 30),
    (gift, 40),
    (sums, 50),
    (compare, 20),
    (week, 20),
    (tool, 20),
    (home, 20),
]


def items() -> list[dict[str, object]]:
    """Give all items, shuffled, with the answer at each position equally often."""
    rng = Random(SEED)
    seen = "\n".join(islice(documents(), TRAINED_DOCUMENTS))
    made: dict[str, tuple[str, Item]] = {context[0]: ("fact", context) for context in fact_items(rng, 250, seen)}
    for maker, number in STORIES:
        wanted = len(made) + number
        while len(made) < wanted:
            item = maker(rng)
            if f"{item[0]} {item[1]}" not in seen:
                made.setdefault(item[0], (maker.__name__, item))
    out: list[dict[str, object]] = []
    for i, (kind, (context, right, wrong)) in enumerate(rng.sample(list(made.values()), len(made))):
        choices = rng.sample(wrong, 3)
        choices.insert(i % 4, right)
        assert len(set(choices)) == 4, (context, choices)
        out.append({"id": i, "kind": kind, "context": context, "choices": choices, "answer": i % 4})
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(item, ensure_ascii=False) for item in items()]
    (options.output / "zoo_tiny_choice.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (options.output / "heldout.txt").write_text(held_out_text(150_000), encoding="utf-8")


if __name__ == "__main__":
    main()
