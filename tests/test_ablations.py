"""The comparison of variants: its plan, its intervals, and what a stop in the middle leaves."""

import sys

import pytest
from tiny_moda import shop_profile

import notebooks as tool
from moda_utils.profiles import ROOT
from moda_utils.storage import read_json, write_json
from moda_utils.variants import VARIANTS

sys.path.insert(0, str(ROOT / "benchmarks"))
import ablations


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    return shop_profile(tmp_path_factory.mktemp("ablations"))


def grades(profile, run, overall):
    """The file that a finished run leaves, with this overall grade."""
    criteria = dict.fromkeys(ablations.CRITERIA, overall)
    figures = {"criteria": criteria, "ended": 1.0, "leaks": 0.0, "best_epoch": 2}
    more = {"items": 10, "graded": 20, "validation_loss": 0.5}
    write_json(run.folder(profile) / "grades.json", {**run._asdict(), **figures, **more})


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
    monkeypatch.setattr(ablations.Run, "folder", lambda run, _: tmp_path / "-".join(map(str, run)))
    for seed, overall in {0: 5.0, 1: 7.0, 2: 9.0}.items():
        grades(profile, ablations.Run(seed, 0.1, "moda"), overall)
    for seed, overall in {1: 7.5, 2: 9.5, 3: 1.0}.items():
        grades(profile, ablations.Run(seed, 0.1, "linear"), overall)
    shares = ablations.summarise(profile, ["moda", "linear"])
    assert list(shares) == ["0.1"]
    assert shares["0.1"]["rows"]["linear"]["seeds"] == [1, 2, 3]
    difference = shares["0.1"]["differences"]["linear - moda"]
    assert difference["seeds"] == [1, 2]  # met in both rows; whole columns would say -1
    assert difference["overall"] == {"value": 0.5, "low": 0.5, "high": 0.5, "runs": [0.5, 0.5]}


def test_a_run_leaves_its_grades_and_no_weights(profile):
    run = ablations.Run(0, 0.5, "linear")
    found = read_json(ablations.one_run(profile, run, photos=0, changes={}))
    folder = run.folder(profile)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", "grades.json", "log.txt", "metrics.jsonl",
    ]  # fmt: skip
    assert ablations.processor_minutes(profile, [run, run]) == found["processor_seconds"] / 30 > 0
    assert found["items"] == 24 and found["graded"] == 6  # half of 48; the validation split
    assert all(0 <= value <= 10 for value in found["criteria"].values())
    assert "epoch   2" in (folder / "log.txt").read_text()


def test_what_is_done_is_not_done_again_and_time_is_kept(profile, capsys):
    done, todo = ablations.Run(0, 0.1, "blind"), ablations.Run(1, 0.1, "blind")
    grades(profile, done, 3.0)
    assert ablations.work(profile, [done, todo], 0, 1, minutes=0, changes={}) == 1
    assert not (todo.folder(profile) / "grades.json").exists()
    assert ablations.work(profile, [done, todo], 0, 1, minutes=9, changes={}) == 0
    assert read_json(done.folder(profile) / "grades.json")["criteria"]["overall"] == 3.0
    assert (todo.folder(profile) / "grades.json").exists()
    assert "1 of 2 runs are done." in capsys.readouterr().out


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
        assert cost["command"] == f"python benchmarks/ablations.py {name}"
        assert min(cost["trained_weights"], cost["seconds_per_epoch"], cost["ms_per_caption"]) > 0
    assert stored["processor_minutes"] <= 2 * 60, "under an hour on two quiet cores"


def test_a_model_that_learns_from_the_right_photos_is_far_above_the_floor(stored):
    rows = stored["shares"]["0.1"]["rows"]
    floor = rows["blind"]["overall"]["high"]
    assert all(row["overall"]["low"] > floor for name, row in rows.items() if name != "blind")


def test_notebook_08_shows_the_stored_answer(stored):
    figure = stored["shares"]["0.1"]["differences"]["linear - moda"]["overall"]
    text = "linear minus MODA, {value:+.2f} [{low:+.2f}, {high:+.2f}]".format(**figure)
    cells = tool.read_notebook(ROOT / "notebooks" / "08_ablations.ipynb").cells
    printed = [out.get("text", "") for cell in cells for out in cell.get("outputs", [])]
    assert any(shown.startswith(text) for shown in printed), "run tools/notebooks.py 08 again"


def test_a_part_of_the_plan_replaces_no_stored_result(profile, monkeypatch, capsys):
    monkeypatch.setattr(ablations, "get_profile", lambda: profile)
    results = ROOT / "benchmarks" / "results"
    before = {path: path.read_bytes() for path in results.iterdir()}
    assert ablations.main(["linear", "raw", "--seeds", "1", "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert "raw is left out: dataset/ has no raw texts yet" in out
    assert "Nothing is written" in out
    assert {path: path.read_bytes() for path in results.iterdir()} == before
    with pytest.raises(SystemExit):
        ablations.main(["quadratic"])
