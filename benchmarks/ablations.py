"""Which choices of MODA matter? Train every variant with several seeds, and grade what it says.

    python benchmarks/ablations.py                    all rows (make ablations)
    python benchmarks/ablations.py linear moda        only these, their difference and their costs
    python benchmarks/ablations.py --minutes 10       begins no run after that; call it again

A seed fixes all that is left to chance: the first weights, the order, the tenth of the items that a
run on a tenth learns from, and the photos that the descriptions are graded on. These are drawn
afresh where photos can be drawn; where not, they are those of the validation split, the same for
all seeds. The test split is never touched. Variants are compared seed by seed: both have met the
same items and the same photos.

Finished runs of the same settings and data are found again, killed ones go on. Descriptions that a
row learns from are made first, if the models that write them are on this machine. Once the plan is
complete, the result is written to benchmarks/results/. MODA_PROFILE=mini takes the small models,
MODA_PROFILE=full compares FashionCLIP and OPT-125M.
"""

import argparse
import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from moda_utils.captioning import caption_from_profile
from moda_utils.catalog import load_catalog
from moda_utils.dataset import build_catalog, load_dataset_dir
from moda_utils.device import best_device
from moda_utils.evaluation import CRITERIA, printed_words, score
from moda_utils.features import load_examples
from moda_utils.mini.catalogue import fresh_items
from moda_utils.mini.photos import as_stored
from moda_utils.profiles import ROOT, Profile, get_profile
from moda_utils.recipe import make_optimizer, recipe
from moda_utils.refinement import refine_from_profile
from moda_utils.serving import generate_texts
from moda_utils.storage import read_json, write_json
from moda_utils.training import collate, plan_epoch, tokenize, trained_weights
from moda_utils.variants import VARIANTS, start_variant, train_variant

TENTH, WHOLE = 0.1, 1.0
# Headroom is where items are few: there every row is run. Rows of the main question get more seeds.
QUESTION = ("moda", "linear", "linear-deep", "narrow", "moda-slow", "linear-slow")
ON_ALL_ITEMS = ("moda", "linear", "linear-deep", "narrow", "raw", "refined")
SEEDS, QUESTION_SEEDS = 5, 10
# What is compared with MODA's row, and with each other.
PAIRS = [(name, "moda") for name in VARIANTS if name != "moda"] + [
    ("linear-slow", "moda-slow"), ("linear", "moda-slow"), ("narrow", "linear"),
    ("linear-deep", "linear"),
    ("patches-mlp", "patches-linear"), ("patches-prefix", "patches-linear"),
    ("frozen-mlp", "frozen-linear"), ("frozen-queries", "frozen-linear"), ("refined", "raw"),
]  # fmt: skip
PHOTOS = 500  # drawn and graded for each seed
FRESH_SEED = 100  # with the seed of the run: photos that no training and no catalogue uses
STUDENT_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306,
             10: 2.262}  # fmt: skip
ROUNDS, STEPS, CAPTIONS, TOKENS = 5, 4, 5, 12  # of measuring times


class Settings(NamedTuple):
    """What is the same for all runs of a plan."""

    photos: int = PHOTOS  # drawn and graded for each seed
    epochs: int | None = None  # the profile's

    @property
    def changes(self) -> dict[str, Any]:
        return {"epochs": self.epochs} if self.epochs else {}


class Run(NamedTuple):
    seed: int
    share: float
    name: str

    def made_with(self, profile: Profile, settings: Settings) -> dict[str, Any]:
        """All that a finished run must have been made with to be taken for this one."""
        variant = VARIANTS[self.name]
        return {
            "photos": settings.photos,
            "recipe": asdict(recipe(profile, **variant.recipe | settings.changes)),
            "data": data_fingerprint(profile, variant.text),
        }

    def folder(self, profile: Profile, settings: Settings) -> Path:
        """A folder for these settings and data: runs of other ones are neither used nor lost."""
        made_with = json.dumps(self.made_with(profile, settings), sort_keys=True)
        sha = hashlib.sha256(made_with.encode()).hexdigest()[:8]
        return profile.run_dir(f"ablation-{self.name}-{self.share:g}-{self.seed}-{sha}")


def data_fingerprint(profile: Profile, text: str) -> str:
    """Hash of the photos of `dataset/` and of one kind of their descriptions."""
    columns = ["product_id", "image_sha256", f"description_{text}"]
    files = sorted((profile.dataset_dir / "data").glob("*.parquet"))
    rows = [[file.name, pd.read_parquet(file, columns=columns).to_json()] for file in files]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def plan(names: Iterable[str], seeds: int) -> list[Run]:
    """All runs, seed after seed: after any seed the rows can be compared."""
    runs = []
    for name in names:
        tenth = QUESTION_SEEDS if name in QUESTION else SEEDS
        runs += [Run(seed, TENTH, name) for seed in range(min(seeds, tenth))]
        whole = SEEDS if name in ON_ALL_ITEMS else 0
        runs += [Run(seed, WHOLE, name) for seed in range(min(seeds, whole))]
    return sorted(runs, key=lambda run: (run.seed, run.share))


# ---------------------------------------------------------------------------------------------
# One run


@lru_cache(maxsize=1)
def photos_to_grade(
    profile: Profile, seed: int, n: int
) -> tuple[list, pd.DataFrame, dict[str, str] | None, dict]:
    """Photos, what is true of them and printed on them, and room for what variants see of them."""
    if profile.data_source != "drawn":
        catalog = load_catalog(profile.catalog_path)
        frame = catalog.frame.set_index("product_id", drop=False)
        rows = load_dataset_dir(profile.dataset_dir)["validation"]
        return list(rows["image"]), frame.loc[rows["product_id"]], printed_words(catalog.root), {}
    items, photos = zip(*fresh_items(n, FRESH_SEED + seed), strict=True)
    columns = ("colour", "usage", "product_type", "gender")
    frame = pd.DataFrame([{c: getattr(item, c) for c in columns} for item in items])
    frame["product_id"] = [str(row) for row in frame.index]
    words = {str(row): item.printed_word for row, item in enumerate(items) if item.printed_word}
    return [as_stored(photo) for photo in photos], frame, words, {}


def see(model: Any, processor: Any, photos: Sequence[Any], known: dict) -> torch.Tensor:
    """What the variant sees of the photos; `known` keeps it for variants that see the same."""
    kind = model.config.sees
    if kind not in known:
        with torch.inference_mode():
            parts = [
                model.encode_images(pixels.to(model.device)).cpu()
                for start in range(0, len(photos), 64)
                for pixels in [processor(images=photos[start : start + 64])["pixel_values"]]
            ]
        known[kind] = torch.cat(parts)
    return known[kind]


def one_run(profile: Profile, run: Run, settings: Settings) -> Path:
    """Train and grade; returns the file of grades. Weights are not kept."""
    folder = run.folder(profile, settings)
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.process_time()
    with open(folder / "log.txt", "a") as log, contextlib.redirect_stdout(log):
        model, processor, history = train_variant(
            profile, run.name, folder, run.share, run.seed, **settings.changes
        )
    images, frame, printed, known = photos_to_grade(profile, run.seed, settings.photos)
    seen = see(model, processor, images, known)
    texts, ended = generate_texts(model, processor, seen)
    scored = score(texts, frame, ended=ended, printed=printed, resamples=1)
    best = history.best
    result = {
        **run._asdict(),
        "made_with": run.made_with(profile, settings),
        "items": read_json(folder / "config.json")["data"]["training items"],
        "graded": len(texts),
        "criteria": {name: figure["value"] for name, figure in scored["criteria"].items()},
        "ended": scored["eos_rate"]["value"],
        "leaks": scored["ocr_leakage"]["value"],
        "best_epoch": best["epoch"],
        "validation_loss": round(best["loss"], 4),
        "training_seconds": round(history.of("validation")[-1]["seconds"], 1),
        "processor_seconds": round(time.process_time() - begin, 3),
    }
    write_json(folder / "grades.json", result)
    shutil.rmtree(folder / "best")
    return folder / "grades.json"


def work(
    profile: Profile, runs: Sequence[Run], settings: Settings, workers: int, minutes: float
) -> int:
    """Do what is not done yet; returns how many runs are left when the time is up."""
    end = time.monotonic() + 60 * minutes
    todo = [run for run in runs if not (run.folder(profile, settings) / "grades.json").exists()]
    left = len(todo)
    print(f"{len(runs) - left} of {len(runs)} runs are done.", flush=True)
    # Every process has its share of the cores. Started afresh, not forked: torch's threads do not
    # survive a fork.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    os.environ.setdefault("TQDM_DISABLE", "1")
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        coming, running = iter(todo), {}

        def start_one() -> None:
            run = next(coming, None) if time.monotonic() < end else None
            if run is not None:
                running[pool.submit(one_run, profile, run, settings)] = run

        for _ in range(workers):
            start_one()
        while running:
            future = next(as_completed(running))
            run = running.pop(future)
            done = read_json(future.result())
            left -= 1
            print(
                f"{run.name:15} share {run.share:<4g} seed {run.seed}  overall "
                f"{done['criteria']['overall']:5.2f}  {done['training_seconds']:5.0f} s  "
                f"{left} left",
                flush=True,
            )
            start_one()
    return left


# ---------------------------------------------------------------------------------------------
# What it costs


def measure_costs(profile: Profile, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Weights, seconds per epoch on all items, milliseconds per caption of a fixed length.

    The rows take turns, and of each step and of the captions the fastest is taken: what else the
    machine does can only make them slower.
    """
    examples: dict[tuple[str, str], dict] = {}
    steps: dict[str, list[list[float]]] = {name: [] for name in names}  # of every round
    captions: dict[str, list[float]] = {name: [] for name in names}
    costs = {}
    for _ in range(ROUNDS):
        for name in names:
            model, processor = start_variant(profile, name)
            model.to(best_device())
            kind = model.config.sees, VARIANTS[name].text
            if kind not in examples:
                examples[kind] = load_examples(profile, model, processor, kind[1])
            tokens = tokenize(processor, examples[kind]["train"], model.device)
            config = recipe(profile, **VARIANTS[name].recipe)
            plans = plan_epoch(len(examples[kind]["train"]), 1, config)
            steps[name].append(time_steps(model, config, tokens, plans))
            photo = load_dataset_dir(profile.dataset_dir)["train"][0]["image"].convert("RGB")
            pixels = processor(images=[photo])["pixel_values"].to(model.device)
            captions[name] += time_captions(model.eval(), pixels)
            costs[name] = {
                "trained_weights": sum(w.numel() for w in trained_weights(model).values()),
                "projection_weights": sum(w.numel() for w in model.projection.parameters()),
                "image_places": model.config.image_places,
                "steps_per_epoch": len(plans),
            }
    for name in names:
        step = statistics.mean(min(rounds) for rounds in zip(*steps[name], strict=True))
        costs[name]["seconds_per_epoch"] = round(step * costs[name]["steps_per_epoch"], 3)
        costs[name]["ms_per_caption"] = round(1e3 * min(captions[name]), 2)
    return costs


def time_steps(model: Any, config: Any, tokens: Any, plans: Sequence[Any]) -> list[float]:
    optimizer = make_optimizer(model, config)
    model.train()
    taken = []
    for step in range(STEPS + 1):
        begin = time.perf_counter()
        for rows in plans[step % len(plans)]:
            model(**collate(tokens, rows)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        synchronize()
        taken.append(time.perf_counter() - begin)
    return taken[1:]  # the first one warms up


def time_captions(model: Any, pixels: torch.Tensor) -> list[float]:
    taken = []
    for _ in range(CAPTIONS + 1):
        begin = time.perf_counter()
        with torch.inference_mode():
            seen = model.encode_images(pixels)
        length = {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS}
        model.generate(image_embeds=seen, do_sample=False, **length)
        synchronize()
        taken.append(time.perf_counter() - begin)
    return taken[1:]


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


# ---------------------------------------------------------------------------------------------
# The result


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Mean of a few runs, and its 95 % interval by Student's t; none for a single run."""
    mean = statistics.mean(values)
    figures = {"value": round(mean, 4), "low": None, "high": None}
    if len(values) > 1:
        half = STUDENT_T[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
        figures |= {"low": round(mean - half, 4), "high": round(mean + half, 4)}
    return figures | {"runs": [round(value, 4) for value in values]}


def summarise(profile: Profile, names: Sequence[str], settings: Settings) -> dict[str, Any]:
    """All finished runs, by share and row; differences between rows are taken seed by seed."""
    results: dict[str, dict[str, dict[int, dict]]] = {}
    for run in plan(names, QUESTION_SEEDS):
        path = run.folder(profile, settings) / "grades.json"
        if path.exists():
            of_share = results.setdefault(f"{run.share:g}", {})
            of_share.setdefault(run.name, {})[run.seed] = read_json(path)
    shares = {}
    for share, rows in results.items():
        first = next(iter(next(iter(rows.values())).values()))
        shares[share] = {
            "items": first["items"],
            "graded": first["graded"],
            "rows": {name: _row(runs) for name, runs in rows.items()},
            "differences": {
                f"{one} - {other}": _difference(rows[one], rows[other])
                for one, other in PAIRS
                if one in rows and other in rows and rows[one].keys() & rows[other].keys()
            },
        }
    return shares


def processor_minutes(profile: Profile, runs: Sequence[Run], settings: Settings) -> float:
    """What the runs took of one core: the same on a busy machine as on a quiet one."""
    done = [read_json(run.folder(profile, settings) / "grades.json") for run in runs]
    return sum(run["processor_seconds"] for run in done) / 60


def _row(runs: dict[int, dict]) -> dict[str, Any]:
    done = [runs[seed] for seed in sorted(runs)]
    return {
        "seeds": sorted(runs),
        **{c: over_seeds([run["criteria"][c] for run in done]) for c in CRITERIA},
        "ended": round(statistics.mean(run["ended"] for run in done), 4),
        "leaks": round(statistics.mean(run["leaks"] for run in done), 4),
        "validation_loss": round(statistics.mean(run["validation_loss"] for run in done), 4),
        "best_epoch": statistics.median(run["best_epoch"] for run in done),
    }


def _difference(one: dict[int, dict], other: dict[int, dict]) -> dict[str, Any]:
    both = sorted(one.keys() & other.keys())
    pairs = [(one[seed]["criteria"], other[seed]["criteria"]) for seed in both]
    return {"seeds": both} | {c: over_seeds([a[c] - b[c] for a, b in pairs]) for c in CRITERIA}


def show(shares: dict[str, Any]) -> None:
    for share, result in shares.items():
        print(f"\n{result['items']} items (share {share}), graded on {result['graded']} photos")
        for name, row in result["rows"].items():
            text = f"{name:15} {_interval(row['overall'])} over {len(row['seeds'])} seeds"
            if difference := result["differences"].get(f"{name} - moda"):
                text += f"   minus moda {_interval(difference['overall'], '+')}"
            print(text)


def _interval(figure: dict[str, Any], sign: str = "") -> str:
    text = f"{figure['value']:{sign}6.2f}"
    return text if figure["low"] is None else f"{text} [{figure['low']:.2f}, {figure['high']:.2f}]"


def show_costs(costs: dict[str, dict[str, Any]]) -> None:
    print(f"\nSeconds per epoch on all items, milliseconds per caption of {TOKENS} tokens")
    for name, cost in costs.items():
        print(
            f"{name:15} {cost['trained_weights']:>12,} weights trained  "
            f"{cost['seconds_per_epoch']:7.2f} s  {cost['ms_per_caption']:6.1f} ms"
        )


def device_name() -> str:
    device = best_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="ROW", help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--seeds", type=int, default=QUESTION_SEEDS, help="at most so many")
    parser.add_argument("--photos", type=int, default=PHOTOS, help="drawn and graded per seed")
    parser.add_argument("--epochs", type=int, help="of each run (default: the profile's)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no run after that")
    cores = os.cpu_count() if best_device().type == "cpu" else 1
    parser.add_argument("--workers", type=int, default=cores, help=f"processes (here: {cores})")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - VARIANTS.keys():
        parser.error(f"there is no row {min(unknown)!r}; there are {', '.join(VARIANTS)}")
    profile = get_profile()
    if not profile.dataset_dir.exists():
        build_catalog(profile)
    asked = options.names or list(VARIANTS)
    make_texts(profile, asked)
    names, missing = available(profile, asked)
    for name, reason in missing.items():
        print(f"{name} is left out: {reason}")
    runs = plan(names, options.seeds)
    settings = Settings(options.photos, options.epochs)
    whole = not options.names and settings == Settings() and options.seeds >= QUESTION_SEEDS
    path = ROOT / "benchmarks" / "results" / f"{profile.home.name}-{device_name()}-ablations.json"
    if whole and (lost := lost_rows(path, names)):
        print(f"Not started: the stored result has {', '.join(lost)} and would lose them.")
        print("Run notebooks 02 and 03 first, or name the rows: then nothing is stored.")
        return 1
    left = work(profile, runs, settings, options.workers, options.minutes)
    shares = summarise(profile, names, settings)
    show(shares)
    if left:
        print(f"\n{left} runs are left: call the same command again.")
        return 0
    costs = measure_costs(profile, names)
    show_costs(costs)
    if not whole:
        print("\nNothing is written to benchmarks/results/: that takes the whole plan.")
        return 0
    drawn = profile.data_source == "drawn"
    result = {
        "profile": profile.name,
        "data": profile.data_label,
        "epochs": profile.epochs,
        "device": device_name(),
        "torch": torch.__version__.split("+")[0],
        "graded_on": "freshly drawn items, others for each seed" if drawn else "validation split",
        "times": f"the fastest of {ROUNDS} rounds, in which the rows took turns",
        "interval": "95 %, Student's t over seeds; differences are taken seed by seed",
        "processor_minutes": round(processor_minutes(profile, runs, settings), 1),
        "caption_tokens": TOKENS,
        "rows": {
            name: {
                "stands_for": VARIANTS[name].stands_for,
                "command": command(profile, name),
                **cost,
            }
            for name, cost in costs.items()
        },
        "missing": missing,
        "shares": shares,
    }
    write_json(path, result)
    print(f"\n-> {path.relative_to(ROOT)}")
    return 0


def command(profile: Profile, name: str) -> str:
    """What makes a row again: its grades, their difference from MODA's, and its costs."""
    rows = name if name == "moda" else f"{name} moda"
    return f"MODA_PROFILE={profile.name} python benchmarks/ablations.py {rows}"


def make_texts(profile: Profile, names: Sequence[str]) -> None:
    """Describe and refine the photos for the rows that learn from it, as notebooks 02 and 03 do.

    Only what is lacking, and only by models that are on this machine: nothing is downloaded.
    """
    kinds = {VARIANTS[name].text for name in names}
    can_caption, can_refine = (
        Path(model.name).exists() for model in (profile.captioner, profile.refiner)
    )
    if kinds & {"raw", "refined"} and can_caption and not _has_texts(profile, "raw"):
        print(caption_from_profile(profile), flush=True)
    lacks = "refined" in kinds and not _has_texts(profile, "refined")
    if lacks and can_refine and _has_texts(profile, "raw"):
        print(refine_from_profile(profile), flush=True)


def _has_texts(profile: Profile, kind: str) -> bool:
    return any(load_dataset_dir(profile.dataset_dir)["train"][f"description_{kind}"])


def lost_rows(path: Path, names: Sequence[str]) -> list[str]:
    """Rows of the stored result that a new one of these rows would lose."""
    stored = read_json(path)["rows"] if path.exists() else {}
    return [name for name in stored if name not in names]


def available(profile: Profile, names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The rows whose texts are in the dataset, and why the others are left out."""
    missing = {
        name: f"dataset/ has no {VARIANTS[name].text} texts yet"
        for name in names
        if not _has_texts(profile, VARIANTS[name].text)
    }
    return [name for name in names if name not in missing], missing


if __name__ == "__main__":
    sys.exit(main())
