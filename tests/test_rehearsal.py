"""The rehearsal: every notebook as a reader of `full` runs it, line by line, without a network.

Two things of the world outside are stood in for, and nothing in notebooks or modules knows of it:
the hub's cache holds the mini checkpoints under the real names, in the real layouts and types
(tests/real_layout.py), and a local server hands out the drawn photos as Kaggle hands out its zip
(tests/fake_kaggle.py). `make rehearsal` runs this file alone.
"""

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from fake_kaggle import ARCHIVE, DOWNLOAD, FakeKaggle, zip_folder
from real_layout import RAN, seed_cache, write_repositories

from moda_utils.catalog import load_catalog
from moda_utils.mini.catalogue import write_catalogue
from moda_utils.profiles import ROOT, get_profile
from running import select

# Notebook 09 runs where Ray is: `make test-full` installs it before.
NOTEBOOKS = select(ROOT / "notebooks", ".ipynb", separate=find_spec("ray") is not None)
PLACE = ROOT / "build" / "rehearsal"
HANDLE = "vikashrajluhaniwal/fashion-images"
CELL_SECONDS = 900

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Run:
    """What the rehearsal left: pytest's exit status and text, cells by notebook, Kaggle's log."""

    status: int
    text: str
    failed: dict[str, list[str]]
    cells: dict[str, int]
    kaggle: list[tuple[str, str, str | None]]


def copy_notebook(path: Path, folder: Path) -> None:
    """The same cells, none of them compared: what is stored are the words of the mini profile."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata["tags"] = [tag for tag in tags if tag != "nbval-check-output"]
    nbformat.write(notebook, folder / path.name)


def environment() -> dict[str, str]:
    """A reader's environment: no token, no settings but the profile and places to write to."""
    unwanted = re.compile(r"MODA_|HF_|KAGGLE|TRANSFORMERS_|.*_proxy$|.*_PROXY$|MPLBACKEND$")
    kept = {name: value for name, value in os.environ.items() if not unwanted.match(name)}
    return kept | {
        "MODA_PROFILE": "full",
        "MODA_HOME": str(PLACE / "artifacts"),
        "HF_HOME": str(PLACE / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "KAGGLEHUB_CACHE": str(PLACE / "kaggle"),
        "TQDM_DISABLE": "1",
        RAN: str(PLACE / "remote-code-ran"),
    }


@pytest.fixture(scope="module")
def rehearsal() -> Run:
    shutil.rmtree(PLACE, ignore_errors=True)
    seed_cache(PLACE / "huggingface" / "hub", write_repositories(PLACE / "repositories"))
    drawn = write_catalogue(PLACE / "drawn")
    (drawn / "data" / "drawn_truth.csv").unlink()  # Kaggle has no such file
    (PLACE / "notebooks").mkdir()
    for path in NOTEBOOKS:
        copy_notebook(path, PLACE / "notebooks")
    report = PLACE / "report.xml"
    options = ["--nbval-lax", "--nbval-current-env", f"--nbval-cell-timeout={CELL_SECONDS}"]
    command = [sys.executable, "-m", "pytest", "-q", "-x", *options, f"--junitxml={report}"]
    with FakeKaggle(HANDLE, zip_folder(drawn)) as kaggle:
        done = subprocess.run(
            [*command, "-c", str(ROOT / "pyproject.toml"), str(PLACE / "notebooks")],
            cwd=ROOT,
            env=environment() | kaggle.environment,
            capture_output=True,
            text=True,
        )
        log = list(kaggle.log)
    failed: dict[str, list[str]] = {path.stem: [] for path in NOTEBOOKS}
    cells = dict.fromkeys(failed, 0)
    for case in ElementTree.parse(report).iter("testcase"):
        stem = case.get("classname", "").split(".")[-2]  # build.rehearsal.notebooks.NN_x.ipynb
        cells[stem] += 1
        failed[stem] += [child.get("message", "") for child in case if child.tag != "skipped"]
    return Run(done.returncode, done.stdout + done.stderr, failed, cells, log)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs_as_full(rehearsal, path):
    assert rehearsal.failed[path.stem] == [], rehearsal.text[-6000:]
    code = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert rehearsal.cells[path.stem] == len(code), rehearsal.text[-6000:]


def test_the_photos_came_from_kaggle_and_once(rehearsal):
    calls = [(method, path) for method, path, _ in rehearsal.kaggle]
    assert calls == [("POST", DOWNLOAD), ("GET", ARCHIVE)]  # and nobody, not even Ray, asked more
    catalog = load_catalog(PLACE / "artifacts" / "full" / "catalog.parquet")
    assert catalog.root.is_relative_to(PLACE / "kaggle")


def test_artefacts_are_those_of_full(rehearsal):
    home = PLACE / "artifacts" / "full"
    assert sorted(path.name for path in (PLACE / "artifacts").iterdir()) == ["full"]
    config = (home / "runs" / "moda" / "config.json").read_text()
    assert '"trained on": "real"' in config
    assert f'"accumulation": {get_profile("full").accumulation}' in config


def test_no_code_of_a_repository_was_run(rehearsal):
    assert rehearsal.status == 0
    assert not (PLACE / "remote-code-ran").exists()
