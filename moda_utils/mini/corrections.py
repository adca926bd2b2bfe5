"""What mini Phi-3 learns: captions with errors, and the sentences that they should have been.

A sentence of `wording.describe` is taken apart into its parts and put together again. In between,
parts are spoiled (the caption) and mended by an item's metadata (the answer). Captions that mini
Phi-3 Vision has really written are of the same form and are mended in the same way.
"""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..dataset import COLOUR_WORDS, SINGULAR
from ..refinement import OPENINGS
from .items import COLOURS, GENDERS, PRINTED_WORDS, PRODUCT_TYPES, USAGES, Item, sample_item
from .train_opt import COLOURS as REAL_COLOURS
from .train_opt import TYPES as REAL_TYPES
from .wording import NOUNS, USAGE_PHRASES, WORD_PHRASES, describe

FORMS = (
    "{article}{colour} {owner} {kind} {about}, {use}.",
    "{article}{owner} {colour} {kind} {about}, {use}.",
    "{article}{colour} {kind} for {gender} {about}, {use}.",
    "{article}{usage} {colour} {kind} for {gender} {about}.",
    "{article}{colour} {usage} {kind} {about}, designed for {gender}.",
)
"""The forms of `wording.describe`."""

LEAKS = (
    *WORD_PHRASES,
    'with the slogan "{word}"', 'featuring the text "{word}"', 'with "{word}" across the chest',
    'reading "{word}"', 'with a large "{word}" logo', 'with the letters "{word}" in white',
    "with {word} printed on it", 'with the phrase "{word}" on the back', "with {word} on the front",
    'bearing the name "{word}"', 'and a print that reads "{word}"', 'with the words "{word}"',
    'with a logo of "{word}"', 'showing "{word}" in big letters', 'and the brand name "{word}"',
)  # fmt: skip
"""How captions tell what is printed, after the words on the item."""
LEAKED_SENTENCES = (
    'The shirt says "{word}".', 'The text reads "{word}".', 'It has "{word}" written on it.',
    'On the front is the word "{word}".', 'The text on the image is "{word}".',
)  # fmt: skip
UNSEEN_LEAKS = (
    'displaying the message "{word}"', 'with "{word}" stitched along the hem',
    'carrying the lettering "{word}"', 'on which "{word}" can be read',
    'decorated with "{word}"', "with {word} in small letters",
)  # fmt: skip
"""For measuring: training never shows these, nor the words of `UNSEEN_WORDS`."""
UNSEEN_WORDS = (
    "QUARTZ", "MARVEL", "OCEAN", "BROOKLYN", "VIVID", "NINJA", "PUZZLE", "ALOHA", "KARMA", "RETRO",
    "GALAXY", "BANDIT", "ICE", "POLO CLUB", "NO RULES", "Coco", "team 84", "JE T'AIME", "hello",
    "KEEP CALM", "1984", "BE YOU", "Moonlight", "XOXO",
)  # fmt: skip
_WORDS = (
    *PRINTED_WORDS, "GAME", "POWER", "KING", "QUEEN", "BEST", "DAY", "ROAD", "FREE", "SKATE",
    "TOKYO", "LONDON", "CREW", "COOL", "PEACE", "MAGIC", "SUMMER", "DINO", "ROAR", "GO", "FUN",
    "Hello", "Nike", "Puma", "Bluebarn", "Strado", "42", "1985", "No 7", "JUST PLAY", "be happy",
    "SUPER STAR", "We are one", "RUN FAST", "Good Vibes", "NEW YORK", "do it now", "LA",
)  # fmt: skip
_WEARERS = (
    "worn by a young {person}", "on a smiling model", "worn by a {person}",
    "modelled by a {person}",
)  # fmt: skip
_PERSONS = {"boys": "boy", "girls": "girl", "men": "man", "women": "woman"}

_EMPTY = ("I can't see the image.", "An item.", "The image shows text.", "A product photo.")

FACTS = ("gender", "category", "sub_category", "product_type", "colour", "usage")
FOREIGN = 0.25  # of the items have values of the real catalogue, or of none, in their metadata
UNKNOWN = 0.03  # of the values are missing in the metadata
WRONG, UNSAID = 0.14, 0.05  # of the parts are wrong, or missing, in a spoiled caption
ASKED_AGAIN = 0.15  # of the examples have a faulty first answer
LEAKED, WORN, NOTHING = 0.45, 0.06, 0.04  # of the captions tell a word, a wearer, nothing else


@dataclass(frozen=True)
class Parts:
    """A sentence, taken apart; a part may be empty."""

    form: int
    article: str  # "", "A " or "A pair of "
    colour: str
    gender: str
    kind: str
    usage: str
    about: str
    use: str

    def __str__(self) -> str:
        """The sentence."""
        form = FORMS[self.form]
        if not self.gender:
            form = form.replace(" for {gender}", "").replace(", designed", "")
        if not self.use:
            form = form.replace(", {use}", "")
        owner = self.gender + ("'" if self.gender.endswith("s") else "'s" if self.gender else "")
        text = " ".join(form.format(owner=owner, **vars(self)).split())
        text = re.sub(r"^A (?=[aeiou])", "An ", text.replace(" ,", ",").replace(" .", "."))
        return text[:1].upper() + text[1:]


def _pattern(form: str) -> re.Pattern[str]:
    def any_of(words: object) -> str:
        return "|".join(re.escape(w) for w in sorted(words, key=len, reverse=True))

    genders = [gender.lower() for gender in GENDERS]
    groups = {
        "article": "A pair of |An? |",
        "colour": any_of(colour.lower() for colour in COLOURS),
        "owner": any_of(g + ("'" if g.endswith("s") else "'s") for g in genders),
        "gender": any_of(genders),
        "kind": any_of(noun for nouns in NOUNS.values() for noun in nouns),
        "usage": any_of(usage.lower() for usage in USAGES),
        "use": any_of(use for uses in USAGE_PHRASES.values() for use in uses),
        "about": r"(?:with|without|that) [^,]+?",
    }
    text = re.escape(form).replace(r"\{", "{").replace(r"\}", "}").replace(r"\ ", " ")
    text = text.replace("{usage} ", "(?:{usage} )?").replace(" {about}", "(?: {about})?")
    for name, words in groups.items():
        text = text.replace(f"{{{name}}}", f"(?P<{name}>{words})")
    return re.compile(text, re.I)


_PATTERNS = [_pattern(form) for form in FORMS]


def parse(sentence: str) -> Parts | None:
    """The parts of a sentence in one of the forms; None if it is of no form."""
    for form, pattern in enumerate(_PATTERNS):
        if match := pattern.fullmatch(sentence):
            found = dict.fromkeys(("usage", "use"), "") | match.groupdict(default="")
            if owner := found.pop("owner", ""):
                found["gender"] = owner.lower().removesuffix("'s").removesuffix("'")
            article = "A " if found["article"] == "An " else found["article"]
            spelled = found | {"article": article.capitalize() if article else ""}
            for name in ("colour", "gender", "usage", "kind"):
                spelled[name] = found[name].lower().replace("t-shirt", "T-shirt")
            return Parts(form=form, **spelled)
    return None


def facts_of(item: Item) -> dict[str, str]:
    """The metadata of a drawn item, as its catalogue has them."""
    return {name: getattr(item, name) for name in FACTS}


def nouns(product_type: str) -> tuple[str, ...]:
    """What items of a type may be called; the usual word first."""
    kind = product_type.lower()
    return NOUNS.get(product_type) or (SINGULAR.get(kind, kind),)


def mend(parts: Parts, facts: Mapping[str, str]) -> Parts:
    """The parts as the metadata want them; a fact that is empty leaves its part alone.

    What the metadata don't know stays: form, details, a word for the type or the usage that fits.
    """
    usage, kind = facts["usage"].lower(), parts.kind
    if facts["product_type"] and kind not in nouns(facts["product_type"]):
        kind = nouns(facts["product_type"])[0]
    article = parts.article
    if kind != parts.kind:
        article = article or "A "
        if _is_plural(kind) != (article == "A pair of "):
            article = "A pair of " if _is_plural(kind) else "A "
    adjective, use = parts.usage, parts.use
    if usage and parts.form < 3:
        fitting = USAGE_PHRASES.get(facts["usage"], (f"for {usage} wear",))
        use = use if use in fitting else fitting[0]
    elif usage:
        adjective = "" if kind.startswith(usage) or f" {usage}" in kind else usage
    colour = facts["colour"].lower() or parts.colour
    return replace(
        parts, article=article, colour=COLOUR_WORDS.get(colour, colour), use=use, kind=kind,
        gender=facts["gender"].lower() or parts.gender, usage=adjective,
    )  # fmt: skip


def _is_plural(kind: str) -> bool:
    return kind.endswith("s") and not kind.endswith(("ss", "press"))


def from_facts(facts: Mapping[str, str]) -> Parts:
    """A plain sentence from metadata alone."""
    kind = nouns(facts["product_type"])[0] if facts["product_type"] else "item"
    article = "A pair of " if _is_plural(kind) else "A "
    return mend(Parts(2, article, "", "", kind, "", "", ""), facts)


def mended(caption: str, facts: Mapping[str, str]) -> Parts | None:
    """What a caption of mini Phi-3 Vision should have been; None if its form is unknown."""
    parts = parse(caption)
    if parts is None:
        return None
    about = "" if '"' in parts.about else parts.about
    return mend(replace(parts, about=about), facts)


def begun(parts: Parts, facts: Mapping[str, str], start: str) -> Parts:
    """The same statement, begun as Prompt II asks: `start` is one of `OPENINGS`."""
    usage, kind, form = facts["usage"].lower(), parts.kind, parts.form
    if start == OPENINGS[""]:
        return replace(parts, article=parts.article or ("A pair of " if _is_plural(kind) else "A "))
    if start == OPENINGS["colour"]:
        return replace(parts, article="", form={1: 0, 3: 4}.get(form, form))
    if start == OPENINGS["usage"]:  # "casual shoes" need not say it twice
        kind = kind.replace(f"{usage} ", "")
        return replace(parts, article="", form=3, usage=usage, use="", kind=kind)
    use = parts.use
    if form > 2:  # these tell the usage by an adjective
        use = USAGE_PHRASES.get(facts["usage"], (f"for {usage or parts.usage or 'any'} wear",))[0]
    return replace(parts, article="", form=1, usage="", use=use)


@dataclass(frozen=True)
class Example:
    """One thing to learn: what to answer to a caption and metadata."""

    item: dict[str, str]  # metadata, `caption`, `title`, `image_sha256`: a row of the catalogue
    parts: Parts  # of the answer
    first: str | None = None  # a faulty first answer, to be asked again for a better one


def imagine(rng: random.Random) -> Example:
    """An example with invented errors."""
    item = sample_item(rng, balanced=rng.random() < 0.5)
    facts, parts = facts_of(item), parse(describe(item, rng))
    if rng.random() < FOREIGN:
        facts = foreign(facts, rng)
    parts = mend(parts, facts)
    facts |= {name: "" for name in FACTS if name != "product_type" and rng.random() < UNKNOWN}
    caption, parts = spoil(parts, rng)
    answer = mend(parts, facts) if parts else from_facts(facts)
    first = spoil(parts, rng)[0] if parts and rng.random() < ASKED_AGAIN else None
    return Example(row(facts, caption, rng), answer, first)


def row(facts: Mapping[str, str], caption: str | None, rng: random.Random) -> dict[str, Any]:
    """A row of a catalogue, of a photo of its own."""
    return {
        **facts,
        "caption": caption,
        "title": "",
        "image_sha256": f"{rng.getrandbits(256):064x}",
    }


def foreign(facts: Mapping[str, str], rng: random.Random) -> dict[str, str]:
    """Other values than the drawn shop's: those of the real catalogue, or words of no language."""

    def any_of(words: tuple[str, ...]) -> str:
        return (rng.choice(words) if rng.random() < 0.7 else _nonsense(rng)).title()

    return dict(facts) | {
        "colour": any_of(REAL_COLOURS),
        "product_type": any_of(REAL_TYPES[:31]),  # the others are synonyms
        "usage": rng.choice((*USAGES, "Smart Casual", "Party")),
        "gender": rng.choice(GENDERS),
    }


def spoil(parts: Parts, rng: random.Random) -> tuple[str, Parts | None]:
    """A caption with errors, and the parts of it that an answer can use (None if it has none)."""
    if rng.random() < NOTHING:
        return rng.choice((*_EMPTY, *LEAKED_SENTENCES, "{word}")).format(word=_word(rng)), None
    changed: dict[str, str] = {}
    if rng.random() < WRONG:
        changed["colour"] = rng.choice((*REAL_COLOURS, *(c.lower() for c in COLOURS)))
    if rng.random() < WRONG:
        changed["gender"] = rng.choice(GENDERS).lower()
    if rng.random() < WRONG:
        changed["kind"] = rng.choice(NOUNS[rng.choice(PRODUCT_TYPES)])
        plural = _is_plural(changed["kind"])
        changed["article"] = rng.choice(("", "A pair of ")) if plural else "A "
    if rng.random() < WRONG:
        usage = rng.choice(USAGES)
        changed |= {"usage": usage.lower()} if parts.form > 2 else {}
        changed |= {"use": rng.choice(USAGE_PHRASES[usage])} if parts.form < 3 else {}
    parts = unsaid(replace(parts, **changed), rng)
    told = parts
    if rng.random() < WORN:
        person = rng.choice(_WEARERS).format(person=_PERSONS.get(parts.gender, "child"))
        told = replace(told, about=f"{told.about} {person}")
    if rng.random() >= LEAKED:
        return str(told), parts
    word, place = _word(rng), rng.random()
    if place < 0.1:
        return str(replace(told, kind=f'"{word}" {told.kind}')), parts
    if place < 0.25:
        return f"{told} {rng.choice(LEAKED_SENTENCES).format(word=word)}", parts
    leak = rng.choice(LEAKS).format(word=word)
    if place < 0.5:
        return str(replace(told, about=f"{told.about} {leak}")), parts
    return str(replace(told, about=leak)), replace(parts, about="")


def unsaid(parts: Parts, rng: random.Random) -> Parts:
    """Leave facts out. Forms that look alike then are taken for the first of them."""
    drop = {name for name in ("colour", "gender", "usage") if rng.random() < UNSAID}
    form = parts.form
    if "gender" in drop and form < 2:
        form = 2
    elif "colour" in drop and form == 1:
        form = 0
    elif "usage" in drop and form == 3:
        form = 2
    changed = dict.fromkeys(drop, "") | ({"use": ""} if "usage" in drop else {})
    return replace(parts, form=form, **changed)


def _word(rng: random.Random) -> str:
    """What may be printed: a word of the list, or letters that no list holds."""
    if rng.random() < 0.4:
        return rng.choice(_WORDS)
    letters = "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=rng.randint(2, 9)))
    return rng.choice(
        (letters, letters, letters.title(), letters.lower(), f"{letters} {letters[:2]}")
    )


def _nonsense(rng: random.Random) -> str:
    return "".join(
        rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(2, 3))
    )
