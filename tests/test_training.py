import dataclasses
import itertools
import json
import math
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from tiny_moda import DESCRIPTIONS, build

from moda_utils import runs, training
from moda_utils.features import Examples
from moda_utils.modeling_moda import ModaForConditionalGeneration
from moda_utils.profiles import ROOT, get_profile
from moda_utils.training import (
    TrainConfig,
    accumulate,
    collate,
    evaluate,
    load_history,
    load_weights,
    plan_epoch,
    tokenize,
    train,
    trained_weights,
)

TINY = TrainConfig(epochs=3, batch_size=8, accumulation=3, snapshot_epochs=(1, 3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moda")
    build(folder)
    return folder


@pytest.fixture
def parts(folder):
    return build(folder)


def examples(items: int = 60, seed: int = 0) -> Examples:
    """Items whose embedding says what their description says."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randn(len(DESCRIPTIONS), 24, generator=torch.Generator().manual_seed(9))
    rows = torch.randint(len(DESCRIPTIONS), (items,), generator=generator).tolist()
    return Examples(codes[rows], [DESCRIPTIONS[row] for row in rows], [f"item{i}" for i in rows])


def losses(history) -> list[tuple]:
    """A run's figures without its clock."""
    keys = ("step", "epoch", "split", "loss", "lr", "tokens", "gradient_norm")
    return [tuple(row.get(key) for key in keys) for row in history.rows]


def test_labels_ask_for_the_text_and_its_end_only(parts):
    _, processor = parts
    tokens = tokenize(processor, Examples(torch.zeros(2, 24), ["Red shirt for men", "Red"], "ab"))
    ids = processor.tokenizer("Red shirt for men")["input_ids"]
    ids = [token for token in ids if token != 2]
    assert tokens.input_ids[0].tolist() == [2, *ids, 2]
    assert tokens.labels[0].tolist() == [-100, *ids, 2]
    short = tokens.labels[1].tolist()
    assert short[0] == -100 and short[2] == 2 and set(short[3:]) == {-100}
    batch = collate(tokens, torch.tensor([1]))
    assert batch["labels"].shape == (1, 3)  # cut at its own longest description


def test_an_epoch_uses_every_item_once_in_an_order_that_only_seed_and_epoch_decide():
    config = TrainConfig(batch_size=32, accumulation=8)
    steps = plan_epoch(2325, 3, config)
    assert [len(step) for step in steps] == [8] * 9 + [1]  # 73 batches: the last is not lost
    rows = torch.cat([rows for step in steps for rows in step])
    assert sorted(rows.tolist()) == list(range(2325))
    again = torch.cat([rows for step in plan_epoch(2325, 3, config) for rows in step])
    assert torch.equal(rows, again)
    for other in (plan_epoch(2325, 4, config), plan_epoch(2325, 3, TrainConfig(seed=1))):
        assert not torch.equal(rows, torch.cat([rows for step in other for rows in step]))


def test_eight_batches_of_32_give_the_gradient_of_one_of_256(parts):
    model, processor = parts
    model.eval()
    tokens = tokenize(processor, examples(256))
    assert len(set(tokens.lengths.tolist())) > 1  # or the weighting by tokens would be idle
    gradients, sums = [], []
    for size in (32, 256):
        model.zero_grad()
        batches = list(torch.arange(256).split(size))
        parts_of_loss, count = accumulate(model, Accelerator(cpu=True), tokens, batches)
        assert count == int((tokens.labels != -100).sum())
        sums.append(parts_of_loss.sum())
        gradients.append([weight.grad.clone() for weight in trained_weights(model).values()])
    torch.testing.assert_close(sums[0], sums[1], rtol=1e-5, atol=1e-5)
    for many, one in zip(*gradients, strict=True):
        torch.testing.assert_close(many, one, rtol=1e-5, atol=1e-5)


def test_the_validation_loss_is_the_mean_over_all_tokens(parts):
    model, processor = parts
    tokens = tokenize(processor, examples(50))
    loss, count = evaluate(model, tokens, batch_size=7)
    whole = model(**collate(tokens, torch.arange(50))).loss
    assert loss == pytest.approx(whole.item(), rel=1e-5)
    assert count == int((tokens.labels != -100).sum())


def test_a_part_can_have_a_rate_of_its_own(parts, tmp_path):
    model, processor = parts
    language = {k: v.clone() for k, v in model.language_model.state_dict().items()}
    projection = model.projection[0].weight.clone()
    config = dataclasses.replace(TINY, epochs=1, part_rates={"language_model": 0.0})
    history = train(model, processor, examples(64), examples(16), config, tmp_path / "run")
    for name, weight in model.language_model.state_dict().items():
        assert torch.equal(language[name].half().float(), weight), name
    assert not torch.allclose(projection, model.projection[0].weight, atol=1e-3)
    assert history.of("train")[0]["lr"] == config.learning_rate
    config = dataclasses.replace(config, part_rates={"text_model": 1e-4})
    with pytest.raises(ValueError, match="no part 'text_model'.*projection"):
        train(model, processor, examples(64), examples(16), config, tmp_path / "other")


def test_training_learns_and_leaves_what_it_promises(parts, tmp_path):
    model, processor = parts
    frozen = [weight.clone() for weight in model.vision_model.parameters()]
    config = dataclasses.replace(TINY, epochs=20, accumulation=1, snapshot_epochs=(1, 5, 10, 20))
    train_set, held_out = examples(192), examples(64, seed=1)
    history = train(model, processor, train_set, held_out, config, tmp_path / "run")
    rates = [row["lr"] for row in history.of("validation")]
    assert rates == pytest.approx([1e-3 * 0.8 ** (epoch // 2) for epoch in range(20)])
    first, last = history.of("validation")[0], history.of("validation")[-1]
    assert last["loss"] < 0.5 * first["loss"]
    assert len(history.of("train")) == 20 * 24 and len(history.of("validation")) == 20
    for row in history.of("train"):
        assert row["gradient_norm"] > 0 and row["tokens"] > 0 and row["tokens_per_second"] > 0
    for old, new in zip(frozen, model.vision_model.parameters(), strict=True):
        assert torch.equal(old.half().float(), new)  # frozen; rounded as best/ stores it

    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    snapshots = [f"epoch-{epoch:02d}.safetensors" for epoch in (1, 5, 10, 20)]
    assert names == ["best", "config.json", *snapshots, "metrics.jsonl"]
    assert load_history(tmp_path / "run").rows == history.rows

    best = ModaForConditionalGeneration.from_pretrained(tmp_path / "run" / "best")
    assert best.dtype == torch.float32  # although stored in half the size
    size = (tmp_path / "run" / "best" / "model.safetensors").stat().st_size
    assert size < 2.2 * sum(weight.numel() for weight in model.parameters())
    for name, weight in trained_weights(model).items():  # what is in memory is what is stored
        assert torch.equal(weight, best.get_parameter(name)), name
    loss, _ = evaluate(best, tokenize(processor, held_out))
    assert loss == pytest.approx(history.best["loss"], rel=0.01)

    load_weights(model, tmp_path / "run" / "epoch-01.safetensors")
    loss, _ = evaluate(model, tokenize(processor, held_out))
    assert loss == pytest.approx(first["loss"], rel=0.01)


def test_the_same_seed_gives_the_same_losses_and_another_seed_others(folder, tmp_path):
    runs = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        config = dataclasses.replace(TINY, seed=seed)
        model, processor = build(folder)
        model.language_model.config.dropout = 0.1
        runs[name] = train(model, processor, examples(), examples(9), config, tmp_path / name)
    assert losses(runs["a"]) == losses(runs["b"])
    assert losses(runs["a"]) != losses(runs["c"])


class Disconnect(Exception):
    pass


@pytest.mark.parametrize("steps_before", [2, 3, 4, 8])  # an epoch has 3 steps
def test_a_run_that_was_cut_off_goes_on_and_ends_like_an_unbroken_one(
    folder, tmp_path, monkeypatch, capsys, steps_before
):
    """Equal losses alone prove nothing: a run that begins anew has them, too."""
    dropout = {"dropout": 0.2}  # so that the random state matters

    def go(name, **changes):
        model, processor = build(folder)
        for module in model.language_model.modules():
            if hasattr(module, "dropout"):
                module.dropout = dropout["dropout"]
        config = dataclasses.replace(TINY, **changes)
        history = train(model, processor, examples(), examples(9), config, tmp_path / name)
        return history, [weight.clone() for weight in trained_weights(model).values()]

    whole, whole_weights = go("whole")
    real = runs.RunFolder.after_step

    def cut(self, *numbers):
        if self.step == steps_before:
            raise Disconnect
        real(self, *numbers)

    with monkeypatch.context() as patch, pytest.raises(Disconnect):
        patch.setattr(runs.RunFolder, "after_step", cut)
        go("cut", save_minutes=0)
    torch.manual_seed(12345)  # a new process would have another random state
    capsys.readouterr()
    steps = []

    def counted(*arguments):
        steps.append(accumulate(*arguments))
        return steps[-1]

    monkeypatch.setattr(training, "accumulate", counted)
    resumed, weights = go("cut")
    assert len(steps) == 9 - steps_before
    place = f"cut goes on in epoch {steps_before // 3 + 1}, after step {steps_before}."
    assert capsys.readouterr().out.splitlines()[0] == place
    assert losses(resumed) == losses(whole)
    assert losses(load_history(tmp_path / "cut")) == losses(whole)
    for one, other in zip(weights, whole_weights, strict=True):
        assert torch.equal(one, other)


def test_a_run_broken_off_in_the_session_does_not_go_on_from_its_weights(folder, tmp_path, capsys):
    """Ctrl-C before anything was saved: the model is half trained, the run has not begun."""
    wanted = losses(train(*build(folder), examples(), examples(9), TINY, tmp_path / "whole"))
    model, processor = build(folder)

    def interrupt(history):
        raise KeyboardInterrupt

    go = (processor, examples(), examples(9), TINY, tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        train(model, *go, after_epoch=interrupt)
    with pytest.raises(ValueError, match="trained before.*begin with a fresh one"):
        train(model, *go)
    capsys.readouterr()
    assert losses(train(build(folder)[0], *go)) == wanted
    assert capsys.readouterr().out.startswith("run was broken off before it was saved: it begins")
    with pytest.raises(ValueError, match="trained before"):
        train(model, processor, examples(), examples(9), TINY, tmp_path / "another")


def test_a_model_whose_run_was_refused_is_still_fresh(folder, tmp_path):
    model, processor = build(folder)
    sets = (processor, examples(), examples(9))
    wanted = losses(train(build(folder)[0], *sets, TINY, tmp_path / "run"))
    with pytest.raises(ValueError, match="was begun with something else"):
        train(model, *sets, dataclasses.replace(TINY, seed=1), tmp_path / "run")
    assert losses(train(model, *sets, TINY, tmp_path / "another")) == wanted


def test_a_finished_run_is_loaded_and_not_trained_again(folder, tmp_path, monkeypatch, capsys):
    model, processor = build(folder)
    first = train(model, processor, examples(), examples(9), TINY, tmp_path / "run")
    monkeypatch.setattr(training, "accumulate", None)  # any training would fail now
    fresh, processor = build(folder)
    again = train(fresh, processor, examples(), examples(9), TINY, tmp_path / "run")
    assert again.rows == first.rows
    for name, weight in trained_weights(model).items():
        assert torch.equal(weight, fresh.get_parameter(name)), name
    assert "is finished" in capsys.readouterr().out
    (tmp_path / "run" / "best" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="delete the run's folder"):
        train(fresh, processor, examples(), examples(9), TINY, tmp_path / "run")


@pytest.fixture
def fresh_accelerator():
    """Accelerate keeps one setting per process: forget it, before and after."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_bfloat16_products_keep_float32_weights(folder, tmp_path, monkeypatch, fresh_accelerator):
    model, processor = build(folder)
    monkeypatch.setattr(training, "best_dtype", lambda: torch.bfloat16)
    seen = []
    model.projection[0].register_forward_hook(lambda *call: seen.append(call[2].dtype))
    rough = train(model, processor, examples(), examples(9), TINY, tmp_path / "rough")
    assert set(seen) == {torch.bfloat16}
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    seen.clear()
    model.project(torch.zeros(1, 24))  # the model is itself again
    assert seen == [torch.float32]

    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setattr(training, "best_dtype", lambda: torch.float32)
    exact = train(*build(folder), examples(), examples(9), TINY, tmp_path / "exact")
    assert rough.best["loss"] == pytest.approx(exact.best["loss"], rel=0.02)
    assert losses(rough) != losses(exact)


def test_a_changed_recipe_or_data_is_refused_with_a_new_name(folder, tmp_path):
    model, processor = build(folder)
    train_set, held_out = examples(), examples(9)
    train_set.shas = [f"{number:064x}" for number in range(len(train_set))]
    train(model, processor, train_set, held_out, TINY, tmp_path / "moda")
    changed = dataclasses.replace(TINY, learning_rate=0.0010001, save_minutes=9)
    with pytest.raises(ValueError, match=r"learning_rate: 0.001 then, 0.0010001 now") as caught:
        train(model, processor, train_set, held_out, changed, tmp_path / "moda")
    assert "'moda-2'" in str(caught.value) and "save_minutes" not in str(caught.value)
    (tmp_path / "moda-2").mkdir()

    other = dataclasses.replace(train_set, descriptions=train_set.descriptions[::-1])
    with pytest.raises(ValueError, match=r"other training descriptions.*'moda-3'"):
        train(model, processor, other, held_out, TINY, tmp_path / "moda")
    photo = dataclasses.replace(train_set, shas=[*train_set.shas[:-1], "f" * 64])
    with pytest.raises(ValueError, match="something else: other training photos. Choose"):
        train(model, processor, photo, held_out, TINY, tmp_path / "moda")
    order = torch.randperm(len(train_set), generator=torch.Generator().manual_seed(0))
    blind = dataclasses.replace(train_set, image_embeds=train_set.image_embeds[order])
    with pytest.raises(ValueError, match="training embeddings"):
        train(model, processor, blind, held_out, TINY, tmp_path / "moda")
    close = dataclasses.replace(train_set, image_embeds=train_set.image_embeds * (1 + 1e-6))
    train(model, processor, close, held_out, TINY, tmp_path / "moda")  # another machine's digits
    with pytest.raises(ValueError, match="training items: 60 then, 50 now"):
        train(model, processor, examples(50), held_out, TINY, tmp_path / "moda")


@pytest.mark.parametrize("damage", ["half", "empty"])
def test_a_damaged_state_is_not_loaded(folder, tmp_path, monkeypatch, damage):
    model, processor = build(folder)
    whole = train(model, processor, examples(), examples(9), TINY, tmp_path / "whole")

    def stop(history):
        raise Disconnect

    model, processor = build(folder)
    config = dataclasses.replace(TINY, save_minutes=0)
    with pytest.raises(Disconnect):
        train(model, processor, examples(), examples(9), config, tmp_path / "run", stop)
    state = tmp_path / "run" / "state.pt"
    content = state.read_bytes()
    state.write_bytes(content[: len(content) // 2] if damage == "half" else b"")
    model, processor = build(folder)
    with pytest.warns(UserWarning, match="begins anew"):
        again = train(model, processor, examples(), examples(9), TINY, tmp_path / "run")
    assert losses(again) == losses(whole)


def test_a_save_that_fails_leaves_the_one_before(folder, tmp_path, monkeypatch):
    model, processor = build(folder)
    whole = train(model, processor, examples(), examples(9), TINY, tmp_path / "whole")
    real = torch.save
    calls = []

    def full_disk(state, path):
        calls.append(path)
        real(state, path)
        if len(calls) == 4:
            Path(path).write_bytes(Path(path).read_bytes()[:100])
            raise OSError(28, "No space left on device")

    model, processor = build(folder)
    config = dataclasses.replace(TINY, save_minutes=0)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(torch, "save", full_disk)
        train(model, processor, examples(), examples(9), config, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").glob("*.pt")] == ["state.pt"]
    model, processor = build(folder)
    again = train(model, processor, examples(), examples(9), TINY, tmp_path / "run")
    assert losses(again) == losses(whole)


def test_no_number_stops_the_run_and_names_step_and_batch(parts, tmp_path):
    model, processor = parts
    wild = dataclasses.replace(TINY, optimizer="sgd", learning_rate=1e30)
    message = r"In step 2 \(epoch 1\) the loss of batch 1 of 3 is (nan|inf).* items: item\d+"
    with pytest.raises(FloatingPointError, match=message) as caught:
        train(model, processor, examples(), examples(9), wild, tmp_path / "run")
    assert "learning_rate" in str(caught.value)

    # One step in all: no second one could tell what the first has done to the weights.
    alone = dataclasses.replace(wild, epochs=1, accumulation=99)
    with pytest.raises(
        FloatingPointError, match=r"After step 1 \(epoch 1\) the validation loss is (nan|inf)"
    ):
        train(*build(tmp_path / "parts"), examples(), examples(9), alone, tmp_path / "alone")
    assert load_history(tmp_path / "alone").rows == []
    assert not (tmp_path / "alone" / "best").exists()

    train_set = examples()
    train_set.image_embeds[7] = float("nan")
    with pytest.raises(ValueError, match=f"embedding of item {train_set.names[7]} is not finite"):
        train(model, processor, train_set, examples(9), TINY, tmp_path / "other")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adam"}, "no optimizer 'adam': choose one of adamw, sgd"),
        ({"schedule": "linear"}, "no schedule 'linear': choose one of step, cosine, constant"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(parts, tmp_path, changes, message):
    config = dataclasses.replace(TINY, **changes)
    with pytest.raises(ValueError, match=message):
        train(*parts, examples(), examples(9), config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("changes", [{"optimizer": "sgd"}, {"schedule": "cosine"}])
def test_every_name_that_is_offered_works(parts, tmp_path, changes):
    config = dataclasses.replace(TINY, clip_norm=0.5, **changes)
    history = train(*parts, examples(), examples(9), config, tmp_path / "run")
    assert math.isfinite(history.best["loss"])


def test_an_empty_split_and_a_description_that_does_not_fit_are_refused(parts, tmp_path):
    nothing = Examples(torch.empty(0, 24), [], [])
    with pytest.raises(ValueError, match="training split is empty"):
        train(*parts, nothing, examples(9), TINY, tmp_path / "run")
    with pytest.raises(ValueError, match="validation split is empty"):
        train(*parts, examples(), nothing, TINY, tmp_path / "run")
    long = Examples(torch.zeros(2, 24), ["Red", "Zebra " * 40], ["short", "endless"])
    with pytest.raises(ValueError, match=r"item endless takes \d+ places, .* has 64"):
        train(*parts, long, examples(9), TINY, tmp_path / "run")
    for torn in ({"image_embeds": torch.zeros(3, 24)}, {"names": []}, {"shas": []}):
        with pytest.raises(ValueError, match="as many embeddings as descriptions"):
            dataclasses.replace(Examples(torch.zeros(1, 24), ["Red"], ["one"]), **torn)


def test_a_half_written_metrics_line_is_left_out(tmp_path):
    row = {"step": 1, "epoch": 1, "split": "train", "loss": 2.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n" + '{"step": 2, "epo')
    assert load_history(tmp_path).rows == [row]
    (tmp_path / "metrics.jsonl").write_text("nonsense\n" + json.dumps(row) + "\n")
    with pytest.raises(ValueError, match="is damaged"):
        load_history(tmp_path)


# In a process of its own, whose memory is all for this.
REAL_SIZE = """
import dataclasses, re, sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {root!r}]
import torch
from transformers import CLIPVisionConfig, OPTConfig
from moda_utils.modeling_moda import ModaConfig, ModaForConditionalGeneration
from moda_utils.training import TrainConfig, train
from test_training import build, examples
torch.manual_seed(0)
_, processor = build(Path({parts!r}))
model = ModaForConditionalGeneration(ModaConfig(CLIPVisionConfig(), OPTConfig()))
wide = torch.randn(96, 512, generator=torch.Generator().manual_seed(0))
items = dataclasses.replace(examples(96), image_embeds=wide)
config = TrainConfig(epochs=1, accumulation=1, snapshot_epochs=())
train(model, processor, items, items, config, Path(sys.argv[1]))
if sys.platform == "linux":
    status = Path("/proc/self/status").read_text()
    print("peak", int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) * 1024)
"""


@pytest.mark.slow
def test_the_recipe_is_stable_at_real_size(folder, tmp_path):
    """Random weights of the real sizes, three optimizer steps: loss falls, memory suffices."""
    code = REAL_SIZE.format(tests=str(Path(__file__).parent), root=str(ROOT), parts=str(folder))
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    history = load_history(tmp_path / "run")
    first, *_, last = (row["loss"] for row in history.of("train"))
    assert len(history.of("train")) == 3
    assert first == pytest.approx(math.log(50272), rel=0.1)
    assert history.best["loss"] < last < first
    if sys.platform == "linux":
        assert int(done.stdout.split()[-1]) < 10e9


WORKER = """
import dataclasses, sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {root!r}]
from test_training import TINY, build, examples
from moda_utils.training import train
config = dataclasses.replace(TINY, epochs={epochs}, save_minutes=0)
model, processor = build(Path({parts!r}))
train(model, processor, examples(), examples(9), config, Path(sys.argv[1]))
"""


def step_gone_on_from(said: str) -> int:
    place = re.search(r"^cut goes on in epoch \d+, after step (\d+)\.$", said, re.MULTILINE)
    assert place, f"It began anew: {said}"
    return int(place[1])


@pytest.mark.slow
def test_kill_9_at_random_moments_changes_nothing(folder, tmp_path):
    """Each worker goes on behind the one before, and the last one ends like an unbroken run."""
    tests = Path(__file__).parent
    code = WORKER.format(tests=str(tests), root=str(tests.parent), parts=str(folder), epochs=40)
    command = [sys.executable, "-u", "-c", code]  # -u: what it prints outlives it
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    whole = load_history(tmp_path / "whole")
    latest = whole.rows[-1]["seconds"] / 10  # on a fast machine as on a slow one
    random, steps, kills = torch.Generator().manual_seed(0), [0], 0
    while kills < 5:
        with open(tmp_path / "said.txt", "w") as said:
            process = subprocess.Popen(
                [*command, str(tmp_path / "cut")], stdout=said, stderr=subprocess.DEVNULL
            )
        state = tmp_path / "cut" / "state.pt"
        before = state.stat().st_mtime_ns if state.exists() else 0
        while process.poll() is None and not (
            state.exists() and state.stat().st_mtime_ns != before
        ):
            time.sleep(0.01)  # let it get past its imports
        time.sleep(latest * torch.rand(1, generator=random).item())
        process.kill()
        if process.wait() == 0:  # faster now than the unbroken run was, and done: all anew
            shutil.rmtree(tmp_path / "cut")
            latest, steps, kills = latest / 2, [0], 0
            continue
        assert process.returncode == -signal.SIGKILL
        if kills:
            steps.append(step_gone_on_from((tmp_path / "said.txt").read_text()))
        kills += 1
    last = subprocess.run([*command, str(tmp_path / "cut")], check=True, capture_output=True)
    steps.append(step_gone_on_from(last.stdout.decode()))
    assert losses(load_history(tmp_path / "cut")) == losses(whole)
    assert all(earlier < later for earlier, later in itertools.pairwise(steps)), steps


def test_a_saved_model_names_no_folder_of_this_machine(tmp_path):
    model, processor = training.start_model(get_profile("mini"))
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    for file in tmp_path.glob("*.json"):
        assert str(ROOT) not in file.read_text(encoding="utf-8"), file.name
