"""Sizes of the course: cells, words and figures of every notebook, lines of the package.

python tools/stats.py        what `make course-stats` prints
"""

import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat

from lines import code_lines
from running import NOTEBOOKS, ROOT, select

PACKAGE = ROOT / "moda_utils"


@dataclass(frozen=True)
class Stats:
    """What one notebook holds. Folded form cells are not code that anybody reads: left out."""

    name: str
    text_cells: int
    code_cells: int
    words: int
    figures: int
    median: float  # lines of a code cell
    ninetieth: float
    longest: int


def notebook_stats(path: Path) -> Stats:
    """Count the stored notebook at `path`."""
    cells = nbformat.read(path, as_version=4).cells
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    code = [cell for cell in cells if cell.cell_type == "code"]
    shown = [cell for cell in code if "cellView" not in cell.metadata]
    lengths = [len(cell.source.strip().splitlines()) for cell in shown]
    figures = sum(
        any(kind.startswith("image/") for kind in output.get("data", {}))
        for cell in code
        for output in cell.outputs
    )
    return Stats(
        name=path.stem,
        text_cells=len(texts),
        code_cells=len(shown),
        words=sum(count_words(text) for text in texts),
        figures=figures,
        median=statistics.median(lengths),
        ninetieth=statistics.quantiles(lengths, n=10, method="inclusive")[-1],
        longest=max(lengths),
    )


def count_words(markdown: str) -> int:
    """Words that a reader reads: without code blocks, addresses and table rules."""
    text = re.sub(r"```.*?```", " ", markdown, flags=re.DOTALL)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return len(re.findall(r"[^\W_]+(?:['’.-][^\W_]+)*", text))


def package_lines() -> dict[str, int]:
    """Lines of code of each module of the package, without mini/."""
    names = {path.relative_to(PACKAGE): path for path in sorted(PACKAGE.rglob("*.py"))}
    return {str(name): code_lines(path) for name, path in names.items() if name.parts[0] != "mini"}


def main(arguments: Sequence[str] | None = None) -> int:
    heads = f"{'notebook':28}{'text':>6}{'code':>6}{'words':>7}{'figures':>9}"
    print(f"{heads}   lines: median, 90 %, max")
    for path in select(NOTEBOOKS, ".ipynb"):
        s = notebook_stats(path)
        print(
            f"{s.name:28}{s.text_cells:6}{s.code_cells:6}{s.words:7,}{s.figures:9}"
            f"{s.median:15.0f}{s.ninetieth:7.0f}{s.longest:5}"
        )
    modules = package_lines()
    total = f"{len(modules)} modules, {sum(modules.values()):,} lines of code"
    print(f"\nmoda_utils without mini/: {total}")
    for name, lines in sorted(modules.items(), key=lambda pair: -pair[1]):
        print(f"{name:28}{lines:6}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
