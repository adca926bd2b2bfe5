"""Answers of the exercises, checked: a tick, or a hint that doesn't give the answer away.

`exercises.toml` says what each exercise asks for. Each has one part that a program can judge: what
is right is computed, from the course's code and the reader's own artefacts, so it holds for any
profile and catalogue.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from .attributes import extract
from .catalog import assign_groups, load_catalog, load_photos, read_catalog
from .dataset import load_dataset_dir, template_description
from .evaluation import ATTRIBUTES, CRITERIA, grade
from .profiles import Profile, get_profile
from .storage import require

Judge = Callable[[Any, Profile], bool]  # is this answer right?

KINDS: dict[str, Callable[[Any], bool]] = {
    "a text": lambda answer: isinstance(answer, str),
    "a whole number": lambda answer: KINDS["a number"](answer) and float(answer).is_integer(),
    "a number": lambda answer: isinstance(answer, Real) and not isinstance(answer, bool),
    "a list": lambda answer: isinstance(answer, Sequence) and not isinstance(answer, str),
    "a function": callable,
}


@dataclass(frozen=True)
class Exercise:
    """What kind of answer is wanted, and what helps after a wrong one."""

    kind: str
    wanted: str
    hint: str


_TABLE = Path(__file__).with_name("exercises.toml").read_text(encoding="utf-8")
EXERCISES = {name: Exercise(**row) for name, row in tomllib.loads(_TABLE).items()}
_JUDGES: dict[str, Judge] = {}


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
    elif _JUDGES[name](answer, get_profile()):
        print(f"✓ {name} is right.")
    else:
        print(f"✗ {name}, not yet. Hint: {asked.hint}")


def judge(name: str) -> Callable[[Judge], Judge]:
    """Register a function as the judge of an exercise."""

    def register(right: Judge) -> Judge:
        _JUDGES[name] = right
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


@judge("00.1")
def _full_marks(answer: str, profile: Profile) -> bool:
    grades = grade([answer], rows_of(profile, "test").head(1))
    return bool((grades[list(CRITERIA)].fillna(10) == 10).all(axis=None))


@judge("00.2")
def _epochs_of_few(answer: int, profile: Profile) -> bool:
    return answer * batches_of(30, profile) == 12 * batches_of(480, profile)


@judge("00.3")
def _survives_shuffling(answer: str, profile: Profile) -> bool:
    rows = rows_of(profile, "test")
    same = {name: (rows[column].value_counts(normalize=True) ** 2).sum()
            for name, (_, column) in ATTRIBUTES.items()}  # fmt: skip
    return answer.strip().casefold() == max(same, key=same.get)


# ---------------------------------------------------------------------------------------------
# 01 Dataset


@judge("01.1")
def _best_column(answer: str, profile: Profile) -> bool:
    rows = rows_of(profile)
    train, others = rows[rows.split == "train"], rows[rows.split != "train"]
    majority = train.usage.mode()[0]
    right = {}
    for column in ("title", "colour", "gender", "category", "sub_category", "product_type"):
        usual = train.groupby(column).usage.agg(lambda usages: usages.mode()[0])
        right[column] = (others[column].map(usual).fillna(majority) == others.usage).sum()
    return right.get(answer) == max(right.values())


@judge("01.2")
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


@judge("01.3")
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


@judge("02.1")
def _opposite_prompt(answer: str, profile: Profile) -> bool:
    from .captioning import PROMPT_I

    start, end = (mark in answer for mark in ("<|user|>\n", "<|end|>\n<|assistant|>\n"))
    framed = start and end and answer.count("<|image_1|>") == 1 and answer != PROMPT_I
    of_print = [line for line in re.split(r"[.\n]", answer.lower()) if _PRINT.search(line)]
    return framed and any(map(_ASKS.search, of_print)) and not any(map(_DENIES.search, of_print))


_PRINT = re.compile(r"\b(text|words?|letters?|printed|print)\b")
_ASKS = re.compile(r"\b(quote|read|copy|repeat|write|include|transcribe|spell|state|mention)\b")
_DENIES = re.compile(r"\b(not|never|no|without|ignore|don't)\b")


@judge("02.2")
def _most_places(answer: int, profile: Profile) -> bool:
    from .phi3_vision import Phi3VisionImageProcessor

    cutter = Phi3VisionImageProcessor(num_crops=16)
    grids = [(rows, columns) for rows in range(1, 17) for columns in range(1, 16 // rows + 1)]
    return answer == max(cutter.num_tokens(*grid) for grid in grids)


@judge("02.3")
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


@judge("03.1")
def _unchecked(answer: str, profile: Profile) -> bool:
    from .refinement import faults

    item = _captioned(profile)[0]
    known = _words(item["caption"], template_description(item))
    return not faults(answer, item) and bool(_words(answer) - known)


@judge("03.2")
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


@judge("03.3")
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


@judge("04.1")
def _one_layer(answer: int, profile: Profile) -> bool:
    image, word = _widths(profile)
    return answer == (image + 1) * word


@judge("04.2")
def _asking_place(answer: int, profile: Profile) -> bool:
    sequence = [*["image"] * 4, "</s>", "word", "</s>"]
    return answer == sequence.index("word") - 1


@judge("04.3")
def _marks_of_llama(answer: Sequence[int], profile: Profile) -> bool:
    from transformers import LlamaConfig

    return list(answer) == [LlamaConfig().bos_token_id, LlamaConfig().eos_token_id]


# ---------------------------------------------------------------------------------------------
# 05 Training


def _train_texts(profile: Profile) -> list[str]:
    folder = require(profile.dataset_dir, "01")
    return list(load_dataset_dir(folder)["train"]["description"])


@judge("05.1")
def _last_rate(answer: float, profile: Profile) -> bool:
    from .recipe import recipe

    config = recipe(profile)
    last = config.learning_rate * config.decay_factor ** ((config.epochs - 1) // config.decay_every)
    return abs(answer / last - 1) < 0.05  # the log of the training rounds it to two digits


@judge("05.2")
def _whole_steps(answer: int, profile: Profile) -> bool:
    return answer == 20 * (batches_of(len(_train_texts(profile)), profile) // 8)


@judge("05.3")
def _endless_questions(answer: int, profile: Profile) -> bool:
    from .modeling_moda import ModaProcessor

    processor = ModaProcessor.from_backbones(profile.vision, profile.language)
    rows = processor(text=_train_texts(profile))["attention_mask"]
    return answer == int(rows.sum()) - 2 * len(rows)  # without the marks before and after


# ---------------------------------------------------------------------------------------------
# 06 Evaluation


@judge("06.1")
def _true_and_poor(answer: str, profile: Profile) -> bool:
    found = grade([answer], rows_of(profile, "test").head(1)).iloc[0]
    return found.factual_consistency == 10 and found.overall <= 5


@judge("06.2")
def _not_alone(answer: float, profile: Profile) -> bool:
    group = rows_of(profile, "test").group
    return abs(answer - group.duplicated(keep=False).mean()) < 0.006


@judge("06.3")
def _voting_neighbours(answer: Sequence[str], profile: Profile) -> bool:
    from torch.nn.functional import normalize

    from .features import embed_photos
    from .serving import load_model

    model, processor = load_model()
    train, test = rows_of(profile, "train"), rows_of(profile, "test")
    images, cache = processor.image_processor, profile.features_dir
    embeds = [
        normalize(embed_photos(model, images, list(rows.path), rows.image_sha256, cache))
        for rows in (test, train)
    ]
    likeness = embeds[0] @ embeds[1].T  # (test, train)
    five = likeness.topk(min(5, len(train))).indices.tolist()  # nearest first
    columns = [column for _, column in ATTRIBUTES.values()]
    votes = [{c: Counter(train[c].iloc[rows]) for c in columns} for rows in five]
    truth = [
        template_description({c: count.most_common(1)[0][0] for c, count in vote.items()})
        for vote in votes
    ]
    same = sum(ours == theirs for ours, theirs in zip(answer, truth, strict=False))
    return len(answer) == len(truth) and same >= 0.95 * len(truth)  # rounding may turn a tie


# ---------------------------------------------------------------------------------------------
# Extras: 07 Use it, 08 Ablations, 09 Scaling out


@judge("07.1")
def _one_scale(answer: float, profile: Profile) -> bool:
    import torch

    from .serving import load_model

    layer = load_model()[0].language_model.get_decoder().layers[0].fc1
    weight = layer.weight.detach().cpu()
    inputs = torch.randn(256, weight.shape[1], generator=torch.manual_seed(0))

    def error(scale: torch.Tensor) -> float:
        return (inputs @ ((weight / scale).round() * scale - weight).T).norm().item()

    rows = error(weight.abs().amax(dim=1, keepdim=True) / 127)
    return abs(answer * rows / error(weight.abs().max() / 127) - 1) < 0.1


@judge("08.1")
def _pairs(answer: int, profile: Profile) -> bool:
    return answer == round((2 * 0.2 / 0.05) ** 2)


@judge("09.1")
def _night(answer: int, profile: Profile) -> bool:
    return answer == 20 * 10 * 3600
