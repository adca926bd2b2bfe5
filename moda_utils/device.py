"""Where models run, and how they get there: device, number format, free memory, loading.

Apple's MPS is left out on purpose: nobody has run the course on it, and its results differ.
"""

from pathlib import Path
from typing import Any

import huggingface_hub.utils as hub
import psutil
import torch
import transformers

from moda_utils.profiles import Checkpoint

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


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device had no memory left. A CPU's allocator has no exception of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate" in str(error)


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
    if Path(checkpoint.name).is_absolute() and not Path(checkpoint.name).is_dir():
        raise FileNotFoundError(f"There is no checkpoint folder {checkpoint.name}.")
    try:
        loaded = loader.from_pretrained(checkpoint.name, revision=checkpoint.revision, **options)
    except OSError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # transformers hides a lost network below its own error
            cause = cause.__cause__
        reason = f"{type(cause).__name__}: {str(cause).strip().splitlines()[0]}"
        advice = "Check the network, or choose the profile mini, which needs none."
        raise OSError(f"{checkpoint.name} can't be loaded ({reason}). {advice}") from error
    # A model that is saved or published later must not tell where its parts lay on this machine.
    if Path(checkpoint.name).is_absolute() and hasattr(loaded, "config"):
        loaded.config._name_or_path = ""
    return loaded
