"""Which models, which photos, which folders: the only difference between a laptop and Colab.

`mini` runs on any CPU without a network: small models of the same architectures, shipped with the
course, and photos that the course draws itself. `full` runs FashionCLIP, OPT-125M and Phi-3 on the
Kaggle photos. Code never asks for a profile's name; it reads the fields.
"""

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The repository's folder. Relative settings start here: the working directory never matters."""

CHECKPOINTS = ROOT / "moda_utils" / "mini" / "checkpoints"
FULL_NEEDS_BYTES = 15e9  # Phi-3 Vision in 16 bit: 8.3 GB of weights, plus cache and activations


@dataclass(frozen=True)
class Checkpoint:
    """A model to load: a hub id with a revision, or the path of a folder."""

    name: str
    revision: str | None = None


@dataclass(frozen=True)
class Profile:
    """One consistent choice of photos, checkpoints and sizes."""

    name: str
    reason: str  # why this one was chosen: printed by the setup cell
    data_source: str  # "drawn", "kaggle:OWNER/SLUG/versions/N" or a folder in that layout
    data_label: str  # "drawn" or "real": stamped on every figure
    home: Path  # where this profile's artefacts live
    vision: Checkpoint
    language: Checkpoint
    captioner: Checkpoint
    refiner: Checkpoint
    num_crops: int  # tiles per photo for the captioner
    accumulation: int  # batches per optimizer step
    save_minutes: float  # between two savings of a training's state
    batch_size: int = 32
    epochs: int = 20

    @property
    def photos_dir(self) -> Path:
        return self.home / "photos"

    @property
    def catalog_path(self) -> Path:
        return self.home / "catalog.parquet"

    @property
    def captions_path(self) -> Path:
        return self.home / "captions.jsonl"

    @property
    def refined_path(self) -> Path:
        return self.home / "refined.jsonl"

    @property
    def dataset_dir(self) -> Path:
        return self.home / "dataset"

    @property
    def features_dir(self) -> Path:
        return self.home / "features"

    def run_dir(self, run: str) -> Path:
        return self.home / "runs" / run

    def evaluation_path(self, run: str) -> Path:
        return self.home / "evaluation" / f"{run}.json"


_SETTINGS = {
    "mini": {
        "data_source": "drawn",
        "data_label": "drawn",
        "vision": Checkpoint(str(CHECKPOINTS / "clip")),
        "language": Checkpoint(str(CHECKPOINTS / "opt")),
        "captioner": Checkpoint(str(CHECKPOINTS / "phi3_vision")),
        "refiner": Checkpoint(str(CHECKPOINTS / "phi3")),
        "num_crops": 1,
        # With 8 as in `full`, the small drawn set would see about 80 optimizer steps in 20 epochs.
        "accumulation": 1,
        "save_minutes": 0.1,  # of a training that takes less than one
    },
    "full": {
        "data_source": "kaggle:vikashrajluhaniwal/fashion-images/versions/1",
        "data_label": "real",
        "vision": Checkpoint("patrickjohncyh/fashion-clip", "main"),
        "language": Checkpoint("facebook/opt-125m", "main"),
        "captioner": Checkpoint("microsoft/Phi-3-vision-128k-instruct", "main"),
        "refiner": Checkpoint("microsoft/Phi-3-mini-4k-instruct", "main"),
        "num_crops": 4,
        "accumulation": 8,
        "save_minutes": 1.0,  # the state is more than a gigabyte
    },
}


def get_profile(name: str | None = None) -> Profile:
    """Choose a profile and say why.

    Order: `name` (the form field of a notebook; "auto" and None mean no wish), then MODA_PROFILE,
    then the profile whose artefacts MODA_HOME already holds, then `full` where a CUDA device of
    15 GB exists, then `mini`.

    Raises:
        ValueError: unknown name, with the valid ones.
        FileNotFoundError: MODA_DATA_DIR names a folder that does not exist.
    """
    home = _resolve(os.environ.get("MODA_HOME") or "artifacts")
    chosen, reason = _choose(name, home)
    settings = dict(_SETTINGS[chosen])
    home = home / chosen
    if folder := os.environ.get("MODA_DATA_DIR"):
        data_dir = _resolve(folder)
        if not data_dir.is_dir():
            raise FileNotFoundError(f"MODA_DATA_DIR={folder}: there is no folder {data_dir}.")
        settings["data_source"] = str(data_dir)
        drawn = (data_dir / "data" / "drawn_truth.csv").exists()
        settings["data_label"] = "drawn" if drawn else "real"
        # Artefacts of one catalogue never overwrite those of another.
        home = home.with_name(f"{chosen}-{data_dir.name}")
    return Profile(name=chosen, reason=reason, home=home, **settings)


def _choose(name: str | None, home: Path) -> tuple[str, str]:
    if name and name != "auto":
        return _known(name, "the notebook's form"), "chosen in the notebook"
    if name := os.environ.get("MODA_PROFILE"):
        return _known(name, "MODA_PROFILE"), "MODA_PROFILE is set"
    held = [known for known in _SETTINGS if (home / known / "catalog.parquet").exists()]
    if len(held) == 1:
        return held[0], "its artefacts are already here"
    if _cuda_bytes() >= FULL_NEEDS_BYTES:
        return "full", "a GPU with 15 GB or more is here"
    return "mini", "no GPU with 15 GB here"


def _known(name: str, where: str) -> str:
    if name not in _SETTINGS:
        valid = ", ".join(_SETTINGS)
        raise ValueError(f"{where} asks for the profile {name!r}; valid ones are: {valid}.")
    return name


def _cuda_bytes() -> int:
    """Memory of the first CUDA device, 0 without one. Imports torch: asked last for that reason."""
    import torch

    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0


def _resolve(path: str) -> Path:
    return (ROOT / Path(path).expanduser()).resolve()
