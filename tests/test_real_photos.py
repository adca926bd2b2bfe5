"""The whole course on real photos, where they are: the same notebooks, no crash, nothing lost."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from moda_utils.catalog import load_catalog
from moda_utils.profiles import ROOT
from running import select

PHOTOS = "../shared/fashion_sample"  # relative to the repository, as a reader would type it
OUT = ROOT / "build" / "real"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / PHOTOS).is_dir(), reason=f"no real photos in {PHOTOS}"),
]


@pytest.fixture(scope="module")
def course() -> subprocess.CompletedProcess:
    """One run of all notebooks on the real photos."""
    shutil.rmtree(OUT, ignore_errors=True)
    environment = {
        **os.environ,
        "MODA_PROFILE": "mini",
        "MODA_DATA_DIR": PHOTOS,
        "MODA_HOME": "build/real/artifacts",
    }
    command = [sys.executable, "tools/course.py", "--out", "build/real/course"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def home(course):
    assert course.returncode == 0, course.stdout + course.stderr
    return OUT / "artifacts" / "mini-fashion_sample"


def test_every_notebook_runs(course):
    assert course.returncode == 0, course.stdout + course.stderr
    notebooks = [path.stem for path in select(ROOT / "notebooks", ".ipynb", separate=False)]
    summary = json.loads((OUT / "course" / "course.json").read_text())
    assert sorted(summary["notebooks"]) == sorted(notebooks)
    assert summary["data"] == "real"
    assert summary["peak_gb"] <= 4.0


def test_every_row_of_the_table_is_accounted_for(home):
    catalog = load_catalog(home / "catalog.parquet")
    with open(ROOT / PHOTOS / "data" / "fashion.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    left_out = catalog.skipped[catalog.skipped["reason"] != "photo without a row in the table"]
    assert len(catalog.frame) + len(left_out) == len(rows)
    assert set(catalog.frame["product_id"]) | set(left_out["product_id"]) == {
        row["ProductId"] for row in rows
    }
    assert len(catalog.frame) > 0.9 * len(rows)  # listed, yes, but not the bulk of it


def test_copies_of_a_photo_share_a_split(home):
    frame = load_catalog(home / "catalog.parquet").frame
    assert frame["image_sha256"].duplicated().any()  # the sample holds identical pairs
    assert (frame.groupby("image_sha256")["split"].nunique() == 1).all()


def test_the_dataset_has_every_item_with_a_description(home):
    from moda_utils.dataset import load_dataset_dir

    catalog = load_catalog(home / "catalog.parquet")
    dataset = load_dataset_dir(home / "dataset")
    ids = [product_id for split in dataset.values() for product_id in split["product_id"]]
    assert sorted(ids) == sorted(catalog.frame["product_id"])
    assert all(text.strip() for split in dataset.values() for text in split["description"])


def test_a_trained_model_is_left(home):
    assert (home / "runs" / "moda" / "best" / "config.json").exists()
    rows = (home / "runs" / "moda" / "metrics.jsonl").read_text().splitlines()
    assert rows


def test_pages_say_that_the_photos_are_real(home):
    for page in (OUT / "course").glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "real photos" in text
        assert "drawn photos</b>" not in text
        assert not re.search(r'<(?:img|script|link)[^>]+(?:src|href)="(?!data:)', text)
