"""Drawn photos as training arrays: many processes draw, one array comes back."""

import io
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
from PIL import Image
from tqdm import tqdm

from .catalogue import training_items
from .items import Item

_CHUNK = 500
Prepare = Callable[[Image.Image], np.ndarray]


def as_stored(photo: Image.Image) -> Image.Image:
    """The photo as a catalogue stores it: JPEG leaves its marks."""
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=90, subsampling=0)
    return Image.open(file).convert("RGB")


def draw_training_photos(
    natural: int, balanced: int, printed: int, prepare: Prepare, workers: int = 2, seed: int = 0
) -> tuple[list[Item], np.ndarray]:
    """Draw and prepare photos for training.

    Args:
        natural: how many with the shares of the real catalogue.
        balanced: how many with all types, colours, genders and usages equally often.
        printed: how many T-shirts with a printed word.
        prepare: turns a photo into a uint8 array; a function of a module, since it travels.
        workers: processes.
        seed: base of the chunk seeds: use multiples of 100, below 900.

    Returns:
        The items, and their arrays (N, ...).
    """
    jobs = [
        (min(_CHUNK, count - start), seed + start // _CHUNK, *kind, prepare)
        for count, kind in (
            (natural, (None, False)), (balanced, (None, True)), (printed, (True, True)),
        )
        for start in range(0, count, _CHUNK)
    ]  # fmt: skip
    items: list[Item] = []
    arrays: list[np.ndarray] = []
    with (
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
        tqdm(total=natural + balanced + printed, desc="drawing", unit="photo") as bar,
    ):
        for some, array in pool.map(_draw, jobs):
            items += some
            arrays.append(array)
            bar.update(len(some))
    return items, np.concatenate(arrays)


def _draw(job: tuple) -> tuple[list[Item], np.ndarray]:
    count, seed, printed, balanced, prepare = job
    drawn = list(training_items(count, seed, printed, balanced))
    return [item for item, _ in drawn], np.stack([prepare(as_stored(photo)) for _, photo in drawn])
