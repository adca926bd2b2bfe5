"""The drawn world: photos, attributes and the catalogue's structure."""

import csv
import hashlib
import random
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from moda_utils.attributes import extract
from moda_utils.mini.catalogue import (
    CATALOGUE_SEED,
    COLUMNS,
    FRESH_SEED,
    fresh_items,
    training_items,
    write_catalogue,
)
from moda_utils.mini.drawing import draw_item, sample_item
from moda_utils.mini.items import COLOURS, PRINTED_WORDS, PRODUCT_TYPES, USAGES
from moda_utils.mini.photos import as_stored
from moda_utils.mini.wording import caption, describe


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    root = write_catalogue(tmp_path_factory.mktemp("drawn"))
    with open(root / "data" / "fashion.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return root, rows


def _photo(root, row):
    return (
        root / "data" / row["Category"] / row["Gender"] / "Images" / "images_with_product_ids"
        / row["Image"]
    )  # fmt: skip


def test_a_photo_is_decided_by_item_and_seed():
    item = sample_item(random.Random(3))
    first, again, other = (np.asarray(draw_item(item, seed)) for seed in (1, 1, 2))
    assert first.shape == (224, 168, 3)
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("product_type", PRODUCT_TYPES)
def test_every_type_lies_on_white_ground_within_the_central_square(product_type):
    rng = random.Random(product_type)
    for seed in range(12):
        photo = np.asarray(
            draw_item(sample_item(rng, product_type=product_type, balanced=True), seed)
        ).astype(int)
        drawn = (photo < 200).any(-1)
        assert drawn.mean() > 0.03
        outside = drawn.copy()
        outside[28:196] = False
        assert outside.mean() < 0.01  # a hood or a shadow may reach a little over
        assert photo[[0, 0, -1, -1], [0, -1, 0, -1]].min() > 235


def test_grey_and_white_items_are_not_tinted():
    rng = random.Random(0)
    for name in ("White", "Grey"):
        for seed in range(5):
            item = sample_item(rng, product_type="Jackets", balanced=True)
            item = type(item)(**{**vars(item), "colour": name})
            middle = np.asarray(draw_item(item, seed))[100:140, 60:78].reshape(-1, 3).astype(int)
            assert np.ptp(np.median(middle, axis=0)) <= 6


def test_a_printed_word_changes_the_photo_only_on_the_chest():
    item = sample_item(random.Random(5), printed=True)
    plain = type(item)(**{**vars(item), "printed_word": None})
    assert item.product_type == "Tshirts" and item.printed_word in PRINTED_WORDS
    # Other words, other photos: the letters are really drawn.
    photos = {
        word: np.asarray(draw_item(type(item)(**{**vars(item), "printed_word": word}), 0)).tobytes()
        for word in PRINTED_WORDS
    }
    assert len(set(photos.values())) == len(PRINTED_WORDS)
    assert np.asarray(draw_item(plain, 0)).tobytes() not in photos.values()


def test_csv_has_the_columns_of_the_real_set_and_every_row_has_its_photo(catalogue):
    root, rows = catalogue
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 1200
    assert len({row["ProductId"] for row in rows}) == 1200
    for row in rows:
        assert all(row.values())
        assert row["Image"] == row["ProductId"] + ".jpg"
        with Image.open(_photo(root, row)) as photo:
            assert (photo.size, photo.mode, photo.format) == ((168, 224), "RGB", "JPEG")


def test_the_catalogue_copies_the_structure_of_the_real_set(catalogue):
    root, rows = catalogue
    pairs = {(row["Category"], row["Gender"]) for row in rows}
    assert pairs == {
        ("Apparel", "Boys"), ("Apparel", "Girls"), ("Footwear", "Men"), ("Footwear", "Women"),
    }  # fmt: skip
    usages = Counter(row["Usage"] for row in rows)
    assert 0.78 < usages["Casual"] / 1200 < 0.9
    assert all(usages[name] >= 20 for name in USAGES)
    types = Counter(row["ProductType"] for row in rows)
    assert set(types) == set(PRODUCT_TYPES)
    assert max(types.values()) > 200 and min(types.values()) < 15
    assert {row["Colour"] for row in rows} == set(COLOURS)
    hashes = Counter(hashlib.sha256(_photo(root, row).read_bytes()).hexdigest() for row in rows)
    assert 0.06 < (1200 - len(hashes)) / 1200 < 0.14
    titles = Counter(row["ProductTitle"] for row in rows)
    assert 60 < 1200 - len(titles) < 300


def test_printed_words_stand_in_the_truth_file_and_never_in_a_title(catalogue):
    root, rows = catalogue
    with open(root / "data" / "drawn_truth.csv", encoding="utf-8", newline="") as file:
        truth = {row["product_id"]: row["printed_word"] for row in csv.DictReader(file)}
    assert set(truth) == {row["ProductId"] for row in rows}
    printed = [row for row in rows if truth[row["ProductId"]]]
    assert len(printed) > 60
    assert {row["ProductType"] for row in printed} == {"Tshirts"}
    words = {word.lower() for word in PRINTED_WORDS}
    for row in rows:
        assert not words & set(row["ProductTitle"].lower().split())


def test_a_complete_catalogue_is_left_alone_and_another_one_replaced(tmp_path):
    root = write_catalogue(tmp_path, n=12)
    first = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    marker = root / "data" / "fashion.csv"
    before = marker.stat().st_mtime_ns
    write_catalogue(tmp_path, n=12)
    assert marker.stat().st_mtime_ns == before
    write_catalogue(tmp_path, n=13)
    write_catalogue(tmp_path, n=12)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == first


def test_a_foreign_data_folder_is_never_replaced(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("keep me")
    with pytest.raises(ValueError, match="not a drawn catalogue"):
        write_catalogue(tmp_path, n=12)
    assert (tmp_path / "data" / "mine.txt").read_text() == "keep me"


def _stored_hash(photo):
    return hashlib.sha256(as_stored(photo).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def catalogue_hashes(catalogue):
    root, rows = catalogue
    hashes = set()
    for row in rows:
        with Image.open(_photo(root, row)) as photo:
            hashes.add(hashlib.sha256(photo.convert("RGB").tobytes()).hexdigest())
    return hashes


def test_training_measuring_and_catalogue_share_no_photo(catalogue_hashes):
    assert 999 * 1_000_000 + 999_999 < FRESH_SEED < CATALOGUE_SEED
    training = {
        _stored_hash(photo)
        for kind in ({"balanced": False}, {"balanced": True}, {"printed": True})
        for _, photo in training_items(60, 100, **kind)
    }
    fresh = {_stored_hash(photo) for _, photo in fresh_items(100)}
    assert len(fresh) == 100
    assert not training & fresh
    assert not catalogue_hashes & (training | fresh)


@pytest.mark.slow
def test_thousands_of_training_photos_share_no_hash_with_the_catalogue(catalogue_hashes):
    for seed in range(3):
        for _, photo in training_items(1000, seed, balanced=False):
            assert _stored_hash(photo) not in catalogue_hashes


def test_a_seed_beyond_its_range_is_refused():
    with pytest.raises(ValueError, match="below 1,000"):
        next(training_items(1, seed=1000))


def test_captions_state_what_they_say_they_state():
    rng = random.Random(1)
    for _ in range(500):
        item = sample_item(rng, balanced=True)
        text, stated = caption(item, rng)
        assert all(getattr(item, name) == value for name, value in stated.items())
        found = extract(text)
        for name, values in (("colour", found.colours), ("gender", found.genders)):
            assert values == ({stated[name]} if name in stated else set()), text


def test_descriptions_state_all_attributes_rightly_in_many_wordings():
    rng, texts = random.Random(2), set()
    for _ in range(500):
        item = sample_item(rng, balanced=True)
        text = describe(item, rng)
        found = extract(text)
        assert found.colours == {item.colour}, text
        assert found.product_types == {item.product_type}, text
        assert found.genders == {item.gender}, text
        assert found.usages == {item.usage}, text
        texts.add(text)
    assert len(texts) > 480


def test_the_printed_word_is_told_only_on_request():
    rng = random.Random(4)
    for _ in range(50):
        item = sample_item(rng, printed=True)
        assert item.printed_word in describe(item, rng, word=True)
        assert item.printed_word not in describe(item, rng)
