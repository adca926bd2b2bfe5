"""Measures mini Phi-3 Vision on fresh drawn photos, through the real processor and `generate`.

Nothing is read off the model but its sentences: attributes by the same lexicon that grades every
model of the course, printed words as words in capitals.
"""

import argparse
import json
import math
import re
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm

from ..answers import parse_answer
from ..attributes import extract
from ..captioning import PROMPT_I, Captioner
from ..phi3_vision import Phi3VisionForConditionalGeneration, Phi3VisionProcessor
from ..profiles import CHECKPOINTS, ROOT
from ..storage import write_json
from .catalogue import fresh_items
from .items import Item
from .measure import FIELDS
from .photos import as_stored

RESULT = ROOT / "benchmarks" / "results" / "mini-cpu-phi3-vision.json"
SEED = 41
"""Of the photos to measure on; no training and no development has seen them."""

_CHAT = "<|user|>\n<|image_1|>\n{}<|end|>\n<|assistant|>\n"
EDITED = {
    "another question": _CHAT.format("Could you please tell me about this product?"),
    "no JSON asked for": _CHAT.format("One sentence on this garment, no more."),
    "one sentence more": PROMPT_I.replace(
        "Exemple 1:", "Mention zips, laces and buttons wherever they can be seen.\n\nExemple 1:"
    ),
    "own example": PROMPT_I.replace("A pink women's blouse with lace trim", "A silk scarf in teal"),
    "one sentence reworded": PROMPT_I.replace(
        "Analyze the image and provide a concise", "Look closely at this picture and write a short"
    ),
}
"""Prompts that training has not seen: what a reader may try."""


def printed_words(description: str) -> set[str]:
    """The words in capitals: what a description claims to have read."""
    return set(re.findall(r"\b[A-Z]{2,}\b", description))


def share(hits: int, n: int) -> dict:
    """A share of n with its 95 % interval (Wilson)."""
    z, p = 1.96, hits / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low, high = max(0.0, middle - reach), min(1.0, middle + reach)
    return {"share": round(p, 4), "interval": [round(low, 4), round(high, 4)], "n": n}


def caption(
    captioner: Captioner, pairs: Iterable[tuple[Item, Image.Image]], n: int, batch: int = 32
) -> list[tuple[Item, str | None, bool]]:
    """(item, description, answer was valid JSON and came to its end) of each photo."""
    rows: list[tuple[Item, str | None, bool]] = []
    items, inputs = [], []
    for item, photo in tqdm(pairs, total=n, desc="captions", unit="photo"):
        items.append(item)
        inputs.append(captioner.prepare(as_stored(photo)))
        if len(items) == batch or len(rows) + len(items) == n:
            for known, answer in zip(items, captioner(inputs), strict=True):
                description, status = parse_answer(*answer)
                rows.append((known, description, status == "ok" and answer.ended))
            items, inputs = [], []
    return rows


def grade(rows: list[tuple[Item, str | None, bool]]) -> dict:
    """Shares of valid JSON, of right attributes, and of captions with a word that is not there."""
    hits: Counter[str] = Counter()
    for item, description, valid in rows:
        stated = extract(description or "")
        right = {name: getattr(stated, f"{name}s") == {getattr(item, name)} for name in FIELDS}
        untrue = bool(printed_words(description or "") - {item.printed_word})
        right |= {"all_four": all(right.values()), "word_that_is_not_there": untrue}
        hits.update({"json": valid} | right)
    return {name: share(count, len(rows)) for name, count in hits.items()}


def grade_words(rows: list[tuple[Item, str | None, bool]]) -> dict:
    """For shirts with a printed word: read and repeated, left out, or another word."""
    told = [(item, printed_words(description or "")) for item, description, _ in rows]
    n = len(told)
    words: dict[str, list[bool]] = {}
    for item, said in told:
        words.setdefault(item.printed_word, []).append(said == {item.printed_word})
    return {
        "read": share(sum(map(sum, words.values())), n),
        "left_out": share(sum(not said for _, said in told), n),
        "another_word": share(sum(bool(said - {item.printed_word}) for item, said in told), n),
        "read_by_gender": {
            gender: share(
                sum(said == {i.printed_word} for i, said in told if i.gender == gender),
                sum(i.gender == gender for i, _ in told),
            )
            for gender in sorted({item.gender for item, _ in told})
        },
        "read_by_word": {word: [sum(hits), len(hits)] for word, hits in sorted(words.items())},
    }


def measure(
    folder: Path | str, n: int = 1500, printed: int = 600, edited: int = 200, seed: int = SEED
) -> dict:
    """All figures of a checkpoint, computed in float32 on the CPU.

    Args:
        n: fresh items with the shares of the catalogue.
        printed: fresh shirts with a printed word.
        edited: fresh items for each prompt of `EDITED`.
        seed: of the items.
    """
    begin = time.perf_counter()
    model = Phi3VisionForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    processor = Phi3VisionProcessor.from_pretrained(folder)
    captioner = Captioner(model, processor)
    natural = caption(captioner, fresh_items(n, seed), n)
    shirts = caption(captioner, fresh_items(printed, seed + 1, printed=True), printed)
    result = {
        "profile": "mini", "device": "cpu", "data": "drawn", "seed": seed,
        "parameters": model.num_parameters(),
        "natural_mix": grade(natural), "printed_shirts": grade_words(shirts),
        "distinct_descriptions": len({description for _, description, _ in natural}),
        "words_per_description": round(
            sum(len((d or "").split()) for _, d, _ in natural) / n, 1
        ),
        "edited_prompts": {},
    }  # fmt: skip
    for number, (name, prompt) in enumerate(EDITED.items() if edited else ()):
        asked = Captioner(model, processor, prompt)
        rows = caption(asked, fresh_items(edited, seed + 2 + number), edited)
        graded = grade(rows)
        result["edited_prompts"][name] = {k: graded[k] for k in ("json", "all_four")}
    return result | {"seconds": round(time.perf_counter() - begin)}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `python -m moda_utils.mini measure-phi3-vision`."""
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINTS / "phi3_vision")
    parser.add_argument("-n", type=int, default=1500, help="fresh items")
    parser.add_argument("--printed", type=int, default=600, help="fresh shirts with a word")
    parser.add_argument("--edited", type=int, default=200, help="items for each edited prompt")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=RESULT, help="JSON file to write")


def run(options: argparse.Namespace) -> None:
    """Measure, print and write the JSON."""
    result = measure(options.checkpoint, options.n, options.printed, options.edited, options.seed)
    print(json.dumps(result, indent=2))
    write_json(options.out, result)
