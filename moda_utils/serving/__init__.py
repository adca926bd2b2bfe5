"""Describe photos with the trained model; `__main__.py` does so in a terminal."""

import os
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from moda_utils.catalog import ahead, open_photo, to_rgb
from moda_utils.device import best_device
from moda_utils.fast import FastModa, int8_works
from moda_utils.modeling_moda import ModaConfig, ModaForConditionalGeneration, ModaProcessor
from moda_utils.profiles import get_profile

Photo = Path | str | Image.Image | np.ndarray
Moda = ModaForConditionalGeneration | FastModa
NOTES = {  # by ModaConfig.trained_on
    "drawn, encoder drawn": "Note: this is a mini model. It has only ever seen drawings.",
    "real, encoder drawn": "Note: this is a mini model. Its encoder has only ever seen drawings.",
    "drawn": "Note: this model was trained on drawings.",
}
BATCH = 16  # photos described together
FILES = ["config.json", "model.safetensors", "processor_config.json", "tokenizer.json"]


def describe(
    images: Photo | Sequence[Photo],
    model: Path | str | None = None,
    note: bool = True,
    int8: bool = True,
) -> str | list[str]:
    """Say what one photo shows, or each of several.

    Args:
        images: a file, a Pillow image of any mode, an array of uint8 (height, width, 3, or without
            the 3 for a grey one), or a list or tuple of them. Of an animation the first picture
            counts.
        model: folder of a trained MODA; the profile's `runs/moda/best` when left out.
        note: print with the answer what a model has seen that was not trained on real photos.
        int8: on a CPU, use int8 weights (see `fast.py`); False takes float32.

    Returns:
        A text for one photo, a list of texts for several, even where they come as a tuple.

    Raises:
        FileNotFoundError: there is no such photo, or no trained model yet.
        ValueError: a file is not a photo, or an array is none.
    """
    several = isinstance(images, Sequence) and not isinstance(images, str)
    moda, processor = load_model(model, int8)
    texts = []
    for result in describe_each(list(images) if several else [images], moda, processor):
        if isinstance(result, Exception):
            raise result
        texts.append(result)
    if note and moda.config.trained_on in NOTES:
        print(NOTES[moda.config.trained_on])
    return texts if several else texts[0]


def describe_each(
    photos: Sequence[Photo], moda: Moda, processor: ModaProcessor
) -> Iterator[str | Exception]:
    """For one photo after the other its description, or the error that tells why it has none.

    Threads open the photos of the next batch while the model is busy with this one. Two of them,
    for each may hold a large photo.
    """

    def pixels(photo: Photo) -> Tensor | Exception:
        try:
            small = _shrink(open_checked(photo), processor.image_processor.size["shortest_edge"])
            return processor(images=small)["pixel_values"][0]  # (3, height, width)
        except (OSError, ValueError) as error:
            return error

    coming = ahead(pixels, photos, BATCH, threads=min(2, os.cpu_count() or 1))
    while batch := list(islice(coming, BATCH)):
        opened = [future.result() for _, future in batch]
        good = [photo for photo in opened if isinstance(photo, Tensor)]
        texts = iter(_describe_pixels(torch.stack(good), moda, processor) if good else [])
        yield from (next(texts) if isinstance(photo, Tensor) else photo for photo in opened)


def load_model(folder: Path | str | None = None, int8: bool = False) -> tuple[Moda, ModaProcessor]:
    """A trained model and its processor, ready to use; read once, and again when it has changed.

    Args:
        int8: on a CPU, the small and fast form of it; float32 on its device otherwise.

    Raises:
        FileNotFoundError: nothing is trained yet.
        OSError: a file of the model is missing or damaged.
    """
    folder = Path(folder) if folder is not None else get_profile().run_dir("moda") / "best"
    missing = [name for name in FILES if not (folder / name).exists()]
    if missing == FILES:
        raise FileNotFoundError(f"There is no trained model in {folder}: run notebook 05 first.")
    if missing:
        advice = "copy the whole folder again, or train with notebook 05"
        raise FileNotFoundError(f"The model in {folder} lacks {', '.join(missing)}: {advice}.")
    changed = (folder / "model.safetensors").stat().st_mtime_ns
    return _load(folder, changed, int8 and best_device().type == "cpu")


@lru_cache(maxsize=2)
def _load(folder: Path, changed: int, int8: bool) -> tuple[Moda, ModaProcessor]:
    try:
        processor = ModaProcessor.from_pretrained(folder)
        if int8 and FastModa.fits(ModaConfig.from_pretrained(folder)):
            if not int8_works():
                text = "This build of torch has no int8 kernels: float32 is used, which is slower."
                warnings.warn(text, stacklevel=3)
            return FastModa.from_folder(folder, int8=int8_works()), processor
        model = ModaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError, SafetensorError, TypeError, KeyError) as error:
        reason = str(error).removeprefix(f"{folder} can't be loaded: ")
        raise OSError(f"The model in {folder} can't be loaded: {reason}") from error
    return model.to(best_device()).eval(), processor


@torch.inference_mode()
def generate_texts(
    model: Moda,
    processor: ModaProcessor,
    image_embeds: Tensor,
    batch_size: int = 64,
    max_new_tokens: int = 40,
) -> tuple[list[str], list[bool]]:
    """Descriptions of embedded photos (N, 512), greedily, and whether each ended by itself."""
    model.eval()
    texts, ended = [], []
    for embeds in image_embeds.split(batch_size):
        ids = model.generate(
            image_embeds=embeds.to(model.device), max_new_tokens=max_new_tokens, do_sample=False
        )
        texts += [text.strip() for text in processor.batch_decode(ids, skip_special_tokens=True)]
        ended += (ids == model.config.end_token_id).any(dim=1).tolist()
    return texts, ended


def _describe_pixels(pixels: Tensor, moda: Moda, processor: ModaProcessor) -> list[str]:
    """Texts of a batch (B, 3, height, width)."""
    with torch.inference_mode():
        embeds = moda.encode_images(pixels.to(moda.device))
    return generate_texts(moda, processor, embeds)[0]


def _shrink(photo: Image.Image, shortest: int) -> Image.Image:
    """What the processor does first, without its copies of the large photo: to the same pixels."""
    size = [int(shortest * side / min(photo.size)) for side in photo.size]
    return photo.resize(size, Image.Resampling.BICUBIC)


def open_checked(image: Photo) -> Image.Image:
    """The photo as RGB, if it is one that can be described."""
    name = image if isinstance(image, Path | str) else "The image"
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.shape[2:] not in ((), (3,)) or image.ndim < 2:
            found = f"{image.dtype} of shape {image.shape}"
            raise ValueError(f"An array must be uint8 (height, width, 3), this is {found}.")
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image | Path | str):
        kind = type(image).__name__
        raise ValueError(f"A photo is a file, a Pillow image or an array, not {kind}.")
    photo = to_rgb(image) if isinstance(image, Image.Image) else open_photo(image)
    if max(photo.size) > 50 * min(photo.size):
        raise ValueError(f"{name} is a stripe of {photo.width} x {photo.height} pixels: crop it.")
    return photo
