"""Where photos come from and descriptions go: object stores and Parquet files."""

import os
import traceback

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_bucket import FakeBucket
from scale_jobs import asked, describing, draw_photos, noting, one_ray, rows, run_python

from moda_utils import scale

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Ray's workers know what the process knew that started Ray: the keys to the store."""
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"AWS_EC2_METADATA_DISABLED": "true", **keys}.items():
            patch.setenv(name, value)
        with one_ray():
            yield


@pytest.fixture
def photos(tmp_path):
    return draw_photos(tmp_path / "photos")


@pytest.fixture
def store(photos):
    """An object store with the twenty photos, in folders whose names have a blank."""
    files = {
        f"photos/{path.relative_to(photos)}": path.read_bytes() for path in photos.rglob("*.png")
    }
    with FakeBucket(files) as bucket:
        yield bucket


def stored(store, folder="out/described"):
    """The rows of a run's tables that lie in the store."""
    names = sorted(name for name in store.files if name.startswith(f"{folder}/0"))
    return [
        row
        for name in names
        for row in pq.read_table(pa.BufferReader(store.files[name])).to_pylist()
    ]


def test_photos_come_from_an_object_store(store, tmp_path):
    job = noting(store.address("photos"), tmp_path / "out", tmp_path / "log")
    assert scale.describe_catalogue(job, shard_size=8) == {"described": 20}
    assert len(asked(tmp_path / "log")) == 20


def test_descriptions_go_to_an_object_store_and_a_stopped_run_goes_on_there(store, tmp_path):
    store.files["photos/broken.jpg"] = b"no photo"
    job = noting(store.address("photos"), store.address("out"), tmp_path / "log")
    assert scale.describe_catalogue(job, 2, shard_size=6) == {"described": 20, "unreadable": 1}
    assert {row["product_id"] for row in stored(store)} == {f"{n:03}" for n in range(20)}
    assert [row["product_id"] for row in stored(store, "out/unreadable")] == ["broken"]
    assert not [name for name in store.files if name.endswith(".part")]
    assert scale.describe_catalogue(job, 2, shard_size=6) == {"before": 21}
    del store.files["out/described/000000006.parquet"]
    assert scale.describe_catalogue(job, 2, shard_size=6) == {"described": 6, "before": 15}
    assert len(asked(tmp_path / "log")) == 26
    with pytest.raises(ValueError, match="out.* holds another run.*choose another folder"):
        scale.describe_catalogue(job._replace(key={"model": "another"}), 2, shard_size=6)


def test_a_store_without_credentials_is_explained(store, tmp_path, monkeypatch):
    store.closed = True
    assert len(scale.find_shards(store.address("photos"))) == 1  # by the keys of `cluster`
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(RuntimeError, match=r"can't be read \(.*ACCESS_DENIED.*AWS_ACCESS_KEY_ID"):
        scale.describe_catalogue(noting(store.address(), tmp_path / "out", tmp_path / "log"))
    assert not (tmp_path / "out").exists()


def test_no_message_tells_the_key_that_an_address_holds(store, photos, tmp_path, capsys):
    secret = "word-of-mouth"
    folder, out, other = (
        store.address(name).replace("s3://", f"s3://me:{secret}@")
        for name in ("nothing", "out", "other")
    )
    job = noting(photos, out, tmp_path / "log")
    store.locked = "out/described/"
    with pytest.raises(RuntimeError, match=r"//\.\.\.@shop/out.* can't be written") as by_worker:
        scale.describe_catalogue(job)
    store.locked = None
    assert scale.describe_catalogue(job) == {"described": 20}
    with pytest.raises(ValueError, match=r"//\.\.\.@shop/out.* holds another run") as by_driver:
        scale.describe_catalogue(job._replace(key={"model": "another"}))
    with pytest.raises(ValueError, match=r"no photo in s3://\.\.\.@shop/nothing") as by_search:
        scale.find_shards(folder)
    store.locked = "other"
    with pytest.raises(RuntimeError, match=r"//\.\.\.@shop/other.* can't be written") as at_once:
        scale.describe_catalogue(job._replace(out=other))
    for caught in (by_worker, by_driver, by_search, at_once):
        shown = "".join(traceback.format_exception(caught.value))
        assert secret not in shown and "@shop" in shown
    assert secret not in "".join(capsys.readouterr())


def test_a_bucket_that_is_not_there_is_explained(store, photos, tmp_path):
    with pytest.raises(ValueError, match="There is no photo in s3://nowhere"):
        scale.find_shards(store.address(bucket="nowhere"))
    job = noting(photos, store.address("out", bucket="nowhere"), tmp_path / "log")
    with pytest.raises(
        RuntimeError, match=r"s3://nowhere.* can't be written \(Bucket 'nowhere' not"
    ):
        scale.describe_catalogue(job)
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("locked", ["", "out/described/"], ids=["all", "the descriptions"])
def test_a_store_that_can_only_be_read_is_explained(store, photos, tmp_path, locked):
    """At once where nothing can be written, by a worker where it finds out."""
    store.locked = locked
    job = noting(photos, store.address("out"), tmp_path / "log")
    with pytest.raises(RuntimeError, match=r"out.* can't be written \(.*ACCESS_DENIED.*see to"):
        scale.describe_catalogue(job)
    assert (tmp_path / "log").exists() == bool(locked)
    store.locked = None
    assert scale.describe_catalogue(job) == {"described": 20}


def test_what_workers_write_elsewhere_is_missed(store, photos, tmp_path):
    """The address leads them to another store than who calls, as a path does without a mount."""
    out, log = "s3://shop/out?scheme=http&region=us-east-1", tmp_path / "log"
    with FakeBucket() as theirs:
        ends = [f"http://127.0.0.1:{end.server_port}" for end in (theirs, store)]
        enter, call = (f"os.environ['AWS_ENDPOINT_URL'] = {end!r}" for end in ends)
        _, error = run_python(
            f"{enter}\nwith one_ray():\n    {call}\n    {describing(photos, out, log)}"
        )
        assert len(stored(theirs)) == 20 and stored(store) == []
    [last] = error.splitlines()[-1:]
    assert last.startswith("RuntimeError: s3://shop/out?") and "not here: give a folder" in last


def test_a_storage_that_fails_stops_the_run_and_blames_no_photo(store, tmp_path):
    store.failing = "photos/shelf 1/013.png"
    job = noting(store.address("photos"), tmp_path / "out", tmp_path / "log")
    with pytest.raises(RuntimeError, match=r"shop/photos/shelf 1/013.png can't be fetched .*again"):
        scale.describe_catalogue(job, shard_size=5)
    assert len(rows(tmp_path / "out")) < 20
    store.failing = None
    counts = scale.describe_catalogue(job, shard_size=5)
    assert counts["described"] + counts["before"] == len(rows(tmp_path / "out")) == 20
    assert rows(tmp_path / "out", "unreadable") == []


def save_parquet(path, ids, images, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"product_id": ids, "image": images}), path, **options)
    return path.parent


def test_parquet_of_another_form_is_refused(photos, tmp_path):
    wanted = "has no image.bytes: image is a struct of bytes and path"
    for kind, image in {"null": None, "text": "a.png", "bytes": b"photo"}.items():
        source = save_parquet(tmp_path / kind / "shop.parquet", ["1"], [image])
        with pytest.raises(ValueError, match=rf"{kind}/shop.parquet {wanted}"):
            scale.find_shards(str(source))
    image = {"bytes": b"photo", "path": "1.png"}
    source = save_parquet(tmp_path / "ids" / "shop.parquet", ["1", None, "1"], [image] * 3)
    with pytest.raises(ValueError, match=r"Ids missing or twice: 2 \(1, None\)"):
        scale.find_shards(str(source))
    save_parquet(photos / "shop.parquet", ["1"], [image])
    with pytest.raises(ValueError, match="holds photos and Parquet files: give one or the other"):
        scale.find_shards(str(photos))


def test_files_of_like_names_have_shards_of_their_own(tmp_path):
    image = {"bytes": b"photo", "path": None}
    for name in ("a b.parquet", "a-b.parquet", "a/b.parquet"):
        source = tmp_path / "shop"
        save_parquet(source / name, [name], [image])
    shards = scale.find_shards(str(source))
    assert len({shard.name for shard in shards}) == len(shards) == 3


def test_a_row_without_photo_is_listed(photos, tmp_path):
    image = {"bytes": next(photos.rglob("*.png")).read_bytes(), "path": None}
    images = [image, None, {"bytes": None, "path": None}, {"bytes": None, "path": "gone.png"}]
    source = save_parquet(tmp_path / "shop" / "shop.parquet", ["1", "2", "3", "4"], images)
    job = noting(source, tmp_path / "out", tmp_path / "log")
    assert scale.describe_catalogue(job) == {"described": 1, "unreadable": 3}
    lost = {row["product_id"]: row["reason"] for row in rows(tmp_path / "out", "unreadable")}
    assert set(lost) == {"2", "3", "4"}
    assert "can't be read as a photo" in lost["2"] and "gone.png" in lost["4"]


def test_a_large_row_group_is_never_in_memory_as_a_whole(photos, tmp_path):
    """One group of 100 photos, a megabyte each (what stands behind a picture's end is ignored)."""
    content = next(photos.rglob("*.png")).read_bytes()
    images = [{"bytes": content + os.urandom(1_000_000), "path": None} for _ in range(100)]
    ids, path = [str(number) for number in range(100)], tmp_path / "large" / "shop.parquet"
    source = save_parquet(path, ids, images, write_batch_size=4)  # rows of a page
    said, beside = run_python(
        "import tracemalloc, pyarrow\n"
        f"job = noting({str(source)!r}, {str(tmp_path / 'out')!r}, {str(tmp_path / 'log')!r})\n"
        f"[shard] = scale.find_shards({str(source)!r})\n"
        "worker = scale.Worker(job)\n"
        "tracemalloc.start()\n"
        "print(worker({'item': [json.dumps(shard)]}))\n"
        "print(tracemalloc.get_traced_memory()[1] + pyarrow.default_memory_pool().max_memory())"
    )
    assert said.startswith("{'described': [100], 'unreadable': [0]}"), beside
    peak = said.splitlines()[1]
    assert int(peak) < 40e6
