"""The words of captions, by what they mean.

Tables map a value to the words for it, singular, without hyphens.
"""

COLORS = {
    "black": "jet black, blackish",
    "white": "off white, whitish",
    "grey": "gray, greyish, grayish, greying, graying, neutral colored",
    "red": "reddish, crimson, scarlet",
    "dark red": "maroon, burgundy, wine, wine red",
    "blue": "bluish, royal blue, cobalt",
    "dark blue": "navy, navy blue, indigo",
    "light blue": "sky blue, baby blue",
    "green": "greenish, lime, lime green, neon green, mint, mint green",
    "dark grey": "charcoal, charcoal grey, charcoal gray, slate grey, slate gray",
    "dark green": "bottle green, forest green, olive, olive green, army green",
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
SHADES = {
    "dark": "dark, deep, darker",
    "light": "light, pale, lighter",
    "": "bright, neon, vivid, pastel",
}
VAGUE = {
    "dark": "darker, dark colored",
    "light": "lighter, light colored, pale",
    "bright": "brightly colored, bright colored, neon",
}
HAIR_COLORS = {
    "blonde": "blond, platinum, fair",
    "brown": "brunette",
    "red": "ginger, auburn, redheaded, redhead",
    "grey": "silver haired, gray haired, grey haired",
}
ADJECTIVES = {
    "pattern": {
        "striped": "stripy, stripey, stripped, pinstriped, horizontally striped",
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
        "long": "long sleeve, long sleeved, long sleeves, full sleeve, full sleeves,"
        " full sleeved,"
        " longsleeve",
        "short": "short sleeve, short sleeved, short sleeves, half sleeve, half sleeves,"
        " half sleeved,"
        " shortsleeve, shortsleeved, cap sleeve, cap sleeves",
        "sleeveless": "sleeve less",
    },
    "length": {
        "short": "above the knee, above the knees, thigh length, mini",
        "medium": "medium length, shoulder length, chin length, neck length, mid length",
        "knee-length": "knee length, to the knee, to the knees, to her knees, to his knees,"
        " down to the knee,"
        " down to her knees, down to his knees, below the knee, below the knees,"
        " calf length, knee high",
        "long": "full length, ankle length, floor length, waist length, longer, to the ankle,"
        " to the ankles,"
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
DETAILS = {
    "striped": "stripe, pinstripe",
    "checked": "check, checker",
    "floral": "flower",
    "dotted": "polka dot, dot",
    "print": "print, graphic, logo, picture, design, lettering, letter, writing, text, word,"
    " emblem, slogan, number, image, cartoon, drawing",
    "patterned": "pattern",
    "two-tone": "lower half, bottom half, upper half, top half",
}
# What a wider kind becomes by an adjective that may stand apart from its noun, as in "flat black
# shoes": the kinds, and the words.
CUTS = {
    "capris": ("trousers, jeans", "cropped, three quarter length, 3 4 length"),
    "flats": ("shoes", "flat"),
    "high heels": ("shoes", "high heeled, heeled"),
    "hoodie": ("sweater, top", "hooded"),
    "shopping bag": ("bag", "plastic"),
}
STYLE_NOUNS = {
    "ponytail": "pony tail, ponytailed, pigtail, pig tail",
    "bun": "top knot",
    "braid": "braided, plait",
}
THINGS = {
    "upper": {
        "t-shirt": "t shirt, tshirt, tee shirt, teeshirt, tee",
        "shirt": "button up shirt, button down shirt, button up, button down, collared shirt,"
        " dress shirt, buttoned shirt, oxford shirt, button shirt, undershirt, henley",
        "blouse": "buttoned blouse, tunic",
        "polo shirt": "polo, polo t shirt",
        "tank top": "tank, vest top, strappy top, camisole, cami, halter top, singlet, tube top",
        "sweater": "pullover, jumper, knit sweater, sweat shirt, sweatshirt, turtleneck",
        "hoodie": "hooded sweatshirt, hooded top, hoody, hooded sweater",
        "jacket": "zip up jacket, hooded jacket, denim jacket, leather jacket, jean jacket,"
        " windbreaker, puffer jacket, puffy jacket, down jacket, bomber jacket, sports jacket,"
        " puffa jacket, anorak, fleece, fleece jacket",
        "coat": "overcoat, trench coat, rain coat, raincoat, parka, peacoat, pea coat,"
        " winter coat,"
        " mackintosh, mac, duffle coat, cape, poncho",
        "vest": "waistcoat, puffer vest, safety vest, down vest, gilet, body warmer, "
        " hi vis vest, high vis vest, high visibility vest",
        "dress": "one piece dress, sundress, sun dress, gown, maxi dress, mini dress,"
        " minidress, sweater dress, jumper dress, shirt dress, pinafore, pinafore dress",
        "cardigan": "knit cardigan, shrug, cardigan sweater",
        "blazer": "suit jacket, sport coat, sports coat, suit coat, dress jacket, blazer jacket,"
        " business jacket, formal jacket",
        "suit": "business suit, tuxedo, trouser suit, track suit, tracksuit, jogging suit",
        "jumpsuit": "overall, romper, dungarees, jump suit",
        "jersey": "sports shirt, sport shirt, basketball jersey",
        "top": "upper garment, upper body garment, crop top",
    },
    "lower": {
        "trousers": "trouser, pants, pant, slacks, long pants, khakis, dress pants, cargo pants,"
        " sweatpants, sweat pants, track pants, jogging pants, joggers, suit pants, yoga pants,"
        " dress slacks, chinos, corduroys, cords, culottes, tracksuit bottoms, jogging bottoms",
        "jeans": "jean, denim jeans, denim pants, denims, jean pants, skinny jeans",
        "shorts": "short pants, denim shorts, jean shorts, cargo shorts, bermuda shorts, trunks,"
        " bike shorts, swim trunks, jeans shorts",
        "skirt": "denim skirt, jean skirt, mini skirt, miniskirt, pencil skirt, kilt",
        "leggings": "legging, tights, stockings, jeggings, pantyhose",
        "capris": "capri, capri pants, cropped pants, cropped trousers, three quarter pants,"
        " 3 4 pants, three quarter length pants, cropped jeans",
        "bottoms": "lower garment, pair of bottoms",
    },
    "outfit": {"clothes": "clothing, outfit, uniform, attire, ensemble, garment"},
    "shoes": {
        "sneakers": "sneaker, trainers, running shoes, sports shoes, sport shoes, tennis shoes,"
        " athletic shoes, gym shoes, high tops, high top sneakers, converse, canvas shoes,"
        " sneekers, plimsolls, pumas",
        "leather shoes": "dress shoes, formal shoes, loafers, oxfords, leather shoe,"
        " business shoes, brogues",
        "boots": "boot, ankle boots, combat boots, rain boots, wellies, wellingtons,"
        " wellington boots",
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
        "handbag": "purse, hand bag, clutch, clutch bag, pocketbook, pocket book",
        "tote": "tote bag",
        "shopping bag": "plastic bag, carrier bag, paper bag, grocery bag, gift bag",
        "suitcase": "luggage, trolley, trolley case, rolling bag, rolling suitcase, suit case",
        "briefcase": "brief case, laptop bag, computer bag",
        "duffel bag": "duffle bag, gym bag, sports bag, travel bag, duffel, duffle, holdall",
        "waist bag": "fanny pack, waist pack, belt bag, hip bag, bum bag, bumbag",
        "bag": "",
    },
    "hat": {
        "cap": "baseball cap, ball cap, flat cap, baseball hat, trucker hat",
        "beanie": "knit cap, knitted hat, knit hat, winter hat, wool hat, woolly hat, bobble hat,"
        " stocking cap",
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
        "cart": "shopping cart, shopping trolley, trolley cart",
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
        "jewelry": "jewellery, bracelet, necklace, earring, ring, chain, pendant, bangle",
        "lanyard": "id card, badge, name tag",
        "headband": "head band, hair band, hairband",
    },
}
# What takes the adjectives before it and says nothing else here.
PARTS = (
    "sole, strap, trim, lace, shoelace, button, zipper, zip, collar, cuff, hood, pocket, handle,"
    " accent, lining, edge, sleeve, toe, buckle, detail, fabric, material, skin, face, beard,"
    " arm,"
    " leg, eye, mustache, moustache, goatee, undershirt sleeve, knee, neck, neckline,"
    " waist, bottom part, brim, hem, bow, line, border, piping, tip, complexion, wheel, screen"
)
BODY = "shoulder, back, hand, head, wrist, body, side"
SEXES = {
    "man": "guy, male, gentleman, men, gentlemen, fellow, bloke, chap, businessman, workman",
    "woman": "lady, female, women, ladies, gal, businesswoman",
}
OTHERS = "person, pedestrian, figure, individual, adult, people, someone"
SIGNS = {
    "copula": "is, are, was, were, appears, appear, looks, seems, seem, goes,"
    " reaches, reaching, falls, ends, dyed",
    "with": "with, featuring, having, has, have, had, also, wears, wearing, wear, wore, carrying,"
    " carries, carry, holding, holds, hold, dressed, clothed, clad, sporting, sports, on, over,"
    " underneath, under, beneath, walking, standing, wering, waering, while, who",
    "but": "but",
    "relative": "which, that, whom",
    "by": "by",
    "near": "at, near, around, from, along, across",
    "pronoun": "it, them, one, ones",
    "article": "a, an, the, this, these, those, some, another",
    "function": "of, to, for, as, both, all, very, too, than, its, their, whose, so, be, been,"
    " being,"
    " there, stop, stops, stopped, table, tables",
    "not": "not, no, without, never, neither, isnt, arent, doesnt, hasnt, nothing, none,"
    " cannot, lacks,"
    " lacking, minus, free of",
    "or": "or, nor",
    "and": "and, n, plus",
    "in": "in",
    "seen": "visible, seen, shown, showing, clear, visable, see",
}
# Words with a second meaning, where it is that one.
NOTHING = (
    "color, colored, in color, the color, the color of, the same color, the same color as,"
    " not only,"
    " walking stick, leather, denim, cotton, wool, woollen, silk, suede, velvet, corduroy, tweed,"
    " linen, canvas, fur, made of, v neck, v necked, crew neck, round neck, scoop neck, on top,"
    " on top of, light weight, lightweight, back of,"
    " the back, facing back, back view, down the street, looking down, walking down, down to,"
    " down at, facing down, button down front, up front, looking up, rolled up, zipped up,"
    " buttoned up, up to, out of, tied around, t shaped, as well, well lit, hair tie,"
    " straight ahead,"
    " short time, picture of, image of, word of, number of, in the picture, in the image,"
    " in front,"
    " bald patch, hi vis, at the camera, facing the camera, from the camera, to the camera,"
    " toward the camera, towards the camera, of the camera, the picture, zip up,"
    " button up front, lace up, in the back, in back,"
    " hanging down, comes down, pair of, can be, tucked in, tucked in at the waist, tucked into,"
    " tucked into the waist, in the middle, in the center, wide leg, wide legged"
)
