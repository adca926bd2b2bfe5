"""Measures the mini models on fresh drawn items; results are plain dictionaries for JSON."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

from ..evaluation import PROMPTS
from .catalogue import fresh_items
from .items import Item
from .photos import as_stored
from .train_clip import ATTRIBUTES, labels
from .wording import NOUNS

FIELDS = ("colour", "product_type", "gender", "usage")


def measure_clip(folder: Path | str, n: int = 1000, train: int = 1000) -> dict:
    """Zero-shot and linear-probe accuracy of a mini-CLIP.

    Args:
        folder: the checkpoint.
        n: fresh items to measure on, with the shares of the catalogue.
        train: other fresh items to fit the linear probes on.

    Returns:
        Accuracies from 0 to 1, n, and the share of the most frequent class beside them.
    """
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    items, images = _embed(model, processor, n, seed=1)
    known, known_images = _embed(model, processor, train, seed=2)
    truth, known_truth = labels(items), labels(known)
    result: dict = {"n": n, "probe_trained_on": train, "majority": {}, "zero_shot": {}, "probe": {}}
    for name in FIELDS:
        result["majority"][name] = truth[name].bincount().max().item() / n
        texts = _text_embeds(model, tokenizer, [_prompt(name, v) for v in ATTRIBUTES[name]])
        found = (images @ texts.T).argmax(1)
        result["zero_shot"][name] = (found == truth[name]).float().mean().item()
        found = _probe(known_images, known_truth[name], images, len(ATTRIBUTES[name]))
        result["probe"][name] = (found == truth[name]).float().mean().item()
    # All attributes at once: the caption closest to the photo among all that the shop could write.
    kinds = sorted({tuple(getattr(i, name) for name in FIELDS) for i in [*items, *known]})
    texts = _text_embeds(model, tokenizer, [_sentence(*kind) for kind in kinds])
    best = (images @ texts.T).argmax(1).tolist()
    result["captions"] = len(kinds)
    result["zero_shot_captions"] = {
        name: sum(kinds[b][place] == getattr(i, name) for b, i in zip(best, items, strict=True)) / n
        for place, name in enumerate(FIELDS)
    }
    for table in ("majority", "zero_shot", "probe", "zero_shot_captions"):
        result[table] = {name: round(value, 4) for name, value in result[table].items()}
    return result


def _embed(
    model: CLIPModel, processor: CLIPImageProcessorPil, n: int, seed: int
) -> tuple[list[Item], Tensor]:
    items, embeds, photos = [], [], []
    for item, photo in tqdm(fresh_items(n, seed), total=n, desc="fresh photos", unit="photo"):
        items.append(item)
        photos.append(as_stored(photo))
        if len(photos) == 100 or len(items) == n:
            pixels = processor(photos, return_tensors="pt").pixel_values
            with torch.no_grad():
                pooled = model.vision_model(pixel_values=pixels).pooler_output
                embeds.append(F.normalize(model.visual_projection(pooled)))
            photos = []
    return items, torch.cat(embeds)  # (n, D)


@torch.no_grad()
def _text_embeds(model: CLIPModel, tokenizer, texts: list[str]) -> Tensor:
    encoded = tokenizer(texts, padding=True, return_tensors="pt")
    return F.normalize(model.text_projection(model.text_model(**encoded).pooler_output))


def _prompt(name: str, value: str) -> str:
    word = NOUNS[value][0] if name == "product_type" else value
    return PROMPTS[name].format(word.lower())


def _sentence(colour: str, product_type: str, gender: str, usage: str) -> str:
    kind = NOUNS[product_type][0]
    words = [colour.lower(), "" if kind.startswith(usage.lower()) else usage.lower(), kind]
    return " ".join(word for word in words if word) + f" for {gender.lower()}"


def _probe(images: Tensor, truth: Tensor, fresh: Tensor, classes: int) -> Tensor:
    """Classes of `fresh` by a linear classifier fitted on `images`."""
    torch.manual_seed(0)
    scale = images.shape[1] ** 0.5
    head = nn.Linear(images.shape[1], classes)
    optimizer = torch.optim.AdamW(head.parameters(), 1e-2, weight_decay=1e-2)
    for _ in range(300):
        loss = F.cross_entropy(head(scale * images), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head(scale * fresh).argmax(1)
