"""Draw the course's figures into this folder: python -m images.make_figures [NAME ...]

NN.png and moda_NN.png belong to notebook NN, where the setup cell shows them; a cell shows any
other by `show_figure("tiles")`. Figures that overlap or run off the page are refused. strip.png is
taken from the stored notebook 07: `make notebooks` makes it anew.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .drawing import architecture, background, outputs, overview, pipeline, results, teachers
from .drawing.board import Page

HERE = Path(__file__).resolve().parent
FAMILIES = (overview, background, pipeline, teachers, architecture, results, outputs)
FIGURES = {name: draw for family in FAMILIES for name, draw in family.FIGURES.items()}


def store(name: str) -> list[str]:
    """Draw one figure and store it, unless something is wrong with it: that is returned."""
    page: Page = FIGURES[name]()
    if problems := page.problems():
        return problems
    path = HERE / f"{name}.png"
    page.picture().save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
    return []


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures, default all")
    names = parser.parse_args(arguments).names or list(FIGURES)
    if unknown := [name for name in names if name not in FIGURES]:
        print(f"No figure {unknown[0]}; there are: {', '.join(FIGURES)}.", file=sys.stderr)
        return 2
    found = {name: problems for name in names if (problems := store(name))}
    for name, problems in found.items():
        print(f"{name} is not stored: {'; '.join(problems)}", file=sys.stderr)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
