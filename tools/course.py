"""Run the whole course and make web pages of it: what `make course` does.

    python tools/course.py                          pages in build/course
    python tools/course.py --out build/real/course  pages elsewhere
    python tools/course.py 00 01                    only these notebooks

Runs the code of the notebooks in order, each in a kernel of its own, stops at the first that
fails, and never changes a notebook. Artefacts go where MODA_HOME says (default artifacts/);
MODA_PROFILE (default mini) and MODA_DATA_DIR choose models and photos.
"""

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import nbformat
import pyarrow.parquet

from running import (
    NOTEBOOKS,
    ROOT,
    Cost,
    NotebookFailed,
    execute,
    kernel_environment,
    select,
)

sys.path.insert(0, str(ROOT))
from moda_utils.profiles import Profile, get_profile
from moda_utils.storage import atomic_dir, write_json
from pages import Card, Stamp, first_picture, read_lesson, write_index, write_page

SCREEN = 24  # lines of an error that are printed; all of it is in the log


def run(numbers: Sequence[str], out: Path) -> int:
    """Execute notebooks, write pages into `out`; returns the exit status."""
    environment = kernel_environment()
    os.environ["MODA_PROFILE"] = environment["MODA_PROFILE"]
    profile = get_profile()
    paths = select(NOTEBOOKS, ".ipynb", numbers)
    notebooks = [nbformat.read(path, as_version=4) for path in paths]
    lessons = [read_lesson(nb, path.stem) for nb, path in zip(notebooks, paths, strict=True)]
    logs = out.parent / "logs"
    print(
        f"Profile {profile.name}, {profile.data_label} photos, "
        f"artefacts in {_relative(profile.home)}, {len(paths)} notebooks.",
        flush=True,
    )
    cards = []
    with atomic_dir(out) as folder:
        costs: list[Cost] = []
        for position, (path, notebook) in enumerate(zip(paths, notebooks, strict=True)):
            lesson = lessons[position]
            name = f"{lesson.number}. {lesson.title}"
            print(f"{position + 1}/{len(paths)}  {name:<46.46}", end=" ", flush=True)
            log = logs / f"{path.stem}.log"
            try:
                cost = execute(notebook, NOTEBOOKS, environment, log)
            except NotebookFailed as error:
                print("FAILED", flush=True)
                _explain(path, error, log)
                return 1
            print(f"{cost.seconds:7.1f} s {cost.peak_bytes / 1e9:6.2f} GB", flush=True)
            costs.append(cost)
            cards.append(Card(lesson, cost.seconds, cost.peak_bytes, first_picture(notebook)))
        # Pages come last: only then is the number of items known to every one of them.
        stamp = Stamp(profile.name, profile.data_label, _items(profile), date.today().isoformat())
        for position, notebook in enumerate(notebooks):
            write_page(notebook, lessons, position, stamp, costs[position].seconds, folder, out)
        write_index(cards, stamp, folder)
        write_json(folder / "course.json", _summary(profile, stamp, cards))
    peak = max(cost.peak_bytes for cost in costs)
    print(f"All done in {sum(c.seconds for c in costs):.0f} s, at most {peak / 1e9:.2f} GB.")
    print(f"Open {_relative(out / 'index.html')}")
    return 0


def _explain(path: Path, error: NotebookFailed, log: Path) -> None:
    """The failing cell and its error in one screen."""
    source = error.source.strip().splitlines()
    print(f"\n{_relative(path)}, cell {error.cell}, begins with:")
    print("\n".join(f"    {line}" for line in source[:4]))
    lines = str(error).splitlines()
    print("\nIt failed with:")
    if len(lines) > SCREEN:
        print("    ...")
    print("\n".join(f"    {line[:160]}" for line in lines[-SCREEN:]))
    print(f"\nThe whole error is in {_relative(log)}.")
    print("The artefacts of finished notebooks are kept: `make course` finds them again.")


def _items(profile: Profile) -> int | None:
    """Rows of the catalogue, None where no notebook has made one."""
    if not profile.catalog_path.exists():
        return None
    return pyarrow.parquet.read_metadata(profile.catalog_path).num_rows


def _summary(profile: Profile, stamp: Stamp, cards: Sequence[Card]) -> dict:
    """course.json: what `make results` stores of a run."""
    return {
        "profile": profile.name,
        "data": profile.data_label,
        "items": stamp.items,
        "date": stamp.date,
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "total_seconds": round(sum(card.seconds for card in cards), 1),
        "peak_gb": round(max(card.peak_bytes for card in cards) / 1e9, 2),
        "notebooks": {
            card.lesson.stem: {
                "title": card.lesson.title,
                "seconds": round(card.seconds, 1),
                "peak_gb": round(card.peak_bytes / 1e9, 2),
            }
            for card in cards
        },
    }


def _relative(path: Path) -> str:
    """As a reader at the prompt would type it."""
    return Path(os.path.relpath(path)).as_posix()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("numbers", nargs="*", metavar="NN", help="notebooks, default all")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "course")
    options = parser.parse_args(arguments)
    return run(options.numbers, options.out.resolve())


if __name__ == "__main__":
    sys.exit(main())
