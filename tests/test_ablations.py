"""The comparison of variants: its plan, its intervals, and what a stop in the middle leaves."""

import json
import sys
from dataclasses import replace

import pytest
from tiny_moda import shop_profile

import notebooks as tool
from moda_utils.catalog import load_catalog
from moda_utils.dataset import load_dataset_dir, write_dataset
from moda_utils.profiles import ROOT, Checkpoint
from moda_utils.storage import read_json, write_json
from moda_utils.variants import VARIANTS

sys.path.insert(0, str(ROOT / "benchmarks"))
import ablations
from ablations import Settings

NO_PHOTOS = Settings(photos=0)


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    return shop_profile(tmp_path_factory.mktemp("ablations"))


def grades(profile, run, overall):
    """The file that a finished run leaves, with this overall grade."""
    criteria = dict.fromkeys(ablations.CRITERIA, overall)
    figures = {"criteria": criteria, "ended": 1.0, "leaks": 0.0, "best_epoch": 2}
    more = {"items": 10, "graded": 20, "validation_loss": 0.5}
    folder = run.folder(profile, NO_PHOTOS)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "grades.json", {**run._asdict(), **figures, **more})


def test_the_plan_is_balanced_after_every_seed():
    runs = ablations.plan(VARIANTS, seeds=10)
    assert len(runs) == len(set(runs))
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    first = {run.name for run in runs if run.seed == 0 and run.share == ablations.TENTH}
    assert first == set(VARIANTS)
    for name in VARIANTS:
        seeds = [run.seed for run in runs if run.name == name and run.share == ablations.TENTH]
        assert len(seeds) == (10 if name in ablations.QUESTION else 5)
    assert {name for pair in ablations.PAIRS for name in pair} == set(VARIANTS)
    assert len(ablations.plan(["moda"], seeds=2)) == 4


def test_the_interval_is_students():
    figure = ablations.over_seeds([1.0, 2.0, 3.0, 4.0, 5.0])
    assert figure["value"] == 3
    assert figure["high"] - 3 == pytest.approx(2.776 * 2.5**0.5 / 5**0.5, abs=1e-3)
    assert 3 - figure["low"] == pytest.approx(figure["high"] - 3)
    assert ablations.over_seeds([4.0])["low"] is None


def test_differences_are_taken_between_runs_of_one_seed(tmp_path, profile, monkeypatch):
    monkeypatch.setattr(ablations.Run, "folder", lambda run, *_: tmp_path / "-".join(map(str, run)))
    for seed, overall in {0: 5.0, 1: 7.0, 2: 9.0}.items():
        grades(profile, ablations.Run(seed, 0.1, "moda"), overall)
    for seed, overall in {1: 7.5, 2: 9.5, 3: 1.0}.items():
        grades(profile, ablations.Run(seed, 0.1, "linear"), overall)
    shares = ablations.summarise(profile, ["moda", "linear"], NO_PHOTOS)
    assert list(shares) == ["0.1"]
    assert shares["0.1"]["rows"]["linear"]["seeds"] == [1, 2, 3]
    difference = shares["0.1"]["differences"]["linear - moda"]
    assert difference["seeds"] == [1, 2]  # met in both rows; whole columns would say -1
    assert difference["overall"] == {"value": 0.5, "low": 0.5, "high": 0.5, "runs": [0.5, 0.5]}


def test_a_run_leaves_its_grades_and_no_weights(profile):
    run = ablations.Run(0, 0.5, "linear")
    found = read_json(ablations.one_run(profile, run, NO_PHOTOS))
    folder = run.folder(profile, NO_PHOTOS)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", "grades.json", "log.txt", "metrics.jsonl",
    ]  # fmt: skip
    assert found["made_with"] == json.loads(json.dumps(run.made_with(profile, NO_PHOTOS)))
    minutes = ablations.processor_minutes(profile, [run, run], NO_PHOTOS)
    assert minutes == found["processor_seconds"] / 30 > 0
    assert found["items"] == 24 and found["graded"] == 6  # half of 48; the validation split
    assert all(0 <= value <= 10 for value in found["criteria"].values())
    assert "epoch   2" in (folder / "log.txt").read_text()


def test_what_is_done_is_not_done_again_and_time_is_kept(profile, capsys):
    done, todo = ablations.Run(0, 0.1, "blind"), ablations.Run(1, 0.1, "blind")
    grades(profile, done, 3.0)
    assert ablations.work(profile, [done, todo], NO_PHOTOS, 1, minutes=0) == 1
    assert not (todo.folder(profile, NO_PHOTOS) / "grades.json").exists()
    assert ablations.work(profile, [done, todo], NO_PHOTOS, 1, minutes=9) == 0
    assert read_json(done.folder(profile, NO_PHOTOS) / "grades.json")["criteria"]["overall"] == 3.0
    assert (todo.folder(profile, NO_PHOTOS) / "grades.json").exists()
    assert "1 of 2 runs are done." in capsys.readouterr().out


def test_grades_of_other_settings_or_data_are_not_reused(tmp_path):
    profile = shop_profile(tmp_path)
    run, raw = (ablations.Run(0, 0.1, name) for name in ("linear", "raw"))
    before = run.folder(profile, NO_PHOTOS), raw.folder(profile, NO_PHOTOS)
    grades(profile, run, 3.0)
    for other in (Settings(photos=1), Settings(photos=0, epochs=1)):
        assert ablations.work(profile, [run], other, 1, minutes=0) == 1
    assert ablations.work(profile, [run], NO_PHOTOS, 1, minutes=0) == 0
    catalog = load_catalog(profile.catalog_path)
    texts = catalog.frame[["product_id"]].assign(description_raw="A shirt.", raw_status="ok")
    write_dataset(catalog, texts, profile.dataset_dir)
    after = run.folder(profile, NO_PHOTOS), raw.folder(profile, NO_PHOTOS)
    assert after[0] == before[0]  # it learns from templates: they are the same
    assert after[1] != before[1]
    fewer = replace(catalog, frame=catalog.frame[5:])
    write_dataset(fewer, texts[5:], profile.dataset_dir)
    assert run.folder(profile, NO_PHOTOS) != before[0]
    assert ablations.work(profile, [run], NO_PHOTOS, 1, minutes=0) == 1


def test_missing_texts_are_made_first(tmp_path):
    """From the templates of notebook 01 to raw and refined, by the shipped small models."""
    profile = replace(shop_profile(tmp_path), num_crops=1)
    nobody = Checkpoint(str(tmp_path / "nobody"))
    ablations.make_texts(profile, ["moda", "linear"])
    ablations.make_texts(replace(profile, captioner=nobody, refiner=nobody), ["raw", "refined"])
    assert ablations.available(profile, ["moda", "raw", "refined"])[0] == ["moda"]
    ablations.make_texts(profile, ["refined"])
    assert not ablations.available(profile, ["moda", "raw", "refined"])[1]
    rows = load_dataset_dir(profile.dataset_dir)["train"]
    assert all(rows["description_raw"]) and any(rows["description_refined"])


def test_a_stored_result_loses_no_rows(tmp_path, profile, monkeypatch, capsys):
    nobody = Checkpoint("nobody")  # writes descriptions here
    profile = replace(profile, captioner=nobody, refiner=nobody)
    monkeypatch.setattr(ablations, "get_profile", lambda: profile)
    monkeypatch.setattr(ablations, "ROOT", tmp_path)
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    path = results / f"home-{ablations.device_name()}-ablations.json"
    assert ablations.lost_rows(path, ["moda"]) == []
    write_json(path, {"rows": {"moda": {}, "raw": {}}})
    assert ablations.lost_rows(path, ["moda", "linear"]) == ["raw"]
    assert ablations.lost_rows(path, ["raw", "moda", "linear"]) == []
    before = path.read_bytes()
    assert ablations.main([]) == 1
    assert "Not started: the stored result has raw and would lose" in capsys.readouterr().out
    assert path.read_bytes() == before


def test_costs_are_measured_in_turns(profile, monkeypatch):
    monkeypatch.setattr(ablations, "TOKENS", 3)
    costs = ablations.measure_costs(profile, ["moda", "patches-linear", "frozen-linear"])
    assert costs["patches-linear"]["image_places"] == 4 > costs["moda"]["image_places"]
    assert costs["frozen-linear"]["trained_weights"] < costs["moda"]["trained_weights"]
    assert costs["frozen-linear"]["trained_weights"] == 24 * 32 + 32
    for cost in costs.values():
        assert cost["seconds_per_epoch"] > 0 and cost["ms_per_caption"] > 0


@pytest.fixture(scope="module")
def stored():
    return read_json(ROOT / "benchmarks" / "results" / "mini-cpu-ablations.json")


def test_the_stored_result_has_every_row_with_five_seeds_and_its_command(stored):
    few = stored["shares"]["0.1"]
    assert set(stored["rows"]) == set(few["rows"]) == set(VARIANTS) and not stored["missing"]
    assert set(stored["shares"]["1"]["rows"]) == set(ablations.ON_ALL_ITEMS)
    for share in stored["shares"].values():
        assert all(len(row["seeds"]) >= 5 for row in share["rows"].values())
        assert all(len(pair["seeds"]) >= 5 for pair in share["differences"].values())
    assert set(few["differences"]) == {f"{one} - {other}" for one, other in ablations.PAIRS}
    for name, cost in stored["rows"].items():
        rows = "moda" if name == "moda" else f"{name} moda"
        assert cost["command"] == f"MODA_PROFILE=mini python benchmarks/ablations.py {rows}"
        assert cost["stands_for"] == VARIANTS[name].stands_for
        assert min(cost["trained_weights"], cost["seconds_per_epoch"], cost["ms_per_caption"]) > 0
    assert stored["processor_minutes"] <= 2 * 60, "under an hour on two quiet cores"


def test_a_model_that_learns_from_the_right_photos_is_far_above_the_floor(stored):
    rows = stored["shares"]["0.1"]["rows"]
    floor = rows["blind"]["overall"]["high"]
    assert all(row["overall"]["low"] > floor for name, row in rows.items() if name != "blind")


def test_notebook_08_shows_the_stored_answer(stored):
    figure = stored["shares"]["0.1"]["differences"]["linear - moda"]["overall"]
    text = ": {value:+.2f} [{low:+.2f}, {high:+.2f}] over".format(**figure)
    cells = tool.read_notebook(ROOT / "notebooks" / "08_ablations.ipynb").cells
    printed = [out.get("text", "") for cell in cells for out in cell.get("outputs", [])]
    answer = next(shown for shown in printed if shown.startswith("In `mini`, with"))
    assert text in answer.partition("\n")[0], "run tools/notebooks.py 08 again"


def test_a_part_of_the_plan_replaces_no_stored_result(profile, monkeypatch, capsys):
    nobody = Checkpoint("nobody")  # writes descriptions here
    profile = replace(profile, captioner=nobody, refiner=nobody)
    monkeypatch.setattr(ablations, "get_profile", lambda: profile)
    monkeypatch.setattr(ablations, "TOKENS", 3)
    results = ROOT / "benchmarks" / "results"
    before = {path: path.read_bytes() for path in results.iterdir()}
    assert ablations.main(["linear", "moda", "raw", "--seeds", "1", "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert "raw is left out: dataset/ has no raw texts yet" in out
    assert "Nothing is written" in out
    assert "minus moda" in out and "ms" in out.split("milliseconds per caption of 3 tokens")[1]
    assert {path: path.read_bytes() for path in results.iterdir()} == before
    with pytest.raises(SystemExit):
        ablations.main(["quadratic"])
