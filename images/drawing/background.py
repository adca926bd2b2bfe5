"""What a vision-language model is, and how the well-known ones are put together."""

from .board import (
    BODY,
    FROZEN,
    GREEN,
    GREY,
    HEAD,
    INK,
    ORANGE,
    SHOE,
    SMALL,
    SOFT,
    TRAINED,
    Page,
    tint,
)  # fmt: skip


def vlm() -> Page:
    """Any model of this construction: patches, connector, words."""
    page = Page(3.35)
    page.photo(SHOE, 0.15, 2.02, 0.9)
    page.arrow((1.1, 2.62), (1.35, 2.62))
    page.box(1.38, 2.2, 1.4, 0.84, "vision encoder", "pixels to vectors", FROZEN)
    page.arrow((2.81, 2.62), (3.06, 2.62))
    for place in range(4):
        page.box(3.1 + place * 0.2, 2.52, 0.17, 0.2, colour=FROZEN, fill=0.5)
    page.text(3.48, 2.9, "one per patch", SMALL, SOFT)
    page.arrow((3.93, 2.62), (4.18, 2.62))
    page.box(4.21, 2.2, 1.4, 0.84, "connector", "vectors to “words”", ORANGE)
    page.text(5.75, 2.62, "as wide as the\nlanguage model’s\nword vectors", SMALL, SOFT, "left")
    width, left = 0.545, 1.1
    words = ["", "", "", "", "What", "is", "this", "?", "A", "green", "shoe"]
    page.cells(left, 1.28, words, width, [GREY] * 11)
    page.cells(left, 1.28, ["▪"] * 4, width, [ORANGE] * 4)
    middle = left + 2 * (width + 0.03)
    page.arrow((4.91, 2.17), (middle + 0.3, 1.62))
    page.box(
        left, 0.72, 11 * width + 0.3, 0.36, title="language model: says what comes next",
        colour=TRAINED,
    )  # fmt: skip
    said = ["", "", "", "", "", "", "", "A", "green", "shoe", "(end)"]
    page.cells(left, 0.22, said, width, [GREEN] * 11)
    for place in range(11):
        x = left + place * (width + 0.03) + width / 2
        page.arrow((x, 1.25), (x, 1.11), mutation_scale=6)
        if said[place]:
            page.arrow((x, 0.69), (x, 0.55), mutation_scale=6)
    page.text(1.0, 1.43, "reads", align="right")
    page.text(1.0, 0.37, "writes", align="right")
    page.text(left, 0.37, "the picture stands in front, as if it were words", SMALL, SOFT, "left")
    return page


# name, billions in all, (part, billions of parameters, trained?) twice, what connects them. Sizes
# as the papers state them; MODA's are counted in notebook 04 (the encoder's text half is left out).
MODELS = [
    ("PaLI", "17", ("ViT-e", 3.9, False), ("mT5-XXL", 13, True), "linear layer"),
    ("MiniGPT-4", "14", ("ViT-g and Q-Former", 1.2, False), ("Vicuna", 13, False), "linear layer"),
    ("LLaVA", "7", ("CLIP ViT-L", 0.3, False), ("Vicuna", 6.7, True), "one layer (later two)"),
    ("PaliGemma", "2.9", ("SigLIP", 0.4, True), ("Gemma", 2.5, True), "linear layer"),
    ("MODA", "0.22", ("FashionCLIP", 0.088, False), ("OPT", 0.125, True), "two layers, GELU"),
]


def landscape() -> Page:
    """Encoder and language model side by side, to scale, and MODA once more under a lens."""
    page = Page(4.65)
    scale, left = 0.338, 1.35  # inches per billion parameters

    def bar(x, y, billions, trained, scale=scale):
        width = max(billions * scale, 0.02)
        page.axis.bar(
            x, 0.2, width, y, align="edge", color=tint(TRAINED if trained else FROZEN, 0.75),
            edgecolor="white", linewidth=0.6,
        )  # fmt: skip
        return x + width

    page.text(0.15, 4.46, "Parameters in billions, to scale", HEAD, align="left", weight="bold")
    for x, trained, label in ((4.55, False, "frozen"), (5.45, True, "trained")):
        bar(x, 4.36, 0.5, trained)
        page.text(x + 0.25, 4.46, label, SMALL, align="left")
    for row, (name, total, eye, mouth, connector) in enumerate(MODELS):
        y = 3.92 - row * 0.56
        page.text(0.15, y + 0.1, name, BODY, align="left", weight="bold")
        page.text(0.15, y - 0.11, f"{total} billion", SMALL, SOFT, "left")
        end = bar(left, y, *eye[1:])
        bar(end, y, *mouth[1:])
        parts = f"{eye[0]} {eye[1]}  +  {connector}  +  {mouth[0]} {mouth[1]}"
        page.text(left, y - 0.11, parts, SMALL, INK, "left")
    # The lens: MODA, enlarged.
    times = 60
    top, small = 1.68, 0.82
    page.axis.plot([left, left], [top - 0.2, small + 0.2], color=GREY, linewidth=0.8)
    page.axis.plot(
        [left + 0.22 * scale, left + 0.217 * scale * times], [top - 0.2, small + 0.2],
        color=GREY, linewidth=0.8,
    )  # fmt: skip
    page.text(0.15, small + 0.1, "MODA,", BODY, align="left", weight="bold")
    page.text(0.15, small - 0.11, f"enlarged {times} times", SMALL, SOFT, "left")
    x = left
    for name, millions, trained in (
        ("FashionCLIP, 88 million", 88, False),
        ("\nprojection,\n4 million", 4, True),
        ("OPT-125M, 125 million", 125, True),
    ):
        end = bar(x, small, millions / 1000, trained, scale * times)
        page.text((x + end) / 2, small - 0.05 - 0.075 * (name.count("\n") + 1), name, SMALL)
        x = end
    note = "FashionCLIP’s text half, 63 million more, is not needed to describe a photo"
    page.text(left, 0.15, note, SMALL, SOFT, "left")
    return page


FIGURES = {"vlm": vlm, "landscape": landscape}
