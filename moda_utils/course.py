"""The frame of every notebook: say what runs where, what is missing, and make it on request."""

import logging
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import distributions
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from .profiles import ROOT, Profile, get_profile  # no more: packages may be missing yet

# What a notebook starts from: the notebooks that make it. From 04 on captions (02, 03) are never
# required: until they exist, template descriptions stand in.
NEEDS = {
    "02": ["01"], "03": ["01", "02"], "05": ["01"], "06": ["01", "05"], "07": ["01", "05"],
    "08": ["01"], "09": ["01", "05"],
}  # fmt: skip

STAGES = {
    "01": "notebook 01: photos, checks and splits",
    "02": "notebook 02: describe every photo",
    "03": "notebook 03: refine the descriptions",
    "05": "notebook 05: train MODA",
}

# What keep() copies.
KEPT = ("catalog.parquet", "*.jsonl", "evaluation/*.json", "runs/*/*.json*", "runs/*/best/**/*")

_replaced: dict[str, str] = {}  # what setup() has put in place of which MODA_PROFILE


def setup(notebook: str, profile: str = "auto") -> Profile:
    """Begin a notebook: choose the profile, and print where everything is and what is missing.

    On Colab the few packages that it lacks are installed; elsewhere they are only named. A profile
    that is chosen here holds for the rest of the session (`describe` follows it).

    Args:
        notebook: its number, such as "05".
        profile: "mini", "full", or "auto" to decide by what is here (see `get_profile`).
    """
    _provide_packages()
    _be_quiet()
    _remember(profile)
    chosen = get_profile(profile)
    print(f"Profile    {chosen.name} ({chosen.reason})")
    print(f"Photos     {chosen.data_label}, {_origin(chosen)}")
    print(f"Device     {_device_name()}")
    print(f"Artefacts  {_shown(chosen.home)}")
    missing = _missing(notebook, chosen)
    for number in missing:
        names = ", ".join(_shown(path, chosen.home) for path in _products(number, chosen))
        print(f"Missing    {names}: run notebook {number} first")
    if missing:
        print(f'           or let catch_up("{notebook}") make it')
    _show_figures(notebook)
    return chosen


def catch_up(notebook: str, go: bool = False, captions: bool = False) -> None:
    """Make what a notebook starts from, for a reader who skipped the ones before it.

    Prints what will run with minutes and gigabytes. What takes longer than 2 minutes or downloads
    more than 1 GB starts only with `go=True`.

    Args:
        captions: make the raw and refined descriptions of notebooks 02 and 03 as well.
    """
    profile = get_profile()
    missing = _missing(notebook, profile, ("02", "03") if captions else ())
    if not missing:
        print(f"Everything that notebook {notebook} starts from is here.")
        return
    costs = [_cost(number, profile) for number in missing]
    for number, (minutes, gb) in zip(missing, costs, strict=True):
        print(f"{STAGES[number]:45} about {minutes:.1f} minutes, {gb:.1f} GB to download")
    minutes, gb = map(sum, zip(*costs, strict=True))
    if not go and (minutes > 2 or gb > 1):
        cheaper = "Cheaper: the profile mini, or MODA_DATA_DIR with fewer items."
        asked = ", captions=True" if captions else ""
        print(f'Not started. catch_up("{notebook}", go=True{asked}) runs it all. {cheaper}')
        return
    for number in missing:
        _run(number, profile)


def keep(profile: Profile, to: str) -> None:
    """Copy the small artefacts to a folder, such as one of a Drive, or into a zip; "" copies none.

    On Colab the Drive is mounted first, and a zip is downloaded. Photos, dataset and training
    states stay behind: they are large, and made again from these.
    """
    colab = "google.colab" in sys.modules
    if not to:
        drive = "/content/drive/MyDrive/moda" if colab else "a folder"
        print(f"Nothing was copied: name {drive}, or a file such as moda.zip.")
        return
    if to.startswith("/content/drive") and not Path("/content/drive/MyDrive").exists():
        if not colab:
            raise FileNotFoundError(f"There is no Drive here: {to} is a folder of Colab's.")
        import_module("google.colab.drive").mount("/content/drive")
    from .storage import atomic_path

    home = profile.home
    files = [file for pattern in KEPT for file in home.glob(pattern) if file.is_file()]
    target, packed = Path(to).expanduser(), to.endswith(".zip")
    if packed:
        with atomic_path(target) as temporary, ZipFile(temporary, "w", ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, file.relative_to(home.parent))
        if colab:
            import_module("google.colab.files").download(str(target))
    for file in files if not packed else ():
        with atomic_path(target / file.relative_to(home.parent)) as temporary:
            shutil.copyfile(file, temporary)
    mb = sum(file.stat().st_size for file in files) / 1e6
    go_on = (
        f"!unzip -o {target.name} -d {_shown(home.parent)}" if packed else f"%env MODA_HOME={to}"
    )
    print(
        f"{len(files)} files, {mb:.1f} MB, copied to {target}. To go on from there another day, "
        f"run this in a cell above the setup cell: {go_on}"
    )


def show_figure(name: str) -> None:
    """Show a figure of images/, such as "tiles", below the cell.

    Raises:
        FileNotFoundError: there is none of that name; the message lists those that there are.
    """
    from IPython.display import Image, display

    path = ROOT / "images" / f"{name}.png"
    if not path.exists():
        there = ", ".join(sorted(figure.stem for figure in path.parent.glob("*.png")))
        raise FileNotFoundError(f"There is no figure {name!r} in images/; there are: {there}.")
    display(Image(filename=str(path), width=760))


def progress() -> None:
    """Print the course map: which notebooks have left their artefacts here, and which is next.

    Some notebooks leave nothing behind, so nothing here can tell whether they were read.
    """
    profile = get_profile()
    print(f"{profile.name}, {profile.data_label} photos, in {_shown(profile.home)}")
    following = ""
    for twin in sorted((ROOT / "notebooks" / "py").glob("[0-9][0-9]_*.py")):
        number = twin.name[:2]
        title = re.search(r"^# # \d+\. (.+)$", twin.read_text(encoding="utf-8"), re.M)[1]
        products = _products(number, profile)
        here = bool(products) and all(path.exists() for path in products)
        left = ", ".join(_shown(path, profile.home) for path in products)
        left = left or "leaves nothing that others need"
        print(f"  {'✓' if here else ' '} {number} {title:31} {left}")
        # The next one comes after the last that was done: what was left out before, was on purpose.
        done = here or number == "00"  # which leaves nothing: who asks has begun it
        following = "" if done else following or f"{number} {title}"
    in_the_core = "00" < following < "07"
    print("Next:", following if in_the_core else "the extras 07, 08, 09, in any order")


# ---------------------------------------------------------------------------------------------
# Stages


def _products(number: str, profile: Profile) -> list[Path]:
    """The artefacts that a notebook leaves; none for some."""
    return {
        "01": [profile.catalog_path, profile.dataset_dir],
        "02": [profile.captions_path],
        "03": [profile.refined_path],
        "05": [profile.run_dir("moda") / "best"],
        "06": [profile.evaluation_path("moda")],
    }.get(number, [])


def _missing(notebook: str, profile: Profile, also: Sequence[str] = ()) -> list[str]:
    """Numbers of the notebooks whose artefacts `notebook` lacks, in the order to run them."""
    missing = set()
    for number in (*NEEDS.get(notebook, []), *also):
        if not all(path.exists() for path in _products(number, profile)):
            missing |= {number, *_missing(number, profile)}
    return sorted(missing)


def _cost(number: str, profile: Profile) -> tuple[float, float]:
    """What a notebook's stage takes on this device, roughly: minutes, and gigabytes to download."""
    if number == "01":
        return (5.0, 0.4) if profile.data_source.startswith("kaggle:") else (0.5, 0.0)
    from pyarrow.parquet import read_metadata

    from .device import best_device

    items = 1_200 if profile.data_source == "drawn" else 2_906
    if profile.catalog_path.exists():
        items = read_metadata(profile.catalog_path).num_rows
    # (model, its weights in the public version, operations per weight and item, GB to download)
    checkpoint, public, work, gb = {
        "02": (profile.captioner, 4.1e9, 2 * 1_200, 8.3),  # 2 per token of photo, prompt, answer
        "03": (profile.refiner, 3.8e9, 2 * 400, 7.6),
        "05": (profile.language, 125e6, 6 * 30 * profile.epochs, 0.9),  # 6 per token in training
    }[number]
    files = [file for file in Path(checkpoint.name).rglob("*") if file.is_file()]
    # Shipped weights have 16 bits, two bytes each; the public ones come from the hub.
    weights = sum(file.stat().st_size for file in files) / 2 or public
    speed = 2e13 if best_device().type == "cuda" else 5e10 * (os.cpu_count() or 1)
    return 0.5 + work * weights * items / speed / 60, 0.0 if files else gb


def _run(number: str, profile: Profile) -> None:
    """What the notebook computes, without the notebook."""
    if number == "01":
        from .dataset import build_catalog

        print(build_catalog(profile))
    elif number == "02":
        from .captioning import caption_from_profile

        print(caption_from_profile(profile))
    elif number == "03":
        from .refinement import refine_from_profile

        print(refine_from_profile(profile))
    else:
        from .training import train_from_profile

        train_from_profile(profile)


# ---------------------------------------------------------------------------------------------
# Surroundings


def _provide_packages() -> None:
    """Install what requirements.txt names and Colab lacks; elsewhere say how to install it."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    wanted = re.findall(r"^([\w-]+)([^#\s]*)", text, re.M)  # name, versions
    missing = [name + versions for name, versions in wanted if not any(distributions(name=name))]
    if missing and "google.colab" in sys.modules:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *missing], check=True)
    elif missing:
        print(f"Missing packages: {', '.join(missing)}. Install: pip install -r requirements.txt")


def _be_quiet() -> None:
    """Silence warnings that ask for what the course does without."""
    # Without ipywidgets tqdm draws its bars as text, which is all we want.
    warnings.filterwarnings("ignore", message="IProgress not found")
    # Public models need no account. The hub says so on Colab by a warning, elsewhere in its log.
    warnings.filterwarnings("ignore", message="(?s).*`HF_TOKEN`")
    logging.getLogger("huggingface_hub.utils._http").addFilter(_says_nothing_of_tokens)


def _says_nothing_of_tokens(record: logging.LogRecord) -> bool:
    return "HF_TOKEN" not in record.getMessage()


def _remember(form: str) -> None:
    """Let a choice made in the form reach everything that asks for the profile later."""
    if _replaced and os.environ.get("MODA_PROFILE") == _replaced["by"]:
        # An earlier choice, taken back by this run of the cell. "" is no choice.
        os.environ["MODA_PROFILE"] = _replaced["before"]
    _replaced.clear()
    if form != "auto":
        get_profile(form)  # an unknown name is refused before it is remembered
        _replaced.update(by=form, before=os.environ.get("MODA_PROFILE", ""))
        os.environ["MODA_PROFILE"] = form


def _origin(profile: Profile) -> str:
    if profile.data_source == "drawn":
        return "made by the course itself"
    if profile.data_source.startswith("kaggle:"):
        return f"from {profile.data_source.replace(':', ' ')}"
    return f"from the folder {Path(profile.data_source).name}"


def _device_name() -> str:
    import torch

    if not torch.cuda.is_available():
        return f"CPU, {os.cpu_count()} cores"
    gb = torch.cuda.get_device_properties(0).total_memory / 2**30  # as Colab counts: a T4 has 15
    return f"{torch.cuda.get_device_name(0)}, {gb:.0f} GB"


def _shown(path: Path, start: Path = ROOT) -> str:
    """The path from `start` where it lies below it: short, and the same on every machine."""
    return path.relative_to(start).as_posix() if path.is_relative_to(start) else str(path)


def _show_figures(notebook: str) -> None:
    """Show where the notebook stands in the course, and its own figure; or the course's."""
    names = [f"moda_{notebook}", notebook]
    if not (ROOT / "images" / f"{notebook}.png").exists():
        names = ["hero"]
    if "IPython" in sys.modules:
        for name in names:
            show_figure(name)
