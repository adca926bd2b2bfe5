"""Losses of the original notebook, how descriptions are scored, and where one goes from there."""

import matplotlib
import pandas as pd

from moda_utils.evaluation import CRITERIA, grade
from moda_utils.plots import ORIGINAL_LOSSES

from .board import (
    BLUE,
    BODY,
    CODE,
    FROZEN,
    GREEN,
    GREY,
    HEAD,
    INK,
    MADE,
    ORANGE,
    PURPLE,
    SMALL,
    SOFT,
    TRAINED,
    VERMILION,
    WIDTH,
    Page,
)  # fmt: skip


def seed_loss() -> Page:
    page = Page(3.3)
    title = "The original notebook’s losses (not ours): real photos, template captions"
    page.text(0.15, 3.1, title, HEAD, align="left", weight="bold")
    epochs, train, validation = zip(*ORIGINAL_LOSSES, strict=True)
    for left, scale in ((0.55, "linear"), (4.2, "log")):
        axis = page.figure.add_axes((left / WIDTH, 0.72 / 3.3, 3.2 / WIDTH, 2.05 / 3.3))
        for values, colour, marker, label in (
            (train, BLUE, "o", "train"), (validation, ORANGE, "s", "validation"),
        ):  # fmt: skip
            axis.plot(epochs, values, color=colour, marker=marker, markersize=4, label=label)
        axis.set_yscale(scale)
        axis.set_xticks((1, 5, 10, 15, 20))
        axis.tick_params(labelsize=SMALL)
        axis.set_xlabel("epoch", fontsize=BODY)
        axis.set_title("loss" if scale == "linear" else "the same, logarithmic", fontsize=BODY,
                       weight="normal")  # fmt: skip
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axis.set_yticks((0.2, 0.5, 1, 2, 5))
    axis.legend(fontsize=SMALL)
    note = (
        "2,906 photos, FashionCLIP and OPT-125M, 20 epochs in 104 minutes on an A100 (Google Colab)"
    )
    page.text(0.15, 0.17, note, SMALL, SOFT, "left")
    return page


def evaluation() -> Page:
    """From a sentence to five grades. The grades are computed, not typed."""
    page = Page(3.35)
    said = "Green casual shoes for girls"
    truth = {"colour": "Green", "usage": "Casual", "product_type": "Casual Shoes",
             "gender": "Women"}  # fmt: skip
    grades = grade([said], pd.DataFrame([truth])).iloc[0]
    page.box(0.12, 2.3, 2.1, 0.85, "description", f"“{said}”", TRAINED)
    page.box(0.12, 0.55, 2.1, 1.35, colour=MADE)
    page.text(1.17, 1.7, "catalogue row", weight="bold")
    row = "\n".join(f"{name}: {value}" for name, value in truth.items())
    page.text(1.17, 1.12, row, SMALL, family=CODE)
    page.arrow((2.25, 2.72), (2.62, 2.72))
    page.box(2.65, 2.3, 1.5, 0.85, "lexicon", "which words state\nan attribute?", FROZEN)
    page.arrow((3.4, 2.27), (3.4, 1.68))
    page.box(2.65, 0.8, 1.5, 0.85, "compare", "does it hold?", PURPLE)
    page.arrow((2.25, 1.22), (2.62, 1.22))
    page.arrow((4.18, 1.22), (4.55, 1.22))
    asks = {
        "colour": "the item’s colours, F1", "style": "the usage", "category": "the product type",
        "gender": "for whom", "factual_consistency": "share of what is stated", "overall": "mean",
    }  # fmt: skip
    page.text(4.65, 3.02, "criterion, and what it asks", align="left", weight="bold")
    page.text(7.48, 3.02, "0 to 10", align="right", weight="bold")
    for place, name in enumerate(CRITERIA):
        y = 2.67 - place * 0.37
        label = name.replace("_", " ")
        page.text(4.65, y + 0.08, label, BODY, align="left", weight="bold")
        page.text(4.65, y - 0.1, asks[name], SMALL, SOFT, "left")
        value = grades[name]
        colour = GREEN if value == 10 else ORANGE
        page.axis.bar(6.32, 0.14, value * 0.08, y - 0.07, align="edge", color=colour)
        page.text(7.48, y, f"{value:.1f}", align="right")
    note = "Anybody can check these rules; what a grade of 10 leaves out is said in notebook 06"
    page.text(0.12, 0.2, note, SMALL, SOFT, "left")
    return page


def ladder() -> Page:
    page = Page(1.95)
    page.arrow((0.2, 0.62), (7.4, 0.62), linewidth=2)
    page.text(0.2, 0.3, "worse", align="left")
    page.text(7.4, 0.3, "better", align="right")
    groups = [
        (0.2, 2.35, "floors", GREY, ["shuffled photos", "blind", "majority"]),
        (2.75, 2.1, "rivals", ORANGE, ["nearest photo", "zero-shot"]),
        (5.05, 2.35, "ceilings: told the answers", GREEN, ["refined teacher", "template"]),
    ]
    for x, width, title, colour, systems in groups:
        page.box(x, 0.78, width, 1.02, colour=colour)
        page.text(x + width / 2, 1.6, title, weight="bold")
        page.text(x + width / 2, 1.14, "\n".join(systems), SMALL)
    page.text(3.8, 0.3, "Where on this line is MODA?", HEAD, VERMILION, weight="bold")
    return page


def use() -> Page:
    """Four ways from the trained model to somebody who needs a description."""
    page = Page(2.5)
    page.box(0.12, 0.82, 1.45, 0.86, "trained MODA", "runs/moda/best", TRAINED)
    page.arrow((1.6, 1.25), (1.87, 1.25))
    page.box(1.9, 0.82, 1.45, 0.86, "lighter", "int8 weights,\nphoto encoded once", ORANGE)
    ways = [
        ("your program", "describe(“photo.jpg”)"), ("a folder", "every photo, one table"),
        ("a web page", "upload and read"), ("the Hub", "share, with a model card"),
    ]  # fmt: skip
    for place, (title, body) in enumerate(ways):
        y = 1.9 - place * 0.58
        page.arrow((3.38, 1.25), (3.97, y + 0.22), connectionstyle="arc3,rad=0")
        page.box(4.0, y, 3.45, 0.46, colour=GREEN)
        page.text(4.12, y + 0.23, title, align="left", weight="bold")
        page.text(5.4, y + 0.23, body, SMALL, align="left")
    return page


def scaling() -> Page:
    """Which limit is reached, and what moves it."""
    page = Page(3.0)
    columns = [(0.12, 2.3, "The limit"), (2.6, 2.3, "What moves it"), (5.08, 2.4, "What changes")]
    for x, _, title in columns:
        page.text(x + 0.08, 2.82, title, HEAD, align="left", weight="bold")
    rows = [
        ("training takes too long", "more GPUs: Accelerate", "each takes a share of the\nbatch;"
         " gradients are added up"),
        ("the model doesn’t fit", "sharding: FSDP", "each GPU keeps a part of the\nweights; MODA"
         " never needs it"),
        ("too many photos", "more workers: Ray Data", "shards of photos stream by;\na lost shard"
         " is done again"),
        ("too many words to write", "an engine: vLLM", "requests share batches and\nthe cache of"
         " their prompts"),
    ]  # fmt: skip
    for place, row in enumerate(rows):
        y = 2.02 - place * 0.64
        for (x, width, _), text, colour in zip(columns, row, (GREY, BLUE, GREEN), strict=True):
            page.box(x, y, width, 0.55, colour=colour)
            if colour == GREEN:
                page.text(x + width / 2, y + 0.275, text, SMALL)
            else:
                page.text(x + width / 2, y + 0.275, text, BODY, INK)
        page.arrow((2.45, y + 0.275), (2.58, y + 0.275), mutation_scale=7)
        page.arrow((4.93, y + 0.275), (5.06, y + 0.275), mutation_scale=7)
    return page


FIGURES = {
    "seed_loss": seed_loss, "06": ladder, "evaluation": evaluation, "07": use, "09": scaling,
}  # fmt: skip
