"""Describe photos in a terminal, or on a page:

python -m moda_utils.serving PHOTO_OR_FOLDER ... [--csv OUT] [--model FOLDER] [--float32]
python -m moda_utils.serving --demo [--model FOLDER] [--float32]
"""

import argparse
import csv
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from moda_utils.catalog import SUFFIXES
from moda_utils.modeling_moda import ModaProcessor
from moda_utils.serving import NOTES, Moda, describe_each, load_model

HEADER = ["photo", "description"]  # of the table that --csv writes


def main(arguments: Sequence[str] | None = None) -> int:
    """Describe what the command line names; 1 where a photo, a folder or the model failed."""
    parser = argparse.ArgumentParser(
        prog="python -m moda_utils.serving",
        description="Say what photos show. Exit status 1: something could not be described.",
    )
    parser.add_argument("photos", nargs="*", metavar="PHOTO_OR_FOLDER")
    parser.add_argument(
        "--csv", type=Path, metavar="OUT",
        help="add to this table; what it holds is skipped: delete it after a new training",
    )  # fmt: skip
    parser.add_argument("--model", help="folder of a trained MODA (default: runs/moda/best)")
    parser.add_argument("--float32", action="store_true", help="no int8 weights on a CPU")
    parser.add_argument("--demo", action="store_true", help="a web page instead, on this machine")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", module="PIL")  # about oddities in files that can be read
    if options.demo == bool(options.photos or options.csv):
        parser.error("name photos or folders, or --demo")
    try:
        if options.demo:
            from moda_utils.demo import launch  # here: gradio takes seconds to import

            launch(options.model, int8=not options.float32)
            return 0
        moda, processor = load_model(options.model, int8=not options.float32)
        return _describe_files(options.photos, options.csv, moda, processor)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. With --csv, the same command goes on from here.", file=sys.stderr)
        return 130


def _describe_files(
    names: Sequence[str], table: Path | None, moda: Moda, processor: ModaProcessor
) -> int:
    """Print a line, or write a row, for each photo; 1 if one of them failed."""
    named: dict[str, str] = {}  # once each, however often they are named
    failed = 0
    for found in _find_photos(names):
        if isinstance(found, Exception):
            failed += 1
            print(found, file=sys.stderr)
        else:
            named.setdefault(os.path.abspath(found), found)
    done = _open_table(table) if table else set()
    todo = [photo for path, photo in named.items() if path not in done]
    if len(todo) < len(named):
        print(f"{len(named) - len(todo)} photos are in {table} already.", file=sys.stderr)
    with tqdm(total=len(todo), unit="photo", disable=None) as bar:  # only in a terminal
        for photo, result in zip(todo, describe_each(todo, moda, processor), strict=True):
            bar.update()
            if isinstance(result, Exception):
                failed += 1
                bar.write(str(result), file=sys.stderr)
            elif table:
                _add_rows(table, [[photo, result]])
            else:
                bar.write(f"{photo}: {result}", file=sys.stdout)
    if moda.config.trained_on in NOTES and todo:
        print(NOTES[moda.config.trained_on], file=sys.stderr)
    return int(failed > 0)


def _find_photos(names: Sequence[str]) -> Iterator[str | Exception]:
    """Files as they are named, photos in and below folders; errors of folders among them."""
    for name in names:
        if not os.path.isdir(name):
            yield name
            continue
        found: list[str | Exception] = []
        for folder, below, files in os.walk(name, onerror=found.append):
            below.sort()
            photos = [file for file in sorted(files) if file.lower().endswith(SUFFIXES)]
            found += [os.path.join(folder, file) for file in photos if file[0] != "."]
        yield from found or [FileNotFoundError(f"There is no photo in the folder {name}.")]


def _open_table(table: Path) -> set[str]:
    """Begin or continue a table; which photos it holds, by absolute path.

    The half row that a killed run may have left is cut off, so that its photo is described again.
    """
    content = table.read_bytes() if table.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    lines = whole.decode("utf-8-sig", "surrogateescape").splitlines(keepends=True)
    header, *rows = [row for row in csv.reader(lines) if row] or [HEADER]
    if header != HEADER or (content and not whole):
        raise ValueError(f"{table} is no table of descriptions: name another file for --csv.")
    if len(whole) < len(content):
        os.truncate(table, len(whole))
    _add_rows(table, [])  # where nothing can be written, better to know it now
    return {os.path.abspath(row[0]) for row in rows}


def _add_rows(table: Path, rows: Sequence[Sequence[str]]) -> None:
    """Append rows to the table, below a header, and see them to the disk."""
    with open(table, "a", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows(rows if file.tell() else [HEADER, *rows])
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    sys.exit(main())
