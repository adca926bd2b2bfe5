"""Descriptions and the `dataset/` folder: photos with texts in Parquet, as a Hugging Face dataset.

The folder is self-contained: the bytes of each photo file lie in it unchanged, beside its texts and
its metadata. `datasets.load_dataset("path/to/dataset")` reads it, and so does the Hub.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from .catalog import SPLITS, Catalog
from .storage import atomic_dir

if TYPE_CHECKING:
    from datasets import DatasetDict

SOURCES = ("template", "raw", "refined")  # from plain to rich; the last one that exists is used
METADATA = ("gender", "category", "sub_category", "product_type", "colour", "usage", "title")
_ROWS_AT_ONCE = 100  # photos of the real set come in files of up to 0.5 MB

# The catalogue names its types in the plural; one garment is singular. Pairs stay as they are.
SINGULAR = {
    "tshirts": "T-shirt",
    "tops": "top",
    "shirts": "shirt",
    "sweatshirts": "sweatshirt",
    "jackets": "jacket",
    "blazers": "blazer",
    "dresses": "dress",
    "skirts": "skirt",
    "rompers": "romper",
    "kurtas": "kurta",
    "kurta sets": "kurta set",
    "innerwear vests": "innerwear vest",
}
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
    import pyarrow.parquet as pq

    path = Path(path)
    frame = _with_descriptions(catalog.frame, descriptions)
    schema = _features().arrow_schema
    with atomic_dir(path) as folder:
        (folder / "data").mkdir()
        for split in SPLITS:
            part = frame[frame["split"] == split]
            # Written a hundred photos at a time: the whole set would be 0.4 GB of memory, twice.
            with pq.ParquetWriter(folder / "data" / f"{split}.parquet", schema) as writer:
                for start in range(0, len(part), _ROWS_AT_ONCE):
                    rows = part.iloc[start : start + _ROWS_AT_ONCE]
                    writer.write_table(_table(rows, catalog.root, schema))
        (folder / "README.md").write_text(_card(catalog, frame), encoding="utf-8")
    return path


def load_dataset_dir(path: Path | str) -> "DatasetDict":
    """Read `dataset/` as a DatasetDict (train, validation, test), without a copy in a cache folder.

    `image` decodes to a Pillow image in the file's own mode (10 of the real photos are grey): pass
    it through `catalog.to_rgb` before a model sees it.

    Raises:
        FileNotFoundError: it isn't there; the message names the notebook that makes it.
    """
    import pyarrow.parquet as pq
    from datasets import Dataset, DatasetDict
    from datasets.table import InMemoryTable

    path = Path(path)
    files = {split: path / "data" / f"{split}.parquet" for split in SPLITS}
    if not all(file.exists() for file in files.values()):
        raise FileNotFoundError(f"{path.name}/ is missing or incomplete: run notebook 01 first.")
    return DatasetDict(
        {
            split: Dataset(InMemoryTable(pq.read_table(file)), split=split)
            for split, file in files.items()
        }
    )


def _with_descriptions(frame: pd.DataFrame, descriptions: pd.DataFrame | None) -> pd.DataFrame:
    """The catalogue's rows with all three texts (or None), the best of them, and its source."""
    frame = frame.copy()
    texts = {"template": [template_description(row) for row in frame.to_dict("records")]}
    for source in SOURCES[1:]:
        column = f"description_{source}"
        given = {}
        if descriptions is not None and column in descriptions:
            given = dict(zip(descriptions["product_id"], descriptions[column], strict=True))
            if len(given) < len(descriptions):
                raise ValueError("The descriptions name a product_id twice: keep one row per item.")
            if strangers := sorted(set(given) - set(frame["product_id"])):
                raise ValueError(
                    f"{len(strangers)} descriptions are for items that the catalogue lacks "
                    f"({', '.join(strangers[:3])}): make them from this catalogue."
                )
        found = (given.get(item) for item in frame["product_id"])
        texts[source] = [text if isinstance(text, str) and text.strip() else None for text in found]
    best = [
        next(source for source in reversed(SOURCES) if texts[source][row] is not None)
        for row in range(len(frame))
    ]
    frame["description"] = [texts[source][row] for row, source in enumerate(best)]
    frame["description_source"] = best
    for source in SOURCES:
        frame[f"description_{source}"] = pd.Series(texts[source], dtype=object, index=frame.index)
    return frame


def _features() -> Any:
    from datasets import Features, Image, Value

    text = Value("string")
    return Features(
        {
            "product_id": text,
            "image": Image(),
            "description": text,
            "description_source": text,
            **{f"description_{source}": text for source in SOURCES},
            **dict.fromkeys(METADATA, text),
            "group": Value("int64"),
            "image_sha256": text,
        }
    )


def _table(rows: pd.DataFrame, root: Path, schema: Any) -> Any:
    import pyarrow as pa

    images = [
        {"bytes": (root / name).read_bytes(), "path": Path(name).name} for name in rows["image"]
    ]
    columns = {name: images if name == "image" else rows[name].tolist() for name in schema.names}
    return pa.Table.from_pydict(columns, schema=schema)


def _card(catalog: Catalog, frame: pd.DataFrame) -> str:
    """The README.md of the dataset: how to load it, what is in it, where it comes from."""
    drawn = (catalog.root / "data" / "drawn_truth.csv").exists()
    sizes = frame["split"].value_counts()
    sources = frame["description_source"].value_counts()
    photos = (
        "Drawn by the course itself (MIT licence, like its code): clip art, not photographs."
        if drawn
        else "Real product photos. Their licence is not established: check the page of their\n"
        "source before you share this folder."
    )
    files = "\n".join(
        f"      - split: {split}\n        path: data/{split}.parquet" for split in SPLITS
    )
    return f"""---
license: {"mit" if drawn else "other"}
language: en
task_categories:
  - image-to-text
tags:
  - fashion
  - {"synthetic" if drawn else "product photos"}
configs:
  - config_name: default
    data_files:
{files}
---
# Fashion photos with descriptions

{len(frame)} items: {", ".join(f"{split} {sizes.get(split, 0)}" for split in SPLITS)}.
{len(catalog.skipped)} rows or photos of the source could not be used.

**Photos.** {photos} Each is the file of the source, byte for byte.

**Texts.** `description` is the text to train on; `description_source` says which one it is:
{", ".join(f"{source} {sources[source]}" for source in SOURCES if source in sources)}.

| column | content |
|---|---|
| `description_template` | written from the metadata by a rule |
| `description_raw` | what the captioning model wrote, or null |
| `description_refined` | the raw one, corrected with the metadata, or null |
| {", ".join(f"`{name}`" for name in METADATA)} | metadata of the source |
| `group` | items with the same photo file or the same title, up to case, digits and punctuation |
| `image_sha256` | SHA-256 of the photo file |

**Splits.** Made by group, so that no photo and no title is in two of them, and stratified by
`product_type` as far as the groups allow.

```python
from datasets import load_dataset

dataset = load_dataset("path/to/this/folder")
```
"""
