"""Trains the mini models and measures them: `python -m moda_utils.mini --help`."""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ..profiles import CHECKPOINTS
from ..storage import write_json
from . import (
    measure,
    measure_phi3,
    measure_phi3_vision,
    train_clip,
    train_opt,
    train_phi3,
    train_phi3_vision,
)

TRAINERS: dict[str, tuple[Callable[..., dict], float | None]] = {
    "clip": (train_clip.train, 8.0),
    "opt": (train_opt.train, 4.0),
    "phi3_vision": (train_phi3_vision.train, None),
    "phi3": (train_phi3.train, None),  # learns from the captions of the one before
}
"""Name of the checkpoint folder: how to train it, and for how many minutes (None: fixed steps)."""


def main() -> None:
    """Parse the command line and train or measure."""
    parser = argparse.ArgumentParser(prog="python -m moda_utils.mini", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in (*TRAINERS, "all"):
        usual = str(TRAINERS[name][1] or "fixed steps") if name in TRAINERS else "each model's own"
        command = commands.add_parser(name, help=f"train {name}")
        command.add_argument("--minutes", type=float, help=f"time to train (default: {usual})")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's choice)")
        command.add_argument("--out", type=Path, default=CHECKPOINTS, help="folder of checkpoints")
    command = commands.add_parser("measure-clip", help="zero-shot and probe accuracy, as JSON")
    command.add_argument("--checkpoint", type=Path, default=CHECKPOINTS / "clip")
    command.add_argument("-n", type=int, default=1000, help="fresh items to measure on")
    command.add_argument("--out", type=Path, help="also write the JSON to this file")
    command = commands.add_parser("measure-phi3-vision", help="captions of fresh items, as JSON")
    measure_phi3_vision.arguments(command)
    command = commands.add_parser("measure-phi3", help="refined captions of fresh items, as JSON")
    measure_phi3.arguments(command)
    options = parser.parse_args()
    for name, module in (("phi3-vision", measure_phi3_vision), ("phi3", measure_phi3)):
        if options.command == f"measure-{name}":
            module.run(options)
            return
    if options.command == "measure-clip":
        result = measure.measure_clip(options.checkpoint, options.n)
        print(json.dumps(result, indent=2))
        if options.out:
            write_json(options.out, result)
        return
    if options.threads:
        torch.set_num_threads(options.threads)
    for name in TRAINERS if options.command == "all" else [options.command]:
        function, usual = TRAINERS[name]
        begin = time.perf_counter()
        done = function(options.out / name, minutes=options.minutes or usual, seed=options.seed)
        done["seconds_in_all"] = round(time.perf_counter() - begin)
        print(json.dumps({name: done}))


if __name__ == "__main__":
    main()
