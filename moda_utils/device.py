"""Where models run, and how they get there: device, number format, free memory, loading.

Apple's MPS is left out on purpose: nobody has run the course on it, and its results differ.
"""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants as hub_settings
import huggingface_hub.utils as hub
import psutil
import requests
import torch
import transformers
from tqdm import tqdm

from moda_utils.profiles import Checkpoint
from moda_utils.storage import DENIED

if not hub.are_progress_bars_disabled():
    # Bars for downloads stay; those that transformers draws for every file it opens only flicker.
    transformers.utils.logging.disable_progress_bar()
    hub.enable_progress_bars()


def best_device() -> torch.device:
    """The first CUDA device, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def best_dtype(device: torch.device | str | None = None) -> torch.dtype:
    """The number format to generate text in: bfloat16, float16 (a T4 has no bfloat16) or float32.

    On a CPU it is float32: most processors emulate 16-bit arithmetic, which is slower.
    """
    device = torch.device(device) if device is not None else best_device()
    if device.type != "cuda":
        return torch.float32
    # Compute capability 8 (A100, L4) is the first with bfloat16 units; older ones only emulate it.
    return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16


def free_memory(device: torch.device | str | None = None) -> int:
    """Free bytes of the device: of the GPU's memory, or of the main memory for the CPU."""
    device = torch.device(device) if device is not None else best_device()
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def free(*models: torch.nn.Module) -> None:
    """Give the memory of models back. A notebook's names would keep it: only shapes are left."""
    for model in models:
        model.to("meta")
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def halve_to_fit(
    attempt: Callable[[int], Any], size: int, most: int, noun: str, advice: str, least: int = 1
) -> tuple[Any, int]:
    """`attempt(size)`, where `size` is halved as often as memory runs out.

    Args:
        most: how many `attempt` has at a time, however large `size` is.
        noun: what they are.
        least: where memory runs out with so many, it is an error.

    Returns:
        What the attempt gave, and the size that fits: as given, if memory did not run out.

    Raises:
        RuntimeError: there is not enough memory; it ends in `advice`.
    """
    while True:
        try:
            return attempt(size), size
        except RuntimeError as error:
            # A CPU's allocator has no exception of its own.
            if not isinstance(error, torch.OutOfMemoryError) and "can't allocate" not in str(error):
                raise
        # Here, outside of `except`, nothing holds the failed attempt's memory any more.
        torch.cuda.empty_cache()
        size = min(size, most)
        if size <= least:
            many = f"{size} {noun}s at once" if size > 1 else f"a single {noun}"
            raise RuntimeError(f"There is not enough memory for {many}: {advice}.")
        size //= 2
        tqdm.write(f"Memory ran out: going on with {size} {noun}s at a time.")


def load_checkpoint(loader: Any, checkpoint: Checkpoint | str, **options: Any) -> Any:
    """`loader.from_pretrained` on a checkpoint, with an error that says what to do.

    Args:
        loader: a model, processor or Auto class of transformers.
        checkpoint: hub id and revision; a plain string is a hub id or the path of a folder.

    Raises:
        OSError: there is no such folder, or the hub cannot be reached or refuses.
    """
    if isinstance(checkpoint, str):
        checkpoint = Checkpoint(checkpoint)
    name, here = checkpoint.name, Path(checkpoint.name).is_dir()
    if Path(name).is_absolute() and not here:
        raise FileNotFoundError(f"There is no checkpoint folder {name}.")
    reached = here or _hub_answers()
    if not reached:  # else each file that is looked for costs half a minute of retries
        options["local_files_only"] = True
    try:
        loaded = loader.from_pretrained(name, revision=checkpoint.revision, **options)
    except OSError as error:
        reason = _explain(error) if reached else f"{_UNREACHED}: check the network"
        advice = "" if here else ", or choose the profile mini, which needs no network"
        raise OSError(f"{name} can't be loaded: {reason}{advice}.") from error
    # A model that is saved or published later must not tell where its parts lay on this machine.
    if Path(name).is_absolute() and hasattr(loaded, "config"):
        loaded.config._name_or_path = ""
    return loaded


def _hub_answers() -> bool:
    """Whether the hub can be reached at this moment, or may be asked at all."""
    if hub_settings.is_offline_mode():
        return False
    try:
        requests.head(hub_settings.ENDPOINT, timeout=5)
    except requests.exceptions.RequestException:
        return False
    return True


_UNREACHED = "the Hugging Face hub can't be reached, and the files are not on this machine yet"


def _explain(error: OSError) -> str:
    """What happened and what to do, from the deepest cause: transformers hides it below its own."""
    causes: list[BaseException] = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    responses = [getattr(cause, "response", None) for cause in reversed(causes)]
    status = next((found.status_code for found in responses if found is not None), None)
    if status == 404:
        return "the hub has no such model, revision or file (HTTP 404): check its name"
    if status in (401, 403):
        what = f"the hub has no such model or refuses it to you (HTTP {status})"
        return f"{what}: correct or remove HF_TOKEN, or accept the terms on the model's page"
    if status is not None:
        return f"the hub can't serve it now (HTTP {status}): try again in some minutes"
    full = [cause for cause in causes if getattr(cause, "errno", None) in DENIED]
    if full:
        return f"it can't be stored ({full[-1]}): free some space or set HF_HOME"
    first = str(causes[-1]).strip().splitlines()[0].rstrip(".")
    return f"{type(causes[-1]).__name__}: {first}"
