"""The download: what works, and that each failure says in one sentence what to do."""

import re

import numpy as np
import pytest
from fake_kaggle import FakeKaggle, zip_folder
from PIL import Image
from ports import nobodys_port

from moda_utils.catalog import load_photos, read_catalog
from moda_utils.kaggle import download
from moda_utils.profiles import get_profile

HANDLE = "owner/clothes"
PINNED = f"{HANDLE}/versions/1"


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> bytes:
    """A small catalogue with noisy photos: kagglehub fetches a megabyte at a time, this is more."""
    root = tmp_path_factory.mktemp("source")
    photos = root / "data" / "Apparel" / "Boys" / "Images" / "images_with_product_ids"
    photos.mkdir(parents=True)
    rows = [
        "ProductId,Gender,Category,SubCategory,ProductType,Colour,Usage,ProductTitle,Image,ImageURL"
    ]
    rng = np.random.default_rng(0)
    for number in range(6):
        noise = rng.integers(0, 256, (600, 450, 3), dtype=np.uint8)
        Image.fromarray(noise).save(photos / f"{number}.jpg", quality=100)
        name = "abcdef"[number]
        rows.append(f"{number},Boys,Apparel,Topwear,Tshirts,Red,Casual,Shirt {name},{number}.jpg,")
    (root / "data" / "fashion.csv").write_text("\n".join(rows) + "\n")
    return zip_folder(root)


@pytest.fixture
def kaggle(archive, monkeypatch, tmp_path):
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TQDM_DISABLE", "1")
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    with FakeKaggle(HANDLE, archive) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def failure(handle: str = PINNED) -> str:
    """The message of a download that fails: always one paragraph that names the way out."""
    with pytest.raises(RuntimeError) as caught:
        download(handle)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith("MODA_PROFILE=mini works now, without a network.")
    return message


def test_a_download_gives_a_catalogue_and_happens_once(kaggle):
    root = download(PINNED)
    assert len(read_catalog(root).frame) == 6
    calls = len(kaggle.log)
    assert download(PINNED) == root
    kaggle.status = 500  # found in the cache, a pinned version asks nobody
    assert download(PINNED) == root
    assert len(kaggle.log) == calls


def test_the_profile_full_downloads_its_dataset(kaggle, monkeypatch, tmp_path):
    monkeypatch.setenv("MODA_HOME", str(tmp_path))
    monkeypatch.delenv("MODA_DATA_DIR", raising=False)
    kaggle.handle = "vikashrajluhaniwal/fashion-images"
    assert len(read_catalog(load_photos(get_profile("full"))).frame) == 6


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_cut_download_goes_on_where_it_stopped(kaggle, archive, share):
    kaggle.cut_after = int(share * len(archive))
    kept = kaggle.cut_after // 2**20 * 2**20  # kagglehub writes a megabyte at a time
    assert bool(kept) == (share > 0.1), "the archive must be larger than two megabytes"
    assert "was cut: run the cell again" in failure()
    assert len(read_catalog(download(PINNED)).frame) == 6
    asked = [range_ for method, path, range_ in kaggle.log if path == "/archive.zip"]
    assert asked[0] is None
    assert asked[-1] in ([f"bytes={kept}-"] if kept else [None, "bytes=0-"])


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, r"refused the download \(HTTP 401\).*remove a wrong KAGGLE_API_TOKEN"),
        (403, r"refused the download \(HTTP 403\)"),
        (404, r"has no dataset owner/clothes/versions/1 \(HTTP 404\).*MODA_DATA_DIR"),
        (429, r"can't serve the photos now \(HTTP 429\).*in some minutes"),
        (500, r"can't serve the photos now \(HTTP 500\)"),
    ],
)
def test_refusals_say_what_to_do(kaggle, status, words):
    kaggle.status = status
    message = failure()
    kaggle.status = None
    assert re.search(words, message)
    assert download(PINNED).is_dir()  # a failure leaves nothing behind that stops the next try


@pytest.mark.parametrize("proxy", ["127.0.0.1", "kaggle.invalid"])
def test_no_network_and_a_name_that_does_not_resolve(kaggle, monkeypatch, proxy):
    monkeypatch.setenv("http_proxy", f"http://{proxy}:{nobodys_port()}")
    assert failure().startswith("Kaggle can't be reached: check the network")


def test_a_damaged_archive_is_deleted_and_the_next_try_works(kaggle):
    kaggle.wrong_md5 = True
    assert "arrived damaged and were deleted" in failure()
    kaggle.wrong_md5 = False
    assert download(PINNED).is_dir()


def test_an_archive_that_is_none_is_deleted_and_the_next_try_works(kaggle, archive):
    kaggle.archive, kaggle.announce_md5 = b"<html>Please log in</html>" * 100, False
    assert "can't be unpacked" in failure()
    kaggle.archive = archive
    assert len(read_catalog(download(PINNED)).frame) == 6


def test_an_archive_damaged_inside_is_deleted_and_the_next_try_works(kaggle, archive):
    middle = len(archive) // 2
    kaggle.archive = archive[:middle] + b"?" * 1000 + archive[middle + 1000 :]
    kaggle.announce_md5 = False
    assert "can't be unpacked" in failure()
    kaggle.archive = archive
    assert len(read_catalog(download(PINNED)).frame) == 6


def test_a_cache_that_cannot_be_written(kaggle, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "file"))
    assert "can't be stored" in failure()


def test_a_wrong_handle_is_named():
    with pytest.raises(ValueError, match="nonsense"):
        download("nonsense")
