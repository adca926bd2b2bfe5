"""Image embeddings, computed once per photo and kept on disk.

The vision encoder is frozen, so a photo has the same embedding in every epoch. The cache is keyed
by the photo's SHA-256, in a file whose name stands for encoder and preprocessing: a changed photo
is encoded again, and a changed encoder starts a new file.
"""

import hashlib
import json
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm
from transformers import AutoTokenizer, CLIPTextModelWithProjection

from moda_utils.catalog import OPEN_AT_ONCE, ahead, open_photo, to_rgb
from moda_utils.dataset import TEXTS, load_dataset_dir
from moda_utils.device import load_checkpoint
from moda_utils.modeling_moda import ModaForConditionalGeneration, ModaProcessor
from moda_utils.profiles import Checkpoint, Profile
from moda_utils.storage import atomic_path

Photo = Path | str | Image.Image


@dataclass
class Examples:
    """One split, ready to train on: row i of every field belongs to item i."""

    image_embeds: Tensor  # (N, 512) float32
    descriptions: list[str]
    names: list[str]  # product ids: an error says which item it is about
    captions: str = ""  # where the descriptions come from: "refined", "raw", "template"
    shas: list[str] | None = None  # SHA-256 of the photos: a run knows by them what it has seen

    def __post_init__(self) -> None:
        rows = {len(self.image_embeds), len(self.descriptions), len(self.names)}
        if len(rows) > 1 or self.shas is not None and len(self.shas) not in rows:
            raise ValueError(
                "Give as many embeddings as descriptions, a name for each, and a hash (or none)."
            )

    def __len__(self) -> int:
        return len(self.descriptions)

    def take(self, rows: Sequence[int]) -> "Examples":
        """Only these items, in this order."""
        return replace(
            self,
            image_embeds=self.image_embeds[list(rows)],
            descriptions=[self.descriptions[row] for row in rows],
            names=[self.names[row] for row in rows],
            shas=self.shas and [self.shas[row] for row in rows],
        )


def load_examples(
    profile: Profile,
    model: ModaForConditionalGeneration,
    processor: ModaProcessor,
    captions: str = "refined",
) -> dict[str, Examples]:
    """Embed the photos of `dataset/` and return its train, validation and test split.

    Args:
        captions: which descriptions: "refined" (notebook 03), "raw" (02) or "template" (01). Where
            an item has none of that kind, the next one of these stands in, and a line says so.

    Raises:
        FileNotFoundError: the dataset isn't there; the message names its notebook.
        ValueError: there are no such captions.
    """
    kinds = [column.removeprefix("description_") for column in TEXTS]  # the best one first
    if captions not in kinds:
        raise ValueError(f"There are no {captions!r} captions: choose one of {', '.join(kinds)}.")
    kinds = kinds[kinds.index(captions) :]
    examples, made = {}, Counter()
    for split, rows in load_dataset_dir(profile.dataset_dir).items():
        columns = zip(*(rows[f"description_{kind}"] for kind in kinds), strict=True)
        found = [
            next((kind, text) for kind, text in zip(kinds, texts, strict=True) if text)
            for texts in columns
        ]
        counts = Counter(kind for kind, _ in found)
        mixed = ", ".join(f"{kind} {counts[kind]}" for kind in kinds if counts[kind])
        examples[split] = Examples(
            image_embeds=embed_photos(
                model,
                processor.image_processor,
                rows["image"],
                rows["image_sha256"],
                profile.features_dir,
                label=f"photos of {split}",
            ),
            descriptions=[text for _, text in found],
            names=list(rows["product_id"]),
            captions=mixed if len(counts) > 1 else next(iter(counts), captions),
            shas=list(rows["image_sha256"]),
        )
        made += counts
    if missing := made.total() - made[captions]:
        others = ", ".join(f"{kind} {made[kind]:,}" for kind in kinds[1:] if made[kind])
        print(
            f"{missing:,} of {made.total():,} items have no {captions} caption: {others} instead."
        )
    return examples


def embed_photos(
    model: ModaForConditionalGeneration,
    image_processor: Any,
    photos: Sequence[Photo],
    shas: Sequence[str],
    cache_dir: Path | str,
    batch_size: int = 64,
    label: str = "photos",
    save_seconds: float = 20.0,
) -> Tensor:
    """Image embeddings (N, 512), float32 on the CPU, in the order of `photos`.

    Photos that the cache holds are not opened. Equal photos are encoded once. What is done is
    saved every `save_seconds`, and when a photo can't be read: the next call goes on from there.

    Args:
        photos: files or Pillow images of any mode; read lazily, one batch at a time.
        shas: SHA-256 of each photo's file, in hex.

    Raises:
        ValueError: a photo is damaged, or an embedding is not finite.
        FileNotFoundError: a photo is missing.
    """
    shas = list(shas)
    if len(shas) != len(photos):
        raise ValueError(f"{len(photos)} photos but {len(shas)} hashes: give one per photo.")
    path = Path(cache_dir) / f"{fingerprint(model, image_processor)}.safetensors"
    known = _read(path)
    missing = {sha: row for row, sha in enumerate(shas) if sha not in known}
    if missing:
        saved_at, before = time.monotonic(), len(known)
        try:
            with tqdm(total=len(missing), desc=label) as bar:
                for batch, pixel_values in _batches(image_processor, photos, missing, batch_size):
                    known |= zip(batch, _encode(model, pixel_values), strict=True)
                    bar.update(len(batch))
                    if time.monotonic() - saved_at > save_seconds:
                        _write(path, known)
                        saved_at = time.monotonic()
        finally:
            if len(known) > before:
                _write(path, known)
    if not shas:
        return torch.empty(0, model.config.vision_config.projection_dim)
    return torch.stack([known[sha] for sha in shas])


class _TextTower(CLIPTextModelWithProjection):
    """CLIP's text half; the image half, stored in the same file, is left where it is."""

    _keys_to_ignore_on_load_unexpected = ["vision_model", "visual_proj", "logit_scale", "position"]


@torch.inference_mode()
def embed_texts(vision: Checkpoint, texts: Sequence[str]) -> Tensor:
    """Text embeddings (N, 512) of a CLIP checkpoint, float32, to compare with its photos'.

    A text that is longer than CLIP's 77 tokens is cut.
    """
    tower, tokenizer = _text_tower(vision)
    batch = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
    return tower(**batch).text_embeds


@lru_cache(maxsize=1)
def _text_tower(vision: Checkpoint) -> tuple[_TextTower, Any]:
    tower = load_checkpoint(_TextTower, vision, dtype=torch.float32).eval()
    return tower, load_checkpoint(AutoTokenizer, vision)


def fingerprint(model: ModaForConditionalGeneration, image_processor: Any) -> str:
    """16 hex digits that stand for the encoder's weights and the preprocessing.

    Weights count as rounded to float16: a trained model, stored so, keeps its encoder's name.
    """
    settings = {k: v for k, v in image_processor.to_dict().items() if not k.startswith("_")}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    digest.update(getattr(model.config, "sees", "").encode())  # a variant may keep other features
    for name, weight in model.vision_model.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.detach().half().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.inference_mode()
def _encode(model: ModaForConditionalGeneration, pixel_values: Tensor) -> Tensor:
    embeds = model.encode_images(pixel_values.to(model.device)).float().cpu()  # (B, 512)
    if not embeds.isfinite().all():
        raise ValueError("An image embedding is not finite: the encoder's weights are damaged.")
    return embeds


def _batches(
    image_processor: Any, photos: Sequence[Photo], missing: dict[str, int], batch_size: int
) -> Iterator[tuple[list[str], Tensor]]:
    """Hashes and pixels (B, 3, height, width). Threads open the next batch while this one is used:
    decoding a photo of 1,800 x 2,400 takes longer than encoding it."""

    def pixels(sha: str) -> Tensor:
        photo = photos[missing[sha]]
        photo = to_rgb(photo) if isinstance(photo, Image.Image) else open_photo(photo)
        return torch.as_tensor(image_processor(photo)["pixel_values"][0])

    opened = ahead(pixels, missing, batch_size, OPEN_AT_ONCE)
    while batch := list(islice(opened, batch_size)):
        yield [sha for sha, _ in batch], torch.stack([future.result() for _, future in batch])


def _write(path: Path, known: dict[str, Tensor]) -> None:
    """Hashes (N, 32) as bytes, embeddings (N, 512), and a checksum over both."""
    tensors = {
        "image_sha256": torch.tensor([list(bytes.fromhex(sha)) for sha in known]).to(torch.uint8),
        "image_embeds": torch.stack(list(known.values())),
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"checksum": _checksum(tensors)})


def _read(path: Path) -> dict[str, Tensor]:
    """The cached embeddings by hash; none if there is no file, or a damaged one."""
    if not path.exists():
        return {}
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in ("image_sha256", "image_embeds")}
            intact = file.metadata()["checksum"] == _checksum(tensors)
    except (SafetensorError, KeyError, TypeError):
        intact = False
    if not intact:
        warnings.warn(f"{path.name} is damaged: its photos are encoded again.", stacklevel=3)
        return {}
    shas = [bytes(row).hex() for row in tensors["image_sha256"].tolist()]
    return dict(zip(shas, tensors["image_embeds"], strict=True))


def _checksum(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
