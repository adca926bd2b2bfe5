"""Marks that tell one item from another: bows, flowers, gold borders and fabric patterns."""

import math

import numpy as np

from .canvas import Canvas, Colour, Points, brightness, smooth, tone
from .items import Item

GOLD = (206, 158, 44)
MAROON = (128, 22, 40)
PINK = (238, 84, 150)


def contrast(colour: Colour) -> Colour:
    """A colour that stands out on `colour`."""
    return (34, 36, 60) if brightness(colour) > 125 else (246, 246, 240)


def bow(canvas: Canvas, x: float, y: float, size: float, colour: Colour) -> None:
    """A tied bow, `size` pixels to each side."""
    for side in (-1, 1):
        tail = [
            (x, y, 1),
            (x + side * size * 0.55, y + size * 1.05, 1),
            (x + side * size * 0.15, y + size * 0.95, 1),
        ]
        canvas.fill(tail, tone(colour, 0.8))
        loop = [
            (x, y, 1),
            (x + side * size * 0.7, y - size * 0.55),
            (x + side * size, y),
            (x + side * size * 0.7, y + size * 0.5),
        ]
        canvas.shape(loop, colour)
        canvas.crease([(x + side * 2, y), (x + side * size * 0.6, y)], 40, 1.5)
    canvas.dot(x, y, size * 0.22, tone(colour, 0.75))


def gold_border(canvas: Canvas, points: Points, width: float) -> None:
    """A broad gold band with maroon edges and motifs, along a curve."""
    canvas.line(points, MAROON, width + 3)
    canvas.line(points, GOLD, width)
    curve = smooth(points, closed=False, steps=8)
    steps = np.linalg.norm(np.diff(curve, axis=0), axis=1).cumsum()
    for distance in np.arange(3, steps[-1] - 1, width * 1.15):
        x, y = curve[int(np.searchsorted(steps, distance))]
        canvas.dot(x, y, width * 0.26, MAROON)


def _box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def pattern(canvas: Canvas, item: Item, outline: np.ndarray, colour: Colour, y: float = -8) -> None:
    """The item's pattern on the part of the garment inside `outline`, `y` the middle of a print."""
    ink = tone(colour, 0.62) if brightness(colour) > 70 else tone(colour, 1.42)
    rng = canvas.rng
    (left, high), (right, low) = outline.min(0), outline.max(0)
    if item.pattern == "striped":
        step, thick = 15, rng.uniform(4, 5.5)
        marks = [_box(left, b, right, b + thick) for b in np.arange(-76, low, step) if b > high - 6]
        canvas.clipped(outline, marks, ink)
    elif item.pattern == "checked":
        step, thick = 18, rng.uniform(4, 6)
        rows = [b for b in np.arange(-78, low, step) if b > high - 6]
        columns = [a for a in np.arange(-78, right, step) if a > left - 6]
        across = [_box(left, b, right, b + thick) for b in rows]
        down = [_box(a, high, a + thick, low) for a in columns]
        canvas.clipped(outline, across + down, tone(ink, 1.15))
        knots = [_box(a, b, a + thick, b + thick) for a in columns for b in rows]
        canvas.clipped(outline, knots, tone(ink, 0.75))
    elif item.pattern in ("dotted", "floral"):
        step = 14 if item.pattern == "dotted" else 21
        turn = np.linspace(0, 2 * math.pi, 10, endpoint=False)
        marks, hearts = [], []
        for row, b in enumerate(np.arange(-76, 80, step)):
            for a in np.arange(-76 + (row % 2) * step / 2, 80, step):
                if not (left - 5 < a < right + 5 and high - 5 < b < low + 5):
                    continue
                if item.pattern == "dotted":
                    marks.append(np.stack([a + 3 * np.cos(turn), b + 3 * np.sin(turn)], 1))
                    continue
                for petal in turn[::2]:
                    px, py = a + 4.6 * math.cos(petal), b + 4.6 * math.sin(petal)
                    marks.append(np.stack([px + 3 * np.cos(turn), py + 3 * np.sin(turn)], 1))
                hearts.append(np.stack([a + 2.6 * np.cos(turn), b + 2.6 * np.sin(turn)], 1))
        canvas.clipped(outline, marks, ink)
        canvas.clipped(outline, hearts, tone(colour, 1.7) if brightness(colour) < 190 else GOLD)
    elif item.pattern in ("star", "heart"):
        ink = contrast(colour) if rng.random() < 0.5 else ink
        size = rng.uniform(21, 25)
        if item.pattern == "star":
            turn = -math.pi / 2 + math.pi / 5 * np.arange(10)
            radius = np.where(np.arange(10) % 2 == 0, size, size * 0.45)
            mark = np.stack([radius * np.cos(turn), y + radius * np.sin(turn)], 1)
        else:
            turn = np.linspace(0, 2 * math.pi, 40)
            across = 16 * np.sin(turn) ** 3
            along = (
                13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
            )
            mark = np.stack([across, -along], 1) * size / 16 + (0, y - 2)
        canvas.clipped(outline, [mark], ink)


def flower(canvas: Canvas, x: float, y: float, size: float, colour: Colour = PINK) -> None:
    """Five petals around a yellow middle."""
    for petal in range(5):
        turn = petal * 2 * math.pi / 5 - math.pi / 2
        canvas.dot(
            x + size * 0.6 * math.cos(turn),
            y + size * 0.6 * math.sin(turn),
            size * 0.48,
            colour,
            True,
        )
    canvas.dot(x, y, size * 0.32, (252, 214, 70))
