"""Descriptions and the `dataset/` folder: photos with texts in Parquet, as a Hugging Face dataset.

The folder is self-contained: the bytes of each photo file lie in it unchanged, beside its texts and
its metadata. `datasets.load_dataset("path/to/dataset")` reads it, and so does the Hub.
"""

from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .catalog import SPLITS, Catalog
from .storage import atomic_dir

if TYPE_CHECKING:
    from datasets import DatasetDict

TEXTS = ["description_refined", "description_raw", "description_template"]  # the best one first
COLUMNS = (
    "product_id", "image", "description", "description_source", "description_template",
    "description_raw", "description_refined", "gender", "category", "sub_category",
    "product_type", "colour", "usage", "title", "group", "image_sha256",
)  # fmt: skip
_ROWS_AT_ONCE = 100  # photos of the real set come in files of up to 0.5 MB

# The catalogue names its types in the plural; one garment is singular. Pairs stay as they are.
SINGULAR = {
    "tshirts": "T-shirt", "tops": "top", "shirts": "shirt", "sweatshirts": "sweatshirt",
    "jackets": "jacket", "blazers": "blazer", "dresses": "dress", "skirts": "skirt",
    "rompers": "romper", "kurtas": "kurta", "kurta sets": "kurta set",
    "innerwear vests": "innerwear vest",
}  # fmt: skip
COLOUR_WORDS = {"multi": "multicoloured"}


def template_description(row: Mapping[str, Any] | pd.Series) -> str:
    """A plain sentence from an item's metadata: "White casual shoes for men".

    Says colour, usage, type and gender, in this order; leaves out what is empty. A usage that the
    type begins with is said once ("casual" + "casual shoes").
    """
    colour, usage, kind, gender = (
        str(row[name]).strip().lower() for name in ("colour", "usage", "product_type", "gender")
    )
    words = [COLOUR_WORDS.get(colour, colour), *usage.split(), *SINGULAR.get(kind, kind).split()]
    said = [
        word for word, before in zip(words, [None, *words], strict=False) if word and word != before
    ]
    text = " ".join(said) + (f" for {gender}" if gender else "")
    return text[:1].upper() + text[1:]


def write_dataset(catalog: Catalog, descriptions: pd.DataFrame | None, path: Path | str) -> Path:
    """Write `dataset/`: a Parquet file per split and a README.md card. Replaces an older one whole.

    Args:
        catalog: items, photos and splits.
        descriptions: product_id with description_raw and/or description_refined (text, or None
            where an item has none); None for template descriptions only.
        path: the folder.

    Raises:
        ValueError: descriptions with an unknown or repeated product_id.
    """
    from datasets import Features, Image, Value

    path = Path(path)
    frame = _with_descriptions(catalog.frame, descriptions)
    special = {"image": Image(), "group": Value("int64")}
    features = Features({name: special.get(name, Value("string")) for name in COLUMNS})
    schema = features.arrow_schema
    with atomic_dir(path) as folder:
        (folder / "data").mkdir()
        for split in SPLITS:
            part = frame[frame["split"] == split]
            # Written a hundred photos at a time: the whole set would be 0.4 GB of memory, twice.
            with pq.ParquetWriter(folder / "data" / f"{split}.parquet", schema) as writer:
                for start in range(0, len(part), _ROWS_AT_ONCE):
                    rows = part.iloc[start : start + _ROWS_AT_ONCE]
                    files = [catalog.root / name for name in rows["image"]]
                    photos = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
                    rows = rows.assign(image=photos)
                    writer.write_table(pa.Table.from_pandas(rows, schema, preserve_index=False))
        (folder / "README.md").write_text(_card(catalog, frame), encoding="utf-8")
    return path


def load_dataset_dir(path: Path | str) -> "DatasetDict":
    """Read `dataset/` as a DatasetDict (train, validation, test), without a copy in a cache folder.

    `image` decodes to a Pillow image in the file's own mode (10 of the real photos are grey): pass
    it through `catalog.to_rgb` before a model sees it.

    Raises:
        FileNotFoundError: it isn't there; the message names the notebook that makes it.
    """
    from datasets import Dataset, DatasetDict
    from datasets.table import InMemoryTable

    files = {split: Path(path) / "data" / f"{split}.parquet" for split in SPLITS}
    if not all(file.exists() for file in files.values()):
        name = Path(path).name
        raise FileNotFoundError(f"{name}/ is missing or incomplete: run notebook 01 first.")
    tables = {split: InMemoryTable(pq.read_table(file)) for split, file in files.items()}
    return DatasetDict({split: Dataset(table, split=split) for split, table in tables.items()})


def _with_descriptions(frame: pd.DataFrame, descriptions: pd.DataFrame | None) -> pd.DataFrame:
    """The catalogue's rows with all three texts (or None), the best of them, and its source."""
    given = pd.DataFrame(columns=["product_id"]) if descriptions is None else descriptions
    if given["product_id"].duplicated().any():
        raise ValueError("The descriptions name a product_id twice: keep one row per item.")
    if strangers := sorted(set(given["product_id"]) - set(frame["product_id"])):
        raise ValueError(
            f"{len(strangers)} descriptions are for items that the catalogue lacks "
            f"({', '.join(strangers[:3])}): make them from this catalogue."
        )
    texts = given.set_index("product_id").reindex(index=frame["product_id"], columns=TEXTS)
    texts["description_template"] = [template_description(row) for row in frame.to_dict("records")]
    texts = texts.map(lambda text: text if isinstance(text, str) and text.strip() else None)
    best = texts.notna().idxmax(axis=1).str.removeprefix("description_")
    texts = texts.assign(description=texts.bfill(axis=1).iloc[:, 0], description_source=best)
    return frame.join(texts, on="product_id")


def _card(catalog: Catalog, frame: pd.DataFrame) -> str:
    """The README.md of the dataset: how to load it, what is in it, where it comes from."""
    drawn = (catalog.root / "data" / "drawn_truth.csv").exists()
    photos = (
        "Drawn by the course itself (MIT licence, like its code): clip art, not photographs."
        if drawn
        else "Real product photos. Their licence is not established: check the page of their\n"
        "source before you share this folder."
    )
    splits, sources = (frame[column].value_counts() for column in ("split", "description_source"))
    card = Template(Path(__file__).with_name("dataset_card.md").read_text(encoding="utf-8"))
    return card.substitute(
        license="mit" if drawn else "other",
        tag="synthetic" if drawn else "product photos",
        items=len(frame),
        splits=", ".join(f"{split} {splits[split]}" for split in SPLITS),
        skipped=len(catalog.skipped),
        photos=photos,
        sources=", ".join(f"{source} {count}" for source, count in sources.items()),
    )
