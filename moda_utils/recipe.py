"""The recipe: all that is decided before training, each choice with its reason."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, StepLR

from moda_utils.profiles import Profile
from moda_utils.runs import trained_weights

_OPTIMIZERS = {"adamw": partial(AdamW, fused=True), "sgd": SGD}
_SCHEDULES = {
    "step": lambda optimizer, c: StepLR(optimizer, c.decay_every, c.decay_factor),
    "cosine": lambda optimizer, c: CosineAnnealingLR(optimizer, c.epochs),
    "constant": lambda optimizer, c: ConstantLR(optimizer, factor=1.0),
}


@dataclass(frozen=True)
class TrainConfig:
    """The recipe: that of the original MODA, except where a reason for another one is given."""

    epochs: int = 20
    batch_size: int = 32  # items per forward pass: as many as fit into memory
    accumulation: int = 8  # batches per optimizer step: 256 items give a calmer gradient than 32
    optimizer: str = "adamw"  # adapts the size of a step to each weight
    learning_rate: float = 1e-3  # high for a pretrained model, but the projection is new
    part_rates: Mapping[str, float] | None = None  # other rates: {"language_model": 1e-4}
    weight_decay: float = 0.01  # PyTorch's default
    schedule: str = "step"  # large steps first, small ones to settle
    decay_every: int = 2  # epochs
    decay_factor: float = 0.8  # a ninth of the first rate is left after 20 epochs
    clip_norm: float | None = None  # the original does not clip; the norm is recorded either way
    seed: int = 0  # order of the items, dropout (the original kept one order and set no seed)
    snapshot_epochs: tuple[int, ...] = (1, 5, 10, 20)  # kept, to compare descriptions later
    save_minutes: float = 1.0  # at most so much work is lost when the process is killed


def recipe(profile: Profile, **changes: Any) -> TrainConfig:
    """The recipe at a profile's sizes; `changes` are further fields of `TrainConfig`."""
    names = ("epochs", "batch_size", "accumulation", "save_minutes")
    return TrainConfig(**({name: getattr(profile, name) for name in names} | changes))


def read_config(path: Path | str | None, profile: Profile) -> TrainConfig:
    """The profile's recipe, with what a TOML or JSON file sets differently."""
    if path is None:
        return recipe(profile)
    text = Path(path).read_text(encoding="utf-8")
    try:
        return recipe(profile, **(json if Path(path).suffix == ".json" else tomllib).loads(text))
    except (ValueError, TypeError) as error:
        known = ", ".join(field.name for field in fields(TrainConfig))
        raise ValueError(f"{path} can't be used: {error}. It may set {known}.") from error


def make_optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    """The optimizer of what is trained, at the rates of its parts."""
    make = named(_OPTIMIZERS, config.optimizer, "optimizer")
    groups = _groups(model, config)
    return make(groups, lr=config.learning_rate, weight_decay=config.weight_decay)


def make_schedule(optimizer: Optimizer, config: TrainConfig) -> LRScheduler:
    """How the learning rate goes down, one step per epoch."""
    return named(_SCHEDULES, config.schedule, "schedule")(optimizer, config)


def named(known: dict[str, Any], name: str, what: str) -> Any:
    """The value of that name; an unknown one is refused with the known ones."""
    if name not in known:
        raise ValueError(f"There is no {what} {name!r}: choose one of {', '.join(known)}.")
    return known[name]


def _groups(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """The trained weights by learning rate, as optimizers take them."""
    rates = {name: config.learning_rate for name, _ in model.named_children()}
    for name, rate in (config.part_rates or {}).items():
        named(rates, name, "part")
        rates[name] = rate
    groups: dict[float, list[nn.Parameter]] = {config.learning_rate: []}  # first: it is recorded
    for name, weight in trained_weights(model).items():
        groups.setdefault(rates[name.split(".")[0]], []).append(weight)
    return [{"params": weights, "lr": rate} for rate, weights in groups.items() if weights]
