"""Notebook 02 for a reader whose machine is too small for the captioner: it runs to its end."""

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


@pytest.mark.slow
def test_without_memory_for_the_captioner_templates_stay(tmp_path: Path, monkeypatch):
    photos = tmp_path / "photos"
    write_catalogue(photos, n=60)
    monkeypatch.setenv("MODA_DATA_DIR", str(photos))
    (twin,) = tool.TWINS.glob("02_*.py")
    notebook = tool.read_twin(twin)
    setup = next(
        place
        for place, cell in enumerate(notebook.cells)
        if "setup" in cell.metadata.get("tags", [])
    )
    notebook.cells.insert(setup + 1, nbformat.v4.new_code_cell(NO_MEMORY))
    make_catalogue = nbformat.v4.new_code_cell('from moda_utils import catch_up\ncatch_up("02")')
    notebook.cells.insert(setup + 2, make_catalogue)
    execute(notebook, tool.NOTEBOOKS, kernel_environment(tmp_path / "home"), tmp_path / "log")

    shown = [o.text for cell in notebook.cells for o in cell.get("outputs", []) if "text" in o]
    assert any("GB free" in text and "descriptions that there are" in text for text in shown)
    assert sum("Skipped: there is no captioner" in text for text in shown) >= 5
    dataset = load_dataset_dir(tmp_path / "home" / "mini-photos" / "dataset")
    rows = [row for part in dataset.values() for row in part.remove_columns("image")]
    assert len(rows) == 60
    assert {row["description_source"] for row in rows} == {"template"}
    assert all(row["description"] == row["description_template"] for row in rows)
