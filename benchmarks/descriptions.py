"""How well does MODA describe photos that no catalogue holds, and real ones?

    python benchmarks/descriptions.py fresh     train on the drawn catalogue, describe fresh items
    python benchmarks/descriptions.py real      train and test on the real sample, five splits

Both train with template descriptions by the recipe of notebook 05. Results are printed and written
to benchmarks/results/. Photos of the sample stay where they are; nothing of them is stored.
"""

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from moda_utils.catalog import assign_splits, build_catalog, read_catalog
from moda_utils.dataset import template_description
from moda_utils.evaluation import CRITERIA, majority_descriptions, score
from moda_utils.features import Examples, embed_photos
from moda_utils.mini.catalogue import fresh_items
from moda_utils.mini.photos import as_stored
from moda_utils.profiles import ROOT, Profile, get_profile
from moda_utils.serving import generate_texts, load_model
from moda_utils.storage import write_json
from moda_utils.training import recipe, start_model, train, train_from_profile

SAMPLE = ROOT.parent / "shared" / "fashion_sample"
FRESH_SEED = 7  # no training and no catalogue uses it
STUDENT_T = {5: 2.776}  # 97.5 % quantile for n - 1 degrees of freedom


def measure_fresh(profile: Profile, n: int) -> dict[str, Any]:
    """Train on the drawn catalogue, then score descriptions of `n` items drawn for this purpose."""
    catalog = build_catalog(profile)
    begin = time.perf_counter()
    history = train_from_profile(profile)
    seconds = time.perf_counter() - begin
    model, processor = load_model(profile.run_dir("moda") / "best")
    items, embeds = [], []
    for item, photo in fresh_items(n, FRESH_SEED):
        items.append(item)
        pixels = processor(images=as_stored(photo))["pixel_values"]
        with torch.inference_mode():
            embeds.append(model.encode_images(pixels))
    frame = pd.DataFrame(
        {
            "product_id": [f"fresh-{row}" for row in range(n)],
            "colour": [item.colour for item in items],
            "usage": [item.usage for item in items],
            "product_type": [item.product_type for item in items],
            "gender": [item.gender for item in items],
        }
    )
    texts, ended = generate_texts(model, processor, torch.cat(embeds))
    known = catalog.frame[catalog.frame["split"] == "train"]
    return {
        "data": "fresh drawn items",
        "n": n,
        "trained_on": f"{len(known)} drawn items, template descriptions",
        "training_seconds": round(seconds, 1),
        "validation_loss": round(history.best["loss"], 4),
        "systems": {
            "moda": score(texts, frame, ended=ended),
            "majority": score(majority_descriptions(known, frame), frame),
        },
    }


def measure_real(profile: Profile, seeds: Sequence[int]) -> dict[str, Any]:
    """Train on 80 % of the real sample and score the test split, once per seed of the split."""
    catalog = read_catalog(SAMPLE)
    photos = [catalog.root / name for name in catalog.frame["image"]]
    scores: dict[str, list[dict[str, Any]]] = {"moda": [], "majority": []}
    for seed in seeds:
        frame = assign_splits(catalog.frame, seed=seed)
        model, processor = start_model(profile, seed)
        embeds = embed_photos(
            model, processor.image_processor, photos, frame["image_sha256"], profile.features_dir
        )

        def examples(split: str, frame: pd.DataFrame = frame, embeds: Any = embeds) -> Examples:
            rows = (frame["split"] == split).to_numpy().nonzero()[0]
            texts = [template_description(row) for row in frame.iloc[rows].to_dict("records")]
            return Examples(
                embeds[torch.as_tensor(rows)], texts, list(frame["product_id"].iloc[rows])
            )

        run = profile.run_dir(f"real-{seed}")
        config = recipe(profile, seed=seed, snapshot_epochs=())
        train(model, processor, examples("train"), examples("validation"), config, run)
        test = frame[frame["split"] == "test"]
        texts, ended = generate_texts(model, processor, examples("test").image_embeds)
        known = frame[frame["split"] == "train"]
        scores["moda"].append(score(texts, test, ended=ended))
        scores["majority"].append(score(majority_descriptions(known, test), test))
    return {
        "data": "real sample",
        "items": len(catalog.frame),
        "left_out": len(catalog.skipped),
        "seeds": list(seeds),
        "test_items": [result["n"] for result in scores["moda"]],
        "interval": "95 %, Student's t over the seeds of the split",
        "eos_rate": [result["eos_rate"]["value"] for result in scores["moda"]],
        "systems": {
            name: {
                "criteria": {
                    criterion: over_seeds([r["criteria"][criterion]["value"] for r in results])
                    for criterion in CRITERIA
                }
            }
            for name, results in scores.items()
        },
    }


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Mean of a few runs and its 95 % interval."""
    mean = statistics.mean(values)
    half = STUDENT_T[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    figures = {"value": mean, "low": mean - half, "high": mean + half}
    return {name: round(x, 4) for name, x in figures.items()} | {"runs": list(values)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["fresh", "real"])
    parser.add_argument("-n", type=int, default=1000, help="fresh items (default: 1000)")
    options = parser.parse_args()
    if options.what == "real" and not SAMPLE.is_dir():
        sys.exit(
            f"There is no real sample at {os.path.relpath(SAMPLE, ROOT)}: nothing was measured."
        )
    with tempfile.TemporaryDirectory() as folder:
        profile = replace(get_profile("mini"), home=Path(folder))
        if options.what == "fresh":
            result = measure_fresh(profile, options.n)
        else:
            profile = replace(profile, data_source=str(SAMPLE), data_label="real")
            result = measure_real(profile, range(5))
    path = ROOT / "benchmarks" / "results" / f"mini-cpu-descriptions-{options.what}.json"
    write_json(path, {"profile": "mini", "torch": torch.__version__.split("+")[0]} | result)
    for name, system in result["systems"].items():
        print(name, json.dumps({c: s["value"] for c, s in system["criteria"].items()}))
    print(f"-> {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
