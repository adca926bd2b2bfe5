import dataclasses
import io

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from moda_utils import plots
from moda_utils.profiles import get_profile


@pytest.fixture
def profile():
    return dataclasses.replace(get_profile("mini"), data_label="drawn")


def texts(figure: Figure) -> list[str]:
    FigureCanvasAgg(figure).draw()
    found = figure.findobj(lambda artist: hasattr(artist, "get_text"))
    return [text.get_text() for text in found if text.get_text()]


def boxes_inside(figure: Figure) -> bool:
    """Is everything that is drawn within the figure, nothing cut off?"""
    FigureCanvasAgg(figure).draw()
    box = figure.get_tightbbox()  # inches
    width, height = figure.get_size_inches()
    return box.x0 > -0.02 and box.y0 > -0.02 and box.x1 < width + 0.02 and box.y1 < height + 0.02


def stamp_is_free(figure: Figure) -> bool:
    """Does the stamp stand clear of every axis with its labels, and of every other text?"""
    FigureCanvasAgg(figure).draw()
    *others, mark = [text for text in figure.texts if text.get_text()]
    boxes = [text.get_window_extent() for text in others]
    boxes += [axis.get_tightbbox() for axis in figure.axes]
    return not any(mark.get_window_extent().overlaps(box) for box in boxes)


def photo(colour="white", size=(168, 224)):
    return Image.new("RGB", size, colour)


def test_every_figure_is_stamped_with_profile_photos_and_number(profile):
    values = pd.Series(["a", "b", "a"], name="colour")
    history = [{"epoch": 1, "split": "train", "loss": 2.0}]
    score = {"moda": {"colour": {"value": 5.0, "low": 4.0, "high": 6.0}}}
    figures = [
        plots.photo_grid([photo()] * 3, profile=profile),
        plots.counts(values, profile=profile),
        plots.loss_curves(history, profile=profile, n=3),
        plots.bars_with_intervals(score, profile=profile, n=3),
        plots.confusion({"a": {"a": 1, "none": 1}, "b": {"a": 1}}, profile=profile),
        plots.before_after(
            [photo()] * 3, {"before": ["x"] * 3, "after": ["y"] * 3}, profile=profile
        ),
    ]
    for figure in figures:
        stamp = texts(figure)[-1]
        assert stamp.startswith("profile mini") and "drawn photos" in stamp and "n = 3" in stamp
        assert boxes_inside(figure)
        assert stamp_is_free(figure)
        assert figure._repr_png_().startswith(b"\x89PNG")


def test_a_figure_is_700_pixels_wide_and_opaque(profile):
    figure = plots.photo_grid([photo()], ["one"], profile=profile)
    picture = Image.open(io.BytesIO(figure._repr_png_()))
    assert picture.width == 700
    assert picture.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)


def test_photo_grid_takes_paths_modes_and_sizes(tmp_path, profile):
    Image.new("L", (1800, 2400), 90).save(tmp_path / "grey.jpg")
    Image.new("RGBA", (30, 40), (9, 9, 9, 50)).save(tmp_path / "alpha.png")
    photos = [tmp_path / "grey.jpg", str(tmp_path / "alpha.png"), photo()]
    figure = plots.photo_grid(photos, ["x " * 60, "y\nz", ""], profile=profile, columns=2)
    shown = [axis.images[0].get_array().shape for axis in figure.axes if axis.images]
    assert (
        len(shown) == 3 and max(shape[1] for shape in shown) < 600
    )  # no full-size photo in an output
    assert boxes_inside(figure)
    assert stamp_is_free(figure)


def test_photo_grid_marks_right_and_wrong_by_sign_not_only_colour(profile):
    figure = plots.photo_grid([photo()] * 3, marks=[True, False, None], profile=profile)
    signs = [text for text in texts(figure) if text in "✓✗"]
    assert signs == ["✓", "✗"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"captions": ["one"]}, "2 photos but 1 captions"),
        ({"marks": [True]}, "2 photos but 1 marks"),
    ],
)
def test_photo_grid_says_which_list_is_too_short(profile, options, message):
    with pytest.raises(ValueError, match=message):
        plots.photo_grid([photo(), photo()], profile=profile, **options)


def test_photo_grid_without_photos_is_an_error(profile):
    with pytest.raises(ValueError, match="no photo to show"):
        plots.photo_grid([], profile=profile)


def test_counts_adds_up_what_it_does_not_name(profile):
    values = pd.Series([f"v{i}" for i in range(20)] + ["v0"] * 5, name="product_type")
    figure = plots.counts(values, profile=profile, top=4)
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert sum(widths) == 25 and len(widths) == 5
    assert labels[0] == "v0" and labels[-1] == "16 others"


def test_counts_keeps_a_rare_value_that_stands_alone(profile):
    figure = plots.counts(pd.Series(["a", "a", "b"], name="usage"), profile=profile, top=1)
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["a", "b"]


def test_epoch_losses_weights_batches_by_their_tokens():
    rows = [
        {"epoch": 1, "split": "train", "loss": 4.0, "tokens": 10},
        {"epoch": 1, "split": "train", "loss": 1.0, "tokens": 30},
        {"epoch": 1, "split": "validation", "loss": 3.0, "tokens": 5},
    ]
    table = plots.epoch_losses(rows)
    assert table.loc[1, "train"] == pytest.approx(1.75)
    assert table.loc[1, "validation"] == pytest.approx(3.0)


def test_loss_curves_draw_validation_dash_dotted(profile):
    rows = [
        {"epoch": epoch, "split": split, "loss": 3.0 / epoch}
        for epoch in (1, 2, 3)
        for split in ("train", "validation")
    ]
    figure = plots.loss_curves(rows, profile=profile, best=2)
    linear, logarithmic = figure.axes
    styles = {line.get_label(): line.get_linestyle() for line in linear.lines}
    assert styles["train"] == "-" and styles["validation"] == "-."
    assert (linear.get_yscale(), logarithmic.get_yscale()) == ("linear", "log")
    assert "best: epoch 2" in styles
    assert not any(label.startswith("original") for label in styles)


def test_the_original_notebook_s_losses_are_drawn_under_its_name(profile):
    rows = [{"epoch": 1, "split": "train", "loss": 3.0}]
    figure = plots.loss_curves(rows, profile=profile, original=True, note="refined captions")
    for axis in figure.axes:
        lines = {line.get_label(): line for line in axis.lines}
        assert list(lines["original notebook, train"].get_ydata())[::11] == [6.653, 0.185]
        assert list(lines["original notebook, validation"].get_ydata())[::11] == [4.150, 0.203]
    assert "refined captions" in figure._supxlabel.get_text()


def test_bars_show_interval_and_hatch_ceilings_and_allow_gaps(profile):
    score = {"value": 5.0, "low": 4.0, "high": 6.5}
    scores = {"majority": {"colour": score}, "template": {"colour": score, "style": score}}
    figure = plots.bars_with_intervals(scores, profile=profile, n=7, ceilings=["template"])
    colour, style = figure.axes[:2]
    assert [bar.get_hatch() for bar in colour.patches] == ["", "////"]
    assert len(style.patches) == 1
    assert list(colour.lines[0].get_xdata()) == [4.0, 6.5]
    assert texts(figure)[-1].endswith("hatched: sees the metadata")
    grey, hatched = (
        plots.bars_with_intervals(
            scores, profile=profile, n=7, floors=["majority"], ceilings=["template"]
        )
        .axes[0]
        .patches
    )
    assert grey.get_facecolor() != hatched.get_facecolor()
    assert [text.get_text() for text in style.texts].count("not here") == 1
    figure = plots.bars_with_intervals({**scores, "teacher_raw": {}}, profile=profile, n=7)
    assert figure.axes[0].get_yticklabels()[2].get_text() == "teacher raw"
    assert "not here" in [text.get_text() for text in figure.axes[0].texts]
    assert boxes_inside(figure)


def test_confusion_counts_every_item_once(profile):
    counts = {
        "b": {"b": 1, "a": 1, "zebra": 1},
        "rare": {"rare": 1, "a": 2},
        "a": {"a": 4, "none": 1},
    }
    figure = plots.confusion(counts, profile=profile, top=2)
    [axis] = figure.axes
    assert sum(int(text.get_text()) for text in axis.texts) == 11
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["a", "b", "other", "none"]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["a", "b", "other"]
    placed = {text.get_position(): text.get_text() for text in axis.texts}
    assert placed == {
        (0, 0): "4", (3, 0): "1", (0, 1): "1", (1, 1): "1", (2, 1): "1", (0, 2): "2", (2, 2): "1"
    }  # fmt: skip


def test_before_after_puts_all_texts_below_their_photo_and_cuts_long_ones(profile):
    texts_by_stage = {"before": ["the " * 100, "b"], "after": ["Red shoes", "Blue top"]}
    figure = plots.before_after([photo()] * 2, texts_by_stage, profile=profile)
    below = [text for text in texts(figure) if text.startswith("before:")]
    assert len(below) == 2
    assert "…" in below[0] and below[0].endswith("after: Red shoes")
    assert below[1] == "before: b\n\nafter: Blue top"
