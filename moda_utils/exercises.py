"""Answers of the exercises, checked: a tick, or a hint that doesn't give the answer away.

Each exercise has one part that a program can judge. What is right is computed, from the course's
code and from the reader's own artefacts, so it holds for any profile and any catalogue.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from .catalog import assign_groups, load_catalog, load_photos, read_catalog
from .course import require
from .dataset import load_dataset_dir, template_description
from .evaluation import ATTRIBUTES, CRITERIA, grade
from .profiles import Profile, get_profile

KINDS: dict[str, Callable[[Any], bool]] = {
    "a text": lambda answer: isinstance(answer, str),
    "a whole number": lambda answer: isinstance(answer, Integral) and not isinstance(answer, bool),
    "a number": lambda answer: isinstance(answer, Real) and not isinstance(answer, bool),
    "a list": lambda answer: isinstance(answer, Sequence) and not isinstance(answer, str),
    "a function": callable,
}


@dataclass(frozen=True)
class Exercise:
    """What kind of answer is wanted, how it is judged, and what helps after a wrong one."""

    kind: str
    wanted: str
    hint: str
    right: Callable[[Any, Profile], bool]


EXERCISES: dict[str, Exercise] = {}


def check(name: str, answer: Any = None) -> None:
    """Print whether `answer` is right: a tick, or a hint. Without an answer: what is asked for.

    Args:
        name: notebook and exercise, such as "05.2".
        answer: a text, number, list or function, as the exercise says; NumPy and torch will do.

    Raises:
        ValueError: there is no such exercise; the message lists those that there are.
        FileNotFoundError: the answer depends on an artefact that isn't there.
    """
    if name not in EXERCISES:
        raise ValueError(f"There is no exercise {name!r}; there are: {', '.join(EXERCISES)}.")
    asked = EXERCISES[name]
    if hasattr(answer, "tolist"):  # an array, a tensor, a series, a number of NumPy
        answer = answer.tolist()
    if answer is None:
        print(f"{name} asks for {asked.kind}: {asked.wanted}.")
    elif not KINDS[asked.kind](answer):
        print(f"{name} asks for {asked.kind}, not {type(answer).__name__}: {asked.wanted}.")
    elif asked.right(answer, get_profile()):
        print(f"✓ {name} is right.")
    else:
        print(f"✗ {name}, not yet. Hint: {asked.hint}")


def exercise(name: str, kind: str, wanted: str, hint: str) -> Callable[[Callable], Callable]:
    """Register a function (answer, profile) -> bool as the judge of an exercise."""

    def register(right: Callable[[Any, Profile], bool]) -> Callable[[Any, Profile], bool]:
        EXERCISES[name] = Exercise(kind, wanted, hint, right)
        return right

    return register


def _items(profile: Profile, split: str | None = None) -> pd.DataFrame:
    """The catalogue's rows: stored ones, or read anew by a reader who begins with notebook 00."""
    stored = profile.catalog_path.exists()
    catalog = load_catalog(profile.catalog_path) if stored else read_catalog(load_photos(profile))
    rows = catalog.frame.assign(path=[catalog.root / name for name in catalog.frame.image])
    return rows if split is None else rows[rows.split == split].reset_index(drop=True)


def _batches(items: int, profile: Profile) -> int:
    return -(-items // profile.batch_size)  # the last one may be smaller


def _train_texts(profile: Profile) -> list[str]:
    folder = require(profile.dataset_dir, "01")
    return list(load_dataset_dir(folder)["train"]["description"])


# ---------------------------------------------------------------------------------------------
# 00 Start here


@exercise(
    "00.1", "a text", "a description of the first unseen photo that gets full marks",
    hint="full marks need its colour, its type, whom it is for and its use, and nothing else.",
)  # fmt: skip
def _full_marks(answer: str, profile: Profile) -> bool:
    grades = grade([answer], _items(profile, "test").head(1))
    return bool((grades[list(CRITERIA)].fillna(10) == 10).all(axis=None))


@exercise(
    "00.2", "a whole number", "the epochs on 30 items with as many steps as 12 epochs on 480",
    hint="a step is one batch here, and 30 items don't fill one: how many steps has an epoch?",
)  # fmt: skip
def _epochs_of_few(answer: int, profile: Profile) -> bool:
    return answer * _batches(30, profile) == 12 * _batches(480, profile)


@exercise(
    "00.3", "a text", '"colour", "category", "gender" or "style": which suffers least, and why?',
    hint="how likely is it that two items, drawn at random, have the same value in this column?",
)  # fmt: skip
def _survives_shuffling(answer: str, profile: Profile) -> bool:
    rows = _items(profile, "test")
    same = {name: (rows[column].value_counts(normalize=True) ** 2).sum()
            for name, (_, column) in ATTRIBUTES.items()}  # fmt: skip
    return answer == max(same, key=same.get)


# ---------------------------------------------------------------------------------------------
# 01 Dataset


@exercise(
    "01.1", "a text", "the column that guesses usage best on items it was not made from",
    hint="learn each value's most frequent usage on train, and count on the other two splits.",
)  # fmt: skip
def _best_column(answer: str, profile: Profile) -> bool:
    rows = _items(profile)
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
    rows, hashes = _items(profile), []
    for path in rows.path:
        with Image.open(path) as photo:
            grey = np.asarray(photo.convert("L").resize((9, 8)), dtype=int)  # (8, 9)
        hashes.append((grey[:, 1:] > grey[:, :-1]).tobytes())
    letters = str.maketrans("0123456789", "abcdefghij")  # in titles, digits are ignored
    names = [str(group).translate(letters) for group in rows.group]
    linked = assign_groups(pd.DataFrame({"image_sha256": hashes, "title": names}))
    return answer == linked.group.nunique()


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


# ---------------------------------------------------------------------------------------------
# 04 Model assembly


def _widths(profile: Profile) -> tuple[int, int]:
    """Numbers of an image embedding, and of a word vector."""
    from transformers import AutoConfig, CLIPVisionConfig

    from .device import load_checkpoint

    image = load_checkpoint(CLIPVisionConfig, profile.vision).projection_dim
    return image, load_checkpoint(AutoConfig, profile.language).hidden_size


@exercise(
    "04.1", "a whole number", "the parameters of a projection that is one layer, in this model",
    hint="each output needs a weight for every input, and one more number.",
)  # fmt: skip
def _one_layer(answer: int, profile: Profile) -> bool:
    image, word = _widths(profile)
    return answer == (image + 1) * word


@exercise(
    "04.2", "a whole number", "the place, counted from 0, whose output must be the first word",
    hint="write the sequence down, with four places in front. Which place stands before the word?",
)  # fmt: skip
def _asking_place(answer: int, profile: Profile) -> bool:
    sequence = [*["image"] * 4, "</s>", "word", "</s>"]
    return answer == sequence.index("word") - 1


@exercise(
    "04.3", "a list", "two ids of Llama's configuration: what opens a text, and what closes it",
    hint="a configuration has fields for both; their names end in _token_id.",
)  # fmt: skip
def _marks_of_llama(answer: Sequence[int], profile: Profile) -> bool:
    from transformers import LlamaConfig

    return list(answer) == [LlamaConfig().bos_token_id, LlamaConfig().eos_token_id]


# ---------------------------------------------------------------------------------------------
# 05 Training


@exercise(
    "05.1", "a number", "the learning rate of the recipe in the last epoch",
    hint="how often has it been multiplied by then? The first epochs run at the full rate.",
)  # fmt: skip
def _last_rate(answer: float, profile: Profile) -> bool:
    from .training import recipe

    config = recipe(profile)
    last = config.learning_rate * config.decay_factor ** ((config.epochs - 1) // config.decay_every)
    return abs(answer / last - 1) < 0.01


@exercise(
    "05.2", "a whole number", "the steps of 20 epochs if a group of fewer than 8 batches is lost",
    hint="count the batches of one epoch, then the whole groups of 8 among them.",
)  # fmt: skip
def _whole_steps(answer: int, profile: Profile) -> bool:
    return answer == 20 * (_batches(len(_train_texts(profile)), profile) // 8)


@exercise(
    "05.3", "a whole number", "the questions that are left when nobody asks for the end",
    hint="every description ends once; the places that were never asked don't count either.",
)  # fmt: skip
def _endless_questions(answer: int, profile: Profile) -> bool:
    from .modeling_moda import ModaProcessor

    processor = ModaProcessor.from_backbones(profile.vision, profile.language)
    rows = processor(text=_train_texts(profile))["attention_mask"]
    return answer == int(rows.sum()) - 2 * len(rows)  # without the marks before and after


# ---------------------------------------------------------------------------------------------
# 06 Evaluation


@exercise(
    "06.1", "a text", "a description of the first test item: nothing false, overall 5 or less",
    hint="factual consistency asks only about what is stated. What is never asked for there?",
)  # fmt: skip
def _true_and_poor(answer: str, profile: Profile) -> bool:
    found = grade([answer], _items(profile, "test").head(1)).iloc[0]
    return found.factual_consistency == 10 and found.overall <= 5


@exercise(
    "06.2", "a number", "the share of test items that share their group with another test item",
    hint="count each group's items in the test split, then the items in groups of two and more.",
)  # fmt: skip
def _not_alone(answer: float, profile: Profile) -> bool:
    group = _items(profile, "test").group
    return abs(answer - group.duplicated(keep=False).mean()) < 0.006


@exercise(
    "06.3", "a list", "the voting neighbours' sentence for each test photo, in order",
    hint="five by cosine similarity, a vote per attribute; in a tie the nearest value wins.",
)  # fmt: skip
def _voting_neighbours(answer: Sequence[str], profile: Profile) -> bool:
    from torch.nn.functional import normalize

    from .features import embed_photos
    from .serving import load_model

    model, processor = load_model()
    train, test = _items(profile, "train"), _items(profile, "test")
    images, cache = processor.image_processor, profile.features_dir
    embeds = [
        normalize(embed_photos(model, images, list(rows.path), rows.image_sha256, cache))
        for rows in (test, train)
    ]
    five = (
        (embeds[0] @ embeds[1].T).topk(min(5, len(train))).indices.tolist()
    )  # (test, 5), nearest first
    columns = [column for _, column in ATTRIBUTES.values()]
    votes = [{c: Counter(train[c].iloc[rows]) for c in columns} for rows in five]
    truth = [
        template_description({c: count.most_common(1)[0][0] for c, count in vote.items()})
        for vote in votes
    ]
    same = sum(ours == theirs for ours, theirs in zip(answer, truth, strict=False))
    return len(answer) == len(truth) and same >= 0.95 * len(truth)  # rounding may turn a tie
