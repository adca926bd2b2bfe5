"""What more workers bring, and what a larger catalogue costs.

    python benchmarks/scaling.py            about 10 minutes on 2 cores; needs Ray (`make scale`)
    python benchmarks/scaling.py --small    few photos: does the script work?

Describing: `python -m moda_utils.scale` on drawn photos, each time in a fresh process, with 1 and 2
workers. A larger catalogue is the same photos under other names. Speed is that of whole calls on
the largest one, starting Ray and loading the model included; one and two workers take turns, and
each turn has a ratio of its own. The memory of the process and of all its children is looked at
while they run. Training: `python -m moda_utils.training`, alone and on two processes of one core
each.

The models are the small ones: rates say nothing about other models. The result goes to
benchmarks/results/.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from moda_utils.catalog import Catalog
from moda_utils.dataset import build_catalog
from moda_utils.profiles import ROOT, get_profile
from moda_utils.runs import load_history
from moda_utils.storage import write_json

RESULT = ROOT / "benchmarks" / "results" / "mini-cpu-scaling.json"
GROWTH = (1, 4, 16)
WORKERS = (1, 2)
LOOK_EVERY = 0.2  # seconds
# As on GPUs; without one, the processes talk by gloo. `--cpu` would start a single process.
LAUNCH = "-m accelerate.commands.launch --multi_gpu --num_machines 1 --main_process_port 0"
LAUNCH += " --mixed_precision no --dynamo_backend no --num_processes"


def call(arguments: Sequence[str | Path], home: Path) -> tuple[dict[str, float], str]:
    """Run Python in a fresh process: seconds, peaks of memory by `resident`; what it printed."""
    environment = {**os.environ, "MODA_PROFILE": "mini", "MODA_HOME": str(home)}
    environment |= {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *map(str, arguments)]
    peaks = {"driver": 0, "largest_worker": 0, "all": 0}
    begin = time.perf_counter()
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None:
            now = resident(process.pid)
            peaks = {name: max(peak, now[name]) for name, peak in peaks.items()}
            time.sleep(LOOK_EVERY)
        seconds = time.perf_counter() - begin
        printed = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command[1:])} ended with {process.returncode}.")
    memory = {f"{name}_gb": round(peak / 1e9, 3) for name, peak in peaks.items()}
    return {"seconds": round(seconds, 1), **memory}, printed


def resident(pid: int) -> dict[str, int]:
    """Resident bytes now of a process, of the largest of Ray's workers below it, and of all.

    Memory that several processes share counts in each of them.
    """
    sizes = {"driver": 0, "largest_worker": 0, "all": 0}
    try:
        driver = psutil.Process(pid)
        tree = [driver, *driver.children(recursive=True)]
    except psutil.NoSuchProcess:
        return sizes
    for process in tree:
        try:
            size, names = process.memory_info().rss, process.cmdline()
        except psutil.NoSuchProcess:  # ended between the two looks
            continue
        sizes["all"] += size
        if process.pid == pid:
            sizes["driver"] = size
        elif names and names[0].startswith("ray::") and "IDLE" not in names[0]:
            sizes["largest_worker"] = max(sizes["largest_worker"], size)
    return sizes


def grow(catalog: Catalog, photos: int, times: int, folder: Path) -> Path:
    """A folder with the first `photos` of a catalogue, each `times` times under other names."""
    for turn in range(times):
        part = folder / f"part {turn:02d}"
        part.mkdir(parents=True)
        for name in catalog.frame["image"][:photos]:
            os.link(catalog.root / name, part / f"{turn:02d}-{Path(name).name}")
    return folder


def describe(source: Path, out: Path, workers: int, home: Path) -> dict[str, Any]:
    """Describe all photos of a folder by `python -m moda_utils.scale`."""
    command = ["-m", "moda_utils.scale", source, out, "--workers", workers]
    figures, printed = call(command, home)
    counts = {
        name: int(count) for count, name in re.findall(r"(\d+) (\w+)", printed.split("->")[0])
    }
    return figures | counts


def measure_describing(catalog: Catalog, photos: int, rounds: int, home: Path) -> dict[str, Any]:
    """Rates with 1 and 2 workers, memory while the catalogue grows, and a call after the end."""
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=home, prefix="shop-") as name:
        shop = Path(name)
        sources = {times: grow(catalog, photos, times, shop / f"{times} times") for times in GROWTH}
        plan = [(times, workers) for times in GROWTH[:-1] for workers in WORKERS]
        plan += [(GROWTH[-1], workers) for workers in WORKERS] * rounds
        for number, (times, workers) in enumerate(plan):
            out = shop / f"out {number}"
            done = describe(sources[times], out, workers, home)
            assert done["described"] == photos * times, done
            runs.append({"times": times, "workers": workers, **done})
            print(runs[-1], flush=True)
        again = describe(sources[GROWTH[-1]], out, WORKERS[-1], home)
    return {"photos": photos, "runs": runs, "call_after_the_end": again, **summary(runs, photos)}


def summary(runs: list[dict[str, Any]], photos: int) -> dict[str, Any]:
    """Photos per second on the largest catalogue, by workers; peaks of memory by size."""
    largest = [run for run in runs if run["times"] == GROWTH[-1]]
    seconds = {w: [run["seconds"] for run in largest if run["workers"] == w] for w in WORKERS}
    rates = {
        str(w): [round(photos * GROWTH[-1] / one, 1) for one in taken]
        for w, taken in seconds.items()
    }
    ratios = [one / two for one, two in zip(*seconds.values(), strict=True)]
    memory = {}
    for times in GROWTH:
        chosen = [run for run in runs if (run["times"], run["workers"]) == (times, WORKERS[-1])]
        parts = ("driver_gb", "largest_worker_gb", "all_gb")
        memory[str(times)] = {part: max(run[part] for run in chosen) for part in parts}
    first, last = (memory[str(times)]["all_gb"] for times in (GROWTH[0], GROWTH[-1]))
    return {
        "photos_per_second": {w: statistics.median(found) for w, found in rates.items()},
        "photos_per_second_each": rates,
        "times_faster": round(statistics.median(ratios), 2),
        "times_faster_each": [round(ratio, 2) for ratio in ratios],
        "memory": memory,
        "memory_growth": round(last / first, 3),
    }


def measure_training(epochs: int, home: Path) -> dict[str, Any]:
    """The run `moda` in one process, and the same on two, of one core each."""
    recipe = home / "recipe.json"
    write_json(recipe, {"epochs": epochs, "snapshot_epochs": []})
    command = ["-m", "moda_utils.training", "--config", recipe, "--captions", "template", "--run"]
    result: dict[str, Any] = {"epochs": epochs}
    for processes, run in ((1, "moda"), (2, "moda-two")):
        launch = f"{LAUNCH} {processes}".split() if processes > 1 else []
        _, printed = call([*launch, *command, run], home)
        assert ("2 processes share each step." in printed) == (processes == 2), printed
        last = load_history(home / "mini" / "runs" / run).of("validation")[-1]
        result[str(processes)] = {
            "seconds": round(last["seconds"], 1), "validation_loss": round(last["loss"], 4),
        }  # fmt: skip
    result["times_faster"] = round(result["1"]["seconds"] / result["2"]["seconds"], 2)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="few photos, one round")
    parser.add_argument("--rounds", type=int, default=3, help="on the largest catalogue")
    parser.add_argument("--photos", type=int, default=1024, help="of the smallest catalogue")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/, nothing if small")
    options = parser.parse_args()
    photos, rounds, epochs = (8, 1, 1) if options.small else (options.photos, options.rounds, 5)
    with tempfile.TemporaryDirectory(prefix="moda-scaling-") as name:
        home = Path(name)
        os.environ |= {"MODA_PROFILE": "mini", "MODA_HOME": name}
        catalog = build_catalog(get_profile())
        training = measure_training(epochs, home)
        describing = measure_describing(catalog, photos, rounds, home)
    result = {
        "profile": "mini",
        "data": "drawn",
        "device": "cpu",
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "ray")},
        "describing": describing,
        "training": training,
    }
    print(json.dumps(result, indent=2))
    out = options.out or (None if options.small else RESULT)
    if out:
        write_json(out, result)


if __name__ == "__main__":
    main()
