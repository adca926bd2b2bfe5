"""A notebook as a newcomer meets it: one file alone in an empty folder, on Colab.

Colab is stood in for by what the cell can see of it: the module `google.colab`, loaded before the
first cell, and a Python that has Colab's packages but not those that Colab lacks. Cloning and
installing are real: git clones this working tree from a local address, pip asks its index.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import distributions
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import links
from moda_utils.profiles import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
NEVER_REPLACED = ("torch", "numpy", "pandas")
KERNEL = "newcomer"

pytestmark = pytest.mark.slow


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names_in(path: Path) -> set[str]:
    """Packages that a requirements or constraints file names."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {normal(re.split(r"[=<>\s]", line)[0]) for line in lines if line and line[0] != "#"}


# Torch stands outside of constraints-colab.txt: Makefile says which build is taken.
LACKING = names_in(ROOT / "requirements.txt") - names_in(ROOT / "constraints-colab.txt") - {"torch"}


def installed(python: Path) -> dict[str, str]:
    """{package: version} as a fresh process of this Python sees them."""
    code = (
        "import json; from importlib.metadata import distributions as d; "
        "print(json.dumps({x.name: x.version for x in d()}))"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return {normal(name): version for name, version in json.loads(done.stdout).items()}


class Machine:
    """A Python of its own that sees this environment's packages, but none of those in LACKING."""

    def __init__(self, folder: Path, colab: bool):
        self.python = folder / "venv" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        (self.own,) = (folder / "venv" / "lib").glob("python*/site-packages")
        shared = folder / "venv" / "shared"  # dill knows packages by their place below sys.prefix
        shared.mkdir()
        hidden = {
            Path(str(file)).parts[0]
            for package in distributions()
            if normal(package.name) in LACKING
            for file in package.files or []
        }
        for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
            if entry.name not in hidden and entry.suffix != ".pth":
                (shared / entry.name).symlink_to(entry)
        (self.own / "shared.pth").write_text(f"{shared}\n")
        ipython = folder / "ipython" / "profile_default" / "startup"
        ipython.mkdir(parents=True)
        if colab:
            (self.own / "google" / "colab").mkdir(parents=True)
            (self.own / "google" / "colab" / "__init__.py").touch()
            (ipython / "00-colab.py").write_text("import google.colab\n")
        spec = folder / "jupyter" / "kernels" / KERNEL
        spec.mkdir(parents=True)
        command = [str(self.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        content = {"argv": command, "display_name": KERNEL, "language": "python"}
        (spec / "kernel.json").write_text(json.dumps(content))
        unwanted = re.compile(r"MODA_|PYTHON|GIT_|MPLBACKEND|KAGGLE|HF_TOKEN|VIRTUAL_ENV")
        self.environment = {n: v for n, v in os.environ.items() if not unwanted.match(n)} | {
            "JUPYTER_PATH": str(folder / "jupyter"),
            "IPYTHONDIR": str(folder / "ipython"),
            "TQDM_DISABLE": "1",
        }

    def run(self, notebook: nbformat.NotebookNode, folder: Path, **environment: str) -> None:
        client = NotebookClient(
            notebook,
            timeout=1800,
            startup_timeout=180,
            iopub_timeout=60,
            kernel_name=KERNEL,
            resources={"metadata": {"path": str(folder)}},
        )
        client.execute(env=self.environment | environment)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes a `Machine`; its kernel is known to this process."""
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "machine" / "jupyter"))

    def make(colab: bool) -> Machine:
        (tmp_path / "machine").mkdir()
        return Machine(tmp_path / "machine", colab)

    return make


@pytest.fixture(scope="session")
def address(tmp_path_factory) -> dict[str, str]:
    """Publish this working tree in a git repository; settings that lead the clone command there."""
    tree = tmp_path_factory.mktemp("published")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    author = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "--quiet"], ["add", "--all"], [*author, "commit", "-qm", "course"]):
        subprocess.run(["git", *command], cwd=tree, check=True)
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{tree}.insteadOf",
        "GIT_CONFIG_VALUE_0": links.REPOSITORY,
    }


@pytest.fixture(scope="session")
def index(tmp_path_factory) -> None:
    """pip's index must answer: without it Colab's lacking packages can't be had."""
    folder = tmp_path_factory.mktemp("download")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(folder)]
    done = subprocess.run([*command, *LACKING], capture_output=True, text=True)
    if done.returncode:  # no skip: where `make setup` has run, an index could be reached
        pytest.fail(f"pip reaches no package index here: {done.stderr.strip()[-200:]}")


def first_cells(path: Path, code_cells: int) -> nbformat.NotebookNode:
    """A copy of a notebook that ends after so many code cells; the stored outputs are dropped."""
    notebook = nbformat.read(path, as_version=4)
    code = [n for n, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    notebook.cells = notebook.cells[: code[:code_cells][-1] + 1]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def shown(cell: nbformat.NotebookNode) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


def code_of(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize(("number", "cells"), [("01", 12), ("04", 6), ("05", 1)])
def test_a_single_notebook_in_an_empty_folder_on_colab(
    machine, address, index, tmp_path, number, cells
):
    (path,) = (path for path in NOTEBOOKS if path.name.startswith(number))
    colab, content = machine(colab=True), tmp_path / "content"
    content.mkdir()
    shutil.copy(path, content)
    before = installed(colab.python)
    assert not set(before) & LACKING
    notebook = first_cells(content / path.name, cells)
    colab.run(notebook, content, **address)

    setup = code_of(notebook)[0]
    assert setup.metadata.tags == ["setup"]
    assert "Profile    mini" in shown(setup)
    assert (content / "moda-course" / "moda_utils").is_dir()
    after = installed(colab.python)
    assert {name: after[name] for name in before} == before  # nothing is replaced
    assert set(after) - set(before) >= LACKING
    assert {normal(n) for n in NEVER_REPLACED} <= set(before)
    own = {normal(path.name.split("-")[0]) for path in colab.own.glob("*.dist-info")}
    assert own - {"pip", "setuptools"} == set(after) - set(before)
    errors = [o for cell in code_of(notebook) for o in cell.outputs if o.output_type == "error"]
    assert errors == []

    # The runtime was restarted: a fresh kernel in the folder where the clone is already.
    (content / "moda-course" / "mine.txt").touch()
    again = first_cells(content / path.name, 1)
    colab.run(again, content, **address)
    assert "Profile    mini" in shown(code_of(again)[0])
    assert (content / "moda-course" / "mine.txt").exists()


def shows_a_picture(cell: nbformat.NotebookNode) -> bool:
    return any("image/png" in output.get("data", {}) for output in cell.outputs)


def test_notebook_00_alone_describes_its_first_photos(machine, address, index, tmp_path):
    notebook = first_cells(NOTEBOOKS[0], 9)
    assert code_of(notebook)[-1].source.startswith("model.eval()\nafter = say(three)")
    notebook.cells.append(nbformat.v4.new_code_cell('print(*after, sep="\\n")'))
    machine(colab=True).run(notebook, tmp_path, **address)
    *_, pictures, sentences = code_of(notebook)
    assert shows_a_picture(pictures)
    described = shown(sentences).splitlines()
    assert len(described) == 3
    for text in described:
        assert len(text.split()) >= 3, text


def test_notebook_05_alone_catches_up_and_trains(machine, address, index, tmp_path):
    """Who skips the notebooks before it has one line to add, and chooses fewer epochs."""
    notebook = first_cells(NOTEBOOKS[5], 20)
    setup, form, training = (
        cell
        for cell in code_of(notebook)
        if re.search(r'setup\("05"|^EPOCHS = 20|^history = train\(', cell.source, re.MULTILINE)
    )
    form.source = form.source.replace("EPOCHS = 20", "EPOCHS = 2")
    after_setup = notebook.cells.index(setup) + 1
    catching_up = nbformat.v4.new_code_cell('from moda_utils import catch_up\n\ncatch_up("05")')
    notebook.cells.insert(after_setup, catching_up)
    machine(colab=True).run(notebook, tmp_path, **address)
    assert "catch_up" in shown(setup)
    assert "notebook 01: photos, checks and splits" in shown(catching_up)
    assert training is code_of(notebook)[-1]
    assert shows_a_picture(training)
    assert re.findall(r"^epoch +(\d+)", shown(training), re.MULTILINE) == ["1", "2"]


def test_outside_colab_nothing_is_cloned_or_installed(machine, tmp_path):
    here = machine(colab=False)
    before = installed(here.python)
    status = ["git", "status", "--porcelain"]
    tree = subprocess.run(status, cwd=ROOT, capture_output=True, text=True).stdout
    notebook = first_cells(NOTEBOOKS[0], 1)
    here.run(notebook, ROOT / "notebooks", MODA_HOME=str(tmp_path / "home"))
    text = shown(code_of(notebook)[0])
    for name in LACKING:
        assert name in text.split("Missing packages: ")[1].splitlines()[0]
    assert "pip install -r requirements.txt" in text
    assert installed(here.python) == before
    assert subprocess.run(status, cwd=ROOT, capture_output=True, text=True).stdout == tree
