"""HTML pages of executed notebooks, one file each, and an index. No outside request is made."""

import base64
import html
import io
import mimetypes
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import nbformat
from bs4 import BeautifulSoup, Tag
from nbconvert import HTMLExporter
from PIL import Image

from links import REPOSITORY, is_placeholder
from moda_utils.storage import atomic_path
from running import NOTEBOOKS, ROOT

CSS = (Path(__file__).parent / "pages.css").read_text(encoding="utf-8")
SEARCH = (Path(__file__).parent / "search.js").read_text(encoding="utf-8")
CARD_PIXELS = (800, 400)
LAST_CORE = 6  # notebooks 00 to 06 are the course, later ones are extras

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{css}</style>
</head>
<body>
{body}
</body>
</html>
"""


@dataclass(frozen=True)
class Lesson:
    """What a notebook says about itself in its first cells."""

    stem: str
    number: int
    title: str
    promise: str

    @property
    def core(self) -> bool:
        return self.number <= LAST_CORE

    @property
    def page(self) -> str:
        return f"{self.stem}.html"


@dataclass(frozen=True)
class Stamp:
    """Where the outputs on a page come from: shown on every page and card."""

    profile: str
    data: str
    items: int | None
    date: str

    def chips(self) -> list[str]:
        items = [f"{self.items:,} items"] if self.items is not None else []
        return [f"profile {self.profile}", f"{self.data} photos", *items]


class Heading(NamedTuple):
    """A numbered heading of a page: its level (2 or 3), its anchor and its words."""

    level: int
    anchor: str
    text: str


@dataclass(frozen=True)
class Card:
    """One notebook as the index shows it. `picture` is a data URI or empty.

    A notebook that has no page yet has a `command` that runs it, and no cost.
    """

    lesson: Lesson
    seconds: float = 0
    peak_bytes: int = 0
    picture: str = ""
    headings: Sequence[Heading] = ()
    command: str = ""


def read_lesson(notebook: nbformat.NotebookNode, stem: str) -> Lesson:
    """Title and promise: the first heading `# N. Title` and the paragraph below it (or its bold
    beginning).

    Raises:
        ValueError: no such heading.
    """
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    heading = re.search(r"^# (\d+)\. (.+)$", text, re.MULTILINE)
    if heading is None:
        raise ValueError(f"{stem}: the first heading must read '# N. Title'.")
    below = text[heading.end() :].strip().split("\n\n")
    promise = next((part for part in below if re.match(r"[\w*\"'`]", part)), "")
    if bold := re.match(r"\*\*(.+?)\*\*", promise, re.DOTALL):
        promise = bold.group(1)
    return Lesson(
        stem=stem,
        number=int(stem[:2]),
        title=_plain(heading.group(2)),
        promise=_plain(promise),
    )


def card_picture(notebook: nbformat.NotebookNode) -> str:
    """A small copy of the richest figure as a data URI, or an empty text without figures."""
    figures = [
        output.data["image/png"]
        for cell in notebook.cells
        if "setup" not in cell.metadata.get("tags", [])
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    if not figures:
        return ""
    image = Image.open(io.BytesIO(base64.b64decode(max(figures, key=len)))).convert("RGB")
    image.thumbnail(CARD_PIXELS)
    small = io.BytesIO()
    image.save(small, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(small.getvalue()).decode()


def write_page(
    notebook: nbformat.NotebookNode,
    lessons: Sequence[Lesson],
    position: int,
    stamp: Stamp,
    seconds: float,
    folder: Path,
    home: Path,
) -> list[Heading]:
    """Write the page of `lessons[position]` into `folder`; returns its headings.

    `home` is the folder where the pages will be read: relative links start there.
    """
    lesson = lessons[position]
    exporter = HTMLExporter(
        template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True
    )
    body, _ = exporter.from_notebook_node(_with_forms_tagged(notebook))
    soup = BeautifulSoup(body, "html.parser")
    _fold_forms(soup)
    _local_pictures(soup)
    _local_links(soup, {item.stem for item in lessons}, home)
    _name_figures(soup)
    for table in soup.select(".text_cell table"):
        table.wrap(soup.new_tag("div", attrs={"class": "scroll"}))
    for frame in soup.select("table.dataframe"):  # pandas' own look, for the page's
        del frame["border"]
        for row in frame.select("tr[style]"):
            del row["style"]
    headings = _headings(soup)
    before = lessons[position - 1] if position > 0 else None
    after = lessons[position + 1] if position + 1 < len(lessons) else None
    chips = "".join(f"<b>{html.escape(chip)}</b>" for chip in stamp.chips())
    inner = f"""<a class="skip" href="#content">Skip to the content</a>
<header class="bar"><a class="home" href="index.html">MODA course</a>
<nav aria-label="Notebooks">{_step(before, "‹", "Previous")}
<span>{position + 1} of {len(lessons)}</span>{_step(after, "›", "Next")}</nav></header>
<div class="layout">
<aside class="toc">{_contents(headings)}</aside>
<main id="content">
<div class="stamp">{chips}<span>executed {stamp.date} in {seconds:.0f} s</span></div>
{soup}
<nav class="pager" aria-label="Continue">{_pager(before, "previous")}{_pager(after, "next")}</nav>
</main>
</div>"""
    _write(folder / lesson.page, f"{lesson.number}. {lesson.title} · MODA course", inner)
    return headings


def write_index(cards: Sequence[Card], stamp: Stamp, out: Path) -> Path:
    """Write index.html: a card for each notebook, and a search over the headings of all pages."""
    photos = "drawn clothes" if stamp.data == "drawn" else "real product photos"
    models = "FashionCLIP and OPT-125M"
    if stamp.profile == "mini":
        models = "small stand-ins that have only ever seen drawings"
    honest = (
        f"What these pages show was computed on {photos} with {models}, unless a line names "
        "another source. The same code runs small models and large ones, on drawn and real photos."
    )
    chips = "".join(f'<span class="chip">{html.escape(chip)}</span> ' for chip in stamp.chips())
    total, ran = sum(card.seconds for card in cards), sum(not card.command for card in cards)
    core = [card for card in cards if card.lesson.core]
    extras = [card for card in cards if not card.lesson.core]
    parts = {"The course": core, "Extras": extras}
    sections = "\n".join(_cards(name, some, stamp) for name, some in parts.items() if some)
    inner = f"""<header class="bar"><a class="home" href="index.html">MODA course</a></header>
<main class="index">
<h1>Train a small vision-language model</h1>
<p class="lead">From a folder of shop photos to a model that describes them: FashionCLIP looks,
a projection translates, OPT-125M writes. {honest}</p>
<p>{chips}<span class="stamp" style="margin:0 0 0 .4rem">last executed {stamp.date},
{ran} notebook{"s" if ran > 1 else ""} in {duration(total)}</span></p>
{_search(cards)}
{sections}
</main>
<script>{SEARCH}</script>"""
    return _write(out / "index.html", "MODA course: train a small vision-language model", inner)


def _cards(heading: str, cards: Sequence[Card], stamp: Stamp) -> str:
    items = []
    for card in cards:
        lesson = card.lesson
        picture = (
            f'<img src="{card.picture}" alt="">'
            if card.picture
            else f'<span class="number">{lesson.number}</span>'
        )
        name = f"{lesson.number}. {html.escape(lesson.title)}"
        cost = (
            f'<span class="chip">{stamp.profile} · {stamp.data}</span>'
            f"<span>{duration(card.seconds)}</span>"
            f"<span>{card.peak_bytes / 1e9:.1f} GB memory</span>"
        )
        if card.command:
            cost = f"<span>Not run yet: <code>{card.command}</code> adds its page here.</span>"
        else:
            name = f'<a href="{lesson.page}">{name}</a>'
        items.append(
            f'<li class="card"><div class="picture" aria-hidden="true">{picture}</div>'
            f'<div class="words"><h3>{name}</h3><p>{html.escape(lesson.promise)}</p>'
            f'<div class="cost">{cost}</div></div></li>'
        )
    return f"<h2>{heading}</h2>\n<ul class='cards'>{''.join(items)}</ul>"


def _search(cards: Sequence[Card]) -> str:
    """A search field and every heading as a link; the script shows those that match."""
    entries = [
        f'<li hidden><a href="{card.lesson.page}#{html.escape(heading.anchor, quote=True)}">'
        f"{html.escape(heading.text)}</a> <small>{card.lesson.number}. "
        f"{html.escape(card.lesson.title)}</small></li>"
        for card in cards
        for heading in card.headings
    ]
    return (
        '<form class="search" role="search" hidden><label>Search the headings '
        '<input type="search" autocomplete="off" placeholder="for example: loss"></label>'
        f'<p role="status"></p><ul>{"".join(entries)}</ul></form>'
    )


def _headings(soup: BeautifulSoup) -> list[Heading]:
    """Second and third level headings of a page."""
    found = []
    for heading in soup.select(".text_cell h2[id], .text_cell h3[id]"):
        words = "".join(
            part.get_text() if isinstance(part, Tag) else str(part)
            for part in heading.contents
            if not (isinstance(part, Tag) and "anchor-link" in part.get("class", []))
        )
        found.append(Heading(int(heading.name[1]), heading["id"], words.strip()))
    return found


def _contents(headings: Sequence[Heading]) -> str:
    """Table of contents of a page."""
    entries = []
    for level, anchor, text in headings:
        deep = ' class="deep"' if level == 3 else ""
        target = html.escape(anchor, quote=True)
        entries.append(f'<li{deep}><a href="#{target}">{html.escape(text)}</a></li>')
    rows = f"<ol>{''.join(entries)}</ol>"
    # Wide windows show the list, narrow ones fold it; both without a script.
    return (
        f'<nav class="wide" aria-label="On this page"><strong class="label">On this page</strong>'
        f"{rows}</nav><details class='narrow'><summary>On this page</summary>{rows}</details>"
    )


def _with_forms_tagged(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy in which cells that Colab folds to a form say so by a tag: nbconvert shows tags."""
    # Pages may be shown to others: paths on them begin at the repository, not at this disk.
    copy = nbformat.reads(nbformat.writes(notebook).replace(f"{ROOT}{os.sep}", ""), as_version=4)
    for cell in copy.cells:
        if "cellView" in cell.metadata:
            cell.metadata.tags = [*cell.metadata.get("tags", []), "form"]
    return copy


def _fold_forms(soup: BeautifulSoup) -> None:
    """Cells that Colab shows as a folded form are folded here too; outputs stay visible."""
    for cell in soup.select(".celltag_form"):
        source = cell.select_one(".input")
        title = re.search(r"# @title (.+?)(?: \{|$)", source.get_text(), re.MULTILINE)
        details = soup.new_tag("details", attrs={"class": "fold"})
        summary = soup.new_tag("summary")
        summary.string = title[1] if title else "Code"
        source.wrap(details)
        details.insert(0, summary)


def _name_figures(soup: BeautifulSoup) -> None:
    """A figure is announced by its section, as nothing else describes it; it can be touched."""
    section = "figure"
    for found in soup.select(".text_cell :is(h1, h2, h3), .output_png"):
        if "output_png" not in found.get("class", []):
            section = f"Figure in: {found.get_text().removesuffix('¶').strip()}"
            continue
        found["tabindex"] = "0"  # see pages.css: on a phone, a figure in focus is enlarged
        for image in found.select("img"):
            image["alt"] = section


def _local_pictures(soup: BeautifulSoup) -> None:
    """Put pictures of the repository into the page; a Colab badge becomes a plain link."""
    for image in soup.select("img"):
        source = image.get("src", "")
        if source.startswith("data:"):
            continue
        if re.match(r"https?:", source):
            image.replace_with(image.get("alt") or "picture")
            continue
        path = (NOTEBOOKS / source).resolve()
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        image["src"] = f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _local_links(soup: BeautifulSoup, stems: set[str], home: Path) -> None:
    """Links to notebooks become links to their pages; other files of the repository stay found."""
    for link in soup.select("a[href]"):
        target, _, fragment = link["href"].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            continue
        path = (NOTEBOOKS / target).resolve()
        if path.suffix == ".ipynb" and path.stem in stems and path.parent == NOTEBOOKS:
            new = f"{path.stem}.html"
        elif is_placeholder() or not path.is_relative_to(ROOT):
            new = Path(os.path.relpath(path, home)).as_posix()
        else:
            new = f"{REPOSITORY}/blob/main/{path.relative_to(ROOT).as_posix()}"
        link["href"] = new + (f"#{fragment}" if fragment else "")


def _step(lesson: Lesson | None, sign: str, word: str) -> str:
    label = f"{sign} <span class='word'>{word}</span>"
    if word == "Next":
        label = f"<span class='word'>{word}</span> {sign}"
    if lesson is None:
        return f'<span class="off" aria-hidden="true">{label}</span>'
    return f'<a href="{lesson.page}" aria-label="{word}: {html.escape(lesson.title)}">{label}</a>'


def _pager(lesson: Lesson | None, kind: str) -> str:
    if lesson is None:
        return ""
    return (
        f'<a class="{kind}" href="{lesson.page}"><small>{kind.capitalize()}</small>'
        f"{lesson.number}. {html.escape(lesson.title)}</a>"
    )


def _plain(markdown: str) -> str:
    """Markdown of one line as plain words."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(markdown.split()))
    return re.sub(r"[*`]", "", text).strip()


def duration(seconds: float) -> str:
    """Seconds in words: "48 s", "2.5 min"."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _write(path: Path, title: str, body: str) -> Path:
    with atomic_path(path) as temporary:
        temporary.write_text(
            PAGE.format(title=html.escape(title), css=CSS, body=body), encoding="utf-8"
        )
    return path
