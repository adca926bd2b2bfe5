"""The two large models that write the training texts: their prompts, tiles, and one weakness."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from moda_utils.mini.drawing import draw_item
from moda_utils.phi3_vision import Phi3VisionImageProcessor

from .board import (
    BLUE,
    BODY,
    CODE,
    FROZEN,
    GREEN,
    GREY,
    HEAD,
    INK,
    ORANGE,
    PURPLE,
    SHIRT,
    SMALL,
    SOFT,
    TRAINED,
    VERMILION,
    Item,
    Page,
    tint,
)  # fmt: skip

PROMPTS = Path(__file__).resolve().parents[2] / "moda_utils"
LINE = 0.148  # inches from line to line
COLUMNS = 62  # characters of the prompt's column


@dataclass
class Note:
    """A part of a prompt: the words that it begins with, and what they are there for."""

    begins: str
    title: str
    body: str


PROMPT_1 = [
    Note("<|user|>", "chat format", "the photo’s vectors take\nthe place of its tag"),
    Note("Analyze the image", "the item, not its wearer", "people would be described at\nlength,"
         " and nothing about them\nis for sale"),
    Note("The description should", "what to name", "the catalogue’s columns: only\nthese can be"
         " checked later"),
    Note("The output should", "JSON", "a program reads the answer"),
    Note("Exemple 1", "three examples", "they show length and tone"),
    Note("Please ensure", "once more, at the end", "the form is asked for twice"),
    Note("Do not write", "no printed words", "forbidden, and written all the\nsame: the OCR"
         " problem"),
    Note("<|end|>", "your turn", "the model writes from here on"),
]  # fmt: skip
PROMPT_2 = [
    Note("A vision model looked", "who knows what", "one saw the photo, the other\nkeeps the shop’s"
         " books"),
    Note("Description:", "filled in for each item", "$ marks what is replaced: the\nfirst"
         " description and the\ncatalogue’s row"),
    Note("The catalogue is right", "the metadata wins", "and has to be named whole, so\nthat the"
         " text can be scored"),
    Note("Remove every text", "no printed words", "this model sees no photo and\ncan’t read one"),
    Note("Do not mention", "no wearer", ""),
    Note("Keep what only", "but keep what was seen", "pattern and cut stand in no\ncolumn"),
    Note("Write one natural", "length", ""),
    Note("Begin it with", "another start for each item", ""),
    Note("The output should", "JSON", "a program reads the answer"),
]  # fmt: skip
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, VERMILION)


def prompt(file: str, notes: Sequence[Note]) -> Page:
    """A prompt as the file holds it, without empty lines, and a remark beside each part.

    Raises:
        ValueError: the prompt has changed and a part is not in it any more.
    """
    text = (PROMPTS / file).read_text(encoding="utf-8")
    parts: list[list[str]] = [[]]
    for line in text.splitlines():
        if len(parts) <= len(notes) and line.startswith(notes[len(parts) - 1].begins):
            parts.append([])
        elif parts[-1] and len(parts[-1][-1]) > COLUMNS and line[:1].isalpha():
            parts[-1][-1] += " " + line  # one paragraph
            continue
        parts[-1] += [line] if line.strip() else []
    if len(parts) <= len(notes):
        raise ValueError(f"{file} has no line that begins with {notes[len(parts) - 1].begins!r}.")
    lines = [
        (row, number)
        for number, part in enumerate(parts[1:])
        for line in part
        for row in textwrap.wrap(line, COLUMNS)
    ]
    page = Page(LINE * len(lines) + 0.45, colours=64)
    top = page.figure.get_figheight() - 0.22
    page.box(0.1, 0.1, 4.62, top, colour=GREY, fill=0.04)
    for row, (line, _) in enumerate(lines):
        page.text(0.2, top - 0.03 - row * LINE, line, SMALL, align="left", family=CODE,
                  parse_math=False)  # fmt: skip
    free = top + 0.1  # the remarks grow downwards and keep out of each other's way
    for number, note in enumerate(notes):
        rows = [row for row, (_, part) in enumerate(lines) if part == number]
        first, last = (top - 0.03 - row * LINE for row in (rows[0], rows[-1]))
        colour = COLOURS[number % len(COLOURS)]
        page.axis.plot([4.8, 4.8], [first + 0.06, last - 0.06], color=colour, linewidth=4,
                       solid_capstyle="butt")  # fmt: skip
        tall = 0.16 + 0.15 * (note.body.count("\n") + 1 if note.body else 0)
        middle = min((first + last) / 2, free - tall / 2 - 0.05)
        page.axis.plot([4.86, 5.0], [(first + last) / 2, middle], color=colour, linewidth=1.2)
        page.text(5.05, middle + tall / 2 - 0.08, note.title, BODY, INK, "left", "bold")
        if note.body:
            page.text(5.05, middle - 0.08, note.body, SMALL, SOFT, "left")
        free = middle - tall / 2
    return page


def tiles() -> Page:
    """How Phi-3 Vision cuts a photo, with the sizes of the real model and of a Kaggle photo."""
    page = Page(3.4)
    cutter = Phi3VisionImageProcessor(num_crops=4)
    photo = draw_item(SHIRT, 3).resize((1080, 1440), Image.Resampling.LANCZOS)
    rows, columns = cutter.grid(*photo.size)
    fitted = cutter.fit(photo)
    page.photo(photo, 0.15, 1.35, 1.05)
    page.text(0.67, 1.17, f"{photo.width} × {photo.height}", SMALL)
    page.arrow((1.25, 2.05), (1.6, 2.05))
    side, gap, x0, y0 = 0.78, 0.05, 1.65, 1.25
    for row in range(rows):
        for column in range(columns):
            s = cutter.tile_size
            box = (column * s, row * s, (column + 1) * s, (row + 1) * s)
            page.photo(fitted.crop(box), x0 + column * (side + gap),
                       y0 + (rows - 1 - row) * (side + gap), side)  # fmt: skip
    page.text(x0 + side, 3.1, f"padded to {rows} × {columns} tiles", BODY, weight="bold")
    page.text(x0 + side, 1.07, f"{s} × {s} pixels each", SMALL)
    page.photo(fitted.resize((s, s)), x0 + 0.42, 0.12, side)
    page.text(x0 + 0.36, 0.56, "global\nview", SMALL, align="right")
    right = x0 + 2 * side + gap
    patches = s // cutter.patch_size
    page.arrow((right + 0.08, 2.05), (right + 0.36, 2.05))
    page.box(right + 0.4, 1.6, 1.12, 0.9, "CLIP", f"{patches} × {patches} patches\nper tile",
             FROZEN)  # fmt: skip
    page.arrow((right + 1.55, 2.05), (right + 1.83, 2.05))
    merged = f"{patches // 2} × {patches // 2}\nper tile"
    page.box(right + 1.87, 1.6, 1.02, 0.9, "2 × 2 merge", merged, ORANGE)  # fmt: skip
    page.text(right + 3.0, 2.05, "an MLP, and\ninto the\nprompt", SMALL, SOFT, "left")
    left = right + 0.4
    page.text(left, 1.17, "Places in the prompt", BODY, align="left", weight="bold")
    for line, crops in enumerate((1, 4, 16)):
        cut = Phi3VisionImageProcessor(num_crops=crops)
        grid = cut.grid(*photo.size)
        places = cut.num_tokens(*grid)
        y = 0.89 - line * 0.27
        page.axis.bar(left + 1.42, 0.17, places / 1150, y - 0.085, align="edge",
                      color=tint(TRAINED, 0.6))  # fmt: skip
        page.text(left, y, f"at most {crops}: {grid[0]} × {grid[1]} tiles", SMALL, align="left")
        page.text(left + 1.5 + places / 1150, y, f"{places:,}", SMALL, align="left")
    return page


def ocr() -> Page:
    """Why captions that quote a print spoil a small model. An illustration, no model's output."""
    page = Page(3.3)
    plain = Item("Tshirts", "Topwear", "Apparel", "Boys", "Red", "Casual", sleeve="short")
    steps = [
        (0.12, "1  The teacher can read", SHIRT,
         "“A navy blue girls’ T-shirt\nwith the text SURF”", "Phi-3 Vision", "it sees every letter",
         FROZEN),
        (2.62, "2  The student learns it", None,
         "photo → 512 numbers\n→ “with the text SURF”", "MODA in training",
         "in 512 numbers a print shows,\nits letters hardly", TRAINED),
        (5.12, "3  And invents", plain,
         "“A red boys’ T-shirt\nwith the text SURF”", "MODA afterwards",
         "a frequent word is a good\nguess when you can’t read", VERMILION),
    ]  # fmt: skip
    for x, title, item, says, who, note, colour in steps:
        page.box(x, 0.55, 2.36, 2.63, colour=colour, fill=0.06)
        page.text(x + 1.18, 2.99, title, HEAD, weight="bold")
        if item:
            page.photo(item, x + 0.79, 1.78, 0.78)
        else:
            page.photo(SHIRT, x + 0.22, 1.78, 0.78)
            page.arrow((x + 1.05, 2.3), (x + 1.3, 2.3))
            for row in range(6):
                for column in range(5):
                    shade = ((row * 7 + column * 13) % 10) / 12 + 0.1
                    page.axis.bar(x + 1.36 + column * 0.15, 0.12, 0.13, 1.87 + row * 0.15,
                                  align="edge", color=tint(FROZEN, shade))  # fmt: skip
        page.text(x + 1.18, 1.63, who, SMALL, SOFT)
        page.text(x + 1.18, 1.3, says, BODY, style="italic")
        page.text(x + 1.18, 0.8, note, SMALL, SOFT)
    way_out = "The way out: Prompt II lets a model without eyes remove what was read (notebook 03)"
    page.text(3.8, 0.3, way_out, BODY, weight="bold")
    page.text(3.8, 0.11, "an illustration, not the output of a model", SMALL, SOFT)
    return page


FIGURES = {
    "prompt_1": lambda: prompt("prompt_1.txt", PROMPT_1),
    "prompt_2": lambda: prompt("prompt_2.txt", PROMPT_2),
    "tiles": tiles,
    "ocr": ocr,
}
