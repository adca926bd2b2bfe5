"""Run the whole course and make web pages of it: what `make course` does.

    python tools/course.py                          pages in build/course
    python tools/course.py --out build/real/course  pages elsewhere
    python tools/course.py 00 01                    only these notebooks

Runs the code of the notebooks in order, each in a kernel of its own, stops at the first that
fails, and never changes a notebook. Artefacts go where MODA_HOME says (default artifacts/);
MODA_PROFILE (default mini) and MODA_DATA_DIR choose models and photos. What was executed stays in
executed/ beside the pages: a later run with the same profile and photos adds its own. Any other
run replaces the whole folder; logs are in build/logs.
"""

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path

import nbformat
import pyarrow.parquet

from running import (
    NOTEBOOKS,
    ROOT,
    SEPARATE,
    Cost,
    NotebookFailed,
    execute,
    kernel_environment,
    relative,
    select,
)

sys.path.insert(0, str(ROOT))
from moda_utils.profiles import Profile, get_profile
from moda_utils.storage import atomic_dir, read_json, write_json
from pages import Card, Stamp, card_picture, read_lesson, write_index, write_page

COMMAND = "make course-scale"  # runs what is separate
SUMMARIES = ("course.json", "course-scale.json")  # of `make course` and `make course-scale`


def run(paths: Sequence[Path], profile: Profile, environment: dict[str, str], out: Path) -> int:
    """Execute the notebooks at `paths`, write pages into `out`; returns the exit status."""
    notebooks = [nbformat.read(path, as_version=4) for path in paths]
    lessons = [read_lesson(nb, path.stem) for nb, path in zip(notebooks, paths, strict=True)]
    logs = ROOT / "build" / "logs"
    print(
        f"Profile {profile.name}, {profile.data_label} photos, "
        f"artefacts in {relative(profile.home)}.",
        flush=True,
    )
    costs: list[Cost] = []
    for position, (path, notebook) in enumerate(zip(paths, notebooks, strict=True)):
        lesson = lessons[position]
        name = f"{lesson.number}. {lesson.title}"
        print(f"{position + 1}/{len(paths)}  {name:<46.46}", end=" ", flush=True)
        try:
            cost = execute(notebook, NOTEBOOKS, environment, logs / f"{path.stem}.log")
        except NotebookFailed as error:
            print(f"FAILED\n\n{relative(path)}\n{error.screen()}")
            print("Finished notebooks left their artefacts: run the same command again.")
            return 1
        print(f"{cost.seconds:7.1f} s {cost.peak_bytes / 1e9:6.2f} GB", flush=True)
        costs.append(cost)

    # Pages come last: only then is the number of items known to every one of them.
    stamp = Stamp(profile.name, profile.data_label, _items(profile), date.today().isoformat())
    for notebook, cost in zip(notebooks, costs, strict=True):
        of = {"home": profile.home.name, "date": stamp.date}  # the name tells profile and photos
        notebook.metadata["course"] = of | asdict(cost)
    ran = {path.stem: notebook for path, notebook in zip(paths, notebooks, strict=True)}
    site = dict(sorted((_earlier(out, profile.home.name) | ran).items()))
    with atomic_dir(out) as folder:
        cards = _write_site(site, stamp, folder, out)
        (folder / "executed").mkdir()
        for stem, notebook in site.items():
            nbformat.write(notebook, folder / "executed" / f"{stem}.ipynb")
        for old in (out / name for name in SUMMARIES if (out / name).exists()):
            if read_json(old).get("home") == profile.home.name:
                shutil.copy(old, folder)
        course, scale = SUMMARIES
        name = scale if {path.name[:2] for path in paths} <= SEPARATE else course
        own = [card for card in cards if card.lesson.stem in ran]
        write_json(folder / name, _summary(profile, stamp, own))
    peak = max(cost.peak_bytes for cost in costs)
    print(f"All done in {sum(c.seconds for c in costs):.0f} s, at most {peak / 1e9:.2f} GB.")
    print(f"Open {relative(out / 'index.html')}")
    return 0


def _check_replaceable(out: Path) -> None:
    """A run replaces all of `out`: that must be new, empty, or what an earlier run has made.

    Raises:
        ValueError: it is a file or a folder of something else.
    """
    site = any((out / name).exists() for name in SUMMARIES)
    if out.exists() and not site and (out.is_file() or any(out.iterdir())):
        raise ValueError(
            f"--out {relative(out)} holds something else than pages of this course, and would be "
            "replaced: name a new or an empty folder."
        )


def _earlier(out: Path, home: str) -> dict[str, nbformat.NotebookNode]:
    """By stem, what runs with the same profile and photos have left of notebooks that exist."""
    found = {}
    for path in (out / "executed").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        alike = notebook.metadata.get("course", {}).get("home") == home
        if alike and (NOTEBOOKS / path.name).exists():
            found[path.stem] = notebook
    return found


def _write_site(
    site: Mapping[str, nbformat.NotebookNode], stamp: Stamp, folder: Path, out: Path
) -> list[Card]:
    """Pages of executed notebooks and their index; returns the cards of the pages."""
    lessons = [read_lesson(notebook, stem) for stem, notebook in site.items()]
    cards = []
    for position, notebook in enumerate(site.values()):
        of = notebook.metadata["course"]
        when = replace(stamp, date=of["date"])
        headings = write_page(notebook, lessons, position, when, of["seconds"], folder, out)
        picture = card_picture(notebook)
        card = Card(lessons[position], of["seconds"], of["peak_bytes"], picture, headings)
        cards.append(card)
    others = [path for path in select(NOTEBOOKS, ".ipynb") if path.stem not in site]
    apart = []
    if {path.name[:2] for path in others} <= SEPARATE:  # the course is whole but for these
        apart = [read_lesson(nbformat.read(path, as_version=4), path.stem) for path in others]
    write_index([*cards, *(Card(lesson, command=COMMAND) for lesson in apart)], stamp, folder)
    return cards


def _items(profile: Profile) -> int | None:
    """Rows of the catalogue, None where no notebook has made one."""
    if not profile.catalog_path.exists():
        return None
    return pyarrow.parquet.read_metadata(profile.catalog_path).num_rows


def _summary(profile: Profile, stamp: Stamp, cards: Sequence[Card]) -> dict:
    """course.json, or course-scale.json: what `make results` stores of a run."""
    return {
        "profile": profile.name,
        "home": profile.home.name,  # no path: it is published
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


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("numbers", nargs="*", metavar="NN", help="notebooks, default all")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "course")
    options = parser.parse_args(arguments)
    environment = kernel_environment()
    os.environ["MODA_PROFILE"] = environment["MODA_PROFILE"]
    try:
        profile = get_profile()
        paths = select(NOTEBOOKS, ".ipynb", options.numbers, separate=False)
        _check_replaceable(options.out.resolve())
    except (FileNotFoundError, ValueError) as error:  # a wrong setting, not a broken course
        print(error, file=sys.stderr)
        return 2
    try:
        return run(paths, profile, environment, options.out.resolve())
    except KeyboardInterrupt:
        print("\nStopped. Run the same command to go on: finished artefacts are found again.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
