"""Each writer of the course on a disk of a few megabytes: full, then read-only, then well again.

    unshare --mount --map-root-user python tests/small_disk.py WORK

A real file system: a tmpfs that only this process sees, mounted below WORK. Prints a JSON object
{scenario: {fault: what happened}} as its last line. `test_disk.py` runs it and judges.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from fake_hub import FakeHub
from fake_kaggle import FakeKaggle, zip_folder
from real_layout import write_repositories

MEGABYTES = 96
LEFT_FREE = 8_192  # bytes; a page or two, so that small files still fit and large ones break off


@dataclass
class Scenario:
    """`first` leaves the earlier artefacts, `again` needs room for more and is what breaks."""

    place: Path
    first: Callable[[], object]
    again: Callable[[], object]


def content(place: Path) -> dict[str, bytes]:
    """The files below a folder, without what libraries keep for themselves."""
    return {
        path.relative_to(place).as_posix(): path.read_bytes()
        for path in sorted(place.rglob("*"))
        if path.is_file() and not path.name.endswith((".lock", ".incomplete", ".archive"))
    }


def lost(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    """Files that are not what they were; one that only grows may have grown."""
    return [
        name
        for name, content in before.items()
        if name not in after
        or not after[name].startswith(content)
        or (after[name] != content and not name.endswith(".jsonl"))
    ]


def outcome(act: Callable[[], object]) -> str:
    """ "" if it worked, else the sentence that a reader sees last."""
    try:
        act()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def journal_scenario(disk: Path) -> Scenario:
    from moda_utils.journal import Journal

    def add(first: int, number: int) -> None:
        rows = [
            {"product_id": str(n), "image_sha256": "s", "raw": "x" * 1000}
            for n in range(first, first + number)
        ]
        Journal(disk / "captions.jsonl", "phi", "p", "o").append(rows)

    return Scenario(disk, lambda: add(0, 4), lambda: add(4, 400))


def catalogue_scenarios(work: Path, disk: Path) -> dict[str, Scenario]:
    """Catalogue, dataset, copies to a Drive, embeddings."""
    import numpy as np
    import torch
    from PIL import Image
    from shop import photo_path, shop_row, write_shop
    from tiny_moda import build

    from moda_utils.catalog import read_catalog, save_catalog
    from moda_utils.course import keep
    from moda_utils.dataset import write_dataset
    from moda_utils.features import embed_photos
    from moda_utils.profiles import get_profile
    from moda_utils.storage import write_json

    noise, rows = np.random.default_rng(0), []
    for number in range(300):
        row = shop_row(number)
        path = photo_path(work / "shop", row)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(path, quality=95)
        rows.append(row)
    catalog = read_catalog(write_shop(work / "shop", rows))
    few = replace(catalog, frame=catalog.frame.groupby("split").head(2))
    photos = [catalog.root / name for name in catalog.frame["image"]]
    shas = list(catalog.frame["image_sha256"])
    model, processor = build(work / "moda")

    def embed(count: int) -> torch.Tensor:
        images = processor.image_processor
        return embed_photos(model, images, photos[:count], shas[:count], disk / "features" / "f")

    profile = replace(get_profile("mini"), home=work / "home")
    write_json(profile.evaluation_path("moda"), {"figures": list(range(5_000))})

    def copy(folder: str) -> None:
        keep(profile, str(disk / folder))

    return {
        "catalog.parquet": Scenario(
            disk / "catalog",
            lambda: save_catalog(few, disk / "catalog" / "catalog.parquet"),
            lambda: save_catalog(catalog, disk / "catalog" / "catalog.parquet"),
        ),
        "dataset": Scenario(
            disk / "set",
            lambda: write_dataset(few, None, disk / "set" / "dataset"),
            lambda: write_dataset(catalog, None, disk / "set" / "dataset"),
        ),
        "features": Scenario(disk / "features", lambda: embed(8), lambda: embed(300)),
        "copy to a Drive": Scenario(disk, lambda: None, lambda: copy("drive")),
    }


def training_scenario(work: Path, disk: Path) -> Scenario:
    """A run that is cut off after its first epoch, and goes on."""
    import torch
    from tiny_moda import DESCRIPTIONS, build

    from moda_utils.features import Examples
    from moda_utils.training import TrainConfig, train

    codes = torch.randn(len(DESCRIPTIONS), 24, generator=torch.Generator().manual_seed(9))
    names = [f"item{number}" for number in range(len(DESCRIPTIONS))]
    items = Examples(codes, DESCRIPTIONS, names)
    config = TrainConfig(
        epochs=4, batch_size=8, accumulation=1, snapshot_epochs=(4,), save_minutes=0
    )

    class Disconnected(Exception):
        pass

    def disconnect(history: object) -> None:
        raise Disconnected

    def begin() -> None:
        with suppress(Disconnected):
            train(*build(work / "moda"), items, items, config, disk / "moda", disconnect)

    return Scenario(
        disk / "moda",
        begin,
        lambda: train(*build(work / "moda"), items, items, config, disk / "moda"),
    )


def kaggle_scenario(disk: Path, work: Path) -> Scenario:
    from moda_utils.kaggle import download

    os.environ["KAGGLEHUB_CACHE"] = str(disk / "kaggle")
    return Scenario(disk / "kaggle", lambda: None, lambda: download("owner/clothes/versions/1"))


def hub_scenario(disk: Path) -> Scenario:
    from moda_utils.device import load_checkpoint
    from moda_utils.modeling_moda import VisionTower
    from moda_utils.profiles import Checkpoint

    checkpoint, cache = Checkpoint("patrickjohncyh/fashion-clip", "main"), disk / "hub"
    return Scenario(
        cache, lambda: None, lambda: load_checkpoint(VisionTower, checkpoint, cache_dir=cache)
    )


def try_out(scenario: Scenario, disk: Path) -> dict[str, dict]:
    """Break and mend; what is recorded is what a reader would find."""
    scenario.first()
    found, before = {}, content(scenario.place)
    filler = disk / "filler"

    def fill() -> None:
        room = os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize
        filler.write_bytes(b"\0" * max(room - LEFT_FREE, 0))

    def mount(mode: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{mode}", disk], check=True)

    faults = {
        "full": (fill, filler.unlink),
        "read-only": (lambda: mount("ro"), lambda: mount("rw")),
    }
    for name, (break_it, mend) in faults.items():
        break_it()
        said = outcome(scenario.again)
        mend()
        after = content(scenario.place)
        new = sorted(set(after) - set(before))
        found[name] = {"said": said, "lost": lost(before, after), "new": new}
    found["well again"] = {"said": outcome(scenario.again)}
    return found


def main(work: Path) -> None:
    disk = work / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "none", disk], check=True)
    repositories = write_repositories(work / "repositories")
    archive = zip_folder(work / "repositories")  # any files of some megabytes
    with FakeHub(repositories) as hub, FakeKaggle("owner/clothes", archive) as kaggle:
        # Before huggingface_hub is imported, which reads its settings only then.
        os.environ |= hub.environment | kaggle.environment
        scenarios = {
            "captions.jsonl": journal_scenario(disk),
            **catalogue_scenarios(work, disk),
            "run": training_scenario(work, disk),
            "Kaggle's cache": kaggle_scenario(disk, work),
            "the hub's cache": hub_scenario(disk),
        }
        found = {name: try_out(scenario, disk) for name, scenario in scenarios.items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
