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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

Row = dict[str, Any]


def fingerprint(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of a prompt (str) or of options (JSON, any key order)."""
    text = value
    if not isinstance(value, str):
        text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Journal:
    """The rows that one model wrote with one prompt and one set of options.

    A row is known by (product_id, image_sha256, model, prompt_sha, options_sha). Rows of another
    model, prompt or options stay in the file untouched; they are ignored and counted in `ignored`.

    Args:
        path: the .jsonl file; made when the first row is added.
        model: hub id or folder name of the model that writes.
        prompt_sha, options_sha: see `fingerprint`.
        lock_seconds: how long to wait for another process that is writing at this moment.

    Attributes:
        ignored: lines of another key, as of the last reading.
        damaged: whole lines that are no rows (a disk error, an editor), as of the last reading.
    """

    def __init__(
        self,
        path: Path | str,
        model: str,
        prompt_sha: str,
        options_sha: str,
        lock_seconds: float = 10.0,
    ):
        self.path = Path(path)
        self.key = {"model": model, "prompt_sha": prompt_sha, "options_sha": options_sha}
        self.lock_seconds = lock_seconds
        self.ignored = 0
        self.damaged = 0
        self._lock_works = True
        if self.path.exists():
            with self._locked(), self._open("r+b") as file:
                _repair(file)
            self.done()
            if self.damaged:
                message = (
                    f"{self.damaged} damaged lines are skipped; their items count as not done."
                )
                warnings.warn(f"{self.path.name}: {message}", stacklevel=2)

    def done(self) -> dict[tuple[str, str], Row]:
        """Read the finished rows: {(product_id, image_sha256): row}.

        Of two rows for one item the later one counts.
        """
        self.ignored = self.damaged = 0
        rows = {}
        for row in self._lines():
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
            if not all(isinstance(row.get(name), str) for name in ("product_id", "image_sha256")):
                raise ValueError(
                    f"A journal row needs a product_id and an image_sha256: {dict(row)}."
                )
        text = "".join(
            json.dumps({**row, **self.key}, ensure_ascii=False, allow_nan=False) + "\n"
            for row in rows
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked(), self._open("a+b") as file:
            _repair(file)  # another process may have been killed in the middle of its line
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> Iterator[Row | None]:
        if not self.path.exists():
            return
        # Split at \n only: str.splitlines would also cut at the U+2028 that a model may write.
        for line in self.path.read_bytes().split(b"\n"):
            if line.strip():
                yield _parse(line)

    @contextmanager
    def _open(self, mode: str) -> Iterator[Any]:
        try:
            with open(self.path, mode) as file:
                yield file
        except OSError as error:
            reason = f"{error.strerror or error}: free some space or choose another MODA_HOME"
            raise OSError(
                error.errno, f"{self.path} can't be written ({reason}); earlier rows are intact."
            ) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from writing now.

        Held for moments only, so that a forgotten notebook blocks nobody.
        """
        lock = FileLock(f"{self.path}.lock") if self._lock_works else None
        if lock:
            try:
                lock.acquire(timeout=self.lock_seconds)
            except (OSError, NotImplementedError) as error:  # filelock's Timeout is an OSError too
                self._lock_works, lock = False, None
                message = f"can't be locked here ({error}): write it from one notebook at a time."
                warnings.warn(f"{self.path.name} {message}", stacklevel=4)
        try:
            yield
        finally:
            if lock:
                lock.release()


def _parse(line: bytes) -> Row | None:
    """One line as a row, or None when it isn't one."""
    try:
        row = json.loads(line)
    except ValueError:  # not JSON, or not UTF-8
        return None
    whole = isinstance(row, dict) and "product_id" in row and "image_sha256" in row
    return row if whole else None


def _repair(file: Any) -> None:
    """Make the file end with a whole line.

    A last line that only lacks its newline is completed, any other torn one is cut off.
    """
    end = file.seek(0, os.SEEK_END)
    tail = b""
    start = end
    while start and b"\n" not in tail:  # read backwards until the last newline
        step = min(start, 65536)
        start -= step
        file.seek(start)
        tail = file.read(step) + tail
    last = tail[tail.rfind(b"\n") + 1 :]
    if not last:
        return
    if _parse(last) is None:
        file.truncate(end - len(last))
    else:
        file.seek(0, os.SEEK_END)
        file.write(b"\n")
    file.flush()
