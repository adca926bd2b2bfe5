"""A full disk and a read-only folder, for every file that the course writes (small_disk.py)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from moda_utils.profiles import ROOT

ISOLATE = ["unshare", "--mount", "--map-root-user"]
WRITERS = [
    "captions.jsonl",
    "catalog.parquet",
    "dataset",
    "features",
    "copy to a Drive",
    "run",
    "Kaggle's cache",
    "the hub's cache",
]
REASONS = {"full": ("No space left on device", "is the disk full?"), "read-only": ("Read-only",)}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    work = tmp_path_factory.mktemp("disk")
    if subprocess.run([*ISOLATE, "mount", "-t", "tmpfs", "none", work]).returncode:
        pytest.skip("no file system can be mounted here")
    script = Path(__file__).with_name("small_disk.py")
    done = subprocess.run(
        [*ISOLATE, sys.executable, script, work],
        env=os.environ | {"TQDM_DISABLE": "1", "PYTHONPATH": f"{script.parent}:{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("fault", REASONS)
@pytest.mark.parametrize("writer", WRITERS)
def test_it_is_said_in_one_sentence_and_nothing_earlier_is_lost(found, writer, fault):
    result = found[writer][fault]
    assert any(reason in result["said"] for reason in REASONS[fault]), result["said"]
    assert "make room on the disk" in result["said"] or "free some space" in result["said"]
    assert "\n" not in result["said"]
    assert result["lost"] == []
    assert not [name for name in result["new"] if "/." in f"/{name}"], "litter"


@pytest.mark.parametrize("writer", WRITERS)
def test_with_room_again_the_same_call_works(found, writer):
    assert found[writer]["well again"]["said"] == ""
