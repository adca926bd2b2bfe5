"""Single cells: run twice in a row, and sections begun in a fresh kernel.

The notebooks run in order in one home, with the mini profile; a notebook that is chosen alone
(`-k 05`) needs what the earlier ones leave, so choose those too. Sections run alone as well
(`-k "fresh_kernel and not 09"`): what they start from is made before.
"""

import copy
import difflib
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from moda_utils.profiles import ROOT
from running import kernel_environment, select

# Notebook 09 runs where Ray is: `make test-full` installs it before.
NOTEBOOKS = select(ROOT / "notebooks", ".ipynb", separate=find_spec("ray") is not None)
START = "start-here"
CELL_SECONDS = 900

# What a clock or a meter says differs from run to run; all other text must not.
NUMBER = r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?"
MEASURED = re.compile(
    rf"{NUMBER}\s?(?:s|ms|min|seconds?|minutes?|hours?|GB|MB|kB|GFLOP|TFLOP|%? of the time)\b"
    rf"|{NUMBER}\s?[\w]+(?:/s| per second| a second)\b"
    r"|\d[\d,]*\.\d+ times\b"  # a quotient of two times; "2 times" and "168 x 224" are counted
    r"|\b0x[0-9a-f]{6,}\b|/tmp/\S+"
)

pytestmark = pytest.mark.slow
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@contextmanager
def kernel(notebook: nbformat.NotebookNode, home: Path) -> Iterator[NotebookClient]:
    """A fresh kernel that cells of `notebook` can be run in, one by one."""
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        startup_timeout=180,
        iopub_timeout=60,
        kernel_name="python3",
        resources={"metadata": {"path": str(ROOT / "notebooks")}},
        coalesce_streams=True,
    )
    environment = kernel_environment(home) | {"MODA_PROFILE": "mini", "HF_HUB_OFFLINE": "1"}
    with client.setup_kernel(env=environment):
        yield client


def run(client: NotebookClient, index: int) -> str:
    """Run one cell; returns its text with meters and clocks taken out. An exception fails."""
    cell = copy.deepcopy(client.nb.cells[index])
    client.execute_cell(cell, index)
    shown = []
    for output in cell.outputs:
        text = output.get("text") or output.get("data", {}).get("text/plain", "")
        shown.append(text if isinstance(text, str) else "".join(text))
    # A number that a clock makes longer moves the columns beside it.
    pattern = re.compile(NUMBER) if "measured" in tags(cell) else MEASURED  # a table of times
    return re.sub(r"[ \t]+", " ", pattern.sub("<measured>", "\n".join(shown)))


def tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def content(home: Path) -> dict[str, tuple[int, int]]:
    """What lies in the home: size and date of each file."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in home.rglob("*")
        if path.is_file()
    }


def difference(first: str, second: str) -> str:
    lines = difflib.unified_diff(first.splitlines(), second.splitlines(), "first", "second", n=0)
    return "\n".join(lines)


@every_notebook
def test_every_cell_says_the_same_when_it_is_run_again(path, home):
    """A cell that makes artefacts may say so the first time; after that it finds them each time."""
    notebook = nbformat.read(path, as_version=4)
    found = []
    with kernel(notebook, home) as client:
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type != "code":
                continue
            before = content(home)
            first = run(client, index)
            made = content(home) != before
            second = run(client, index)
            if first != second and made:
                first, second = second, run(client, index)
            if first != second:
                found.append(f"{cell.id}: {cell.source[:80]!r}\n{difference(first, second)}")
    assert not found, "\n\n".join(found)


def sections() -> list[tuple[Path, int, int]]:
    """(notebook, index of a start-here cell, index behind the end of its section)."""
    found = []
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        starts = [n for n, cell in enumerate(cells) if START in tags(cell)]
        heads = [
            n
            for n, cell in enumerate(cells)
            if cell.cell_type == "markdown" and re.search(r"^## ", cell.source, re.MULTILINE)
        ]
        found += [(path, n, min([h for h in heads if h > n] or [len(cells)])) for n in starts]
    return found


@pytest.fixture(scope="module")
def filled(home) -> Path:
    """The home with all artefacts of 01 to 05: those that the notebooks above have left, or new."""
    code = 'from moda_utils import catch_up; catch_up("07", go=True, captions=True)'
    environment = kernel_environment(home) | {"MODA_PROFILE": "mini", "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
    return home


@pytest.mark.parametrize(
    ("path", "start", "end"), sections(), ids=[f"{path.stem}-{n}" for path, n, _ in sections()]
)
def test_a_section_can_be_begun_in_a_fresh_kernel(path, start, end, filled):
    """The setup cell, the start-here cell, the rest of the section: nothing else is needed."""
    notebook = nbformat.read(path, as_version=4)
    setup = next(n for n, cell in enumerate(notebook.cells) if "setup" in tags(cell))
    with kernel(notebook, filled) as client:
        for index in (setup, *range(start, end)):
            if notebook.cells[index].cell_type == "code":
                run(client, index)
