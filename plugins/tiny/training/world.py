"""The facts of the small world: tables typed by hand, on which every text and item draws."""
# ruff: noqa: SIM905

from __future__ import annotations


def _table(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]


# animal | sound | home | food | young | legs | cover | skill | size
ANIMALS = _table("""
dog | bark | kennel | bones | puppy | four | fur | run fast | small
cat | meow | basket | fish | kitten | four | fur | climb trees | small
cow | moo | barn | grass | calf | four | hair | give milk | big
horse | neigh | stable | hay | foal | four | hair | pull a cart | big
sheep | bleat | meadow | grass | lamb | four | wool | give wool | small
pig | grunt | sty | corn | piglet | four | skin | dig in the mud | big
hen | cluck | coop | grain | chick | two | feathers | lay eggs | small
duck | quack | pond | weeds | duckling | two | feathers | swim | small
goose | honk | farmyard | grass | gosling | two | feathers | fly far | small
goat | bleat | shed | leaves | kid | four | hair | climb rocks | small
frog | croak | pond | flies | tadpole | four | skin | jump high | small
bee | buzz | hive | nectar | - | six | hair | make honey | small
lion | roar | den | meat | cub | four | fur | hunt | big
bear | growl | cave | berries | cub | four | fur | sleep all winter | big
wolf | howl | den | meat | pup | four | fur | hunt | big
mouse | squeak | hole | cheese | pup | four | fur | hide quickly | small
owl | hoot | tree | mice | owlet | two | feathers | see at night | small
crow | caw | nest | seeds | chick | two | feathers | fly | small
robin | sing | nest | worms | chick | two | feathers | fly | small
snake | hiss | hole | eggs | - | no | scales | crawl | small
fish | - | river | worms | - | no | scales | swim | small
rabbit | - | burrow | carrots | bunny | four | fur | hop | small
monkey | chatter | jungle | bananas | infant | two | hair | climb trees | small
elephant | trumpet | grassland | leaves | calf | four | skin | lift trees | big
spider | - | web | flies | - | eight | hair | spin a web | small
ant | - | anthill | crumbs | - | six | - | carry crumbs | small
penguin | - | snow | fish | chick | two | feathers | swim | small
squirrel | - | tree | nuts | - | four | fur | climb trees | small
camel | - | desert | leaves | calf | four | hair | walk far without water | big
turtle | - | pond | lettuce | - | four | a shell | swim | small
deer | - | forest | leaves | fawn | four | fur | run fast | big
fox | bark | den | mice | cub | four | fur | run fast | small
""")

# thing | what it is for | made of | where it is kept | how it is
THINGS = _table("""
knife | cut bread | metal | kitchen | sharp
spoon | eat soup | metal | kitchen | small
cup | drink tea | clay | kitchen | small
pot | cook soup | metal | kitchen | heavy
kettle | boil water | metal | kitchen | hot
oven | bake bread | metal | kitchen | hot
broom | sweep the floor | wood | hall | long
umbrella | stay dry | cloth | hall | wide
lamp | light the room | glass | bedroom | bright
key | open the door | metal | hall | small
hammer | hit nails | metal | shed | heavy
saw | cut wood | metal | shed | sharp
ladder | reach high places | wood | shed | long
shovel | dig a hole | metal | shed | heavy
rope | tie a boat | cloth | shed | long
bucket | carry water | plastic | shed | wide
needle | sew clothes | metal | bedroom | sharp
pen | write a letter | plastic | office | light
pencil | draw pictures | wood | office | light
book | read stories | paper | bedroom | heavy
chair | sit down | wood | kitchen | hard
bed | sleep | wood | bedroom | soft
clock | tell the time | metal | hall | round
phone | call a friend | plastic | office | small
soap | wash hands | - | bathroom | soft
towel | dry hands | cloth | bathroom | soft
comb | tidy hair | plastic | bathroom | small
mirror | see your face | glass | bathroom | bright
boat | cross the river | wood | harbour | long
bike | ride to school | metal | garage | light
map | find the way | paper | office | light
coat | stay warm | wool | hall | warm
scarf | warm the neck | wool | hall | soft
camera | take photos | plastic | office | small
candle | make a small light | wax | kitchen | bright
basket | carry fruit | straw | kitchen | light
net | catch fish | rope | harbour | wide
drum | make music | wood | bedroom | loud
tent | sleep outside | cloth | garage | wide
pillow | rest the head | cloth | bedroom | soft
blanket | keep warm in bed | wool | bedroom | warm
""")

# food | colour | taste | where it grows | kind
FOODS = _table("""
apple | red | sweet | on a tree | fruit
banana | yellow | sweet | on a tree | fruit
lemon | yellow | sour | on a tree | fruit
orange | orange | sweet | on a tree | fruit
cherry | red | sweet | on a tree | fruit
plum | purple | sweet | on a tree | fruit
pear | green | sweet | on a tree | fruit
strawberry | red | sweet | near the ground | fruit
blueberry | blue | sweet | on a bush | fruit
lime | green | sour | on a tree | fruit
carrot | orange | sweet | under the ground | vegetable
potato | brown | plain | under the ground | vegetable
onion | white | strong | under the ground | vegetable
tomato | red | fresh | on a vine | vegetable
cucumber | green | fresh | on a vine | vegetable
cabbage | green | plain | on the ground | vegetable
pumpkin | orange | plain | on the ground | vegetable
radish | red | strong | under the ground | vegetable
""")

# job | what is done | where | with what
JOBS = _table("""
baker | bakes bread | bakery | flour
farmer | grows corn | farm | tractor
doctor | helps sick people | hospital | medicine
teacher | teaches children | school | books
fisherman | catches fish | sea | net
pilot | flies planes | airport | plane
driver | drives the bus | road | bus
cook | cooks meals | restaurant | pots
painter | paints pictures | studio | brush
carpenter | makes tables | workshop | wood
tailor | sews clothes | shop | needle
gardener | plants flowers | garden | shovel
mechanic | repairs cars | garage | tools
librarian | lends books | library | books
firefighter | puts out fires | fire station | water
dentist | looks after teeth | clinic | mirror
postman | brings letters | post office | bag
shepherd | watches the sheep | hill | dog
sailor | sails ships | ocean | ship
miner | digs coal | mine | lamp
""")

OPPOSITES = _table("""
hot | cold
big | small
long | short
fast | slow
wet | dry
happy | sad
light | heavy
hard | soft
old | young
full | empty
open | closed
clean | dirty
loud | quiet
high | low
near | far
early | late
strong | weak
thick | thin
day | night
up | down
left | right
black | white
rich | poor
good | bad
easy | difficult
first | last
begin | end
push | pull
buy | sell
remember | forget
laugh | cry
win | lose
sweet | sour
wide | narrow
deep | shallow
sharp | blunt
true | false
asleep | awake
""")

COLOURED = _table("""
grass | green
the sky on a clear day | blue
snow | white
the sun | yellow
coal | black
blood | red
milk | white
chocolate | brown
a leaf in summer | green
the sea | blue
a ripe pumpkin | orange
a raven | black
""")

MIXES = _table("""
red | blue | purple
red | yellow | orange
blue | yellow | green
black | white | grey
red | white | pink
""")

CAPITALS = _table("""
France | Paris
Italy | Rome
Spain | Madrid
Germany | Berlin
Japan | Tokyo
China | Beijing
Egypt | Cairo
Greece | Athens
Norway | Oslo
Russia | Moscow
England | London
Peru | Lima
Cuba | Havana
Poland | Warsaw
Austria | Vienna
Ireland | Dublin
""")

# cause | effect | pool of the effect
CAUSES = _table("""
a glass falls on a stone floor | it breaks
ice lies in the warm sun | it melts
a plant gets no water | it dies
water gets very hot | it boils
water gets very cold | it freezes
you stand in the rain | you get wet
you do not eat all day | you feel hungry
you do not sleep all night | you feel tired
you do not drink all day | you feel thirsty
you touch a hot stove | you burn your hand
you eat too many sweets | your tooth hurts
you read many books | you learn a lot
you run a long way | you are out of breath
you hear a good joke | you laugh
a friend goes away for long | you feel sad
you get a nice present | you feel happy
you walk through mud | your shoes get dirty
you wash the plates | they become clean
you put sugar in the tea | it tastes sweet
the sun goes down | it gets dark
the sun comes up | it gets light
you push a swing | it moves
you drop a stone in a pond | it sinks
you blow out a candle | the light goes out
you plant a seed and water it | a flower grows
paper falls into the fire | it burns
you pour too much milk into a cup | it spills
the wind blows hard | the trees bend
you stay in the cold without a coat | you catch a cold
""")

SENSES = _table("""
see | eyes
hear | ears
smell | nose
taste | tongue
hold things | hands
walk | feet
think | brain
bite | teeth
""")

AMOUNTS = _table("""
days are in a week | seven
months are in a year | twelve
seasons are in a year | four
sides does a triangle have | three
sides does a square have | four
wheels does a bike have | two
wheels does a car have | four
fingers are on one hand | five
legs does a chair have | four
eyes does a person have | two
""")

SEASONS = _table("""
winter | cold | snow falls | make a snowman
spring | mild | flowers open | plant seeds
summer | hot | the sun shines long | swim in the lake
autumn | windy | leaves fall | fly kites
""")

KINDS = {
    "bird": "hen duck goose owl crow robin penguin",
    "insect": "bee ant",
    "animal": "dog cat cow horse sheep pig goat lion bear wolf mouse rabbit monkey elephant camel deer fox squirrel",
    "tool": "hammer saw shovel needle broom ladder",
    "flower": "rose tulip daisy",
    "city": "Paris Rome Madrid Tokyo Cairo",
}

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
PLACES = "garden park forest market school library beach farm river kitchen village town museum hill lake zoo".split()
COLOURS = "red blue green yellow white black brown orange purple pink grey".split()
TOYS = ["ball", "doll", "kite", "book", "drum", "toy car", "puzzle", "teddy bear", "whistle", "paper boat",
        "marble", "toy train", "robot", "hat", "ring", "scarf", "cup", "key", "coin", "shell"]  # fmt: skip
SPOTS = ["box", "basket", "bag", "drawer", "cupboard", "bucket", "chest", "pot", "jar", "tent", "boat", "suitcase"]
FEELINGS = ["happy", "proud", "glad", "tired", "hungry", "excited", "calm", "surprised"]
