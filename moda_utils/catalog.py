"""The catalogue: which items there are, which photo shows each, and which split each belongs to.

Reads a folder in the layout of the Kaggle set, or any table of photos. Whatever can't be used is
listed with its reason in `Catalog.skipped`; nothing disappears silently.
"""

import hashlib
import io
import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from .profiles import ROOT, Profile
from .storage import atomic_path, require

CSV = "data/fashion.csv"
PHOTOS = "data/{Category}/{Gender}/Images/images_with_product_ids/{Image}"
KAGGLE_NAMES = {  # our name: the CSV's
    "product_id": "ProductId", "gender": "Gender", "category": "Category",
    "sub_category": "SubCategory", "product_type": "ProductType", "colour": "Colour",
    "usage": "Usage", "title": "ProductTitle",
}  # fmt: skip
SPLITS = {"train": 0.8, "validation": 0.1, "test": 0.1}  # what share of the items each gets


@dataclass(frozen=True)
class Catalog:
    """The usable items and the rest.

    frame: one row per item: product_id, image (path relative to `root`), gender, category,
        sub_category, product_type, colour, usage, title, image_sha256 (all text; "" where the table
        says nothing), group (int; items that share a photo or a title), split (one of `SPLITS`).
    root: the folder that `image` starts from.
    skipped: product_id, image and reason of every row or photo that can't be used.
    """

    frame: pd.DataFrame
    root: Path
    skipped: pd.DataFrame

    def __str__(self) -> str:
        reasons = self.skipped["reason"].str.split(":").str[0].value_counts()
        listed = "".join(f"\n  {count} x {reason}" for reason, count in reasons.items())
        return f"{len(self.frame)} items, {len(self.skipped)} left out{listed}"


# ---------------------------------------------------------------------------------------------
# Getting the photos


def load_photos(profile: Profile) -> Path:
    """The folder with this profile's photos; they are drawn or downloaded when they aren't there.

    Raises:
        RuntimeError: the download failed; the message says why and what to do.
    """
    if profile.data_source == "drawn":
        from .mini.catalogue import write_catalogue

        return write_catalogue(profile.photos_dir)
    if profile.data_source.startswith("kaggle:"):
        from .kaggle import download

        return download(profile.data_source.removeprefix("kaggle:"))
    return Path(profile.data_source)


# ---------------------------------------------------------------------------------------------
# Reading


def read_catalog(root: Path | str) -> Catalog:
    """Read and check a folder in the Kaggle layout: `data/fashion.csv` and photos below `data/`.

    Raises:
        FileNotFoundError: no CSV.
        ValueError: a CSV that is empty, broken or lacks a column; no usable item.
    """
    root = Path(root)
    path = root / CSV
    if not path.is_file():
        raise FileNotFoundError(f"There is no {CSV} in {root}: is this the folder of the dataset?")
    try:
        table = pd.read_csv(
            path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True
        ).fillna("")
    except UnicodeDecodeError as error:
        raise ValueError(f"{CSV} is not UTF-8 text ({error}): save it again as UTF-8.") from error
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise ValueError(f"{CSV} can't be read as a table: {str(error).strip()}.") from error
    missing = [name for name in (*KAGGLE_NAMES.values(), "Image") if name not in table.columns]
    if missing:
        found = ", ".join(table.columns)
        raise ValueError(f"{CSV} lacks the columns {', '.join(missing)}; it has {found}.")
    table = table.map(str.strip)
    table["_path"] = [PHOTOS.format(**row) for row in table.to_dict("records")]
    catalog = from_table(table, root, image="_path", **KAGGLE_NAMES)

    photos = root.glob(PHOTOS.format(Category="*", Gender="*", Image="[!.]*"))
    orphans = {path.relative_to(root).as_posix() for path in photos} - set(table["_path"])
    extra = pd.DataFrame({"product_id": "", "image": sorted(orphans)}, dtype=str)
    extra["reason"] = "photo without a row in the table"
    return Catalog(catalog.frame, root, pd.concat([catalog.skipped, extra], ignore_index=True))


def from_table(
    table: pd.DataFrame, root: Path | str = ".", image: str = "image", **columns: str
) -> Catalog:
    """Make a catalogue from any table with one photo per row: check it, group it, split it.

    Args:
        table: one row per item.
        root: folder that the photos' paths start from.
        image: the table's column with those paths.
        columns: our name = the table's name, for any of product_id, product_type, gender,
            category, sub_category, colour, usage, title. A column that has our name already need
            not be given. Only product_type must exist; for product_id the file's name can serve.

    Raises:
        ValueError: a column that isn't there, no rows, or no usable item.

    Example:
        catalog = from_table(shop, "photos", image="file", product_id="sku", product_type="kind")
    """
    root, table = Path(root), table.reset_index(drop=True)
    if unknown := [name for name in columns if name not in KAGGLE_NAMES]:
        valid = ", ".join(KAGGLE_NAMES)
        raise ValueError(f"A catalogue has no {', '.join(unknown)}; what it can hold: {valid}.")
    known = {name: name for name in KAGGLE_NAMES if name in table.columns}
    sources = known | columns | {"image": image}
    absent = [source for source in sources.values() if source not in table.columns]
    if absent or "product_type" not in sources:
        absent = ", ".join(absent) or "product_type (name yours: product_type=...)"
        raise ValueError(f"The table lacks {absent}; it has {', '.join(map(str, table.columns))}.")
    if table.empty:
        raise ValueError("The catalogue is empty: the table has a header but no rows.")

    texts = {name: table[source].map(_text) for name, source in sources.items()}
    texts.setdefault("product_id", texts["image"].map(lambda name: Path(name).stem))
    rows = pd.DataFrame(dict.fromkeys(("product_id", "image", *KAGGLE_NAMES), "") | texts)
    with ThreadPoolExecutor(OPEN_AT_ONCE) as pool:  # Pillow and hashlib let other threads run
        checks = pool.map(_check_photo, [root / name for name in rows["image"]])
        checks = tqdm(checks, "Checking photos", len(rows), leave=False)
        rows["image_sha256"], rows["reason"] = zip(*checks, strict=True)
    rows.loc[rows["product_type"] == "", "reason"] = "no product type"
    rows.loc[rows["product_id"] == "", "reason"] = "no product id"
    repeated = rows[rows["reason"] == ""].duplicated("product_id")
    rows.loc[repeated.index[repeated], "reason"] = "product id used before"
    usable = rows["reason"] == ""
    skipped = rows.loc[~usable, ["product_id", "image", "reason"]].reset_index(drop=True)
    if not usable.any():
        first = "; ".join(f"{row.image}: {row.reason}" for row in skipped.head(3).itertuples())
        raise ValueError(f"None of the {len(rows)} rows can be used. The first ones: {first}.")
    frame = rows[usable].drop(columns="reason").reset_index(drop=True)
    return Catalog(assign_splits(assign_groups(frame)), root, skipped)


def _text(value: object) -> str:
    return "" if pd.isna(value) else str(value).strip()


def _check_photo(path: Path) -> tuple[str, str]:
    """SHA-256 of a photo and "", or "" and what is wrong with it."""
    if not path.is_file():
        return "", "photo missing"
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=FORMATS) as photo:
            _check_size(photo)
            photo.draft("RGB", (64, 64))  # a JPEG is read to its end, but computed at 1/8 size
            photo.load()
    except _BROKEN as error:
        return "", f"photo can't be read: {_short(error, path)}"
    return hashlib.sha256(content).hexdigest(), ""


# ---------------------------------------------------------------------------------------------
# Opening a photo

# Kinds of files that are read. Pillow knows more, and hands PostScript to another program.
Image.init()
FORMATS = [
    kind for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF") if kind in Image.OPEN
]
_ENDINGS = Image.registered_extensions().items()
# HEIC can't be read, which is better said than passed over.
SUFFIXES = (*(end for end, kind in _ENDINGS if kind in FORMATS), ".heic", ".heif")
LARGEST = 89e6  # pixels: a third of a gigabyte; Pillow itself warns a little above
OPEN_AT_ONCE = min(8, os.cpu_count() or 1)  # photos: eight of the largest are 3 GB already
# What Pillow raises for files that are no photos, cut off, or absurdly large.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def open_photo(path: Path | str | BinaryIO, name: str = "") -> Image.Image:
    """Open a photo of any kind as upright RGB: grey and CMYK converted, transparency on white.

    A photo that is not a file of its own, but bytes of an open one, is given a `name` for messages.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a photo, or a damaged one.
    """
    try:
        with Image.open(path, formats=FORMATS) as photo:
            _check_size(photo)
            ImageOps.exif_transpose(photo, in_place=True)  # a second copy of a large photo is much
            return _as_rgb(photo)
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no photo {path}.") from None
    except _BROKEN as error:
        reason = _short(error, path)
        raise ValueError(f"{name or path} can't be read as a photo: {reason}.") from error


def to_rgb(photo: Image.Image) -> Image.Image:
    """A Pillow image of any mode as an upright RGB image; what is transparent becomes white."""
    return _as_rgb(ImageOps.exif_transpose(photo))


def _as_rgb(photo: Image.Image) -> Image.Image:
    if photo.mode.startswith("I;16"):  # convert() would cut 16 bits off at 255, not scale them
        photo = photo.point(lambda value: value / 257).convert("L")
    if photo.has_transparency_data:
        photo = photo.convert("RGBA")
        photo = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo)
    return photo if photo.mode == "RGB" else photo.convert("RGB")


def _check_size(photo: Image.Image) -> None:
    """Refuse by the file's header what takes too much memory, before any of it is taken."""
    if photo.width * photo.height > LARGEST:
        raise Image.DecompressionBombError(photo.size)


def _short(error: Exception, photo: Path | str | BinaryIO) -> str:
    if isinstance(error, UnidentifiedImageError):  # Pillow's own text names a memory address
        with nullcontext(photo) if hasattr(photo, "read") else open(photo, "rb") as file:
            file.seek(0)  # not by its name: a phone's photo is often called .jpg
            heic = file.read(12)[4:] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1")
        return "HEIC is not read here, save it as JPEG" if heic else "not an image file"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {LARGEST / 1e6:.0f} million pixels, make it smaller"
    return str(error).rstrip(".") or type(error).__name__


def ahead(
    prepare: Callable[[Any], Any], items: Iterable, depth: int, threads: int
) -> Iterator[tuple[Any, Future]]:
    """Each item with the future of `prepare(item)`; threads are busy with the next `depth`."""
    todo, coming = iter(items), deque()
    with ThreadPoolExecutor(threads) as pool:
        while True:
            following = islice(todo, depth - len(coming))
            coming.extend((item, pool.submit(prepare, item)) for item in following)
            if not coming:
                return
            yield coming.popleft()


# ---------------------------------------------------------------------------------------------
# Groups and splits


def normalise_title(title: str) -> str:
    """Lower case without digits and punctuation: "Nike Men's Run-2" -> "nike men s run"."""
    return re.sub(r"[\W\d_]+", " ", title.lower()).strip()


def assign_groups(frame: pd.DataFrame) -> pd.DataFrame:
    """Add `group`: items with an identical photo or the same normalised title are in one group.

    Links chain: A and B share a photo, B and C a title, so A, B and C are together. The first row's
    number travels along these links until nothing changes any more.
    """
    photos = frame["image_sha256"].to_numpy()
    # Items without a title have nothing in common: a number stands in, which no title can be.
    titles = pd.Series([normalise_title(t) or str(row) for row, t in enumerate(frame["title"])])
    group, before = pd.Series(range(len(frame))), None
    while not group.equals(before):
        before = group
        for keys in (photos, titles):
            group = group.groupby(keys).transform("min")
    return frame.assign(group=pd.factorize(group)[0])


def assign_splits(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Add `split`: whole groups in random order, each to the split that lacks most of its types.

    The result depends on the items and the seed, not on the order of the rows. Types with a handful
    of items go to train first. A split's size is off its share by some 0.5 % of the items, or by
    one group where a large group fits nowhere.

    Raises:
        ValueError: fewer than three groups: no three splits can be made of them.
    """
    first_id = frame.groupby("group")["product_id"].min().sort_values()
    counts = pd.crosstab(frame["group"], frame["product_type"]).loc[first_id.index].to_numpy()
    sizes = counts.sum(1)  # (groups,); counts: (groups, types)
    if len(counts) < len(SPLITS):
        raise ValueError(
            f"{len(frame)} items in {len(counts)} groups of equal photos or titles can't be split "
            "into train, validation and test: at least three unrelated items are needed."
        )
    order = np.random.default_rng(seed).permutation(len(counts))
    # Groups that would fill much of a small split come first, while train has room for them.
    large = np.where(sizes[order] > 0.02 * len(frame), sizes[order], 0)
    order = order[np.argsort(-large, kind="stable")]
    lacking = np.outer(list(SPLITS.values()), counts.sum(0))  # (splits, types): items still to come
    choice = np.empty(len(counts), dtype=int)

    for group in order:
        room = lacking.sum(1)
        fits = room - sizes[group] >= -0.005 * len(frame)
        need = (lacking * counts[group]).sum(1).round(6)
        choice[group] = max(range(3), key=lambda s: (fits[s], need[s] if fits[s] else 0, room[s]))
        lacking[choice[group]] -= counts[group]

    for empty in set(range(3)) - set(choice):  # a handful of groups: each split gets at least one
        giver = np.bincount(choice, minlength=3).argmax()
        smallest = min(np.flatnonzero(choice == giver), key=lambda group: sizes[group])
        choice[smallest] = empty
    chosen = pd.Series([list(SPLITS)[number] for number in choice], index=first_id.index)
    return frame.assign(split=frame["group"].map(chosen))


def same_three(frame: pd.DataFrame) -> pd.DataFrame:
    """The items that return in several notebooks, so that their descriptions can be compared.

    Of each of the three most frequent product types of the test split the first item by its id.
    """
    test = frame[frame["split"] == "test"].sort_values("product_id", kind="stable")
    counts = test["product_type"].value_counts()
    first = test.drop_duplicates("product_type").set_index("product_type", drop=False)
    order = sorted(counts.index, key=lambda kind: (-counts[kind], kind))
    return first.loc[order[:3]].reset_index(drop=True)


# ---------------------------------------------------------------------------------------------
# Storing


def save_catalog(catalog: Catalog, path: Path | str) -> None:
    """Write `catalog.parquet`, atomically. Root and skipped rows travel in the file's metadata."""
    path = Path(path).resolve()
    root = catalog.root.resolve()
    # Artefacts that hold their photos may be moved as a whole, and so may a repository.
    together = root.is_relative_to(ROOT) and path.is_relative_to(ROOT)
    if together or root.is_relative_to(path.parent):
        root = Path(os.path.relpath(root, path.parent))
    note = {"root": root.as_posix(), "skipped": catalog.skipped.to_dict("records")}
    table = pa.Table.from_pandas(catalog.frame, preserve_index=False)
    table = table.replace_schema_metadata({"moda": json.dumps(note)})
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)


def load_catalog(path: Path | str) -> Catalog:
    """Read what `save_catalog` wrote.

    Raises:
        FileNotFoundError: it isn't there; the message names the notebook that makes it.
        ValueError: not a catalogue.
    """
    path = require(Path(path).resolve(), "01")
    try:
        table = pq.read_table(path)
        note = json.loads(table.schema.metadata[b"moda"])
    except (pa.ArrowInvalid, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not a catalogue: delete it and run notebook 01 again."
        ) from error
    skipped = pd.DataFrame(note["skipped"], columns=["product_id", "image", "reason"], dtype=str)
    return Catalog(table.to_pandas(), (path.parent / note["root"]).resolve(), skipped)
