"""Prompts in other words, so that a mini captioner answers an edited Prompt I as well.

A model of three million weights cannot follow an instruction. What it can learn is to describe
the photo whatever the prompt says, instead of stumbling over sentences it has never seen.
"""

import random

from ..captioning import PROMPT_I
from .items import sample_item
from .phi3_tokenizer import phrases
from .wording import describe

_IMAGE = "<|image_1|>"
SHORT = (
    "Describe the item.",
    "Describe the fashion item in the image.",
    "Describe this photo in one sentence.",
    "What is in the picture?",
    "Write a short description of the product for an online shop, as JSON.",
    "Give a concise description of the item: gender, product type, color and usage.",
    'Answer with a JSON object {"description": ...} and nothing else.',
    "You are a fashion expert. Tell me what you see.",
    "Which item does the photo show, for whom is it, and when would you wear it?",
    "Please write a caption for this product image.",
    "Ignore any text in the image. Describe the clothes or shoes only.",
    "Provide a brief text for the catalogue, with colour, category and occasion.",
)
ADDED = (
    "Be brief.", "Use at most twenty words.", "Do not mention brands.", "Write in English.",
    "Mention the material if you can see it.", "Focus on the colour.", "Use simple words.",
    "Do not describe the person or the background.", "Answer as a friendly shop assistant.",
)  # fmt: skip


def vary(rng: random.Random) -> str:
    """One prompt for one photo: a short one, Prompt I without some sentences, or an edited one."""
    kind = rng.choice(("short", "shortened", "edited"))
    if kind == "short":
        parts = [rng.choice(SHORT)]
    else:
        parts = [part for part in phrases(PROMPT_I) if rng.random() < 0.7] or [SHORT[0]]
        parts = [_other_example(rng) if p[0] == "{" and rng.random() < 0.4 else p for p in parts]
    if rng.random() < 0.3:
        parts.insert(rng.randint(0, len(parts)), rng.choice(ADDED))
    if kind == "edited":
        for _ in range(rng.randint(1, 2)):
            place = rng.randrange(len(parts))
            parts[place] = _edited(parts[place], rng)
    text = rng.choice((" ", "\n", "\n\n")).join(parts)
    gap = rng.choice(("\n", "\n\n", " ", ""))
    if rng.random() < 0.1:
        return f"<|user|>{gap}{text}{gap}{_IMAGE}<|end|>\n<|assistant|>\n"
    return f"<|user|>{gap}{_IMAGE}{gap}{text}{gap}<|end|>\n<|assistant|>\n"


def _other_example(rng: random.Random) -> str:
    sentence = describe(sample_item(rng, balanced=True), rng)
    gap = rng.choice(("\n  ", ""))
    return f'{{{gap}"description": "{sentence}"{gap.rstrip(" ")}}}'


def _edited(text: str, rng: random.Random) -> str:
    """The text with a few words lost, doubled, moved or replaced, also by words nobody knows."""
    words = text.split(" ")
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(words))
        letters = rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))
        other = rng.choice(rng.choice((*SHORT, *ADDED)).split(" "))
        words[place : place + 1] = rng.choice(
            ([], [words[place], words[place]], [other], [words[place], other], ["".join(letters)])
        )
        words = words or ["Describe"]
    return " ".join(words)
