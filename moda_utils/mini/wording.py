"""Sentences about drawn items in varied words: what the mini models learn to read and write."""

import random

from .items import Item

NOUNS = {
    "Tshirts": ("T-shirt", "T-shirt", "tee", "tshirt"),
    "Shirts": ("shirt", "button-up shirt"),
    "Tops": ("top",),
    "Dresses": ("dress",),
    "Shorts": ("shorts",),
    "Jeans": ("jeans", "denim jeans"),
    "Skirts": ("skirt",),
    "Kurtas": ("kurta",),
    "Jackets": ("jacket", "hooded jacket"),
    "Casual Shoes": ("casual shoes", "casual shoes", "sneakers"),
    "Sports Shoes": ("sports shoes", "sports shoes", "running shoes"),
    "Formal Shoes": ("formal shoes", "formal shoes", "leather formal shoes"),
    "Heels": ("heels", "high heels"),
    "Flats": ("flats", "ballerina flats"),
    "Sandals": ("sandals",),
    "Flip Flops": ("flip flops", "flip-flops"),
}
_PLURAL = ("Shorts", "Jeans")  # and all footwear

USAGE_PHRASES = {
    "Casual": (
        "for everyday wear", "for casual wear", "ideal for casual outings",
        "perfect for everyday use", "suitable for casual occasions",
    ),
    "Sports": (
        "for sports", "ideal for workouts", "made for sports and training",
        "suitable for sports use", "perfect for sports",
    ),
    "Formal": (
        "for formal wear", "ideal for formal occasions", "suitable for formal events",
        "perfect for formal use",
    ),
    "Ethnic": (
        "for ethnic wear", "ideal for ethnic occasions", "suitable for traditional ethnic wear",
        "perfect for ethnic festivities",
    ),
}  # fmt: skip

_PATTERNS = {
    "striped": ("with stripes", "with a striped pattern"),
    "checked": ("with a checked pattern", "with checks"),
    "dotted": ("with polka dots", "with a dotted pattern"),
    "floral": ("with a floral print", "with flowers"),
    "star": ("with a star print", "with a big star"),
    "heart": ("with a heart print", "with a big heart"),
}
_SLEEVES = {
    "short": ("with short sleeves",),
    "long": ("with long sleeves",),
    "sleeveless": ("without sleeves",),
}
_MARKS = {  # by usage where it shows, else by gender
    "Sports": ("with broad stripes", "with contrasting stripes"),
    "Ethnic": ("with gold borders", "with a gold trim"),
    "Formal": ("with a classic look", "with a smart finish"),
    "Boys": ("with a straight cut", "with a simple design"),
    "Girls": ("with a bow", "with a playful design"),
    "Men": ("with a sturdy sole", "with a thick dark sole"),
    "Women": ("with a slim design", "with an elegant shape"),
}
WORD_PHRASES = (
    'with the word "{word}" on the front', 'with "{word}" printed on the chest',
    'with a "{word}" print', 'with the text "{word}"', 'that says "{word}"',
)  # fmt: skip


def noun(item: Item, rng: random.Random) -> str:
    """One of the words for the item's product type."""
    return rng.choice(NOUNS[item.product_type])


def detail(item: Item, rng: random.Random) -> str:
    """A phrase on something visible: the pattern, the sleeves or the cut."""
    if item.pattern != "plain":
        return rng.choice(_PATTERNS[item.pattern])
    if item.sleeve and rng.random() < 0.5:
        return rng.choice(_SLEEVES[item.sleeve])
    return rng.choice(_MARKS[item.usage if item.usage in _MARKS else item.gender])


def describe(item: Item, rng: random.Random, word: bool = False) -> str:
    """One natural sentence: colour, gender, product type, a detail and usage, in varied order.

    Args:
        item: what to describe.
        rng: chooses the words.
        word: also tell the printed word, if there is one, as a captioner trained on OCR does.
    """
    colour, gender = item.colour.lower(), item.gender.lower()
    owner = gender + ("'" if gender.endswith("s") else "'s")
    kind, about, use = noun(item, rng), detail(item, rng), rng.choice(USAGE_PHRASES[item.usage])
    usage = item.usage.lower()
    if kind.split()[0] in ("casual", "sports", "formal"):
        usage = ""
    if word and item.printed_word:
        about = rng.choice(WORD_PHRASES).format(word=item.printed_word)
    plural = item.category == "Footwear" or item.product_type in _PLURAL
    article = rng.choice(("", "A pair of ")) if plural else "A "
    sentence = rng.choice(
        (
            f"{article}{colour} {owner} {kind} {about}, {use}.",
            f"{article}{owner} {colour} {kind} {about}, {use}.",
            f"{article}{colour} {kind} for {gender} {about}, {use}.",
            f"{article}{usage} {colour} {kind} for {gender} {about}.",
            f"{article}{colour} {usage} {kind} {about}, designed for {gender}.",
        )
    )
    sentence = " ".join(sentence.split())
    if sentence.startswith("A ethnic"):
        sentence = "An ethnic" + sentence[len("A ethnic") :]
    return sentence[0].upper() + sentence[1:]


def caption(item: Item, rng: random.Random) -> tuple[str, dict[str, str]]:
    """A short, often partial caption and the attributes that it states, for contrastive training.

    "shoes for women" fits many photos: who trains on it must know what it leaves open.
    """
    facts = {
        "colour": item.colour, "product_type": item.product_type, "gender": item.gender,
        "usage": item.usage,
    }  # fmt: skip
    if rng.random() < 0.25:
        return describe(item, rng), facts
    stated = [name for name in facts if rng.random() < 0.6] or [rng.choice(list(facts))]
    words = [item.usage.lower()] if "usage" in stated else []
    if "colour" in stated:
        words.insert(rng.randint(0, len(words)), item.colour.lower())
    kind = noun(item, rng) if "product_type" in stated else "item"
    if kind != "item" and kind.split()[0] in words:
        words.remove(kind.split()[0])
    elif kind == "item" and rng.random() < 0.4:
        kind = "clothes" if item.category == "Apparel" else "shoes"
    # The name of a shoe can give its usage away: then the caption states that as well.
    if "product_type" in stated and kind.split()[0] in ("casual", "sports", "formal"):
        stated = sorted({*stated, "usage"})
    text = " ".join([*words, kind])
    if "gender" in stated:
        gender = item.gender.lower()
        owner = gender + ("'" if gender.endswith("s") else "'s")
        text = f"{owner} {text}" if rng.random() < 0.4 else f"{text} for {gender}"
    text = rng.choice(("{}", "{}", "a photo of {}", "a picture of {}", "a photo of a {}")).format(
        text
    )
    known = {name: facts[name] for name in stated}
    if kind in ("clothes", "shoes"):
        known["category"] = item.category
    return text, known
