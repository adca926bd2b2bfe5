"""The catalogue: bad input is named and counted, no group crosses a split, seeds decide."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from shop import COLUMNS, photo_path, shop_row, write_shop

from moda_utils.catalog import (
    KAGGLE_NAMES,
    SPLITS,
    Catalog,
    assign_groups,
    assign_splits,
    from_table,
    load_catalog,
    normalise_title,
    open_photo,
    read_catalog,
    same_three,
    save_catalog,
    to_rgb,
)
from moda_utils.dataset import build_catalog
from moda_utils.profiles import ROOT, get_profile

SAMPLE = ROOT / ".." / "shared" / "fashion_sample"
FRAME_COLUMNS = [
    "product_id", "image", "gender", "category", "sub_category", "product_type", "colour", "usage",
    "title", "image_sha256", "group", "split",
]  # fmt: skip


def reasons(catalog: Catalog) -> list[tuple[str, str]]:
    return list(zip(catalog.skipped["product_id"], catalog.skipped["reason"], strict=True))


# --- good input ---------------------------------------------------------------------------------


def test_a_good_folder(tmp_path):
    write_shop(tmp_path, [shop_row(number) for number in range(20)])
    catalog = read_catalog(tmp_path)
    assert list(catalog.frame.columns) == FRAME_COLUMNS
    assert (len(catalog.frame), len(catalog.skipped)) == (20, 0)
    first = catalog.frame.iloc[0]
    assert (catalog.root / first["image"]).is_file()
    assert (first["product_id"], first["product_type"], first["title"]) == (
        "1000",
        "Tshirts",
        "Brand a shirt",
    )
    assert catalog.frame["split"].value_counts().to_dict() == {
        "train": 16,
        "validation": 2,
        "test": 2,
    }
    assert str(catalog) == "20 items, 0 left out"


def test_ids_stay_text_and_spaces_go(tmp_path):
    rows = [shop_row(number) for number in range(5)]
    rows[0] |= {"ProductId": "007", "Colour": " Navy Blue "}
    frame = read_catalog(write_shop(tmp_path, rows)).frame
    assert frame.loc[0, ["product_id", "colour"]].tolist() == ["007", "Navy Blue"]


def test_the_word_none_is_not_an_empty_cell(tmp_path):
    rows = [shop_row(number) for number in range(5)]
    rows[0]["Usage"], rows[1]["Usage"] = "NA", "None"
    assert read_catalog(write_shop(tmp_path, rows)).frame["usage"].tolist()[:2] == ["NA", "None"]


def test_any_table_will_do(tmp_path):
    for number in range(6):
        Image.new("RGB", (9, 9), (number * 40, 0, 0)).save(tmp_path / f"sku{number}.png")
    table = pd.DataFrame(
        {
            "file": [f"sku{number}.png" for number in range(6)],
            "kind": ["Hats"] * 6,
            "colour": ["Red", None, "Blue", "Blue", "Red", "Red"],
            "stock": range(6),
        },
        index=[7] * 6,  # a table after a filter or a concat
    )
    catalog = from_table(table, tmp_path, image="file", product_type="kind")
    assert list(catalog.frame.columns) == FRAME_COLUMNS
    assert catalog.frame["product_id"].tolist() == [f"sku{number}" for number in range(6)]
    assert catalog.frame["colour"].tolist()[:3] == ["Red", "", "Blue"]
    assert set(catalog.frame["gender"]) == {""}
    assert catalog.frame["group"].nunique() == 6  # items without a title are not "the same title"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({}, "lacks product_type .*it has file, kind"),
        ({"product_type": "type"}, "lacks type; it has file, kind"),
        ({"product_type": "kind", "size": "kind"}, "no size; what it can hold: product_id"),
    ],
)
def test_a_table_with_wrong_columns(columns, words):
    table = pd.DataFrame({"file": ["a.jpg"], "kind": ["Hats"]})
    with pytest.raises(ValueError, match=words):
        from_table(table, image="file", **columns)


# --- bad input ----------------------------------------------------------------------------------


def test_missing_csv(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no data/fashion.csv in"):
        read_catalog(tmp_path)


@pytest.mark.parametrize("column", [*KAGGLE_NAMES.values(), "Image"])
def test_missing_column(tmp_path, column):
    columns = [name for name in COLUMNS if name != column]
    write_shop(tmp_path, [shop_row(number) for number in range(5)], columns)
    with pytest.raises(ValueError, match=f"lacks the columns {column}; it has "):
        read_catalog(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "can't be read as a table: No columns"),
        (b"ProductId,Gender\n1,2,3\n1,2,3,4,5\n", "can't be read as a table: .*line 3"),
        (b"\xff\xfe" + ",".join(COLUMNS).encode("utf-16-le"), "not UTF-8 text"),
        ((",".join(COLUMNS) + "\n").encode(), "catalogue is empty"),
    ],
)
def test_broken_and_empty_csv(tmp_path, content, words):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "fashion.csv").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_catalog(tmp_path)


def test_a_byte_order_mark_is_no_column_name(tmp_path):
    write_shop(tmp_path, [shop_row(number) for number in range(5)])
    file = tmp_path / "data" / "fashion.csv"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert len(read_catalog(tmp_path).frame) == 5


def test_rows_and_photos_that_do_not_fit_are_listed(tmp_path):
    rows = [shop_row(number) for number in range(20)]
    rows[3]["ProductId"] = rows[2]["ProductId"]
    rows[5]["ProductId"] = ""
    rows[6]["ProductType"] = ""
    write_shop(tmp_path, rows)
    photo_path(tmp_path, rows[0]).unlink()
    cut = photo_path(tmp_path, rows[1])
    Image.effect_noise((200, 200), 90).save(cut)
    cut.write_bytes(cut.read_bytes()[:-3000])
    photo_path(tmp_path, rows[4]).write_text("<html>404</html>")
    photo_path(tmp_path, rows[7]).write_bytes(b"")
    photo_path(tmp_path, shop_row(99)).write_bytes(photo_path(tmp_path, rows[9]).read_bytes())
    (photo_path(tmp_path, rows[0]).parent / ".DS_Store").touch()

    catalog = read_catalog(tmp_path)
    found = dict(
        zip(
            catalog.skipped["image"].map(lambda name: Path(name).name),
            reasons(catalog),
            strict=True,
        )
    )
    assert found == {
        "1000.jpg": ("1000", "photo missing"),
        "1001.jpg": ("1001", found["1001.jpg"][1]),
        "1003.jpg": ("1002", "product id used before"),
        "1004.jpg": ("1004", "photo can't be read: not an image file"),
        "1005.jpg": ("", "no product id"),
        "1006.jpg": ("1006", "no product type"),
        "1007.jpg": ("1007", "photo can't be read: not an image file"),
        "1099.jpg": ("", "photo without a row in the table"),
    }
    assert found["1001.jpg"][1].startswith("photo can't be read: image file is truncated")
    # Nothing is lost: every row is an item or listed, and so is every photo.
    assert len(catalog.frame) + len(catalog.skipped) == 20 + 1
    assert "13 items, 8 left out\n  3 x photo can't be read" in str(catalog)


def test_an_id_whose_first_photo_is_missing_may_be_used_again(tmp_path):
    rows = [shop_row(number) for number in range(5)]
    rows[1]["ProductId"] = rows[0]["ProductId"]
    write_shop(tmp_path, rows)
    photo_path(tmp_path, rows[0]).unlink()
    catalog = read_catalog(tmp_path)
    assert reasons(catalog) == [("1000", "photo missing")]
    assert "1000" in set(catalog.frame["product_id"])


def test_no_usable_row(tmp_path):
    rows = [shop_row(number) for number in range(5)]
    write_shop(tmp_path, rows)
    for row in rows:
        photo_path(tmp_path, row).unlink()
    with pytest.raises(ValueError, match="None of the 5 rows can be used.*1000.jpg: photo missing"):
        read_catalog(tmp_path)


def test_a_class_with_one_item_goes_to_train(tmp_path):
    rows = [shop_row(number) for number in range(30)]
    rows[17]["ProductType"] = "Churidar"
    frame = read_catalog(write_shop(tmp_path, rows)).frame
    assert frame.loc[frame["product_type"] == "Churidar", "split"].tolist() == ["train"]


def test_non_ascii_titles(tmp_path):
    titles = [
        "Été 2000 «Jupe»",
        "été jupe!",
        "नीली कमीज़",
        "зелёная юбка",
        "青いシャツ",
        "👗",
        "👠",
        "A",
        "b",
    ]
    rows = [shop_row(number, ProductTitle=title) for number, title in enumerate(titles)]
    frame = read_catalog(write_shop(tmp_path, rows)).frame
    assert frame["title"].tolist() == titles
    assert (
        frame["group"].nunique() == len(titles) - 1
    )  # the first two are one title, two emojis none


# --- photos -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "name", "colour", "expected"),
    [
        ("L", "grey.jpg", 100, (100, 100, 100)),
        ("CMYK", "cmyk.jpg", (0, 255, 255, 0), (255, 0, 0)),
        ("P", "palette.png", 0, (10, 200, 30)),
        ("1", "bits.png", 1, (255, 255, 255)),
        ("LA", "alpha.png", (0, 0), (255, 255, 255)),
        ("RGBA", "alpha.png", (255, 0, 0, 0), (255, 255, 255)),
        ("RGBA", "half.webp", (0, 0, 0, 128), (127, 127, 127)),
        ("I;16", "deep.png", 257 * 40, (40, 40, 40)),
    ],
)
def test_every_kind_of_photo_becomes_rgb(tmp_path, mode, name, colour, expected):
    photo = Image.new(mode, (12, 16), colour)
    if mode == "P":
        photo.putpalette([10, 200, 30])
    photo.save(tmp_path / name)
    opened = open_photo(tmp_path / name)
    assert (opened.mode, opened.size) == ("RGB", (12, 16))
    assert np.allclose(np.asarray(opened)[8, 6], expected, atol=3)


def test_a_palette_with_a_transparent_colour_lies_on_white(tmp_path):
    photo = Image.new("P", (12, 16), 0)
    photo.putpalette([0, 0, 0])
    photo.save(tmp_path / "photo.png", transparency=0)
    assert open_photo(tmp_path / "photo.png").getpixel((3, 3)) == (255, 255, 255)


def test_photos_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # camera held sideways
    Image.new("RGB", (40, 30)).save(tmp_path / "photo.jpg", exif=exif)
    assert open_photo(tmp_path / "photo.jpg").size == (30, 40)


@pytest.mark.parametrize("suffix", ["jpg", "tif", "png", "webp"])
def test_a_photo_is_turned_once_and_not_again(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = Image.new("RGB", (40, 30), "blue")
    photo.paste("red", (0, 0, 40, 8))
    photo.save(tmp_path / f"photo.{suffix}", exif=exif)
    opened = open_photo(tmp_path / f"photo.{suffix}")
    for upright in (opened, to_rgb(opened)):
        assert upright.size == (30, 40)
        assert upright.getpixel((28, 20))[0] > 200 and upright.getpixel((2, 20))[2] > 200


def test_to_rgb_leaves_the_given_photo_as_it_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "photo.jpg", exif=exif)
    with Image.open(tmp_path / "photo.jpg") as photo:
        assert to_rgb(photo).size == (30, 40)
        assert photo.size == (40, 30) and photo.getexif()[0x0112] == 6


def test_only_photos_are_read_and_no_programs(tmp_path, monkeypatch):
    """PostScript is one, and Pillow would have Ghostscript run it."""

    def run(*_):
        raise AssertionError("a photo was run")

    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", run)
    Image.new("RGB", (30, 40)).save(tmp_path / "photo.jpg", "EPS")
    with pytest.raises(ValueError, match="photo.jpg can't be read as a photo: not an image file"):
        open_photo(tmp_path / "photo.jpg")
    rows = [shop_row(number) for number in range(5)]
    write_shop(tmp_path, rows)
    shutil.copy(tmp_path / "photo.jpg", photo_path(tmp_path, rows[2]))
    assert list(read_catalog(tmp_path).skipped["reason"]) == [
        "photo can't be read: not an image file"
    ]


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"msf1"])
def test_a_phones_photo_is_told_by_its_content_whatever_its_name(tmp_path, brand):
    rows = [shop_row(number) for number in range(5)]
    write_shop(tmp_path, rows)
    path = photo_path(tmp_path, rows[2])  # a .jpg
    path.write_bytes(b"\0\0\0\x18ftyp" + brand + b"\0" * 12)
    advice = "HEIC is not read here, save it as JPEG"
    assert list(read_catalog(tmp_path).skipped["reason"]) == [f"photo can't be read: {advice}"]
    with open(path, "rb") as file:
        for photo, name in ((path, ""), (str(path), ""), (file, path.name)):
            with pytest.raises(ValueError, match=f"{path.name} can't be read as a photo: {advice}"):
                open_photo(photo, name)
    (tmp_path / "text.heic").write_text("hello")
    with pytest.raises(ValueError, match="text.heic can't be read as a photo: not an image file"):
        open_photo(tmp_path / "text.heic")
    Image.new("RGB", (30, 40)).save(tmp_path / "photo.heic", "JPEG")
    assert open_photo(tmp_path / "photo.heic").size == (30, 40)


def test_a_photo_that_memory_has_no_room_for_is_refused_by_its_header(tmp_path):
    Image.new("1", (9_000, 10_000)).save(tmp_path / "wall.png")
    with pytest.raises(ValueError, match="wall.png can't be read .* 89 million pixels, make it sm"):
        open_photo(tmp_path / "wall.png")


@pytest.mark.parametrize(
    "kind", [("L", "JPEG", 90), ("CMYK", "JPEG", (0, 255, 255, 0)), ("P", "PNG", 0)]
)
def test_such_photos_are_items_like_others(tmp_path, kind):
    mode, form, colour = kind
    rows = [shop_row(number) for number in range(5)]
    write_shop(tmp_path, rows)
    Image.new(mode, (30, 40), colour).save(photo_path(tmp_path, rows[2]), form)
    catalog = read_catalog(tmp_path)
    assert (len(catalog.frame), len(catalog.skipped)) == (5, 0)
    assert open_photo(catalog.root / catalog.frame.loc[2, "image"]).mode == "RGB"


def test_photos_that_cannot_be_opened_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no photo .*gone.jpg"):
        open_photo(tmp_path / "gone.jpg")
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(ValueError, match="text.jpg can't be read as a photo: not an image file"):
        open_photo(tmp_path / "text.jpg")
    with pytest.raises(ValueError, match="can't be read as a photo: .*directory"):
        open_photo(tmp_path)
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    assert open_photo(tmp_path / "dot.png").size == (1, 1)


# --- groups and splits --------------------------------------------------------------------------


def table(types: list[str], groups: list[int] | None = None) -> pd.DataFrame:
    ids = [f"{number:05d}" for number in range(len(types))]
    groups = list(range(len(types))) if groups is None else groups
    return pd.DataFrame({"product_id": ids, "product_type": types, "group": groups})


def test_titles_are_compared_without_case_digits_and_punctuation():
    assert normalise_title("Nike Men's  Run-2 Shoe_5") == normalise_title("NIKE men s run: shoe")
    assert normalise_title("Nike Run") != normalise_title("Nike Runs")
    assert normalise_title("1234 !") == ""


def test_links_chain_through_photos_and_titles():
    frame = pd.DataFrame(
        {
            "image_sha256": ["a", "b", "b", "c", "d", "e", "f"],
            "title": ["one", "ONE 1", "two", "Two!", "three", "7", "8"],
        }
    )
    assert assign_groups(frame)["group"].tolist() == [0, 0, 0, 0, 1, 2, 3]


def random_table(seed: int, items: int = 1500) -> pd.DataFrame:
    """Types and groups with the long tails of the real set: a few large ones, many of one item."""
    rng = np.random.default_rng(seed)
    types = rng.zipf(1.5, items) % 31
    groups = np.repeat(np.arange(items), rng.zipf(2.2, items).clip(max=items // 20))[:items]
    return table([f"type {number}" for number in types], rng.permutation(groups).tolist())


@pytest.mark.parametrize("seed", range(5))
def test_splits_have_their_sizes_and_cut_no_group(seed):
    frame = assign_splits(random_table(seed), seed)
    assert (frame.groupby("group")["split"].nunique() == 1).all()
    shares = frame["split"].value_counts(normalize=True)
    largest = frame["group"].value_counts(normalize=True).max()
    for split, fraction in zip(SPLITS, (0.8, 0.1, 0.1), strict=True):
        assert abs(shares[split] - fraction) <= max(0.02, largest)


def test_splits_are_stratified():
    frame = assign_splits(table([f"type {number % 7}" for number in range(700)]))
    counts = pd.crosstab(frame["product_type"], frame["split"])
    assert (counts["train"].between(79, 81)).all()
    assert (counts["validation"].between(9, 11)).all()
    assert (counts["test"].between(9, 11)).all()


def test_a_split_depends_on_the_seed_and_not_on_the_order_of_rows():
    frame = random_table(0)
    one = assign_splits(frame, seed=3).set_index("product_id")["split"]
    shuffled = frame.sample(frac=1, random_state=1)
    assert one.equals(assign_splits(shuffled, seed=3).set_index("product_id")["split"].sort_index())
    assert not one.equals(assign_splits(frame, seed=4).set_index("product_id")["split"])


def test_one_huge_group_goes_to_train():
    frame = assign_splits(table(["Tops"] * 100, [0] * 60 + list(range(1, 41))))
    assert set(frame.loc[frame["group"] == 0, "split"]) == {"train"}
    assert frame["split"].value_counts().to_dict() == {"train": 80, "validation": 10, "test": 10}


def test_few_groups_still_make_three_splits():
    frame = assign_splits(table(["Tops"] * 12, [0] * 4 + [1] * 4 + [2] * 4))
    assert frame["split"].value_counts().to_dict() == {"train": 4, "validation": 4, "test": 4}
    for items in (3, 4, 5, 9):
        assert set(assign_splits(table(["Tops"] * items))["split"]) == set(SPLITS)


def test_too_few_groups_are_refused():
    with pytest.raises(ValueError, match="9 items in 2 groups .*at least three unrelated items"):
        assign_splits(table(["Tops"] * 9, [0] * 8 + [1]))


# --- storing ------------------------------------------------------------------------------------


def test_a_catalogue_comes_back_as_it_was(tmp_path):
    rows = [shop_row(number) for number in range(8)]
    write_shop(tmp_path / "shop", rows)
    photo_path(tmp_path / "shop", rows[0]).unlink()
    catalog = read_catalog(tmp_path / "shop")
    save_catalog(catalog, tmp_path / "home" / "catalog.parquet")
    again = load_catalog(tmp_path / "home" / "catalog.parquet")
    pd.testing.assert_frame_equal(again.frame, catalog.frame)
    pd.testing.assert_frame_equal(again.skipped, catalog.skipped)
    assert again.root == tmp_path / "shop"


def test_artefacts_may_be_moved_with_their_photos(tmp_path):
    write_shop(tmp_path / "home" / "photos", [shop_row(number) for number in range(8)])
    save_catalog(read_catalog(tmp_path / "home" / "photos"), tmp_path / "home" / "catalog.parquet")
    (tmp_path / "home").rename(tmp_path / "moved")
    catalog = load_catalog(tmp_path / "moved" / "catalog.parquet")
    assert open_photo(catalog.root / catalog.frame.loc[0, "image"]).size == (30, 40)


def test_a_missing_or_broken_catalogue_names_the_notebook(tmp_path):
    path = tmp_path / "catalog.parquet"
    with pytest.raises(
        FileNotFoundError, match="catalog.parquet is missing: run notebook 01 first"
    ):
        load_catalog(path)
    path.write_text("no")
    with pytest.raises(ValueError, match="not a catalogue: delete it and run notebook 01 again"):
        load_catalog(path)
    pd.DataFrame({"a": [1]}).to_parquet(path)
    with pytest.raises(ValueError, match="not a catalogue"):
        load_catalog(path)


def test_build_catalog_makes_both_artefacts(tmp_path, monkeypatch):
    write_shop(tmp_path / "shop", [shop_row(number) for number in range(20)])
    monkeypatch.setenv("MODA_DATA_DIR", str(tmp_path / "shop"))
    monkeypatch.setenv("MODA_HOME", str(tmp_path / "home"))
    profile = get_profile("mini")
    catalog = build_catalog(profile)
    pd.testing.assert_frame_equal(load_catalog(profile.catalog_path).frame, catalog.frame)
    assert (profile.dataset_dir / "README.md").exists()


# --- the two catalogues of the course ------------------------------------------------------------


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the sample of real photos is not here")
def test_the_real_sample_is_accounted_for():
    catalog = read_catalog(SAMPLE)
    assert (len(catalog.frame), len(catalog.skipped)) == (400, 0)
    assert catalog.frame["product_type"].nunique() == 31
    counts = catalog.frame["image_sha256"].value_counts()
    assert counts.value_counts().to_dict() == {1: 370, 2: 15}
    grey = 0
    for image in catalog.frame["image"]:
        with Image.open(catalog.root / image) as photo:
            grey += photo.mode == "L"
    assert grey == 4
    for seed in range(5):
        frame = assign_splits(catalog.frame, seed)
        shares = frame["split"].value_counts(normalize=True)
        assert abs(shares - pd.Series({"train": 0.8, "validation": 0.1, "test": 0.1})).max() <= 0.02
        for key in (frame["image_sha256"], frame["title"].map(normalise_title)):
            assert (frame["split"].groupby(key).nunique() == 1).all()


def test_the_drawn_catalogue_is_accounted_for(tmp_path, monkeypatch):
    from moda_utils.mini.catalogue import write_catalogue

    monkeypatch.setenv("TQDM_DISABLE", "1")
    catalog = read_catalog(write_catalogue(tmp_path, n=150))
    assert (len(catalog.frame), len(catalog.skipped)) == (150, 0)
    assert (catalog.frame.groupby("group")["split"].nunique() == 1).all()
    assert catalog.frame["image_sha256"].duplicated().any()


def test_the_three_items_that_return_are_of_the_commonest_types_and_unseen():
    kinds = ["Heels"] * 3 + ["Tops"] * 3 + ["Jeans"] * 2 + ["Skirts"] + ["Flats"] * 9
    frame = pd.DataFrame(
        {
            "product_id": [str(100 + number) for number in range(18)],
            "product_type": kinds,
            "split": ["test"] * 9 + ["train"] * 9,
        }
    )
    three = same_three(frame)
    assert list(three["product_id"]) == ["100", "103", "106"]  # equal counts: by name
    turned = same_three(frame.iloc[::-1])
    assert three.equals(turned)
    assert list(same_three(frame[:4])["product_type"]) == ["Heels", "Tops"]
