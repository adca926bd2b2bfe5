"""Make the notebooks from their twins: convert, execute, clean, store.

    python tools/notebooks.py               all of notebooks/py, in order, then all solutions
    python tools/notebooks.py 04 05         only these; they need the artefacts of earlier ones
    python tools/notebooks.py 05 --solutions               the solutions of 05's exercises
    python tools/notebooks.py 05 --home artifacts-dev      artefacts in a folder of your choice
    python tools/notebooks.py 05 --from-ipynb              only write the twin of an edited notebook
    python tools/notebooks.py --check       do notebooks and twins say the same?

Without --home the artefacts go to a fresh temporary folder, which all notebooks of the run share.
"""

import argparse
import difflib
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jupytext
import nbformat
from jupytext.config import load_jupytext_config

from running import (
    ANSI,
    NOTEBOOKS,
    ROOT,
    SOLUTION_TWINS,
    SOLUTIONS,
    TWINS,
    NotebookFailed,
    execute,
    kernel_environment,
    select,
)

sys.path.insert(0, str(ROOT))
from moda_utils.storage import atomic_path

PAIRS = ((NOTEBOOKS, TWINS), (SOLUTIONS, SOLUTION_TWINS))  # where notebooks and twins lie
KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
NOTEBOOK_METADATA = ("accelerator", "colab")

WIDGET_TYPE = "application/vnd.jupyter.widget-view+json"


def read_twin(path: Path) -> nbformat.NotebookNode:
    """The notebook that a percent script stands for, without outputs."""
    notebook = jupytext.reads(
        path.read_text(encoding="utf-8"), fmt="py:percent", config=_config(), as_version=4
    )
    return _normalise(notebook)


def to_twin(notebook: nbformat.NotebookNode) -> str:
    """The percent script of a notebook, in the one form that is stored."""
    text = jupytext.writes(_normalise(notebook), fmt="py:percent", config=_config())
    return text.rstrip("\n") + "\n"


def read_notebook(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def _config() -> object:
    return load_jupytext_config(str(TWINS / "any.py"))


def _normalise(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy with the metadata that the course keeps, and ids that follow from the position."""
    copy = nbformat.from_dict(notebook)
    metadata = {key: copy.metadata[key] for key in NOTEBOOK_METADATA if key in copy.metadata}
    metadata["kernelspec"] = KERNELSPEC
    metadata["language_info"] = {"name": "python"}
    copy.metadata = nbformat.from_dict(metadata)
    copy.nbformat, copy.nbformat_minor = 4, 5
    for position, cell in enumerate(copy.cells, start=1):
        kept = {key: cell.metadata[key] for key in ("cellView", "tags") if key in cell.metadata}
        cell.metadata = nbformat.from_dict(kept)
        cell.id = f"cell-{position:03d}"
    return copy


def clean(notebook: nbformat.NotebookNode, home: Path) -> nbformat.NotebookNode:
    """A copy whose outputs are fit to be stored: no widgets, no machine's paths.

    The folder of this run's artefacts is shown under its default name, `artifacts`.
    """
    copy = _normalise(notebook)
    for cell in copy.cells:
        if cell.cell_type != "code":
            continue
        kept = [_clean_output(output, home) for output in cell.outputs]
        cell.outputs = [output for output in kept if output is not None]
    return copy


def _clean_output(output: nbformat.NotebookNode, home: Path) -> nbformat.NotebookNode | None:
    if output.output_type == "stream":
        output.text = _neutral(output.text, home)
        return output if output.text.strip() else None
    if output.output_type in ("display_data", "execute_result"):
        output.data.pop(WIDGET_TYPE, None)
        output.metadata = nbformat.from_dict({})
        for mime, content in output.data.items():
            if mime.startswith("text/") and isinstance(content, str):
                output.data[mime] = _neutral(content, home)
        return output if output.data else None
    return output


def _neutral(text: str, home: Path) -> str:
    """Text without colour codes, with this run's artefact folder under its default name."""
    text = ANSI.sub("", text).replace(str(home), "artifacts")
    if home.is_relative_to(ROOT):
        text = text.replace(home.relative_to(ROOT).as_posix(), "artifacts")
    return text


def remarks(notebook: nbformat.NotebookNode) -> list[str]:
    """What a person should look at before storing: stderr, absolute paths, memory addresses."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            text = output.get("text") or output.get("data", {}).get("text/plain", "")
            if output.get("name") == "stderr":
                found.append(f"{cell.id} writes to stderr: {text.strip()[:300]}")
            if match := re.search(r"(?<![\w.:/])/(home|root|tmp|work|Users|content)/\S*", text):
                found.append(f"{cell.id} shows an absolute path: {match.group(0)[:80]}")
            if match := re.search(r"\bat 0x[0-9a-f]{6,}", text):
                found.append(f"{cell.id} shows a memory address: {match.group(0)}")
    return found


def write_text(path: Path, text: str) -> bool:
    """Write atomically where the text differs; says whether it did."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return True


def build(twin: Path, path: Path, home: Path, log: Path) -> None:
    """Execute one twin and store it as `path`; brings the twin itself into its stored form."""
    notebook = read_twin(twin)
    cost = execute(notebook, path.parent, kernel_environment(home), log)
    notebook = clean(notebook, home)
    nbformat.validate(notebook)
    for remark in remarks(notebook):
        print(f"   look: {remark}")
    write_text(path, nbformat.writes(notebook) + "\n")
    rewrote = write_text(twin, to_twin(notebook))
    megabytes = path.stat().st_size / 1e6
    print(
        f"{twin.stem}: {cost.seconds:.1f} s, peak {cost.peak_bytes / 1e9:.2f} GB, "
        f"{megabytes:.2f} MB stored" + (", twin brought into stored form" if rewrote else "")
    )


def differences(notebooks: Path = NOTEBOOKS, twins: Path = TWINS) -> list[str]:
    """Where notebooks and twins disagree, as text for a person; empty when they agree."""
    found = []
    stems = {path.stem for path in select(notebooks, ".ipynb")}
    twin_stems = {path.stem for path in select(twins, ".py")}
    found += [f"{stem}.ipynb has no twin in py/" for stem in sorted(stems - twin_stems)]
    found += [f"py/{stem}.py has no notebook" for stem in sorted(twin_stems - stems)]
    for stem in sorted(stems & twin_stems):
        expected = to_twin(read_notebook(notebooks / f"{stem}.ipynb")).splitlines()
        actual = (twins / f"{stem}.py").read_text(encoding="utf-8").splitlines()
        diff = difflib.unified_diff(
            expected, actual, f"{stem}.ipynb", f"py/{stem}.py", lineterm="", n=1
        )
        if lines := list(diff):
            found.append("\n".join(lines[:30]))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("numbers", nargs="*", metavar="NN", help="notebooks, default all")
    parser.add_argument("--home", type=Path, help="folder of artefacts, default a temporary one")
    parser.add_argument("--solutions", action="store_true", help="the solutions of NN's exercises")
    parser.add_argument("--from-ipynb", action="store_true", help="write twins, execute nothing")
    parser.add_argument("--check", action="store_true", help="compare notebooks and twins")
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except FileNotFoundError as error:  # no such notebook
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped; the notebooks named above are stored.", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    if options.check:
        found = [line for folder, twins in PAIRS for line in differences(folder, twins)]
        print("\n\n".join(found) if found else "Notebooks and twins agree.")
        return bool(found)
    pairs = PAIRS[:1] if options.numbers else PAIRS  # a number alone names the notebook
    if options.solutions:
        pairs = PAIRS[1:]
    if options.from_ipynb:
        for folder, twins in pairs:
            for path in select(folder, ".ipynb", options.numbers):
                write_text(twins / f"{path.stem}.py", to_twin(read_notebook(path)))
        return 0
    with tempfile.TemporaryDirectory(prefix="moda-notebooks-") as temporary:
        home = (options.home or Path(temporary, "home")).resolve()
        named = options.numbers
        wanted = [(f, twin) for f, twins in pairs for twin in select(twins, ".py", named, False)]
        for folder, twin in wanted:
            try:
                log = ROOT / "build" / "notebooks" / f"{twin.stem}.log"
                build(twin, folder / f"{twin.stem}.ipynb", home, log)
            except NotebookFailed as error:
                print(f"{twin.stem} failed.\n{error.screen()}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
