"""Train MODA: frozen encoder, trained projection and language model.

`train` is the loop, `accumulate` what happens before each optimizer step. `runs.RunFolder` keeps
the books: a run that is killed at any moment goes on to the same losses as an unbroken one.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, StepLR
from tqdm import tqdm

from moda_utils.device import best_device, best_dtype
from moda_utils.features import Examples, load_examples
from moda_utils.modeling_moda import ModaForConditionalGeneration, ModaProcessor
from moda_utils.profiles import Profile
from moda_utils.runs import History, RunFolder, trained_weights
from moda_utils.runs import load_history as load_history
from moda_utils.runs import load_weights as load_weights

OPTIMIZERS = {
    "adamw": lambda weights, c: AdamW(
        weights, lr=c.learning_rate, weight_decay=c.weight_decay, fused=True
    ),
    "sgd": lambda weights, c: SGD(weights, lr=c.learning_rate, weight_decay=c.weight_decay),
}
SCHEDULES = {
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


@dataclass
class Tokens:
    """A split as tensors on the training device; `lengths` stay on the CPU, where they are read."""

    image_embeds: Tensor  # (N, 512), or what else the model's `project` takes
    input_ids: Tensor  # (N, T)
    labels: Tensor  # (N, T)
    lengths: Tensor  # (N,)


def tokenize(
    processor: ModaProcessor, examples: Examples, device: torch.device | str = "cpu"
) -> Tokens:
    """Descriptions to `</s> tokens </s>`, and labels.

    A label of -100 means "nothing is asked here". It stands on the first `</s>`, which is given,
    and on padding. The last `</s>` keeps its label: who never learns to end never stops.
    """
    batch = processor(text=examples.descriptions)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    labels[:, 0] = -100
    return Tokens(
        image_embeds=examples.image_embeds.to(device),
        input_ids=batch["input_ids"].to(device),
        labels=labels.to(device),
        lengths=batch["attention_mask"].sum(dim=1),
    )


def collate(tokens: Tokens, rows: Tensor) -> dict[str, Tensor]:
    """The batch of these rows, cut at its longest description.

    It has no attention mask: padding stands behind the text, and causal attention looks back only.
    """
    longest = int(tokens.lengths[rows].max())
    return {
        "image_embeds": tokens.image_embeds[rows],  # (B, 512)
        "input_ids": tokens.input_ids[rows, :longest],  # (B, longest)
        "labels": tokens.labels[rows, :longest],  # (B, longest)
    }


def plan_epoch(items: int, epoch: int, config: TrainConfig) -> list[list[Tensor]]:
    """Shuffled rows: a list of optimizer steps, each a list of batches.

    The last batch and the last step may be smaller than the others; both are used. The order
    depends on seed and epoch only, so a resumed run finds its place again.
    """
    generator = torch.Generator().manual_seed(1_000_003 * config.seed + epoch)
    batches = torch.randperm(items, generator=generator).split(config.batch_size)
    steps = range(0, len(batches), config.accumulation)
    return [list(batches[start : start + config.accumulation]) for start in steps]


def make_accelerator() -> Accelerator:
    """What hides one GPU, several GPUs or none from the loop.

    Weights stay in float32; where the hardware has bfloat16, matrix products use it.
    """
    mixed_precision = "bf16" if best_dtype() == torch.bfloat16 else "no"
    return Accelerator(cpu=best_device().type == "cpu", mixed_precision=mixed_precision)


def accumulate(
    model: nn.Module, accelerator: Accelerator, tokens: Tokens, batches: list[Tensor]
) -> tuple[Tensor, int]:
    """Add up the gradients of the batches of one optimizer step.

    Every loss is divided by the labels of all batches, not by those of its own: so many small
    batches give the gradient of one large batch, whatever the lengths of their descriptions.

    Returns:
        The loss of each batch, (batches,), which sum up to the loss per token; the labels' number.
    """
    count = sum(int((tokens.lengths[rows] - 1).sum()) for rows in batches)
    losses = []
    for rows in batches:
        share = rows[accelerator.process_index :: accelerator.num_processes]  # of each GPU
        batch = collate(tokens, share if len(share) else rows[:1])
        if not len(share):
            batch["labels"].fill_(-100)  # more GPUs than items: this one only keeps in step
        loss = model(**batch, num_items_in_batch=count).loss
        accelerator.backward(loss * accelerator.num_processes)  # gradients are averaged over GPUs
        losses.append(loss.detach())
    return accelerator.reduce(torch.stack(losses), "sum"), count


@torch.no_grad()
def evaluate(model: nn.Module, tokens: Tokens, batch_size: int = 64) -> tuple[float, int]:
    """Loss per token over a whole split, and its number of labels."""
    model.eval()
    count = int((tokens.lengths - 1).sum())
    batches = torch.arange(len(tokens.lengths)).split(batch_size)
    losses = [model(**collate(tokens, rows), num_items_in_batch=count).loss for rows in batches]
    return torch.stack(losses).sum().item(), count


def train(
    model: ModaForConditionalGeneration,
    processor: ModaProcessor,
    train_set: Examples,
    validation_set: Examples,
    config: TrainConfig,
    run_dir: Path | str,
    after_epoch: Callable[[History], None] | None = None,
) -> History:
    """Train; go on, if `run_dir` holds a run that was interrupted; load it, if it is finished.

    At the end `model` has the weights of the epoch with the lowest validation loss, as in `best/`.

    Args:
        model: moved to the best device.
        after_epoch: called with the history so far, to draw a curve for example.

    Raises:
        ValueError: an empty split, a description longer than the model's position table, an
            unknown name in `config`, or a run begun with another recipe, other data or model.
        FloatingPointError: the loss is no finite number any more; step and batch are named.
    """
    accelerator = make_accelerator()
    model.to(accelerator.device)
    tokens = _checked(model, processor, train_set, "training")
    held_out = _checked(model, processor, validation_set, "validation")
    weights = list(trained_weights(model).values())
    groups = _groups(model, config)
    optimizer = _named(OPTIMIZERS, config.optimizer, "optimizer")(groups, config)
    schedule = _named(SCHEDULES, config.schedule, "schedule")(optimizer, config)

    torch.manual_seed(config.seed)  # dropout
    main = accelerator.is_main_process
    run = RunFolder(Path(run_dir), model, processor, optimizer, schedule, main)
    if run.open(_passport(model, config, train_set, validation_set)):
        return run.history
    ready = accelerator.prepare(model)  # the same model, with bfloat16 and several GPUs at work

    for epoch in range(run.epoch, config.epochs + 1):
        steps = plan_epoch(len(train_set), epoch, config)[run.position :]
        ready.train()
        for batches in tqdm(steps, desc=f"epoch {epoch}", leave=False):
            losses, count = accumulate(ready, accelerator, tokens, batches)
            norm = nn.utils.get_total_norm([weight.grad for weight in weights])
            if config.clip_norm is not None:
                nn.utils.clip_grads_with_norm_(weights, config.clip_norm, norm)
            *parts, pull = torch.cat([losses, norm[None]]).tolist()
            if not math.isfinite(sum(parts) + pull):
                raise _not_finite(run, [*parts, pull], batches, train_set.names)
            optimizer.step()
            optimizer.zero_grad()
            run.after_step(sum(parts), pull, count)
            if batches is not steps[-1] and run.minutes_unsaved > config.save_minutes:
                run.save()
        loss, count = evaluate(ready, held_out)
        run.after_epoch(loss, count, snapshot=epoch in config.snapshot_epochs)
        schedule.step()
        if run.minutes_unsaved > config.save_minutes and epoch < config.epochs:
            run.save()
        if after_epoch is not None:
            after_epoch(run.history)

    accelerator.unwrap_model(ready, keep_fp32_wrapper=False)
    run.finish()
    accelerator.wait_for_everyone()
    run.load_best()
    return run.history


# ---------------------------------------------------------------------------------------------
# The whole notebook in one call


def train_from_profile(
    profile: Profile, run_name: str = "moda", config: TrainConfig | None = None
) -> History:
    """Embed the photos of `dataset/`, train on its descriptions, leave the run in `runs/`."""
    config = config or recipe(profile)
    model, processor = start_model(profile, config.seed)
    examples = load_examples(profile, model.to(best_device()), processor)
    train_set, validation_set = examples["train"], examples["validation"]
    return train(model, processor, train_set, validation_set, config, profile.run_dir(run_name))


def recipe(profile: Profile, **changes: Any) -> TrainConfig:
    """The recipe at a profile's sizes; `changes` are further fields of `TrainConfig`."""
    sizes = {name: getattr(profile, name) for name in ("epochs", "batch_size", "accumulation")}
    return TrainConfig(**(sizes | changes))


def start_model(
    profile: Profile, seed: int = 0
) -> tuple[ModaForConditionalGeneration, ModaProcessor]:
    """A profile's encoder and language model, joined by a fresh projection that `seed` fixes."""
    torch.manual_seed(seed)
    shipped = Path(profile.vision.name).is_absolute()  # the mini encoder has seen drawings only
    trained_on = f"{profile.data_label}, encoder drawn" if shipped else profile.data_label
    parts = profile.vision, profile.language
    model = ModaForConditionalGeneration.from_backbones(*parts, trained_on=trained_on)
    return model, ModaProcessor.from_backbones(*parts)


# ---------------------------------------------------------------------------------------------
# Checks


def _checked(
    model: ModaForConditionalGeneration, processor: ModaProcessor, examples: Examples, split: str
) -> Tokens:
    """The split as tokens, if it is not empty, holds numbers only and fits the language model."""
    if not len(examples):
        raise ValueError(f"The {split} split is empty: run notebook 01 on more items.")
    finite = examples.image_embeds.flatten(1).isfinite().all(dim=1)  # (N,)
    if not finite.all():
        raise ValueError(
            f"The embedding of item {examples.names[finite.int().argmin()]} is not finite."
        )
    tokens = tokenize(processor, examples, model.device)
    longest = int(tokens.lengths.argmax())
    image = getattr(model.config, "image_places", 1)
    places = image + int(tokens.lengths[longest])
    text = model.config.text_config
    if places > (limit := getattr(text, "max_position_embeddings", places)):
        raise ValueError(
            f"The description of item {examples.names[longest]} takes {places} places, but the "
            f"language model has {limit}: shorten it."
        )
    same_end = processor.tokenizer.eos_token_id == model.config.end_token_id
    if not same_end or int(tokens.input_ids.max()) >= text.vocab_size:
        raise ValueError("Tokenizer and language model do not belong together.")
    return tokens


def _groups(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """The trained weights by learning rate, as optimizers take them."""
    rates = {name: config.learning_rate for name, _ in model.named_children()}
    for name, rate in (config.part_rates or {}).items():
        _named(rates, name, "part")
        rates[name] = rate
    groups: dict[float, list[nn.Parameter]] = {config.learning_rate: []}  # first: it is recorded
    for name, weight in trained_weights(model).items():
        groups.setdefault(rates[name.split(".")[0]], []).append(weight)
    return [{"params": weights, "lr": rate} for rate, weights in groups.items() if weights]


def _named(known: dict[str, Any], name: str, what: str) -> Any:
    if name not in known:
        raise ValueError(f"There is no {what} {name!r}: choose one of {', '.join(known)}.")
    return known[name]


def _not_finite(
    run: RunFolder, numbers: list[float], batches: list[Tensor], names: list[str]
) -> FloatingPointError:
    """Says where: the first batch whose loss is no number, or the gradient of all of them."""
    index = next(i for i, number in enumerate(numbers) if not math.isfinite(number))
    what, rows = "gradient", torch.cat(batches)
    if index < len(batches):
        what, rows = f"loss of batch {index + 1} of {len(batches)}", batches[index]
    items = ", ".join(names[row] for row in rows.tolist()[:5])
    return FloatingPointError(
        f"In step {run.step + 1} (epoch {run.epoch}) the {what} is {numbers[index]}. Its first "
        f"items: {items}. Lower learning_rate or set clip_norm, and train under another run name."
    )


def _passport(
    model: ModaForConditionalGeneration,
    config: TrainConfig,
    train_set: Examples,
    validation_set: Examples,
) -> dict[str, Any]:
    """What a run belongs to. Embeddings count by a weighted sum, which sees their order."""
    data: dict[str, Any] = {}
    for split, examples in (("training", train_set), ("validation", validation_set)):
        texts = json.dumps([examples.names, examples.descriptions]).encode()
        weights = torch.linspace(1, 2, len(examples))
        embeds = examples.image_embeds.flatten(1).float()  # (N, D)
        data[f"{split} items"] = len(examples)
        data[f"{split} descriptions"] = hashlib.sha256(texts).hexdigest()[:16]
        data[f"{split} embeddings"] = float((weights @ embeds).abs().sum())
    trained = sum(weight.numel() for weight in trained_weights(model).values())
    about = {"trained weights": trained, "trained on": model.config.trained_on}
    return {"recipe": asdict(config), "data": data, "model": about}
