"""Files in a folder, or at an address such as s3://bucket/shop: read, and written whole."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow.fs import FileSelector, FileSystem, FileType

ACCESS = "see to address, room, rights and credentials (such as AWS_ACCESS_KEY_ID) on every machine"


@contextmanager
def explained(problem: str, advice: str = ACCESS) -> Iterator[None]:
    """Make one sentence of what a file system or a network complains about.

    Raises:
        RuntimeError: the problem, its cause and what to do.
        FileNotFoundError: as it is, for it says enough.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowInvalid) as error:
        raise RuntimeError(f"{problem} ({error}): {advice}, and call again.") from error


def connect(address: str) -> tuple[FileSystem, str]:
    """The file system of a folder or an address, and the path in it."""
    uri = address if "://" in address else Path(address).expanduser().resolve().as_uri()
    return FileSystem.from_uri(uri)


def list_files(address: str) -> list[str]:
    """All whole files at or below an address, sorted; none where there is nothing.

    Raises:
        RuntimeError: the address can't be read.
    """
    with explained(f"{address} can't be read"):
        files, path = connect(address)
        if files.get_file_info(path).type == FileType.File:
            return [path]
        found = files.get_file_info(FileSelector(path, recursive=True, allow_not_found=True))
    return sorted(f.path for f in found if f.type == FileType.File and f.extension != "part")


def write(address: str, name: str, save: Callable[[Any], None]) -> None:
    """Let `save` write into a file below an address: whole, or not at all.

    Raises:
        RuntimeError: it can't be written.
    """
    with explained(f"{address} can't be written"):
        files, path = connect(address)
        path = f"{path}/{name}"
        files.create_dir(path.rpartition("/")[0], recursive=True)
        with files.open_output_stream(f"{path}.part") as stream:
            save(stream)
        files.move(f"{path}.part", path)
