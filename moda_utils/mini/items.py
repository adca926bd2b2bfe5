"""What the drawn shop sells: the attributes of one item, and how often each occurs.

Names and structure are the real catalogue's: Apparel only for Boys and Girls, Footwear only for Men
and Women, mostly Casual, a few frequent product types and a few rare ones.
"""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """One drawn item. Everything named here can be seen in its photo."""

    product_type: str
    sub_category: str
    category: str  # "Apparel" or "Footwear"
    gender: str  # "Boys", "Girls", "Men" or "Women"
    colour: str
    usage: str  # "Casual", "Sports", "Formal" or "Ethnic"
    pattern: str = "plain"  # "plain", "striped", "checked", "dotted", "floral", "star", "heart"
    sleeve: str | None = None  # "short", "long" or "sleeveless" where a garment has a choice
    printed_word: str | None = None  # only on T-shirts


@dataclass(frozen=True)
class _Kind:
    """How often a product type occurs, and in which forms (weights need not add up to 1)."""

    share: float
    sub_category: str
    genders: dict[str, float]
    usages: dict[str, float]
    patterns: str = "plain"
    sleeves: str = ""


_BOTH = {"Boys": 1.0, "Girls": 1.0}
_ADULTS = {"Men": 1.0, "Women": 1.0}
_CASUAL = {"Casual": 1.0}
_PRINTS = "plain striped dotted star heart"

_KINDS = {
    "Tshirts": _Kind(
        0.22, "Topwear", {"Boys": 0.6, "Girls": 0.4}, {"Casual": 0.93, "Sports": 0.07},
        _PRINTS, "short short long",
    ),
    "Casual Shoes": _Kind(0.145, "Shoes", {"Men": 0.6, "Women": 0.4}, _CASUAL),
    "Heels": _Kind(0.12, "Shoes", {"Women": 1.0}, _CASUAL),
    "Sports Shoes": _Kind(0.085, "Shoes", _ADULTS, {"Sports": 1.0}),
    "Tops": _Kind(
        0.08, "Topwear", {"Girls": 1.0}, {"Casual": 0.9, "Ethnic": 0.1},
        "plain striped dotted floral"
    ),
    "Flip Flops": _Kind(0.055, "Flip Flops", _ADULTS, _CASUAL),
    "Flats": _Kind(0.05, "Shoes", {"Women": 1.0}, {"Casual": 0.88, "Ethnic": 0.12}),
    "Shirts": _Kind(
        0.045, "Topwear", {"Boys": 0.65, "Girls": 0.35}, {"Casual": 0.78, "Formal": 0.22},
        "plain striped checked checked", "short long",
    ),
    "Sandals": _Kind(0.045, "Sandal", _ADULTS, _CASUAL),
    "Shorts": _Kind(0.04, "Bottomwear", _BOTH, {"Casual": 0.75, "Sports": 0.25}, "plain checked"),
    "Dresses": _Kind(
        0.035, "Dress", {"Girls": 1.0}, {"Casual": 0.85, "Ethnic": 0.15},
        "plain striped dotted floral", "short sleeveless",
    ),
    "Formal Shoes": _Kind(0.025, "Shoes", {"Men": 1.0}, {"Formal": 1.0}),
    "Jeans": _Kind(0.025, "Bottomwear", _BOTH, _CASUAL),
    "Skirts": _Kind(
        0.015, "Bottomwear", {"Girls": 1.0}, {"Casual": 0.75, "Ethnic": 0.25},
        "plain checked floral"
    ),
    "Kurtas": _Kind(0.008, "Topwear", {"Boys": 1.0}, {"Ethnic": 1.0}),
    "Jackets": _Kind(0.007, "Topwear", {"Boys": 1.0}, {"Casual": 1.0}),
}  # fmt: skip

PRODUCT_TYPES = tuple(_KINDS)
GENDERS = ("Boys", "Girls", "Men", "Women")
USAGES = ("Casual", "Sports", "Formal", "Ethnic")

COLOURS = {
    "Black": 0.19, "White": 0.16, "Blue": 0.12, "Brown": 0.08, "Red": 0.08, "Pink": 0.08,
    "Green": 0.07, "Yellow": 0.06, "Grey": 0.06, "Navy Blue": 0.05, "Purple": 0.03, "Beige": 0.03,
}  # fmt: skip
_ONLY_COLOURS = {
    "Jeans": ("Blue", "Navy Blue", "Black", "Grey"),
    "Formal Shoes": ("Black", "Brown", "Beige", "Navy Blue"),
}

PRINTED_WORDS = (
    "LOVE", "WILD", "ZOOM", "SUN", "NYC", "JUMP", "ROCK", "HERO", "SURF", "KIND",
    "STAR", "WOW", "DREAM", "HAPPY", "LUCKY", "SMILE", "TIGER", "PARIS", "YES", "FUNKY",
)  # fmt: skip
PRINTED_SHARE = 0.45  # of T-shirts


def sample_item(
    rng: random.Random,
    *,
    product_type: str | None = None,
    printed: bool | None = None,
    balanced: bool = False,
) -> Item:
    """Draw the attributes of one item at random.

    Args:
        rng: source of all choices.
        product_type: fix the product type.
        printed: True draws a T-shirt with a printed word, False anything without one.
        balanced: all types, colours, genders and usages equally often (for training), instead of
            the shares of the real catalogue.
    """
    if printed:
        product_type = "Tshirts"
    if product_type is None:
        shares = {name: 1.0 if balanced else kind.share for name, kind in _KINDS.items()}
        product_type = _choose(rng, shares, False)
    kind = _KINDS[product_type]
    gender = _choose(rng, kind.genders, balanced)
    usage = _choose(rng, kind.usages, balanced)
    allowed = _ONLY_COLOURS.get(product_type, tuple(COLOURS))
    colour = _choose(rng, {name: COLOURS[name] for name in allowed}, balanced)
    word = None
    if printed or (product_type == "Tshirts" and printed is None and rng.random() < PRINTED_SHARE):
        word, usage = rng.choice(PRINTED_WORDS), "Casual"  # a jersey's panels would hide the word
    pattern = rng.choice(kind.patterns.split())
    if usage != "Casual" or word:  # these carry their own marks
        pattern = "plain"
    sleeve = rng.choice(kind.sleeves.split()) if kind.sleeves else None
    if product_type == "Shirts" and usage == "Formal":
        sleeve = "long"
    return Item(
        product_type=product_type,
        sub_category=kind.sub_category,
        category="Footwear" if gender in ("Men", "Women") else "Apparel",
        gender=gender,
        colour=colour,
        usage=usage,
        pattern=pattern,
        sleeve=sleeve,
        printed_word=word,
    )


def _choose(rng: random.Random, weights: dict[str, float], balanced: bool) -> str:
    names = list(weights)
    return rng.choice(names) if balanced else rng.choices(names, list(weights.values()))[0]
