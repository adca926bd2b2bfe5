"""The stored figures are what the scripts draw: legible, nothing overlaps, small."""

import matplotlib
import numpy as np
import pytest
from PIL import Image

from images import make_figures
from images.drawing import board, outputs, teachers
from images.make_figures import FIGURES, HERE
from moda_utils import plots
from moda_utils.profiles import ROOT

STORED = {path.stem: path for path in HERE.glob("*.png")}
PINNED = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
LARGEST, LARGEST_ALL = 60_000, 1_200_000  # bytes
LARGEST_OUTPUT = 150_000  # of a picture that is taken from a notebook: photos have many colours


def small(picture: Image.Image) -> np.ndarray:
    """A picture as 152 pixels across: what is left where fonts are smoothed differently."""
    picture = picture.convert("RGB")
    height = round(152 * picture.height / picture.width)
    return np.asarray(picture.resize((152, height), Image.Resampling.BOX), dtype=float)


def test_every_figure_is_stored_and_small():
    assert set(STORED) == set(FIGURES)
    sizes = {name: path.stat().st_size for name, path in STORED.items()}
    limits = dict.fromkeys(sizes, LARGEST) | dict.fromkeys(outputs.FIGURES, LARGEST_OUTPUT)
    assert {name: size for name, size in sizes.items() if size > limits[name]} == {}
    assert sum(sizes.values()) <= LARGEST_ALL


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_legible(name):
    page = FIGURES[name]()
    assert page.problems() == []
    sizes = {text.get_fontsize() for text in page.axis.texts}
    assert sizes <= {board.SMALL, board.BODY, board.HEAD, board.TITLE}


@pytest.mark.skipif(
    f"matplotlib=={matplotlib.__version__}" not in PINNED,
    reason="another matplotlib than that of constraints.txt sets every text a little differently",
)
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_stored_as_drawn(name):
    with Image.open(STORED[name]) as stored:
        was = small(stored)
    now = small(FIGURES[name]().picture())
    assert was.shape == now.shape
    apart = np.abs(was - now)
    assert apart.mean() < 1.5, "draw it again: python -m images.make_figures"
    assert apart.max() < 60


def test_the_check_finds_what_it_is_made_for(monkeypatch, tmp_path, capsys):
    def bad():
        page = board.Page(2)
        page.text(1, 1, "one text", size=9)
        page.text(1.2, 1, "another", size=9)
        page.text(7.5, 1, "too far to the right", size=9)
        page.box(3, 0.5, 1, 1)
        page.text(4, 1, "on the edge", size=9)
        page.arrow((5, 1), (6, 1))
        page.text(5.5, 1, "crossed", size=9)
        page.box(6.5, 1.7, 0.5, 0.5)
        return page

    assert bad().problems() == [
        "'too far to the right' is cut off",
        "'one text' overlaps 'another'",
        "'on the edge' crosses the edge of a box",
        "an arrow crosses 'crossed'",
        "a shape is cut off",
    ]
    monkeypatch.setattr(make_figures, "HERE", tmp_path)
    monkeypatch.setattr(make_figures, "FIGURES", {"bad": bad})
    assert make_figures.main([]) == 1
    assert "bad is not stored: 'too far to the right' is cut off" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert make_figures.main(["good"]) == 2


def test_a_changed_prompt_asks_for_new_remarks(monkeypatch, tmp_path):
    (tmp_path / "prompt_1.txt").write_text("<|user|>\nSomething else\n<|end|>")
    monkeypatch.setattr(teachers, "PROMPTS", tmp_path)
    with pytest.raises(ValueError, match="prompt_1.txt has no line that begins with 'Analyze"):
        teachers.prompt("prompt_1.txt", teachers.PROMPT_1)


def test_every_figure_is_shown_in_a_notebook():
    """hero and those named by a number belong to setup cells; README alone has the strip."""
    twins = (HERE.parent / "notebooks" / "py").glob("*.py")
    text = "\n".join(twin.read_text(encoding="utf-8") for twin in twins)
    named = {name for name in FIGURES if not name.removeprefix("moda_").isdigit()}
    assert {name for name in named if f'show_figure("{name}")' not in text} == {"hero", "strip"}
    assert "images/strip.png" in (HERE.parent / "README.md").read_text(encoding="utf-8")


def test_figures_and_plots_share_one_palette():
    for name in board.__all__:
        assert getattr(board, name) == getattr(plots, name)


def test_a_picture_is_only_taken_from_a_cell_that_was_executed():
    assert outputs.output_picture("07_use_it", 'title="Described"').width > 500
    with pytest.raises(ValueError, match="07_use_it: no picture below a cell with 'no such code'"):
        outputs.output_picture("07_use_it", "no such code")
