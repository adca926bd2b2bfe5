"""Kill a stage of the course at a random moment, run it again, compare with an unbroken run.

The stages are the course's own functions with toy models: captioning, refinement,
embedding, training, and writing the dataset. Each runs in a process of its own that is ended by
SIGKILL, as a lost Colab runtime is. `test_kills.py` does ten, `benchmarks/kills.py` thirty.
"""

import itertools
import json
import multiprocessing
import os
import random
import re
import signal
import time
from collections.abc import Callable, Sized
from dataclasses import dataclass, replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import load_file
from shop import photo_path, shop_row, write_shop
from tiny_moda import DESCRIPTIONS, build
from toy_captioner import ANSWERS, MAX_NEW_TOKENS, PROMPT, save_toy_captioner
from toy_refiner import load_toy_refiner, save_toy_refiner

from moda_utils.captioning import Captioner, caption_catalog, captions_journal
from moda_utils.catalog import Catalog, load_catalog, read_catalog, save_catalog
from moda_utils.dataset import write_dataset
from moda_utils.features import Examples, embed_photos
from moda_utils.phi3_vision import Phi3VisionForConditionalGeneration, Phi3VisionProcessor
from moda_utils.profiles import ROOT, Checkpoint, Profile, get_profile
from moda_utils.refinement import captioned_items, refine_items, refined_journal
from moda_utils.runs import RunFolder
from moda_utils.training import TrainConfig, train

STAGES = ("captioning", "refinement", "embedding", "training", "dataset")
BATCH = {"captioning": 4, "refinement": 4, "embedding": 2}  # items per question to a model


@dataclass
class Kill:
    """What one kill did. `seconds`: how far into the stage; `part`: of an unbroken run's time.

    `asked_again`: items that the model was asked for in the killed run and again in the rerun; at
    most the batch in flight. None where no model answers.
    `steps_kept`: after which step the rerun of training went on, 0 if it began anew; None where
    the killed run had left no state to go on from.
    """

    stage: str
    seconds: float
    part: float
    files_before_rerun: int
    equal: bool
    asked_again: int | None
    steps_kept: int | None


class World:
    """What all stages start from, below `root`: a shop, its catalogue, captions, three models.

    A stage that reaches `last_batch`, counted from 1, dies in it; training in the save of that
    number, of which there is then one after each step.
    """

    def __init__(self, root: Path, last_batch: int | None = None):
        self.root, self.last_batch = root, last_batch

    def prepare(self) -> None:
        save_toy_captioner(self.root / "captioner")
        save_toy_refiner(self.root / "refiner")
        build(self.root / "moda")
        catalog = _shop(self.root / "shop")
        save_catalog(catalog, self.root / "catalog.parquet")
        _caption(self, self.root)()

    @property
    def catalog(self) -> Catalog:
        return load_catalog(self.root / "catalog.parquet")

    def profile(self, home: Path) -> Profile:
        models = {name: Checkpoint(str(self.root / name)) for name in ("captioner", "refiner")}
        return replace(get_profile("mini"), home=home, **models)


def _shop(root: Path) -> Catalog:
    """Photos of plain colours that the captioner knows, each a little different."""
    rng, rows = np.random.default_rng(0), []
    for number in range(120):
        colour = list(ANSWERS)[number % len(ANSWERS)]
        row = shop_row(number, Colour=colour)
        path = photo_path(root, row)
        path.parent.mkdir(parents=True, exist_ok=True)
        photo = Image.new("RGB", (30, 40), colour)
        photo.putpixel((int(rng.integers(30)), int(rng.integers(40))), (number, number, number))
        photo.save(path, quality=100)
        rows.append(row)
    return read_catalog(write_shop(root, rows))


def _asked(home: Path) -> Path:
    """One line for each batch that the runs in this home asked a model for: its items."""
    return home.with_name(f"{home.name}.asked")


def asked(home: Path) -> int:
    """How many items the models were asked for by all runs in this home together."""
    return sum(int(line) for line in _asked(home).read_text().split())


def _count(owner: object, name: str, world: World, home: Path) -> None:
    """Let `owner.name(batch)` note how long its batch is before it works, or die of the last."""
    work, batches = getattr(owner, name), itertools.count(1)

    def counted(batch: Sized) -> object:
        with open(_asked(home), "a", encoding="utf-8") as file:
            file.write(f"{len(batch)}\n")
        if next(batches) == world.last_batch:
            os.kill(os.getpid(), signal.SIGKILL)
        return work(batch)

    setattr(owner, name, counted)


def _caption(world: World, home: Path) -> Callable[[], object]:
    model = Phi3VisionForConditionalGeneration.from_pretrained(world.root / "captioner")
    processor = Phi3VisionProcessor.from_pretrained(world.root / "captioner")
    captioner = Captioner(model, processor, PROMPT, MAX_NEW_TOKENS)
    _count(processor, "collate", world, home)
    catalog, profile = world.catalog, world.profile(home)

    def run() -> None:
        journal = captions_journal(profile, PROMPT, MAX_NEW_TOKENS)
        caption_catalog(catalog, captioner, journal, batch_size=BATCH["captioning"])

    return run


def _refine(world: World, home: Path) -> Callable[[], object]:
    refiner = load_toy_refiner(world.root / "refiner")
    _count(refiner, "refine", world, home)
    captions = captions_journal(world.profile(world.root), PROMPT, MAX_NEW_TOKENS)
    items, profile = captioned_items(world.catalog, captions), world.profile(home)

    def run() -> None:
        journal = refined_journal(profile, items, refiner.prompt, refiner.max_new_tokens)
        refine_items(items, refiner, journal, batch_size=BATCH["refinement"])

    return run


def _embed(world: World, home: Path) -> Callable[[], object]:
    model, processor = build(world.root / "moda")
    _count(model, "encode_images", world, home)
    frame, root = world.catalog.frame, world.catalog.root
    photos = [root / name for name in frame["image"]]

    def run() -> None:
        images, shas, cache = processor.image_processor, frame["image_sha256"], home / "features"
        size = BATCH["embedding"]
        embed_photos(model, images, photos, shas, cache, batch_size=size, save_seconds=0.0)

    return run


def _train(world: World, home: Path) -> Callable[[], object]:
    model, processor = build(world.root / "moda")
    codes = torch.randn(len(DESCRIPTIONS), 24, generator=torch.Generator().manual_seed(9))
    names = [f"item{number}" for number in range(len(DESCRIPTIONS))]
    items = Examples(codes, DESCRIPTIONS, names)
    held_out = Examples(codes[::5], DESCRIPTIONS[::5], names[::5])
    config = TrainConfig(
        epochs=6, batch_size=16, accumulation=2, snapshot_epochs=(1, 6), save_minutes=0.0005
    )
    if world.last_batch is not None:
        config = replace(config, save_minutes=0.0)
        saves, save = itertools.count(1), RunFolder.save

        def last_save(folder: RunFolder) -> None:
            if next(saves) == world.last_batch:
                os.kill(os.getpid(), signal.SIGKILL)
            save(folder)

        RunFolder.save = last_save
    return lambda: train(model, processor, items, held_out, config, home / "runs" / "moda")


def _write(world: World, home: Path) -> Callable[[], object]:
    """The dataset again and again, with other texts each time; the last ones are to stay."""
    catalog = world.catalog

    def run() -> None:
        for version in range(40):
            texts = pd.DataFrame({"product_id": catalog.frame["product_id"]})
            texts["description_raw"] = f"Version {version}"
            write_dataset(catalog, texts, home / "dataset")

    return run


MAKERS = dict(zip(STAGES, (_caption, _refine, _embed, _train, _write), strict=True))


def _said(home: Path) -> Path:
    """What the last process in this home has printed."""
    return home.with_name(f"{home.name}.txt")


def _process(stage: str, world: World, home: Path, out: Connection) -> None:
    """A process's whole life: load, say so, work, say so."""
    os.dup2(os.open(_said(home), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    run = MAKERS[stage](world, home)
    out.send("begins")
    run()
    out.send("done")


# Forked from a server that has imported everything: so a kill hits the stage, not an import.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["killing"])


def _start_server() -> None:
    """Start it with an environment of its own; by itself it would not find this module."""
    before = dict(os.environ)
    paths = [str(Path(__file__).parent), str(ROOT)]
    os.environ |= {
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "TQDM_DISABLE": "1",
    }
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _start(stage: str, world: World, home: Path, sender: Connection) -> BaseProcess:
    _start_server()
    process = _context.Process(target=_process, args=(stage, world, home, sender))
    process.start()
    sender.close()
    return process


def run_twice_at_once(stage: str, world: World, home: Path) -> None:
    """Two processes do the same stage in the same home, as two open notebooks would."""
    pipes = [_context.Pipe(duplex=False) for _ in range(2)]
    processes = [_start(stage, world, home, sender) for _, sender in pipes]
    for process, (receiver, _) in zip(processes, pipes, strict=True):
        if [receiver.recv(), receiver.recv()] != ["begins", "done"]:
            raise RuntimeError(f"{stage} did not end")
        process.join()


def run(stage: str, world: World, home: Path, kill_after: float | None = None) -> float | None:
    """Run a stage; kill it after so many seconds. Returns the seconds it took, None if killed."""
    receiver, sender = _context.Pipe(duplex=False)
    process = _start(stage, world, home, sender)
    if receiver.recv() != "begins":
        raise RuntimeError(f"{stage} did not begin")
    begin = time.monotonic()
    if kill_after is not None and not receiver.poll(kill_after):
        process.kill()
        process.join()
        return None
    if receiver.recv() != "done":
        raise RuntimeError(f"{stage} did not end")
    process.join()
    return time.monotonic() - begin


def run_until(last_batch: int, stage: str, world: World, home: Path) -> None:
    """Run a stage that is killed while its model is asked for the batch of that number, or while
    training is about to save for that time."""
    _, sender = _context.Pipe(duplex=False)
    process = _start(stage, World(world.root, last_batch), home, sender)
    process.join()
    if process.exitcode != -signal.SIGKILL:
        raise RuntimeError(f"{stage} was not killed in batch {last_batch}: {process.exitcode}")


def artefacts(home: Path) -> dict[str, object]:
    """All that lies below `home`, without clocks, rates and memory; journals by id.

    Temporary files of killed processes would be in it, too: there must be none after a rerun.
    """
    return {
        path.relative_to(home).as_posix(): _content(path)
        for path in sorted(home.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


CLOCKS = ("seconds", "tokens_per_second", "memory_gb")


def _content(path: Path) -> object:
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        rows = [{k: v for k, v in row.items() if k not in CLOCKS} for row in rows]
        return sorted(json.dumps(row, sort_keys=True) for row in rows)
    if path.parent.name == "features":
        held = load_file(path)
        shas = [bytes(row).hex() for row in held["image_sha256"].tolist()]
        return dict(zip(shas, held["image_embeds"].tolist(), strict=True))
    if path.suffix == ".safetensors":
        return {name: weight.tolist() for name, weight in load_file(path).items()}
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pydict()
    return path.read_bytes()


def kill_all(world: World, kills: int, seed: int) -> list[Kill]:
    """`kills` kills in turn over the stages, each in a fresh home and at a moment of its own."""
    rng, root = random.Random(seed), world.root
    whole: dict[str, tuple[float, dict]] = {}
    done: list[Kill] = []
    while len(done) < kills:
        stage = STAGES[len(done) % len(STAGES)]
        unbroken = root / f"unbroken-{stage}"
        if stage not in whole:
            whole[stage] = (run(stage, world, unbroken), artefacts(unbroken))
        length, expected = whole[stage]
        moment = rng.uniform(0, length)
        home = root / f"{len(done):02d}-{stage}-{rng.randrange(10**6)}"
        seconds = run(stage, world, home, kill_after=moment)
        if seconds is not None:  # it was faster this time and ended before its moment
            whole[stage] = (seconds, expected)
            continue
        found = artefacts_left(home)
        run(stage, world, home)
        equal = artefacts(home) == expected
        again = asked(home) - asked(unbroken) if stage in BATCH else None
        kept = steps_kept(home) if "state.pt" in found else None
        times = round(moment, 3), round(moment / length, 3)
        done.append(Kill(stage, *times, len(found), equal, again, kept))
    return done


def steps_kept(home: Path) -> int:
    """After which step the last run of training in this home has gone on, 0 if it began anew."""
    place = re.search(r"goes on in epoch \d+, after step (\d+)", _said(home).read_text())
    return int(place[1]) if place else 0


def artefacts_left(home: Path) -> list[str]:
    """Names of what a killed process left."""
    return [path.name for path in home.rglob("*") if path.is_file()]
