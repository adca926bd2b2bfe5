"""Files that are either whole or absent: written beside their place, then moved into it."""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
from safetensors import SafetensorError

DENIED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)  # full, read-only
_ADVICE = "make room on the disk or choose another MODA_HOME, and run this again"


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Make one sentence of whatever a writer raises on a full disk or in a read-only folder.

    Raises:
        OSError: which path, why, what to do, and that earlier files are intact.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        # The writers of torch and safetensors have errors of their own, without a number.
        reasons = [os.strerror(code) for code in DENIED if os.strerror(code) in str(error)]
        if "inline_container" in str(error):
            reasons.append("torch can't write: is the disk full?")
        if not reasons or _ADVICE in str(error):
            raise
        text = f"{path} can't be written ({reasons[0]}): {_ADVICE}."
        raise OSError(f"{text} What was saved before is intact.") from error


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it there when the block ends without an error.

    A reader sees the old file or the new one, never half of one. After an error (a full disk,
    Ctrl-C) the temporary file is removed and the old one is untouched; what a killed process left
    is removed by the next one that writes here.
    """
    path = Path(path)
    with writing(path):
        temporary = _beside(path)
        temporary.touch()  # where nothing can be written, better to know it now
        mode = temporary.stat().st_mode
        try:
            yield temporary
            temporary.chmod(mode)  # safetensors makes private files
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: Path | str) -> Iterator[Path]:
    """Yield an empty folder beside `path`; it takes the place of `path` when the block ends well.

    A folder can't be replaced in one step where one exists already: the old one is moved aside
    first and put back should the second move fail.
    """
    path = Path(path)
    with writing(path):
        temporary = _beside(path)
        old = temporary.with_name(temporary.name + "-old")
        temporary.mkdir()
        try:
            yield temporary
            if path.exists():
                os.replace(path, old)
            os.replace(temporary, path)
        finally:
            if old.exists() and not path.exists():
                os.replace(old, path)
            for leftover in (temporary, old):
                _remove(leftover)


def _beside(path: Path) -> Path:
    """A free temporary name beside `path`; what killed processes left under one is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = re.compile(rf"\.{re.escape(path.name)}-(\d+)-")
    for found in path.parent.iterdir():
        match = names.match(found.name)
        if match and not psutil.pid_exists(int(match[1])):
            _remove(found)
    # The suffix is kept because some writers choose the format by it (Pillow, pandas).
    return path.with_name(f".{path.name}-{os.getpid()}-{uuid4().hex}{path.suffix}")


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def require(path: Path, notebook: str) -> Path:
    """Return `path` if it exists.

    Raises:
        FileNotFoundError: it doesn't; the message names what makes it.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{path.name} is missing: run notebook {notebook} first, or catch_up as the setup "
            "cell says."
        )
    return path


def write_json(path: Path | str, content: Any) -> None:
    """Write `content` as indented UTF-8 JSON, atomically."""
    with atomic_path(path) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """Read a UTF-8 JSON file; a broken one is an error that names the file."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        advice = "delete it and run its notebook again"
        raise ValueError(f"{path.name} is not valid JSON ({error}): {advice}.") from error


def sha256_file(path: Path | str) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
