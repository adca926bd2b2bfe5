"""Profiles: which one is chosen and why, and where its artefacts go."""

import pytest

from moda_utils.profiles import ROOT, get_profile


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("MODA_PROFILE", raising=False)
    monkeypatch.delenv("MODA_DATA_DIR", raising=False)
    monkeypatch.setenv("MODA_HOME", str(tmp_path))


def test_the_form_beats_the_environment(monkeypatch):
    monkeypatch.setenv("MODA_PROFILE", "mini")
    assert get_profile("full").name == "full"
    assert get_profile("auto").name == "mini"


def test_artefacts_decide_when_nothing_else_does(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "catalog.parquet").touch()
    assert get_profile().name == "full"
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "catalog.parquet").touch()
    assert get_profile().reason != "its artefacts are already here"


@pytest.mark.parametrize("where", ["argument", "MODA_PROFILE"])
def test_unknown_profile_names_the_valid_ones(monkeypatch, where):
    if where == "MODA_PROFILE":
        monkeypatch.setenv("MODA_PROFILE", "huge")
    with pytest.raises(ValueError, match="'huge'; valid ones are: mini, full"):
        get_profile("huge" if where == "argument" else None)


def test_own_photos_get_a_home_of_their_own(monkeypatch, tmp_path):
    shop = tmp_path / "shop"
    (shop / "data").mkdir(parents=True)
    monkeypatch.setenv("MODA_DATA_DIR", str(shop))
    profile = get_profile("mini")
    assert profile.home == tmp_path / "mini-shop"
    assert profile.data_label == "real"
    (shop / "data" / "drawn_truth.csv").touch()
    assert get_profile("mini").data_label == "drawn"


def test_missing_photo_folder_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("MODA_DATA_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        get_profile("mini")


def test_relative_settings_start_at_the_repository(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODA_HOME", "build/somewhere")
    assert get_profile("mini").home == ROOT / "build" / "somewhere" / "mini"
