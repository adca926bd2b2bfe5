"""Setup and catch_up: a notebook says what it has, what it lacks and what that costs."""

import logging
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType
from zipfile import ZipFile

import pytest
from shop import shop_row, write_shop

from moda_utils import course
from moda_utils.catalog import load_catalog
from moda_utils.course import catch_up, progress, setup, show_figure
from moda_utils.profiles import ROOT, get_profile


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """A small shop as the photos, a home of its own, and no trace of an earlier choice."""
    write_shop(tmp_path / "shop", [shop_row(number) for number in range(20)])
    monkeypatch.setenv("MODA_DATA_DIR", str(tmp_path / "shop"))
    monkeypatch.setenv("MODA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MODA_PROFILE", "mini")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setattr(course, "_replaced", {})
    return tmp_path / "home" / "mini-shop"


def test_setup_says_what_it_found(home, capsys):
    profile = setup("01")
    assert profile.home == home
    printed = capsys.readouterr().out
    assert "Profile    mini (MODA_PROFILE is set)\n" in printed
    assert "Photos     real, from the folder shop\n" in printed
    assert "Device     " in printed
    assert f"Artefacts  {home}\n" in printed
    assert "Missing" not in printed


def test_setup_shows_places_in_the_repository_without_the_machine(monkeypatch, capsys):
    monkeypatch.setenv("MODA_HOME", "artifacts-that-are-not-there")
    setup("01")
    assert "Artefacts  artifacts-that-are-not-there/mini-shop\n" in capsys.readouterr().out


def test_setup_names_what_is_missing_and_who_makes_it(home, capsys):
    setup("06")
    printed = capsys.readouterr().out
    assert "Missing    catalog.parquet, dataset: run notebook 01 first\n" in printed
    assert "Missing    runs/moda/best: run notebook 05 first\n" in printed
    assert 'or let catch_up("06") make it' in printed
    (home / "runs" / "moda" / "best").mkdir(parents=True)
    setup("07")
    assert "runs/moda/best" not in capsys.readouterr().out


def test_a_choice_in_the_form_holds_until_it_is_taken_back(monkeypatch):
    assert setup("00", "full").name == "full"
    assert get_profile().name == "full"  # what describe() will ask later
    assert setup("00", "auto").name == "mini"
    assert os.environ["MODA_PROFILE"] == "mini"
    monkeypatch.delenv("MODA_PROFILE")
    setup("00", "full")
    setup("00", "mini")
    setup("00", "auto")
    assert not os.environ["MODA_PROFILE"]


def test_an_unknown_profile_is_refused_and_not_remembered():
    with pytest.raises(ValueError, match="'huge'; valid ones are: mini, full"):
        setup("00", "huge")
    assert os.environ["MODA_PROFILE"] == "mini"


def test_catch_up_builds_the_catalogue(home, capsys):
    catch_up("02")
    printed = capsys.readouterr().out
    assert "notebook 01: photos, checks and splits" in printed
    assert "20 items, 0 left out" in printed
    assert len(load_catalog(home / "catalog.parquet").frame) == 20
    written = (home / "catalog.parquet").stat().st_mtime_ns
    catch_up("02")
    assert "Everything that notebook 02 starts from is here" in capsys.readouterr().out
    assert (home / "catalog.parquet").stat().st_mtime_ns == written


def test_captions_are_made_and_refined_on_request(home, monkeypatch, capsys):
    done = []
    monkeypatch.setattr("moda_utils.captioning.caption_from_profile", lambda _: done.append("02"))
    monkeypatch.setattr("moda_utils.refinement.refine_from_profile", lambda _: done.append("03"))
    monkeypatch.setattr(course, "_cost", lambda number, profile: (0.1, 0.0))
    catch_up("05")
    assert done == []
    catch_up("05", captions=True)
    assert done == ["02", "03"]
    assert "notebook 03: refine the descriptions" in capsys.readouterr().out
    monkeypatch.setattr(course, "_cost", lambda number, profile: (30.0, 8.0))
    catch_up("05", captions=True)
    printed = capsys.readouterr().out
    assert 'catch_up("05", go=True, captions=True) runs it all' in printed
    assert done == ["02", "03"]


def test_captions_are_made_for_the_notebook_that_corrects_them(home, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr("moda_utils.captioning.caption_from_profile", asked.append)
    monkeypatch.setattr(course, "_cost", lambda number, profile: (0.1, 0.0))
    setup("03")
    assert "Missing    captions.jsonl: run notebook 02 first\n" in capsys.readouterr().out
    catch_up("03")
    assert "notebook 02: describe every photo" in capsys.readouterr().out
    assert asked == [get_profile()]


@pytest.mark.parametrize(("minutes", "gb"), [(2.5, 0.0), (0.1, 1.2)])
def test_what_is_dear_starts_only_on_request(monkeypatch, capsys, minutes, gb):
    started = []
    monkeypatch.setattr(course, "_cost", lambda number, profile: (minutes, gb))
    monkeypatch.setattr(course, "_run", lambda number, profile: started.append(number))
    catch_up("06")
    printed = capsys.readouterr().out
    assert f"about {minutes} minutes, {gb} GB to download" in printed
    assert 'Not started. catch_up("06", go=True) runs it all. Cheaper: the profile mini' in printed
    assert started == []
    catch_up("06", go=True)
    assert started == ["01", "05"]


def test_costs_follow_from_the_checkpoints_not_from_the_profile(monkeypatch):
    for number, gb in (("02", 8), ("05", 0.5)):
        mini, full = (course._cost(number, get_profile(name)) for name in ("mini", "full"))
        assert full[1] > gb
        assert mini[1] == 0
        assert mini[0] < full[0] / 20  # minutes
    assert course._cost("01", get_profile("full"))[1] == 0  # photos from a folder
    monkeypatch.delenv("MODA_DATA_DIR")
    assert course._cost("01", get_profile("full"))[1] > 0


def test_keep_copies_what_is_small(home, tmp_path, capsys):
    catch_up("02")
    (home / "captions.jsonl").write_text("{}\n")
    for name in ("best/config.json", "best/model/weights.bin", "metrics.jsonl", "last/state.bin"):
        path = home / "runs" / "moda" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    course.keep(get_profile(), str(tmp_path / "drive"))
    kept = tmp_path / "drive" / "mini-shop"
    assert sorted(str(file.relative_to(kept)) for file in kept.rglob("*") if file.is_file()) == [
        "captions.jsonl",
        "catalog.parquet",
        "runs/moda/best/config.json",
        "runs/moda/best/model/weights.bin",
        "runs/moda/metrics.jsonl",
    ]
    assert "5 files, 0.0 MB, copied to" in capsys.readouterr().out
    course.keep(get_profile(), "")
    assert capsys.readouterr().out.startswith("Nothing was copied: name a folder, or a file such")

    with pytest.raises(FileNotFoundError, match="There is no Drive here: /content/drive/MyDrive"):
        course.keep(get_profile(), "/content/drive/MyDrive/moda")

    course.keep(get_profile(), str(tmp_path / "moda.zip"))
    assert f"!unzip -o moda.zip -d {home.parent}\n" in capsys.readouterr().out
    with ZipFile(tmp_path / "moda.zip") as archive:  # unpacked there, everything is in its place
        archive.extractall(tmp_path / "later")
    again = tmp_path / "later" / "mini-shop"
    for file in kept.rglob("*"):
        if file.is_file():
            assert (again / file.relative_to(kept)).read_bytes() == file.read_bytes()


def test_on_colab_the_drive_is_mounted_and_a_zip_downloaded(home, tmp_path, monkeypatch, capsys):
    done = []
    drive, files = ModuleType("google.colab.drive"), ModuleType("google.colab.files")
    drive.mount = lambda place: done.append(f"mount {place}")
    files.download = lambda name: done.append(f"download {Path(name).name}")
    for module in (ModuleType("google.colab"), drive, files):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    course.keep(get_profile(), "")
    assert "name /content/drive/MyDrive/moda, or a file such as moda.zip" in capsys.readouterr().out
    course.keep(get_profile(), "/content/drive/MyDrive/moda")  # no artefact yet: nothing to write
    course.keep(get_profile(), str(tmp_path / "moda.zip"))
    assert done == ["mount /content/drive", "download moda.zip"]


def test_nobody_is_asked_for_a_token_that_is_not_needed(caplog):
    setup("00")
    with warnings.catch_warnings(record=True) as caught:
        warnings.warn("\nThe secret `HF_TOKEN` does not exist in your Colab secrets.", stacklevel=1)
        warnings.warn("Something else.", stacklevel=1)
    assert [str(warning.message) for warning in caught] == ["Something else."]
    log = logging.getLogger("huggingface_hub.utils._http")
    with caplog.at_level(logging.WARNING, log.name):
        log.propagate, before = True, log.propagate
        log.warning("Please set a HF_TOKEN to enable higher rate limits.")
        log.warning("The disk is full.")
        log.propagate = before
    assert caplog.messages == ["The disk is full."]


def test_missing_packages_are_named_outside_colab(monkeypatch, tmp_path, capsys):
    (tmp_path / "requirements.txt").write_text(
        "numpy>=2  # here\nno-such-package>=1,<2  # gone\n\n"
    )
    monkeypatch.setattr(course, "ROOT", tmp_path)
    course._provide_packages()
    assert capsys.readouterr().out == (
        "Missing packages: no-such-package>=1,<2. Install: pip install -r requirements.txt\n"
    )


def test_importing_the_package_and_the_leaves_loads_no_torch():
    leaves = "catalog, dataset, journal, kaggle, plots, profiles, storage, course"
    code = f"import sys; from moda_utils import {leaves}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_progress_ticks_what_is_here_and_names_the_next(home, capsys):
    progress()
    printed = capsys.readouterr().out
    assert "✓" not in printed
    assert re.search(r"^    00 Start here +leaves nothing that others need$", printed, re.M)
    assert printed.endswith("Next: 01 Dataset\n")
    catch_up("02")
    capsys.readouterr()
    progress()
    printed = capsys.readouterr().out
    assert re.findall(r"✓ (\d\d)", printed) == ["01"]
    assert re.search(r"✓ 01 Dataset +catalog.parquet, dataset$", printed, re.M)
    (home / "runs" / "moda" / "best").mkdir(parents=True)
    progress()
    printed = capsys.readouterr().out
    assert re.findall(r"✓ (\d\d)", printed) == ["01", "05"]
    assert printed.endswith("Next: 06 Evaluation\n")


def test_after_the_core_progress_names_the_extras_and_never_one_that_may_be_done(home, capsys):
    evaluation = get_profile().evaluation_path("moda")
    evaluation.parent.mkdir(parents=True)
    evaluation.touch()
    progress()
    assert capsys.readouterr().out.endswith("Next: the extras 07, 08, 09, in any order\n")


def test_a_figure_is_shown_by_name(capsys):
    show_figure("hero")
    assert "Image" in capsys.readouterr().out  # outside a notebook only its name is printed
    with pytest.raises(FileNotFoundError, match="no figure 'nonsense' in images/; there are: 01,"):
        show_figure("nonsense")
