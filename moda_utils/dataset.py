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

from .catalog import SPLITS, Catalog, load_photos, read_catalog, save_catalog
from .profiles import CHECKPOINTS, Profile
from .storage import atomic_dir

if TYPE_CHECKING:
    from datasets import DatasetDict

TEXTS = ["description_refined", "description_raw", "description_template"]  # the best one first
STATUSES = ["raw_status", "refined_status"]  # how the two models came by their texts
COLUMNS = (
    "product_id", "image", "description", "description_source", "description_template",
    "description_raw", "raw_status", "description_refined", "refined_status", "gender",
    "category", "sub_category", "product_type", "colour", "usage", "title", "group",
    "image_sha256",
)  # fmt: skip
_HOW = {
    "raw": "a captioning model saw the photo and a prompt.",
    "refined": "a language model saw the raw description and the metadata, and corrected it.\n"
    "  An answer that contradicted the metadata, repeated text of the photo, mentioned a person\n"
    "  or was too long was sent back once (`retried`), then replaced by the metadata (`fallback`).",
}
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


def texts_of(catalog: Catalog, **rows: Mapping[tuple[str, str], Mapping[str, Any]]) -> pd.DataFrame:
    """Texts of finished journals for `write_dataset`: one row per item of the catalogue.

    Args:
        rows: what `Journal.done` returns, by source, such as `raw=captions.done()`; rows of items
            that the catalogue lacks by now are left out.

    Returns:
        product_id, and for each source description_SOURCE and SOURCE_status (None without a row).
    """
    keys = list(zip(catalog.frame["product_id"], catalog.frame["image_sha256"], strict=True))
    table = {"product_id": [product_id for product_id, _ in keys]}
    for source, written in rows.items():
        found = [written.get(key, {}) for key in keys]
        table[f"description_{source}"] = [row.get("description") for row in found]
        table[f"{source}_status"] = [row.get("status") for row in found]
    return pd.DataFrame(table, dtype=object)


def account(catalog: Catalog, descriptions: pd.DataFrame | None) -> str:
    """Where every row of the catalogue ends: which text it has in the dataset, or why it is out."""
    frame = _with_descriptions(catalog.frame, descriptions)
    lines = [
        f"{count:6,} items with the {source} description"
        for source, count in frame["description_source"].value_counts().items()
    ]
    lines += [
        f"       left out: {row.product_id or row.image} ({row.reason})"
        for row in catalog.skipped.itertuples()
    ]
    total = f"{len(frame):6,} items in all, {len(catalog.skipped)} rows or photos left out"
    return "\n".join([*lines, total])


def write_dataset(
    catalog: Catalog,
    descriptions: pd.DataFrame | None,
    path: Path | str,
    models: Mapping[str, str] | None = None,
) -> Path:
    """Write `dataset/`: a Parquet file per split and a README.md card. Replaces an older one whole.

    Args:
        catalog: items, photos and splits.
        descriptions: product_id with description_raw and/or description_refined (text, or None
            where an item has none), and how each came about: raw_status, refined_status (see
            `texts_of`). None for template descriptions only.
        path: the folder.
        models: who wrote the texts, for the card: {"raw": "...", "refined": "..."}.

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
        (folder / "README.md").write_text(_card(catalog, frame, models or {}), encoding="utf-8")
    return path


def load_dataset_dir(path: Path | str) -> "DatasetDict":
    """Read `dataset/` as a DatasetDict (train, validation, test), without a copy in a cache folder.

    `image` decodes to a Pillow image in the file's own mode (10 of the real photos are grey): pass
    it through `catalog.to_rgb` before a model sees it.

    Raises:
        FileNotFoundError: it isn't there; the message names the notebook that makes it.
        ValueError: a file is damaged, or written by an older version of the course.
    """
    from datasets import Dataset, DatasetDict
    from datasets.table import InMemoryTable

    files = {split: Path(path) / "data" / f"{split}.parquet" for split in SPLITS}
    if not all(file.exists() for file in files.values()):
        name = Path(path).name
        raise FileNotFoundError(f"{name}/ is missing or incomplete: run notebook 01 first.")
    try:
        tables = {split: InMemoryTable(pq.read_table(file)) for split, file in files.items()}
        for table in tables.values():
            table.select(COLUMNS)
    except (pa.ArrowInvalid, KeyError, ValueError) as error:  # cut; without one of our columns
        raise ValueError(
            f"{Path(path).name}/ is damaged or of an older version: run notebook 01 again, and 02 "
            "and 03 if you had run them. They find their finished descriptions again."
        ) from error
    return DatasetDict({split: Dataset(table, split=split) for split, table in tables.items()})


def build_catalog(profile: Profile) -> Catalog:
    """Notebook 01 in one call: photos, checks, splits, `catalog.parquet`, `dataset/`."""
    catalog = read_catalog(load_photos(profile))
    save_catalog(catalog, profile.catalog_path)
    write_dataset(catalog, None, profile.dataset_dir)
    return catalog


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
    columns = [*TEXTS, *STATUSES]
    given = given.set_index("product_id").reindex(index=frame["product_id"], columns=columns)
    given["description_template"] = [template_description(row) for row in frame.to_dict("records")]
    given = given.map(lambda text: text if isinstance(text, str) and text.strip() else None)
    texts = given[TEXTS]  # the best one first
    best = texts.notna().idxmax(axis=1).str.removeprefix("description_")
    given = given.assign(description=texts.bfill(axis=1).iloc[:, 0], description_source=best)
    return frame.join(given, on="product_id")


def _card(catalog: Catalog, frame: pd.DataFrame, models: Mapping[str, str]) -> str:
    """The README.md of the dataset: how to load it, what is in it, where it comes from."""
    drawn = (catalog.root / "data" / "drawn_truth.csv").exists()
    photos = (
        "Drawn by the course itself (MIT licence, like its code): clip art, not photographs."
        if drawn
        else "Real product photos. Their licence is not established: check the page of their\n"
        "source before you share this folder."
    )
    made = [
        f"- `description_{source}`: {how}\n"
        f"  By {_named(models.get(source, 'an unnamed model'))}: "
        f"{_counts(frame[f'{source}_status'])}."
        for source, how in _HOW.items()
        if frame[f"description_{source}"].notna().any()
    ]
    card = Template(Path(__file__).with_name("dataset_card.md").read_text(encoding="utf-8"))
    return card.substitute(
        license="mit" if drawn else "other",
        tag="synthetic" if drawn else "product photos",
        items=len(frame),
        splits=", ".join(f"{split} {(frame['split'] == split).sum()}" for split in SPLITS),
        skipped=len(catalog.skipped),
        photos=photos,
        sources=_counts(frame["description_source"]),
        made="\n".join(["- `description_template`: a rule puts the metadata into words.", *made]),
        biases="\n".join(f"- {line}" for line in known_biases(frame)),
    )


def _named(model: str) -> str:
    """ "phi3 with prompt ..." is not Phi-3: the shipped small models are called what they are."""
    shipped = (CHECKPOINTS / model.split()[0]).is_dir()
    return f"{model}, a small stand-in that the course ships" if shipped else model


def known_biases(frame: pd.DataFrame) -> list[str]:
    """What a model could learn from these items instead of looking: sentences, from the data."""
    found = []
    for column in ("gender", "category", "product_type", "colour", "usage"):
        shares = frame[column].value_counts(normalize=True)
        top = shares.index[0] or "no entry"
        found.append(f"`{column}`: {len(shares)} values; {top} alone is {shares.iloc[0]:.0%}.")
    within = frame.groupby("gender")["category"].agg(lambda values: sorted(set(values)))
    if frame["category"].nunique() > 1 and (within.str.len() == 1).all():
        pairs = ", ".join(f"{gender}: {values[0]} only" for gender, values in within.items())
        found.append(f"`gender` and `category` are fully confounded ({pairs}).")
    same = frame.duplicated("image_sha256", keep=False).mean()
    found.append(f"{same:.0%} of the items share their photo file with another item.")
    return found


def _counts(values: pd.Series) -> str:
    return ", ".join(f"{count:,} {value}" for value, count in values.value_counts().items())
