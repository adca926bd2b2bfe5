"""Figures of the course: one style, readable at 700 pixels, in print and by colour-blind readers.

Importing this module sets matplotlib's defaults, so that a plot which a notebook draws by hand
looks like the others. Every figure carries a stamp: profile, kind of photos, number of items.
Figures are returned, not shown: let the call be the last line of a cell.
"""

import io
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator
from PIL import Image

from .catalog import open_photo, to_rgb
from .profiles import Profile

# Colours that stay apart for colour-blind readers (Okabe and Ito, 2008).
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, GREY, INK = "#56B4E9", "#AA4499", "#8A8A8A", "#222222"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, GREY, INK)

# Printed by the original notebook (real photos, template captions): epoch, train, validation.
ORIGINAL_LOSSES = (
    (1, 6.653, 4.150), (2, 3.080, 2.313), (3, 1.889, 1.390), (4, 1.061, 0.733), (5, 0.646, 0.509),
    (6, 0.471, 0.429), (8, 0.340, 0.313), (10, 0.283, 0.270), (12, 0.244, 0.241),
    (15, 0.218, 0.224), (18, 0.192, 0.204), (20, 0.185, 0.203),
)  # fmt: skip

matplotlib.rc_file(Path(__file__).with_name("course.mplstyle"), use_default_template=False)
matplotlib.rcParams["axes.prop_cycle"] = matplotlib.cycler(color=PALETTE)


class CourseFigure(Figure):
    """A figure that a notebook shows because it is a cell's value, once, whatever the backend."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def figure(
    rows: int = 1, columns: int = 1, *, width: float = 7.0, height: float = 3.4, **options: Any
) -> tuple[CourseFigure, np.ndarray]:
    """A figure of `width` x `height` inches (100 pixels each) and its axes (rows, columns)."""
    made = CourseFigure(figsize=(width, height), layout="constrained")
    return made, made.subplots(rows, columns, squeeze=False, **options)


def stamp(made: Figure, profile: Profile, n: int | None = None, note: str = "") -> None:
    """Write profile, kind of photos and number of items below a figure: no number travels alone."""
    parts = [f"profile {profile.name}", f"{profile.data_label} photos"]
    parts += [f"n = {n:,}"] if n is not None else []
    text = "  ·  ".join([*parts, note] if note else parts)
    # A layout engine makes room for a label; a figure without one has left room at the bottom.
    place = {} if made.get_layout_engine() else {"y": 0.06 / made.get_figheight(), "va": "bottom"}
    made.supxlabel(text, x=0.99, ha="right", fontsize=8, **place)


def photo_grid(
    photos: Sequence[Path | str | Image.Image],
    captions: Sequence[str] | None = None,
    *,
    profile: Profile,
    columns: int = 4,
    marks: Sequence[bool | None] | None = None,
    title: str = "",
    n: int | None = None,
) -> CourseFigure:
    """Photos in rows, a wrapped caption below each.

    Args:
        photos: paths or PIL images.
        captions: one text per photo; line breaks in it are kept.
        marks: per photo True (green frame), False (red frame and a cross) or None (no frame).
        n: the stamp's number; the number of photos shown when left out.

    Raises:
        ValueError: no photo, or captions or marks of another length.
    """
    for name, values in (("captions", captions), ("marks", marks)):
        if values is not None and len(values) != len(photos):
            raise ValueError(f"{len(photos)} photos but {len(values)} {name}: give one per photo.")
    if not photos:
        raise ValueError("There is no photo to show: the selection before this call is empty.")
    cell = 7.0 / columns  # inches; a photo leaves a margin of 0.05 on each side
    pictures = [_picture(photo, pixels=int(cell * 130)) for photo in photos]
    texts = [_wrapped(text, int(cell * 14.5)) for text in captions or [""] * len(photos)]
    tall = min(max(picture.height / picture.width for picture in pictures), 1.5) * (cell - 0.1)
    caption = 0.14 * max(text.count("\n") + 1 for text in texts) + 0.12 if any(texts) else 0.1
    rows, head = math.ceil(len(photos) / columns), 0.35 if title else 0.05
    height = head + rows * (tall + caption) + 0.25
    made = CourseFigure(figsize=(7.0, height))
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        bottom = height - head - row * (tall + caption) - tall
        left, width = column * cell + 0.05, cell - 0.1
        axis = made.add_axes((left / 7, bottom / height, width / 7, tall / height))
        axis.imshow(picture)
        axis.axis("off")
        middle = (left + width / 2) / 7
        made.text(middle, (bottom - 0.06) / height, texts[index], ha="center", va="top", size=8)
        if marks is not None and marks[index] is not None:
            _frame(axis, right=bool(marks[index]))
    made.text(0.01, 1 - 0.17 / height, title, va="center", size=11, weight="bold")
    stamp(made, profile, len(photos) if n is None else n)
    return made


def before_after(
    photos: Sequence[Path | str | Image.Image],
    texts: Mapping[str, Sequence[str]],
    *,
    profile: Profile,
    longest: int = 90,
) -> CourseFigure:
    """The same photos with several texts each, such as those of an untrained and a trained model.

    Args:
        photos: those of `catalog.same_three`, which return in several notebooks.
        texts: {label: one text per photo}, in the order to show; cut after `longest` letters.
    """
    shown = {label: [_cut(text, longest) for text in row] for label, row in texts.items()}
    captions = [
        "\n\n".join(f"{label}: {row[place]}" for label, row in shown.items())
        for place in range(len(photos))
    ]
    return photo_grid(photos, captions, profile=profile, columns=len(photos))


def counts(*series: pd.Series, profile: Profile, top: int = 12) -> CourseFigure:
    """How often each value occurs: one panel of horizontal bars per series, named by the series.

    Values after the `top` most frequent ones are summed into one grey bar.
    """
    tables = [_top(values, top) for values in series]
    bars_in_row = [max(map(len, tables[at : at + 2])) for at in range(0, len(tables), 2)]
    heights = [max(1.3, 0.7 + 0.2 * bars) for bars in bars_in_row]
    made, axes = _panels(len(series), height=0.5 + sum(heights), height_ratios=heights)
    for axis, values, table in zip(axes, series, tables, strict=True):
        colours = [GREY if label.endswith(" others") else BLUE for label in table.index]
        bars = axis.barh(table.index, table.to_numpy(), color=colours)
        axis.bar_label(bars, fmt="{:,.0f}", padding=2, fontsize=8)
        axis.invert_yaxis()
        axis.margins(x=0.16)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.grid(axis="y", visible=False)
        axis.set_title(str(values.name).replace("_", " "))
    stamp(made, profile, max(len(values) for values in series))
    return made


def loss_curves(
    history: Any,
    *,
    profile: Profile,
    n: int | None = None,
    best: int | None = None,
    note: str = "",
    original: bool = False,
) -> CourseFigure:
    """Loss by epoch, linear left and logarithmic right: training solid, validation dash-dotted.

    Args:
        history: rows (or a table) with `epoch`, `split` ("train" or "validation") and `loss`;
            several rows of one epoch and split are averaged, by `tokens` where there are any.
        best: an epoch to mark, such as the one whose weights were kept.
        note: what else the stamp says, such as which captions were learnt from.
        original: also draw what the original notebook printed, named as its own.
    """
    table = epoch_losses(history)
    made, axes = figure(1, 2, height=3.3)
    titles = {"linear": "Loss", "log": "The same, logarithmic"}
    for axis, (scale, title) in zip(axes.flat, titles.items(), strict=True):
        for split, style, colour in (("train", "-", BLUE), ("validation", "-.", VERMILION)):
            if split in table:
                axis.plot(table.index, table[split], style, color=colour, label=split, marker=".")
        if best is not None:
            axis.axvline(best, color=GREY, lw=1, ls=":", label=f"best: epoch {best:g}")
        if original:
            epochs, train, validation = zip(*ORIGINAL_LOSSES, strict=True)
            for values, style, split in ((train, "-", "train"), (validation, "-.", "validation")):
                axis.plot(
                    epochs, values, style, color=GREY, lw=1, label=f"original notebook, {split}"
                )
        axis.set(xlabel="epoch", ylabel="cross-entropy per token", yscale=scale, title=title)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.yaxis.set_major_formatter("{x:g}")
    axes[0, 1].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes[0, 1].yaxis.set_minor_formatter("")
    axes[0, 0].legend(fontsize=8)
    grey = ["grey: the original's run, on real photos"] if original else []
    stamp(made, profile, n, "  ·  ".join(filter(None, [note, *grey])))
    return made


def epoch_losses(history: Any) -> pd.DataFrame:
    """Mean loss, one row per epoch and one column per split; `history` as in `loss_curves`."""
    table = pd.DataFrame(getattr(history, "rows", history))
    weight = table["tokens"] if "tokens" in table else pd.Series(1, index=table.index)
    table = table.assign(weight=weight, weighted=table["loss"] * weight)
    sums = table.groupby(["epoch", "split"])[["weighted", "weight"]].sum()
    return (sums["weighted"] / sums["weight"]).unstack("split")


def bars_with_intervals(
    scores: Mapping[str, Mapping[str, Mapping[str, float]]],
    *,
    profile: Profile,
    n: int,
    floors: Iterable[str] = (),
    ceilings: Iterable[str] = (),
) -> CourseFigure:
    """One panel per criterion, one horizontal bar per system, with its interval.

    Args:
        scores: {system: {criterion: {"value", "low", "high"}}}; what a system lacks has no bar
            and says "not here".
        floors: systems that don't look at the photo they describe: grey.
        ceilings: systems that see the metadata: hatched, since they are bounds and not rivals.
    """
    systems, floors, ceilings = list(scores), set(floors), set(ceilings)
    colours = dict.fromkeys(floors, GREY) | dict.fromkeys(ceilings, GREEN)
    colours |= {"moda": VERMILION}
    criteria = list(dict.fromkeys(name for values in scores.values() for name in values))
    height = 0.8 + math.ceil(len(criteria) / 2) * (0.55 + 0.27 * len(systems))
    made, axes = _panels(len(criteria), height=height, sharey=True, sharex=True)
    for axis, criterion in zip(axes, criteria, strict=True):
        for place, system in enumerate(systems):
            if scores[system].get(criterion, {}).get("value") is not None:
                hatch = "////" if system in ceilings else ""
                _bar(axis, place, scores[system][criterion], colours.get(system, SKY), hatch)
            else:
                axis.text(0.2, place, "not here", va="center", fontsize="small", color=GREY)
        axis.set(title=criterion.replace("_", " "), xticks=range(0, 11, 2), xlim=(0, 11.7))
        axis.set(yticks=range(len(systems)), ylim=(len(systems) - 0.4, -0.6))
        axis.set_yticklabels([system.replace("_", " ") for system in systems])
        axis.grid(axis="y", visible=False)
    notes = {"grey: never looks": floors, "hatched: sees the metadata": ceilings}
    stamp(made, profile, n, "  ·  ".join(note for note, of in notes.items() if of & set(systems)))
    return made


def confusion(
    counts: Mapping[str, Mapping[str, int]], *, profile: Profile, title: str = "", top: int = 12
) -> CourseFigure:
    """Which value was stated for which true one: counts, shaded by their share of the row.

    Args:
        counts: {true: {stated: count}}, as from `evaluation.confusions`. Values after the `top`
            most frequent true ones are put together as "other".
    """
    table = pd.DataFrame(counts).T.fillna(0).astype(int)
    frequent = table.sum(axis=1).sort_values(ascending=False, kind="stable").index[:top].tolist()
    table = table.groupby(lambda true: true if true in frequent else "other").sum()
    table = table.T.groupby(lambda said: said if said in [*frequent, "none"] else "other").sum().T
    rows = [*frequent, *(["other"] if "other" in table.index else [])]
    columns = [*frequent, *(name for name in ("other", "none") if name in table.columns)]
    table = table.reindex(index=rows, columns=columns, fill_value=0)
    share = table.div(table.sum(axis=1), axis=0).to_numpy()
    made, [[axis]] = figure(height=max(2.4, 1.6 + 0.3 * len(rows)))
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(table.to_numpy()):
        if value:
            ink = "white" if share[row, column] > 0.55 else INK
            axis.text(column, row, value, ha="center", va="center", fontsize=8, color=ink)
    axis.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(rows)), rows)
    axis.set(xlabel="stated", ylabel="true", title=title)
    axis.grid(False)
    stamp(made, profile, int(table.to_numpy().sum()))
    return made


def _panels(n: int, **options: Any) -> tuple[CourseFigure, np.ndarray]:
    """A figure with `n` panels (n,) in two columns; a place left over stays empty."""
    made, axes = figure(math.ceil(n / 2), min(n, 2), **options)
    for axis in axes.flat[n:]:
        axis.axis("off")
    return made, axes.flat[:n]


def _bar(axis: Axes, place: int, score: Mapping[str, float], colour: str, hatch: str) -> None:
    value, low, high = score["value"], score["low"], score["high"]
    axis.barh(place, value, color=colour, edgecolor="white", height=0.72, hatch=hatch)
    axis.plot([low, high], [place, place], color=INK, linewidth=1.4, marker="|", markersize=5)
    axis.text(max(value, high) + 0.2, place, f"{value:.1f}", va="center", fontsize=8)


def _top(values: pd.Series, top: int) -> pd.Series:
    table = values.astype(str).value_counts()
    if len(table) > top + 1:  # a single value left over keeps its name
        rest = table.iloc[top:]
        table = pd.concat([table.iloc[:top], pd.Series({f"{len(rest)} others": rest.sum()})])
    return table


def _frame(axis: Axes, right: bool) -> None:
    colour = GREEN if right else VERMILION
    place = {"transform": axis.transAxes}
    axis.add_patch(Rectangle((0, 0), 1, 1, fill=False, edgecolor=colour, linewidth=2.5, **place))
    # A sign beside the colour: red and green alone would not do.
    box = {"boxstyle": "circle,pad=0.12", "color": colour}
    place |= {"ha": "center", "va": "center"}
    axis.text(0.94, 0.95, "✓" if right else "✗", color="white", fontsize=9, bbox=box, **place)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.fill(line, max(width, 10)) for line in text.splitlines())


def _picture(photo: Path | str | Image.Image, pixels: int) -> Image.Image:
    """The photo, upright and no wider than it is shown: outputs stay small."""
    photo = to_rgb(photo).copy() if isinstance(photo, Image.Image) else open_photo(photo)
    photo.thumbnail((pixels, pixels * 2), Image.Resampling.LANCZOS)
    return photo
