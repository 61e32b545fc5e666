"""Plots of the small stories. Each takes a random source and gives one paragraph in which the end follows from the start."""
# ruff: noqa: E501 (a sentence reads better unbroken)

from __future__ import annotations

from collections.abc import Callable
from random import Random

from grammar import NUMBERS, Person, count, expand, held_out, plural, with_article
from world import ANIMALS, CAUSES, COLOURS, DAYS, FOODS, JOBS, PLACES, SEASONS, SPOTS, THINGS, TOYS

OUTDOORS = ["garden", "park", "beach", "lake", "hill", "field", "forest", "river", "farm"]
Story = Callable[[Random], str]
WHEN = (
    "[One day|One morning|One afternoon|Last week|On a {weather} day|On {day}|Early in the morning|After school|Today]"
)
START = "[Once there was|There was once|In a small village lived|Near the {place} lived]"
FEEL = "[happy|glad|proud|very happy|full of joy]"


def fill(rng: Random, text: str, **values: object) -> str:
    """Expand the alternatives of a plot and put in its values, with a day, a place and a weather where it names them."""
    values.setdefault("day", rng.choice(DAYS))
    values.setdefault("place", rng.choice(PLACES))
    values.setdefault("weather", rng.choice(["sunny", "rainy", "windy", "cold", "warm", "grey"]))
    return expand(rng, expand(rng, text).format(**values))


def place_pair(rng: Random, training: bool = True) -> tuple[str, str, str]:
    """Choose a toy and two spots; the combination of toy and first spot is a held-out one unless ``training``."""
    while True:
        toy, spot = rng.choice(TOYS), rng.choice(SPOTS)
        if held_out("put", toy, spot) != training:
            return toy, spot, rng.choice([other for other in SPOTS if other != spot])


def put_away(rng: Random, training: bool = True) -> str:
    """Something is put somewhere, other things happen, and it is found there."""
    a = Person(rng)
    b = Person(rng, a)
    toy, spot, other = place_pair(rng, training)
    extra = [t for t in TOYS if t != toy]
    return fill(
        rng, WHEN + ", {a} [put|hid|left] {a.his} [|{colour} ]{toy} in the {spot}. [{b} put a {second} in the {other}.|Then {a} "
        "[went to the {place}|had lunch|played with {b}|helped {a.his} mother].|] [Later|In the evening|After a while], {a} [wanted to play|looked "
        "for the {toy}|asked: \"Where is my {toy}?\"]. [{b} remembered and said: \"It is in the {spot}.\"|{a.he} looked in the "
        "{spot}.|The {toy} was still in the {spot}.] [{a} was " + FEEL + ".|{a} took the {toy} out of the {spot}.|They played with "
        "the {toy} until [dinner|night].]",
        a=a, b=b, toy=toy, spot=spot, other=other, colour=rng.choice(COLOURS), second=rng.choice(extra),
    )  # fmt: skip


def moved(rng: Random) -> str:
    """A thing is moved, and is now where it was moved to."""
    a = Person(rng)
    b = Person(rng, a)
    toy, spot, other = place_pair(rng)
    return fill(
        rng, "The {toy} was in the {spot}. [{a} took it out and put it in the {other}.|{a} moved it to the {other}.] [{b} looked in the "
        "{spot}, but it was empty.|{b} came home and looked for it.] [\"Where is the {toy}?\" asked {b}. \"It is in the {other},\" said {a}.|"
        "Now the {toy} is in the {other}.] {b} [thanked {a}|laughed|went to the {other} and found it].",
        a=a, b=b, toy=toy, spot=spot, other=other,
    )  # fmt: skip


def lost(rng: Random) -> str:
    """Something is lost, looked for in two wrong places and found in a third."""
    a = Person(rng)
    b = Person(rng, a)
    one, two, three = rng.sample(["bed", "table", "chair", "old tree", "bridge", "bench", "stairs", "blanket"], 3)
    return fill(
        rng, WHEN + ", {a} could not find {a.his} {colour} {toy}. {a.he} looked under the {one}, but it was not there. {a.he} "
        "looked under the {two}, but [it was not there|found only a {second}]. {a} was sad[| and began to cry]. Then {b} [came to help.|came in.|said: "
        "\"Let us look together.\"] {b} [looked under the {three} and there it was|found the {toy} under the {three}]. \"[Thank you|You are a good "
        "friend]!\" said {a}. {a} was " + FEEL + " to have the {colour} {toy} again.",
        a=a, b=b, one=one, two=two, three=three, toy=rng.choice(TOYS), second=rng.choice(TOYS), colour=rng.choice(COLOURS),
    )  # fmt: skip


def gift(rng: Random, training: bool = True) -> str:
    """Someone gives a thing away, so that someone else has it now."""
    a = Person(rng)
    b = Person(rng, a)
    while True:
        toy, colour = rng.choice(TOYS), rng.choice(COLOURS)
        if held_out("gift", toy, colour) != training:
            break
    return fill(
        rng, "[It was {b}'s birthday.|{a} and {b} were friends.|{a} liked {b}.|{b} was sad today.] {a} [gave {b} a {colour} {toy}|"
        "brought a {colour} {toy} for {b}]. [\"This is for you,\" said {a}.|] [\"Thank you, {a}!\" said {b}.|{b} smiled and said thank you.] "
        "[Now {b} has a {colour} {toy}.|{b} played with the {colour} {toy} all day.|{b} put the {toy} in {b.his} bag and went home.] "
        "[{a} was " + FEEL + " too.|To give makes people happy.|A friend is the best present.]",
        a=a, b=b, toy=toy, colour=colour,
    )  # fmt: skip


def sums(rng: Random, training: bool = True) -> str:
    """Things are given or taken, and counted in the end."""
    a = Person(rng)
    b = Person(rng, a)
    while True:
        x, y, noun = (
            rng.randint(1, 10),
            rng.randint(1, 6),
            rng.choice([f[0] for f in FOODS] + ["coin", "shell", "marble", "book"]),
        )
        if held_out("sum", x, y, noun) != training:
            break
    if rng.random() < 0.6:
        return fill(
            rng, "[|" + WHEN + ", ]{a} [had|found|bought] {x}. {b} [gave {a.him}|brought {a.him}] {y} more. [{a} counted them.|How many are "
            "there now?|] [Now {a} has {z}.|Together that makes {z}.|{xn} plus {yn} is {zn}, so {a} has {z}.] " + "[{a} was happy.|They shared "
            "them.|{a} put them in a {spot}.]",
            a=a, b=b, x=count(x, noun), y=NUMBERS[y], z=count(x + y, noun), xn=NUMBERS[x], yn=NUMBERS[y], zn=NUMBERS[x + y],
            spot=rng.choice(SPOTS),
        )  # fmt: skip
    x += y
    return fill(
        rng, "[|" + WHEN + ", ]{a} had {x}. {a.he} [gave {y} to {b}|lost {y} of them|sold {y} of them]. [Now {a} has {z} left.|{z} "
        "[was|were] left.|{xn} minus {yn} is {zn}, so {a} still has {z}.]".replace("[was|were]", "was" if x - y == 1 else "were"),
        a=a, b=b, x=count(x, noun), y=NUMBERS[y], z=count(x - y, noun) if x > y else "no " + plural(noun), xn=NUMBERS[x], yn=NUMBERS[y],
        zn=NUMBERS[x - y],
    )  # fmt: skip


def animal_hungry(rng: Random) -> str:
    """An animal is hungry, leaves its home, finds its own food and comes home."""
    name, sound, home, food, young, _, _, _, size = rng.choice([a for a in ANIMALS if a[0] != "fish"])
    friend = rng.choice([a for a in ANIMALS if a[0] != name])
    call = "" if sound == "-" else '[It began to {sound}.|"I am hungry," it thought, and it began to {sound}.|]'
    small = "" if young == "-" else "[It brought some {food} home for its {young}.|]"
    return fill(
        rng, "[" + START + " a [young|{size}|clever|friendly] {name}.|A {name} lived in the {home}.] [" + WHEN + ",|One evening,] the {name} was "
        "hungry. " + call + " It left the {home} and [looked for|went to find] {food}. On the way it met a {friend}. [\"Where are you going?\" asked "
        "the {friend}. \"I am looking for {food},\" said the {name}.|The {friend} was looking for {food2}.] [The {friend} showed it the way to the "
        "{place}.|They walked to the {place} together.] There [was|lay] a lot of {food}. The {name} ate [and ate|until it was full]. " + small +
        " [Then it went back to the {home} and slept.|The {name} and the {friend} became friends.|It was a good day for the {name}.]".replace(
            "lay", "was"),
        name=name, sound=sound, home=home, food=food, young=young, size=size, place=rng.choice(OUTDOORS), friend=friend[0], food2=friend[3],
    ).replace(" was a lot of " + food, " were a lot of " + food if food.endswith("s") and food != "grass" else " was a lot of " + food)  # fmt: skip


def animal_skill(rng: Random) -> str:
    """Animals compare what they can do."""
    one, two = rng.sample(ANIMALS, 2)
    while one[7] == two[7]:
        two = rng.choice(ANIMALS)
    return fill(
        rng, "A {a} and a {b} met [at the {place}|near the {place}|one {weather} day]. [\"What can you do?\" asked the {a}.|\"I am better than you,\" "
        "said the {a}.] \"I can {sa},\" said the {a}. \"And I can {sb},\" said the {b}. [They laughed, because both were right.|Everyone can do "
        "something well.|From that day they were friends.|The {a} went back to the {ha}, and the {b} went back to the {hb}.]".replace(
            '"What can you do?" asked the {a}.', '"What can we do?" asked the {b}.'),
        a=one[0], b=two[0], place=rng.choice(OUTDOORS), sa=one[7], sb=two[7], ha=one[2], hb=two[2],
    )  # fmt: skip


def rescue(rng: Random) -> str:
    """A pet is in trouble and is helped with the right thing."""
    a = Person(rng)
    pet, trouble, thing, action = rng.choice([
        ("cat", "sat high in a tree and could not come down", "ladder", "climbed up and took the cat in {a.his} arms"),
        ("dog", "fell into a deep hole", "rope", "let the rope down and pulled the dog up"),
        ("rabbit", "ran away from the garden", "carrot", "held out the carrot, and the rabbit came back"),
        ("duck", "was caught in a net", "knife", "cut the net, and the duck was free"),
        ("mouse", "fell into a bucket of water", "spoon", "lifted the mouse out of the water"),
        ("lamb", "stood in the cold rain", "blanket", "put the blanket around the lamb"),
        ("horse", "did not want to leave the stable", "apple", "showed the horse the apple, and the horse came out"),
        ("hen", "flew into the river", "boat", "went out on the river and brought the hen back"),
        ("puppy", "was dirty and wet", "towel", "dried the puppy with the towel"),
    ])  # fmt: skip
    return fill(
        rng, "{a} had a {pet} [called {petname}|with {colour} eyes|that {a.he} loved]. " + WHEN + ", the {pet} " + trouble + ". {a} [heard it|saw "
        "it] and [ran home|thought for a moment]. {a.he} [came back with|took] {thing}. {a} " + action + ". [\"You are safe now,\" said {a}.|The "
        "{pet} was happy again.|Everyone was glad.] [That night, the {pet} slept next to {a}'s bed.|{a}'s mother was proud of {a.him}.|]",
        a=a, pet=pet, thing=with_article(thing), colour=rng.choice(["green", "brown", "blue"]), petname=rng.choice(["Coco", "Luna", "Rex", "Molly"]),
    )  # fmt: skip


def needs_tool(rng: Random) -> str:
    """Someone wants to do something and takes the thing that is made for it."""
    a = Person(rng)
    b = Person(rng, a)
    name, use, _, kept, how = rng.choice(THINGS)
    use = use.replace("your", a.his).replace("a friend", str(b))
    return fill(
        rng, WHEN + ", {a} wanted to {use}. [{a.he} needed {thing}.|\"I need {thing},\" said {a}.|But {a.he} had no {name}.] [{b} "
        "[brought|gave {a.him}] {thing}.|{a.he} looked in the {kept} and found {thing}.|{a.his} father [brought|had] {thing}.] [The {name} was {how}.|] "
        "[Then {a} could {use}.|With the {name} it was easy to {use}.|Now {a.he} could {use}.] [{b} watched and learned a lot.|\"Well done,\" said "
        "{b}.|{a} was " + FEEL + ".|In the evening {a} put the {name} back in the {kept}.]",
        a=a, b=b, use=use, name=name, thing=with_article(name), kept=kept, how=how,
    )  # fmt: skip


def market(rng: Random) -> str:
    """Food is bought and made into something."""
    a = Person(rng)
    b = Person(rng, a)
    kind = rng.choice(["fruit", "vegetable"])
    one, two = rng.sample([f for f in FOODS if f[4] == kind], 2)
    return fill(
        rng, WHEN + ", {a} went to the market with {a.his} [mother|father|{a.sibling}]. They [bought|saw] {x} and {y}. The {one} were {c1}, "
        "and the {two} were {c2}. [\"How much are they?\" asked {a}. \"{z} coins,\" said the [farmer|woman|man].|The market was full of people.|] At "
        "home they made a [{dish}|big {dish}] with the {one} and the {two}. [{b} came to eat with them.|It tasted good.] [Everyone was full and happy.|"
        "\"I like it,\" said {b}.|There was nothing left.]".replace("{b} came", "Their friend {b} came"),
        a=a, b=b, x=count(rng.randint(2, 9), one[0]), y=count(rng.randint(2, 9), two[0]), one=plural(one[0]), two=plural(two[0]), c1=one[1],
        c2=two[1], z=NUMBERS[rng.randint(3, 12)], dish="cake" if kind == "fruit" else "soup",
    )  # fmt: skip


def mishap(rng: Random) -> str:
    """A cause and its effect in somebody's life, and what was learned."""
    a = Person(rng)
    b = Person(rng, a)
    did, then, told, end = rng.choice([
        ("{a} dropped a glass on the stone floor", "It broke", "Glass breaks when it falls", "They swept the floor with a broom"),
        ("{a} left the ice in the sun", "It melted", "Ice melts in the sun", "They drank the cold water"),
        ("{a} forgot to water the flower", "It died", "A plant needs water", "They planted a new seed"),
        ("{a} went out in the rain without an umbrella", "{a.he} got wet", "An umbrella keeps you dry", "{a} dried {a.his} hair with a towel"),
        ("{a} touched the hot stove", "{a.he} burned {a.his} hand", "A stove is hot", "{a} held {a.his} hand in cold water"),
        ("{a} ate too many sweets", "{a.his} tooth hurt", "Too many sweets are bad for the teeth", "The dentist helped {a.him}"),
        ("{a} walked through the mud", "{a.his} shoes got dirty", "Mud makes shoes dirty", "They cleaned the shoes"),
        ("{a} went out in the snow without a coat", "{a.he} caught a cold", "A coat keeps you warm", "{a} stayed in bed and drank hot tea"),
        ("{a} stayed awake all night", "{a.he} was very tired", "Children must sleep at night", "{a} went to bed early"),
        ("{a} left the door open", "The dog ran away", "Close the door when you go", "They found the dog at the {place}"),
        ("{a} poured too much milk into the cup", "It spilled", "Pour slowly", "They cleaned the table"),
        ("{a} did not eat breakfast", "{a.he} felt hungry at school", "Eat before you go", "{b} shared an apple with {a.him}"),
    ])  # fmt: skip
    return fill(
        rng, WHEN + ", " + did + ". " + then + "[|!|, of course]. [\"Oh no!\" said {a}.|{a} was sad.|{a} began to cry.] [{a.his} mother said|{b} said|"
        "{a.his} father came and said]: \"[Do not worry.|Do not cry.|It is all right.] " + told + ".\" " + end + ". [From then on, {a} was careful.|{a} "
        "never did it again.|{a} learned something that day.|Then {a} smiled again.]",
        a=a, b=b,
    )  # fmt: skip


def at_work(rng: Random) -> str:
    """A day of somebody with a job."""
    a = Person(rng)
    job, does, where, tool = rng.choice(JOBS)
    return fill(
        rng, "{a} is a {job}. [Every day|Each morning|From Monday to Friday] {a.he} [goes to|works at] the {where}. {a.he} {does}. [For this work "
        "{a.he} needs {tool}.|{a.he} never forgets the {tool}.|] [{a} likes this work.|The work is hard, but {a} likes it.|\"I love my work,\" "
        "says {a}.] [In the evening {a.he} goes home and [reads|sleeps|cooks soup|sits in the garden].|On Sunday {a.he} rests.|{a.his} "
        "children want to be {job2} too.]".replace("{tool}", "{tool}"),
        a=a, job=job, where=where, does=does, tool=tool if tool.endswith(("s", "r", "e")) and tool not in ("tractor", "needle", "plane") else "the " + tool,
        job2=plural(job),
    ).replace("the the", "the")  # fmt: skip


def compare(rng: Random, training: bool = True) -> str:
    """Three people in an order, from two comparisons."""
    a = Person(rng)
    b = Person(rng, a)
    c = Person(rng, a, b)
    low, high, low_most, high_most = rng.choice([
        ("smaller", "taller", "smallest", "tallest"), ("younger", "older", "youngest", "oldest"), ("slower", "faster", "slowest", "fastest"),
        ("weaker", "stronger", "weakest", "strongest"),
    ])  # fmt: skip
    first = rng.choice([f"{a} is {high} than {b}.", f"{b} is {low} than {a}."])
    second = rng.choice([f"{b} is {high} than {c}.", f"{c} is {low} than {b}."])
    pair = [first, second] if rng.random() < 0.5 else [second, first]
    ends = [f"So {a} is the {high_most}", f"So {c} is the {low_most}"]
    text = fill(
        rng,
        f"[{a}, {b} and {c} are [friends|in one class|neighbours]. |]"
        + " ".join(pair)
        + f" {rng.choice(ends)} of the three.",
    )
    return text


def painting(rng: Random) -> str:
    """Somebody mixes paint or draws things in their colours."""
    a = Person(rng)
    b = Person(rng, a)
    one, two, result = rng.choice([("red", "blue", "purple"), ("red", "yellow", "orange"), ("blue", "yellow", "green"),
                                   ("black", "white", "grey"), ("red", "white", "pink")])  # fmt: skip
    if rng.random() < 0.5:
        one, two = two, one
    thing = {"purple": "plum", "orange": "pumpkin", "green": "frog", "grey": "cloud", "pink": "flower"}[result]
    return fill(
        rng, "{a} wanted to paint a {thing}, but {a.he} had no {result} paint. {a.he} had only {one} paint and {two} paint. [{b} said|{a.his} "
        "teacher said|{b} had an idea and said]: \"Mix {one} and {two}.\" {a} mixed {one} and {two} and got {result}. [Now {a} could paint the {thing}.|"
        "\"It works!\" said {a}.] [The {thing} was {result} and beautiful.|{a} hung the picture in {a.his} room.|{a} gave the picture to {b}.]",
        a=a, b=b, one=one, two=two, result=result, thing=thing,
    )  # fmt: skip


def seasons(rng: Random) -> str:
    """What children do in a season."""
    a = Person(rng)
    b = Person(rng, a)
    season, weather, event, todo = rng.choice(SEASONS)
    return fill(
        rng, "It was {season}. [The weather was {weather}, and|Every day] {event}. ".replace("{event}", {"snow falls": "snow fell", "flowers open": "flowers "
        "opened", "the sun shines long": "the sun shone long", "leaves fall": "leaves fell"}[event]) + "{a} and {b} [wanted to|went to the {outdoors} to] {todo}. "
        "[They took {thing} with them.|They called their friends.|] [It was a lot of fun.|They stayed until it got dark.|\"I love {season},\" said {a}.] "
        "[Then they went home and drank hot tea.|In the evening they were tired but happy.|{b} said: \"{season} is the best time of the year.\"]",
        a=a, b=b, season=season, weather=weather, todo=todo,
        outdoors=rng.choice(OUTDOORS[:6]), thing=rng.choice(["a basket", "warm coats", "some apples", "a ball", "a map"]),
    )  # fmt: skip


def journey(rng: Random) -> str:
    """A journey with a way to travel, a place and what was seen there."""
    a = Person(rng)
    b = Person(rng, a)
    animal = rng.choice(ANIMALS)
    place = rng.choice([*OUTDOORS, "zoo", "village", "town", "museum"])
    rides = ["bus", "train", "bike", "car"] + (["boat"] if place in ("lake", "beach", "river") else [])
    return fill(
        rng, WHEN + ", {a} and {b} went to the {place} by {ride}. [The way was long|It was not far|They sang on the way]. At the {place} they saw a "
        "{animal}[| in a {home}]. [\"Look!\" said {a}. \"It can {skill}.\"|\"What does it eat?\" asked {b}. \"It eats {food},\" said {a}.] [{b} took a photo "
        "with {b.his} camera.|They sat down and ate {fruit}.|Then it began to rain, and they ran home.] [In the evening they came back by {ride}.|They "
        "were tired, but happy.|\"We will come again,\" said {b}.]",
        a=a, b=b, place=place, ride=rng.choice(rides), animal=animal[0], home=animal[2], skill=animal[7], food=animal[3],
        fruit=plural(rng.choice([f[0] for f in FOODS if f[4] == "fruit"])),
    )  # fmt: skip


def week(rng: Random) -> str:
    """A promise for a later day of the week."""
    a = Person(rng)
    b = Person(rng, a)
    i, step = rng.randrange(7), rng.choice([1, 1, 2])
    gap = "tomorrow" if step == 1 else "in two days"
    todo = rng.choice(
        [
            "visit you",
            "bring the book back",
            "go to the zoo with you",
            "bake a cake",
            "help you in the garden",
            "play with you",
        ]
    )
    return fill(
        rng, "Today is {d1}. {a} said to {b}: \"I will {todo} {gap}.\" {b} [thought about it|counted the days]. {gap} it will be {d2}. [On {d2}, "
        "{a} came.|{b} waited for {d2}.] [{a} kept the promise.|\"I knew that you would come on {d2},\" said {b}.|They had a good time.]",
        a=a, b=b, d1=DAYS[i], d2=DAYS[(i + step) % 7], gap=gap, todo=todo,
    )  # fmt: skip


def cause_story(rng: Random) -> str:
    """A child asks why, and gets a cause as the answer."""
    a = Person(rng)
    b = Person(rng, a)
    (c1, e1), (c2, e2) = rng.sample([(c, e) for c, e in CAUSES], 2)
    return fill(
        rng, "[{a} and {b} talked about the world.|{a} asked {b} many questions.|In school, {a} listened to the teacher.] \"What happens if {c1}?\" asked "
        "{a}. \"If {c1}, {e1},\" said [{b}|the teacher]. \"And what happens if {c2}?\" [{b} laughed.|] \"Then {e2}.\" [{a} wrote it down.|Now {a} knew "
        "more than before.|\"That is true,\" said {a}.]",
        a=a, b=b, c1=c1, e1=e1, c2=c2, e2=e2,
    )  # fmt: skip


PLOTS: list[Story] = [
    put_away, put_away, moved, moved, lost, gift, gift, sums, sums, sums, animal_hungry, animal_hungry, animal_skill, rescue, needs_tool, needs_tool,
    market, mishap, mishap, at_work, compare, painting, seasons, journey, week, cause_story,
]  # fmt: skip
