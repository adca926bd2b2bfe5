"""What the exercises ask, and who judges: the registry, and the judges of notebooks 00 to 03.

Those of the notebooks about the model are in `exercises`, with `check`. What is right is computed,
from the course's code and the reader's own artefacts, so it holds for any profile and catalogue.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from .attributes import extract
from .catalog import assign_groups, load_catalog, load_photos, read_catalog
from .dataset import template_description
from .evaluation import ATTRIBUTES, CRITERIA, grade
from .profiles import Profile
from .storage import require


@dataclass(frozen=True)
class Exercise:
    """What kind of answer is wanted, how it is judged, and what helps after a wrong one."""

    kind: str
    wanted: str
    hint: str
    right: Callable[[Any, Profile], bool]


EXERCISES: dict[str, Exercise] = {}


def exercise(name: str, kind: str, wanted: str, hint: str) -> Callable[[Callable], Callable]:
    """Register a function (answer, profile) -> bool as the judge of an exercise."""

    def register(right: Callable[[Any, Profile], bool]) -> Callable[[Any, Profile], bool]:
        EXERCISES[name] = Exercise(kind, wanted, hint, right)
        return right

    return register


def rows_of(profile: Profile, split: str | None = None) -> pd.DataFrame:
    """The catalogue's rows: stored ones, or read anew by a reader who begins with notebook 00."""
    stored = profile.catalog_path.exists()
    catalog = load_catalog(profile.catalog_path) if stored else read_catalog(load_photos(profile))
    rows = catalog.frame.assign(path=[catalog.root / name for name in catalog.frame.image])
    return rows if split is None else rows[rows.split == split].reset_index(drop=True)


def batches_of(items: int, profile: Profile) -> int:
    return -(-items // profile.batch_size)  # the last one may be smaller


# ---------------------------------------------------------------------------------------------
# 00 Start here


@exercise(
    "00.1", "a text", "a description of the first unseen photo that gets full marks",
    hint="full marks need its colour, its type, whom it is for and its use, and nothing else.",
)  # fmt: skip
def _full_marks(answer: str, profile: Profile) -> bool:
    grades = grade([answer], rows_of(profile, "test").head(1))
    return bool((grades[list(CRITERIA)].fillna(10) == 10).all(axis=None))


@exercise(
    "00.2", "a whole number", "the epochs on 30 items with as many steps as 12 epochs on 480",
    hint="a step is one batch here, and 30 items don't fill one: how many steps has an epoch?",
)  # fmt: skip
def _epochs_of_few(answer: int, profile: Profile) -> bool:
    return answer * batches_of(30, profile) == 12 * batches_of(480, profile)


@exercise(
    "00.3", "a text", '"colour", "category", "gender" or "style": the one that suffers least',
    hint="how likely is it that two items, drawn at random, have the same value in this column?",
)  # fmt: skip
def _survives_shuffling(answer: str, profile: Profile) -> bool:
    rows = rows_of(profile, "test")
    same = {name: (rows[column].value_counts(normalize=True) ** 2).sum()
            for name, (_, column) in ATTRIBUTES.items()}  # fmt: skip
    return answer.strip().casefold() == max(same, key=same.get)


# ---------------------------------------------------------------------------------------------
# 01 Dataset


@exercise(
    "01.1", "a text", "the column that guesses usage best on items it was not made from",
    hint="learn each value's most frequent usage on train, and count on the other two splits.",
)  # fmt: skip
def _best_column(answer: str, profile: Profile) -> bool:
    rows = rows_of(profile)
    train, others = rows[rows.split == "train"], rows[rows.split != "train"]
    majority = train.usage.mode()[0]
    right = {}
    for column in ("title", "colour", "gender", "category", "sub_category", "product_type"):
        usual = train.groupby(column).usage.agg(lambda usages: usages.mode()[0])
        right[column] = (others[column].map(usual).fillna(majority) == others.usage).sum()
    return right.get(answer) == max(right.values())


@exercise(
    "01.2", "a function", "takes a Pillow image, returns the share of the item that is cut off",
    hint="it is tried on a white photo with a black bar: of the bar's pixels, which are outside?",
)  # fmt: skip
def _cut_off(answer: Callable[[Image.Image], float], profile: Profile) -> bool:
    bars = {(0, 0, 30, 40): 0.25, (0, 0, 30, 5): 1.0, (10, 10, 20, 20): 0.0, (0, 0, 9, 10): 0.5}
    for size in ((30, 40), (40, 30)):  # upright and, turned, lying
        for (left, top, right, bottom), lost in bars.items():
            photo = Image.new("RGB", (30, 40), "white")
            photo.paste("black", (left, top, right, bottom))
            photo = photo if size == photo.size else photo.transpose(Image.Transpose.TRANSPOSE)
            if abs(answer(photo) - lost) > 0.01:
                return False
    return True


@exercise(
    "01.3", "a whole number", "the groups that are left when equal difference hashes are linked",
    hint="links chain: a new link joins two whole groups, not two items.",
)  # fmt: skip
def _joined_groups(answer: int, profile: Profile) -> bool:
    rows, hashes = rows_of(profile), []
    for path in rows.path:
        with Image.open(path) as photo:
            grey = np.asarray(photo.convert("L").resize((9, 8)), dtype=int)  # (8, 9)
        hashes.append((grey[:, 1:] > grey[:, :-1]).tobytes())
    letters = str.maketrans("0123456789", "abcdefghij")  # in titles, digits are ignored
    names = [str(group).translate(letters) for group in rows.group]
    linked = assign_groups(pd.DataFrame({"image_sha256": hashes, "title": names}))
    return answer == linked.group.nunique()


# ---------------------------------------------------------------------------------------------
# 02 Captions


@exercise(
    "02.1", "a text", "Prompt I, edited: it asks to quote what is printed, its frame stays",
    hint="who speaks, where the photo goes and whose turn is next stay; one wish becomes another.",
)  # fmt: skip
def _opposite_prompt(answer: str, profile: Profile) -> bool:
    from .captioning import PROMPT_I

    start, end = (mark in answer for mark in ("<|user|>\n", "<|end|>\n<|assistant|>\n"))
    framed = start and end and answer.count("<|image_1|>") == 1 and answer != PROMPT_I
    return framed and "quote" in answer.lower() and "ignore it" not in answer


@exercise(
    "02.2", "a whole number", "the most places that any photo can take with at most 16 tiles",
    hint="every row of patches has an end: of which shape has a photo the most rows?",
)  # fmt: skip
def _most_places(answer: int, profile: Profile) -> bool:
    from .phi3_vision import Phi3VisionImageProcessor

    cutter = Phi3VisionImageProcessor(num_crops=16)
    grids = [(rows, columns) for rows in range(1, 17) for columns in range(1, 16 // rows + 1)]
    return answer == max(cutter.num_tokens(*grid) for grid in grids)


@exercise(
    "02.3", "a function", "takes a description, returns it without words read off the photo",
    hint="it is tried with and without quotation marks, and on a text that has nothing to hide.",
)  # fmt: skip
def _removes_words(answer: Callable[[str], str], profile: Profile) -> bool:
    says = ('that says "WILD"', 'with the word "WILD" on the front', "that says WILD")
    texts = [f"A red boys' T-shirt {phrase}, for casual wear." for phrase in says]
    plain = "A red boys' T-shirt with stripes, for casual wear."
    same = all(extract(answer(text)) == extract(plain) for text in texts)
    return same and not any("WILD" in answer(text) for text in texts) and answer(plain) == plain


# ---------------------------------------------------------------------------------------------
# 03 Refinement


def _captioned(profile: Profile) -> list[dict[str, Any]]:
    from .captioning import captions_journal
    from .refinement import captioned_items

    require(profile.captions_path, "02")
    catalog = load_catalog(require(profile.catalog_path, "01"))
    return [item for item in captioned_items(catalog, captions_journal(profile)) if item["caption"]]


def _words(*texts: str) -> set[str]:
    return set(re.findall(r"\w+", " ".join(texts).lower()))


@exercise(
    "03.1", "a text", "a description of the first captioned item that says more and has no fault",
    hint="colour, type, gender and use are compared with the row. Of what else does nobody know?",
)  # fmt: skip
def _unchecked(answer: str, profile: Profile) -> bool:
    from .refinement import faults

    item = _captioned(profile)[0]
    known = _words(item["caption"], template_description(item))
    return not faults(answer, item) and bool(_words(answer) - known)


@exercise(
    "03.2", "a whole number", "the captions without a fault that came back changed all the same",
    hint="ask faults(caption, row) for each captioned item, then compare with the refined text.",
)  # fmt: skip
def _touched(answer: int, profile: Profile) -> bool:
    from .refinement import faults, refined_journal

    items = _captioned(profile)
    require(profile.refined_path, "03")
    rows = refined_journal(profile, items).done()
    refined = [rows[item["product_id"], item["image_sha256"]]["description"] for item in items]
    pairs = zip(items, refined, strict=True)
    return answer == sum(
        item["caption"] != text and not faults(item["caption"], item) for item, text in pairs
    )


@exercise(
    "03.3", "a function", "takes a caption and its row, returns a text; nine in ten have no fault",
    hint="and most of the words that only the caption knows are still there: don't start anew.",
)  # fmt: skip
def _mended_by_rule(answer: Callable[[str, dict[str, Any]], str], profile: Profile) -> bool:
    from .refinement import faults, read_words

    items = _captioned(profile)[:300]
    texts = [answer(item["caption"], dict(item)) for item in items]
    known = [_words(template_description(item), *read_words(item)) for item in items]
    own = [_words(item["caption"]) - words for item, words in zip(items, known, strict=True)]
    kept = sum(len(words & _words(text)) for words, text in zip(own, texts, strict=True))
    sound = sum(not faults(text, item) for text, item in zip(texts, items, strict=True))
    return sound >= 0.9 * len(items) and kept >= 0.6 * sum(map(len, own))
