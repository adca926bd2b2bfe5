"""Trouble in a run's life: memory, disk, damaged files, a run that is there already."""

import dataclasses
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from shop import shop_row, write_shop
from test_training import TINY, examples, losses
from tiny_moda import build, save_clip, save_opt, shop_profile

from moda_utils import runs, training
from moda_utils.dataset import build_catalog
from moda_utils.features import Examples
from moda_utils.modeling_moda import ModaForConditionalGeneration
from moda_utils.profiles import ROOT, get_profile
from moda_utils.training import load_history, load_weights, read_config, train, trained_weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moda")
    build(folder)
    return folder


def assert_close(one: runs.History, other: runs.History, tolerance: float) -> None:
    """The same steps with the same figures, but for the last digits."""
    assert len(one.rows) == len(other.rows) > 0
    for a, b in zip(one.rows, other.rows, strict=True):
        assert (a["step"], a["split"], a["tokens"]) == (b["step"], b["split"], b["tokens"])
        for key in {"loss", "lr", "gradient_norm"} & a.keys():
            assert a[key] == pytest.approx(b[key], rel=tolerance)


# Memory


class SmallMemory:
    """Lets the forward pass fail above so many items, as a GPU does."""

    def __init__(self, model: ModaForConditionalGeneration, items: int):
        self.sizes: list[int] = []
        self.items = items
        model.register_forward_pre_hook(self.check, with_kwargs=True)

    def check(self, model, args, kwargs):
        self.sizes.append(len(kwargs["input_ids"]))
        if self.sizes[-1] > self.items:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_too_large_batches_are_halved_and_the_losses_stay_equal(folder, tmp_path, capsys):
    config = dataclasses.replace(TINY, batch_size=16, accumulation=2)
    whole = train(*build(folder), examples(), examples(9), config, tmp_path / "whole")
    model, processor = build(folder)
    memory = SmallMemory(model, items=5)
    cramped = train(model, processor, examples(), examples(9), config, tmp_path / "cramped")
    assert memory.sizes[:3] == [16, 8, 4]  # and from then on 4, in validation too
    assert max(memory.sizes[3:]) == 4
    printed = capsys.readouterr().out
    assert "going on with 8 items" in printed and "going on with 4 items" in printed
    assert_close(cramped, whole, 1e-5)


def test_a_single_item_that_does_not_fit_is_an_error_that_says_what_to_do(folder, tmp_path):
    model, processor = build(folder)
    SmallMemory(model, items=0)
    with pytest.raises(
        RuntimeError, match="not enough memory for a single item.*close other programs"
    ):
        train(model, processor, examples(), examples(9), TINY, tmp_path / "run")


def test_other_errors_of_a_step_are_not_taken_for_a_lack_of_memory(folder, tmp_path):
    model, processor = build(folder)

    def fail(model, args):
        raise RuntimeError("something else")

    model.language_model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="something else"):
        train(model, processor, examples(), examples(9), TINY, tmp_path / "run")


# A first run with small batches loads all that a run needs besides its batch; what the large batch
# needs on top is what the second run adds; with less than that, memory runs out. glibc keeps freed
# memory as it pleases (then no limit bites): with a fixed threshold large blocks go back at once.
CRAMPED = """
import resource, sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {root!r}]
from test_training import TINY, build, examples
import dataclasses
from moda_utils import training

def memory(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

def run(name, items):
    model, processor = build(Path({parts!r}))
    config = dataclasses.replace(TINY, epochs=1, batch_size=items, accumulation=1)
    training.train(model, processor, examples(items), examples(9), config, sys.argv[1] + "/" + name)

run("warm", 64)
before = memory("VmSize")
limit = int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_AS, (before + limit, before + limit))
run("run", 8192)
print("needed", memory("VmPeak") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_a_real_failure_to_allocate_changes_no_loss(folder, tmp_path):
    code = CRAMPED.format(tests=str(Path(__file__).parent), root=str(ROOT), parts=str(folder))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": str(2**20)}
    needed = {}
    for name, share in (("free", 0.0), ("cramped", 0.6)):
        limit = int(share * needed.get("free", 0))
        command = [sys.executable, "-c", code, str(tmp_path / name), str(limit)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert ("Memory ran out" in done.stdout) == (name == "cramped"), done.stdout
        needed[name] = int(done.stdout.split()[-1])
    assert needed["free"] > 200 * 2**20, needed  # else there is nothing to limit
    assert needed["cramped"] < needed["free"]
    free, cramped = (load_history(tmp_path / name / "run") for name in ("free", "cramped"))
    assert_close(cramped, free, 1e-5)


# Disk


@pytest.fixture
def small_files():
    """A function that lets no file grow beyond so many bytes: what a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("written", ["state.pt", "best", "epoch-03.safetensors"])
def test_a_full_disk_is_one_sentence_and_costs_nothing(
    folder, tmp_path, small_files, monkeypatch, written
):
    """A real failure to write, in each of the three large files of a run."""
    whole = train(*build(folder), examples(), examples(9), TINY, tmp_path / "whole")
    run = tmp_path / "run"
    often = dataclasses.replace(TINY, save_minutes=0 if written == "state.pt" else 60)
    calls = []
    name = {"state.pt": "save", "best": "_write_best"}.get(written, "after_epoch")
    real = getattr(runs.RunFolder, name)

    def full(self, *args, **options):
        calls.append(name)
        if len(calls) == {"state.pt": 3, "best": 1}.get(written, 3):
            small_files(20_000)  # less than any of the three, more than the rest
        return real(self, *args, **options)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="make room on the") as caught:
        patch.setattr(runs.RunFolder, name, full)
        train(*build(folder), examples(), examples(9), often, run)
    small_files(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    assert str(run) in str(caught.value) and "\n" not in str(caught.value)
    leftovers = [path.name for path in run.rglob("*") if path.name.startswith(".")]
    assert leftovers == []
    assert (run / written).exists() == (written == "state.pt")  # the one of the save before
    again = train(*build(folder), examples(), examples(9), often, run)
    assert losses(again) == losses(whole)
    best = ModaForConditionalGeneration.from_pretrained(run / "best")
    assert all(weight.isfinite().all() for weight in trained_weights(best).values())


def test_a_folder_that_can_t_be_written_is_named(folder, tmp_path):
    (tmp_path / "runs").write_text("a file where a folder should be")
    with pytest.raises(OSError, match="runs"):
        train(*build(folder), examples(), examples(9), TINY, tmp_path / "runs" / "moda")


# A run that is there already


def other_captions(train_set: Examples) -> Examples:
    texts = [f"A {text.lower()}." for text in train_set.descriptions]
    return dataclasses.replace(train_set, descriptions=texts, captions="refined")


@pytest.fixture
def template_run(folder, tmp_path):
    """A finished run `moda` on template captions: what a reader has who skipped 02 and 03."""
    train_set = dataclasses.replace(examples(), captions="template")
    model, processor = build(folder)
    train(model, processor, train_set, examples(9), TINY, tmp_path / "moda")
    return tmp_path / "moda"


def test_who_comes_back_with_better_captions_is_told_three_ways_to_go_on(folder, template_run):
    refined = other_captions(examples())
    with pytest.raises(ValueError, match="captions: template then, refined now") as caught:
        train(*build(folder), refined, examples(9), TINY, template_run)
    for way in ("\"start over\" (the old run is kept, as 'moda-2')", '"load"', "another name"):
        assert way in str(caught.value)


def test_start_over_keeps_the_old_run_under_a_free_name(folder, template_run, capsys):
    before = load_history(template_run)
    refined = other_captions(examples())
    go = (refined, examples(9), TINY, template_run)
    new = train(*build(folder), *go, if_exists="start over")
    assert "is now moda-2" in capsys.readouterr().out
    assert load_history(template_run.with_name("moda-2")).rows == before.rows
    assert losses(new) != losses(before)
    assert losses(load_history(template_run)) == losses(new)
    # Finished and unchanged: who starts over again gets the same once more.
    again = train(*build(folder), *go, if_exists="start over")
    assert losses(again) == losses(new) and template_run.with_name("moda-3").is_dir()


def test_start_over_goes_on_with_what_it_began_itself(folder, template_run):
    refined = other_captions(examples())
    whole = train(*build(folder), refined, examples(9), TINY, template_run.with_name("whole"))

    def stop(history):
        raise KeyboardInterrupt

    go = (refined, examples(9), dataclasses.replace(TINY, save_minutes=0), template_run)
    with pytest.raises(KeyboardInterrupt):
        train(*build(folder), *go, stop, if_exists="start over")
    resumed = train(*build(folder), *go, if_exists="start over")
    assert losses(resumed) == losses(whole)
    assert not template_run.with_name("moda-3").exists()


def test_load_never_trains_and_says_what_it_loads(folder, template_run, monkeypatch, capsys):
    monkeypatch.setattr(training, "accumulate", None)  # any training would fail now
    model, processor = build(folder)
    refined = other_captions(examples())
    history = train(model, processor, refined, examples(9), TINY, template_run, if_exists="load")
    assert losses(history) == losses(load_history(template_run))
    best = ModaForConditionalGeneration.from_pretrained(template_run / "best")
    for name, weight in trained_weights(model).items():
        assert torch.equal(weight, best.get_parameter(name)), name
    assert "begun with something else: data captions: template then" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="no run .*nothing to load"):
        nowhere = template_run.with_name("nothing")
        train(model, processor, refined, examples(9), TINY, nowhere, if_exists="load")
    with pytest.raises(ValueError, match="no choice 'overwrite': choose one of continue, load"):
        train(model, processor, refined, examples(9), TINY, template_run, if_exists="overwrite")


@pytest.mark.parametrize("damage", ["cut", "empty", "other model"])
def test_damaged_weights_are_one_sentence(folder, template_run, damage):
    file = template_run / "best" / "model.safetensors"
    content = file.read_bytes()
    model, processor = build(folder)
    if damage == "other model":
        model.projection[0] = torch.nn.Linear(24, 7)
    else:
        file.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    with pytest.raises(ValueError, match="damaged or belongs to another model") as caught:
        load_weights(model, file)
    assert "\n" not in str(caught.value)
    if damage != "other model":
        captions = dataclasses.replace(examples(), captions="template")
        with pytest.raises(ValueError, match='damaged.*"start over"'):
            train(*build(folder), captions, examples(9), TINY, template_run)
        train(*build(folder), captions, examples(9), TINY, template_run, if_exists="start over")
        load_weights(build(folder)[0], file)


# The command line


def test_a_config_file_changes_the_recipe_and_its_mistakes_are_named(tmp_path, monkeypatch):
    profile = get_profile("mini")
    assert read_config(None, profile) == training.recipe(profile)
    (tmp_path / "a.toml").write_text("epochs = 3\nclip_norm = 1.0\nsnapshot_epochs = [1, 3]\n")
    (tmp_path / "a.json").write_text('{"epochs": 3, "clip_norm": 1.0, "snapshot_epochs": [1, 3]}')
    for name in ("a.toml", "a.json"):
        config = read_config(tmp_path / name, profile)
        assert (config.epochs, config.clip_norm, list(config.snapshot_epochs)) == (3, 1.0, [1, 3])
        assert config.batch_size == profile.batch_size
    (tmp_path / "b.toml").write_text("epoch = 3\n")
    with pytest.raises(ValueError, match="'epoch'.*It may set epochs, batch_size"):
        read_config(tmp_path / "b.toml", profile)
    (tmp_path / "c.json").write_text("epochs = 3")
    with pytest.raises(ValueError, match="c.json can't be used"):
        read_config(tmp_path / "c.json", profile)


def test_the_command_says_in_one_sentence_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MODA_PROFILE", "mini")
    monkeypatch.setenv("MODA_HOME", str(tmp_path))
    assert training.main([]) == 1
    assert "run notebook 01 first" in capsys.readouterr().err
    assert training.main(["--config", str(tmp_path / "none.toml")]) == 1
    assert "none.toml" in capsys.readouterr().err
    monkeypatch.setenv("MODA_PROFILE", "medium")
    assert training.main([]) == 1
    assert "medium" in capsys.readouterr().err
    with pytest.raises(SystemExit) as done:
        training.main(["--help"])
    assert done.value.code == 0
    printed = capsys.readouterr().out
    assert "--config" in printed and "accelerate launch -m moda_utils.training" in printed


@pytest.fixture
def shop_of_full(tmp_path, monkeypatch) -> Path:
    """Tiny models where the hub's cache would hold the real ones, and a shop with its dataset."""
    for name, save in (
        ("patrickjohncyh--fashion-clip", save_clip),
        ("facebook--opt-125m", save_opt),
    ):
        model = tmp_path / "hf" / "hub" / f"models--{name}"
        (model / "refs").mkdir(parents=True)
        (model / "refs" / "main").write_text("0" * 40)
        save(model / "snapshots" / ("0" * 40))
    write_shop(tmp_path / "shop", [shop_row(number) for number in range(60)])
    for name, value in {
        "MODA_PROFILE": "full",
        "MODA_DATA_DIR": str(tmp_path / "shop"),
        "MODA_HOME": str(tmp_path / "home"),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    build_catalog(get_profile())
    return get_profile().home


def test_the_command_says_that_memory_ran_out(tmp_path, monkeypatch, capsys):
    profile, start = shop_profile(tmp_path), training.start_model

    def cramped(*given):
        model, processor = start(*given)
        SmallMemory(model, items=0)
        return model, processor

    monkeypatch.setattr(training, "get_profile", lambda: profile)
    monkeypatch.setattr(training, "start_model", cramped)
    assert training.main(["--captions", "template"]) == 1
    assert "not enough memory for a single item" in capsys.readouterr().err


# As on two GPUs; without one, the processes talk by gloo. `--cpu` would start a single one.
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
LAUNCH += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
LAUNCH += ["--main_process_port", "0"]

# Python runs this in each process: which of them puts which file in its place? With a pause before
# each, so that whoever is to be killed on the way can't have come to the end.
NOTE_WRITERS = """
import os, sys, time

def note(event, arguments):
    if event == "os.rename":
        with open(os.environ["WRITERS"], "a") as file:
            file.write(f"{os.getpid()} {arguments[1]}\\n")
        time.sleep(float(os.environ["PAUSE"]))

sys.addaudithook(note)
"""


def start_training(
    folder: Path, run: str, start: list[str], writers: str = "others", pause: float = 0.0
) -> subprocess.Popen:
    """Train by the recipe in a folder, which the names of the files that are written go to, too.

    `pause`: seconds before each file.
    """
    (folder / "sitecustomize.py").write_text(NOTE_WRITERS)
    options = ["--config", str(folder / "recipe.toml"), "--run", run, "--captions", "template"]
    return subprocess.Popen(
        [*start, "-m", "moda_utils.training", *options],
        cwd=ROOT,
        env=os.environ
        | {"PYTHONPATH": str(folder), "WRITERS": str(folder / writers), "PAUSE": str(pause)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_accelerate_gives_two_processes_the_losses_of_one(shop_of_full, tmp_path):
    """One of the two is killed on the way, which ends the other; then both go on."""
    recipe = "epochs = 8\nbatch_size = 16\naccumulation = 2\nsnapshot_epochs = [2, 8]\n"
    (tmp_path / "recipe.toml").write_text(recipe + "save_minutes = 0.0\n")
    one, two = (shop_of_full / "runs" / name for name in ("one", "two"))
    with start_training(tmp_path, "two", LAUNCH, pause=1) as broken:
        while not (two / "state.pt").exists() and broken.poll() is None:
            time.sleep(0.005)
        children = psutil.Process(broken.pid).children(recursive=True)
        pair = [child for child in children if "moda_utils.training" in child.cmdline()]
        assert len(pair) == 2, children
        pair[1].kill()
        said, beside = broken.communicate()
    assert not psutil.wait_procs(pair, timeout=300)[1], "the other one trains on alone"
    assert broken.returncode != 0 and "Finished:" not in said, f"not killed in time: {said}{beside}"
    for name, start in (("one", [sys.executable]), ("two", LAUNCH)):
        with start_training(tmp_path, name, start, f"writers of {name}") as process:
            said, beside = process.communicate()
        assert process.returncode == 0, beside
        assert said.count("Finished:") == 1, said  # one of two speaks
        assert said.count("2 processes share each step.") == (name == "two"), said
        assert said.count("two goes on in epoch") == (name == "two"), said
        lines = (tmp_path / f"writers of {name}").read_text().splitlines()
        written = [line.split(" ", 1) for line in lines if f"/runs/{name}/" in line]
        assert len({process for process, _ in written}) == 1, written  # and writes
        files = [Path(path).name for _, path in written]
        assert files.count("best") >= 1 and files.count("epoch-08.safetensors") == 1
    assert_close(load_history(two), load_history(one), 1e-4)
    files = {path.relative_to(one) for path in one.rglob("*")}
    assert files == {path.relative_to(two) for path in two.rglob("*")}
    best, same = (load_file(run / "best" / "model.safetensors") for run in (one, two))
    for name, weight in best.items():
        torch.testing.assert_close(weight, same[name], rtol=1e-2, atol=1e-4)  # float16


DRAWS = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
import os
from pathlib import Path
import torch
from test_training import TINY, build, examples
from moda_utils.training import train

def draw(history):
    number = torch.rand(1).item()
    with open(Path({out!r}, f"draws {{os.environ['RANK']}}"), "a") as file:
        file.write(f"{{number}}\\n")

train(*build(Path({parts!r})), examples(), examples(9), TINY, Path({out!r}, "run"), draw)
"""


@pytest.mark.slow
def test_each_process_draws_its_own_zeros(folder, tmp_path):
    """Those of dropout. The first one's are those of a process that trains alone."""
    alone = []
    train(
        *build(folder), examples(), examples(9), TINY, tmp_path / "one",
        lambda history: alone.append(torch.rand(1).item()),
    )  # fmt: skip
    places = {"tests": str(Path(__file__).parent), "root": str(ROOT), "parts": str(folder)}
    (tmp_path / "draws.py").write_text(DRAWS.format(**places, out=str(tmp_path)))
    command = [*LAUNCH, str(tmp_path / "draws.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = (
        [float(line) for line in (tmp_path / f"draws {rank}").read_text().split()]
        for rank in range(2)
    )
    assert first == alone and len(second) == len(first) >= 2
    assert not set(first) & set(second)


EXCHANGES = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
from pathlib import Path
import torch
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from test_training import build, examples
from moda_utils.training import accumulate, make_accelerator, tokenize

accelerator, exchanges = make_accelerator(), 0
model, processor = build(Path({parts!r}))
ready = accelerator.prepare(model)

def exchange(state, bucket):
    global exchanges
    exchanges += 1
    return allreduce_hook(state, bucket)

ready.register_comm_hook(None, exchange)
tokens = tokenize(processor, examples(48))
accumulate(ready, accelerator, tokens, list(torch.arange(48).split(8)))
count = f"{{exchanges}} in one step of {{accelerator.num_processes}} processes"
Path({out!r}, f"exchanges {{accelerator.process_index}}").write_text(count)
"""


@pytest.mark.slow
def test_gradients_are_exchanged_once_a_step(folder, tmp_path):
    """Not once a batch, of which this step has six; the tiny model goes in one piece."""
    places = {"tests": str(Path(__file__).parent), "root": str(ROOT), "parts": str(folder)}
    (tmp_path / "exchanges.py").write_text(EXCHANGES.format(**places, out=str(tmp_path)))
    command = [*LAUNCH, str(tmp_path / "exchanges.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    # In files: two processes that print to one pipe can run into each other's lines.
    counts = [path.read_text() for path in sorted(tmp_path.glob("exchanges ?"))]
    assert counts == ["1 in one step of 2 processes"] * 2
