"""Helpers that keep the MODA notebooks short.

`import moda_utils` is cheap: the names below are looked up only when they are used, so a notebook
that just reads a catalogue never waits for torch.
"""

import os
from importlib import import_module
from typing import Any

# Before torch starts its threads: let them sleep while they wait for each other. By default they
# spin, and where other programs want the same cores, small models then train many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_WHERE = {
    "get_profile": "profiles",
    "setup": "course",
    "require": "storage",
    "catch_up": "course",
    "progress": "course",
    "show_figure": "course",
    "check": "exercises",
    "describe": "serving",
}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
