"""A drawing board with one palette and three sizes of type, and a check that nothing overlaps.

Sizes are inches of a page 7.6 wide, which is shown 760 pixels wide; stored pictures have
1,216 pixels for sharp screens, and a white ground, so that they are legible on a dark page too.
"""

from collections.abc import Sequence
from itertools import combinations

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Outline
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from moda_utils.mini.drawing import Item, draw_item
from moda_utils.plots import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, VERMILION

__all__ = ["BLUE", "GREEN", "GREY", "INK", "ORANGE", "PURPLE", "VERMILION"]  # the palette

FROZEN, TRAINED, MADE, HERE = BLUE, VERMILION, GREEN, ORANGE  # what colours mean
SOFT = "#555555"  # remarks
TITLE, HEAD, BODY, SMALL = 12.5, 10, 9, 8  # points; 8 is 11 pixels high on the page
CODE = "DejaVu Sans Mono"
WIDTH = 7.6

SHOE = Item("Casual Shoes", "Shoes", "Footwear", "Women", "Green", "Casual")
SHIRT = Item(
    "Tshirts", "Topwear", "Apparel", "Girls", "Navy Blue", "Casual",
    sleeve="short", printed_word="SURF",
)  # fmt: skip

Point = tuple[float, float]


def tint(colour: str, share: float) -> tuple[float, ...]:
    """The colour thinned with white: opaque, so that boxes within boxes keep theirs."""
    return tuple(1 - share * (1 - part) for part in matplotlib.colors.to_rgb(colour))


class Page:
    """A page of a given height; the origin is its lower left corner."""

    def __init__(self, height: float, colours: int = 128):
        self.colours = colours  # of the stored picture: flat areas of few make small files
        self.figure = Figure(figsize=(WIDTH, height), facecolor="white")
        FigureCanvasAgg(self.figure)
        self.axis = self.figure.add_axes((0, 0, 1, 1))
        self.axis.set(xlim=(0, WIDTH), ylim=(0, height))
        self.axis.axis("off")

    def text(self, x, y, text, size=BODY, colour=INK, align="center", weight="normal", **more):
        """Lines of text, centred on height y; `align` says which part of each line x is.

        Each line is placed by its baseline: matplotlib spaces lines by the letters in them.
        """
        lines, em = text.split("\n"), size / 72
        for place, line in enumerate(lines):
            baseline = y - 0.36 * em + (len(lines) / 2 - 0.5 - place) * 1.35 * em
            self.axis.text(
                x, baseline, line, fontsize=size, color=colour, ha=align, va="baseline",
                weight=weight, zorder=4, **more,
            )  # fmt: skip

    def box(
        self, x, y, width, height, title="", body="", colour=GREY, fill=0.1, dashed=False, **more
    ):
        """A rounded box with its lower left corner at (x, y), a bold title and text in it."""
        shape = FancyBboxPatch(
            (x, y), width, height, boxstyle="round,pad=0,rounding_size=0.07", linewidth=1.4,
            edgecolor=colour, facecolor=tint(colour, fill), linestyle="--" if dashed else "-",
        )  # fmt: skip
        self.axis.add_patch(shape)
        middle, centre = x + width / 2, y + height / 2
        if title and body:
            rows = body.count("\n") + 1
            self.text(middle, centre + 0.08 * rows + 0.02, title, weight="bold", **more)
            self.text(middle, centre - 0.11, body, SMALL, **more)
        elif title or body:
            self.text(middle, centre, title or body, weight="bold" if title else "normal", **more)

    def arrow(self, start: Point, end: Point, colour=INK, **more):
        style = {"arrowstyle": "-|>", "mutation_scale": 10, "linewidth": 1.3, **more}
        self.axis.add_patch(
            FancyArrowPatch(start, end, color=colour, shrinkA=0, shrinkB=0, **style)
        )

    def cells(self, x, y, words: Sequence[str], width, colours: Sequence[str], height=0.3):
        """A row of small boxes, one per word; an empty word leaves a gap."""
        for place, (word, colour) in enumerate(zip(words, colours, strict=True)):
            if word:
                self.box(x + place * (width + 0.03), y, width, height, body=word, colour=colour)

    def photo(self, item: Item | Image.Image, x, y, width, seed=3):
        """A photo with its lower left corner at (x, y); an item is drawn first."""
        picture = draw_item(item, seed) if isinstance(item, Item) else item
        right, top = x + width, y + width * picture.height / picture.width
        self.axis.imshow(
            picture, extent=(x, right, y, top), aspect="auto", zorder=2, interpolation="lanczos"
        )
        edge = {"color": "#BBBBBB", "linewidth": 1.2, "zorder": 3}
        self.axis.plot([x, right, right, x, x], [y, y, top, top, y], **edge)
        self.axis.set(xlim=(0, WIDTH), ylim=(0, self.figure.get_figheight()))

    def picture(self, dpi: int = 160) -> Image.Image:
        """The page as an image with a palette."""
        self.figure.set_dpi(dpi)
        self.figure.canvas.draw()
        drawn = Image.fromarray(np.asarray(self.figure.canvas.buffer_rgba())).convert("RGB")
        return drawn.quantize(self.colours, dither=Image.Dither.NONE)

    def problems(self) -> list[str]:
        """What a reader would stumble over: text that overlaps text, a line or an edge."""
        self.figure.set_dpi(100)
        self.figure.canvas.draw()
        renderer = self.figure.canvas.get_renderer()
        page = Bbox([[0, 0], [100 * WIDTH, 100 * self.figure.get_figheight()]])
        texts = [
            (text.get_text().replace("\n", " "), text.get_window_extent(renderer), text)
            for text in self.figure.findobj(Text)
            if text.get_visible() and text.get_text().strip()
        ]
        found = [f"{name!r} is cut off" for name, area, _ in texts if not _within(area, page)]
        for (name, area, _), (other, place, _) in combinations(texts, 2):
            if _overlap(area, place):
                found.append(f"{name!r} overlaps {other!r}")
        for shape in self.axis.patches:
            if not _within(shape.get_window_extent(renderer), page):
                found.append("a shape is cut off")
            path = shape.get_path().transformed(shape.get_transform())
            for name, area, text in texts:
                if isinstance(shape, FancyArrowPatch):
                    covered = text.get_bbox_patch() is not None  # its ground hides the line
                    lines = map(Outline, path.to_polygons(closed_only=False))
                    if not covered and any(line.intersects_bbox(area, False) for line in lines):
                        found.append(f"an arrow crosses {name!r}")
                elif isinstance(shape, FancyBboxPatch):
                    edge = path.get_extents()
                    if _overlap(area, edge) and not _within(area, edge):
                        found.append(f"{name!r} crosses the edge of a box")
        return found


def _within(inner: Bbox, outer: Bbox) -> bool:
    return (
        inner.x0 >= outer.x0 and inner.y0 >= outer.y0
        and inner.x1 <= outer.x1 and inner.y1 <= outer.y1
    )  # fmt: skip


def _overlap(one: Bbox, other: Bbox, slack: float = 1) -> bool:
    return (
        one.x0 + slack < other.x1 and other.x0 + slack < one.x1
        and one.y0 + slack < other.y1 and other.y0 + slack < one.y1
    )  # fmt: skip
