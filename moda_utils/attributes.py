"""What a free sentence says about an item: colours, product types, genders and usages, by lexicon.

Values come back in the catalogue's spelling; `lexicon.toml` lists their synonyms. The rules:

* longest match first: "rose gold" is one colour, "shirt dress" one garment;
* quoted text and words printed on the item are no statements about it, nor is what a "not" denies;
* parts ("with a gold buckle") count only where nothing else states a colour or a type: the
  catalogue knows one colour per item, so a part's colour can't be checked;
* "casual shoes" says Casual only where no other words state a usage: "sports shoes for casual wear"
  are worn casually;
* words that look like an attribute outside the lexicon ("coral", "saree", "yoga wear") are unknown.
"""

import re
import tomllib
import unicodedata
from dataclasses import dataclass
from pathlib import Path

_SHOES_BY_USAGE = {
    "Casual": "Casual Shoes", "Smart Casual": "Casual Shoes",
    "Sports": "Sports Shoes", "Formal": "Formal Shoes",
}  # fmt: skip
_QUOTED = re.compile(r'"[^"]*"|(?<!\w)\'[^\']{1,60}\'(?!\w)|«[^»]*»')
_PRINTED = re.compile(
    r"\b((?:words?|texts?|slogans?|letters|reads|reading|says|saying|logo)\W+)"
    r"[A-Z][A-Z0-9!&]+(?:\s+[A-Z0-9!&]{2,})*\b"
)
_TOKEN = re.compile(r"[^\W_]+(?:'[^\W_]+)?|\.")
_SPELLINGS = {"gray": "grey", "color": "colour", "3/4": "three quarter", "jewelry": "jewellery"}


@dataclass(frozen=True)
class Attributes:
    """What one text states, in the catalogue's spellings; `unknown` has the text's own words."""

    colours: frozenset[str] = frozenset()
    product_types: frozenset[str] = frozenset()
    genders: frozenset[str] = frozenset()
    usages: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()


def extract(text: str) -> Attributes:
    """Read the attributes that an English sentence states; an empty or foreign one states none."""
    tokens = _tokens(text)
    firm, weak = ({field: set() for field in _FIELDS} for _ in range(2))
    place, in_part, denied = 0, False, 0  # denied: how many more words a "not" reaches
    while place < len(tokens):
        word, after = tokens[place], tokens[place + 1] if place + 1 < len(tokens) else ""
        in_part = word in _WORDS["parts_begin"] or (in_part and word not in _WORDS["parts_end"])
        size, meanings = _longest(tokens, place)
        phrase = " ".join(tokens[place : place + size])
        if phrase in _WORDS["negations"] and after != "only":
            denied = 4
        elif word in _WORDS["denial_ends"]:
            denied = 0
        place += size
        if meanings and denied:
            denied = 3 if tokens[place : place + 1] in (["or"], ["nor"]) else 0
            continue
        denied = max(0, denied - size)
        for field, value in meanings:
            of_part = in_part and field not in ("genders", "usages")
            vague = of_part or phrase in _WORDS["adjectives"]
            (weak if vague else firm)[field].add(value)
            if field == "product_types":  # "running shoes" tells a usage, should nothing else do
                weak["usages"].update(v for name, v in _LEXICON.get(word, ()) if name == "usages")
    kinds = firm["product_types"]
    if "Clothing Set" in kinds and "Kurta Sets" not in kinds:
        kinds.intersection_update({"Clothing Set"})  # a T-shirt and shorts set is neither of them
    if firm["shoes"] and not kinds:  # "casual leather shoes", "shoes for the office"
        kinds.update(_SHOES_BY_USAGE[usage] for usage in firm["usages"] & _SHOES_BY_USAGE.keys())
    for field in ("colours", "product_types", "usages"):
        firm[field] = firm[field] or weak[field]
    if len(firm["colours"]) > 1:
        firm["colours"].discard("Metallic")  # "metallic blue" describes the blue
    return Attributes(**{field: frozenset(firm[field]) for field in Attributes.__annotations__})


def vocabulary(field: str) -> list[str]:
    """All values that `extract` can return for colours, product_types, genders or usages."""
    return sorted({value for pair in _LEXICON.values() for name, value in pair if name == field})


def _longest(tokens: list[str], place: int) -> tuple[int, list[tuple[str, str]]]:
    """Length of the longest phrase known at `place` (1 without one), and its meanings."""
    for size in range(min(_LONGEST, len(tokens) - place), 0, -1):
        phrase = " ".join(tokens[place : place + size])
        if phrase in _LEXICON:
            return size, _LEXICON[phrase]
    word, after = tokens[place], tokens[place + 1 : place + 2]
    if after and after[0] in _WORDS["wear"] and word.isalpha() and word not in _WORDS["no_usage"]:
        return 1, [("unknown", word)]
    return 1, []


def _tokens(text: str) -> list[str]:
    """Lower-case words and punctuation, without quotations, printed words and possessives."""
    text = unicodedata.normalize("NFKC", text)
    text = re.sub("[\u201c\u201d\u201e]", '"', re.sub("[\u2018\u2019\u02bc`]", "'", text))
    unquoted = _QUOTED.sub(" ", text)
    text = unquoted if re.search(r"\w", unquoted) else text  # all in quotes: the description itself
    text = _PRINTED.sub(r"\1", text).lower()
    for spelling, ours in _SPELLINGS.items():
        text = text.replace(spelling, ours)
    text = re.sub(r"[,;:()]", ".", re.sub(r"[-\u2010-\u2015/]", " ", text))
    tokens = [token.removesuffix("'s") for token in _TOKEN.findall(text)]
    return ["tone" if token == "toned" else token for token in tokens]


def _read_phrases(tables: dict) -> dict[str, list[tuple[str, str]]]:
    """{phrase: [(field, value)]}; a neutral phrase has no meaning."""
    phrases = {}
    for phrase in _phrases(tables["outside"]):
        phrases |= {form: [("unknown", form)] for form in (phrase, _plural(phrase))}
    phrases |= {word: [("shoes", "shoes")] for word in ("shoe", "shoes")}
    for field in ("colours", "genders", "usages", "product_types"):
        for value, synonyms in tables[field].items():
            for phrase in [value.lower(), *_phrases(synonyms)]:
                forms = (phrase, _plural(phrase)) if field == "product_types" else (phrase,)
                phrases |= dict.fromkeys(forms, [(field, value)])
    return phrases | {phrase: [] for phrase in _phrases(tables["neutral"])}


def _plural(noun: str) -> str:
    if noun.endswith("s") and not noun.endswith("ss"):
        return noun
    return noun + ("es" if noun.endswith(("ss", "ch", "sh", "x")) else "s")


def _phrases(text: str) -> list[str]:
    return [phrase.strip() for phrase in text.split(",") if phrase.strip()]


_FIELDS = (*Attributes.__annotations__, "shoes")
_TABLES = tomllib.loads(Path(__file__).with_name("lexicon.toml").read_text(encoding="utf-8"))
_WORDS = {name: set(_phrases(words)) for name, words in _TABLES["grammar"].items()}
_LEXICON = _read_phrases(_TABLES)
_LONGEST = max(phrase.count(" ") for phrase in _LEXICON) + 1
