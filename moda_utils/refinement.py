"""Correct every description with the catalogue's row: Prompt II, Phi-3 Instruct, `refined.jsonl`.

What the model answers is checked. An answer with a fault is sent back once with the reason; if the
second one has a fault too, a plain sentence from the metadata takes its place.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import pandas as pd
from transformers import Phi3ForCausalLM, PreTrainedTokenizerFast

from .answers import (
    Answer,
    Summary,
    fitting_batch_size,
    load_writer,
    parse_answer,
    run_batches,
    weights_of,
    write_answers,
)
from .captioning import captions_journal
from .catalog import Catalog, load_catalog
from .dataset import template_description, texts_of, write_dataset
from .device import load_checkpoint
from .evaluation import grade, looks_read, mentions
from .journal import Journal, Row, fingerprint
from .profiles import Profile

PROMPT_II = (Path(__file__).parent / "prompt_2.txt").read_text(encoding="utf-8")
FIELDS = ("gender", "category", "sub_category", "product_type", "colour", "usage")
OPENINGS = {  # field of the catalogue that the item must have: what the sentence begins with
    "": "the word A or An", "colour": "the colour", "usage": "the usage", "gender": "the gender",
}  # fmt: skip
MOST_WORDS = 40
RETRY = "This answer can't be used: {}. Write the description again, in the same JSON format."

_SPECIAL = re.compile(r"<\|[^<>|]*\|>|</?s>|<unk>")
_WEARER = re.compile(
    r"\b(worn (by|on)|wears|wearer|modell?ed by|(a|the|this) (model|person|mannequin)|someone"
    r"|(?<!for )wearing|held (by|in)"
    r"|(man|woman|boy|girl|child|kid|toddler|baby|lady) "
    r"(who|in|with|standing|posing|dressed|is|has|holds|holding)"
    r"|he|she|his|her)\b",
    re.I,
)
_QUOTED = re.compile(r"\"([^\"]{1,60})\"|(?<!\w)'([^']{1,60})'(?!\w)")
_CAPITALS = re.compile(r"\b[A-Z0-9]*[A-Z]{2}[A-Z0-9]*(?: [A-Z0-9]{2,})*\b")

Item = Mapping[str, Any]  # a row of the catalogue with its `caption` (text or None)
Turns = list[dict[str, str]]  # a conversation: role and content of each turn


class Refined(NamedTuple):
    """What became of one description."""

    raw: str  # the model's last answer, "" if it was not asked
    ended: bool
    description: str
    status: str  # "ok", "repaired", "retried" or "fallback"
    faults: list[str]  # of the first answer


class Refiner:
    """A Phi-3 language model with a prompt for one description and its metadata.

    Args:
        tokenizer: its own chat template frames every conversation.
        prompt: names `$description`, `$opening` and fields of the catalogue, such as `$colour`. Of
            an item that lacks a field, the line with the field is left out.
        max_new_tokens: an answer that is longer is cut off; 40 words take about 60.
    """

    def __init__(
        self,
        model: Phi3ForCausalLM,
        tokenizer: PreTrainedTokenizerFast,
        prompt: str = PROMPT_II,
        max_new_tokens: int = 96,
    ):
        self.model, self.tokenizer = model.eval(), tokenizer
        self.prompt, self.max_new_tokens = prompt, max_new_tokens
        if not tokenizer.chat_template:
            raise ValueError("The tokenizer has no chat template: not one of an instruct model.")

    @classmethod
    def load(cls, profile: Profile, prompt: str = PROMPT_II, **where: Any) -> "Refiner":
        """Load the profile's refiner; `where` are `device` and `dtype` of `load_writer`."""
        model = load_writer(Phi3ForCausalLM, profile.refiner, **where)
        return cls(model, load_checkpoint(PreTrainedTokenizerFast, profile.refiner), prompt)

    def prepare(self, item: Item) -> Turns:
        """The conversation that asks for an item's refined description."""
        return [{"role": "user", "content": fill_prompt(self.prompt, item)}]

    def __call__(self, conversations: Sequence[Turns]) -> list[Answer]:
        """The model's next turn in each conversation."""
        if not conversations:
            return []
        ids = self.tokenizer.apply_chat_template(
            conversations, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        # Padding stands on the left: generation appends on the right, to all prompts at once.
        inputs = self.tokenizer.pad({"input_ids": ids}, padding_side="left", return_tensors="pt")
        inputs = inputs.to(self.model.device)
        return write_answers(self.model, self.tokenizer, inputs, self.max_new_tokens)

    def refine(self, items: Sequence[Item]) -> list[Refined]:
        """Ask for each item; send an answer with a fault back once; else take the metadata."""
        results = [
            Refined("", True, template_description(item), "fallback", ["there is no caption"])
            for item in items
        ]
        turns = {n: self.prepare(i) for n, i in enumerate(items) if plain(i["caption"] or "")}
        for retry in (False, True):
            answers = self(list(turns.values()))
            for (n, asked), answer in zip(list(turns.items()), answers, strict=True):
                description, status = parse_answer(*answer)
                found = faults(description, items[n])
                outcome = results[n].description, results[n].status
                if found:
                    turns[n] = send_back(asked, answer, found)
                else:
                    del turns[n]
                    outcome = description, "retried" if retry else status
                results[n] = Refined(*answer, *outcome, results[n].faults if retry else found)
        return results

    def batch_size(self) -> int:
        """Items that fit into the free memory at once, the second asking included."""
        words = len(self.tokenizer(self.prompt).input_ids)
        return fitting_batch_size(self.model, words + 4 * self.max_new_tokens)


def fill_prompt(prompt: str, item: Item) -> str:
    """The prompt with the item's caption and metadata; lines of empty fields are left out."""
    values = {name: plain(str(item[name])) for name in FIELDS}
    values |= {"description": plain(item["caption"] or ""), "opening": opening(item)}
    empty = [f"${name}" for name, value in values.items() if not value]
    lines = [line for line in prompt.splitlines() if not any(name in line for name in empty)]
    return Template("\n".join(lines)).safe_substitute(values)


def opening(item: Item) -> str:
    """What the item's sentence begins with. Chosen by its photo's hash: asked in the same way each
    time, a model that writes greedily begins all sentences alike."""
    ways = [way for field, way in OPENINGS.items() if not field or item[field]]
    return ways[int(fingerprint(item["image_sha256"]), 16) % len(ways)]


def plain(text: str) -> str:
    """Text that can't end the prompt or pass for a part of it: one line of at most 100 words,
    without special tokens and braces, in which quotes are single."""
    text = _SPECIAL.sub(" ", text).translate(str.maketrans('"{}', "'()"))
    return " ".join(text.split()[:100])


def send_back(turns: Turns, answer: Answer, reasons: Sequence[str]) -> Turns:
    """The conversation, continued by the model's answer and by why it can't be used."""
    said, reason = _SPECIAL.sub(" ", answer.text), plain("; ".join(reasons))
    return [
        *turns,
        {"role": "assistant", "content": said},
        {"role": "user", "content": RETRY.format(reason)},
    ]


def faults(description: str | None, item: Item) -> list[str]:
    """Why a description can't be used; empty if it can.

    Nobody knows what is printed on the item. So a description counts as repeating it if it holds a
    word that the caption quotes or writes in capitals, speaks of text, or names the title's brand.
    """
    if not description:
        return ["it is not one JSON object with a description"]
    found = [f"it repeats {word}" for word in read_words(item) if mentions(description, word)]
    if not found and looks_read(description, item["title"]):
        found = ["it speaks of text, a logo or a brand"]
    if person := _WEARER.search(description):
        found.append(f"it mentions a person ({person[0]})")
    if (words := len(description.split())) > MOST_WORDS:
        found.append(f"it has {words} words, {MOST_WORDS} are allowed")
    (reasons,) = grade([description], pd.DataFrame([item]))["reason"]
    # Words outside the lexicon are no contradiction: the photo may show what no list knows.
    return found + [text for text in filter(None, reasons.split("; ")) if "unknown" not in text]


def read_words(item: Item) -> list[str]:
    """What an item's caption seems to have read off the photo: quoted text, words in capitals.

    Of a quoted phrase its longer words count as well. What is also said without quotes, or in the
    metadata, is not counted.
    """
    caption = plain(item["caption"] or "")
    phrases = [first or second for first, second in _QUOTED.findall(caption)]
    rest = _QUOTED.sub(" ", caption)
    if not caption.isupper():
        phrases += [match[0] for match in _CAPITALS.finditer(rest)]
        rest = _CAPITALS.sub(" ", rest)
    words = [word for phrase in phrases for word in re.findall(r"\w{4,}", phrase)]
    known = f"{rest} {template_description(item)}"
    return [word for word in dict.fromkeys([*phrases, *words]) if not mentions(known, word)]


# ---------------------------------------------------------------------------------------------
# The catalogue


class RefinedJournal(Journal):
    """`refined.jsonl`; a row counts only while its caption and its item's metadata are the same."""

    def __init__(self, *key: Any, items: Sequence[Item]):
        ids = [(item["product_id"], item["image_sha256"]) for item in items]
        self.sources = dict(zip(ids, (item["source"] for item in items), strict=True))
        super().__init__(*key)

    def done(self) -> dict[tuple[str, str], Row]:
        rows = super().done()
        current = {k: row for k, row in rows.items() if row["source"] == self.sources.get(k)}
        self.ignored += len(rows) - len(current)
        return current


def captioned_items(catalog: Catalog, captions: Journal) -> list[dict[str, Any]]:
    """Items that have a caption, or a failed one: the catalogue's row, `caption` and `source`.

    In the order of their photos' hashes, as they were captioned.
    """
    rows = captions.done()
    items = []
    for item in catalog.frame.sort_values(["image_sha256", "product_id"]).to_dict("records"):
        if row := rows.get((item["product_id"], item["image_sha256"])):
            item["caption"] = row["description"]
            facts = [item[name] for name in (*FIELDS, "title")]  # `faults` reads the title
            item["source"] = fingerprint([item["caption"], opening(item), *facts])
            items.append(item)
    return items


def refined_journal(
    profile: Profile, items: Sequence[Item], prompt: str = PROMPT_II, max_new_tokens: int = 96
) -> RefinedJournal:
    """`refined.jsonl`, opened for the rows of this refiner, prompt and settings on these items."""
    name, weights = weights_of(profile.refiner)
    options = fingerprint({"weights": weights, "max_new_tokens": max_new_tokens})
    return RefinedJournal(profile.refined_path, name, fingerprint(prompt), options, items=items)


def refine_items(
    items: Sequence[Item], refiner: Refiner, journal: Journal, batch_size: int | None = None
) -> Summary:
    """Refine the items that the journal lacks. Equal captions of equal rows are asked once.

    Raises:
        ValueError: the journal was opened for another prompt than the refiner's.
    """
    journal.check_prompt(refiner.prompt)
    return run_batches(
        items,
        journal,
        prepare=lambda item: item,
        answer=refiner.refine,
        batch_size=batch_size or refiner.batch_size(),
        same=lambda item: item["source"],
        finish=lambda item, refined: refined._asdict() | {"source": item["source"]},
        noun="description",
    )


def refine_from_profile(profile: Profile) -> Summary:
    """Notebook 03 in one call: refine every captioned item, write `dataset/`.

    Raises:
        ValueError: no item has a caption yet.
    """
    catalog = load_catalog(profile.catalog_path)
    captions = captions_journal(profile)
    items = captioned_items(catalog, captions)
    if not items:
        raise ValueError("No photo has a caption of this captioner yet: run notebook 02 first.")
    refiner = Refiner.load(profile)
    journal = refined_journal(profile, items, refiner.prompt, refiner.max_new_tokens)
    summary = refine_items(items, refiner, journal)
    texts = texts_of(catalog, raw=captions.done(), refined=journal.done())
    write_dataset(catalog, texts, profile.dataset_dir, models_of(captions, journal))
    return summary


def models_of(captions: Journal, refined: Journal) -> dict[str, str]:
    """Which model and prompt wrote the texts, for the dataset's card."""
    return {
        source: f"{journal.key['model']} with prompt {journal.key['prompt_sha']}"
        for source, journal in (("raw", captions), ("refined", refined))
    }
