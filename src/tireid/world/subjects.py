"""The person of a caption: noun, age, build and height, e.g. "slim young man"."""

from tireid.world.attributes import NONE
from tireid.world.palette import HAIR_COLORS
from tireid.world.phrases import Wording, joined


def subject(words: Wording) -> tuple[str, str]:
    """Return adjectives and noun of the person, e.g. ("slim", "man")."""
    adjectives = []
    if "height" in words.mentioned and words.person.height != "average":
        adjectives.append(words.person.height)
    if "build" in words.mentioned and words.person.build != "average":
        builds = {"slim": ("slim", "slender", "thin"), "heavy": ("heavyset", "stocky", "plump")}
        more = {"slim": ("skinny",), "heavy": ("heavy set", "heavy")}
        adjectives.append(words.word(builds, more, words.person.build))
    if words.hair_first:
        hair = words.color("hair_color", HAIR_COLORS).replace("-", " ").removesuffix(" colored")
        adjectives.append(f"{hair}-haired")
    nouns = {
        "man": ("man", "man", "man", "guy", "male", "gentleman", "male pedestrian"),
        "woman": ("woman", "woman", "woman", "lady", "female", "female pedestrian"),
    }
    if words.person.age != NONE:
        return _aged(words, adjectives)
    if "sex" in words.mentioned:
        more = ("adult man", "male person") if words.person.sex == "man" else ("adult woman",)
        return joined(*adjectives), words.one_of(nouns[words.person.sex], more)
    return joined(*adjectives), words.one_of(
        ("person", "pedestrian", "person", "figure"), ("individual", "adult")
    )


def _aged(words: Wording, adjectives: list[str]) -> tuple[str, str]:
    """Return adjectives and noun of somebody young or old, which tell no more than they may."""
    man, age = words.person.sex == "man", words.person.age
    if "sex" not in words.mentioned:
        child = age == "child" and "age" in words.mentioned
        nouns = ("child", "kid", "child") if child else ("person", "individual")
    elif "age" in words.mentioned and age == "child":
        nouns = ("boy", "little boy") if man else ("girl", "little girl")
    elif "age" in words.mentioned and age == "young":
        nouns = ("boy", "man", "man", "male") if man else ("girl", "girl", "woman", "lady")
    elif age == "child":
        nouns = ("male", "male person") if man else ("female", "female person")
    else:
        nouns = ("man", "male", "gentleman") if man else ("woman", "female", "lady")
    if "age" in words.mentioned and age != "child":
        ages = {"young": ("young", "young", "teenage"), "old": ("older", "old", "elderly")}
        adjectives.append(words.one_of(ages[age]))
    return joined(*adjectives), words.one_of(nouns)
