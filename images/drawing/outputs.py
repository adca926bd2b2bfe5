"""Pictures that are not drawn but taken from the stored outputs of a notebook, stamp and all."""

import base64
import io
import json
from pathlib import Path

from PIL import Image

from .board import HEAD, SMALL, SOFT, WIDTH, Page

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


def output_picture(notebook: str, code: str) -> Image.Image:
    """The picture below the first cell of a stored notebook that holds this code.

    Raises:
        ValueError: no such cell, or no picture below it.
    """
    cells = json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        if cell["cell_type"] == "code" and code in "".join(cell["source"]):
            for output in cell["outputs"]:
                if picture := output.get("data", {}).get("image/png"):
                    return Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    raise ValueError(f"{notebook}: no picture below a cell with {code!r}; execute it first.")


def strip() -> Page:
    """What the reader has at the end: `describe`, and what it says about four photos."""
    said = output_picture("07_use_it", 'title="Described"')
    width = WIDTH - 0.3
    height = width * said.height / said.width
    page = Page(height + 0.75, colours=128)
    axis = page.figure.add_axes(
        (0.15 / WIDTH, 0.35 / (height + 0.75), width / WIDTH, height / (height + 0.75))
    )
    axis.imshow(said, aspect="auto", interpolation="lanczos")
    axis.axis("off")
    title = "At the end you have a model that says this about photos it has never seen"
    page.text(0.15, height + 0.56, title, HEAD, align="left", weight="bold")
    note = (
        "A stored output of notebook 07: the small model, the first four photos of the test split"
    )
    page.text(0.15, 0.17, note, SMALL, SOFT, "left")
    return page


FIGURES = {"strip": strip}
