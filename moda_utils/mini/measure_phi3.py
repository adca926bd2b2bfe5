"""Measures refinement on fresh drawn photos, captioned by the shipped mini Phi-3 Vision.

Three questions. Are the refiner's first answers right, and what is left after the gate? Are printed
words removed that no training has seen? And what does a MODA learn from raw and from refined texts?
"""

import argparse
import json
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import Phi3ForCausalLM, PreTrainedTokenizerFast

from ..answers import Answer, parse_answer
from ..captioning import Captioner, caption_from_profile
from ..catalog import load_catalog
from ..dataset import build_catalog, load_dataset_dir
from ..evaluation import grade as grade_texts
from ..evaluation import looks_read, mentions, score
from ..phi3_vision import Phi3VisionForConditionalGeneration, Phi3VisionProcessor
from ..profiles import CHECKPOINTS, ROOT, Profile, get_profile
from ..refinement import (
    OPENINGS,
    Item,
    Refiner,
    faults,
    opening,
    refine_from_profile,
    send_back,
)
from ..serving import generate_texts, load_model
from ..storage import write_json
from ..training import train_from_profile
from .catalogue import fresh_items, shop_title
from .corrections import LEAKS, UNSEEN_LEAKS, UNSEEN_WORDS, facts_of, parse, row
from .items import Item as Drawn
from .measure_phi3_vision import caption, grade, share
from .photos import as_stored

RESULT = ROOT / "benchmarks" / "results" / "mini-cpu-refinement.json"
REAL = ROOT / "benchmarks" / "results" / "mini-cpu-refinement-real.json"
SEED = 61
"""Of the photos to measure on; no training and no development has seen them."""
_BATCH = 64
Answered = list[tuple[str | None, bool]]  # description, valid JSON that came to its end


def captioned(captioner: Captioner, n: int, seed: int, printed: bool | None = None) -> list[Item]:
    """Fresh items as rows of a catalogue: metadata, a shop's title, caption, and what is drawn."""
    rng = random.Random(f"titles/{seed}")
    rows = caption(captioner, fresh_items(n, seed, printed=printed), n)
    return [
        row(facts_of(drawn), text, rng) | {"title": shop_title(drawn, rng), "drawn": drawn}
        for drawn, text, _ in rows
    ]


def first_answers(refiner: Refiner, items: Sequence[Item]) -> Answered:
    """What the refiner answers when it is asked for the first time."""
    answers = in_batches(refiner, [refiner.prepare(item) for item in items])
    parsed = [(*parse_answer(*answer), answer.ended) for answer in answers]
    return [(text, status == "ok" and ended) for text, status, ended in parsed]


def in_batches(ask: Callable[[Sequence[Any]], list[Any]], inputs: Sequence[Any]) -> list[Any]:
    """What `ask` makes of all inputs: a refiner of conversations, its `refine` of items."""
    starts = range(0, len(inputs), _BATCH)
    return [done for start in starts for done in ask(inputs[start : start + _BATCH])]


def repeats(text: str | None, words: str) -> bool:
    """Is any word of what is printed left in a text?"""
    return any(mentions(text or "", word) for word in re.findall(r"\w{2,}", words))


def left(texts: Sequence[str | None], words: Sequence[str]) -> dict:
    """Share of the texts in which printed words are left."""
    return share(sum(map(repeats, texts, words)), len(texts))


def graded(items: Sequence[Item], answers: Answered) -> dict:
    """Shares of valid JSON and of right attributes."""
    rows = [(item["drawn"], *answer) for item, answer in zip(items, answers, strict=True)]
    return {k: v for k, v in grade(rows).items() if k != "word_that_is_not_there"}


def variety(texts: Sequence[str]) -> dict:
    """Different texts, and the most frequent beginning of three words."""
    openings = Counter(" ".join(text.split()[:3]) for text in texts)
    opening, count = openings.most_common(1)[0]
    return {
        "distinct": share(len(set(texts)), len(texts)),
        "largest_opening": {"words": opening, **share(count, len(texts))},
        "words_per_description": round(sum(len(text.split()) for text in texts) / len(texts), 1),
    }


def measure_stage(refiner: Refiner, items: Sequence[Item]) -> dict:
    """Captions, first answers and final descriptions of the same items."""
    first, final = first_answers(refiner, items), in_batches(refiner.refine, items)
    n, statuses = len(items), Counter(refined.status for refined in final)
    descriptions = [refined.description for refined in final]
    result = {
        "n": n,
        "captions": graded(items, [(item["caption"], True) for item in items]),
        "first_answers": graded(items, first),
        "after_the_gate": graded(items, [(text, True) for text in descriptions]),
        **{name: share(statuses[name], n) for name in ("retried", "fallback")},
        "details_kept": details_kept(items, [text for text, _ in first]),
        "begun_as_asked": begun_as_asked(items, [text for text, _ in first]),
        **variety(descriptions),
    }
    printed = [n for n, item in enumerate(items) if item["drawn"].printed_word]
    words = [items[n]["drawn"].printed_word for n in printed]
    stages = {
        "captions": [item["caption"] for item in items],
        "first_answers": [text for text, _ in first],
        "after_the_gate": descriptions,
    }
    result["printed_word_left"] = {
        name: left([texts[n] for n in printed], words) for name, texts in stages.items()
    }
    return result


def measure_second(refiner: Refiner, items: Sequence[Item]) -> dict | None:
    """A faulty caption as the first answer, sent back: how many second answers have no fault?"""
    asked, rows = [], []
    for item in items:
        if item["caption"] and (reasons := faults(item["caption"], item)):
            text = json.dumps({"description": item["caption"]})
            asked.append(send_back(refiner.prepare(item), Answer(text, True), reasons))
            rows.append(item)
    pairs = zip(in_batches(refiner, asked), rows, strict=True)
    sound = sum(not faults(parse_answer(*answer)[0], item) for answer, item in pairs)
    return share(sound, len(rows)) if rows else None


def details_kept(items: Sequence[Item], texts: Sequence[str | None]) -> dict | None:
    """What only the photo shows ("with stripes", "without sleeves"): is it still in the text?"""
    told = []
    for item, text in zip(items, texts, strict=True):
        parts = parse(item["caption"] or "")
        if parts and parts.about and '"' not in parts.about:
            told.append(parts.about in (text or ""))
    return share(sum(told), len(told)) if told else None


def begun_as_asked(items: Sequence[Item], texts: Sequence[str | None]) -> dict:
    """Do the sentences begin as Prompt II asks?"""
    fields = {way: field for field, way in OPENINGS.items()}
    right = 0
    for item, text in zip(items, texts, strict=True):
        field = fields[opening(item)]
        wanted = item[field].lower() if field else ("a ", "an ")
        right += (text or "").lower().startswith(wanted)
    return share(right, len(items))


def measure_unseen(refiner: Refiner, shirts: Sequence[Item]) -> dict:
    """Captions whose printed word is replaced by one that no training has seen."""
    result = {}
    for name, wordings in (("known_wordings", LEAKS), ("unseen_wordings", UNSEEN_LEAKS)):
        rng = random.Random(name)
        items, words = [], []
        for item in shirts:
            parts = parse(item["caption"] or "")
            if parts and '"' in parts.about:
                words.append(rng.choice(UNSEEN_WORDS))
                told = rng.choice(wordings).format(word=words[-1])
                items.append({**item, "caption": str(replace(parts, about=told))})
        first, final = first_answers(refiner, items), in_batches(refiner.refine, items)
        result[name] = {
            "captions": left([item["caption"] for item in items], words),
            "first_answers": left([text for text, _ in first], words),
            "after_the_gate": left([refined.description for refined in final], words),
            "first_answers_all_four": graded(items, first)["all_four"],
            "fallback": share(sum(r.status == "fallback" for r in final), len(final)),
        }
    return result


def measure_moda(profile: Profile, printed: int, n: int, seed: int) -> dict:
    """Train MODA on raw and on refined texts of the drawn catalogue; describe fresh photos."""
    build_catalog(profile)
    caption_from_profile(profile)
    refine_from_profile(profile)
    result: dict[str, Any] = {}
    for texts in ("raw", "refined"):
        history = train_from_profile(profile, f"moda-{texts}", captions=texts)
        moda, processor = load_model(profile.run_dir(f"moda-{texts}") / "best")
        result[texts] = {"validation_loss": round(history.best["loss"], 4)}
        for name, size, kind in (("printed_shirts", printed, True), ("natural_mix", n, None)):
            drawn, embeds = [], []
            for item, photo in fresh_items(size, seed + (kind is None), printed=kind):
                drawn.append(item)
                pixels = processor(images=as_stored(photo))["pixel_values"]
                with torch.inference_mode():
                    embeds.append(moda.encode_images(pixels))
            descriptions, _ = generate_texts(moda, processor, torch.cat(embeds))
            result[texts][name] = described(drawn, descriptions)
    return result


def described(items: Sequence[Drawn], texts: Sequence[str]) -> dict:
    """Printed words in MODA's descriptions (the item's own, or any at all), and its grade."""
    printed = [n for n, item in enumerate(items) if item.printed_word]
    frame = pd.DataFrame([facts_of(item) | {"product_id": str(n)} for n, item in enumerate(items)])
    return {
        "own_word": left([texts[n] for n in printed], [items[n].printed_word for n in printed]),
        "any_word": share(sum(looks_read(text, "") for text in texts), len(texts)),
        "overall": score(texts, frame)["criteria"]["overall"],
    }


def measure(options: argparse.Namespace) -> dict:
    """All figures, computed in float32 on the CPU."""
    begin = time.perf_counter()
    kind = Phi3VisionForConditionalGeneration
    vision = kind.from_pretrained(options.captioner, dtype=torch.float32)
    captioner = Captioner(vision, Phi3VisionProcessor.from_pretrained(options.captioner))
    refiner = load_refiner(options.checkpoint)
    natural = captioned(captioner, options.n, options.seed)
    shirts = captioned(captioner, options.printed, options.seed + 1, printed=True)
    result = {
        "profile": "mini", "device": "cpu", "data": "drawn", "seed": options.seed,
        "parameters": refiner.model.num_parameters(),
        "natural_mix": measure_stage(refiner, natural),
        "printed_shirts": measure_stage(refiner, shirts),
        "unseen_words": measure_unseen(refiner, shirts),
        "second_answers_without_a_fault": measure_second(refiner, [*natural, *shirts]),
    }  # fmt: skip
    if options.moda:
        with tempfile.TemporaryDirectory() as folder:
            profile = replace(get_profile("mini"), home=Path(folder))
            result["moda_trained_on"] = measure_moda(
                profile, options.printed, options.n, options.seed + 2
            )
    return result | {"seconds": round(time.perf_counter() - begin)}


def load_refiner(folder: Path | str) -> Refiner:
    """A refiner from a checkpoint folder, in float32."""
    model = Phi3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return Refiner(model, PreTrainedTokenizerFast.from_pretrained(folder))


def measure_photos(folder: Path) -> dict:
    """Run both stages on a folder of real photos and report; holds no text and no photo of it."""
    with tempfile.TemporaryDirectory() as home:
        profile = replace(
            get_profile("mini"), home=Path(home), data_source=str(folder), data_label="real"
        )
        build_catalog(profile)
        captioning = caption_from_profile(profile)
        refinement = refine_from_profile(profile)
        catalog = load_catalog(profile.catalog_path)
        rows = [row for part in load_dataset_dir(profile.dataset_dir).values() for row in part]
        lines = profile.refined_path.read_text(encoding="utf-8").splitlines()
        faults = Counter(kind for line in lines for kind in _kinds(json.loads(line)["faults"]))
        table = pd.DataFrame(rows).drop(columns="image")
        grades = {
            source: grade_texts(list(table[f"description_{source}"]), table)
            for source in ("raw", "refined")
        }
        return {
            "profile": "mini", "device": "cpu", "data": "real sample",
            "note": "the mini models have never seen a photograph",
            "items": len(catalog.frame), "in_the_dataset": len(rows),
            "left_out": len(catalog.skipped),
            "captions": dict(captioning.statuses), "refined": dict(refinement.statuses),
            "first_answers_with_a_fault": dict(faults.most_common()),
            "criteria": {
                source: {name: round(frame[name].mean(), 2) for name in frame if name != "reason"}
                for source, frame in grades.items()
            },
            "distinct": variety([row["description_refined"] for row in rows])["distinct"],
        }  # fmt: skip


def _kinds(faults: Sequence[str]) -> set[str]:
    """What kinds of faults there are, without what the texts say."""
    return {re.split(r":| \(| repeats", fault)[0] for fault in faults}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `python -m moda_utils.mini measure-phi3`."""
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINTS / "phi3")
    parser.add_argument("--captioner", type=Path, default=CHECKPOINTS / "phi3_vision")
    parser.add_argument("-n", type=int, default=1500, help="fresh items")
    parser.add_argument("--printed", type=int, default=600, help="fresh shirts with a word")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--no-moda", dest="moda", action="store_false", help="train no MODA")
    parser.add_argument("--photos", type=Path, help="real photos: run on this folder instead")
    parser.add_argument("--out", type=Path, help="JSON file to write")


def run(options: argparse.Namespace) -> None:
    """Measure, print and write the JSON."""
    result = measure_photos(options.photos) if options.photos else measure(options)
    print(json.dumps(result, indent=2))
    write_json(options.out or (REAL if options.photos else RESULT), result)
