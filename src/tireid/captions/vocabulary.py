"""The words of captions and what each of them means.

Tables map a value to the words for it, singular, without hyphens; plurals are added.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

_COLORS = {
    "black": "jet black, blackish",
    "white": "off white, whitish",
    "grey": "gray, greyish, grayish, greying, graying, neutral colored",
    "red": "reddish, crimson, scarlet",
    "dark red": "maroon, burgundy, wine, wine red",
    "blue": "bluish, royal blue, cobalt",
    "dark blue": "navy, navy blue, indigo",
    "light blue": "sky blue, baby blue",
    "green": "greenish, lime, lime green, neon green, mint, mint green",
    "dark green": "olive, olive green, army green",
    "teal": "turquoise, aqua, cyan",
    "yellow": "yellowish, mustard",
    "orange": "orangish, rust, coral, peach",
    "pink": "pinkish, rose, hot pink, salmon, fuchsia",
    "purple": "purplish, violet, lavender, lilac, magenta, plum",
    "brown": "brownish, chestnut, chocolate",
    "beige": "tan, khaki, cream, ivory, camel, cream colored, sand colored",
    "gold": "golden",
    "silver": "",
    "colorful": "multicolored, multi colored, multicolor, rainbow, multiple colors",
}
_SHADES = {"dark": "dark, deep", "light": "light, pale", "": "bright, neon, vivid, pastel"}
_VAGUE = {
    "dark": "dark colored",
    "light": "light colored, pale",
    "bright": "brightly colored, bright colored, neon",
}
_HAIR_COLORS = {
    "blonde": "blond, platinum, fair",
    "brown": "brunette",
    "red": "ginger, auburn, redheaded",
    "grey": "silver haired, gray haired, grey haired",
}
_ADJECTIVES = {
    "pattern": {
        "striped": "stripped, pinstriped, horizontally striped",
        "checked": "plaid, checkered, chequered, flannel, gingham, tartan",
        "floral": "flowered, flowery, floral print, flower print",
        "dotted": "polka dotted, spotted",
        "camouflage": "camo, camouflaged",
        "animal print": "leopard print, leopard, zebra print",
        "print": "printed",
        "patterned": "",
        "two-tone": "two tone, two toned, color block, color blocked",
        "plain": "solid, solid colored, solid color",
    },
    "sleeves": {
        "long": "long sleeve, long sleeved, long sleeves, full sleeve, full sleeved, longsleeve",
        "short": "short sleeve, short sleeved, short sleeves, half sleeve, half sleeved,"
        " shortsleeve, shortsleeved, cap sleeve",
        "sleeveless": "sleeve less",
    },
    "length": {
        "short": "above the knee, thigh length, mini",
        "medium": "medium length, shoulder length, chin length, neck length, mid length",
        "knee-length": "knee length, to the knee, to her knees, to his knees, below the knee,"
        " calf length, knee high",
        "long": "full length, ankle length, floor length, waist length, longer, to the ankle,"
        " to her ankles, to his ankles, to the floor",
    },
    "style": {
        "loose": "loose, worn down, down, worn loose",
        "straight": "",
        "curly": "wavy, curled",
        "tied back": "tied back, pulled back, tied up, pulled up, put up, tied, up, pinned up,"
        " slicked back",
    },
    "build": {
        "slim": "slender, thin, skinny, lean, petite",
        "heavy": "heavyset, heavy set, stocky, plump, fat, overweight, chubby, large, husky",
    },
    "height": {"tall": ""},
    "age": {
        "young": "younger, youthful, teenage, 20s, twenties, 30s, thirties",
        "middle-aged": "middle aged, middle age, 40s, forties, 50s, fifties",
        "old": "elderly, older, aged, senior, 60s, sixties, 70s, seventies",
    },
}
# Nouns of patterns, which may end what is said of a garment: "with white stripes".
_DETAILS = {
    "striped": "stripe, pinstripe",
    "checked": "check, checker",
    "floral": "flower",
    "dotted": "polka dot, dot",
    "print": "print, graphic, logo, picture, design, lettering, letter, writing, text, word,"
    " emblem, slogan, number, image, cartoon, drawing",
    "patterned": "pattern",
    "two-tone": "lower half, bottom half, upper half, top half",
}
_STYLE_NOUNS = {
    "ponytail": "pony tail, ponytailed, pigtail, pig tail",
    "bun": "top knot",
    "braid": "braided, plait",
}
_THINGS = {
    "upper": {
        "t-shirt": "t shirt, tshirt, tee shirt, teeshirt, tee",
        "shirt": "button up shirt, button down shirt, button up, button down, collared shirt,"
        " dress shirt, buttoned shirt, oxford shirt, button shirt, undershirt",
        "blouse": "buttoned blouse, tunic",
        "polo shirt": "polo, polo t shirt",
        "tank top": "tank, vest top, camisole, cami, halter top, singlet, tube top",
        "sweater": "pullover, jumper, knit sweater, sweat shirt, sweatshirt, turtleneck",
        "hoodie": "hooded sweatshirt, hooded top, hoody, hooded sweater",
        "jacket": "zip up jacket, hooded jacket, denim jacket, leather jacket, jean jacket,"
        " windbreaker, puffer jacket, puffy jacket, down jacket, bomber jacket, sports jacket",
        "coat": "overcoat, trench coat, rain coat, raincoat, parka, peacoat, pea coat, winter coat",
        "vest": "waistcoat, puffer vest, safety vest, down vest",
        "dress": "one piece dress, sundress, sun dress, gown, maxi dress, mini dress, minidress",
        "cardigan": "knit cardigan, shrug, cardigan sweater",
        "blazer": "suit jacket, sport coat, sports coat, suit coat, dress jacket, blazer jacket,"
        " business jacket, formal jacket",
        "suit": "business suit, tuxedo",
        "jumpsuit": "overall, romper, dungarees, jump suit",
        "jersey": "sports shirt, sport shirt, basketball jersey",
        "top": "upper garment, upper body garment, crop top",
    },
    "lower": {
        "trousers": "trouser, pants, pant, slacks, long pants, khakis, dress pants, cargo pants,"
        " sweatpants, sweat pants, track pants, jogging pants, joggers, suit pants, yoga pants,"
        " dress slacks",
        "jeans": "jean, denim jeans, denim pants, denims, jean pants, skinny jeans",
        "shorts": "short pants, denim shorts, jean shorts, cargo shorts, bermuda shorts, trunks,"
        " bike shorts, swim trunks, jeans shorts",
        "skirt": "denim skirt, mini skirt, miniskirt, pencil skirt",
        "leggings": "legging, tights, stockings",
        "capris": "capri, capri pants, cropped pants, cropped trousers, three quarter pants,"
        " 3 4 pants, three quarter length pants, cropped jeans",
        "bottoms": "lower garment, pair of bottoms",
    },
    "outfit": {"clothes": "clothing, outfit, uniform, attire, ensemble, garment"},
    "shoes": {
        "sneakers": "sneaker, trainers, running shoes, sports shoes, sport shoes, tennis shoes,"
        " athletic shoes, gym shoes, high tops, high top sneakers, converse, canvas shoes,"
        " sneekers",
        "leather shoes": "dress shoes, formal shoes, loafers, oxfords, leather shoe,"
        " business shoes",
        "boots": "boot, ankle boots, combat boots, rain boots",
        "sandals": "sandal, open sandals, open toed shoes, open toe shoes, sandles",
        "flip flops": "flip flop, flipflops, slippers, slipper, slides",
        "high heels": "high heel, heels, high heeled shoes, heeled shoes, high heel shoes,"
        " pumps, stilettos, wedges",
        "flats": "ballet flats, flat shoes, ballerinas, slip on shoes",
        "shoes": "shoe, footwear, shoes",
    },
    "bag": {
        "backpack": "rucksack, back pack, knapsack, book bag, bookbag, school bag, bagpack,"
        " schoolbag",
        "shoulder bag": "crossbody bag, cross body bag, crossbody, messenger bag, satchel,"
        " sling bag, messenger, side bag, shoulderbag",
        "handbag": "purse, hand bag, clutch, pocketbook, pocket book",
        "tote": "tote bag",
        "shopping bag": "plastic bag, carrier bag, paper bag, grocery bag, gift bag",
        "suitcase": "luggage, trolley, trolley case, rolling bag, rolling suitcase, suit case",
        "briefcase": "brief case, laptop bag, computer bag",
        "duffel bag": "duffle bag, gym bag, sports bag, travel bag, duffel, duffle",
        "waist bag": "fanny pack, waist pack, belt bag, hip bag",
        "bag": "",
    },
    "hat": {
        "cap": "baseball cap, ball cap, baseball hat, trucker hat",
        "beanie": "knit cap, knitted hat, knit hat, winter hat, wool hat, stocking cap",
        "sun hat": "sunhat, wide brimmed hat, brimmed hat, straw hat, bucket hat",
        "helmet": "",
        "hat": "headgear, fedora, visor",
    },
    "glasses": {
        "glasses": "glass, eyeglasses, eye glasses, spectacles, eyewear, reading glasses",
        "sunglasses": "dark glasses, shades, sun glasses",
    },
    "held": {
        "phone": "cell phone, cell, mobile phone, smartphone, cellphone, mobile, smart phone,"
        " iphone",
        "umbrella": "open umbrella, parasol",
        "bottle": "water bottle, drink bottle, bottle of water",
        "book": "notebook",
        "cup": "coffee cup, paper cup, mug, drink, coffee, can",
        "bicycle": "bike, cycle",
        "stroller": "pram, pushchair, baby carriage",
        "papers": "paper, newspaper, magazine, document, folder, binder, file, envelope",
        "camera": "",
        "tablet": "ipad, laptop, computer",
        "box": "package, parcel, carton",
        "food": "snack, ice cream, sandwich",
        "cart": "shopping cart, trolley cart",
    },
    "accessory": {
        "scarf": "scarves, shawl, neck scarf, head scarf, headscarf, bandana",
        "tie": "necktie, neck tie, bow tie, bowtie",
        "belt": "waist belt",
        "watch": "wristwatch, wrist watch, watches",
        "socks": "sock, ankle socks, knee socks",
        "gloves": "glove, mittens",
        "headphones": "headphone, earphones, earbuds, ear buds, head phones",
        "mask": "face mask",
        "jewelry": "jewellery, bracelet, necklace, earring, ring",
        "lanyard": "id card, badge, name tag",
        "headband": "head band, hair band, hairband",
    },
}
# What takes the adjectives before it and says nothing else here.
_PARTS = (
    "sole, strap, trim, lace, shoelace, button, zipper, zip, collar, cuff, hood, pocket, handle,"
    " accent, lining, edge, sleeve, toe, buckle, detail, fabric, material, skin, face, beard, arm,"
    " leg, eye, mustache, moustache, goatee, undershirt sleeve, knee, neck, v neck, neckline,"
    " waist, bottom part, brim, bow, line, border, piping, tip, complexion, wheel, screen"
)
_BODY = "shoulder, back, hand, head, wrist, body"
_SEXES = {
    "man": "guy, male, gentleman, men, gentlemen, fellow",
    "woman": "lady, female, women, ladies",
}
_OTHERS = "person, pedestrian, figure, individual, adult, people, someone"
_SIGNS = {
    "copula": "is, are, was, were, appears, appear, looks, seems, seem, which, that, goes,"
    " reaches, reaching, falls, ends, dyed",
    "with": "with, featuring, having, has, have, had, also, wears, wearing, wear, wore, carrying,"
    " carries, carry, holding, holds, hold, dressed, clothed, clad, sporting, sports, on, over,"
    " underneath, under, beneath, walking, standing, wering, waering, but, while, who",
    "not": "not, no, without, never, neither, isnt, doesnt, hasnt, nothing, none, cannot, lacks,"
    " lacking, minus, free of",
    "or": "or, nor",
    "and": "and, n, plus",
    "in": "in",
    "seen": "visible, seen, shown, showing, clear, visable, see",
}
# Words with a second meaning, where it is that one.
_NOTHING = (
    "color, colored, colour, in color, on top, on top of, light weight, lightweight, back of,"
    " the back, facing back, back view, down the street, looking down, walking down, down to,"
    " down at, facing down, button down front, up front, looking up, rolled up, zipped up,"
    " buttoned up, up to, out of, tied around, t shaped, as well, well lit, hair tie,"
    " straight ahead,"
    " short time, picture of, image of, word of, number of, in the picture, in the image, in front,"
    " the camera, the picture, zip up, button up front, lace up, in the back, in back,"
    " hanging down, comes down, pair of, can be, tucked in, tucked in at the waist, tucked into,"
    " tucked into the waist, in the middle, in the center, wide leg, wide legged"
)


class Meaning(NamedTuple):
    """What a word or phrase means: its role in the sentence, an attribute or slot, a value."""

    role: str
    name: str
    value: str


def _rows() -> dict[str, Meaning]:
    """Return the meaning of each phrase; later tables take precedence."""
    found: dict[str, Meaning] = {}

    def add(words: str, meaning: Meaning, *, plural: bool = True) -> None:
        for phrase in filter(None, words.split(", ")):
            phrase = phrase.strip()
            found[phrase] = meaning
            if plural:
                found.setdefault(_plural(phrase), meaning)

    for name, values in _ADJECTIVES.items():
        for value, words in values.items():
            add(f"{value.replace('-', ' ')}, {words}", Meaning("adjective", name, value))
    _add_colors(add)
    for value, words in _DETAILS.items():
        add(words, Meaning("detail", "pattern", value))
    for value, words in _STYLE_NOUNS.items():
        add(f"{value}, {words}", Meaning("hair", "style", value))
    add("haired", Meaning("haired", "", ""), plural=False)
    add("hair, hairs, hairstyle, haircut, hairdo", Meaning("hair", "", ""))
    add("bald, balding, shaved head, bald head, bald headed", Meaning("hair", "length", "bald"))
    for slot, kinds in _THINGS.items():
        for kind, words in kinds.items():
            add(f"{kind.replace('-', ' ')}, {words}", Meaning("thing", slot, kind))
    add(_PARTS, Meaning("part", "", ""))
    add(_BODY, Meaning("body", "", ""))
    for sex, words in _SEXES.items():
        add(f"{sex}, {words}", Meaning("person", sex, ""))
    for sex, pronouns, young in (
        ("man", ("he", "his, him"), "boy"),
        ("woman", ("she", "her, hers"), "girl"),
    ):
        add(pronouns[0], Meaning("person", f"{sex}?", ""), plural=False)
        add(pronouns[1], Meaning("owner", sex, ""), plural=False)
        add(young, Meaning("person", sex, "young"))
    add(_OTHERS, Meaning("person", "", ""))
    add("child, kid, toddler, children", Meaning("person", "", "child"))
    add("little boy", Meaning("person", "man", "child"))
    add("little girl", Meaning("person", "woman", "child"))
    add("teenager, teen, youth", Meaning("person", "", "young"))
    for role, words in _SIGNS.items():
        add(words, Meaning(role, "", ""), plural=False)
    add(_NOTHING, Meaning("nothing", "", ""), plural=False)
    return found


def _add_colors(add: Callable[..., None]) -> None:
    for value, words in _HAIR_COLORS.items():
        add(f"{value}, {words}", Meaning("adjective", "hair_color", value), plural=False)
    for color, words in _COLORS.items():
        for word in filter(None, [color, *words.split(", ")]):
            meaning = Meaning("adjective", "color", color)
            add(word, meaning, plural=False)
            add(f"{word} colored", meaning, plural=False)
            for shade, shades in _SHADES.items():
                shaded = color.removeprefix("dark ").removeprefix("light ")
                value = f"{shade} {shaded}".strip() if shade else color
                for name in shades.split(", "):
                    add(f"{name} {word}", Meaning("adjective", "color", value), plural=False)
    for color, words in _VAGUE.items():
        add(f"{color}, {words}", Meaning("adjective", "color", color), plural=False)


def _plural(phrase: str) -> str:
    if phrase.endswith(("s", "x", "ch", "sh")):
        return phrase + "es"
    if phrase.endswith("y") and phrase[-2:-1] not in "aeou":
        return phrase[:-1] + "ies"
    return phrase + "s"


Entry = tuple[tuple[str, ...], Meaning]


def _lexicon() -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for phrase, meaning in _rows().items():
        first, *rest = phrase.split()
        found.setdefault(first, []).append((tuple(rest), meaning))
    for entries in found.values():
        entries.sort(key=lambda entry: -len(entry[0]))
    return found


LEXICON: dict[str, list[Entry]] = _lexicon()
"""By first word: the words after it and what they mean together, the longest first."""
PATTERNS = frozenset(_ADJECTIVES["pattern"])
SLEEVES = frozenset(_ADJECTIVES["sleeves"])
LENGTHS = frozenset(_ADJECTIVES["length"])
GENERIC = frozenset({"top", "bottoms", "clothes", "shoes", "bag", "hat"})
"""The widest kind of each slot."""
COLORS: frozenset[str] = frozenset(
    entry.value
    for entries in LEXICON.values()
    for _, entry in entries
    if entry.name in ("color", "hair_color")
)


def _outline(word: str) -> str:
    """Return what two spellings share that differ in doubled or swapped letters inside."""
    inside = sorted(word[1:-1])
    kept = (a for a, b in zip(inside, [*inside[1:], ""], strict=True) if a != b)
    return f"{word[0]}{''.join(kept)}{word[-1]}"


_SHORTEST = 5  # letters of a word whose spelling is guessed
_OUTLINES = {_outline(word): word for word in LEXICON if len(word) >= _SHORTEST}


@lru_cache(maxsize=2**14)
def respelled(word: str) -> str:
    """Return the word of the vocabulary that is probably meant by a mistyped one, else itself."""
    if len(word) < _SHORTEST:
        return word
    return _OUTLINES.get(_outline(word), word)
