"""A file of finished work, one JSON object per line: what is in it never has to be computed again.

Lines are only ever added, a batch at a time, and reach the disk before `append` returns. Whatever
kills the process (a Colab disconnect, a full disk, Ctrl-C), the batches before it are safe, and the
half line that it may leave is removed when the file is opened next.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock

from .storage import writing

Row = dict[str, Any]
IDS = ("product_id", "image_sha256")
LOCK_SECONDS = 10.0  # how long to wait for another process that is writing at this moment


def fingerprint(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of a prompt (str) or of options (JSON, any key order)."""
    if not isinstance(value, str):
        value = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(value.encode()).hexdigest()[:16]


class Journal:
    """The rows that one model wrote with one prompt and one set of options.

    A row is known by (product_id, image_sha256, model, prompt_sha, options_sha). Rows of another
    model, prompt or options stay in the file untouched; they are ignored and counted in `ignored`.

    Args:
        path: the .jsonl file; made when the first row is added.
        model: hub id or folder name of the model that writes.
        prompt_sha, options_sha: see `fingerprint`.

    Attributes:
        ignored: lines of another key, as of the last reading.
        damaged: whole lines that are no rows (a disk error, an editor), as of the last reading.
    """

    def __init__(self, path: Path | str, model: str, prompt_sha: str, options_sha: str):
        self.path = Path(path)
        self.key = {"model": model, "prompt_sha": prompt_sha, "options_sha": options_sha}
        self._lock_works = True
        if self.path.exists():
            with self._writing():
                pass  # opening repairs the file
        self.done()
        if self.damaged:
            problem = f"{self.damaged} damaged lines are skipped; their items count as not done."
            warnings.warn(f"{self.path.name}: {problem}", stacklevel=2)

    def check_prompt(self, prompt: str) -> None:
        """Refuse answers to a prompt that this journal was not opened for.

        Raises:
            ValueError: it was opened for another one.
        """
        if self.key["prompt_sha"] != fingerprint(prompt):
            raise ValueError(
                f"{self.path.name} is open for the answers to another prompt: open it again with "
                "the prompt that the model is asked, or they would be mixed up."
            )

    def done(self) -> dict[tuple[str, str], Row]:
        """Read the finished rows: {(product_id, image_sha256): row}.

        Of two rows for one item the later one counts.
        """
        self.ignored = self.damaged = 0
        rows = {}
        content = self.path.read_bytes() if self.path.exists() else b""
        # Split at \n only: str.splitlines would also cut at the U+2028 that a model may write.
        for line in filter(bytes.strip, content.split(b"\n")):
            row = _parse(line)
            if row is None:
                self.damaged += 1
            elif any(row.get(name) != value for name, value in self.key.items()):
                self.ignored += 1
            else:
                rows[row["product_id"], row["image_sha256"]] = row
        return rows

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add a batch. Each row needs product_id and image_sha256; the rest of the key is added.

        Raises:
            ValueError: a row without an id, or with a NaN. Nothing is written.
            OSError: the disk is full or the folder read-only. Earlier rows are intact.
        """
        for row in rows:
            if not all(isinstance(row.get(name), str) for name in IDS):
                raise ValueError(f"A journal row needs the texts {' and '.join(IDS)}: {dict(row)}.")
        lines = [
            json.dumps({**row, **self.key}, ensure_ascii=False, allow_nan=False) for row in rows
        ]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._writing() as file:
            file.write("".join(f"{line}\n" for line in lines).encode())
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def _writing(self) -> Iterator[BinaryIO]:
        """The file, repaired and opened to add to it, while other processes wait.

        Locked for moments only, so that a forgotten notebook blocks nobody.
        """
        with ExitStack() as stack:
            if self._lock_works:
                try:
                    stack.enter_context(FileLock(f"{self.path}.lock", timeout=LOCK_SECONDS))
                except (OSError, NotImplementedError) as error:  # filelock's Timeout is one too
                    self._lock_works = False
                    text = f"can't be locked here ({error}): write it from one notebook at a time."
                    warnings.warn(f"{self.path.name} {text}", stacklevel=4)
            with writing(self.path), open(self.path, "a+b") as file:
                _repair(file)  # any process may have been killed in the middle of its line
                yield file


def _parse(line: bytes) -> Row | None:
    """One line as a row, or None when it isn't one."""
    try:
        row = json.loads(line)
    except ValueError:  # not JSON, or not UTF-8
        return None
    return row if isinstance(row, dict) and set(IDS) <= row.keys() else None


def _repair(file: BinaryIO) -> None:
    """Make the file end with a whole line.

    A last line that only lacks its newline is completed, any other torn one is cut off.
    """
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return
    file.seek(end - 1)
    if file.read() == b"\n":
        return
    file.seek(0)
    last = file.read().rpartition(b"\n")[2]
    if _parse(last) is None:
        file.truncate(end - len(last))
    else:
        file.write(b"\n")
    file.flush()
