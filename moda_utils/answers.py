"""Ask a model the same thing about many items, batch by batch, and survive every stop.

`run_batches` is the loop: it asks for what the journal lacks, prepares inputs ahead in threads,
halves the batch when memory runs out, and writes each finished batch down. `parse_answer` makes a
description of what a model wrote. Both serve every model that answers `{"description": "..."}`.
"""

import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import json_repair
import torch
from tqdm import tqdm

from .device import free_memory, load_checkpoint
from .journal import Journal, Row
from .profiles import Checkpoint


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
    attempts = [("ok", json.loads, text), ("repaired", _first_object, inner)]
    if ended:
        attempts.append(("repaired", json_repair.loads, inner))
    for status, read, source in attempts:
        try:
            return _description(read(source)), status
        except (ValueError, RecursionError):  # recursion: hundreds of opening brackets
            continue
    return None, "failed"


def _first_object(text: str) -> Any:
    return json.JSONDecoder(strict=False).raw_decode(text)[0]


def _description(value: Any) -> str:
    """The schema check: an object with a text that is not empty."""
    text = value.get("description") if isinstance(value, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise ValueError("no description")
    return " ".join(text.split())


@torch.inference_mode()
def write_answers(
    model: torch.nn.Module,
    inputs: Mapping[str, torch.Tensor],
    stop_ids: Sequence[int],
    pad_id: int,
    max_new_tokens: int,
) -> tuple[torch.Tensor, list[bool]]:
    """Generate greedily: (ids of the answers [B, T], whether each came to its own end).

    Raises:
        RuntimeError: the model computes NaN or infinity.
    """
    ids = model.generate(
        **inputs,
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(stop_ids),
        pad_token_id=pad_id,
        logits_processor=[_finite],
    )
    ids = ids[:, inputs["input_ids"].shape[1] :]
    return ids, torch.isin(ids, torch.tensor(stop_ids, device=ids.device)).any(1).tolist()


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
        lines = [
            f"{self.statuses.total()} {self.noun}s have an answer ({counts or 'none'}): "
            f"{self.new} written now, {self.copied} copied from equal {self.noun}s."
        ]
        if self.endless:
            lines.append(f"{self.endless} answers did not stop by themselves and were cut off.")
        if self.ignored:
            lines.append(
                f"{self.ignored} rows of another model or prompt are kept in the file, not used."
            )
        lines += [f"Left out: {product_id} ({reason})" for product_id, reason in self.unreadable]
        return "\n".join(lines)


Item = Mapping[str, Any]


def run_batches(
    items: Sequence[Item],
    journal: Journal,
    prepare: Callable[[Item], Any],
    answer: Callable[[list[Any]], list[Answer]],
    batch_size: int,
    same: Callable[[Item], Any] = lambda item: item["product_id"],
    finish: Callable[[Item, Answer], Row] | None = None,
    noun: str = "photo",
) -> Summary:
    """Get an answer for each item that the journal lacks; every finished batch is written down.

    Args:
        items: mappings with product_id, image_sha256 and whatever `prepare` needs.
        prepare: makes an item's input; runs in threads, some batches ahead. An item for which it
            raises ValueError or OSError is left out, and tried again in the next run.
        answer: answers a list of inputs.
        batch_size: items per call of `answer`; halved for good when memory runs out.
        same: items with the same value are asked once and share the answer.
        finish: row fields for an answer; default: raw, description, status of `parse_answer`.

    Raises:
        RuntimeError: not enough memory for a single item.
    """
    finish = finish or _parsed
    done = journal.done()
    summary = Summary(noun, ignored=journal.ignored)
    known = {same(item): done[_key(item)] for item in items if _key(item) in done}
    waiting: dict[Any, list[Item]] = {}
    for item in items:
        if _key(item) not in done:
            waiting.setdefault(same(item), []).append(item)
    copies = [_row(item, known[s]) for s, group in waiting.items() if s in known for item in group]
    if copies:
        journal.append(copies)
    groups = [group for s, group in waiting.items() if s not in known]
    finished = len(items) - sum(map(len, groups))
    summary.copied = len(copies)
    with (
        ThreadPoolExecutor(4) as pool,
        tqdm(total=len(items), initial=finished, unit=noun, desc=f"{noun}s".capitalize()) as bar,
    ):
        ready = _ahead(pool, groups, prepare, 2 * batch_size, summary.unreadable)
        while batch := list(islice(ready, batch_size)):
            start = time.perf_counter()
            answers, batch_size = _answer([value for _, value in batch], answer, batch_size, noun)
            seconds = round((time.perf_counter() - start) / len(batch), 3)
            rows = []
            for (group, _), written in zip(batch, answers, strict=True):
                row = finish(group[0], written) | {"seconds": seconds, "ended": written.ended}
                rows += [_row(item, row) for item in group]
            journal.append(rows)
            summary.new += len(batch)
            summary.copied += len(rows) - len(batch)
            bar.update(len(rows))
    done = journal.done()
    rows = [done[_key(item)] for item in items if _key(item) in done]
    summary.statuses = Counter(row["status"] for row in rows)
    summary.endless = sum(not row["ended"] for row in rows)
    return summary


def _key(item: Item) -> tuple[str, str]:
    return item["product_id"], item["image_sha256"]


def _row(item: Item, answer: Row) -> Row:
    return {**answer, "product_id": item["product_id"], "image_sha256": item["image_sha256"]}


def _parsed(item: Item, answer: Answer) -> Row:
    description, status = parse_answer(answer.text, answer.ended)
    return {"raw": answer.text, "description": description, "status": status}


def _ahead(
    pool: ThreadPoolExecutor,
    groups: Sequence[list[Item]],
    prepare: Callable[[Item], Any],
    depth: int,
    unreadable: list[tuple[str, str]],
) -> Iterator[tuple[list[Item], Any]]:
    """Yield (group, input of its first item), with the next `depth` inputs on their way."""
    coming: deque[tuple[list[Item], Future]] = deque()
    for group in [*groups, *[None] * depth]:
        if group is not None:
            coming.append((group, pool.submit(prepare, group[0])))
        if coming and (group is None or len(coming) > depth):
            first, future = coming.popleft()
            try:
                prepared = future.result()
            except (ValueError, OSError) as error:
                unreadable += [(item["product_id"], str(error)) for item in first]
                continue
            yield first, prepared


def _answer(
    inputs: list[Any], answer: Callable[[list[Any]], list[Answer]], size: int, noun: str
) -> tuple[list[Answer], int]:
    """Answer all inputs, `size` at a time; returns (answers, size that fits into memory)."""
    answers: list[Answer] = []
    while len(answers) < len(inputs):
        part = inputs[len(answers) : len(answers) + size]
        try:
            answers += answer(part)
            continue
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
        # Here, outside of `except`, nothing holds the failed attempt's memory any more.
        if len(part) == 1:
            raise RuntimeError(
                f"There is not enough memory for a single {noun}: close other notebooks that use "
                "this device, or choose MODA_PROFILE=mini."
            )
        size = len(part) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        tqdm.write(f"Memory ran out: going on with {size} {noun}s at a time.")
    return answers, size


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def needed_bytes(kind: Any, checkpoint: Checkpoint, dtype: torch.dtype) -> int:
    """Bytes of a checkpoint's weights in `dtype`; only its config.json is read.

    Args:
        kind: the model class, such as Phi3ForCausalLM.
    """
    config = load_checkpoint(kind.config_class, checkpoint)
    with torch.device("meta"):  # shapes without memory
        return kind(config).num_parameters() * dtype.itemsize


def fitting_batch_size(model: Any, tokens: int, most: int = 64) -> int:
    """Sequences of so many tokens that a decoder can write at once in the free memory.

    A power of two. Counts the cache (keys and values of all layers) and the largest layer at work.
    """
    config = model.config
    head = config.hidden_size // config.num_attention_heads
    cache = 2 * config.num_hidden_layers * config.num_key_value_heads * head
    work = 2 * (3 * config.intermediate_size + 8 * config.hidden_size)
    each = tokens * (cache + work) * model.dtype.itemsize
    fits = int(0.8 * free_memory(model.device)) // each
    return min(most, 1 << max(fits.bit_length() - 1, 0))
