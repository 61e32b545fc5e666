"""More plots: people and places described, daily life, school, races, farms; and the choice among all plots."""
# ruff: noqa: E501 (a sentence reads better unbroken)

from __future__ import annotations

from random import Random

from facts import FACTS
from grammar import NUMBERS, Person, count, plural, with_article
from stories import FEEL, OUTDOORS, PLOTS, WHEN, Story, fill
from world import ANIMALS, COLOURS, DAYS, FOODS, JOBS, MONTHS, OPPOSITES, THINGS, TOYS


def portrait(rng: Random) -> str:
    """Describe a person."""
    a = Person(rng)
    b = Person(rng, a)
    job = rng.choice(JOBS)
    return fill(
        rng, "{a} is a [little|tall|quiet|clever|kind] {a.child}[| with {hair} hair| with {eyes} eyes]. {a.he} is {age} years old and lives in a [small "
        "house|big house|house near the {place}|village]. [{a.his} mother is a {job}. She {does}.|{a.his} father is a {job}. He {does}.|{a} has a "
        "[brother|sister] called {b}.] {a} likes {food}, but {a.he} does not like {food2}. [On {day}s|After school|When the weather is good,] {a.he} "
        "[plays with {a.his} {toy}|goes to the {place}|visits {b}|reads a book|helps in the garden]. [{a.his} best friend is {b}.|{a.he} has a {colour} "
        "{toy}.|{a.he} was born in {month}.|One day {a.he} wants to be a {job2}.]",
        a=a, b=b, age=NUMBERS[rng.randint(5, 12)], hair=rng.choice(["brown", "black", "long", "short", "red"]), eyes=rng.choice(["blue", "green", "brown"]),
        job=job[0], does=job[1], food=plural(rng.choice(FOODS)[0]), food2=rng.choice(["soup", "cheese", "fish", "milk", "bread"]),
        colour=rng.choice(COLOURS), toy=rng.choice(TOYS), month=rng.choice(MONTHS), job2=rng.choice(JOBS)[0],
    )  # fmt: skip


def routine(rng: Random) -> str:
    """Tell a day from the morning to the night."""
    a = Person(rng)
    b = Person(rng, a)
    return fill(
        rng, "[Every morning|On {day}] {a} [wakes|gets] up at {hour}. First {a.he} [washes {a.his} hands with soap|tidies {a.his} hair with a comb|drinks a "
        "cup of milk]. Then {a.he} eats [bread|{fruit}|an egg] and goes to [school|the {place}] [by bus|by bike|with {b}]. [At noon|At twelve] {a.he} "
        "[has lunch|eats soup with a spoon|sits down with {b}]. In the afternoon {a.he} [plays|reads|draws pictures|helps {a.his} father]. When the "
        "sun goes down, it gets dark, and {a} [goes home|lights a candle|looks at the moon]. [At night|At last] {a.he} goes to bed[| and sleeps| and "
        "reads a story].",
        a=a, b=b, hour=NUMBERS[rng.randint(5, 9)], fruit=with_article(rng.choice([f[0] for f in FOODS if f[4] == "fruit"])),
    )  # fmt: skip


def race(rng: Random) -> str:
    """A race between two animals or two children, with a winner."""
    if rng.random() < 0.5:
        quick = rng.choice(["horse", "deer", "dog", "fox"])
        slow = rng.choice(["turtle", "duck", "pig", "frog", "hen"])
        return fill(
            rng, "The {q} and the {s} had a race. [The {q} was fast, and the {s} was slow.|Everyone thought that the {q} would win.] But the {q} "
            "[lay down to sleep|stopped to eat|looked at the clouds]. The {s} [did not stop|walked and walked]. [In the end|When the {q} woke up], the {s} "
            "[was the first|had won the race]. [Slow and steady wins.|The {q} was surprised.|\"Well done,\" said the {q}.]".replace(
                "When the {q} woke up", "When the sun went down"), q=quick, s=slow)  # fmt: skip
    a = Person(rng)
    b = Person(rng, a)
    return fill(
        rng, WHEN + ", {a} and {b} ran a race to the {place}. [{a} was faster|{a} ran like the wind|{b} fell down], so {a} won. {b} [was a little sad|laughed|"
        "came second]. [\"You are fast,\" said {b}.|\"Next time you will win,\" said {a}.|{a} helped {b} and gave {b.him} some water.] Then they [went home|"
        "sat in the grass|ate apples] together.", a=a, b=b, place=rng.choice(OUTDOORS))  # fmt: skip


def sick(rng: Random) -> str:
    """Somebody is ill and gets well."""
    a = Person(rng)
    b = Person(rng, a)
    return fill(
        rng, "On {d1}, {a} was sick and had to stay in bed. [{a.his} mother called the doctor.|The doctor came from the hospital.] \"[Drink a lot of tea|Take "
        "this medicine|Stay warm and sleep],\" said the doctor. [{b} came to visit {a.him}|{b} brought {a.him} {fruit}|{a} slept all day]. On {d2}, {a} was "
        "well again. [{a} thanked the doctor.|{a} could go to school again.|{a} was " + FEEL + ".]",
        a=a, b=b, d1=(pair := rng.choice(list(zip(DAYS, DAYS[2:] + DAYS[:2], strict=True))))[0], d2=pair[1],
        fruit="some " + plural(rng.choice([f[0] for f in FOODS if f[4] == "fruit"])),
    )  # fmt: skip


def sharing(rng: Random) -> str:
    """Two children want the same thing and find a way."""
    a = Person(rng)
    b = Person(rng, a)
    x = rng.choice([2, 4, 6, 8, 10])
    if rng.random() < 0.4:
        noun = rng.choice(FOODS)[0]
        return fill(
            rng, "{a} had {x}. {b} had nothing to eat. {a} [wanted to share|was kind]. {a.he} gave {b} half of the {nouns}. So each of them had {y}. [\"You are "
            "a true friend,\" said {b}.|They ate together.|It is good to share.]", a=a, b=b, x=count(x, noun), y=count(x // 2, noun), nouns=plural(noun))  # fmt: skip
    return fill(
        rng, "{a} and {b} both wanted the {colour} {toy}. \"It is mine!\" said {a}. \"No, it is mine!\" said {b}. [The teacher|{a.his} mother|A friend] [came and "
        "said|heard them and said]: \"[First {a}, then {b}.|You can share it.|Play together.]\" [{a} thought about it|{b} said sorry]. Then they [played with the "
        "{toy} together|shared the {toy}|took turns]. [They were both happy.|It was more fun together.|Soon they laughed again.]",
        a=a, b=b, toy=rng.choice(TOYS), colour=rng.choice(COLOURS))  # fmt: skip


def lesson(rng: Random) -> str:
    """The teacher asks, a child answers rightly."""
    a = Person(rng)
    b = Person(rng, a)
    facts = rng.sample(FACTS, 2)
    x, y = rng.randint(1, 10), rng.randint(1, 10)
    return fill(
        rng, "In school, the teacher asked: \"{q1}\" {a} knew it. \"{s1}\" said {a}. [\"That is right,\" said the teacher.|\"Very good!\" said the teacher.] [Then the "
        "teacher asked: \"{q2}\" {b} [thought for a moment|put up a hand]. \"{s2}\" said {b}.|Then the teacher asked: \"How much is {x} plus {y}?\" \"{z},\" "
        "said {b}.] [The teacher was pleased.|Everyone had learned something.|Then it was time to go home.]",
        a=a, b=b, q1=facts[0].questions[0], q2=facts[1].questions[0], s1=facts[0].sentence[:-1] + ",", s2=facts[1].sentence[:-1] + ",", x=NUMBERS[x],
        y=NUMBERS[y], z=NUMBERS[x + y],
    )  # fmt: skip


def farm(rng: Random) -> str:
    """A walk among animals, with what they do and eat."""
    a = Person(rng)
    group = rng.sample(
        [
            row
            for row in ANIMALS
            if row[0] in ("dog", "cat", "cow", "horse", "sheep", "pig", "hen", "duck", "goose", "goat", "frog", "bee")
        ],
        3,
    )
    lines = []
    for name, sound, home, food, young, *_ in group:
        lines.append(rng.choice([
            f"In the {home} {a.he} saw a {name} that began to {sound}.", f"The {name} ate some {food}.", f"A {name} slept in the {home}.",
            f"{a} gave some {food} to the {name}, because it was hungry." if name not in ("bee", "frog") else f"{a} heard a {name} in the {home}.",
            f"The {name} had a {young}." if young != "-" else f"The {name} flew to a flower.",
        ]))  # fmt: skip
    return fill(rng, WHEN + ", {a} visited a farm. [The farmer showed {a.him} the animals.|There were many animals.|] " + " ".join(lines) + " [{a} liked the {last} "
                "best.|In the evening {a} went home and told everyone about the {last}.|It was a nice day at the farm.]", a=a, last=group[rng.randrange(3)][0])  # fmt: skip


def weather_talk(rng: Random) -> str:
    """Weather, and what people wear and do in it."""
    a = Person(rng)
    b = Person(rng, a)
    sky, why, thing, use = rng.choice([
        ("It rained all day", "the streets were wet", "umbrella", "stay dry"), ("It was very cold", "the lake was frozen", "coat", "stay warm"),
        ("The wind was cold", "the trees moved", "scarf", "warm the neck"), ("The night was dark", "there was no moon", "lamp", "see the way"),
        ("The sun was hot", "there was no cloud in the sky", "hat", "have some shade"), ("It was late in the evening", "it was dark in the house", "candle", "read"),
    ])  # fmt: skip
    return fill(
        rng, sky + ", and " + why + ". {a} [wanted to go to the {place}|had to visit {b}|was outside with {b}]. [\"Take {thing},\" said {a.his} mother.|\"You need "
        "{thing},\" said {b}.] {a} took {thing} to {use}. [That was a good idea.|{b} had no {name}, so they shared it.|\"Thank you,\" said {a}.] [Later, the weather "
        "got better.|They came home late.|]", a=a, b=b, thing=with_article(thing), name=thing, use=use)  # fmt: skip


def riddle(rng: Random) -> str:
    """A riddle about an animal, a thing or a food, and its answer."""
    a = Person(rng)
    b = Person(rng, a)
    kind = rng.randrange(3)
    if kind == 0:
        name, sound, home, food, _, legs, _, skill, _ = rng.choice(ANIMALS)
        hints = [f"it has {legs} legs", f"it eats {food}", f"it lives in the {home}", f"it can {skill}"] + (
            [f"it can {sound}"] if sound != "-" else []
        )
        clue, answer = rng.sample(hints[1:], 3), name
    elif kind == 1:
        name, use, _, kept, _ = rng.choice(THINGS)
        clue, answer = [f"you use it to {use}", f"it is kept in the {kept}"], name
    else:
        name, colour, _, grows, group = rng.choice(FOODS)
        clue, answer = [f"it is a {group}", f"it is {colour}", f"it grows {grows}"], name
    text = ", ".join(clue[:-1]) + " and " + clue[-1]
    return fill(rng, "\"[I have a riddle|Can you guess it|Listen],\" said {a}. \"" + text + ". What is it?\" [{b} thought for a moment.|{b} smiled.|] \"It is {x}!\" said "
                "{b}. [\"Right!\" said {a}.|\"You are clever,\" said {a}.|{a} laughed, because it was right.]", a=a, b=b, x=with_article(answer))  # fmt: skip


def contrast(rng: Random) -> str:
    """Two people or things that are opposites."""
    a = Person(rng)
    b = Person(rng, a)
    thing, pairs = rng.choice([("book", "thick thin old heavy"), ("rope", "long thick"), ("bag", "big heavy full wet"), ("box", "big open full heavy"),
                               ("door", "wide open"), ("soup", "hot"), ("shirt", "clean wet"), ("bed", "hard wide big"), ("knife", "sharp long"),
                               ("boat", "fast wide old"), ("coat", "long clean wet")])  # fmt: skip
    one = rng.choice(pairs.split())
    two = "new" if one == "old" else next(b if one == a else a for a, b in OPPOSITES if one in (a, b))
    if rng.random() < 0.5:
        one, two = two, one
    return fill(
        rng, "{a}'s {t} is {one}, but {b}'s {t} is {two}. [{a} wants a {two} {t} too.|\"Why is your {t} so {two}?\" asked {a}.|{b} likes it when a {t} is {two}.] "
        "[{b} said: \"Let us change.\" Now {a} has the {two} {t}, and {b} has the {one} {t}.|They laughed about it.|That is how it is.]",
        a=a, b=b, t=thing, one=one, two=two)  # fmt: skip


def night(rng: Random) -> str:
    """A dream or a bedtime."""
    a = Person(rng)
    one, two = rng.sample(ANIMALS, 2)
    return fill(
        rng, "At night, {a} [dreamed of|had a dream about] a {colour} {one}. The {one} could talk and said: \"Come with me to the {place}.\" They [flew over the "
        "{place2}|walked through the {place2}] and met a {two}. [The {two} gave {a} a {toy}.|The {two} sang a song.|\"I can {skill},\" said the {two}.] Then the sun came "
        "up, and {a} [woke up|opened {a.his} eyes]. [It was only a dream.|\"What a nice dream,\" said {a}.|{a} told {a.his} mother about the {colour} {one}.]",
        a=a, one=one[0], two=two[0], skill=two[7], colour=rng.choice(COLOURS), place2=rng.choice(OUTDOORS), toy=rng.choice(TOYS))  # fmt: skip


SCENES: list[Story] = [
    portrait,
    portrait,
    routine,
    race,
    sick,
    sharing,
    lesson,
    farm,
    weather_talk,
    riddle,
    riddle,
    contrast,
    night,
]
ALL_PLOTS: list[Story] = PLOTS + SCENES


def story(rng: Random) -> str:
    """Tell one story."""
    return rng.choice(ALL_PLOTS)(rng)
