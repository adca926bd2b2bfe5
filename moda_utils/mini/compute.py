"""Speed on a CPU: what training the mini models needs beyond plain PyTorch."""

from contextlib import AbstractContextManager, nullcontext

import torch

BAR = "{l_bar}{bar}| {elapsed}<{remaining}{postfix}"
"""Progress in percent of the minutes given, not in steps: a slow machine takes fewer."""


def autocast() -> AbstractContextManager:
    """bfloat16 autocast where the CPU computes in it natively; elsewhere it would be slower."""
    native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast("cpu", torch.bfloat16) if native else nullcontext()
