"""Train MODA: frozen encoder, trained projection and language model.

`train` is the loop, `accumulate` what happens before each optimizer step. `runs.RunFolder` keeps
the books: a run that is killed at any moment goes on to the same losses as an unbroken one.
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from moda_utils.device import best_device, best_dtype, halve_to_fit
from moda_utils.features import Examples, load_examples
from moda_utils.modeling_moda import ModaForConditionalGeneration, ModaProcessor
from moda_utils.profiles import Profile, get_profile
from moda_utils.recipe import TrainConfig, make_optimizer, make_schedule, named, read_config
from moda_utils.recipe import recipe as recipe
from moda_utils.runs import IF_EXISTS, History, RunFolder, passport, trained_weights
from moda_utils.runs import load_history as load_history
from moda_utils.runs import load_weights as load_weights


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
        # GPUs exchange gradients in the last batch, for all of them: once a step.
        with nullcontext() if rows is batches[-1] else accelerator.no_sync(model):
            loss = model(**batch, num_items_in_batch=count).loss
            accelerator.backward(loss * accelerator.num_processes)  # they are averaged over GPUs
        losses.append(loss.detach())
    return accelerator.reduce(torch.stack(losses), "sum"), count


def accumulate_in_memory(
    model: nn.Module, accelerator: Accelerator, tokens: Tokens, batches: list[Tensor], size: int
) -> tuple[tuple[Tensor, int, list[Tensor]], int]:
    """`accumulate` with at most `size` items at a time, halved as often as memory runs out.

    Smaller batches, but more of them: the step has the same items, and so the same gradient.

    Returns:
        What `accumulate` returns, the batches as they were used, and the size that fits.
    """

    def attempt(size: int) -> tuple[Tensor, int, list[Tensor]]:
        model.zero_grad()  # what an attempt that failed has left
        parts = [part for rows in batches for part in rows.split(size)]
        return *accumulate(model, accelerator, tokens, parts), parts

    least = size if accelerator.num_processes > 1 else 1  # several have to keep in step
    advice = "halve batch_size and double accumulation (the result stays the same), or close other"
    most = max(map(len, batches))
    return halve_to_fit(attempt, size, most, "item", f"{advice} programs", least)


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
    if_exists: str = "continue",
) -> History:
    """Train; go on, if `run_dir` holds a run that was interrupted; load it, if it is finished.

    At the end `model` has the weights of the epoch with the lowest validation loss, as in `best/`.

    Args:
        model: moved to the best device.
        after_epoch: called with the history so far, to draw a curve for example.
        if_exists: what to do with a run in `run_dir`: "continue", "load" it instead of training,
            whatever it was trained on, or "start over" and keep the old one under another name.

    Raises:
        ValueError: an empty split, a description longer than the model's position table, an
            unknown name in `config`, a run begun with another recipe, other data or model, or a
            new run with a model that has been trained before.
        FloatingPointError: a loss is no finite number any more; step and batch are named.
    """
    accelerator = make_accelerator()
    model.to(accelerator.device)
    tokens = _checked(model, processor, train_set, "training")
    held_out = _checked(model, processor, validation_set, "validation")
    weights = list(trained_weights(model).values())
    optimizer = make_optimizer(model, config)
    schedule = make_schedule(optimizer, config)
    named(dict.fromkeys(IF_EXISTS), if_exists, "choice")

    torch.manual_seed(config.seed)  # dropout
    main = accelerator.is_main_process
    run = RunFolder(Path(run_dir), model, processor, optimizer, schedule, main)
    with accelerator.main_process_first():  # which writes; the others read what it left
        done = run.open(passport(model, asdict(config), train_set, validation_set), if_exists)
    fresh = model.config.output_tokens is None
    # All that the model is ever asked to say: `fast.py` has no need of the others.
    model.config.output_tokens = tokens.labels[tokens.labels != -100].unique().tolist()
    if done:
        return run.history
    if accelerator.process_index:  # has zeros of its own; the state is that of the first process
        torch.manual_seed(config.seed + 1_000_003 * accelerator.process_index + run.step)
    if not run.step and not fresh:  # a broken-off run, in the same session
        raise ValueError(
            "This model has been trained before, so its losses would mean nothing: begin with a "
            "fresh one, model, _ = start_model(profile)."
        )
    ready = accelerator.prepare(model)  # the same model, with bfloat16 and several GPUs at work

    if main and accelerator.num_processes > 1:
        print(f"{accelerator.num_processes} processes share each step.")
    size = config.batch_size
    for epoch in range(run.epoch, config.epochs + 1):
        steps = plan_epoch(len(train_set), epoch, config)[run.position :]
        ready.train()
        for step in tqdm(steps, desc=f"epoch {epoch}", leave=False) if main else steps:
            (losses, count, batches), size = accumulate_in_memory(
                ready, accelerator, tokens, step, size
            )
            norm = nn.utils.get_total_norm([weight.grad for weight in weights])
            if config.clip_norm is not None:
                nn.utils.clip_grads_with_norm_(weights, config.clip_norm, norm)
            *parts, pull = torch.cat([losses, norm[None]]).tolist()
            if not math.isfinite(sum(parts) + pull):
                raise _not_finite(run, [*parts, pull], batches, train_set.names)
            optimizer.step()
            optimizer.zero_grad()
            run.after_step(sum(parts), pull, count)
            if step is not steps[-1] and run.minutes_unsaved > config.save_minutes:
                run.save()
        loss, count = evaluate(ready, held_out, size)
        if not math.isfinite(loss):  # the last step of the epoch did it: no later one tells
            raise FloatingPointError(
                f"After step {run.step} (epoch {epoch}) the validation loss is {loss}. {_ADVICE}"
            )
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
    profile: Profile,
    run_name: str = "moda",
    config: TrainConfig | None = None,
    captions: str = "refined",
    if_exists: str = "continue",
) -> History:
    """Embed the photos of `dataset/`, train on its descriptions, leave the run in `runs/`."""
    config = config or recipe(profile)
    model, processor = start_model(profile, config.seed)
    accelerator = make_accelerator()
    model.to(accelerator.device)
    with accelerator.main_process_first():  # which embeds; the others read its cache
        examples = load_examples(profile, model, processor, captions)
    splits = examples["train"], examples["validation"]
    run_dir = profile.run_dir(run_name)
    return train(model, processor, *splits, config, run_dir, if_exists=if_exists)


def start_model(
    profile: Profile,
    seed: int = 0,
    kind: type[ModaForConditionalGeneration] = ModaForConditionalGeneration,
    **config: object,
) -> tuple[ModaForConditionalGeneration, ModaProcessor]:
    """A profile's encoder and language model, joined by a fresh projection that `seed` fixes.

    `kind` and `config` are for variants of MODA: another class, and further fields of its config.
    """
    torch.manual_seed(seed)
    shipped = Path(profile.vision.name).is_absolute()  # the mini encoder has seen drawings only
    trained_on = f"{profile.data_label}, encoder drawn" if shipped else profile.data_label
    parts = profile.vision, profile.language
    model = kind.from_backbones(*parts, trained_on=trained_on, **config)
    return model, ModaProcessor.from_backbones(*parts)


# ---------------------------------------------------------------------------------------------
# Checks

_ADVICE = "Lower learning_rate or set clip_norm, and train under another run name."


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
        f"items: {items}. {_ADVICE}"
    )


# ---------------------------------------------------------------------------------------------
# The command line: `accelerate launch -m moda_utils.training` uses all GPUs of a machine


def main(arguments: Sequence[str] | None = None) -> int:
    """Train from the command line. Returns 1, with one sentence, where that is not possible."""
    parser = argparse.ArgumentParser(
        prog="python -m moda_utils.training",
        description="Train MODA on the dataset of notebook 01.",
        epilog="On all GPUs of a machine: accelerate launch -m moda_utils.training",
    )
    parser.add_argument("--config", help="TOML or JSON file with fields of TrainConfig")
    parser.add_argument("--run", default="moda", help="its name, a folder in runs/ (default: moda)")
    parser.add_argument("--captions", default="refined", help="refined, raw or template")
    parser.add_argument("--if-exists", default="continue", choices=IF_EXISTS)
    options = parser.parse_args(arguments)
    try:
        profile = get_profile()
        config = read_config(options.config, profile)
        train_from_profile(profile, options.run, config, options.captions, options.if_exists)
    except (OSError, ValueError, RuntimeError, FloatingPointError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
