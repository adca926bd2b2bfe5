"""The folder of a training run: what was measured, what is kept, where to go on after a kill.

`config.json` says which recipe, data and model the run belongs to, `metrics.jsonl` has a row per
optimizer step and per validation, `state.pt` all that is needed to go on (gone when finished),
`epoch-NN.safetensors` the trained weights in float16, and `best/` a whole model: that of the epoch
with the lowest validation loss.
"""

import json
import math
import os
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import psutil
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from moda_utils.features import Examples
from moda_utils.journal import fingerprint
from moda_utils.modeling_moda import ModaForConditionalGeneration, ModaProcessor
from moda_utils.storage import atomic_dir, atomic_path, read_json, write_json, writing

IF_EXISTS = ("continue", "load", "start over")  # what to do with a run that is there already


@dataclass
class History:
    """What a run has measured: `rows` of its metrics.jsonl."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def of(self, split: str) -> list[dict[str, Any]]:
        """The rows of "train" (one per optimizer step) or of "validation" (one per epoch)."""
        return [row for row in self.rows if row["split"] == split]

    @property
    def best(self) -> dict[str, Any]:
        """The validation row with the lowest loss: the weights of its epoch are in `best/`."""
        return min(self.of("validation"), key=lambda row: row["loss"])

    def __str__(self) -> str:
        last, best = self.of("validation")[-1], self.best
        return (
            f"{last['epoch']} epochs in {last['seconds']:.0f} s, "
            f"lowest validation loss {best['loss']:.3f} in epoch {best['epoch']}"
        )


def load_history(run_dir: Path | str) -> History:
    """Read a run's metrics.jsonl; no rows if there is none. A half-written last line is left out.

    Raises:
        ValueError: another line is damaged.
    """
    path = Path(run_dir) / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else [""]
    try:
        return History([json.loads(line) for line in lines[:-1]])  # behind the last \n: nothing
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged: delete {path.parent} and train again.") from error


def trained_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Projection and language model by name; tied weights once."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def load_weights(model: nn.Module, path: Path | str) -> None:
    """Copy the weights of a run's .safetensors file into the model, in the model's own format.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds the weights of another model.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"{path} is missing: delete the run's folder and train again.")
    try:
        _copy(load_file(path), model)
    except (SafetensorError, AttributeError, RuntimeError) as error:  # cut; other names; shapes
        raise ValueError(
            f"{path} is damaged or belongs to another model: train again under another name, or "
            'with "start over".'
        ) from error


@torch.no_grad()
def _copy(weights: dict[str, Tensor], model: nn.Module) -> None:
    for name, weight in weights.items():
        model.get_parameter(name).copy_(weight)


def passport(
    model: ModaForConditionalGeneration,
    recipe: dict[str, Any],
    train_set: Examples,
    validation_set: Examples,
) -> dict[str, Any]:
    """What a run belongs to.

    Photos count by their hashes, where the examples have them. A weighted sum of the embeddings,
    which sees their order, tells another encoder; it is too coarse to tell a few photos.
    """
    data: dict[str, Any] = {"captions": train_set.captions}
    for split, examples in (("training", train_set), ("validation", validation_set)):
        weights = torch.linspace(1, 2, len(examples))
        embeds = examples.image_embeds.flatten(1).float()  # (N, D)
        data[f"{split} items"] = len(examples)
        data[f"{split} descriptions"] = fingerprint([examples.names, examples.descriptions])
        data[f"{split} photos"] = fingerprint(examples.shas)
        data[f"{split} embeddings"] = float((weights @ embeds).abs().sum())
    trained = sum(weight.numel() for weight in trained_weights(model).values())
    about = {"trained weights": trained, "trained on": model.config.trained_on}
    return {"recipe": recipe, "data": data, "model": about}


class RunFolder:
    """Keeps a run's files in step with its model, so that a kill at any moment costs little.

    `epoch` (from 1) is the one that is running, `position` counts its optimizer steps so far,
    `step` those of all epochs. Of several processes only the `main` one writes.
    """

    def __init__(
        self,
        folder: Path,
        model: ModaForConditionalGeneration,
        processor: ModaProcessor,
        optimizer: Optimizer,
        schedule: LRScheduler,
        main: bool,
    ):
        self.folder, self.model, self.processor = folder, model, processor
        self.optimizer, self.schedule = optimizer, schedule
        self.main, self.history = main, History()
        self.epoch, self.position, self.step = 1, 0, 0
        self._best: dict[str, Tensor] = {}  # the best epoch's weights, until best/ holds them
        self._saved = self._started = self._last_step = time.monotonic()

    @property
    def minutes_unsaved(self) -> float:
        return (time.monotonic() - self._saved) / 60

    def open(self, passport: dict[str, Any], if_exists: str) -> bool:
        """Go on from what the folder holds. True: nothing to train, the best weights are loaded.

        Args:
            passport: what the run belongs to: recipe, data, model.
            if_exists: what to do with a run that is there already. "continue" goes on with it and
                loads it if it is finished; "load" takes its weights, whatever they were trained
                on; "start over" moves it aside, unless it is this very run, interrupted.

        Raises:
            ValueError: the run that is there has another passport, and it is to be continued.
            FileNotFoundError: no run is there, and it is to be loaded.
        """
        path = self.folder / "config.json"
        self._passport = json.loads(json.dumps(passport))  # as it looks when read back
        found = read_json(path) if path.exists() else None
        changes = _changes(found, self._passport) if found else []
        if found is None and if_exists == "load":
            raise FileNotFoundError(
                f"There is no run {self.folder}: nothing to load, train it first."
            )
        if found and if_exists == "start over" and (changes or found["finished"]):
            aside = self.folder.with_name(_free_name(self.folder))
            os.replace(self.folder, aside)
            self._say(f"The run that was here is now {aside.name}; delete it if you don't need it.")
            found, changes = None, []
        if found and changes and if_exists == "continue":
            raise ValueError(
                f"The run {self.folder.name!r} was begun with something else: "
                f'{"; ".join(changes)}. Choose "start over" (the old run is kept, as '
                f'{_free_name(self.folder)!r}), "load" to use it as it is, or another name.'
            )
        if found and (found["finished"] or if_exists == "load"):
            self.load_best()
            self.history = load_history(self.folder)
            state = "finished" if found["finished"] else "not finished"
            self._say(f"{self.folder.name} is {state}, so it is loaded: {self.history}.")
            for change in changes:
                self._say(f"Mind that it was begun with something else: {change}.")
            return True
        if self._resume():
            self._say(f"{self.folder.name} goes on in epoch {self.epoch}, after step {self.step}.")
        elif self.main:
            if found:
                print(f"{self.folder.name} was broken off before it was saved: it begins anew.")
            write_json(path, self._passport | {"finished": False})
            self._write_rows()
            trained = sum(weight.numel() for weight in trained_weights(self.model).values()) / 1e6
            every = sum(weight.numel() for weight in self.model.parameters()) / 1e6
            print(
                f"{trained:.1f} M weights are trained, {every - trained:.1f} M frozen. Disk: "
                f"best/ {2 * every:.0f} MB, a snapshot {2 * trained:.0f} MB, state up to "
                f"{12 * trained:.0f} MB."
            )
        return False

    def after_step(self, loss: float, gradient_norm: float, tokens: int) -> None:
        """Note an optimizer step."""
        now = time.monotonic()
        self.position, self.step = self.position + 1, self.step + 1
        rate = tokens / max(now - self._last_step, 1e-9)
        self._note("train", loss, tokens, gradient_norm=gradient_norm, tokens_per_second=rate)
        self._last_step = now

    def after_epoch(self, loss: float, tokens: int, snapshot: bool) -> None:
        """Note a validation; keep the weights if they are the best ones so far or asked for.

        Its `memory_gb` is the most that the GPU has held so far; without a GPU, what the process
        holds now.
        """
        on_gpu = self.model.device.type == "cuda"
        memory = torch.cuda.max_memory_allocated() if on_gpu else psutil.Process().memory_info().rss
        self._note("validation", loss, tokens, memory_gb=memory / 1e9)
        weights = {k: v.detach().half().cpu() for k, v in trained_weights(self.model).items()}
        is_best = self.history.best["epoch"] == self.epoch
        if is_best:
            self._best = weights
        with writing(self.folder):
            self._write_rows()
            if self.main and snapshot:
                with atomic_path(self.folder / f"epoch-{self.epoch:02d}.safetensors") as path:
                    save_file(weights, path)
        if self.main:
            rows = [row for row in self.history.of("train") if row["epoch"] == self.epoch]
            mean = sum(r["loss"] * r["tokens"] for r in rows) / sum(r["tokens"] for r in rows)
            row = self.history.rows[-1]
            print(
                f"epoch {self.epoch:3}  training {mean:.3f}  validation {loss:.3f}  learning rate "
                f"{row['lr']:.1e}  {row['seconds']:5.1f} s{'  best so far' if is_best else ''}"
            )
        self.epoch, self.position = self.epoch + 1, 0
        self._last_step = time.monotonic()

    def save(self) -> None:
        """Write all that is needed to go on from here; the state comes last, and whole."""
        state = {
            "place": (self.epoch, self.position, self.step),
            "seconds": time.monotonic() - self._started,
            "weights": trained_weights(self.model),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else [],
        }
        with writing(self.folder):
            self._write_rows()
            self._write_best()
            if self.main:
                with atomic_path(self.folder / "state.pt") as path:
                    torch.save(state, path)
        self._saved = time.monotonic()

    def finish(self) -> None:
        """Write what is left to write, and mark the run as finished."""
        with writing(self.folder):
            self._write_best()
            if self.main:
                write_json(self.folder / "config.json", self._passport | {"finished": True})
        if self.main:
            (self.folder / "state.pt").unlink(missing_ok=True)
            print(f"Finished: {self.history}.")

    def load_best(self) -> None:
        """Give the model the weights of the best epoch."""
        load_weights(self.model, self.folder / "best" / "model.safetensors")

    def _say(self, text: str) -> None:
        if self.main:
            print(text)

    def _resume(self) -> bool:
        path = self.folder / "state.pt"
        if not path.exists():
            return False
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, UnpicklingError, EOFError):
            warnings.warn(f"{path} is damaged: the run begins anew.", stacklevel=4)
            return False
        self.epoch, self.position, self.step = state["place"]
        _copy(state["weights"], self.model)
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["random"])
        if torch.cuda.is_available() and state["random_cuda"]:  # not of a run begun on a CPU
            torch.cuda.set_rng_state(state["random_cuda"][0])
        # Rows that were written after the state was saved will be measured again.
        rows = load_history(self.folder).rows
        self.history = History([row for row in rows if row["step"] <= self.step])
        self._started = time.monotonic() - state["seconds"]
        return True

    def _note(self, split: str, loss: float, tokens: int, **more: float) -> None:
        place = {"step": self.step, "epoch": self.epoch, "split": split, "loss": loss}
        place |= {"lr": self.optimizer.param_groups[0]["lr"], "tokens": tokens}
        self.history.rows.append(place | {"seconds": time.monotonic() - self._started} | more)

    def _write_rows(self) -> None:
        if self.main:
            with atomic_path(self.folder / "metrics.jsonl") as path:
                path.write_text("".join(json.dumps(row) + "\n" for row in self.history.rows))

    def _write_best(self) -> None:
        if self._best and self.main:
            names = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
            state = {k: v.half().cpu() for k, v in self.model.state_dict().items() if k in names}
            with atomic_dir(self.folder / "best") as folder:
                self.model.save_pretrained(folder, state_dict=state | self._best)
                self.processor.save_pretrained(folder)
        self._best = {}


def _changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between two passports, in words."""
    changes = []
    for part, fields in new.items():
        for name, now in fields.items():
            then = old.get(part, {}).get(name)
            if name.endswith("embeddings"):  # another machine's last digits may differ
                same = then is not None and math.isclose(now, then, rel_tol=1e-3)
            else:
                same = now == then or name == "save_minutes"
            if not same:
                digest = name.endswith(("descriptions", "photos", "embeddings"))  # tells nobody
                text = f"{part} {name}: {then} then, {now} now"
                changes.append(f"other {name}" if digest else text)
    return changes


def _free_name(folder: Path) -> str:
    names = (f"{folder.name}-{number}" for number in range(2, 1000))
    return next(name for name in names if not (folder.parent / name).exists())
