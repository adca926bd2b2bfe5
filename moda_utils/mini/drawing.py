"""Draws shop photos: 168x224 RGB, white ground, one item each, everything decided by a seed."""

import colorsys
import random

from PIL import Image

from .canvas import Canvas, Colour
from .footwear import FLOOR, FOOTWEAR
from .garments import GARMENTS
from .items import Item, sample_item

__all__ = ["Item", "draw_item", "sample_item"]

DRAWING_VERSION = 1
"""Raised whenever the same seed gives another photo: shipped models and catalogues depend on it."""

_RGB = {
    "Black": (42, 42, 46), "White": (241, 241, 240), "Blue": (52, 118, 214), "Brown": (118, 72, 42),
    "Red": (212, 34, 42), "Pink": (244, 142, 182), "Green": (44, 154, 78), "Yellow": (248, 212, 52),
    "Grey": (146, 148, 152), "Navy Blue": (34, 44, 104), "Purple": (124, 62, 164),
    "Beige": (224, 204, 170),
}  # fmt: skip
_UNCOLOURED = ("Black", "White", "Grey")
_GLOSS = {"Formal Shoes": 0.9, "Heels": 0.5, "Flats": 0.3, "Casual Shoes": 0.1}


def draw_item(item: Item, seed: int) -> Image.Image:
    """Draw an item. The same item and seed always give the same photo; another seed, another one.

    Returns:
        A 168x224 RGB image whose item lies within the central 168x168 square.
    """
    rng = random.Random(f"{item}/{seed}")
    colour = _shade(item.colour, rng)
    if item.category == "Apparel":
        canvas = Canvas(rng)
        GARMENTS[item.product_type](canvas, item, colour)
        return canvas.photo()
    lying = item.product_type == "Flip Flops"
    canvas = Canvas(rng, tilt=6 if lying else 2)
    FOOTWEAR[item.product_type](canvas, item, colour)
    return canvas.photo(_GLOSS.get(item.product_type, 0.0), None if lying else FLOOR)


def _shade(name: str, rng: random.Random) -> Colour:
    """A shade of a named colour. White, grey and black only change in brightness, never in hue."""
    red, green, blue = _RGB[name]
    gain = rng.uniform(0.95, 1.02) if name == "White" else rng.uniform(0.9, 1.08)
    hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    if name not in _UNCOLOURED:
        hue = (hue + rng.uniform(-0.012, 0.012)) % 1
        saturation = min(1.0, saturation * rng.uniform(0.9, 1.08))
    shade = colorsys.hsv_to_rgb(hue, saturation, min(1.0, value * gain))
    return tuple(round(255 * channel) for channel in shade)
