"""The whole course on one page, and where each notebook stands in it."""

from .board import (
    BODY,
    FROZEN,
    GREY,
    HEAD,
    HERE,
    INK,
    MADE,
    SHOE,
    SMALL,
    SOFT,
    TITLE,
    TRAINED,
    Page,
)  # fmt: skip


def hero() -> Page:
    """Shown where a notebook has no figure of its own, and by README."""
    page = Page(3.75)
    heading = "From a folder of shop photos to a small vision-language model"
    page.text(0.15, 3.5, heading, TITLE, align="left", weight="bold")
    notebooks = [
        ("00 Start", "a VLM in\none minute"), ("01 Dataset", "look, check,\nsplit"),
        ("02 Caption", "Phi-3 Vision\ndescribes"), ("03 Refine", "Phi-3 Instruct\ncorrects"),
        ("04 Build", "join encoder\nand OPT"), ("05 Train", "loss curves,\nresume"),
        ("06 Evaluate", "five criteria,\nwith floors"),
    ]  # fmt: skip
    for place, (title, body) in enumerate(notebooks):
        x = 0.15 + place * 1.054
        page.box(x, 2.3, 0.97, 0.95, colour=MADE)
        page.text(x + 0.485, 3.05, title, weight="bold")
        page.text(x + 0.485, 2.66, body, SMALL)
        if place:
            page.arrow((x - 0.085, 2.66), (x, 2.66), mutation_scale=7)
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
    page.text(6.05, 1.39, "“Green casual\nshoes for women”", align="left", weight="bold")
    page.text(3.7, 2.02, "MODA", HEAD, weight="bold")
    page.text(0.15, 0.3, "Extras", align="left", weight="bold")
    for place, title in enumerate(("07  Use it", "08  Ablations", "09  Scale out")):
        page.box(0.85 + place * 1.45, 0.13, 1.3, 0.34, body=title, dashed=True, fill=0.05)
    return page


# What the course builds: name, what it does, centre, and the notebook that adds it.
NODES = {
    "photos": ("photos", "checked, split", 0.85, 1.72, 1),
    "captions": ("captions", "Phi-3 Vision", 2.42, 1.72, 2),
    "refined": ("refined", "Phi-3 Instruct", 3.99, 1.72, 3),
    "encoder": ("encoder", "sees", 0.85, 0.72, 4),
    "projection": ("projection", "translates", 2.42, 0.72, 4),
    "OPT": ("OPT", "writes", 3.99, 0.72, 4),
    "loss": ("training", "the loss falls", 5.4, 1.22, 5),
    "scores": ("scores", "with floors", 6.8, 1.22, 6),
}
LINKS = [
    ("photos", "captions"), ("captions", "refined"), ("photos", "encoder"),
    ("encoder", "projection"), ("projection", "OPT"), ("refined", "loss"), ("OPT", "loss"),
    ("loss", "scores"),
]  # fmt: skip
EXTRAS = {7: "07  Use it", 8: "08  Ablations", 9: "09  Scale out"}
SHORT = {"photos", "encoder", "projection", "OPT", "loss"}  # what notebook 00 makes in one minute


def course_map(notebook: int) -> Page:
    """What stands before a notebook (solid), what it adds (orange), what is still to come."""
    page = Page(2.2)

    def state(name):
        added = NODES[name][4]
        if added == notebook or (notebook == 0 and name in SHORT):
            return "here"
        return "there" if added < notebook else "later"

    look = {
        "here": {"colour": HERE, "fill": 0.3}, "there": {"colour": MADE, "fill": 0.12},
        "later": {"colour": GREY, "fill": 0.03, "dashed": True},
    }  # fmt: skip
    wide, tall = 1.24, 0.52
    for start, end in LINKS:
        (x, y), (right, top) = NODES[start][2:4], NODES[end][2:4]
        if x == right:
            a, b = (x, y - tall / 2), (right, top + tall / 2)
        else:
            a, b = (x + wide / 2, y), (right - wide / 2, top)
        pale = "later" in (state(start), state(end))
        bend = {} if x == right or y == top else {"connectionstyle": "arc3,rad=0"}
        page.arrow(a, b, colour=GREY if pale else INK, **bend)
    for name, (title, body, x, y, _) in NODES.items():
        now = state(name)
        colour = SOFT if now == "later" else INK
        page.box(x - wide / 2, y - tall / 2, wide, tall, **look[now])
        page.text(x, y + 0.1, title, BODY, colour, weight="bold" if now == "here" else "normal")
        page.text(x, y - 0.12, body, SMALL, colour)
    page.text(0.23, 0.21, _here(notebook), align="left", weight="bold")
    for place, (number, title) in enumerate(EXTRAS.items()):
        now = "here" if number == notebook else "there" if number < notebook else "later"
        page.box(3.6 + place * 1.28, 0.07, 1.2, 0.28, **look[now])
        page.text(4.2 + place * 1.28, 0.21, title, SMALL, SOFT if now == "later" else INK)
    return page


def _here(notebook: int) -> str:
    if notebook == 0:
        return "Notebook 00: all of it once, in small"
    if notebook in EXTRAS:
        return f"Notebook {notebook:02}: an extra"
    return f"Notebook {notebook:02} adds what is orange"


FIGURES = {
    "hero": hero,
    **{f"moda_{number:02}": lambda number=number: course_map(number) for number in range(10)},
}
