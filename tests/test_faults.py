"""What else goes wrong on a reader's machine: artefacts half written, of an older version, or dated
by a clock that went back. Full disks are in test_disk.py, kills in test_kills.py, networks in
test_hub.py and test_kaggle.py.
"""

import ast
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fake_kaggle import FakeKaggle, zip_folder
from shop import shop_row, write_shop

from moda_utils.catalog import load_catalog, read_catalog
from moda_utils.dataset import build_catalog, load_dataset_dir
from moda_utils.features import load_examples
from moda_utils.kaggle import download
from moda_utils.profiles import ROOT, Profile, get_profile
from moda_utils.serving import describe
from moda_utils.training import load_history, recipe, start_model, train_from_profile


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A home with everything that 01 and 05 leave, of a shop of forty items."""
    root = tmp_path_factory.mktemp("finished")
    rows = [shop_row(n, ProductType=("Tshirts", "Shorts")[n % 2]) for n in range(40)]
    write_shop(root / "shop", rows)
    with pytest.MonkeyPatch.context() as patch:
        profile = _profile(root, patch)
        build_catalog(profile)
        _train(profile)
    return root


def _profile(root: Path, patch: pytest.MonkeyPatch) -> Profile:
    patch.setenv("MODA_DATA_DIR", str(root / "shop"))
    patch.setenv("MODA_HOME", str(root / "home"))
    return get_profile("mini")


def _train(profile: Profile):
    return train_from_profile(profile, config=recipe(profile, epochs=2, snapshot_epochs=()))


@pytest.fixture
def profile(finished, tmp_path, monkeypatch) -> Profile:
    """The profile of a copy of that home, to be damaged."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return _profile(tmp_path, monkeypatch)


def half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_half_a_catalogue_is_recognised_and_made_again(profile):
    whole = load_catalog(profile.catalog_path).frame
    half(profile.catalog_path)
    with pytest.raises(ValueError, match="not a catalogue: delete it and run notebook 01 again"):
        load_catalog(profile.catalog_path)
    build_catalog(profile)
    assert load_catalog(profile.catalog_path).frame.equals(whole)


@pytest.mark.parametrize("damage", ["half", "older"])
def test_half_a_dataset_or_an_older_one_is_recognised_and_made_again(profile, damage):
    file = profile.dataset_dir / "data" / "validation.parquet"
    whole = pq.read_table(file)
    if damage == "half":
        half(file)
    else:
        pq.write_table(whole.drop_columns(["description_source"]), file)
    with pytest.raises(ValueError, match="dataset/ is damaged or of an older version: run noteb"):
        load_examples(profile, *start_model(profile))
    build_catalog(profile)
    assert pq.read_table(file).equals(whole)
    assert sum(map(len, load_dataset_dir(profile.dataset_dir).values())) == 40


def test_half_a_cache_of_embeddings_is_recognised_and_made_again(profile):
    (file,) = profile.features_dir.glob("*.safetensors")
    before = load_examples(profile, *start_model(profile))["train"].image_embeds
    whole = file.read_bytes()
    half(file)
    with pytest.warns(UserWarning, match="is damaged: its photos are encoded again"):
        after = load_examples(profile, *start_model(profile))["train"].image_embeds
    assert after.equal(before)
    assert len(file.read_bytes()) == len(whole)


def test_half_a_config_of_a_run_is_named(profile):
    config = profile.run_dir("moda") / "config.json"
    half(config)
    with pytest.raises(ValueError, match=r"config\.json is not valid JSON .*delete it and run"):
        _train(profile)


def test_half_a_model_is_recognised_before_it_is_trained_on(profile):
    half(profile.run_dir("moda") / "best" / "model.safetensors")
    with pytest.raises(ValueError, match="damaged or belongs to another model"):
        _train(profile)


def test_a_run_on_older_descriptions_is_not_mixed_with_newer_ones(profile, capsys):
    """The catalogue has changed since: the old run is refused, kept, and another one offered."""
    from moda_utils.dataset import write_dataset

    catalog = load_catalog(profile.catalog_path)
    texts = catalog.frame[["product_id"]].assign(description_raw="Something else altogether")
    write_dataset(catalog, texts, profile.dataset_dir)
    before = load_history(profile.run_dir("moda")).rows
    with pytest.raises(ValueError, match='descriptions.*"start over"'):
        train_from_profile(
            profile, config=recipe(profile, epochs=2, snapshot_epochs=()), captions="raw"
        )
    assert load_history(profile.run_dir("moda")).rows == before


def test_half_of_kaggles_photos_is_recognised_and_fetched_again(tmp_path, monkeypatch):
    """Killed while it unpacks: the folder is there, the mark that it is whole is not."""
    rows = [shop_row(n) for n in range(9)]
    archive = zip_folder(write_shop(tmp_path / "shop", rows))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    with FakeKaggle("owner/clothes", archive) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        root = download("owner/clothes/versions/1")
        (mark,) = (tmp_path / "cache").rglob("1.complete")
        mark.unlink()
        for photo in sorted(root.rglob("*.jpg"))[::2]:
            half(photo)
        assert download("owner/clothes/versions/1") == root
    assert len(read_catalog(root).frame) == 9


# The clock


def test_nothing_asks_what_time_it_is():
    """Durations come from clocks that never go back; order and age of files decide nothing."""
    asking = {"time.time", "time.ctime", "time.localtime", "datetime.now", "datetime.today"}
    asking |= {"datetime.utcnow", "date.today", "datetime.datetime.now", "datetime.date.today"}
    for path in sorted((ROOT / "moda_utils").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                assert ast.unparse(node) not in asking, path.name


@pytest.mark.parametrize("year", [1985, 2037])  # some file systems end in 2038
def test_files_dated_by_a_wrong_clock_are_used_all_the_same(profile, tmp_path, year, capsys):
    """A clock that was ahead and went back leaves files of the future."""
    photo = next((tmp_path / "shop").rglob("*.jpg"))
    said = describe(photo)
    seconds = (year - 1970) * 365 * 24 * 3600
    files = [path for path in profile.home.rglob("*") if path.is_file()]
    for path in files:
        os.utime(path, (seconds, seconds))
    content = {path: path.read_bytes() for path in files}
    assert len(load_catalog(profile.catalog_path).frame) == 40
    (cache,) = profile.features_dir.glob("*.safetensors")
    history = _train(profile)  # finished: loaded, nothing is encoded or trained again
    assert cache.stat().st_mtime == seconds
    assert history.rows == load_history(profile.run_dir("moda")).rows
    assert "is finished, so it is loaded" in capsys.readouterr().out
    assert describe(photo) == said
    assert {path: path.read_bytes() for path in files} == content
    # What is written now has an earlier or later date than what it replaces: it counts.
    build_catalog(profile)
    assert abs(profile.catalog_path.stat().st_mtime - seconds) > 1e8
    assert load_catalog(profile.catalog_path).frame.equals(read_catalog(tmp_path / "shop").frame)
