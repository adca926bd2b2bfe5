"""Draw the course's figures into this folder: python -m images.make_figures

hero.png is shown where a notebook has no figure of its own; NN.png belongs to notebook NN. Sizes
are inches of a page 760 pixels wide; files have twice as many pixels and a white ground.
"""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from PIL import Image

from moda_utils.mini.drawing import Item, draw_item
from moda_utils.plots import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, VERMILION

HERE = Path(__file__).resolve().parent
FROZEN, TRAINED = BLUE, VERMILION
CODE = "DejaVu Sans Mono"
SHOE = Item("Casual Shoes", "Shoes", "Footwear", "Women", "Green", "Casual")
SHIRT = Item(
    "Tshirts", "Topwear", "Apparel", "Girls", "Navy Blue", "Casual",
    sleeve="short", printed_word="SURF",
)  # fmt: skip


class Page:
    """A drawing board, 7.6 inches wide, with the origin at the lower left."""

    def __init__(self, height: float):
        self.figure = Figure(figsize=(7.6, height), facecolor="white")
        self.axis = self.figure.add_axes((0, 0, 1, 1))
        self.axis.set(xlim=(0, 7.6), ylim=(0, height))
        self.axis.axis("off")

    def text(self, x, y, text, size=9, colour=INK, align="center", weight="normal", **more):
        self.axis.text(
            x, y, text, fontsize=size, color=colour, ha=align, va="center", weight=weight, **more
        )

    def box(self, x, y, width, height, title="", body="", colour=GREY, fill=0.1, dashed=False):
        """A rounded box with its lower left corner at (x, y)."""
        shape = FancyBboxPatch(
            (x, y), width, height, boxstyle="round,pad=0,rounding_size=0.07", linewidth=1.4,
            edgecolor=colour, facecolor=(*matplotlib.colors.to_rgb(colour), fill),
            linestyle="--" if dashed else "-",
        )  # fmt: skip
        self.axis.add_patch(shape)
        middle = x + width / 2
        if title and body:
            rows = body.count("\n") + 1
            self.text(middle, y + height / 2 + 0.085 * rows, title, weight="bold")
            self.text(middle, y + height / 2 - 0.1, body, size=8, linespacing=1.25)
        else:
            self.text(middle, y + height / 2, title or body, weight="bold" if title else "normal")

    def arrow(self, start, end, colour=INK, **more):
        style = {"arrowstyle": "-|>", "mutation_scale": 10, "linewidth": 1.3, **more}
        self.axis.add_patch(
            FancyArrowPatch(start, end, color=colour, shrinkA=0, shrinkB=0, **style)
        )

    def photo(self, item, x, y, width, seed=3):
        """A drawn photo, 3:4, with its lower left corner at (x, y)."""
        picture = draw_item(item, seed)
        self.axis.imshow(
            picture, extent=(x, x + width, y, y + width * 4 / 3), aspect="auto", zorder=2,
            interpolation="lanczos",
        )  # fmt: skip
        right, top = x + width, y + width * 4 / 3
        edge = {"color": "#BBBBBB", "linewidth": 1.2, "zorder": 3}
        self.axis.plot([x, right, right, x, x], [y, y, top, top, y], **edge)
        self.axis.set(xlim=(0, 7.6), ylim=(0, self.figure.get_figheight()))

    def save(self, name):
        path = HERE / name
        self.figure.savefig(path, dpi=200, facecolor="white")
        with Image.open(path) as picture:
            small = picture.convert("RGB").quantize(160, dither=Image.Dither.NONE)
        small.save(path, optimize=True)
        print(f"{name}: {path.stat().st_size / 1000:.0f} kB, {small.width} x {small.height}")


def hero() -> None:
    page = Page(3.75)
    page.text(0.15, 3.5, "From a folder of shop photos to a small vision-language model", size=12.5,
              align="left", weight="bold")  # fmt: skip
    notebooks = [
        ("00", "Start here", "a VLM in\none minute"), ("01", "Dataset", "look, check,\nsplit"),
        ("02", "Captions", "Phi-3 Vision\ndescribes"), ("03", "Refine", "Phi-3 Instruct\ncorrects"),
        ("04", "Assemble", "encoder +\nprojection + LM"), ("05", "Train", "loss curves,\nresume"),
        ("06", "Evaluate", "five criteria,\nfloors, ceilings"),
    ]  # fmt: skip
    for place, (number, title, body) in enumerate(notebooks):
        x = 0.15 + place * 1.054
        page.box(x, 2.3, 0.97, 0.95, colour=GREEN)
        page.text(x + 0.485, 3.09, f"{number} {title}", size=8.2, weight="bold")
        page.text(x + 0.485, 2.67, body, size=7.8, linespacing=1.3)
        if place:
            page.arrow((x - 0.085, 2.78), (x, 2.78), mutation_scale=7)
    page.photo(SHOE, 0.25, 0.75, 0.93)
    parts = [
        (1.55, 1.25, "FashionCLIP", "sees the photo\n(frozen)", FROZEN),
        (3.1, 1.2, "projection", "translates\n(trained)", TRAINED),
        (4.6, 1.05, "OPT", "writes\n(trained)", TRAINED),
    ]
    end = 1.21
    for x, width, title, body, colour in parts:
        page.arrow((end, 1.39), (x - 0.03, 1.39))
        page.box(x, 0.98, width, 0.82, title, body, colour)
        end = x + width + 0.03
    page.arrow((5.68, 1.39), (5.97, 1.39))
    page.text(6.05, 1.39, "“Green casual\nshoes for women”", size=9.5, align="left", weight="bold")
    page.text(3.7, 2.02, "MODA", size=10.5, weight="bold")
    page.text(0.15, 0.3, "Extras", size=9, align="left", weight="bold")
    for place, title in enumerate(("07  Use it", "08  Ablations", "09  Scale up")):
        page.box(0.85 + place * 1.45, 0.13, 1.3, 0.34, body=title, dashed=True, fill=0.05)
    page.save("hero.png")


def pipeline(name: str, active: str) -> None:
    """How photos become a dataset; the part named `active` is filled, the others are pale."""
    page = Page(2.95)

    def part(key):
        return {
            "colour": ORANGE if key == active else GREY,
            "fill": 0.22 if key == active else 0.06,
        }

    page.box(0.12, 0.12, 1.5, 2.7, **part("01"))
    page.text(0.87, 2.64, "01  Dataset", weight="bold")
    page.photo(SHIRT, 0.36, 1.12, 1.02)
    page.text(0.87, 0.6, "gender: Girls\ntype: Tshirts\ncolour: Navy Blue\nusage: Casual", size=7.8,
              linespacing=1.35, family=CODE)  # fmt: skip
    for x, key, title, model, says, note in (
        (2.0, "02", "02  Captions", "Prompt I\nPhi-3 Vision",
         "“A navy blue girls’\nT-shirt with the\ntext SURF”", "reads what is printed"),
        (4.5, "03", "03  Refinement", "Prompt II\nPhi-3 Instruct",
         "“Navy blue casual\nT-shirt for girls”", "the metadata wins"),
    ):  # fmt: skip
        page.box(x, 0.12, 2.12, 2.7, **part(key))
        page.text(x + 1.06, 2.64, title, weight="bold")
        page.box(x + 0.46, 1.86, 1.2, 0.56, body=model, colour=BLUE)
        page.arrow((x + 1.06, 1.83), (x + 1.06, 1.42))
        page.text(x + 1.06, 1.06, says, size=9, linespacing=1.3, style="italic")
        page.text(x + 1.06, 0.42, note, size=8, colour="#555555")
    page.arrow((1.38, 2.14), (2.43, 2.14))
    page.arrow((4.12, 1.06), (4.94, 2.0), connectionstyle="arc3,rad=0.15")
    # The metadata passes below the captions: only the refiner is told.
    page.arrow((1.62, 0.22), (4.5, 0.22))
    page.text(
        3.06, 0.22, " metadata ", size=8, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1}
    )
    page.arrow((6.62, 1.06), (6.86, 1.06))
    page.box(6.86, 0.62, 0.68, 0.88, body="dataset/\nphotos +\ntexts", colour=GREEN)
    page.save(name)


def architecture() -> None:
    page = Page(3.6)
    page.photo(SHOE, 0.15, 1.95, 0.95)
    page.text(0.62, 3.38, "224 × 224 pixels", size=8)
    page.arrow((1.15, 2.58), (1.42, 2.58))
    page.box(1.45, 2.1, 1.45, 0.96, "FashionCLIP", "image encoder\nfrozen", FROZEN)
    page.arrow((2.95, 2.58), (3.5, 2.58))
    page.text(3.22, 2.73, "512", size=8.5)
    page.box(3.53, 1.98, 1.75, 1.2, colour=TRAINED)
    page.text(4.4, 3.03, "projection", weight="bold")
    page.text(
        4.4, 2.5, "Linear 512 → 3,072\nGELU\nLinear 3,072 → 768\ntrained", size=8, linespacing=1.35
    )
    page.text(5.45, 2.58, "768 numbers: one more\n“word” for the language\nmodel to read", size=8.5,
              align="left", linespacing=1.3)  # fmt: skip
    words = ["image", "</s>", "Green", "casual", "shoes", "for", "women"]
    asked = ["", *words[2:], "</s>"]
    width = 0.86
    for place, (word, answer) in enumerate(zip(words, asked, strict=True)):
        x = 1.28 + place * (width + 0.03)
        colour = TRAINED if word == "image" else GREY
        page.box(x, 1.12, width, 0.3, body=word, colour=colour)
        page.arrow((x + width / 2, 1.09), (x + width / 2, 0.98), mutation_scale=6)
        if answer:
            page.arrow((x + width / 2, 0.57), (x + width / 2, 0.46), mutation_scale=6)
            page.box(x, 0.13, width, 0.3, body=answer, colour=GREEN)
        else:
            page.text(x + width / 2, 0.28, "nothing asked", size=7.5, colour="#555555")
    page.arrow(
        (4.4, 1.98), (1.28 + width / 2, 1.44), connectionstyle="angle,angleA=-90,angleB=180,rad=6"
    )
    page.box(
        1.28, 0.6, 7 * width + 0.18, 0.35, title="OPT-125M, 12 layers, trained", colour=TRAINED
    )
    page.text(1.18, 1.27, "reads", size=8.5, align="right")
    page.text(1.18, 0.28, "must say", size=8.5, align="right")
    page.save("04.png")


def training() -> None:
    page = Page(2.5)
    page.box(0.12, 0.2, 3.05, 2.1, colour=FROZEN, fill=0.05)
    page.text(1.64, 2.12, "once: embed every photo", weight="bold")
    page.photo(SHOE, 0.25, 0.72, 0.72)
    page.arrow((1.0, 1.2), (1.17, 1.2))
    page.box(1.2, 0.85, 0.95, 0.7, "encoder", "frozen", FROZEN)
    page.arrow((2.18, 1.2), (2.35, 1.2))
    page.box(2.38, 0.85, 0.68, 0.7, "cache", "N × 512", GREEN)
    page.text(1.64, 0.4, "a frozen encoder says the same every time", size=8)
    page.arrow((3.1, 1.2), (3.62, 1.2))
    page.box(3.42, 0.2, 4.06, 2.1, colour=TRAINED, fill=0.05)
    page.text(5.45, 2.12, "every step: predict the next word", weight="bold")
    page.box(3.65, 0.85, 1.0, 0.7, "projection", "trained", TRAINED)
    page.arrow((4.68, 1.2), (4.92, 1.2))
    page.box(4.95, 0.85, 0.85, 0.7, "OPT", "trained", TRAINED)
    page.arrow((5.83, 1.2), (6.07, 1.2))
    page.box(6.1, 0.85, 1.2, 0.7, "loss", "cross-entropy", PURPLE)
    page.arrow((6.7, 0.82), (4.15, 0.82), colour=PURPLE, connectionstyle="bar,fraction=-0.12")
    page.text(5.45, 0.35, "gradients: AdamW changes both", size=8, colour=PURPLE)
    page.save("05.png")


def ladder() -> None:
    page = Page(1.95)
    page.arrow((0.2, 0.62), (7.4, 0.62), linewidth=2)
    page.text(0.2, 0.3, "worse", align="left")
    page.text(7.4, 0.3, "better", align="right")
    groups = [
        (0.2, 2.35, "floors", GREY, ["shuffled photos", "blind", "majority"]),
        (2.75, 2.1, "rivals", ORANGE, ["nearest photo", "zero-shot"]),
        (5.05, 2.35, "ceilings: told the answers", GREEN, ["teacher", "template"]),
    ]
    for x, width, title, colour, systems in groups:
        page.box(x, 0.78, width, 1.02, colour=colour)
        page.text(x + width / 2, 1.6, title, weight="bold")
        page.text(x + width / 2, 1.15, "\n".join(systems), size=8.5, linespacing=1.3)
    page.text(3.8, 0.3, "Where on this line is MODA?", size=10.5, colour=VERMILION, weight="bold")
    page.save("06.png")


if __name__ == "__main__":
    hero()
    for notebook in ("01", "02", "03"):
        pipeline(f"{notebook}.png", notebook)
    architecture()
    training()
    ladder()
