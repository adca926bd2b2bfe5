"""Ask a model the same thing about many items, batch by batch, and survive every stop.

`run_batches` is the loop: it asks for what the journal lacks, prepares inputs ahead in threads,
halves the batch when memory runs out, and writes each finished batch down. `parse_answer` makes a
description of what a model wrote. Both serve every model that answers `{"description": "..."}`.
"""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakSet

import json_repair
import torch
from tqdm import tqdm

from .catalog import ahead
from .device import best_device, best_dtype, free, free_memory, halve_to_fit, load_checkpoint
from .journal import Journal, Row, fingerprint
from .phi3_vision import STOP_TOKENS
from .profiles import Checkpoint
from .storage import sha256_file

_writers: WeakSet = WeakSet()  # models that `load_writer` has handed out and somebody still holds


class Answer(NamedTuple):
    """What a model wrote; `ended` is False when it was cut off at the longest allowed length."""

    text: str
    ended: bool


def parse_answer(text: str, ended: bool = True) -> tuple[str | None, str]:
    """Return (description, status); the description has single spaces and is None when `failed`.

    Status is "ok" for exactly one JSON object with a text `description`; "repaired" if it had to be
    found between other words, or mended (a missing brace or quote); else "failed". An answer that
    was cut off (not `ended`) is never mended: half a sentence would pass for a description.
    """
    text = text.strip()
    inner = text[max(text.find("{"), 0) :]
    first = json.JSONDecoder(strict=False).raw_decode  # stops after the first object
    attempts = [("ok", lambda: json.loads(text)), ("repaired", lambda: first(inner)[0])]
    if ended:
        attempts.append(("repaired", lambda: json_repair.loads(inner)))
    for status, read in attempts:
        with suppress(ValueError, RecursionError):  # recursion: hundreds of opening brackets
            value = read()
            said = value.get("description") if isinstance(value, dict) else None
            if isinstance(said, str) and said.strip():
                return " ".join(said.split()), status
    return None, "failed"


@torch.inference_mode()
def write_answers(
    model: Any, tokenizer: Any, inputs: Mapping[str, torch.Tensor], max_new_tokens: int
) -> list[Answer]:
    """Generate greedily until a stop token.

    Args:
        tokenizer: has all of `phi3_vision.STOP_TOKENS`, as those of the Phi-3 family.

    Raises:
        RuntimeError: the model computes NaN or infinity.
    """
    stop, pad = map(tokenizer.convert_tokens_to_ids, (list(STOP_TOKENS), "<|endoftext|>"))
    settings = {"eos_token_id": stop, "pad_token_id": pad, "max_new_tokens": max_new_tokens}
    ids = model.generate(**inputs, **settings, do_sample=False, logits_processor=[_finite])
    ids = ids[:, inputs["input_ids"].shape[1] :].cpu()  # [B, T], new tokens only
    ended = torch.isin(ids, torch.tensor(stop)).any(1).tolist()
    texts = tokenizer.batch_decode(
        ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return [Answer(text.strip(), end) for text, end in zip(texts, ended, strict=True)]


def _finite(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    if not torch.isfinite(scores.amax(-1)).all():
        raise RuntimeError(
            "The model computes NaN or infinity instead of words: load it with dtype=torch.float32 "
            "(float16 can overflow), and if that does not help, download its weights again."
        )
    return scores


@dataclass
class Summary:
    """What a run has done. `str(summary)` says it in a few lines."""

    noun: str
    statuses: Counter = field(default_factory=Counter)  # of all items that have an answer now
    new: int = 0  # answers written in this run
    copied: int = 0  # items that took the answer of an equal one
    endless: int = 0  # answers cut off at the longest allowed length
    ignored: int = 0  # journal rows of another model, prompt or options
    unreadable: list[tuple[str, str]] = field(default_factory=list)  # (product_id, reason)

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {status}" for status, count in sorted(self.statuses.items()))
        text = f"{self.statuses.total()} {self.noun}s have an answer ({counts or 'none'}): "
        text += f"{self.new} written now, {self.copied} copied from equal {self.noun}s."
        if self.endless:
            text += f"\n{self.endless} answers did not stop by themselves and were cut off."
        if self.ignored:
            text += f"\n{self.ignored} rows of another model or prompt are kept, but not used."
        return text + "".join(f"\nLeft out: {item} ({why})" for item, why in self.unreadable)


Item = Mapping[str, Any]


def _key(item: Item) -> tuple[str, str]:
    return item["product_id"], item["image_sha256"]


def _row(item: Item, answer: Row) -> Row:
    return {**answer, "product_id": item["product_id"], "image_sha256": item["image_sha256"]}


def _parsed(item: Item, answer: Answer) -> Row:
    description, status = parse_answer(answer.text, answer.ended)
    return {"raw": answer.text, "description": description, "status": status}


def run_batches(
    items: Sequence[Item],
    journal: Journal,
    prepare: Callable[[Item], Any],
    answer: Callable[[list[Any]], list[Answer]],
    batch_size: int,
    same: Callable[[Item], Any] = lambda item: item["image_sha256"],
    finish: Callable[[Item, Answer], Row] = _parsed,
    noun: str = "photo",
) -> Summary:
    """Get an answer for each item that the journal lacks; every finished batch is written down.

    Args:
        items: mappings with product_id, image_sha256 and whatever `prepare` needs.
        prepare: makes an item's input; runs in threads, some batches ahead. An item for which it
            raises ValueError or OSError is left out, and tried again in the next run.
        answer: answers a list of inputs.
        batch_size: items per call of `answer`; halved for good when memory runs out.
        same: items with the same value (default: equal photos) share one answer.
        finish: row fields for an answer; default: raw, description, status of `parse_answer`.

    Raises:
        RuntimeError: not enough memory for a single item.
    """
    done = journal.done()
    summary = Summary(noun, ignored=journal.ignored)
    known = {same(item): done[_key(item)] for item in items if _key(item) in done}
    todo = [item for item in items if _key(item) not in done]
    if copies := [_row(item, known[same(item)]) for item in todo if same(item) in known]:
        journal.append(copies)
    groups = defaultdict(list)  # items that will share an answer
    for item in todo:
        if same(item) not in known:
            groups[same(item)].append(item)
    start = len(items) - len(todo) + len(copies)
    inputs = ahead(lambda group: prepare(group[0]), groups.values(), 3 * batch_size, threads=4)
    ready = _readable(inputs, summary.unreadable)
    with tqdm(total=len(items), initial=start, unit=noun) as bar:
        while batch := list(islice(ready, batch_size)):
            begin = time.perf_counter()
            answers, batch_size = _answer([value for _, value in batch], answer, batch_size, noun)
            seconds = round((time.perf_counter() - begin) / len(batch), 3)
            rows = []
            for (group, _), written in zip(batch, answers, strict=True):
                row = finish(group[0], written) | {"seconds": seconds, "ended": written.ended}
                rows += [_row(item, row) for item in group]
            journal.append(rows)
            summary.new += len(batch)
            bar.update(len(rows))
    done = journal.done()
    rows = [done[_key(item)] for item in items if _key(item) in done]
    summary.copied = len(rows) - (len(items) - len(todo)) - summary.new
    summary.statuses = Counter(row["status"] for row in rows)
    summary.endless = sum(not row["ended"] for row in rows)
    return summary


def _readable(
    inputs: Iterable[tuple[list[Item], Future]], unreadable: list[tuple[str, str]]
) -> Iterator[tuple[list[Item], Any]]:
    """Each group and its input; items without one are noted with the reason."""
    for group, future in inputs:
        try:
            yield group, future.result()
        except (ValueError, OSError) as error:
            unreadable += [(item["product_id"], str(error)) for item in group]


def _answer(
    inputs: list[Any], answer: Callable[[list[Any]], list[Answer]], size: int, noun: str
) -> tuple[list[Answer], int]:
    """Answer all inputs, `size` at a time; returns (answers, size that fits into memory)."""
    answers: list[Answer] = []

    def attempt(size: int) -> list[Answer]:
        while part := inputs[len(answers) : len(answers) + size]:
            answers.extend(answer(part))
        return answers

    advice = "close other notebooks that use this device, or choose MODA_PROFILE=mini"
    return halve_to_fit(attempt, size, len(inputs), noun, advice)


def weights_of(checkpoint: Checkpoint) -> tuple[str, str | None]:
    """How a journal knows a model: name and revision, or name and weights of a local folder."""
    folder = Path(checkpoint.name)
    if not folder.is_dir():
        return checkpoint.name, checkpoint.revision
    # A model on this machine is known by its weights: it may change under the same name.
    files = sorted(folder.glob("*.safetensors"))
    return folder.name, fingerprint([sha256_file(file) for file in files])


def needed_bytes(kind: Any, checkpoint: Checkpoint, dtype: torch.dtype) -> int:
    """Bytes of a checkpoint's weights in `dtype`; only its config.json is read.

    Args:
        kind: the model class, such as Phi3ForCausalLM.
    """
    config = load_checkpoint(kind.config_class, checkpoint)
    with torch.device("meta"):  # shapes without memory
        return kind(config).num_parameters() * dtype.itemsize


def load_writer(
    kind: Any,
    checkpoint: Checkpoint,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Any:
    """Load a model that writes answers onto a device (default: the best one, in its best format).

    Where memory is short, models that were loaded so before are emptied first.

    Raises:
        RuntimeError: the device has too little free memory; said before anything is loaded.
    """
    device = torch.device(device) if device is not None else best_device()
    dtype = dtype or best_dtype(device)
    needed = needed_bytes(kind, checkpoint, dtype)
    if needed > free_memory(device):
        free(*_writers)  # a cell that is run again would need room for two
    if needed > (room := free_memory(device)):
        raise RuntimeError(
            f"{checkpoint.name} needs {needed / 1e9:.1f} GB in {dtype}, but {device} has "
            f"{room / 1e9:.1f} GB free: end other notebooks that use it, or take a GPU with 15 GB, "
            "or go on with the descriptions that there are, or choose MODA_PROFILE=mini."
        )
    model = load_checkpoint(kind, checkpoint, dtype=dtype, device_map=str(device))
    _writers.add(model)
    return model


def sequence_bytes(model: Any, tokens: int) -> int:
    """Memory of one sequence while a decoder writes: keys and values of all layers, and the
    largest layer at work."""
    config = model.config
    head = config.hidden_size // config.num_attention_heads
    cache = 2 * config.num_hidden_layers * config.num_key_value_heads * head
    work = 2 * (3 * config.intermediate_size + 8 * config.hidden_size)
    return tokens * (cache + work) * model.dtype.itemsize


def fitting_batch_size(model: Any, tokens: int, room: int | None = None) -> int:
    """Sequences of so many tokens that fit into `room` bytes (default: the free ones) at once: a
    power of two, 64 at most."""
    room = free_memory(model.device) if room is None else room
    fits = int(0.8 * room) // sequence_bytes(model, tokens)
    return min(64, 1 << max(fits.bit_length() - 1, 0))
