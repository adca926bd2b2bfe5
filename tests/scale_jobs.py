"""Jobs for Ray whose models write down what they are asked, photos for them, and a process."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from moda_utils import scale
from moda_utils.answers import Answer
from moda_utils.profiles import ROOT

os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # as scale.py does before it imports Ray
ray = pytest.importorskip("ray", reason="Ray is not here: make scale installs it")
pytest.importorskip("ray.data")
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers don't have this file


@contextmanager
def one_ray():
    """A Ray for many calls, each of which would start one of its own; as they do, no dashboard."""
    env = {"env_vars": {"TQDM_DISABLE": "1"}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray._private.node.Node, "start_api_server", lambda *given, **options: None)
        with ray.init("local", runtime_env=env, log_to_driver=False, logging_level="error"):
            yield


def draw_photos(root):
    """Twenty photos on three shelves: 000.png to 019.png, told apart by their red."""
    for number in range(20):
        folder = root / f"shelf {number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 30), (number * 12, 80, 200)).save(folder / f"{number:03}.png")
    return root


def rows(out, kind="described"):
    files = sorted(Path(out, kind).glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def noting_engine(log, seconds=0.0, wait_for=0, crew=1, most=None):
    """A model that writes down what it is asked, and by which process; the "text" is a size.

    `seconds` is what a photo takes. The worker that loads first answers nothing until the log has
    `wait_for` lines, which are those of the others. None begins before `crew` of them have loaded.
    With `most` lines in the log all stop where they are, until they are killed.
    """
    loaded = log.with_name(f"{log.name}.loaded")
    try:
        loaded.mkdir()  # which only one of several can do
    except FileExistsError:
        wait_for = 0
    (loaded / str(os.getpid())).touch()
    wait_until(lambda: len(loaders(log)) >= crew)

    def answer(photos):
        wait_until(lambda: not wait_for or log.exists() and len(lines(log)) >= wait_for)
        for photo in photos:
            wait_until(lambda: most is None or not log.exists() or len(lines(log)) < most)
            time.sleep(seconds)
            with open(log, "a") as file:
                file.write(f"{os.getpid()} {photo.getpixel((0, 0))[0] // 12}\n")
        return [Answer(json.dumps({"description": f"{photo.size}"}), True) for photo in photos]

    return {"prepare": lambda photo: photo, "answer": answer, "batch_size": 1}


def unloadable_engine():
    raise OSError("no such weights on this machine")


def dropping_engine(folder):
    """While the model loads, the photos' folder is gone, as a disk that is no longer mounted."""
    folder.rename(folder.with_name("not mounted"))
    return {"prepare": lambda photo: photo, "answer": None, "batch_size": 1}


def noting(source, out, log, **options):
    return scale.Job(
        str(source), str(out), {"model": "noting"}, partial(noting_engine, Path(log), **options)
    )


def asked(log):
    """The numbers of the photos that the model was asked about."""
    return [photo for _, photo in lines(log)]


def loaders(log):
    """The processes that have loaded the model."""
    return {int(path.name) for path in log.with_name(f"{log.name}.loaded").iterdir()}


def lines(log):
    """(process, number of the photo) of each question."""
    return [tuple(line.split()) for line in log.read_text().split("\n")[:-1]]


def wait_until(happened):
    """Wait, as long as it may take on a busy machine.

    Raises:
        TimeoutError: it takes so long that it will never happen.
    """
    deadline = time.monotonic() + 900
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError("What was waited for did not happen.")
        time.sleep(0.05)


def clean_environment():
    """What a process of its own gets: nothing of Ray's, a bar as readers see it, these modules."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    kept.pop("TQDM_DISABLE", None)
    paths = [str(ROOT / name) for name in (".", "tests", "tools")]
    return kept | {"PYTHONPATH": os.pathsep.join(paths)}


def start_python(code, **environment):
    """Start a process of its own, to which this module is known."""
    command = [sys.executable, "-c", f"from scale_jobs import *\n{code}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=clean_environment() | environment, **pipes)


def run_python(code, **environment):
    """Run code so: (what the process said, and beside)."""
    with start_python(code, **environment) as process:
        try:
            return process.communicate(timeout=900)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def describing(source, out, log, **options):
    """Code that describes by two workers, five photos a shard, and prints the numbers."""
    job = f"noting({str(source)!r}, {str(out)!r}, Path({str(log)!r}), **{options})"
    return f"print(dict(scale.describe_catalogue({job}, workers=2, shard_size=5)))"


def describe_in_a_new_process(source, out, log, seconds=0.0, **environment):
    """What the process said, and beside."""
    return run_python(describing(source, out, log, seconds=seconds), **environment)


def deadly_engine():
    """A model that one photo kills, again and again."""

    def prepare(photo):
        if photo.getpixel((0, 0))[0] == 7 * 12:
            os.kill(os.getpid(), signal.SIGKILL)
        return photo

    answer = partial(map, lambda photo: Answer("{}", True))
    return {"prepare": prepare, "answer": lambda some: list(answer(some)), "batch_size": 1}
