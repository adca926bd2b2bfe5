"""How well does MODA describe photos that no catalogue holds, and real ones?

    python benchmarks/descriptions.py fresh     train on the drawn catalogue, describe fresh items
    python benchmarks/descriptions.py fresh --captions refined       the teachers' texts to train on
    python benchmarks/descriptions.py real      train and test on the real sample, five splits

All train by the recipe of notebook 05, with template descriptions where nothing else is said, and
put the systems of notebook 06 beside MODA. Results are printed and written to benchmarks/results/.
Photos of the sample stay where they are; nothing of them is stored.
"""

import argparse
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from moda_utils.captioning import Captioner, caption_catalog, captions_journal
from moda_utils.catalog import Catalog, assign_splits, from_table, read_catalog
from moda_utils.dataset import build_catalog, template_description, texts_of
from moda_utils.evaluation import (
    CRITERIA,
    SYSTEMS,
    evaluate,
    majority_descriptions,
    nearest_descriptions,
    shuffled,
    zero_shot_descriptions,
)
from moda_utils.features import Examples, embed_photos
from moda_utils.mini.catalogue import fresh_items
from moda_utils.mini.photos import as_stored
from moda_utils.profiles import ROOT, Profile, get_profile
from moda_utils.refinement import Refiner, captioned_items, refine_items, refined_journal
from moda_utils.runs import History
from moda_utils.serving import generate_texts
from moda_utils.storage import write_json
from moda_utils.training import recipe, start_model, train

SAMPLE = ROOT.parent / "shared" / "fashion_sample"
FRESH_SEED = 7  # no training and no catalogue uses it
STUDENT_T = {5: 2.776}  # 97.5 % quantile for n - 1 degrees of freedom


class Shop:
    """A catalogue that MODA is trained on, its photos embedded, and a blind MODA beside it."""

    def __init__(
        self,
        profile: Profile,
        catalog: Catalog,
        run: str,
        seed: int = 0,
        texts: Mapping[str, str] | None = None,  # {product_id: description}; templates without
    ):
        self.profile, self.seed, self.texts = profile, seed, texts
        frame = catalog.frame
        self.train = frame[frame["split"] == "train"]
        self.model, self.processor = start_model(profile, seed)
        splits = ("train", "validation")
        examples = {name: self._examples(catalog, frame[frame["split"] == name]) for name in splits}
        self.examples = examples["train"]
        self.history = self._train(self.model, examples, run)
        self.blind, _ = start_model(profile, seed)
        wrong = {
            name: replace(rows, image_embeds=permuted(rows.image_embeds))
            for name, rows in examples.items()
        }
        self._train(self.blind, wrong, f"{run}-blind", profile.epochs // 2)

    def embed(self, catalog: Catalog, rows: pd.DataFrame) -> Tensor:
        """Embeddings (N, D) of a catalogue's rows by the frozen encoder."""
        photos = [catalog.root / name for name in rows["image"]]
        images, folder = self.processor.image_processor, self.profile.features_dir
        return embed_photos(self.model, images, photos, rows["image_sha256"], folder)

    def describe(self, embeds: Tensor, frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
        """What every system that needs no teacher says about the embedded photos of `frame`."""
        texts, ended = generate_texts(self.model, self.processor, embeds)
        guessed, guessed_ended = generate_texts(self.blind, self.processor, permuted(embeds))
        known, learnt = self.examples.image_embeds, self.examples.descriptions
        said = {
            "majority": majority_descriptions(self.train, frame),
            "blind": guessed,
            "shuffled": shuffled(texts, frame),
            "nearest": nearest_descriptions(known, learnt, embeds),
            "zero_shot": zero_shot_descriptions(embeds, self.train, self.profile.vision),
            "template": _templates(frame),
            "moda": texts,
        }
        systems = {name: {"descriptions": descriptions} for name, descriptions in said.items()}
        systems["moda"]["ended"], systems["blind"]["ended"] = ended, guessed_ended
        systems["template"]["sees_metadata"] = True
        return systems

    def _examples(self, catalog: Catalog, rows: pd.DataFrame) -> Examples:
        names = list(rows["product_id"])
        texts = [self.texts[name] for name in names] if self.texts else _templates(rows)
        return Examples(self.embed(catalog, rows), texts, names)

    def _train(
        self, model: Any, examples: dict[str, Examples], run: str, epochs: int | None = None
    ) -> History:
        changes = {"epochs": epochs} if epochs else {}
        config = recipe(self.profile, seed=self.seed, snapshot_epochs=(), **changes)
        parts = examples["train"], examples["validation"]
        return train(model, self.processor, *parts, config, self.profile.run_dir(run))


def permuted(embeds: Tensor) -> Tensor:
    """The embeddings (N, D) in another order, the same for the same N."""
    return embeds[torch.randperm(len(embeds), generator=torch.Generator().manual_seed(0))]


def _templates(rows: pd.DataFrame) -> list[str]:
    return [template_description(row) for row in rows.to_dict("records")]


def teach(profile: Profile, catalog: Catalog) -> pd.DataFrame:
    """The teachers' texts: description_raw and description_refined, in the catalogue's order."""
    captions = captions_journal(profile)
    caption_catalog(catalog, Captioner.load(profile), captions)
    items = captioned_items(catalog, captions)
    refined = refined_journal(profile, items)
    refine_items(items, Refiner.load(profile), refined)
    return texts_of(catalog, raw=captions.done(), refined=refined.done())


def draw_fresh(folder: Path, n: int) -> tuple[Catalog, dict[str, str]]:
    """A catalogue of `n` items drawn for this purpose, and {product_id: printed word}."""
    folder.mkdir(parents=True)
    rows, printed = [], {}
    for number, (item, photo) in enumerate(fresh_items(n, FRESH_SEED)):
        name = f"fresh-{number:05d}"
        as_stored(photo).save(folder / f"{name}.png")
        fields = ("gender", "category", "sub_category", "product_type", "colour", "usage")
        row = {"product_id": name, "image": f"{name}.png"}
        rows.append(row | {field: getattr(item, field) for field in fields})
        if item.printed_word:
            printed[name] = item.printed_word
    return from_table(pd.DataFrame(rows), folder), printed


def measure_fresh(profile: Profile, n: int, captions: str) -> dict[str, Any]:
    """Train on the drawn catalogue, then score descriptions of fresh items."""
    catalog, texts = build_catalog(profile), None
    if captions != "template":
        table = teach(profile, catalog).set_index("product_id")
        texts = table[f"description_{captions}"].to_dict()
    shop = Shop(profile, catalog, "moda", texts=texts)
    fresh, printed = draw_fresh(profile.home / "fresh", n)
    systems = shop.describe(shop.embed(fresh, fresh.frame), fresh.frame)
    references, missing = _templates(fresh.frame), {}
    if texts is None:
        missing = dict.fromkeys(("teacher_raw", "teacher_refined"), "not asked about fresh items")
    else:
        taught = teach(replace(profile, home=profile.home / "teachers"), fresh)
        references = taught["description_refined"].tolist()
        for name in ("raw", "refined"):
            said = taught[f"description_{name}"].tolist()
            systems[f"teacher_{name}"] = {"descriptions": said, "sees_metadata": name == "refined"}
    for system in systems.values():
        system["printed"] = printed
    return evaluate(
        dict.fromkeys(SYSTEMS) | systems,
        fresh.frame,
        profile,
        missing=missing,
        references=references,
        about={
            "data": "fresh drawn items",
            "references": "template" if texts is None else "refined",
            "trained_on": f"{len(shop.train)} drawn items, {captions} descriptions",
            "validation_loss": round(shop.history.best["loss"], 4),
        },
    )


def measure_real(profile: Profile, seeds: Sequence[int]) -> dict[str, Any]:
    """Train on 80 % of the real sample and score the test split, once per seed of the split."""
    catalog = read_catalog(SAMPLE)
    results = []
    for seed in seeds:
        split = replace(catalog, frame=assign_splits(catalog.frame, seed=seed))
        shop = Shop(profile, split, f"real-{seed}", seed)
        test = split.frame[split.frame["split"] == "test"]
        results.append(evaluate(shop.describe(shop.embed(split, test), test), test, profile))
    systems = {
        name: {
            "criteria": {
                criterion: over_seeds(
                    [r["systems"][name]["criteria"][criterion]["value"] for r in results]
                )
                for criterion in CRITERIA
            },
            "sees_metadata": results[0]["systems"][name]["sees_metadata"],
        }
        for name in results[0]["systems"]
    }
    return {
        "data": "real sample",
        "items": len(catalog.frame),
        "left_out": len(catalog.skipped),
        "seeds": list(seeds),
        "test_items": [result["n"] for result in results],
        "interval": "95 %, Student's t over the seeds of the split",
        "eos_rate": [result["systems"]["moda"]["eos_rate"]["value"] for result in results],
        "systems": systems,
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
    kinds = ["template", "raw", "refined"]
    parser.add_argument(
        "--captions", choices=kinds, default=kinds[0], help="to train on, fresh only"
    )
    options = parser.parse_args()
    if options.what == "real" and not SAMPLE.is_dir():
        sys.exit(
            f"There is no real sample at {os.path.relpath(SAMPLE, ROOT)}: nothing was measured."
        )
    with tempfile.TemporaryDirectory() as folder:
        profile = replace(get_profile("mini"), home=Path(folder))
        if options.what == "fresh":
            result = measure_fresh(profile, options.n, options.captions)
        else:
            profile = replace(profile, data_source=str(SAMPLE), data_label="real")
            result = measure_real(profile, range(5))
    name = options.what if options.captions == kinds[0] else f"{options.what}-{options.captions}"
    path = ROOT / "benchmarks" / "results" / f"mini-cpu-descriptions-{name}.json"
    write_json(path, {"profile": "mini", "torch": torch.__version__.split("+")[0]} | result)
    for name, system in result["systems"].items():
        values = {c: s["value"] for c, s in system.get("criteria", {}).items()}
        print(f"{name:16}", values or system["missing"])
    print(f"-> {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
