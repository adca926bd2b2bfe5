"""Descriptions from metadata, and the dataset folder: complete, standard, replaced whole."""

import io

import pandas as pd
import pytest
from PIL import Image
from shop import photo_path, shop_row, write_shop

from moda_utils.catalog import SPLITS, Catalog, load_catalog, read_catalog, save_catalog
from moda_utils.dataset import (
    known_biases,
    load_dataset_dir,
    template_description,
    write_dataset,
)

COLUMNS = [
    "product_id", "image", "description", "description_source", "description_template",
    "description_raw", "raw_status", "description_refined", "refined_status", "gender",
    "category", "sub_category", "product_type", "colour", "usage", "title", "group",
    "image_sha256",
]  # fmt: skip


@pytest.fixture
def catalog(tmp_path) -> Catalog:
    rows = [shop_row(number) for number in range(20)]
    write_shop(tmp_path / "shop", rows)
    photo_path(tmp_path / "shop", rows[0]).unlink()
    Image.new("L", (30, 40), 90).save(photo_path(tmp_path / "shop", rows[1]))
    return read_catalog(tmp_path / "shop")


@pytest.mark.parametrize(
    ("colour", "usage", "product_type", "gender", "expected"),
    [
        ("White", "Casual", "Casual Shoes", "Men", "White casual shoes for men"),
        ("Navy Blue", "Casual", "Tshirts", "Boys", "Navy blue casual T-shirt for boys"),
        ("Black", "Sports", "Sports Shoes", "Women", "Black sports shoes for women"),
        ("White", "Casual", "Sports Shoes", "Men", "White casual sports shoes for men"),
        ("Brown", "Smart Casual", "Casual Shoes", "Men", "Brown smart casual shoes for men"),
        ("Multi", "Ethnic", "Kurta Sets", "Girls", "Multicoloured ethnic kurta set for girls"),
        ("Off White", "Casual", "Heels", "Women", "Off white casual heels for women"),
        ("", "", "Hats", "", "Hats"),
        ("Red", "", "Tops", "Girls", "Red top for girls"),
    ],
)
def test_template_descriptions(colour, usage, product_type, gender, expected):
    row = {"colour": colour, "usage": usage, "product_type": product_type, "gender": gender}
    assert template_description(row) == expected
    assert template_description(pd.Series(row)) == expected


def test_the_folder_holds_every_item_photo_and_text(catalog, tmp_path):
    dataset = load_dataset_dir(write_dataset(catalog, None, tmp_path / "dataset"))
    assert list(dataset) == list(SPLITS)
    assert {split: rows.num_rows for split, rows in dataset.items()} == dict(
        catalog.frame["split"].value_counts()
    )
    frame = catalog.frame.set_index("product_id")
    for split, rows in dataset.items():
        assert rows.column_names == COLUMNS
        for row in rows:
            item = frame.loc[row["product_id"]]
            assert item["split"] == split
            assert all(
                row[name] == item[name] for name in ("title", "colour", "group", "image_sha256")
            )
            assert (
                row["description"] == row["description_template"] == "Red casual T-shirt for boys"
            )
            assert (row["description_source"], row["description_raw"]) == ("template", None)
            assert row["image"].size == (30, 40)


def test_photos_are_stored_byte_for_byte(catalog, tmp_path):
    from datasets import Image as ImageFeature

    dataset = load_dataset_dir(write_dataset(catalog, None, tmp_path / "dataset"))
    files = {row.product_id: catalog.root / row.image for row in catalog.frame.itertuples()}
    for rows in dataset.values():
        for row in rows.cast_column("image", ImageFeature(decode=False)):
            assert row["image"]["bytes"] == files[row["product_id"]].read_bytes()
            assert row["image"]["path"] == files[row["product_id"]].name
            assert Image.open(io.BytesIO(row["image"]["bytes"])).size == (30, 40)


def test_the_datasets_library_reads_the_folder_by_its_card(catalog, tmp_path, monkeypatch):
    import datasets

    path = write_dataset(catalog, None, tmp_path / "dataset")
    theirs = datasets.load_dataset(str(path), cache_dir=str(tmp_path / "cache"))
    ours = load_dataset_dir(path)
    assert theirs["train"].features == ours["train"].features
    assert theirs["test"]["description"][:] == ours["test"]["description"][:]


def test_the_best_text_of_each_item_is_its_description(catalog, tmp_path):
    ids = catalog.frame["product_id"].tolist()
    descriptions = pd.DataFrame(
        {
            "product_id": ids[:4],
            "description_raw": ["raw 0", "raw 1", None, " "],
            "description_refined": ["refined 0", None, float("nan"), "refined 3"],
        }
    )
    dataset = load_dataset_dir(write_dataset(catalog, descriptions, tmp_path / "dataset"))
    rows = {row["product_id"]: row for part in dataset.values() for row in part}
    sources = [rows[item]["description_source"] for item in ids[:5]]
    assert sources == ["refined", "raw", "template", "refined", "template"]
    assert [rows[item]["description"] for item in ids[:2]] == ["refined 0", "raw 1"]
    assert rows[ids[0]]["description_raw"] == "raw 0"
    assert rows[ids[3]]["description_raw"] is None


@pytest.mark.parametrize(
    ("ids", "words"),
    [(["1001", "1001"], "a product_id twice"), (["1001", "5"], r"1 descriptions .*lacks \(5\)")],
)
def test_descriptions_of_other_items_are_refused(catalog, tmp_path, ids, words):
    descriptions = pd.DataFrame({"product_id": ids, "description_raw": ["a", "b"]})
    with pytest.raises(ValueError, match=words):
        write_dataset(catalog, descriptions, tmp_path / "dataset")
    assert not (tmp_path / "dataset").exists()


def test_a_failed_rewrite_leaves_the_old_folder(catalog, tmp_path):
    path = write_dataset(catalog, None, tmp_path / "dataset")
    (catalog.root / catalog.frame["image"].iloc[-1]).unlink()
    with pytest.raises(FileNotFoundError):
        write_dataset(catalog, None, path)
    assert load_dataset_dir(path)["train"].num_rows > 10
    assert [item.name for item in tmp_path.iterdir() if item.name.startswith(".")] == []


def test_a_split_may_be_longer_than_one_batch_of_rows(tmp_path):
    write_shop(tmp_path / "shop", [shop_row(number) for number in range(140)])
    catalog = read_catalog(tmp_path / "shop")
    dataset = load_dataset_dir(write_dataset(catalog, None, tmp_path / "dataset"))
    assert dataset["train"].num_rows == 112
    expected = catalog.frame.loc[catalog.frame["split"] == "train", "product_id"].tolist()
    assert dataset["train"]["product_id"][:] == expected


def test_a_catalogue_from_disk_gives_the_same_dataset(catalog, tmp_path):
    save_catalog(catalog, tmp_path / "catalog.parquet")
    again = load_catalog(tmp_path / "catalog.parquet")
    one = load_dataset_dir(write_dataset(catalog, None, tmp_path / "one"))
    two = load_dataset_dir(write_dataset(again, None, tmp_path / "two"))
    assert one["train"].data.table.equals(two["train"].data.table)


def test_the_card_says_what_the_photos_are(catalog, tmp_path):
    card = (write_dataset(catalog, None, tmp_path / "dataset") / "README.md").read_text()
    assert "license: other" in card
    assert "19 items: train 15, validation 2, test 2." in card
    assert "1 rows or photos of the source could not be used" in card
    (catalog.root / "data" / "drawn_truth.csv").touch()
    card = (write_dataset(catalog, None, tmp_path / "dataset") / "README.md").read_text()
    assert "license: mit" in card


def test_the_card_says_how_the_texts_were_made(catalog, tmp_path):
    ids = catalog.frame["product_id"].tolist()
    texts = pd.DataFrame({"product_id": ids[:3], "description_raw": ["a", "b", None]})
    texts["raw_status"] = ["ok", "repaired", "failed"]
    path = write_dataset(catalog, texts, tmp_path / "dataset", {"raw": "Some Model"})
    card = (path / "README.md").read_text()
    assert "By Some Model: 1 ok, 1 repaired, 1 failed." in card
    assert "description_raw`: a captioning model saw the photo" in card
    assert "description_refined`: a language model" not in card  # there are none
    rows = [row for part in load_dataset_dir(path).values() for row in part]
    assert {row["product_id"]: row["raw_status"] for row in rows}[ids[2]] == "failed"
    assert {row["refined_status"] for row in rows} == {None}
    path = write_dataset(catalog, texts.drop(columns="raw_status"), tmp_path / "other")
    assert "By an unnamed model" in (path / "README.md").read_text()


def test_biases_are_read_from_the_items(catalog):
    frame = catalog.frame.assign(usage=["Casual"] * 15 + ["Sports"] * 4)
    found = known_biases(frame)
    assert "`usage`: 2 values; Casual alone is 79%." in found
    assert not any("confounded" in line for line in found)  # there is one category only
    shoes = frame.head(5).assign(category="Footwear", gender="Men", colour="")
    both = known_biases(pd.concat([frame, shoes]))
    assert any("fully confounded (Boys: Apparel only, Men: Footwear only)" in x for x in both)
    assert any(x.startswith("42% of the items share their photo file") for x in both)
    mixed = pd.concat([frame, shoes, shoes.assign(category="Apparel")])
    assert not any("confounded" in line for line in known_biases(mixed))


@pytest.mark.parametrize("missing", ["dataset", "dataset/data/test.parquet"])
def test_a_missing_folder_names_the_notebook(catalog, tmp_path, missing):
    if missing != "dataset":
        write_dataset(catalog, None, tmp_path / "dataset")
        (tmp_path / missing).unlink()
    with pytest.raises(
        FileNotFoundError, match="dataset/ is missing or incomplete: run notebook 01"
    ):
        load_dataset_dir(tmp_path / "dataset")
