"""Small helpers of the text generator: alternatives, articles, plurals, names, and the hold-out rule."""
# ruff: noqa: SIM905

from __future__ import annotations

import re
import zlib
from random import Random

_ALTERNATIVES = re.compile(r"\[([^\[\]]*)\]")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou])")

GIRLS = "Mia Anna Lily Emma Sara Nora Rosa Ella Zoe Lucy Maya Ida Julia Clara Eva Grace".split()
BOYS = "Tom Ben Max Leo Sam Finn Noah Paul Jack Oscar Adam Hugo David Peter Luke Emil".split()
_ONSETS = "b br d f g gl h j k kl l m n p r s st t tr v w z".split()
_VOWELS = "a e i o u a o ai ee".split()
_CODAS = " n r l m s k nd".split(" ")

NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
).split()

_IRREGULAR = {
    "sheep": "sheep", "fish": "fish", "mouse": "mice", "goose": "geese", "wolf": "wolves", "knife": "knives",
    "calf": "calves", "fisherman": "fishermen", "postman": "postmen", "child": "children", "leaf": "leaves",
    "deer": "deer", "scarf": "scarves", "tooth": "teeth",
}  # fmt: skip


def expand(rng: Random, text: str) -> str:
    """Replace every ``[one|two|]`` by one of its alternatives, innermost first, and mend the spaces."""
    while "[" in text:
        text = _ALTERNATIVES.sub(lambda match: rng.choice(match[1].split("|")), text)
    return tidy(text)


def tidy(text: str) -> str:
    """Collapse double spaces, turn "a apple" into "an apple" and start each sentence with a capital."""
    text = _ARTICLE.sub(r"\1n ", re.sub(r" +", " ", text)).replace(" .", ".").replace(" ,", ",").strip()
    text = text.replace('?".', '?"').replace('!".', '!"').replace("!.", "!")
    return re.sub(r"(^\"?|[.!?] \"?|[.!?]\" \"?(?!said|asked)|: \"|\n\"?)([a-z])", lambda m: m[1] + m[2].upper(), text)


def plural(noun: str) -> str:
    """Give the plural of an English noun of the generator's word lists."""
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith(("s", "x", "ch", "sh")) or noun in ("potato", "tomato"):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def with_article(noun: str) -> str:
    """Give "a dog", "an owl"; names of cities and things without number stay as they are."""
    return noun if noun in ("-", "soap") or noun[0].isupper() else ("an " if noun[0] in "aeiou" else "a ") + noun


def count(number: int, noun: str) -> str:
    """Give "one apple", "three apples"."""
    return f"{NUMBERS[number]} {noun if number == 1 else plural(noun)}"


def held_out(*parts: object, share: int = 8) -> bool:
    """Say whether a combination is kept from the training text: about one in ``share``, by a stable hash."""
    return zlib.crc32("|".join(map(str, parts)).encode()) % share == 0


def invented(rng: Random) -> str:
    """Make up a word of one to three syllables."""
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(rng.choice((1, 2, 2, 2, 3)))) + rng.choice(
        _CODAS
    )


class Person:
    """A name with its pronouns; about one in six names is invented, so that names must be copied, not known."""

    def __init__(self, rng: Random, *others: Person) -> None:
        taken = {other.name for other in others}
        while True:
            self.girl = rng.random() < 0.5
            self.name = rng.choice(GIRLS if self.girl else BOYS)
            if rng.random() < 0.16:
                self.name = invented(rng).capitalize()
            if self.name not in taken and len(self.name) > 2:
                break
        self.he, self.him, self.his = ("she", "her", "her") if self.girl else ("he", "him", "his")
        self.child, self.sibling = ("girl", "sister") if self.girl else ("boy", "brother")

    def __str__(self) -> str:
        return self.name
