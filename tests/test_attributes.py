"""The sentences in data/attribute_sentences.jsonl were written and labelled by hand for this test.

A last lot of 40 ordinary ones, written after the rules were finished, was read with precision and
recall 99.3 % before anything was changed for it; 61 nasty ones before that with 97 % and 95 %.
"""

import itertools
import json
import random
from pathlib import Path

import pytest

from moda_utils.attributes import Attributes, extract, vocabulary
from moda_utils.dataset import template_description
from moda_utils.mini.items import sample_item
from moda_utils.mini.wording import describe

FIELDS = ("colours", "product_types", "genders", "usages")
SENTENCES = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "attribute_sentences.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
]
SAMPLE = Path(__file__).parents[2] / "shared" / "fashion_sample" / "data" / "fashion.csv"


def stated(text: str) -> dict[str, set[str]]:
    found = extract(text)
    return {field: set(getattr(found, field)) for field in FIELDS if getattr(found, field)}


def test_labels_use_the_lexicons_spelling():
    for row in SENTENCES:
        for field in FIELDS:
            assert set(row.get(field, [])) <= set(vocabulary(field)), row


def test_precision_and_recall_on_labelled_sentences():
    assert len(SENTENCES) > 300  # as notebook 06 says
    right = wrong = missed = 0
    for row in SENTENCES:
        found = extract(row["text"])
        for field in FIELDS:
            true, read = set(row.get(field, [])), set(getattr(found, field))
            right += len(true & read)
            wrong += len(read - true)
            missed += len(true - read)
    assert right / (right + wrong) >= 0.98
    assert right / (right + missed) >= 0.98


def test_unknown_words_of_labelled_sentences():
    mistakes = [
        (row["text"], extract(row["text"]).unknown)
        for row in SENTENCES
        if set(row.get("unknown", [])) != set(extract(row["text"]).unknown)
    ]
    assert len(mistakes) <= 0.02 * len(SENTENCES), mistakes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Rose gold heels", {"colours": {"Rose Gold"}, "product_types": {"Heels"}}),
        ("A navy top", {"colours": {"Navy Blue"}, "product_types": {"Tops"}}),
        ("An off-white top", {"colours": {"Off White"}, "product_types": {"Tops"}}),
        ("Sports shoes for casual wear", {"product_types": {"Sports Shoes"}, "usages": {"Casual"}}),
        ("Sports shoes", {"product_types": {"Sports Shoes"}, "usages": {"Sports"}}),
        ("Boyfriend jeans for women", {"product_types": {"Jeans"}, "genders": {"Women"}}),
        ("Boys’ T‑shirts", {"product_types": {"Tshirts"}, "genders": {"Boys"}}),
        ("A T-shirt dress", {"product_types": {"Dresses"}}),
        ("Casual leather shoes", {"product_types": {"Casual Shoes"}, "usages": {"Casual"}}),
        ('A top that says "RED GIRL"', {"product_types": {"Tops"}}),
        ("Blue shirt with a red collar", {"colours": {"Blue"}, "product_types": {"Shirts"}}),
        ("Shirt with red stripes", {"colours": {"Red"}, "product_types": {"Shirts"}}),
        ("Sandals, not for women or girls", {"product_types": {"Sandals"}}),
        ("Not only for men", {"genders": {"Men"}}),
        ("Womens tops", {"product_types": {"Tops"}, "genders": {"Women"}}),
        ("Une robe rouge pour filles", {}),
        ("Красное платье 👗", {}),
        ("", {}),
    ],
)
def test_traps(text, expected):
    assert stated(text) == expected


def test_the_small_captioners_wording_is_read_without_an_error():
    """What mini Phi-3 Vision learns to write, printed words included: no attribute gets lost."""
    rng = random.Random(0)
    for _ in range(1000):
        item = sample_item(rng, balanced=True)
        sentence = describe(item, rng, word=True)
        true = (item.colour, item.product_type, item.gender, item.usage)
        assert extract(sentence) == Attributes(*(frozenset([value]) for value in true)), sentence


def test_unknown_attributes_are_listed_in_the_texts_words():
    assert extract("Coral saree for yoga wear, unisex").unknown == {
        "coral",
        "saree",
        "yoga",
        "unisex",
    }


def test_a_value_that_no_template_can_tell_apart_is_the_only_one_misread():
    """Every value reads back from its template description, but for "sports" + "sandals"."""
    misread = set()
    for colour, kind, gender, usage in itertools.product(*map(vocabulary, FIELDS)):
        row = {"colour": colour, "product_type": kind, "gender": gender, "usage": usage}
        expected = Attributes(*(frozenset([value]) for value in (colour, kind, gender, usage)))
        if extract(template_description(row)) != expected:
            misread.add((kind, usage))
    assert misread == {("Sandals", "Sports")}


@pytest.mark.skipif(not SAMPLE.exists(), reason="the 400 real items are not here")
def test_every_value_of_the_real_items_is_in_the_lexicon():
    import pandas as pd

    table = pd.read_csv(SAMPLE)
    columns = ("Colour", "ProductType", "Gender", "Usage")
    for field, column in zip(FIELDS, columns, strict=True):
        assert set(table[column]) <= set(vocabulary(field))


def test_the_lexicon_covers_the_real_set():
    assert len(vocabulary("product_types")) == 31
    assert len(vocabulary("colours")) >= 39
    assert vocabulary("genders") == ["Boys", "Girls", "Men", "Women"]
    assert vocabulary("usages") == [
        "Casual",
        "Ethnic",
        "Formal",
        "Party",
        "Smart Casual",
        "Sports",
    ]
