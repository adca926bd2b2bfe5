"""Files in a folder, or at an address such as s3://bucket/shop: read, and written whole."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
from pyarrow.fs import FileSelector, FileSystem, FileType

ACCESS = "see to address, room, rights and credentials (such as AWS_ACCESS_KEY_ID) on every machine"
SHARE = "the workers' files are not here: give a folder that all machines see, or an address"
JOIN = "see that it runs, on this machine too, and has your RAY_AUTH_MODE and RAY_AUTH_TOKEN "
JOIN += "(Ray reads them once: after a change, start a new process, or the notebook's kernel again)"


def shown(text: str) -> str:
    """The text without the keys and passwords that addresses in it may hold.

    Up to the last @, for a key may hold a slash or an @, all is hidden that holds a colon; after
    http:// and https:// also what holds none: a token may stand there. Of other addresses, a name
    before an @ stays, such as a container's or a folder's. Of NAME=VALUE the value goes, but for
    brackets, quotes and stops at its end, which belong to the sentence.
    """
    text = re.sub(r"(?i)(https?://|://(?=\S*(?::|%3A)\S*@))\S*@", r"\1...@", text)
    value = r"(\.{3})?[^&\s]*?(?=[]})>\"'`.,:;]*([&\s]|$))"  # or what an earlier call has put there
    return re.sub(rf"(?i)((key|secret|token|password|sig(nature)?)=){value}", r"\1...", text)


@contextmanager
def explained(problem: str, advice: str = ACCESS, kind: Any = OSError, but: Any = ()) -> Iterator:
    """Make one sentence of what a file system or a network complains about, without secrets.

    Args:
        kind: what is explained, beside the errors of pyarrow.
        but: errors that are left as they are.

    Raises:
        RuntimeError: the problem, its cause and what to do.
    """
    try:
        yield
    except but:
        raise
    except (kind, pa.ArrowException) as error:
        # From None, for a traceback would show the error, secrets and all.
        raise RuntimeError(shown(f"{problem} ({error}): {advice}, and call again.")) from None


def absolute(address: str) -> str:
    """An address, or a folder's whole path: the same for a process that starts elsewhere."""
    return address if "://" in address else str(Path(address).expanduser().resolve())


def connect(address: str) -> tuple[FileSystem, str]:
    """The file system of a folder or an address, and the path in it.

    Raises:
        RuntimeError: there is no such kind of address, or it is malformed.
    """
    uri = address if "://" in address else Path(absolute(address)).as_uri()
    with explained(f"{address} is no address that can be used"):
        return FileSystem.from_uri(uri)


def list_files(address: str) -> list[str]:
    """All files at or below an address but hidden ones, sorted; none where there is nothing.

    Raises:
        RuntimeError: the address can't be read.
    """
    with explained(f"{address} can't be read"):
        files, path = connect(address)
        if files.get_file_info(path).type == FileType.File:
            return [path]
        found = files.get_file_info(FileSelector(path, recursive=True, allow_not_found=True))
    return sorted(f.path for f in found if f.type == FileType.File and f.base_name[0] != ".")


def write(address: str, name: str, save: Callable[[Any], None]) -> None:
    """Let `save` write into a file below an address: whole, or not at all.

    Two that write the same file at once don't meet: each has a file of its own until it is moved.
    It is hidden, so that nobody reads what a kill has left of it.

    Raises:
        RuntimeError: it can't be written.
    """
    with explained(f"{address} can't be written"):
        files, path = connect(address)
        files.create_dir(f"{path}/{name}".rpartition("/")[0], recursive=True)
        with files.open_output_stream(part := f"{path}/.{uuid4().hex}.part") as stream:
            save(stream)
        files.move(part, f"{path}/{name}")
