"""mini-CLIP: the architecture of FashionCLIP in small, trained from scratch on drawn photos.

Two losses. Contrastive: the embedding of a photo is close to those of all captions in the batch
that are true of it. A caption often states only some attributes ("shoes for women") and then is
true of several photos; what it states is known, so all of them count as right. Attributes: linear
heads on the photo's embedding tell colour, type, gender, usage and pattern. The heads are not
shipped: they only make a small encoder trained for minutes keep what a shop needs.
"""

import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from ..storage import atomic_dir, write_json
from .compute import BAR, autocast
from .items import COLOURS, GENDERS, PRODUCT_TYPES, USAGES, Item, sample_item
from .photos import draw_training_photos
from .wording import caption

SIZE = 84
PATCH = 12
WIDTH = 128
EMBEDDING = 128
ATTRIBUTES = {
    "colour": tuple(COLOURS),
    "product_type": PRODUCT_TYPES,
    "gender": GENDERS,
    "usage": USAGES,
    "pattern": ("plain", "striped", "checked", "dotted", "floral", "star", "heart"),
    "category": ("Apparel", "Footwear"),
}
_HEADS = ("colour", "product_type", "gender", "usage", "pattern")
_START, _END = "<|startoftext|>", "<|endoftext|>"


def image_processor() -> CLIPImageProcessorPil:
    """Shorter edge to 84 pixels, central square, CLIP's mean and deviation."""
    return CLIPImageProcessorPil(
        size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}
    )


def prepare(photo: Image.Image) -> np.ndarray:
    """What the processor does before it normalises: (84, 84, 3) uint8. Runs without torch."""
    high = int(SIZE * photo.height / photo.width)
    top = (high - SIZE) // 2
    small = photo.resize((SIZE, high), Image.Resampling.BICUBIC)
    return np.asarray(small.crop((0, top, SIZE, top + SIZE)))


def build_tokenizer(folder: Path, texts: list[str], vocab_size: int = 1000) -> CLIPTokenizer:
    """Train CLIP's byte-level BPE on `texts` and store it in all forms of the real repository."""
    empty = CLIPTokenizer()._tokenizer  # for its normaliser and its way of splitting words
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer, trained.pre_tokenizer = empty.normalizer, empty.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=2, end_of_word_suffix="</w>", show_progress=False
    )
    trained.train_from_iterator(texts, trainer)
    merges = [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]
    # As in the real vocabulary: 256 bytes, the same as ends of words, merges, two special tokens.
    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    tokens += ["".join(pair) for pair in merges] + [_START, _END]
    vocab = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)
    tokenizer.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    roles = {"bos_token": _START, "eos_token": _END, "unk_token": _END, "pad_token": _END}
    write_json(folder / "special_tokens_map.json", roles)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tokenizer


def bytes_to_unicode() -> dict[int, str]:
    """A printable character for each byte, as in GPT-2's and CLIP's byte-level vocabularies."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    names = {byte: chr(byte) for byte in plain}
    names.update({byte: chr(256 + place) for place, byte in enumerate(others)})
    return names


def build_model(tokenizer: CLIPTokenizer) -> CLIPModel:
    """An untrained CLIPModel of about 1.2 M parameters."""
    text = {
        "vocab_size": len(tokenizer), "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 77,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id, "projection_dim": EMBEDDING,
    }  # fmt: skip
    vision = {
        "image_size": SIZE, "patch_size": PATCH,
        "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 3, "num_attention_heads": 4, "projection_dim": EMBEDDING,
    }  # fmt: skip
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=EMBEDDING)
    config._attn_implementation = "eager"  # its backward pass is the fastest on a CPU
    model = CLIPModel(config)
    # CLIP's initialisation is made for widths of hundreds; a narrow model learns faster from this.
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.05)
    nn.init.trunc_normal_(model.vision_model.embeddings.patch_embedding.weight, std=0.03)
    return model


def labels(items: list[Item]) -> dict[str, Tensor]:
    """Class indices (N,) of each attribute."""
    return {
        name: torch.tensor([values.index(getattr(item, name)) for item in items])
        for name, values in ATTRIBUTES.items()
    }


def matches(stated: list[dict[str, str]], truth: dict[str, Tensor]) -> Tensor:
    """(photos, captions) booleans: all that the caption states is true of the photo."""
    photos = len(truth["colour"])
    fits = torch.ones(photos, len(stated), dtype=torch.bool)
    for column, facts in enumerate(stated):
        for name, value in facts.items():
            fits[:, column] &= truth[name] == ATTRIBUTES[name].index(value)
    return fits


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor, fits: Tensor) -> Tensor:
    """CLIP's loss where a photo may have several right captions and a caption several photos.

    Args:
        images: (B, D), normalised. texts: (B, D), normalised. scale: the learnt temperature.
        fits: (B, B) booleans, photos by captions.
    """
    logits = scale * images @ texts.T  # (B, B)
    wanted = fits.to(logits.dtype)
    by_photo = -(F.log_softmax(logits, 1) * wanted / wanted.sum(1, keepdim=True)).sum(1).mean()
    by_text = -(F.log_softmax(logits, 0) * wanted / wanted.sum(0, keepdim=True)).sum(0).mean()
    return (by_photo + by_text) / 2


def train(
    folder: Path, minutes: float = 8.0, seed: int = 0, photos: int = 14_000, batch: int = 64
) -> dict:
    """Train and store mini-CLIP in `folder`; returns what was done, for the README."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    part = photos // 7
    items, pixels = draw_training_photos(4 * part, 2 * part, part, prepare, seed=100)
    pixels = torch.from_numpy(pixels)  # (N, 84, 84, 3) uint8
    truth = labels(items)
    texts = [caption(sample_item(rng, balanced=True), rng)[0] for _ in range(20_000)]
    with atomic_dir(folder) as target:
        tokenizer = build_tokenizer(target, texts)
        processor = image_processor()
        processor.save_pretrained(target)
        model = build_model(tokenizer)
        mean = torch.tensor(processor.image_mean)
        deviation = torch.tensor(processor.image_std)
        heads = nn.ModuleDict({n: nn.Linear(EMBEDDING, len(ATTRIBUTES[n])) for n in _HEADS})
        parameters = [*model.parameters(), *heads.parameters()]
        optimizer = torch.optim.AdamW(parameters, 1e-3, weight_decay=0.05, fused=True)
        begin, step, seen, loss_mean = time.perf_counter(), 0, 0, None
        with tqdm(total=100, desc="mini-CLIP", bar_format=BAR) as bar:
            while (done := (time.perf_counter() - begin) / (60 * minutes)) < 1:
                rate = min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * done))
                optimizer.param_groups[0]["lr"] = 1e-3 * max(rate, 0.01)
                chosen = torch.tensor(rng.sample(range(len(items)), batch))
                written = [caption(items[i], rng) for i in chosen.tolist()]
                encoded = tokenizer([t for t, _ in written], padding=True, return_tensors="pt")
                right = {name: values[chosen] for name, values in truth.items()}
                values = (pixels[chosen].float() / 255 - mean) / deviation
                with autocast():
                    output = model(pixel_values=values.permute(0, 3, 1, 2), **encoded)
                images, words = output.image_embeds.float(), output.text_embeds.float()
                fits = matches([facts for _, facts in written], right)
                scale = model.logit_scale.exp().clamp(max=100)
                loss = contrastive_loss(images, words, scale, fits)
                spread = images * EMBEDDING**0.5  # unit variance, as MODA's projection sees it
                for name, head in heads.items():
                    loss = loss + F.cross_entropy(head(spread), right[name])
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                step, seen = step + 1, seen + batch
                loss_mean = (
                    loss.item() if loss_mean is None else 0.98 * loss_mean + 0.02 * loss.item()
                )
                bar.set_postfix(loss=f"{loss_mean:.3f}", photos=seen, refresh=False)
                bar.update(min(100, 100 * done) - bar.n)
        model.config._attn_implementation = None
        model.eval().save_pretrained(target)
        (target / "model.safetensors").chmod(0o644)  # written as private, but meant to be shared
    return {"minutes": minutes, "steps": step, "photos_seen": seen, "loss": round(loss_mean, 4)}
