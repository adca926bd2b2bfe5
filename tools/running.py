"""Run a notebook in a kernel of its own and watch what it needs. Shared by the tools beside it."""

import os
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
TWINS = NOTEBOOKS / "py"
SEPARATE = {"09"}  # these need more than requirements.txt: they run where they are named
SOLUTIONS = NOTEBOOKS / "solutions"
SOLUTION_TWINS = TWINS / "solutions"
CELL_TIMEOUT = 3600  # seconds; a cell of `full` on a CPU may be slow, but a hung one must end

SCREEN = 24  # lines of an error that are printed; all of it is in the log
ANSI = re.compile(r"\x1b\[[0-9;]*m")

# Lines on stderr that say nothing to a reader. Anything else stays visible, so that a new warning
# is seen, judged, and either mended or listed here with its reason.
HARMLESS_STDERR: tuple[re.Pattern[str], ...] = (
    re.compile("Set ray log level from environment variable"),  # Ray, told to be quiet
)


@dataclass(frozen=True)
class Cost:
    """What one run took: wall seconds and the largest resident memory of its processes (bytes)."""

    seconds: float
    peak_bytes: int


class NotebookFailed(RuntimeError):
    """A cell raised, hung or killed the kernel. `cell` counts from 1 over all cells."""

    def __init__(self, cell: int, source: str, message: str, log: Path) -> None:
        super().__init__(message)
        self.cell = cell
        self.source = source
        self.log = log

    def screen(self) -> str:
        """The failing cell and its error in one screen; the log has all of it."""
        source = self.source.strip().splitlines()
        error = str(self).splitlines()
        more = ["..."] if len(source) > 4 else []
        cut = ["..."] if len(error) > SCREEN else []
        parts = [
            f"Cell {self.cell} begins with:",
            *(f"    {line}" for line in source[:4] + more),
            "It failed with:",
            *(f"    {line[:160]}" for line in cut + error[-SCREEN:]),
            f"The whole error is in {relative(self.log)}.",
        ]
        return "\n".join(parts)


def relative(path: Path) -> str:
    """A path as a person at the prompt would type it."""
    return Path(os.path.relpath(path)).as_posix()


def select(
    folder: Path, suffix: str, numbers: Sequence[str] = (), separate: bool = True
) -> list[Path]:
    """Numbered notebooks of a folder, in order; with `numbers`, only those ("5" means "05").

    Without numbers and `separate`, those of `SEPARATE` are left out.

    Raises:
        FileNotFoundError: the folder has none, or a wanted number has no file in it.
    """
    found = sorted(folder.glob(f"[0-9][0-9]_*{suffix}"))
    wanted = [number.zfill(2) for number in numbers]
    known = {path.name[:2] for path in found}
    if not found:
        raise FileNotFoundError(f"No numbered {suffix} notebooks in {relative(folder)}.")
    if missing := [number for number in wanted if number not in known]:
        there = ", ".join(sorted(known)) or "none"
        raise FileNotFoundError(f"No {relative(folder)}/{missing[0]}_*{suffix}; there: {there}.")
    chosen = wanted or (known if separate else known - SEPARATE)
    return [path for path in found if path.name[:2] in chosen]


def kernel_environment(home: Path | str | None = None) -> dict[str, str]:
    """The environment of a notebook's kernel: mini unless set, no bars, pictures in the page."""
    environment = {**os.environ, "TQDM_DISABLE": "1", "JUPYTER_PREFER_ENV_PATH": "1"}
    environment.setdefault("MODA_PROFILE", "mini")
    environment.pop("MPLBACKEND", None)  # the kernel chooses its inline backend
    if home is not None:
        environment["MODA_HOME"] = str(home)
    return environment


def execute(
    notebook: nbformat.NotebookNode,
    folder: Path,
    environment: dict[str, str],
    log: Path,
) -> Cost:
    """Run every cell of `notebook` in a fresh kernel and store the outputs in it.

    Args:
        folder: the kernel's working directory.
        environment: the kernel's environment variables.
        log: file for what the kernel process itself writes, and for a full traceback.

    Raises:
        NotebookFailed: with the failing cell; outputs so far stay in `notebook`.
        KeyboardInterrupt: Ctrl-C; the kernel has ended.
    """
    current = 0

    def started(cell: nbformat.NotebookNode, cell_index: int) -> None:
        nonlocal current
        current = cell_index

    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        startup_timeout=180,
        iopub_timeout=60,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        on_cell_start=started,
    )
    log.parent.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    with open(log, "w", encoding="utf-8") as stream, _PeakMemory(client) as memory:
        try:
            client.execute(env=environment, stdout=stream, stderr=stream)
            message = ""
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            message = ANSI.sub("", str(error)).strip()
            if isinstance(error, DeadKernelError):
                peak = f"{memory.peak_bytes / 1e9:.1f} GB"
                message += f". Was memory short? The notebook had used up to {peak}."
            stream.write(message + "\n")
        except AssertionError as error:
            # nbclient answers Ctrl-C by ending the kernel, and then misses it.
            if client.km is not None:
                raise
            raise KeyboardInterrupt from error
    if message:
        raise NotebookFailed(current + 1, notebook.cells[current].source, message, log)
    _drop_noise(notebook)
    return Cost(time.monotonic() - begin, memory.peak_bytes)


def _drop_noise(notebook: nbformat.NotebookNode) -> None:
    """Take the lines that are listed as harmless out of what cells wrote to stderr."""
    for cell in notebook.cells:
        for output in list(cell.get("outputs", [])):
            if output.get("name") == "stderr":
                lines = output.text.splitlines(keepends=True)
                kept = [line for line in lines if not any(p.search(line) for p in HARMLESS_STDERR)]
                output.text = "".join(kept)
                if not kept:
                    cell.outputs.remove(output)


class _PeakMemory:
    """Samples the resident memory of a kernel and its children until the block ends."""

    def __init__(self, client: NotebookClient, interval: float = 0.2) -> None:
        self.peak_bytes = 0
        self._client = client
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            manager = self._client.km
            process = getattr(getattr(manager, "provisioner", None), "process", None)
            if process is not None:
                self.peak_bytes = max(self.peak_bytes, _tree_bytes(process.pid))


def _tree_bytes(pid: int) -> int:
    """Resident bytes of a process and its descendants; 0 when it has ended."""
    try:
        parent = psutil.Process(pid)
        tree = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for process in tree:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:  # a worker that ended between the two looks
            continue
    return total
