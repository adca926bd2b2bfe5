"""Describe photos with the trained model: in Python by `describe`, in a terminal by

python -m moda_utils.serving PHOTO [PHOTO ...]
"""

import argparse
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from moda_utils.catalog import open_photo, to_rgb
from moda_utils.device import best_device
from moda_utils.modeling_moda import ModaForConditionalGeneration, ModaProcessor
from moda_utils.profiles import get_profile

Photo = Path | str | Image.Image
NOTES = {  # by ModaConfig.trained_on
    "drawn, encoder drawn": "Note: this is a mini model. It has only ever seen drawings.",
    "real, encoder drawn": "Note: this is a mini model. Its encoder has only ever seen drawings.",
    "drawn": "Note: this model was trained on drawings.",
}


def describe(
    images: Photo | Sequence[Photo], model: Path | str | None = None, note: bool = True
) -> str | list[str]:
    """Say what one photo shows, or each of several.

    Args:
        images: a file, a Pillow image of any mode, or a list of them.
        model: folder of a trained MODA; the profile's `runs/moda/best` when left out.
        note: print with the answer what a model has seen that was not trained on real photos.

    Returns:
        A text for one photo, a list of texts for a list.

    Raises:
        FileNotFoundError: there is no such photo, or no trained model yet.
        ValueError: a file is not a photo.
    """
    several = isinstance(images, Sequence) and not isinstance(images, str)
    photos = [_open(image) for image in (images if several else [images])]
    moda, processor = load_model(model)
    texts = []
    for start in range(0, len(photos), 32):
        pixels = processor(images=photos[start : start + 32])["pixel_values"]
        with torch.inference_mode():
            embeds = moda.encode_images(pixels.to(moda.device))
        texts += generate_texts(moda, processor, embeds)[0]
    if note and moda.config.trained_on in NOTES:
        print(NOTES[moda.config.trained_on])
    return texts if several else texts[0]


def load_model(
    folder: Path | str | None = None,
) -> tuple[ModaForConditionalGeneration, ModaProcessor]:
    """A trained model and its processor, ready to use; read once, and again when it has changed.

    Raises:
        FileNotFoundError: nothing is trained yet.
    """
    folder = Path(folder) if folder is not None else get_profile().run_dir("moda") / "best"
    weights = folder / "model.safetensors"
    if not weights.exists():
        raise FileNotFoundError(f"There is no trained model in {folder}: run notebook 05 first.")
    return _load(folder, weights.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _load(folder: Path, changed: int) -> tuple[ModaForConditionalGeneration, ModaProcessor]:
    model = ModaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return model.to(best_device()).eval(), ModaProcessor.from_pretrained(folder)


@torch.inference_mode()
def generate_texts(
    model: ModaForConditionalGeneration,
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


def _open(image: Photo) -> Image.Image:
    photo = to_rgb(image) if isinstance(image, Image.Image) else open_photo(image)
    if max(photo.size) > 50 * min(photo.size):
        name = "The image" if isinstance(image, Image.Image) else image
        raise ValueError(f"{name} is a stripe of {photo.width} x {photo.height} pixels: crop it.")
    return photo


def main(arguments: Sequence[str] | None = None) -> int:
    """Describe the files named on the command line. Returns 1 where a photo or the model failed."""
    parser = argparse.ArgumentParser(
        prog="python -m moda_utils.serving",
        description="Say what each photo shows, one line per photo. Exit status 1: one failed.",
    )
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="an image file")
    parser.add_argument("--model", help="folder of a trained MODA (default: runs/moda/best)")
    options = parser.parse_args(arguments)
    try:
        moda, _ = load_model(options.model)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    names, photos = [], []
    for name in options.photos:
        try:
            photos.append(_open(name))
            names.append(name)
        except (OSError, ValueError) as error:  # the others are still described
            print(error, file=sys.stderr)
    for name, text in zip(names, describe(photos, options.model, note=False), strict=True):
        print(f"{name}: {text}")
    if names and moda.config.trained_on in NOTES:
        print(NOTES[moda.config.trained_on], file=sys.stderr)
    return int(len(names) < len(options.photos))


if __name__ == "__main__":
    sys.exit(main())
