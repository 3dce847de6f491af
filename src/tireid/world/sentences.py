"""Sentences of the captions: templates filled with phrases about one view of a person."""

from dataclasses import dataclass

from tireid.world.attributes import NONE
from tireid.world.palette import COLORS
from tireid.world.phrases import Wording, article, joined, listed
from tireid.world.subjects import subject
from tireid.world.visibility import Sight

_PLACES = {
    "street": ("along the street", "down the road", "on the pavement"),
    "wall": ("along a wall", "past a brick wall", "beside a building"),
    "shop": ("past a shop window", "in front of a store", "past the shops"),
    "grass": ("beside the grass", "along a path by the lawn", "in the park"),
    "plaza": ("across the square", "over the paved square", "in an open area"),
    "parking": ("near parked cars", "through a parking lot", "by the cars"),
    "hall": ("through a hall", "inside a building", "across the hall"),
}
_MORE_PLACES = {
    "street": ("on the sidewalk", "down the street", "along the side of the street"),
    "wall": ("near a building", "along the walkway", "next to a wall"),
    "shop": ("in a mall", "near a store", "at a shopping area"),
    "grass": ("outside", "on a walkway in the park", "outdoors"),
    "plaza": ("on the pavement", "across the open ground", "through the area"),
    "parking": ("across the street", "outdoors near some cars", "past some other cars"),
    "hall": ("in a building", "indoors across the floor", "in a room inside"),
}
_GAITS = {
    "front": ("toward the camera", "forward", "towards the viewer"),
    "back": ("away from the camera", "away from the viewer", "off into the distance"),
    "left": ("to the left", "toward the left side of the picture"),
    "right": ("to the right", "toward the right side of the picture"),
    "front_left": ("forward and to the left", "toward the camera at an angle"),
    "front_right": ("forward and to the right", "toward the camera at an angle"),
    "back_left": ("away to the left", "away from the camera at an angle"),
    "back_right": ("away to the right", "away from the camera at an angle"),
}
_MORE_GAITS = {
    "front": ("towards the camera", "straight ahead", "in the direction of the camera"),
    "back": ("with {} back to the camera", "in the opposite direction", "with the camera behind"),
    "left": ("to the left side", "from right to left"),
    "right": ("to the right side", "from left to right"),
    "front_left": ("slightly to the left", "towards the left"),
    "front_right": ("slightly to the right", "towards the right"),
    "back_left": ("to the left with {} back turned", "into the picture on the left"),
    "back_right": ("to the right with {} back turned", "into the picture on the right"),
}
_ARMS = {  # what the arms do that hold nothing, walking or not
    True: (
        "swinging {} arms",
        "with {} arms at {} sides",
        "with one foot in front of the other",
        "with {} arms bent at the elbows",
        "in mid step",
        "taking a step",
    ),
    False: (
        "with {} hands at {} sides",
        "with both arms down by {} sides",
        "with both feet together",
    ),
}


@dataclass(frozen=True)
class _Grammar:
    he: str
    his: str
    is_: str
    wears: str


def _grammar(words: Wording) -> _Grammar:
    if "sex" not in words.mentioned:
        return _Grammar("they", words.his, "are", "wear")
    he = "he" if words.person.sex == "man" else "she"
    return _Grammar(he, words.his, "is", "wears")


def _action(words: Wording, sight: Sight, *, place: bool) -> str:
    """Return what the person does, e.g. "walking away from the camera along the street"."""
    where = words.one_of(_PLACES[sight.scene], _MORE_PLACES[sight.scene]) if place else ""
    arms = ""
    if words.person.held_type == NONE and words.adds(0.04):
        arms = words.one_of(_ARMS[sight.walking]).replace("{}", words.his)
    if sight.walking:
        verb = words.one_of(("walking", "walking", "strolling", "moving"), ("going", "heading"))
        gait = words.one_of(_GAITS[sight.view], _MORE_GAITS[sight.view]).format(words.his)
        return joined(verb, gait, where, arms)
    for motion, rest in (("along", "by"), ("across", "in"), ("through", "in"), ("past", "by"),
                         ("down", "on"), ("over", "on")):  # fmt: skip
        where = where.replace(f"{motion} ", f"{rest} ")
    facing = {
        "front": ("facing the camera", "looking at the camera"),
        "back": ("seen from behind", "turned away from the camera"),
        "left": ("seen from the side", "facing left"),
        "right": ("seen from the side", "facing right"),
    }
    more = {
        "front": ("facing forward", "looking forward", "facing towards the camera"),
        "back": ("facing away", f"with {words.his} back turned", "looking away from the camera"),
        "left": ("facing to the left", "looking to the left", "in profile"),
        "right": ("facing to the right", "looking to the right", "in profile"),
    }
    side = sight.view.rpartition("_")[2]
    turned = (f"facing slightly to the {side}", f"turned to the {side}", "seen from an angle")
    stance = words.one_of(
        facing.get(sight.view, ("seen at an angle",)), more.get(sight.view, turned)
    )
    seen = "seen" in stance
    stance = joined(stance, arms)
    return f"{joined('standing', where)}, {stance}" if seen else joined("standing", where, stance)


def _worn(words: Wording) -> list[str]:
    """Return the clothes that are mentioned, as a list of noun phrases."""
    top, outer, lower = words.top(), words.outer(), words.lower()
    overall = _overall(words)
    if overall and words.chance(0.5):
        top, lower = overall, ""
    upper = outer or top
    if top and outer:
        over = f"{outer} {words.one_of(('over', 'on top of'))} {top}"
        if words.adds(0.06):
            over = f"{outer} with {top} underneath"
        upper = over if words.chance(0.7) else f"{top} under {outer}"
    items = [upper, lower, words.shoes(), words.hat(), words.glasses(), *words.accessories()]
    worn = [item for item in items if item]
    if len(worn) > 2 and words.adds(0.02):
        worn[-2:] = [f"{worn[-2]} as well as {worn[-1]}"]
    return worn


def _overall(words: Wording) -> str:
    """Return e.g. "dark clothes" if that is true of top and legs and nothing else is told."""
    told = {name for name in words.mentioned if name.startswith(("top_", "lower_", "outer_"))}
    if told != {"top_color", "lower_color"}:
        return ""
    first, second = words.person.top_color, words.person.lower_color
    clothes = words.one_of(("clothes", "clothing"))
    if first == second:
        return f"all {COLORS[first].words[0]} {clothes}"
    shared = [word for word in COLORS[first].vague if word in COLORS[second].vague]
    return f"{shared[0]} {clothes}" if shared else ""


def _carried(words: Wording, sight: Sight, grammar: _Grammar) -> list[str]:
    """Return what is carried, as phrases with their participle."""
    phrases = []
    bag = words.bag(straps_only=sight.straps_only)
    if bag and sight.straps_only:
        phrases.append(f"wearing {bag}")
    elif bag:
        slung = words.person.bag_type != "handbag"
        verb = words.one_of(("carrying", "carrying", "wearing" if slung else "holding"))
        phrases.append(joined(verb, bag, words.bag_place()))
    held = words.held()
    if held and words.person.held_type == "bicycle":
        phrases.append(joined(words.one_of(("pushing", "walking with", "with")), held))
    elif held:
        verb = words.one_of(("holding", "carrying", "holding"), ("holding", "with"))
        if words.person.held_type == "phone" and words.adds(0.12):
            verb = words.one_of(("talking on", "looking at", "using"))
        phrases.append(joined(verb, held, words.hand()))
    return phrases


_WORN = ("who is wearing", "who wears", "that is wearing", "dressed in")
_WEARS = ("appears to be wearing", "is seen wearing", "is clothed in", "looks to be wearing")


_PRESENT = {
    "carrying": "carries", "holding": "holds", "walking": "walks", "standing": "stands",
    "wearing": "wears",
}  # fmt: skip
_SEEMING = ("is also", "appears to be", "seems to be", "looks to be", "can be seen")


def _doing(words: Wording, grammar: _Grammar, action: str) -> str:
    """Return a sentence that says what somebody does, e.g. "he is carrying a red bag"."""
    he, verb = grammar.he, action.partition(" ")[0]
    if not words.adds(0.08):
        return f"{he} {grammar.is_} {action}"
    plural = he == "they"
    if verb in _PRESENT and " and " not in action and words.chance(0.6):
        present = verb.removesuffix("ing").replace("carri", "carry") if plural else _PRESENT[verb]
        return f"{he} {present}{action.removeprefix(verb)}"
    if plural:
        return f"they {words.one_of(('appear to be', 'are also', 'seem to be'))} {action}"
    return f"{he} {words.one_of(_SEEMING)} {action}" if words.chance(0.8) else f"{he}'s {action}"


_TEMPLATES = ("one", "two", "two", "lead", "apart", "has_first", "fragment")


def sentences(words: Wording, sight: Sight) -> str:
    """Return a caption.

    Args:
        words: Words about the person, and what may be named.
        sight: The visible things of the image.
    """
    grammar = _grammar(words)
    who = _subject(words)
    hair, worn, carried = words.hair(), _worn(words), _carried(words, sight, grammar)
    short = len(words.mentioned) < 6
    told = _Told(
        who=who,
        with_hair=f"{who} with {hair}" if hair else who,
        hair=hair,
        worn=worn,
        carried=" and ".join(carried),
        action=_action(words, sight, place=short or words.chance(0.12)),
    )
    template = words.one_of(_TEMPLATES) if worn else "plain"
    parts = _arranged(template, words, grammar, told, with_action=short or words.chance(0.12))
    text = ". ".join(part[0].upper() + part[1:] for part in parts if part)
    return f"{text}."


def _subject(words: Wording) -> str:
    adjectives, noun = subject(words)
    start = words.one_of(("a", "a", "the", "the", "this"))
    phrase = joined(adjectives, noun)
    return article(phrase) if start == "a" else f"{start} {phrase}"


@dataclass(frozen=True)
class _Told:
    """What a caption has to say, in phrases; empty = nothing."""

    who: str
    with_hair: str
    hair: str
    worn: list[str]
    carried: str
    action: str


def _arranged(
    template: str, words: Wording, grammar: _Grammar, told: _Told, *, with_action: bool
) -> list[str]:
    """Return the sentences that a template makes of what is to be told, without full stops."""
    carries = _doing(words, grammar, told.carried) if told.carried else ""
    acts = _doing(words, grammar, told.action) if with_action else ""
    match template:
        case "one":
            wearing = words.one_of(
                ("wearing", "dressed in", "in", "is wearing", "is dressed in"), _WORN
            )
            also = f"{words.one_of(('and',), ('while',))} {told.carried}" if told.carried else ""
            return [joined(told.with_hair, wearing, listed(told.worn), also), acts]
        case "two":
            verb = words.one_of(("is wearing", "wears", "is dressed in", "has on"), _WEARS)
            return [f"{told.with_hair} {verb} {listed(told.worn)}", carries, acts]
        case "lead":
            doing = told.action if with_action or not told.carried else ""
            does = ", ".join(phrase for phrase in (doing, told.carried) if phrase)
            return [f"wearing {listed(told.worn)}, {told.with_hair} is {does}"]
        case "apart":
            verb = words.one_of(("is wearing", "wears"), _WEARS)
            rest = (
                f"{grammar.he} {grammar.is_} also wearing {listed(told.worn[1:])}"
                if told.worn[1:]
                else ""
            )
            return [f"{told.with_hair} {verb} {told.worn[0]}", rest, carries, acts]
        case "has_first" if told.hair:
            return [
                f"{told.who} has {told.hair}",
                f"{grammar.he} {grammar.wears} {listed(told.worn)}",
                carries,
                acts,
            ]
        case "has_first":
            return [f"{told.who} has {listed(told.worn)} on", carries, acts]
        case "fragment":
            end = told.action if with_action else ""
            phrases = [told.with_hair, *told.worn, told.carried, end]
            return [", ".join(phrase for phrase in phrases if phrase)]
        case _:
            doing = " and ".join(phrase for phrase in (told.action, told.carried) if phrase)
            return [f"{told.with_hair} is {doing}"]
