"""The facts of the world's tables in words: statements that end with the answer, questions, and plausible wrong answers."""
# ruff: noqa: E501 (a sentence reads better unbroken)

from __future__ import annotations

from dataclasses import dataclass, field

from grammar import NUMBERS, plural, with_article
from world import (
    AMOUNTS,
    ANIMALS,
    CAPITALS,
    CAUSES,
    COLOURED,
    DAYS,
    FOODS,
    JOBS,
    KINDS,
    MIXES,
    MONTHS,
    OPPOSITES,
    SEASONS,
    SENSES,
    THINGS,
)

# Answers of one relation that can both be right: never each other's wrong option.
OVERLAPS = [
    {"fly", "fly far", "see at night", "lay eggs"}, {"hunt", "run fast", "climb trees"}, {"jump high", "hop", "swim"},
    {"dig in the mud", "pull a cart", "run fast"}, {"nest", "tree"}, {"den", "cave", "hole", "burrow", "forest", "kennel"},
    {"barn", "stable", "shed", "meadow", "sty", "coop", "farmyard", "pond"}, {"fur", "hair", "wool", "skin"},
    {"an animal", "a bird", "an insect"}, {"river", "pond"}, {"grassland", "desert", "meadow", "jungle", "forest"},
    {"grass", "leaves", "hay", "weeds", "lettuce", "grain", "seeds", "corn", "carrots"}, {"meat", "mice", "fish", "bones"},
    {"flies", "worms"}, {"sea", "ocean", "harbour"}, {"farm", "hill", "garden"}, {"hospital", "clinic"},
    {"on the ground", "near the ground", "under the ground", "on a bush", "on a vine"}, {"sweet", "fresh"}, {"plain", "fresh"},
    {"small", "short", "low", "young"}, {"big", "high", "long", "wide", "old"}, {"weak", "light"}, {"end", "last"},
    {"laugh", "you laugh", "you feel happy"}, {"you feel sad", "you feel tired", "you feel hungry", "you feel thirsty"},
    {"it breaks", "it sinks", "it moves", "it spills", "it burns"}, {"it boils", "it melts", "it freezes"},
    {"you get wet", "your shoes get dirty", "you catch a cold"}, {"you learn a lot", "you laugh", "you feel happy", "you feel tired"},
    {"metal", "plastic", "wood"}, {"stay warm", "warm the neck", "keep warm in bed", "stay dry"}, {"cold", "windy"},
    {"sit down", "sleep", "rest the head", "sleep outside"}, {"sing", "caw", "honk", "quack", "hoot", "chatter", "croak"},
    {"howl", "bark", "growl", "roar"}, {"a puppy", "a pup", "a cub"}, {"a calf", "a foal", "a fawn"}, {"a chick", "a duckling", "a gosling"},
    {"a coat", "a scarf", "a blanket"}, {"a candle", "a lamp"}, {"a bed", "a pillow", "a tent", "a blanket"},
    {"hall", "garage", "shed", "kitchen", "office"}, {"snow falls", "leaves fall"}, {"it gets dark", "the light goes out"},
]  # fmt: skip


@dataclass
class Fact:
    """One fact: statements that all end with the answer, questions, and the answers of other facts of its kind."""

    relation: str
    subject: str
    answer: str
    statements: list[str]
    questions: list[str]
    sentence: str
    pool: list[str] = field(default_factory=list)


def _facts() -> list[Fact]:
    facts: list[Fact] = []

    def add(relation: str, subject: str, answer: str, statements: str, questions: str, sentence: str = "") -> None:
        if answer in ("-", ""):
            return
        said = [line.strip() for line in statements.split(";")]
        asked = [line.strip() for line in questions.split(";")]
        facts.append(Fact(relation, subject, answer, said, asked, sentence or said[0] + " " + answer + "."))

    for name, sound, home, food, young, legs, cover, skill, _ in ANIMALS:
        many = plural(name)
        add(
            "sound",
            name,
            sound,
            f"A {name} can; To call its friends, a {name} will; When {many} call, they;"
            f" On the farm or in the wild, all {many}",
            f"What sound does a {name} make?; What do {many} do when they call?; How does a {name} sound?",
            "" if sound == "-" else f"A {name} can {sound}.",
        )
        add(
            "home",
            name,
            home,
            f"A {name} lives in the; The home of a {name} is the; At night the {name} goes back to its;"
            f" If you look for a {name}, look in the",
            f"Where does a {name} live?; Where is the home of a {name}?; Where do {many} live?",
            f"A {name} lives in the {home}.",
        )
        add(
            "food",
            name,
            food,
            f"A {name} eats; {many.capitalize()} like to eat; The food of a {name} is;"
            f" When a {name} is hungry, it looks for",
            f"What does a {name} eat?; What do {many} like to eat?; What is the food of a {name}?",
        )
        add(
            "young",
            name,
            with_article(young),
            f"A young {name} is called; The baby of a {name} is; When a {name} has a baby, it is;"
            f" A small {name} that was just born is",
            f"What is a young {name} called?; What is the baby of a {name}?; What do we call a baby {name}?",
        )
        add(
            "legs",
            name,
            legs + " legs",
            f"A {name} has; {many.capitalize()} walk through life with; Every {name} has;"
            f" If you count the legs of a {name}, you see",
            f"How many legs does a {name} have?; How many legs do {many} have?",
        )
        add(
            "cover",
            name,
            cover,
            f"The body of a {name} is covered with; {many.capitalize()} are covered with;"
            f" If you touch a {name}, you feel its",
            f"What covers the body of a {name}?; What are {many} covered with?",
        )
        add(
            "skill",
            name,
            skill,
            f"A {name} can; Most {many} know how to; A {name} is good because it can;"
            f" Something that {many} do well is to",
            f"What can a {name} do?; What do {many} do well?",
        )
    for name, use, made, kept, _ in THINGS:
        many = plural(name)
        add(
            "use",
            name,
            use,
            f"You use a {name} to; A {name} helps people to; People need a {name} to; With a {name} you can",
            f"What is a {name} for?; What do you do with a {name}?; Why do people need a {name}?",
        )
        add(
            "tool",
            use,
            with_article(name),
            f"To {use}, you need; If you want to {use}, take; The right thing to {use} with is;"
            f" When people want to {use}, they look for",
            f"What do you need to {use}?; I want to {use}. What do I need?; Which thing helps to {use}?",
        )
        add(
            "made",
            name,
            made,
            f"A {name} is made of; Most {many} are made of; The maker of the {name} used;"
            f" Someone makes a {name} out of",
            f"What is a {name} made of?; What are {many} made of?",
        )
        add(
            "kept",
            name,
            kept,
            f"The {name} is kept in the; You can find the {name} in the; People keep the {name} in the;"
            f" The place for the {name} is the",
            f"Where is the {name} kept?; Where can I find the {name}?",
        )
    for name, colour, taste, grows, kind in FOODS:
        many = plural(name)
        add(
            "colour",
            name,
            colour,
            f"The colour of a ripe {name} is; A {name} is; Most {many} are; A fresh {name} looks",
            f"What colour is a {name}?; Which colour do {many} have?",
        )
        add(
            "taste",
            name,
            taste,
            f"A {name} tastes; The taste of {many} is; When you bite into a {name}, it tastes",
            f"How does a {name} taste?; What is the taste of a {name}?",
        )
        add(
            "grows",
            name,
            grows,
            f"A {name} grows; {many.capitalize()} grow; In the garden you find {many}",
            f"Where does a {name} grow?; Where do {many} grow?",
        )
        add(
            "kind",
            name,
            with_article(kind),
            f"A {name} is; Everyone knows that a {name} is; Some say that the {name} is",
            f"What is a {name}?; Is a {name} a fruit or a vegetable?",
        )
    for kind, names in KINDS.items():
        for name in names.split():
            add(
                "kind",
                name,
                with_article(kind),
                f"A {name} is; Everyone knows that a {name} is; Some say that the {name} is",
                f"What is a {name}?; What kind of thing is a {name}?",
            )
    for job, does, where, _ in JOBS:
        add(
            "job",
            job,
            does,
            f"A {job} is a person who; Every day the {job}; The work of a {job} is easy to explain: a {job};"
            f" In the village there is a {job} who",
            f"What does a {job} do?; What is the work of a {job}?",
        )
        add(
            "worker",
            does,
            job,
            f"A person who {does} is a; The one who {does} is the; If someone {does}, then this person is a",
            f"Who {does}?; What do we call a person who {does}?",
        )
        add(
            "workplace",
            job,
            where,
            f"A {job} works at the; You can meet the {job} at the; In the morning the {job} goes to the",
            f"Where does a {job} work?; Where can I meet the {job}?",
        )
    for one, other in OPPOSITES + [[b, a] for a, b in OPPOSITES]:
        add(
            "opposite",
            one,
            other,
            f"The opposite of {one} is; If it is not {one}, it may be; {one.capitalize()} and its opposite:"
            f" {one} and; The word {one} is the opposite of",
            f"What is the opposite of {one}?; Which word is the opposite of {one}?; Tell me the opposite of {one}.",
        )
    for what, colour in COLOURED:
        add(
            "colour",
            what,
            colour,
            f"The colour of {what} is; Everyone knows that {what} is; If you paint {what}, use the colour",
            f"What colour is {what}?; Which colour does {what} have?",
        )
    for one, two, result in MIXES:
        for a, b in ((one, two), (two, one)):
            add(
                "mix",
                f"{a} and {b}",
                result,
                f"If you mix {a} and {b}, you get; {a.capitalize()} paint and {b} paint together make;"
                f" The painter mixed {a} with {b} and got",
                f"What do you get if you mix {a} and {b}?; Which colour do {a} and {b} make?",
            )
    for country, city in CAPITALS:
        add(
            "capital",
            country,
            city,
            f"The capital of {country} is; The most important city of {country} is;"
            f" If you travel to {country}, you can visit",
            f"What is the capital of {country}?; Which city is the capital of {country}?",
        )
        add(
            "country",
            city,
            country,
            f"{city} is the capital of; {city} is a city in; If you live in {city}, you live in",
            f"In which country is {city}?; Where is {city}?",
            f"{city} is a city in {country}.",
        )
    for cause, effect in CAUSES:
        add(
            "effect",
            cause,
            effect,
            f"If {cause},; When {cause},; Every child knows that when {cause},; Be careful: if {cause},",
            f"What happens if {cause}?; What happens when {cause}?",
        )
    for verb, part in SENSES:
        add(
            "sense",
            verb,
            part,
            f"We {verb} with our; To {verb}, people use their; A child can {verb} with the",
            f"With what do we {verb}?; What do people use to {verb}?",
            f"We {verb} with our {part}.",
        )
    for what, number in AMOUNTS:
        add(
            "amount",
            what,
            number,
            f"Someone asks: How many {what}? The right answer is; How many {what}? The answer is",
            f"How many {what}?",
            f"The answer is {number}.",
        )
    for season, weather, event, _ in SEASONS:
        add(
            "weather",
            season,
            weather,
            f"In {season} the weather is; The days of {season} are often; When {season} comes, it gets",
            f"How is the weather in {season}?; What is the weather like in {season}?",
        )
        add(
            "event",
            season,
            event,
            f"In {season}; You know that it is {season} when; When {season} comes,",
            f"What happens in {season}?; How do you know that it is {season}?",
        )
        add(
            "season",
            event,
            season,
            f"The season in which {event} is; When {event}, it is",
            f"In which season does it happen that {event}?; Which season is it when {event}?",
        )
    for names, unit in ((DAYS, "day"), (MONTHS, "month")):
        for i, name in enumerate(names):
            after, before = names[(i + 1) % len(names)], names[i - 1]
            add(
                unit + " after",
                name,
                after,
                f"The {unit} after {name} is; After {name} comes; When {name} is over, the next {unit} is;"
                f" {name} is followed by",
                f"Which {unit} comes after {name}?; What is the next {unit} after {name}?",
            )
            add(
                unit + " before",
                name,
                before,
                f"The {unit} before {name} is; Before {name} comes; Just before {name} we have",
                f"Which {unit} comes before {name}?; What is the {unit} before {name}?",
            )
    for i in range(1, 20):
        add(
            "number after",
            NUMBERS[i],
            NUMBERS[i + 1],
            f"The number after {NUMBERS[i]} is; After {NUMBERS[i]} comes the number;"
            f" When you count, {NUMBERS[i]} is followed by",
            f"Which number comes after {NUMBERS[i]}?; What comes after {NUMBERS[i]}?",
        )
    pools: dict[str, set[str]] = {}
    for fact in facts:
        pools.setdefault(fact.relation, set()).add(fact.answer)
    for fact in facts:
        near = set().union(*(group for group in OVERLAPS if fact.answer in group))
        fact.pool = sorted(pools[fact.relation] - near - {fact.answer, fact.subject})
    return facts


FACTS = _facts()
