"""Writes the drawn catalogue: a folder in the layout of the Kaggle set, photos and fashion.csv.

It copies the real set's structure, pleasant or not: a tenth of the photos are byte-identical to
another item's, many items share their title, titles are full of brand names, and one usage covers
most of the items.
"""

import csv
import random
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from ..storage import atomic_dir, read_json, write_json
from .drawing import DRAWING_VERSION, draw_item
from .items import PRODUCT_TYPES, Item, sample_item

CATALOGUE_VERSION = 1
CATALOGUE_SEED = 2_000_000_000
"""Photo seeds of the catalogue start here; training counts up from 0, measuring from FRESH_SEED."""
FRESH_SEED = 1_000_000_000
TRAIN_SEED = 0

COLUMNS = (
    "ProductId", "Gender", "Category", "SubCategory", "ProductType", "Colour", "Usage",
    "ProductTitle", "Image", "ImageURL",
)  # fmt: skip
_SAME_PHOTO = 0.10  # of the items reuse another item's photo
_SAME_TITLE = 0.12  # of the items copy a title of their kind outright

_BRANDS = {
    "Apparel": (
        "Pebble and Fern", "Tiny Harbour", "Kitewell", "Marlo Kids", "Sprout Lane", "Bluebarn",
    ),
    "Footwear": (
        "Strado", "Velto", "Corvane", "Lunaro", "Portmere", "Halden 1962", "Fennick", "Aurelle",
    ),
}  # fmt: skip
_LINES = (
    "", "", "", "Core", "Classic", "Urban", "City", "Aero", "Breeze", "Nova", "Lite", "Retro",
    "Meadow", "Pulse II",
)  # fmt: skip
_PATTERN_WORDS = {
    "striped": "Striped", "checked": "Check", "dotted": "Polka", "floral": "Floral",
    "star": "Printed", "heart": "Printed",
}  # fmt: skip
_NOUNS = {  # other types are called by their own name
    "Tshirts": ("T-shirt", "Tshirt", "Tee"), "Shirts": ("Shirt",), "Tops": ("Top",),
    "Dresses": ("Dress",), "Skirts": ("Skirt",), "Kurtas": ("Kurta",), "Jackets": ("Jacket",),
    "Casual Shoes": ("Casual Shoes", "Shoes"), "Sports Shoes": ("Sports Shoes", "Shoes"),
    "Formal Shoes": ("Formal Shoes", "Shoes"), "Heels": ("Heels", "Pumps"),
    "Flats": ("Flats", "Ballerinas"), "Flip Flops": ("Flip Flops", "Slippers"),
}  # fmt: skip


def fresh_items(
    n: int, seed: int = 0, printed: bool | None = None
) -> Iterator[tuple[Item, Image.Image]]:
    """Items and photos that neither the catalogue nor any training has seen, for measuring.

    Args:
        n: how many.
        seed: another number, other items.
        printed: True gives only T-shirts with a printed word, False only items without one.
    """
    rng = random.Random(f"fresh/{seed}")
    for index in range(n):
        item = sample_item(rng, printed=printed)
        yield item, draw_item(item, FRESH_SEED + seed * 1_000_000 + index)


def training_items(
    n: int, seed: int = 0, printed: bool | None = None, balanced: bool = True
) -> Iterator[tuple[Item, Image.Image]]:
    """Items and photos for training the mini models; the parameters are those of `fresh_items`.

    Args:
        balanced: all types, colours, genders and usages equally often.

    Raises:
        ValueError: `seed` is 1,000 or more, where the photos for measuring begin.
    """
    if not 0 <= seed < 1000:
        raise ValueError(
            f"Training seeds stay below 1,000, not {seed}: higher ones are for measuring."
        )
    rng = random.Random(f"train/{seed}/{printed}/{balanced}")
    for index in range(n):
        item = sample_item(rng, printed=printed, balanced=balanced)
        yield item, draw_item(item, TRAIN_SEED + seed * 1_000_000 + index)


def write_catalogue(root: Path | str, n: int = 1200, seed: int = 0) -> Path:
    """Draw a catalogue of `n` items under `root`, in the layout of the Kaggle set.

    Photos lie in `root/data/{Category}/{Gender}/Images/images_with_product_ids/`, their attributes
    in `root/data/fashion.csv`. `root/data/drawn_truth.csv` (product_id, printed_word), which a real
    catalogue lacks, is read by metrics and tests only. A complete catalogue of the same version,
    size and seed is left alone; any other drawn one is replaced, in one step.

    Returns:
        `root`.

    Raises:
        ValueError: `root` holds a `data` folder that this function did not write.
    """
    root = Path(root)
    data, stamp = (
        root / "data",
        {"version": CATALOGUE_VERSION, "drawing": DRAWING_VERSION, "n": n, "seed": seed},
    )
    made = data / "drawn.json"
    if made.exists() and read_json(made) == stamp:
        return root
    if data.exists() and not made.exists():
        raise ValueError(f"{data} exists and is not a drawn catalogue: choose another folder.")
    rng = random.Random(f"catalogue/{seed}")
    items = _choose_items(n, rng)
    ids = [str(number) for number in rng.sample(range(2_600, 59_999), n)]
    with atomic_dir(data) as folder:
        rows, photos = [], {}
        for index, (item, source) in enumerate(tqdm(items, desc="drawing photos", unit="photo")):
            place = folder / item.category / item.gender / "Images" / "images_with_product_ids"
            place.mkdir(parents=True, exist_ok=True)
            path = place / f"{ids[index]}.jpg"
            if source is None:
                photo = draw_item(item, CATALOGUE_SEED + seed * 1_000_000 + index)
                photo.save(path, quality=90, subsampling=0)
            else:
                path.write_bytes(photos[source].read_bytes())
            photos[index] = path
            rows.append(_row(ids[index], item, rng, rows))
        with open(folder / "fashion.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([COLUMNS, *rows])
        with open(folder / "drawn_truth.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("product_id", "printed_word"))
            writer.writerows((ids[i], item.printed_word or "") for i, (item, _) in enumerate(items))
        write_json(folder / "drawn.json", stamp)
    return root


def _choose_items(n: int, rng: random.Random) -> list[tuple[Item, int | None]]:
    """Each item, and the index of the earlier item whose photo it shares, or None."""
    chosen: list[tuple[Item, int | None]] = []
    wanted = [sample_item(rng, product_type=name) for name in PRODUCT_TYPES] if n >= 100 else []
    for index in range(n):
        if chosen and rng.random() < _SAME_PHOTO:
            twin = rng.randrange(len(chosen))
            item, source = chosen[twin]
            chosen.append((item, twin if source is None else source))
        else:  # every type occurs at least once, somewhere in the first part of the catalogue
            item = wanted.pop() if wanted and index % 5 == 4 else sample_item(rng)
            chosen.append((item, None))
    return chosen


def _row(product_id: str, item: Item, rng: random.Random, earlier: list[tuple]) -> tuple:
    """One line of fashion.csv."""
    kind = (
        item.gender,
        item.category,
        item.sub_category,
        item.product_type,
        item.colour,
        item.usage,
    )
    title = shop_title(item, rng)
    if rng.random() < _SAME_TITLE:
        alike = [row[7] for row in earlier if row[1:7] == kind]
        title = rng.choice(alike) if alike else title
    url = f"https://images.example.invalid/v1/{rng.getrandbits(64):016x}_images.jpg"
    return (product_id, *kind, title, f"{product_id}.jpg", url)


def shop_title(item: Item, rng: random.Random) -> str:
    """A shop title: brand, gender, colour, type, some missing. Never the printed word."""
    brand = rng.choice(_BRANDS[item.category])
    who = item.gender + rng.choice(
        ("", "", "", "", "'s" if item.gender in ("Men", "Women") else "")
    )
    words = [brand, who if rng.random() < 0.98 else ""]
    words.append(rng.choice(_LINES))
    colour = item.colour if rng.random() < 0.95 else ""
    looks = _PATTERN_WORDS.get(item.pattern, "Printed" if item.printed_word else "")
    looks = looks if rng.random() < 0.7 else ""
    words += [looks, colour] if rng.random() < 0.5 else [colour, looks]
    usage = item.usage if item.usage in ("Ethnic", "Formal") and rng.random() < 0.3 else ""
    kind = rng.choice(_NOUNS.get(item.product_type, (item.product_type,)))
    words += ["" if kind.startswith(usage) else usage, kind]
    return " ".join(word for word in words if word)
