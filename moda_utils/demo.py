"""A web page on this machine: photos in, descriptions with their attributes and the time out.

python -m moda_utils.serving --demo

Photos stay on the machine that runs it. Page, style and fonts come from there, too; gradio's
statistics are off.
"""

import base64
import html
import io
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from moda_utils.attributes import extract
from moda_utils.catalog import load_catalog
from moda_utils.profiles import get_profile
from moda_utils.serving import NOTES, describe_each, load_model, open_checked

EXAMPLES = 6
MOST = 32  # photos at once
INTRO = """# MODA
Drop photos of clothes or shoes, or pick an example.
Photos go to the machine that runs this page, and no further."""
STYLE = Path(__file__).with_name("demo.css").read_text(encoding="utf-8")
FONTS = ["ui-sans-serif", "system-ui", "sans-serif"]  # what the reader's machine has


def page(model: Path | str | None = None, int8: bool = True) -> gr.Blocks:
    """The page, not yet served; `model` and `int8` as in `describe`.

    Raises:
        FileNotFoundError: nothing is trained yet.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # gradio looks here before it calls home
    moda, _ = load_model(model, int8)  # now, not at the first visitor's photo
    with gr.Blocks(title="MODA") as blocks:
        gr.Markdown(INTRO)
        if note := NOTES.get(moda.config.trained_on):
            gr.Markdown(f"*{note}*")
        with gr.Row():
            with gr.Column(scale=2):
                files = gr.File(label="Photos", file_count="multiple", elem_id="photos")
                gr.Markdown("**Examples**")
                examples = gr.Gallery(
                    _examples(), show_label=False, columns=3, height="auto", allow_preview=False,
                    interactive=False, object_fit="contain", buttons=[], elem_id="examples",
                )  # fmt: skip
            with gr.Column(scale=3):
                cards = gr.HTML(label="Descriptions", elem_id="cards")

        def chosen(event: gr.SelectData) -> str:
            return describe_cards([event.value["image"]["path"]], model, int8)

        files.change(lambda paths: describe_cards(paths or [], model, int8), files, cards)
        examples.select(chosen, None, cards)
    return blocks


def launch(model: Path | str | None = None, int8: bool = True, **options: Any) -> gr.Blocks:
    """Serve the page to this machine only. Returns when it is closed; from a notebook, at once.

    Args:
        options: of `gradio.Blocks.launch`, such as `server_port` or `prevent_thread_lock`.
    """
    options = {"server_name": "127.0.0.1", "share": False, **options}
    theme = gr.themes.Default(font=FONTS, font_mono=["ui-monospace", "monospace"])
    blocks = page(model, int8)
    blocks.launch(theme=theme, css=STYLE, footer_links=[], ssr_mode=False, **options)
    return blocks


def describe_cards(paths: Sequence[str], model: Path | str | None = None, int8: bool = True) -> str:
    """HTML: for each file its photo, description, attributes and time, or what is wrong with it."""
    moda, processor = load_model(model, int8)
    cards = []
    for path in paths[:MOST]:  # one by one, so that the time is that of one photo
        began = time.perf_counter()
        [result] = describe_each([path], moda, processor)
        milliseconds = 1000 * (time.perf_counter() - began)
        name = Path(path).name
        if isinstance(result, Exception):
            # The upload's folder says nothing to the visitor.
            body = f'<p class="wrong">{html.escape(str(result).replace(path, name))}</p>'
            cards.append(f'<div class="card"><div>{body}</div></div>')
            continue
        stated = extract(result)
        values = [*stated.colours, *stated.product_types, *stated.genders, *stated.usages]
        chips = "".join(f'<span class="chip">{html.escape(value)}</span>' for value in values)
        cards.append(
            f'<div class="card"><img alt="" src="{_thumbnail(path)}"><div>'
            f'<p class="said">{html.escape(result)}</p>{chips}'
            f'<div class="file">{html.escape(name)}, '
            f'<span class="took">{milliseconds:.0f} ms</span></div></div></div>'
        )
    if len(paths) > MOST:
        cards.append(f'<p class="wrong">{len(paths)} photos: the first {MOST} are described.</p>')
    return "".join(cards)


def _thumbnail(path: str) -> str:
    """The photo in the page itself: no second request, no file to clean up."""
    photo = open_checked(path)
    photo.thumbnail((240, 320))
    stream = io.BytesIO()
    photo.save(stream, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _examples() -> list[str]:
    """Photos of the catalogue's test split, of as many types as there is room for."""
    profile = get_profile()
    if not profile.catalog_path.exists():
        return []
    catalog = load_catalog(profile.catalog_path)
    test = catalog.frame[catalog.frame["split"] == "test"]
    some = test.drop_duplicates("product_type").head(EXAMPLES)
    return [str(catalog.root / name) for name in some["image"]]
