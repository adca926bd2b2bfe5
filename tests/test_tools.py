"""The tools that run notebooks and make pages of them, tried on small notebooks."""

import base64
import io
import re
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

import course
import pages
import running
import stats
from lines import code_lines
from moda_utils.profiles import ROOT, get_profile
from moda_utils.storage import read_json

OPENING = """[![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://x.org)

# 1. A *small* test

You see [what](01_dataset.ipynb) a page is.

| a | b |
|---|---|
| 1 | 2 |
"""


def png() -> str:
    file = io.BytesIO()
    Image.new("RGB", (1000, 300), "navy").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def small_notebook(code: str) -> nbformat.NotebookNode:
    setup = new_code_cell("print('ready')", metadata={"tags": ["setup"], "cellView": "form"})
    cells = [new_markdown_cell(OPENING), setup, new_markdown_cell("## 1. Why $x$"), code]
    cells[-1] = new_code_cell(code)
    return new_notebook(cells=cells)


def test_a_run_stores_outputs_and_measures_memory(tmp_path):
    notebook = small_notebook(
        "import os, time\nblock = bytearray(200_000_000)\ntime.sleep(3)\n"
        "print(os.path.basename(os.getcwd()), os.environ['MODA_PROFILE'])"
    )
    folder = tmp_path / "here"
    folder.mkdir()
    cost = running.execute(
        notebook,
        folder,
        running.kernel_environment(tmp_path / "home"),
        tmp_path / "run.log",
    )
    assert notebook.cells[3].outputs[0].text == "here mini\n"
    assert 200e6 < cost.peak_bytes < 2e9
    assert cost.seconds > 1


def test_listed_noise_is_dropped_and_a_new_warning_is_not(tmp_path):
    noise = "[date] logging.cc:303: Set ray log level from environment variable X to 3"
    notebook = small_notebook(f"import sys\nprint('{noise}\\nnew warning', file=sys.stderr)")
    notebook.cells.append(new_code_cell(f"print('{noise}', file=sys.stderr)"))
    environment = running.kernel_environment(tmp_path / "home")
    running.execute(notebook, tmp_path, environment, tmp_path / "run.log")
    assert [output.text for output in notebook.cells[3].outputs] == ["new warning\n"]
    assert notebook.cells[4].outputs == []


def test_a_failing_cell_is_named_in_one_screen(tmp_path):
    deep = "def f(n):\n    return f(n - 1) if n else 1 / 0\nf(60)"
    with pytest.raises(running.NotebookFailed) as caught:
        running.execute(
            small_notebook(deep), tmp_path, running.kernel_environment(), tmp_path / "run.log"
        )
    assert caught.value.cell == 4
    screen = caught.value.screen()
    assert "ZeroDivisionError" in screen
    assert len(screen.splitlines()) <= running.SCREEN + 10
    assert "run.log" in screen
    assert (tmp_path / "run.log").read_text().count("f(n - 1)") > 60


def test_a_killed_kernel_is_told_from_an_error(tmp_path):
    with pytest.raises(running.NotebookFailed, match="Was memory short"):
        running.execute(
            small_notebook("import os\nos.kill(os.getpid(), 9)"),
            tmp_path,
            running.kernel_environment(),
            tmp_path / "run.log",
        )


def test_unknown_notebooks_and_settings_are_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="No numbered"):
        running.select(tmp_path, ".ipynb")
    (tmp_path / "01_a.ipynb").touch()
    assert [path.name for path in running.select(tmp_path, ".ipynb", ["1"])] == ["01_a.ipynb"]
    (tmp_path / "09_z.ipynb").touch()  # needs Ray: runs where it is named, and only there
    every = running.select(tmp_path, ".ipynb")
    assert [
        path.name
        for path in every
        if path not in running.select(tmp_path, ".ipynb", separate=False)
    ] == ["09_z.ipynb"]
    assert running.select(tmp_path, ".ipynb", ["9"], separate=False) == [tmp_path / "09_z.ipynb"]
    with pytest.raises(FileNotFoundError, match="/77_"):
        running.select(tmp_path, ".ipynb", ["77"])
    done = subprocess.run(
        [sys.executable, "tools/course.py"],
        cwd=ROOT,
        env={**running.kernel_environment(), "MODA_PROFILE": "tiny"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("MODA_PROFILE asks for the profile 'tiny'")


def test_pages_ask_nothing_from_outside(tmp_path):
    notebook = small_notebook("print(1)")
    notebook.cells[3].outputs = [
        nbformat.v4.new_output("stream", name="stdout", text=f"<b>not bold</b> {ROOT}/a.txt\n"),
        nbformat.v4.new_output("display_data", data={"image/png": png()}),
    ]
    lessons = [
        pages.read_lesson(notebook, "01_dataset"),
        pages.Lesson("07_use_it", 7, "Use it", "You use it."),
    ]
    assert lessons[0].title == "A small test"
    assert lessons[0].promise == "You see what a page is."
    stamp = pages.Stamp("mini", "drawn", 1200, "2026-01-01")
    headings = pages.write_page(notebook, lessons, 0, stamp, 4.2, tmp_path, tmp_path)
    page = (tmp_path / lessons[0].page).read_text()
    picture = pages.card_picture(notebook)
    cards = [pages.Card(lesson, 4.2, 10**9, picture, headings) for lesson in lessons]
    index = pages.write_index(cards, stamp, tmp_path).read_text()

    for text in (page, index):
        outside = re.findall(
            r'<(?:img|script|link|iframe|source)[^>]+(?:src|href)="(?!data:)', text
        )
        assert outside == []
        assert "@import" not in text
        assert not re.search(r"url\((?!data:)", text)
        assert "profile mini" in text
        assert "drawn photos" in text
        assert "1,200 items" in text
    assert picture.startswith("data:image/jpeg")
    assert index.count(picture) == 2
    # Every heading can be searched for, and leads to its place on its page.
    assert [heading.text for heading in headings] == ["1. Why $x$"]
    assert 'id="1.-Why' in page
    assert re.search(r'<li hidden><a href="01_dataset.html#1.-Why[^"]*">1. Why', index)
    assert 'href="01_dataset.html"' in page
    assert 'class="next" href="07_use_it.html"' in page
    assert '<a href="#1.-Why' in page
    assert "&lt;b&gt;not bold&lt;/b&gt; a.txt" in page  # no path of this machine
    assert 'alt="Figure in: 1. Why $x$"' in page
    assert re.search(r"<details class=\"fold\">\s*<summary>", page)
    core, extras = index.split("<h2>Extras</h2>")
    assert "01_dataset.html" in core
    assert "07_use_it.html" in extras


@pytest.fixture
def two_notebooks(tmp_path, monkeypatch):
    """A course of 08 and 09 only, in a folder of its own."""
    monkeypatch.setenv("MODA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MODA_PROFILE", "mini")
    monkeypatch.delenv("MODA_DATA_DIR", raising=False)
    monkeypatch.setattr(course, "ROOT", tmp_path)
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for module in (course, pages):
        monkeypatch.setattr(module, "NOTEBOOKS", folder)
    for stem in ("08_ablations", "09_scaling_out"):
        nbformat.write(small_notebook(f"print('{stem}')"), folder / f"{stem}.ipynb")
    return folder


def test_what_runs_by_itself_joins_the_pages_of_the_others(tmp_path, two_notebooks):
    """As `make course` and then `make course-scale`; another profile begins pages of its own."""
    folder, out = two_notebooks, tmp_path / "site"
    environment = running.kernel_environment(tmp_path / "home")
    (tmp_path / "executed").mkdir()  # a reader's own, beside the pages
    (tmp_path / "executed" / "mine.txt").write_text("keep me")

    def run(number, profile="mini"):
        paths = running.select(folder, ".ipynb", [number])
        assert course.run(paths, get_profile(profile), environment, out) == 0
        return (out / "index.html").read_text()

    def executed():
        return sorted(path.stem for path in (out / "executed").iterdir())

    index = run("08")
    assert "<code>make course-scale</code> adds its page here" in index
    assert "1 notebook in" in index
    assert executed() == ["08_ablations"]
    assert 'href="09_scaling_out.html"' not in index
    nbformat.write(small_notebook("1"), out / "executed" / "07_foreign.ipynb")  # not of a run
    index = run("09")
    assert "make course-scale" not in index
    assert "2 notebooks in" in index
    for stem in ("08_ablations", "09_scaling_out"):
        assert f'<a href="{stem}.html">' in index
        assert stem in (out / f"{stem}.html").read_text()
    assert 'class="next" href="09_scaling_out.html"' in (out / "08_ablations.html").read_text()
    for name, stem in (("course", "08_ablations"), ("course-scale", "09_scaling_out")):
        assert list(read_json(out / f"{name}.json")["notebooks"]) == [stem]
        assert read_json(out / f"{name}.json")["home"] == "mini"
    assert executed() == ["08_ablations", "09_scaling_out"]
    index = run("09", "full")
    assert "profile full" in index and "profile mini" not in index
    assert not (out / "08_ablations.html").exists()
    assert executed() == ["09_scaling_out"]
    assert [path.name for path in out.glob("*.json")] == ["course-scale.json"]
    assert read_json(out / "course-scale.json")["home"] == "full"
    assert [path.name for path in (tmp_path / "executed").iterdir()] == ["mine.txt"]


def test_a_folder_that_is_no_site_is_not_replaced(tmp_path, two_notebooks, capsys):
    own, new = tmp_path / "own", tmp_path / "new"
    for folder in (own, new):
        folder.mkdir()
    for name in ("index.html", "letter.txt"):
        (own / name).write_text("keep me")
    for taken in (own, own / "letter.txt"):
        assert course.main(["08", "--out", str(taken)]) == 2
        assert "holds something else than pages of this course" in capsys.readouterr().err
    assert sorted(path.name for path in own.iterdir()) == ["index.html", "letter.txt"]
    for number in ("09", "09", "08"):  # an empty folder is taken, and so is what a run has made
        assert course.main([number, "--out", str(new)]) == 0
    assert {path.name for path in new.glob("*.json")} == {"course.json", "course-scale.json"}


def test_a_notebook_without_title_is_refused():
    with pytest.raises(ValueError, match="01_x: the first heading"):
        pages.read_lesson(new_notebook(cells=[new_markdown_cell("# Title")]), "01_x")


def test_stats_count_what_a_reader_meets(tmp_path):
    cells = [
        new_markdown_cell("# 1. A title\n\nThree [more words](http://x.org/a/b).\n```\nno\n```"),
        new_code_cell("setup()", metadata={"cellView": "form"}),
        new_code_cell("a\nb\nc"),
        new_code_cell("x"),
    ]
    picture = nbformat.v4.new_output("display_data", data={"image/png": png()})
    cells[2].outputs = [picture, picture]
    nbformat.write(new_notebook(cells=cells), tmp_path / "01_a.ipynb")
    found = stats.notebook_stats(tmp_path / "01_a.ipynb")
    assert (found.text_cells, found.code_cells, found.words, found.figures) == (1, 2, 6, 2)
    assert (found.median, found.longest) == (2, 3)


def test_lines_of_code_are_neither_blank_nor_comment_nor_docstring(tmp_path):
    module = tmp_path / "a.py"
    doc, code = '"""Doc.\n\nMore.\n"""\n\n# why\n', 'x = """two\nlines"""\n\n\n'
    module.write_text(doc + code + 'def f():\n    """D."""\n    return x  # yes\n')
    assert code_lines(module) == 4
