"""Thirty kills at random moments of captioning, refinement, embedding, training, dataset writing.

    python benchmarks/kills.py              30 kills, seed 1
    python benchmarks/kills.py --kills 100 --seed 2

Each kill is followed by a rerun, whose artefacts must equal those of an unbroken run (equal after
dropping clocks, rates and memory). Writes benchmarks/results/toy-cpu-kills.json; exit status 1
where a rerun differs. The stages are those of the course, with the toy models of tests/ instead of
a profile's: how long a stage takes says nothing about other models, so times are stored as parts of
an unbroken run.
"""

import argparse
import json
import platform
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from moda_utils.profiles import ROOT
from moda_utils.storage import write_json

RESULT = ROOT / "benchmarks" / "results" / "toy-cpu-kills.json"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    from killing import World, kill_all

    with tempfile.TemporaryDirectory(prefix="moda-kills-") as folder:
        world = World(Path(folder) / "world")
        world.prepare()
        done = kill_all(world, options.kills, options.seed)
    kills = [asdict(kill) for kill in done]
    for kill in kills:
        del kill["seconds"]
    result = {
        "profile": "toy",  # none of the course's
        "models": "toy_captioner, toy_refiner and tiny_moda of tests/, made within seconds",
        "data": "plain colours drawn for this test",
        "n": len(done),
        "seed": options.seed,
        "python": platform.python_version(),
        "kills_by_stage": dict(Counter(kill.stage for kill in done)),
        "reruns_equal_to_an_unbroken_run": sum(kill.equal for kill in done),
        "kills": kills,
    }
    write_json(RESULT, result)
    print(json.dumps({k: v for k, v in result.items() if k != "kills"}, indent=2))
    return int(not all(kill.equal for kill in done))


if __name__ == "__main__":
    sys.exit(main())
