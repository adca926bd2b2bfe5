"""MODA from the inside: what it is made of, what it reads, and how it is trained."""

from .board import (
    CODE,
    FROZEN,
    GREY,
    HEAD,
    MADE,
    ORANGE,
    PURPLE,
    SHOE,
    SMALL,
    SOFT,
    TRAINED,
    Page,
    tint,
)  # fmt: skip

IGNORED = "-100"  # a label that asks nothing


def architecture() -> Page:
    page = Page(3.6)
    page.photo(SHOE, 0.15, 1.95, 0.95)
    page.text(0.62, 3.38, "224 × 224 pixels", SMALL)
    page.arrow((1.15, 2.58), (1.42, 2.58))
    page.box(1.45, 2.1, 1.45, 0.96, "FashionCLIP", "image encoder\nfrozen", FROZEN)
    page.arrow((2.95, 2.58), (3.5, 2.58))
    page.text(3.22, 2.75, "512", SMALL)
    page.box(3.53, 1.98, 1.75, 1.2, colour=TRAINED)
    page.text(4.4, 3.0, "projection", weight="bold")
    page.text(4.4, 2.5, "Linear 512 → 3,072\nGELU\nLinear 3,072 → 768\ntrained", SMALL)
    meaning = "768 numbers: one more\n“word” for the language\nmodel to read"
    page.text(5.45, 2.58, meaning, SMALL, SOFT, "left")
    words = ["image", "</s>", "Green", "casual", "shoes", "for", "women"]
    asked = ["", *words[2:], "</s>"]
    width, left = 0.86, 1.28
    page.cells(left, 1.12, words, width, [TRAINED, *[GREY] * 6])
    page.cells(left, 0.13, asked, width, [MADE] * 7)
    for place, answer in enumerate(asked):
        x = left + place * (width + 0.03) + width / 2
        page.arrow((x, 1.09), (x, 0.98), mutation_scale=6)
        if answer:
            page.arrow((x, 0.57), (x, 0.46), mutation_scale=6)
    page.text(left + width / 2, 0.28, "nothing asked", SMALL, SOFT)
    page.arrow(
        (4.4, 1.98), (left + width / 2, 1.44),
        connectionstyle="angle,angleA=-90,angleB=180,rad=6",
    )  # fmt: skip
    page.box(left, 0.6, 7 * width + 0.18, 0.35, "OPT-125M, 12 layers, trained", colour=TRAINED)
    page.text(1.18, 1.27, "reads", align="right")
    page.text(1.18, 0.28, "must say", align="right")
    return page


def sequence() -> Page:
    """Two descriptions in one batch: what is read, what is asked, and who may look at whom."""
    page = Page(3.5)
    width, left, step = 0.6, 0.95, 0.63
    batch = [
        ["image", "</s>", "Red", "dress", "for", "girls", "</s>"],
        ["image", "</s>", "Blue", "top", "</s>", "pad", "pad"],
    ]
    page.text(0.15, 3.3, "A batch of two", align="left", weight="bold")
    for row, words in enumerate(batch):
        y = 2.67 - row * 1.2
        colours = [{"image": TRAINED, "pad": "#BBBBBB"}.get(word, GREY) for word in words]
        page.cells(left, y, words, width, colours)
        end = words.index("</s>", 2)
        labels = [words[place + 1] if 1 <= place < end else IGNORED for place in range(len(words))]
        asked = [label if label != IGNORED else "" for label in labels]
        page.cells(left, y - 0.48, asked, width, [MADE] * len(words))
        for place, label in enumerate(labels):
            x = left + place * step + width / 2
            if label == IGNORED:
                page.text(x, y - 0.33, label, SMALL, SOFT, family=CODE)
            else:
                page.arrow((x, y - 0.02), (x, y - 0.16), mutation_scale=6)
        page.text(left - 0.08, y + 0.15, "input", align="right")
        page.text(left - 0.08, y - 0.33, "asked", align="right")
    notes = [
        "“-100” means: nothing is asked here. That holds for the place of the image",
        "(what follows is always </s>) and for padding. The closing </s> is asked:",
        "a model that is never taught to stop goes on for ever.",
    ]
    page.text(0.15, 0.4, "\n".join(notes), SMALL, SOFT, "left")
    page.text(5.62, 3.3, "Who may look at whom", align="left", weight="bold")
    words, size, x0, top = batch[0], 0.2, 6.12, 2.85
    for row, word in enumerate(words):
        y = top - row * size
        page.text(x0 - 0.06, y - size / 2, word, SMALL, align="right")
        for column in range(len(words)):
            colour = tint(ORANGE if column else TRAINED, 0.75 if column <= row else 0.06)
            page.axis.bar(x0 + column * size, size - 0.02, size - 0.02, y - size, align="edge",
                          color=colour)  # fmt: skip
    page.text(x0 + 0.7, 3.0, "looks at: the same words", SMALL, SOFT)
    page.text(5.62, 1.08, "Each word sees itself, what", SMALL, SOFT, "left")
    page.text(5.62, 0.92, "stands before it, and always", SMALL, SOFT, "left")
    page.text(5.62, 0.76, "the image (left column)", SMALL, SOFT, "left")
    return page


def training() -> Page:
    page = Page(2.5)
    page.box(0.12, 0.2, 3.05, 2.1, colour=FROZEN, fill=0.05)
    page.text(1.64, 2.08, "once: embed every photo", weight="bold")
    page.photo(SHOE, 0.25, 0.72, 0.72)
    page.arrow((1.0, 1.2), (1.17, 1.2))
    page.box(1.2, 0.85, 0.95, 0.7, "encoder", "frozen", FROZEN)
    page.arrow((2.18, 1.2), (2.35, 1.2))
    page.box(2.38, 0.85, 0.68, 0.7, "cache", "N × 512", MADE)
    page.text(1.64, 0.42, "a frozen encoder says the same every time", SMALL, SOFT)
    page.box(3.42, 0.2, 4.06, 2.1, colour=TRAINED, fill=0.05)
    page.arrow((3.09, 1.2), (3.62, 1.2))
    page.text(5.45, 2.08, "every step: predict the next word", weight="bold")
    page.box(3.65, 0.85, 1.0, 0.7, "projection", "trained", TRAINED)
    page.arrow((4.68, 1.2), (4.92, 1.2))
    page.box(4.95, 0.85, 0.85, 0.7, "OPT", "trained", TRAINED)
    page.arrow((5.83, 1.2), (6.07, 1.2))
    page.box(6.1, 0.85, 1.2, 0.7, "loss", "cross-entropy", PURPLE)
    page.text(6.7, 1.83, "the description", SMALL, SOFT)
    page.arrow((6.7, 1.74), (6.7, 1.58), colour=SOFT, mutation_scale=7)
    page.arrow((6.7, 0.82), (4.15, 0.82), colour=PURPLE, connectionstyle="bar,fraction=-0.1")
    page.arrow((5.375, 0.565), (5.375, 0.82), colour=PURPLE)
    page.text(5.45, 0.38, "gradients: AdamW changes both", SMALL, PURPLE)
    return page


def wirings() -> Page:
    """Seven ways from an encoder to a language model: what is seen, translated and read."""
    page = Page(4.85)
    for x, title in ((0.08, "As in"), (1.72, "Seen"), (3.1, "Projection"), (4.78, "Read"),
                     (6.37, "Decoder")):  # fmt: skip
        page.text(x, 4.65, title, HEAD, align="left", weight="bold")
    bent, straight = [("linear, GELU, linear", TRAINED)], [("linear", TRAINED)]
    rows = [
        ("MODA", 1, FROZEN, bent, 1, TRAINED),
        ("ClipCap", 1, FROZEN, [("linear, tanh, linear", TRAINED)], 10, TRAINED),
        ("LLaVA", 4, FROZEN, straight, 4, TRAINED),
        ("LLaVA-1.5", 4, FROZEN, bent, 4, TRAINED),
        ("PaLI", 4, FROZEN, straight, 4, TRAINED),
        ("PaliGemma", 4, TRAINED, straight, 4, TRAINED),
        ("MiniGPT-4", 4, FROZEN, [("queries", FROZEN), ("linear", TRAINED)], 3, FROZEN),
    ]
    for place, (system, seen, encoder, projection, read, language) in enumerate(rows):
        y = 4.0 - place * 0.6
        page.text(0.08, y + 0.18, system, align="left")
        page.cells(1.72, y + 0.03, [" "] * seen, 0.2, [encoder] * seen)
        page.arrow((1.72 + 0.23 * seen + 0.03, y + 0.18), (3.07, y + 0.18), mutation_scale=7)
        width = 1.38 / len(projection)
        for number, (layers, colour) in enumerate(projection):
            x = 3.1 + number * width
            page.box(x, y, width - 0.04 * (number + 1 < len(projection)), 0.36, colour=colour)
            page.text(x + width / 2, y + 0.18, layers, SMALL)
        page.arrow((4.51, y + 0.18), (4.75, y + 0.18), mutation_scale=7)
        cell = 0.2 if read < 10 else 0.1
        page.cells(4.78, y + 0.03, [" "] * read, cell, [TRAINED] * read)
        end = 4.78 + (cell + 0.03) * read + 0.03
        page.arrow((end, y + 0.18), (6.34, y + 0.18), mutation_scale=7)
        page.box(6.37, y, 1.13, 0.36, colour=language)
        page.text(6.935, y + 0.18, "trained" if language == TRAINED else "frozen", SMALL)
        if system.startswith("Pa"):  # its places see each other
            for first, last in ((0, 3), (3, 0)):
                ends = [(4.88 + 0.23 * part, y + 0.36) for part in (first, last)]
                bend = "arc3,rad=-0.35" if first < last else "arc3,rad=0.35"
                page.arrow(*ends, PURPLE, mutation_scale=7, connectionstyle=bend, linewidth=1)
    page.text(1.72, 0.15, "four boxes: one for each of hundreds of patches", SMALL, SOFT, "left")
    for x, colour, label in ((5.75, FROZEN, "frozen"), (6.65, TRAINED, "trained")):
        page.cells(x, 0.05, [" "], 0.2, [colour], 0.2)
        page.text(x + 0.3, 0.15, label, SMALL, align="left")
    return page


FIGURES = {"04": architecture, "sequence": sequence, "05": training, "08": wirings}
