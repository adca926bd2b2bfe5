"""mini Phi-3 Vision: Phi-3 Vision's architecture in small, trained from scratch on drawn photos.

Two stages. First the CLIP tower alone learns to see: small heads on its patches tell colour, type,
gender, usage, pattern and the letters of a printed word. Then tower, projection and decoder learn
to answer Prompt I (and other prompts) with a sentence as JSON, while the heads go on helping. The
heads are not shipped.
"""

import json
import math
import os
import random
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ..captioning import PROMPT_I
from ..phi3_vision import (
    CLIP_MEAN,
    CLIP_STD,
    Phi3VisionConfig,
    Phi3VisionForConditionalGeneration,
    Phi3VisionImageProcessor,
    Phi3VisionProcessor,
)
from ..profiles import CHECKPOINTS
from ..storage import atomic_dir, atomic_path
from .compute import autocast
from .items import COLOURS, GENDERS, PRINTED_WORDS, PRODUCT_TYPES, USAGES, Item, sample_item
from .phi3_tokenizer import build_tokenizer, phrases
from .photos import draw_training_photos
from .prompt_variants import ADDED, SHORT, vary
from .wording import describe

TILE, PATCH = 112, 14
TOWER_WIDTH, WIDTH, LAYERS, HEADS = 128, 192, 3, 4
IMAGES = Phi3VisionImageProcessor(num_crops=1, tile_size=TILE, patch_size=PATCH)
GRID = (1, 1)  # with one crop, the only tile is the same picture as the global view
BATCH = 32
STEPS = (4000, 2000)  # of the two stages
LEARNING_RATES = (1.5e-3, 7e-4)  # of the two stages
WORD_WEIGHT = 6.0  # a wrong letter should cost more than another turn of phrase
SAVE_EVERY = 200  # steps
WARM_UP = 100  # steps
VARIED = 0.3  # of the batches ask by other prompts than Prompt I
TOLD = 0.95  # of the printed words stand in the training answers

_LETTERS = 5  # of the longest printed word
_PATTERNS = ("plain", "striped", "checked", "dotted", "floral", "star", "heart")
_TASKS = {
    "colour": tuple(COLOURS), "product_type": PRODUCT_TYPES, "gender": GENDERS, "usage": USAGES,
    "pattern": _PATTERNS, "printed_word": (None, *PRINTED_WORDS),
}  # fmt: skip
_ATTRIBUTES = 5  # the tasks before the printed word
_CLASSES = [len(values) for values in _TASKS.values()] + [27] * _LETTERS


def prepare(photo: Image.Image) -> np.ndarray:
    """The processor's tile before it is normalised, (112, 112, 3) uint8."""
    return np.asarray(IMAGES.fit(photo))


def truth(items: list[Item]) -> Tensor:
    """Class indices (N, tasks): attributes, printed word, then its letters (0: none)."""
    rows = []
    for item in items:
        row = [values.index(getattr(item, name)) for name, values in _TASKS.items()]
        letters = [ord(letter) - 64 for letter in item.printed_word or ""]
        rows.append(row + letters + [0] * (_LETTERS - len(letters)))
    return torch.tensor(rows)


class Probes(nn.Module):
    """Heads for training only: attributes from the mean patch, words from every patch's place."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(TOWER_WIDTH)
        patches = (TILE // PATCH) ** 2
        self.attributes = nn.Linear(TOWER_WIDTH, sum(_CLASSES[:_ATTRIBUTES]))
        self.words = nn.Linear(patches * TOWER_WIDTH, sum(_CLASSES[_ATTRIBUTES:]))

    def forward(self, patches: Tensor) -> list[Tensor]:
        """Logits (B, classes) per task, from patches (B, P, TOWER_WIDTH)."""
        patches = self.norm(patches)
        logits = [self.attributes(patches.mean(1)), self.words(patches.flatten(1))]
        return list(torch.cat(logits, dim=1).split(_CLASSES, dim=1))

    def loss(self, patches: Tensor, wanted: Tensor) -> Tensor:
        """Mean loss over attributes and words; the letters count as one task together."""
        losses = [
            F.cross_entropy(logits.float(), column)
            for logits, column in zip(self(patches), wanted.T, strict=True)
        ]
        return sum(losses[:-_LETTERS]) + sum(losses[-_LETTERS:]) / _LETTERS * 2


def build_processor(seed: int = 0) -> Phi3VisionProcessor:
    """Tile settings and a tokenizer that has read the shop's sentences."""
    rng = random.Random(f"tokenizer/{seed}")
    answers = [write_answer(sample_item(rng, balanced=True), rng)[0] for _ in range(20_000)]
    words = [f'with the word \\"{word}\\"' for word in PRINTED_WORDS for _ in range(500)]
    known = phrases(PROMPT_I)
    prompts = [*known, *SHORT, *ADDED] * 3
    tokenizer = build_tokenizer([*answers, *words, *prompts], known)
    return Phi3VisionProcessor(IMAGES, tokenizer)


def build_model(processor: Phi3VisionProcessor) -> Phi3VisionForConditionalGeneration:
    """An untrained model of about 3 M parameters, its config in the form of the public ones."""
    pairs = WIDTH // HEADS // 2
    config = Phi3VisionConfig(
        vocab_size=len(processor.tokenizer), hidden_size=WIDTH, intermediate_size=512,
        num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=HEADS,
        max_position_embeddings=131072, original_max_position_embeddings=4096,
        rope_scaling={"type": "su", "short_factor": [1.0] * pairs, "long_factor": [4.0] * pairs},
        sliding_window=131072, bos_token_id=1, eos_token_id=2, pad_token_id=processor.pad_id,
        embd_layer={
            "embedding_cls": "image", "hd_transform_order": "sub_glb", "projection_cls": "mlp",
            "use_hd_transform": True, "with_learnable_separator": True,
        },
        img_processor={
            "image_dim_out": TOWER_WIDTH, "model_name": "mini-clip-patch14-112",
            "name": "clip_vision_model", "num_img_tokens": (TILE // PATCH // 2) ** 2,
        },
        clip_vision_config={
            "hidden_size": TOWER_WIDTH, "intermediate_size": 4 * TOWER_WIDTH,
            "num_hidden_layers": 4, "num_attention_heads": 4, "image_size": TILE,
            "patch_size": PATCH,
        },
    )  # fmt: skip
    config._attn_implementation = "eager"  # its backward pass is the fastest on a CPU
    model = Phi3VisionForConditionalGeneration(config)
    tower = model.model.vision_embed_tokens
    # CLIP's initialisation assumes widths of a thousand: a narrow tower would learn slowly.
    for module in tower.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.05)
    nn.init.trunc_normal_(tower.img_processor.embeddings.patch_embedding.weight, std=0.03)
    nn.init.normal_(tower.sub_GN, std=0.5)
    nn.init.normal_(tower.glb_GN, std=0.5)
    return model


def write_answer(item: Item, rng: random.Random) -> tuple[str, str | None]:
    """The answer to learn, and the printed word that it tells.

    Mostly, the words are chosen by what the item is, not by chance: a greedy decoder then still
    finds other words for other items, instead of the same most frequent ones for all.
    """
    manner = rng
    if rng.random() < 0.75:
        manner = random.Random(f"{item.colour}/{item.product_type}/{item.gender}")
    told = item.printed_word if rng.random() < TOLD else None
    sentence = describe(item, manner, word=told is not None)
    return json.dumps({"description": sentence}, ensure_ascii=False), told


def tiles(photos: Tensor, chosen: Tensor, rng: random.Random, shift: int = 3) -> Tensor:
    """Normalised tiles (B, 3, TILE, TILE) of the chosen photos, each moved by a few pixels."""
    moved = [
        torch.roll(photos[i], (rng.randint(-shift, shift), rng.randint(-shift, shift)), (0, 1))
        for i in chosen.tolist()
    ]
    pixels = torch.stack(moved).permute(0, 3, 1, 2).float() / 255
    return (pixels - CLIP_MEAN) / CLIP_STD


def image_vectors(model: Phi3VisionForConditionalGeneration, patches: Tensor) -> Tensor:
    """What `Phi3ImageEmbedding.forward` makes of the patches (B, P, C), for one crop.

    Returns:
        (B, places, WIDTH): the tile's rows, the separator, the global view's rows. Both views are
        the same picture here and are computed once.
    """
    tower = model.model.vision_embed_tokens
    cells = tower.merge(patches)  # (B, 4, 4, 4C)
    ends = tower.sub_GN.expand(*cells.shape[:2], -1, -1)  # (B, 4, 1, 4C)
    rows = torch.cat([cells, ends], dim=2).flatten(1, 2)  # (B, 4 * 5, 4C)
    gap = tower.glb_GN.expand(len(rows), -1, -1)  # (B, 1, 4C)
    vectors = tower.img_projection(torch.cat([rows, gap], dim=1))  # (B, 21, WIDTH)
    return torch.cat([vectors, vectors[:, :-1]], dim=1)


def encode_batch(
    processor: Phi3VisionProcessor, items: list[Item], rng: random.Random, varied: bool
) -> tuple[Tensor, Tensor]:
    """Ids (B, T) and weights (B, T) of prompts and answers, padded on the right.

    The weight of a token says how much predicting it counts: 0 in prompts and padding.
    """
    tokenizer, places = processor.tokenizer, processor.image_processor.num_tokens(*GRID)
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    rows, weights = [], []
    for item in items:
        before, after = (vary(rng) if varied else PROMPT_I).split("<|image_1|>")
        prompt = [*tokenizer(before).input_ids, *[-1] * places, *tokenizer(after).input_ids]
        text, told = write_answer(item, rng)
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        start = text.index(told) if told else len(text)
        stop = start + len(told or "")
        inside = [left < stop and right > start for left, right in encoded.offset_mapping]
        rows.append(torch.tensor([*prompt, *encoded.input_ids, end]))
        answer = [WORD_WEIGHT if word else 1.0 for word in inside]
        weights.append(torch.tensor([0.0] * len(prompt) + answer + [1.0]))
    pad = nn.utils.rnn.pad_sequence
    return pad(rows, True, float(processor.pad_id)), pad(weights, True, 0.0)


def answer_loss(
    model: Phi3VisionForConditionalGeneration, vectors: Tensor, ids: Tensor, weights: Tensor
) -> Tensor:
    """Weighted loss of the answers; `vectors` (B, places, WIDTH) stand where ids are negative."""
    embeddings = model.model.embed_tokens(ids.clamp(min=0))
    places = (ids < 0)[..., None]
    embeddings = embeddings.masked_scatter(places, vectors.to(embeddings.dtype))
    hidden = model.model(inputs_embeds=embeddings[:, :-1], use_cache=False).last_hidden_state
    counts = weights[:, 1:] > 0  # (B, T - 1): positions whose next token is part of an answer
    logits = model.lm_head(hidden[counts]).float()
    losses = F.cross_entropy(logits, ids[:, 1:][counts], reduction="none")
    return (losses * weights[:, 1:][counts]).sum() / counts.sum()


class Training:
    """Everything that changes during training, and how to go on after a stop.

    Args:
        seed: decides initial weights and the order of photos.
        state: a file that keeps a copy every SAVE_EVERY steps, to go on from if it exists.
    """

    def __init__(self, seed: int = 0, state: Path | None = None) -> None:
        torch.manual_seed(seed)
        self.seed, self.state = seed, state
        self.processor = build_processor(seed)
        self.model, self.probes = build_model(self.processor), Probes()
        self.stage, self.step, self.optimizer_state = 0, 0, None
        if state and state.exists():
            saved = torch.load(state, weights_only=True)
            self.model.load_state_dict(saved["model"])
            self.probes.load_state_dict(saved["probes"])
            self.stage, self.step = saved["stage"], saved["step"]
            self.optimizer_state = saved["optimizer"]

    def run(
        self, items: list[Item], photos: Tensor, steps: int, minutes: float | None = None
    ) -> dict:
        """Train the next stage: the tower alone first, then the whole model.

        Args:
            photos: (N, TILE, TILE, 3) uint8 of the items.
            steps: of BATCH photos each.
            minutes: stop by the clock instead; then the weights depend on the machine's speed.

        Returns:
            Steps, mean losses at the end, minutes.
        """
        wanted, tower = truth(items), self.model.model.vision_embed_tokens
        trained = nn.ModuleList([self.probes, self.model if self.stage else tower.img_processor])
        parameters = list(trained.parameters())
        optimizer = torch.optim.AdamW(parameters, weight_decay=0.05, fused=True)
        if self.optimizer_state:
            optimizer.load_state_dict(self.optimizer_state)
        begin, done = time.perf_counter(), self.step / steps
        means: dict[str, float] = {}
        with tqdm(total=100, desc=f"stage {self.stage + 1} of 2", unit="%") as bar:
            while done < 1:
                rate = min(1.0, (self.step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * done))
                optimizer.param_groups[0]["lr"] = LEARNING_RATES[self.stage] * max(rate, 0.005)
                # Seeded by the step: a run that was stopped goes on with the same photos.
                rng = random.Random(f"{self.seed}/{self.stage}/{self.step}")
                chosen = torch.tensor(rng.sample(range(len(items)), BATCH))
                batch = [items[i] for i in chosen.tolist()]
                with autocast():
                    losses = self.losses(batch, tiles(photos, chosen, rng), wanted[chosen], rng)
                optimizer.zero_grad()
                sum(losses.values()).backward()
                nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                for name, loss in losses.items():
                    means[name] = 0.98 * means.get(name, loss.item()) + 0.02 * loss.item()
                self.step += 1
                done = self.step / steps
                if minutes:
                    done = (time.perf_counter() - begin) / (60 * minutes)
                bar.set_postfix({k: f"{v:.3f}" for k, v in means.items()}, refresh=False)
                bar.update(min(100, 100 * done) - bar.n)
                if self.state and self.step % SAVE_EVERY == 0:
                    self.save(optimizer)
        report = {"steps": self.step, "losses": {k: round(v, 4) for k, v in means.items()}}
        self.stage, self.step, self.optimizer_state = self.stage + 1, 0, None
        return report | {"minutes": round((time.perf_counter() - begin) / 60, 1)}

    def losses(
        self, items: list[Item], pixels: Tensor, wanted: Tensor, rng: random.Random
    ) -> dict[str, Tensor]:
        """Losses of one batch: of seeing, and in the second stage of answering."""
        patches = self.model.model.vision_embed_tokens.encode(pixels)
        losses = {"seeing": self.probes.loss(patches, wanted)}
        if self.stage:
            ids, weights = encode_batch(self.processor, items, rng, rng.random() < VARIED)
            vectors = image_vectors(self.model, patches)
            losses["answering"] = answer_loss(self.model, vectors, ids, weights)
        return losses

    def save(self, optimizer: torch.optim.Optimizer) -> None:
        """Write the state file."""
        state = {"stage": self.stage, "step": self.step, "optimizer": optimizer.state_dict()}
        state |= {"model": self.model.state_dict(), "probes": self.probes.state_dict()}
        with atomic_path(self.state) as temporary:
            torch.save(state, temporary)


def store(
    model: Phi3VisionForConditionalGeneration, processor: Phi3VisionProcessor, folder: Path
) -> None:
    """Write a checkpoint as the public ones are: bfloat16, two shards, the original key names."""
    model = deepcopy(model).to(torch.bfloat16)
    model.config._attn_implementation = None
    # transformers has dropped a part of CLIP's names; the public files have it.
    weights = {
        name.replace(".img_processor.", ".img_processor.vision_model."): weight
        for name, weight in model.state_dict().items()
    }
    size = sum(parameter.nbytes for parameter in model.parameters())
    with atomic_dir(folder) as target:
        model.save_pretrained(target, state_dict=weights, max_shard_size=int(0.55 * size))
        processor.save_pretrained(target)


def train(
    folder: Path = CHECKPOINTS / "phi3_vision",
    steps: tuple[int, int] = STEPS,
    minutes: float | None = None,
    seed: int = 0,
    photos: int = 32_000,
    state: Path | None = None,
) -> dict:
    """Train and store mini Phi-3 Vision in `folder`; returns what was done, for the README.

    Args:
        steps: of the two stages.
        minutes: train by the clock instead of by steps.
        photos: how many to draw; half of them T-shirts with a printed word.
        state: a file to go on from after a stop.
    """
    half, quarter = photos // 2, photos // 4
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # for the drawing processes: they share the cores
    try:
        items, pixels = draw_training_photos(
            quarter, photos - half - quarter, half, prepare, seed=300
        )
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        if threads is not None:
            os.environ["OMP_NUM_THREADS"] = threads
    training = Training(seed, state)
    report = {}
    while training.stage < 2:
        stage = training.stage
        share = minutes and minutes * steps[stage] / sum(steps)
        report[f"stage_{stage + 1}"] = training.run(
            items, torch.from_numpy(pixels), steps[stage], share
        )
    store(training.model, training.processor, Path(folder))
    return {"seed": seed, "photos": photos, **report}
