"""A canvas for drawn shop photos: smooth shapes, drawn three times too large, then lit and shaded.

Coordinates are pixels of the finished photo with the origin in its middle, y pointing down. The
middle square (84 pixels to each side) is what CLIP's centre crop keeps.
"""

import math
import random
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont

WIDTH, HEIGHT = 168, 224
ZOOM = 3  # drawn at 504x672, then reduced: smooth edges
GROUND = 251

Colour = tuple[int, int, int]
Points = Sequence[Sequence[float]]  # (x, y) on a curve, or (x, y, 1) for a corner


def smooth(points: Points, closed: bool = True, steps: int = 6) -> np.ndarray:
    """A curve through `points`, as an (n, 2) array. Points with a third number are corners."""
    xy = np.array([point[:2] for point in points], dtype=float)  # (n, 2)
    corner = np.array([len(point) > 2 for point in points])[:, None]
    after = np.concatenate([xy[1:], xy[:1]])
    ahead = after - xy
    behind = np.concatenate([ahead[-1:], ahead[:-1]])
    if not closed:
        ahead[-1], behind[0] = behind[-1], ahead[0]
    length = np.sqrt((ahead**2).sum(1, keepdims=True))
    along = ahead + behind
    along /= np.maximum(np.sqrt((along**2).sum(1, keepdims=True)), 1e-6)
    length_behind = np.sqrt((behind**2).sum(1, keepdims=True))
    leaving = np.where(corner, ahead, along * length)  # tangents as long as their segment: no loops
    arriving = np.where(corner, behind, along * length_behind)
    arriving = np.concatenate([arriving[1:], arriving[:1]])
    pieces = np.stack([xy, after, leaving, arriving])  # (4, n, 2): both ends and their tangents
    if not closed:
        pieces = pieces[:, :-1]
    curve = np.tensordot(pieces, _hermite(steps), (0, 1))  # (n, 2, steps)
    curve = curve.transpose(0, 2, 1).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, xy[-1:]])


@lru_cache
def _hermite(steps: int) -> np.ndarray:
    t = np.arange(steps) / steps
    return np.stack(
        [2 * t**3 - 3 * t**2 + 1, -2 * t**3 + 3 * t**2, t**3 - 2 * t**2 + t, t**3 - t**2], axis=1
    )  # (steps, 4)


def both_sides(half: Points) -> list[Sequence[float]]:
    """A closed symmetric outline from its right half (from the top middle to the bottom middle)."""
    left = [(-point[0], *point[1:]) for point in reversed(half) if point[0] != 0]
    return [*half, *left]


def mirrored(points: Points) -> list[Sequence[float]]:
    """The same points on the other side."""
    return [(-point[0], *point[1:]) for point in points]


def tone(colour: Colour, factor: float) -> Colour:
    """Darker (factor < 1) or lighter (1 < factor <= 2, 2 is white) without a change of hue."""
    if factor <= 1:
        return tuple(int(c * factor) for c in colour)
    return tuple(int(c + (255 - c) * (factor - 1)) for c in colour)


def brightness(colour: Colour) -> float:
    """Perceived brightness, 0 to 255."""
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


@lru_cache
def _grain() -> np.ndarray:
    return np.random.default_rng(7).normal(0, 1.2, (HEIGHT, WIDTH, 1)).astype(np.float32)


@lru_cache
def _gauss(size: int, sigma: float, slope: bool = False) -> np.ndarray:
    """A (size, size) matrix that blurs along one axis, or takes the slope of the blurred values."""
    distance = np.arange(size)[:, None] - np.arange(size)[None, :]
    weights = np.exp(-0.5 * (distance / sigma) ** 2)
    weights /= sigma * math.sqrt(2 * math.pi)
    if slope:
        weights *= -distance / sigma**2
    weights[np.abs(weights) < 1e-6] = 0  # numbers too small to matter make products slow
    return weights.astype(np.float32)


def _blur(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of an (H, W) array, dark beyond its edges."""
    height, width = values.shape
    return _gauss(height, sigma) @ values @ _gauss(width, sigma).T


def _slope(values: np.ndarray, sigma: float) -> np.ndarray:
    """How steeply an (H, W) array, once blurred, rises towards the lower right."""
    height, width = values.shape
    down = _gauss(height, sigma, True) @ values @ _gauss(width, sigma).T
    right = _gauss(height, sigma) @ values @ _gauss(width, sigma, True).T
    return 0.7 * (down + right)


class Canvas:
    """Draws flat shapes; `photo` lights them.

    Args:
        rng: small random changes of pose and light.
        tilt: largest rotation in degrees.
    """

    def __init__(self, rng: random.Random, tilt: float = 3.0) -> None:
        self.rng = rng
        self.angle = math.radians(rng.uniform(-tilt, tilt))
        scale_x = rng.uniform(0.93, 1.03)
        scale_y = scale_x * rng.uniform(0.97, 1.03)
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        self._matrix = ZOOM * np.array(
            [[cos * scale_x, sin * scale_x], [-sin * scale_y, cos * scale_y]]
        )
        self._middle = ZOOM * np.array(
            [WIDTH / 2 + rng.uniform(-4, 4), HEIGHT / 2 + rng.uniform(-4, 4)]
        )
        self._scale = ZOOM * scale_x
        size = (WIDTH * ZOOM, HEIGHT * ZOOM)
        self._image = Image.new("RGB", size, (GROUND,) * 3)
        self._mask = Image.new("L", size, 0)
        self._relief = Image.new("L", (WIDTH, HEIGHT), 128)
        self._draw = ImageDraw.Draw(self._image)
        self._draw_mask = ImageDraw.Draw(self._mask)
        self._draw_relief = ImageDraw.Draw(self._relief)

    def _place(self, points: Points | np.ndarray) -> np.ndarray:
        if not isinstance(points, np.ndarray):
            points = np.array([point[:2] for point in points], dtype=float)
        return points @ self._matrix + self._middle

    def fill(self, points: Points | np.ndarray, colour: Colour, body: bool = True) -> None:
        """Fill a polygon. A part of the body is lit and throws a shadow; a decoration is not."""
        placed = [tuple(point) for point in self._place(points)]
        self._draw.polygon(placed, fill=colour)
        if body:
            self._draw_mask.polygon(placed, fill=255)

    def shape(self, points: Points, colour: Colour, body: bool = True) -> np.ndarray:
        """Fill the smooth closed curve through `points`; returns the curve."""
        curve = smooth(points)
        self.fill(curve, colour, body)
        return curve

    def line(self, points: Points, colour: Colour, width: float, body: bool = False) -> None:
        """Draw the smooth open curve through `points`, `width` pixels wide, with round ends."""
        placed = [tuple(point) for point in self._place(smooth(points, closed=False))]
        pixels = max(1, round(width * self._scale))
        for draw, ink in ((self._draw, colour), (self._draw_mask, 255)):
            if draw is self._draw_mask and not body:
                continue
            draw.line(placed, fill=ink, width=pixels, joint="curve" if pixels > 9 else None)
            if pixels > 3:
                for x, y in (placed[0], placed[-1]):
                    r = pixels / 2 - 0.5
                    draw.ellipse((x - r, y - r, x + r, y + r), fill=ink)

    def dot(self, x: float, y: float, radius: float, colour: Colour, body: bool = False) -> None:
        """Draw a disc."""
        (x, y), r = self._place([(x, y)])[0], radius * self._scale
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        if body:
            self._draw_mask.ellipse((x - r, y - r, x + r, y + r), fill=255)

    def crease(self, points: Points, depth: float = 40, width: float = 2) -> None:
        """A soft fold in the light: darker for positive `depth`, brighter for negative."""
        placed = self._place(smooth(points, closed=False, steps=4)) / ZOOM
        self._draw_relief.line(
            [tuple(point) for point in placed],
            fill=int(np.clip(128 - depth, 0, 255)), width=max(1, round(width)),
        )  # fmt: skip

    def clipped(self, outline: np.ndarray, marks: list[np.ndarray], colour: Colour) -> None:
        """Fill the polygons `marks`, but only inside `outline` (a printed or woven pattern)."""
        placed = self._place(outline)
        left, top = np.floor(placed.min(0)).astype(int)
        right, bottom = np.ceil(placed.max(0)).astype(int) + 1
        inside = Image.new("L", (right - left, bottom - top), 0)
        printed = inside.copy()
        ImageDraw.Draw(inside).polygon([tuple(p) for p in placed - (left, top)], fill=255)
        draw = ImageDraw.Draw(printed)
        for mark in marks:
            draw.polygon([tuple(p) for p in self._place(mark) - (left, top)], fill=255)
        self._image.paste(colour, (left, top), ImageChops.multiply(inside, printed))

    def word(
        self, text: str, x: float, y: float, width: float, height: float, colour: Colour
    ) -> None:
        """Print a word in bold letters centred on (x, y), as large as `width` x `height` allows."""
        size = int(height * self._scale * 1.35)
        stroke = max(2, size // 20)
        left, top, right, bottom = _font(size).getbbox(text, stroke_width=stroke)
        patch = Image.new("L", (int(right - left), int(bottom - top)), 0)
        ImageDraw.Draw(patch).text(
            (-left, -top), text, fill=255, font=_font(size), stroke_width=stroke, stroke_fill=255
        )
        wanted = width * self._scale
        tall = min(height * self._scale, patch.height * wanted / patch.width * 1.25)
        wide = min(wanted, patch.width * tall / patch.height * 1.25)
        patch = patch.resize((round(wide), round(tall)), Image.Resampling.BILINEAR)
        patch = patch.rotate(math.degrees(-self.angle), Image.Resampling.BILINEAR, expand=True)
        (x, y) = self._place([(x, y)])[0]
        corner = (round(x - patch.width / 2), round(y - patch.height / 2))
        self._image.paste(colour, corner, patch)

    def photo(self, gloss: float = 0.0, floor: float | None = None) -> Image.Image:
        """The finished photo: reduced, lit from the upper left, with a shadow on the ground.

        Args:
            gloss: strength of a highlight (leather).
            floor: height at which the item stands (shoes); None for one that hangs or lies.
        """
        colours = np.asarray(self._image.reduce(ZOOM), dtype=np.float32)  # (H, W, 3)
        small = self._mask.reduce(ZOOM)
        mask = np.asarray(small, dtype=np.float32)[..., None] / 255  # (H, W, 1)
        # The blurred silhouette serves as a height map: its slopes are lit, its rim is darker.
        # Light changes slowly, so it is computed at half size.
        half = np.asarray(small.reduce(2), dtype=np.float32) / 255  # (H / 2, W / 2)
        folds = np.asarray(self._relief.reduce(2), dtype=np.float32) / 128 - 1
        light = 1.3 * _slope(half, 4.5) + 0.45 * _slope(half, 1.3)
        rim = 1 - _blur(half, 1.3)
        shade = _full_size(light + 0.9 * _blur(folds, 0.8) - 0.22 * rim - 0.06)
        gain = mask * shade  # (H, W, 1) from here on, to touch three channels only once
        offset = 26 * gain + _grain() * (0.15 + mask)
        if gloss:
            offset += mask * _full_size(gloss * 700 * np.clip(light, 0, None) ** 1.5)
        offset -= (1 - mask) * _full_size(self._shadow(half, floor))
        lit = colours * (1 + gain) + offset
        return Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))

    def _shadow(self, half: np.ndarray, floor: float | None) -> np.ndarray:
        """(H / 2, W / 2) darkness of the ground: around the item, or in a pool under it."""
        if floor is None:
            return 51 * _blur(np.roll(half, (3, 2), (0, 1)), 2.5)
        columns = np.flatnonzero(half.max(0) > 0.5)
        y = (floor * self._scale + self._middle[1]) / ZOOM / 2
        pool = Image.new("L", (WIDTH // 2, HEIGHT // 2), 0)
        box = (int(columns[0]) + 3, y - 2.5, int(columns[-1]) - 1, y + 2.5)
        ImageDraw.Draw(pool).ellipse(box, fill=107)
        return _blur(np.asarray(pool, dtype=np.float32), 2)


def _full_size(values: np.ndarray) -> np.ndarray:
    """(H / 2, W / 2) values enlarged to (H, W, 1)."""
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))[..., None]
