"""Short conversations in the chat format: questions about the world, about a story just told, and small talk."""
# ruff: noqa: E501 (a sentence reads better unbroken)

from __future__ import annotations

from random import Random
from zlib import crc32

from facts import FACTS, Fact
from grammar import BOYS, GIRLS, NUMBERS, Person, count, expand, invented, plural, with_article
from scenes import ALL_PLOTS, story
from stories import fill, place_pair
from world import ANIMALS, COLOURS, DAYS, FOODS, JOBS, KINDS, SPOTS, THINGS, TOYS

ROLES = ("system", "user", "assistant")
END = "<|end|>"
SYSTEM = ["You are a helpful assistant.", "You are a friendly helper. Answer in short sentences.", "Answer the questions of a child.",
          "You know a lot about the small world. Help the user."]  # fmt: skip
ONE_WORD = ["Answer with the shortest answer.", "Answer in as few words as you can.", "Give only the answer."]
Turns = list[tuple[str, str]]

_BY_SUBJECT: dict[str, list[Fact]] = {}
for _fact in FACTS:
    _BY_SUBJECT.setdefault(_fact.subject, []).append(_fact)
ANIMAL_NAMES = {row[0] for row in ANIMALS}


def render(turns: Turns) -> str:
    """Write turns as the chat template does: role marker, text, end marker; nothing between them."""
    return "".join(f"<|{role}|>{text}{END}" for role, text in turns)


def training_statement(rng: Random, fact: Fact) -> str:
    """State a fact in one of its wordings, never in the one kept for the task."""
    kept = kept_wording(fact)
    return expand(rng, rng.choice([s for i, s in enumerate(fact.statements) if i != kept]) + " " + fact.answer + ".")


def kept_wording(fact: Fact) -> int:
    """Give the index of the wording that no training text uses for this fact: never the first one."""
    others = len(fact.statements) - 1
    return 1 + crc32(f"{fact.relation}|{fact.subject}".encode()) % others if others else -1


def about(rng: Random, subject: str) -> str:
    """Write a paragraph of the facts of one subject, in some order and wording."""
    facts = rng.sample(_BY_SUBJECT[subject], min(len(_BY_SUBJECT[subject]), rng.randint(2, 5)))
    return " ".join(training_statement(rng, fact) for fact in facts)


def fact_paragraph(rng: Random) -> str:
    """Write a paragraph of facts: of one subject, or of one kind."""
    if rng.random() < 0.5:
        return about(rng, rng.choice([s for s in _BY_SUBJECT if len(_BY_SUBJECT[s]) > 2]))
    relation = rng.choice(FACTS).relation
    group = [fact for fact in FACTS if fact.relation == relation]
    return " ".join(training_statement(rng, fact) for fact in rng.sample(group, min(len(group), rng.randint(2, 5))))


def questions(rng: Random) -> str:
    """Write questions with their answers as plain text."""
    lines = []
    for fact in rng.sample(FACTS, rng.randint(1, 4)):
        answer = fact.answer if rng.random() < 0.5 else training_statement(rng, fact)
        lines.append(f"Question: {rng.choice(fact.questions)}\nAnswer: {expand(rng, answer).rstrip('.')}.")
    return expand(rng, "\n".join(lines))


def _ask_fact(rng: Random, short: bool) -> Turns:
    fact = rng.choice(FACTS)
    answer = (
        fact.answer + "."
        if short
        else expand(rng, fact.sentence if rng.random() < 0.6 else training_statement(rng, fact))
    )
    opener = (
        ""
        if rng.random() < 0.7
        else rng.choice(["I have a question. ", "Please tell me: ", "Can you help me? ", "Tell me, please. "])
    )
    return [("user", opener + expand(rng, rng.choice(fact.questions))), ("assistant", expand(rng, answer))]


def _ask_sum(rng: Random, short: bool) -> Turns:
    x, y = rng.randint(0, 10), rng.randint(0, 10)
    if rng.random() < 0.6:
        z, sign, word = x + y, "+", "plus"
    else:
        x, y = max(x, y) + rng.choice([0, 0, min(x, y)]), min(x, y)
        z, sign, word = x - y, "-", "minus"
    if rng.random() < 0.5:
        asked = rng.choice([f"What is {x} {sign} {y}?", f"{x} {sign} {y} = ?", f"How much is {x} {sign} {y}?"])
        return [("user", asked), ("assistant", f"{z}." if short else f"{x} {sign} {y} = {z}.")]
    a, b, c = NUMBERS[x], NUMBERS[y], NUMBERS[z]
    asked = rng.choice([f"What is {a} {word} {b}?", f"How much is {a} {word} {b}?"])
    return [("user", asked), ("assistant", expand(rng, f"{c}." if short else f"{a} {word} {b} is {c}."))]


def _yes_no(rng: Random, short: bool) -> Turns:
    kind = rng.randrange(3)
    if kind == 0:
        name, right = rng.choice(ANIMALS), rng.random() < 0.5
        fact = next(f for f in _BY_SUBJECT[name[0]] if f.relation == "skill")
        skill = fact.answer if right else rng.choice(fact.pool)
        asked, full = f"Can a {name[0]} {skill}?", f"a {name[0]} can {fact.answer}"
    elif kind == 1:
        group = rng.choice(list(KINDS))
        fact = rng.choice([f for f in FACTS if f.relation == "kind" and f.answer == with_article(group)])
        right = rng.random() < 0.5
        asked = f"Is {with_article(fact.subject) if fact.subject[0].islower() else fact.subject} {fact.answer if right else rng.choice(fact.pool)}?"
        full = f"{with_article(fact.subject)} is {fact.answer}"
    else:
        food, right = rng.choice(FOODS), rng.random() < 0.5
        colour = food[1] if right else rng.choice([c for c in COLOURS if c != food[1]])
        asked, full = f"Is a {food[0]} {colour}?", f"a {food[0]} is {food[1]}"
    answer = ("Yes" if right else "No") + ("." if short else f", {full}.")
    return [("user", expand(rng, asked)), ("assistant", expand(rng, answer))]


def _about_story(rng: Random, short: bool) -> Turns:
    """Tell a story of two or three sentences and ask about it: the answer must be copied from the text."""
    a = Person(rng)
    b = Person(rng, a)
    toy, spot, other = place_pair(rng)
    colour, x, y = rng.choice(COLOURS), rng.randint(1, 8), rng.randint(1, 5)
    noun = rng.choice(TOYS[:5] + [f[0] for f in FOODS])
    text, asked, answer, sentence = rng.choice([
        (f"{a} put the {toy} in the {spot}. [{b} went to the {{place}}.|Then {a} had lunch.|]", f"Where is the {toy}?", f"In the {spot}",
         f"The {toy} is in the {spot}"),
        (f"The {toy} was in the {other}. {b} moved it to the {spot}.", f"Where is the {toy} now?", f"In the {spot}", f"The {toy} is in the {spot} now"),
        (f"{a} gave {b} a {colour} {toy}.", f"Who has the {toy} now?", str(b), f"{b} has the {toy} now"),
        (f"{a} gave {b} a {colour} {toy}.", f"What colour is the {toy}?", colour, f"The {toy} is {colour}"),
        (f"{a} has a {colour} {toy}. {b} has a {rng.choice([t for t in TOYS if t != toy])}.", f"Who has the {toy}?", str(a), f"{a} has the {toy}"),
        (f"{a} has {count(x, noun)}. {b} gives {a.him} {NUMBERS[y]} more.", f"How many {plural(noun)} does {a} have now?", NUMBERS[x + y],
         f"{a} has {count(x + y, noun)} now"),
        (f"{a} is taller than {b}.", "Who is taller?", str(a), f"{a} is taller"),
        (f"{a} is older than {b}.", "Who is younger?", str(b), f"{b} is younger"),
        (f"{a} went to the {{place}} on {rng.choice(DAYS)} with {b}.", f"Who went with {a}?", str(b), f"{b} went with {a}"),
        (f"My name is {a}. I am {NUMBERS[y + 4]} years old.", "What is my name?", str(a), f"Your name is {a}"),
        (f"My name is {a}. I am {NUMBERS[y + 4]} years old.", "How old am I?", NUMBERS[y + 4], f"You are {NUMBERS[y + 4]} years old"),
    ])  # fmt: skip
    return [("user", fill(rng, text + " " + asked)), ("assistant", expand(rng, (answer if short else sentence) + "."))]


def _tell(rng: Random, short: bool) -> Turns:
    """Ask for a story, a list, or what is known of a thing."""
    kind = rng.randrange(4)
    if kind == 0:
        subject = rng.choice([row[0] for row in ANIMALS + THINGS + FOODS + JOBS])
        asked = (
            f"[Tell me something about|What do you know about|Tell me about] {plural(subject)}[.|, please.]".replace(
                "know about|", "know about|"
            )
        )
        asked = expand(rng, asked)
        return [("user", asked[:-1] + "?" if asked.startswith("What") else asked), ("assistant", about(rng, subject))]
    if kind == 1:
        group = rng.choice([*KINDS, "fruit", "vegetable", "colour", "day", "job"])
        words = {"fruit": [f[0] for f in FOODS if f[4] == "fruit"], "vegetable": [f[0] for f in FOODS if f[4] == "vegetable"], "colour": COLOURS,
                 "day": DAYS, "job": [j[0] for j in JOBS]}.get(group) or KINDS[group].split()  # fmt: skip
        number = min(rng.randint(2, 4), len(words))
        chosen = rng.sample(words, number)
        answer = ", ".join(chosen[:-1]) + " and " + chosen[-1] + "."
        return [("user", f"Name {NUMBERS[number]} {plural(group)}."), ("assistant", expand(rng, answer))]
    if kind == 2:
        first = rng.randint(1, 8)
        last = first + rng.randint(2, 8)
        line = ", ".join(NUMBERS[first : last + 1])
        return [("user", f"Count from {NUMBERS[first]} to {NUMBERS[last]}."), ("assistant", expand(rng, line + "."))]
    for _ in range(40):
        text = rng.choice(ALL_PLOTS)(rng)
        person = next(
            (
                w.strip(".,:")
                for w in text.split()
                if w[0].isupper() and w in text[40:] and w.strip(".,:").isalpha() and len(w) > 2
            ),
            "",
        )
        animal = next((w for w in text.replace(".", "").split() if w in ANIMAL_NAMES), "")
        if animal and rng.random() < 0.7:
            return [("user", f"Tell me a {'short ' if rng.random() < 0.3 else ''}story about a {animal}.".replace("a a", "an a").replace(
                "a e", "an e").replace("a o", "an o")), ("assistant", text)]  # fmt: skip
        if not animal and person in _NAMES:
            return [
                ("user", f"Tell me a {'short ' if rng.random() < 0.3 else ''}story about {person}."),
                ("assistant", text),
            ]
    return [("user", "Tell me a story."), ("assistant", story(rng))]


def _small_talk(rng: Random, short: bool) -> Turns:
    a = Person(rng)
    asked, answer = rng.choice([
        ("[Hello|Hi|Good morning|Good day][!|.]", "[Hello|Hi|Good day]! How can I help you?"),
        ("[Hello|Hi][, my name is|! I am] {a}.", "[Hello|Hi], {a}! [How can I help you?|It is nice to meet you.]"),
        ("How are you[| today]?", "I am fine, thank you."),
        ("Who are you?", "I am a small language model. I know a few things about a small world."),
        ("What can you do?", "I can tell small stories and answer simple questions about animals, things and people."),
        ("[Thank you|Thanks][!|.]", "You are welcome!"),
        ("[Goodbye|Bye][!|.]", "Goodbye! Have a nice day."),
        ("I am sad[| today].", "I am sorry. Do you want to hear a story?"),
        ("I am {feel}.", "[That is good to hear.|I am glad.]"),
        ("I am hungry.", "You can eat an {fruit}."),
        ("What is the name of my {kin}?", "I do not know the name of your {kin}."),
        ("How old is my {kin}?", "I do not know how old your {kin} is."),
        ("What did I eat [today|yesterday]?", "I do not know what you ate."),
        ("It is raining. What do I need?", "You need an umbrella."),
        ("It is cold [outside|today]. What do I need?", "You need a warm coat."),
        ("What should I do when I am tired?", "You should go to bed and sleep."),
        ("What is your favourite {thing}?", "I like every {thing}."),
        ("What is the name of your {kin}?", "I have no {kin}. I am only a small language model."),
        ("Are you [a person|human|an animal]?", "No, I am a small language model."),
        ("Can you help me?", "Yes, of course. What do you want to know?"),
        ("I cannot sleep.", "Close your eyes and count sheep: one, two, three, four."),
        ("My friend is sick. What can I do?", "You can visit your friend and bring some fruit."),
        ("I am bored. What can I do?", "You can [read a book|draw a picture|play with a friend|go to the park]."),
        ("It is hot [outside|today]. What can I do?", "You can swim in the lake and drink cold water."),
        ("[What is a {word}?|What does a {word} eat?|Where does a {word} live?|What colour is a {word}?|Tell me about {word}.]", "I do not know what {word} is."),
        ("Where did you put my {toy}?", "I did not take your {toy}. Look in the {spot}."),
    ])  # fmt: skip
    values = {"a": a, "word": invented(rng), "feel": rng.choice(["happy", "glad", "excited"]), "fruit": rng.choice(["apple", "orange"]), "toy": rng.choice(TOYS),
              "thing": rng.choice(["colour", "animal", "food", "day", "season", "story"]),
              "kin": rng.choice(["brother", "sister", "mother", "father", "dog", "friend"]), "spot": rng.choice(SPOTS)}  # fmt: skip
    return [("user", fill(rng, asked, **values)), ("assistant", fill(rng, answer, **values))]


_NAMES = {*GIRLS, *BOYS}
_KINDS = [_ask_fact] * 10 + [_ask_sum] * 3 + [_yes_no] * 3 + [_about_story] * 6 + [_tell] * 5 + [_small_talk] * 3


def _careless(rng: Random, text: str) -> str:
    """Write as people type: now and then without the capital letter or the last mark."""
    if rng.random() < 0.1 and text.split()[0] not in _NAMES and text[:2] != "I ":
        text = text[0].lower() + text[1:]
    return text[:-1] if rng.random() < 0.1 and text[-1] in "?.!" and "=" not in text else text


def dialogue(rng: Random) -> str:
    """Write one conversation of one to three questions, sometimes with a system message that it follows."""
    turns: Turns = []
    chance = rng.random()
    short = chance < 0.12
    if short:
        turns.append(("system", rng.choice(ONE_WORD)))
    elif chance < 0.4:
        turns.append(("system", rng.choice(SYSTEM)))
    kinds = [_ask_fact, _ask_sum, _yes_no, _about_story] if short else _KINDS
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3])):
        turns += [
            (role, _careless(rng, text) if role == "user" else text) for role, text in rng.choice(kinds)(rng, short)
        ]
    return render(turns)
