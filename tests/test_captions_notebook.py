"""Notebook 02 where the captioner does not fit, or is too slow: templates stay, and it is said."""

from pathlib import Path

import nbformat
import pytest

import notebooks as tool
from moda_utils.dataset import load_dataset_dir
from moda_utils.mini.catalogue import write_catalogue
from running import execute, kernel_environment

NO_MEMORY = """
import moda_utils.answers
moda_utils.answers.free_memory = lambda device=None: 1_000
"""
# A clock that runs 10,000 times too fast shows the notebook a machine that is as much too slow.
SLOW_MACHINE = """
import time
clock = time.perf_counter
time.perf_counter = lambda: 10_000 * clock()
"""


def run(trouble: str, folder: Path, monkeypatch) -> tuple[str, list[dict]]:
    """What notebook 02 prints in this trouble on 60 drawn items, and the rows of its dataset."""
    photos = folder / "photos"
    write_catalogue(photos, n=60)
    monkeypatch.setenv("MODA_DATA_DIR", str(photos))
    (twin,) = tool.TWINS.glob("02_*.py")
    notebook = tool.read_twin(twin)
    tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
    setup = next(place for place, names in enumerate(tags) if "setup" in names)
    make_catalogue = 'from moda_utils import catch_up\ncatch_up("02")'
    extra = [nbformat.v4.new_code_cell(code) for code in (trouble, make_catalogue)]
    notebook.cells[setup + 1 : setup + 1] = extra
    execute(notebook, tool.NOTEBOOKS, kernel_environment(folder / "home"), folder / "log")
    shown = [o.text for cell in notebook.cells for o in cell.get("outputs", []) if "text" in o]
    dataset = load_dataset_dir(folder / "home" / "mini-photos" / "dataset")
    return "\n".join(shown), [r for part in dataset.values() for r in part.remove_columns("image")]


@pytest.mark.slow
@pytest.mark.parametrize("trouble", [NO_MEMORY, SLOW_MACHINE], ids=["no memory", "slow machine"])
def test_templates_stay_and_it_is_said(trouble, tmp_path: Path, monkeypatch):
    shown, rows = run(trouble, tmp_path, monkeypatch)
    if trouble == NO_MEMORY:
        assert "GB free" in shown and "descriptions that there are" in shown
        assert shown.count("Skipped: there is no captioner") >= 5
    else:
        assert "Not started: 60 photos would take" in shown
        assert "0 of 60 items have an answer" in shown
    assert len(rows) == 60
    assert {row["description_source"] for row in rows} == {"template"}
    assert all(row["description"] == row["description_template"] for row in rows)
