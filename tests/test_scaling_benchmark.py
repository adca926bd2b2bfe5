"""The scaling benchmark's arithmetic, and what its stored figures have to keep."""

import importlib.util
import subprocess
import sys
from itertools import product
from types import SimpleNamespace

import pandas as pd
import pytest

from moda_utils.profiles import ROOT
from moda_utils.storage import read_json

RESULT = ROOT / "benchmarks" / "results" / "mini-cpu-scaling.json"
MEMORY = 1.2  # times what the smallest catalogue needs


@pytest.fixture(scope="module")
def benchmark():
    path = ROOT / "benchmarks" / "scaling.py"
    spec = importlib.util.spec_from_file_location("scaling_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_turn_has_a_ratio_of_its_own(benchmark):
    runs = [
        {
            "times": times,
            "workers": workers,
            "seconds": slow * times * 100 / (20 * workers),  # 20 photos a second each, or less
            "driver_gb": 0.5,
            "largest_worker_gb": 0.4,
            "all_gb": 2 + times / 16,
        }
        for slow, times, workers in product((1, 2, 4), benchmark.GROWTH, benchmark.WORKERS)
    ]
    runs[-1]["seconds"] *= 2  # of the last turn, the one with two workers
    found = benchmark.summary(runs, photos=100)
    assert found["photos_per_second_each"] == {"1": [20.0, 10.0, 5.0], "2": [40.0, 20.0, 5.0]}
    assert found["photos_per_second"] == {"1": 10.0, "2": 20.0}
    assert found["times_faster_each"] == [2.0, 2.0, 1.0]
    assert found["times_faster"] == 2.0
    assert found["memory_growth"] == pytest.approx(3 / (2 + 1 / 16), abs=1e-3)


def test_a_catalogue_grows_by_photos_of_other_names(benchmark, tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_text(f"photo {number}")
    images = pd.DataFrame({"image": [f"{number}.jpg" for number in range(3)]})
    catalog = SimpleNamespace(root=tmp_path, frame=images)
    files = sorted(benchmark.grow(catalog, 2, 4, tmp_path / "shop").rglob("*.jpg"))
    assert len({file.name for file in files}) == len(files) == 8
    assert {file.read_text() for file in files} == {"photo 0", "photo 1"}


def test_memory_of_children_counts(benchmark):
    """A child of a child holds 200 MB, written to, so that they are really there."""
    child = "x = bytearray(b'1') * 200_000_000; print(1, flush=True); input()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", parent], **pipes) as process:
        process.stdout.readline()
        now = benchmark.resident(process.pid)
        process.communicate(b"\n")
    assert now["driver"] < 100e6
    assert now["all"] > 200e6
    assert benchmark.resident(process.pid)["all"] == 0


def test_the_stored_figures_keep_what_is_promised(benchmark):
    measured = read_json(RESULT)["describing"]
    assert measured.items() >= benchmark.summary(measured["runs"], measured["photos"]).items()
    memory = measured["memory"]
    assert memory["16"]["all_gb"] <= MEMORY * memory["1"]["all_gb"]
    again = measured["call_after_the_end"]
    assert again["before"] == 16 * measured["photos"] and "described" not in again
    assert len(measured["times_faster_each"]) >= 3
    # Two workers can't be more than twice as fast: such a figure would be noise.
    assert min(measured["times_faster_each"]) > 0 and max(measured["times_faster_each"]) < 2.1
