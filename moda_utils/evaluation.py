"""How good are descriptions? Five criteria by rules that anyone can check, and floors to beat.

Each criterion runs from 0 to 10 for every item and compares what the text states
(`attributes.extract`) with the catalogue:

* colour: F1 of the item's colour and the colours named;
* style, category, gender: 10 where just the item's usage, product type or gender is named, else 0;
* factual consistency: the share of all stated attributes that hold; a word outside the lexicon that
  looks like an attribute ("saree") does not hold, and a text that states nothing gets 0;
* overall: the mean of the five.

Intervals are 95 % percentile bootstrap intervals that draw groups, not items: two photos of one
product are not two independent facts.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .attributes import Attributes, extract, vocabulary
from .dataset import SINGULAR, template_description
from .overlap import bleu, bleu_counts, cider_d, rouge_l
from .profiles import Checkpoint, Profile
from .storage import read_json, write_json

ATTRIBUTES = {  # criterion: (field of the text's Attributes, column of the catalogue)
    "colour": ("colours", "colour"),
    "style": ("usages", "usage"),
    "category": ("product_types", "product_type"),
    "gender": ("genders", "gender"),
}
CRITERIA = (*ATTRIBUTES, "factual_consistency", "overall")
SYSTEMS = (  # what a report shows side by side: floors, rivals, ceilings, and MODA
    "majority", "blind", "shuffled", "nearest", "zero_shot",
    "template", "teacher_raw", "teacher_refined", "moda",
)  # fmt: skip
MIN_ITEMS = 5  # a class with fewer says little: it is listed

PROMPTS = {  # what a photo is compared with to tell one attribute
    "colour": "a photo of {} item",
    "usage": "{} item",
    "product_type": "a photo of {}",
    "gender": "item for {}",
}

_SEEN_TEXT = re.compile(r"[\"“”«»]|\b(text|read(s|ing)?|say(s|ing)|logo|slogan|lettering)\b", re.I)
_CAPITALS = re.compile(r"\b[A-Z]{3,}\b")


def grade(descriptions: Sequence[str | None], frame: pd.DataFrame) -> pd.DataFrame:
    """Grade every description: the six criteria (0 to 10) and `reason`, one row per item.

    Args:
        descriptions: one per row of `frame`; None or "" states nothing.
        frame: the catalogue's columns colour, usage, product_type and gender.

    Returns:
        A table with the index of `frame`. A criterion is NaN where the catalogue's own value is
        empty or outside the lexicon: there is nothing to compare with.
    """
    if len(descriptions) != len(frame):
        raise ValueError(f"{len(frame)} items but {len(descriptions)} descriptions: one per item.")
    pairs = zip(descriptions, frame.to_dict("records"), strict=True)
    rows = [_grade_one(extract(text or ""), truth) for text, truth in pairs]
    return pd.DataFrame(rows, index=frame.index, columns=[*CRITERIA, "reason"])


def score(
    descriptions: Sequence[str | None],
    frame: pd.DataFrame,
    *,
    ended: Sequence[bool] | None = None,
    printed: Mapping[str, str] | None = None,
    references: Sequence[str | None] | None = None,
    sees_metadata: bool = False,
    seed: int = 0,
    resamples: int = 2_000,
) -> dict[str, Any]:
    """All figures of one system, ready for JSON: each with n and a 95 % interval over groups.

    Args:
        descriptions: one per row of `frame`.
        frame: catalogue rows; without a column `group` every item is its own group.
        ended: did the model end each text by itself?
        printed: {product_id: word on the photo} where it is known. Leakage is then the share of
            these items whose text holds their word; otherwise the share of all texts that look as
            if something had been read off the photo.
        references: a text per row, or None, that BLEU (0 to 100), ROUGE-L (0 to 1) and CIDEr-D (0
            to 10) compare with.
        sees_metadata: a ceiling, not a rival: it was told the answers.

    Raises:
        ValueError: no item, or not one description per item.
    """
    if frame.empty:
        raise ValueError("There is no item to evaluate: choose a split that has some.")
    texts = [(text or "").strip() for text in descriptions]
    grades = grade(texts, frame)
    weights = _bootstrap_weights(frame, seed, resamples)
    criteria = {}
    for name in CRITERIA:
        classes = frame[ATTRIBUTES[name][1] if name in ATTRIBUTES else "product_type"]
        macro = _macro_interval(grades[name], classes, weights)
        criteria[name] = {**_interval(grades[name], weights), "macro": macro}
    read = [extract(text) for text in texts]
    return {
        "sees_metadata": sees_metadata,
        "n": len(frame),
        "criteria": criteria,
        "ocr_leakage": _leakage(texts, frame, printed, weights),
        "eos_rate": None if ended is None else _interval(np.asarray(ended, float), weights),
        "distinct": round(len(set(texts)) / len(texts), 4),
        **_overlaps(texts, references, weights),
        "length": _interval([len(text.split()) for text in texts], weights),
        "empty": sum(not text for text in texts),
        "states_nothing": sum(attributes == Attributes() for attributes in read),
        "unknown": dict(Counter(word for found in read for word in sorted(found.unknown))),
    }


def paired_difference(
    after: Sequence[float], before: Sequence[float], frame: pd.DataFrame, seed: int = 0
) -> dict[str, float | int | None]:
    """Mean of `after` - `before`, item by item: value, low, high of its 95 % interval, and n.

    `after`, `before` (N,): a number per row of `frame`; the result has their unit, points if they
    are of `grade`. NaN leaves an item out. `seed`: of the 2,000 draws of groups, as in `score`.

    Raises:
        ValueError: not one number of each per row.
    """
    if not len(after) == len(before) == len(frame):
        raise ValueError(f"{len(frame)} items, but {len(after)} and {len(before)} numbers.")
    change = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    return _interval(change, _bootstrap_weights(frame, seed))


def evaluate(
    systems: Mapping[str, Mapping[str, Any] | None],
    frame: pd.DataFrame,
    profile: Profile,
    *,
    missing: Mapping[str, str] | None = None,
    references: Sequence[str | None] | None = None,
    about: Mapping[str, Any] | None = None,
    path: Path | str | None = None,
) -> dict[str, Any]:
    """Score systems side by side on the same items and write the result.

    Args:
        systems: {name: {"descriptions": [...], and options of `score`}}; None for a system whose
            artefacts are not there: its row says so.
        frame: the catalogue rows of the test split.
        missing: {name: why it is missing}.
        references: one per row, or None, for all systems.
        about: further entries of the file.
        path: the JSON file, such as `profile.evaluation_path("moda")`; None writes nothing.
            Figures that were added to it later stay there as long as these ones are the same.

    Returns:
        What the file holds: profile, data, n, groups, classes too small to judge, systems.
    """
    scores = {}
    for name, system in systems.items():
        reason = (missing or {}).get(name, "its artefacts are not here")
        options = {"references": references, **(system or {})}
        scores[name] = score(frame=frame, **options) if system else {"missing": reason}
    sizes = {column: frame[column].value_counts() for _, column in ATTRIBUTES.values()}
    small = {column: counts[counts < MIN_ITEMS].to_dict() for column, counts in sizes.items()}
    result = {
        "profile": profile.name,
        "data": profile.data_label,
        "n": len(frame),
        "groups": int(_groups(frame).max() + 1),
        "small_classes": small,
        **(about or {}),
        "systems": scores,
    }
    if path:
        earlier = read_json(path) if Path(path).exists() else {}
        if result.items() <= earlier.items():  # else they belong to other descriptions
            result |= earlier
        write_json(path, result)
    return result


def confusions(
    descriptions: Sequence[str | None], frame: pd.DataFrame, criterion: str
) -> dict[str, dict[str, int]]:
    """How often each true value was described as which: {true: {stated: count}}.

    Several stated values are joined by " + "; "none" stands for a text that states none.
    """
    field, column = ATTRIBUTES[criterion]
    read = (getattr(extract(text or ""), field) for text in descriptions)
    stated = [" + ".join(sorted(values)) or "none" for values in read]
    table: dict[str, dict[str, int]] = {true: {} for true in sorted(set(frame[column]))}
    for (true, said), count in Counter(zip(frame[column], stated, strict=True)).most_common():
        table[true][said] = count
    return table


def majority_descriptions(train: pd.DataFrame, test: pd.DataFrame) -> list[str]:
    """The floor: one sentence for all, from the most frequent value of each training column."""
    modes = {column: train[column].mode().iloc[0] for _, column in ATTRIBUTES.values()}
    return [template_description(modes)] * len(test)


def nearest_descriptions(train: Any, descriptions: Sequence[str], test: Any) -> list[str]:
    """For each test photo the description of the training photo that looks most alike.

    `train` and `test` are embeddings, arrays or CPU tensors (N, D); likeness is the cosine.
    """
    return [descriptions[best] for best in _nearest(train, test)]


def zero_shot_descriptions(image_embeds: Any, train: pd.DataFrame, vision: Checkpoint) -> list[str]:
    """Descriptions by CLIP alone: per attribute the training value whose text is closest.

    Args:
        image_embeds: (N, 512), embeddings of the photos by the same checkpoint.
        train: the catalogue rows whose values may be chosen from.
        vision: a CLIP checkpoint; only its text tower is loaded.
    """
    from .features import embed_texts  # here, so that scoring alone doesn't wait for torch

    chosen = {}
    for column, prompt in PROMPTS.items():
        values = sorted(set(train[column]) - {""})
        words = [SINGULAR.get(value.lower(), value.lower()) for value in values]
        texts = embed_texts(vision, [prompt.format(word) for word in words])  # (values, 512)
        chosen[column] = [values[best] for best in _nearest(texts, image_embeds)]
    return [template_description(row) for row in pd.DataFrame(chosen).to_dict("records")]


def shuffled(descriptions: Sequence[str], frame: pd.DataFrame, seed: int = 0) -> list[str]:
    """Give every item the description of an item of another group, as if embeddings were shuffled.

    A description depends on the photo alone, so to exchange texts is to exchange photos.
    """
    groups = _groups(frame)
    place = np.random.default_rng(seed).permutation(groups.max() + 1)  # of each group
    order = np.argsort(place[groups], kind="stable")  # items, group after group
    step = int(np.bincount(groups).max())  # no group is longer: the giver is in another one
    given = np.empty(len(frame), dtype=int)
    given[order] = np.roll(order, step)
    return [descriptions[index] for index in given]


def printed_words(root: Path | str) -> dict[str, str] | None:
    """{product_id: printed word} of a drawn catalogue, None for photos whose words nobody noted."""
    path = Path(root) / "data" / "drawn_truth.csv"
    if not path.exists():
        return None
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return table[table["printed_word"] != ""].set_index("product_id")["printed_word"].to_dict()


def _nearest(known: Any, photos: Any) -> np.ndarray:
    """For each of `photos` (N, D) the row of `known` (M, D) with the largest cosine: (N,)."""
    known, photos = (np.asarray(embeds, dtype=np.float32) for embeds in (known, photos))
    # (N, M); the length of a photo's embedding changes nothing in the order of its row.
    return (photos @ (known / np.linalg.norm(known, axis=1, keepdims=True)).T).argmax(axis=1)


def _grade_one(stated: Attributes, truth: Mapping[str, str]) -> dict[str, Any]:
    grades, faults, holding, total = {}, [], 0, 0
    for criterion, (field, column) in ATTRIBUTES.items():
        named, true = getattr(stated, field), _canonical(field, str(truth[column]))
        if true is None:
            grades[criterion] = np.nan
            continue
        hit = true in named
        holding += hit
        total += len(named)
        exact = 10.0 if named == {true} else 0.0
        grades[criterion] = 20.0 * hit / (1 + len(named)) if criterion == "colour" else exact
        if not exact:
            said = " and ".join(sorted(named)) or "nothing"
            faults.append(f"{criterion}: says {said}, is {true}")
    total += len(stated.unknown)
    faults += [f"unknown word: {word}" for word in sorted(stated.unknown)]
    grades["factual_consistency"] = 10.0 * holding / total if total else 0.0
    grades["overall"] = float(np.nanmean(list(grades.values())))
    return {**grades, "reason": "; ".join(faults)}


@cache
def _canonical(field: str, value: str) -> str | None:
    """A catalogue's value in the lexicon's spelling; another shop's words are looked up there."""
    spellings = {name.lower(): name for name in vocabulary(field)}
    if value.lower() in spellings:
        return spellings[value.lower()]
    read = getattr(extract(value), field)
    return next(iter(read)) if len(read) == 1 else None


def _groups(frame: pd.DataFrame) -> np.ndarray:
    """Group numbers 0 ... G-1, one per item (N,)."""
    groups = frame.get("group", np.arange(len(frame)))  # without groups every item is its own
    return np.unique(groups, return_inverse=True)[1]


def _bootstrap_weights(frame: pd.DataFrame, seed: int, resamples: int = 2_000) -> np.ndarray:
    """How often each resample drew each item's group: (1 + R, N), the first row all ones."""
    groups = _groups(frame)
    number = groups.max() + 1
    drawn = np.random.default_rng(seed).multinomial(number, [1 / number] * number, size=resamples)
    return np.vstack([np.ones(number), drawn])[:, groups].astype(np.float32)


def _interval(values: Any, weights: np.ndarray) -> dict[str, float | int | None]:
    """Mean with interval and n; NaN values are left out."""
    values = np.asarray(values, dtype=float)
    known = ~np.isnan(values)
    return {**_summary(_means(values[known], weights[:, known])), "n": int(known.sum())}


def _macro_interval(values: pd.Series, classes: pd.Series, weights: np.ndarray) -> dict[str, Any]:
    """Mean of the classes' means: rare classes count as much as frequent ones.

    A class that a resample missed keeps its mean there; left out, it would shift the interval.
    """
    known = values.notna().to_numpy()
    values, weights = values.to_numpy()[known], weights[:, known]
    members = pd.Series(values).groupby(classes.to_numpy()[known]).indices.values()
    means = [_means(values[at], weights[:, at]) for at in members]
    if not means:
        return {**_summary(np.empty(0)), "classes": 0}
    table = np.stack(means)  # (classes, 1 + R); NaN where a resample drew none of a class
    table = np.where(np.isnan(table), table[:, :1], table)
    return {**_summary(table.mean(axis=0)), "classes": len(means)}


def _means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean of values (N,) in every resample: (1 + R,); NaN where nothing was drawn."""
    counts = weights.sum(axis=1)
    return np.divide(weights @ values, counts, out=np.full(len(counts), np.nan), where=counts > 0)


def _summary(means: np.ndarray) -> dict[str, float | None]:
    if not len(means) or np.isnan(means[0]):
        return {"value": None, "low": None, "high": None}
    bounds = np.nanpercentile(means[1:], [2.5, 97.5])
    value, low, high = (round(float(x), 4) for x in (means[0], *bounds))
    return {"value": value, "low": low, "high": high}


def _overlaps(
    texts: list[str], references: Sequence[str | None] | None, weights: np.ndarray
) -> dict[str, Any]:
    """BLEU, ROUGE-L and CIDEr-D over the items that have a reference; None each without any."""
    known = [n for n, text in enumerate(references or ()) if isinstance(text, str) and text.strip()]
    if not known:
        return dict.fromkeys(("bleu", "rouge_l", "cider"))
    said, wanted = ([side[row] for row in known] for side in (texts, references))
    weights = weights[:, known]
    counts = weights @ bleu_counts(said, wanted)  # (1 + R, 10)
    return {
        "bleu": {**_summary(np.array([bleu(row) for row in counts])), "n": len(known)},
        "rouge_l": _interval(rouge_l(said, wanted), weights),
        "cider": _interval(cider_d(said, wanted), weights),
    }


def _leakage(
    texts: list[str], frame: pd.DataFrame, printed: Mapping[str, str] | None, weights: np.ndarray
) -> dict[str, Any]:
    """Share of texts that repeat what is written on the photo, and how that was decided."""
    if printed is None:
        titles = frame["title"] if "title" in frame else [""] * len(frame)
        leaks = [looks_read(text, title) for text, title in zip(texts, titles, strict=True)]
        return {**_interval(leaks, weights), "by": "signs: quotation, 'text', capitals, brand"}
    words = [printed.get(str(item)) for item in frame["product_id"]]
    pairs = zip(texts, words, strict=True)
    leaks = [mentions(text, word) if word else np.nan for text, word in pairs]
    return {**_interval(leaks, weights), "by": "the printed word"}


def mentions(text: str, word: str) -> bool:
    """Does a text hold a word, or words in this order, in any case?"""
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.I) is not None


def looks_read(text: str, title: str) -> bool:
    """Does a text look as if it repeated what is written on the item, or the title's brand?"""
    parts = re.split(r"\b(?:men|women|boys?|girls?|kids|infants?)\b", title, flags=re.I)
    brand = parts[0] if len(parts) > 1 else title.partition(" ")[0]  # else it has no known end
    words = [word for word in re.findall(r"\w{4,}", brand) if extract(word) == Attributes()]
    return bool(
        _SEEN_TEXT.search(text)
        or (_CAPITALS.search(text) and not text.isupper())
        or any(mentions(text, word) for word in words)
    )
