"""Describing on Ray: nothing is lost, nothing is done twice, and every bad input is a sentence."""

import os
import shutil
import signal
import sys
import threading
from contextlib import suppress
from functools import partial

import pandas as pd
import psutil
import pytest
from PIL import Image
from scale_jobs import (
    asked,
    deadly_engine,
    describe_in_a_new_process,
    describing,
    draw_photos,
    dropping_engine,
    lines,
    loaders,
    noting,
    one_ray,
    ray,
    rows,
    start_python,
    unloadable_engine,
    wait_until,
)
from tiny_moda import shop_profile

from moda_utils import scale
from moda_utils.answers import run_batches
from moda_utils.captioning import Captioner, captions_journal
from moda_utils.catalog import load_catalog
from moda_utils.serving import describe
from moda_utils.storage import sha256_file
from moda_utils.training import start_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """A shop of 60 photos, and an untrained MODA where a trained one is looked for."""
    profile = shop_profile(tmp_path_factory.mktemp("scale"))
    for part in start_model(profile):
        part.save_pretrained(profile.run_dir("moda") / "best")
    return profile


@pytest.fixture(scope="module", autouse=True)
def cluster(profile):
    with one_ray():
        yield


@pytest.fixture
def photos(tmp_path):
    return draw_photos(tmp_path / "photos")


def alive(process):
    """Whether it works still: one that has ended may be listed until somebody asks how it ended."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    return False


def moda(profile, source, out):
    return scale.moda_job(str(source), str(out), profile.run_dir("moda") / "best")


def test_descriptions_are_those_of_one_machine(profile, photos, tmp_path):
    (photos / "broken.jpg").write_bytes(b"no photo")
    counts = scale.describe_catalogue(moda(profile, photos, tmp_path / "out"), 2, shard_size=6)
    assert counts == {"described": 20, "unreadable": 1}
    found = rows(tmp_path / "out")
    paths = {path.stem: path for path in photos.rglob("*.png")}
    assert {row["product_id"] for row in found} == set(paths)
    wanted = describe(list(paths.values()), profile.run_dir("moda") / "best", note=False)
    said = dict(zip(paths, wanted, strict=True))
    assert {row["product_id"]: row["raw"] for row in found} == said
    assert list(found[0]) == scale.SCHEMA.names
    for row in found:
        assert row["model"] == "moda/best" and len(row["image_sha256"]) == 64
    [lost] = rows(tmp_path / "out", "unreadable")
    assert lost["product_id"] == "broken" and "broken.jpg can't be read" in lost["reason"]


def test_parquet_gives_the_same_as_files(profile, tmp_path):
    catalog = load_catalog(profile.catalog_path)
    job = moda(profile, profile.dataset_dir, tmp_path / "from parquet")
    assert scale.describe_catalogue(job)["described"] == 60
    scale.describe_catalogue(moda(profile, catalog.root / "data", tmp_path / "from files"))
    both = [
        {row["product_id"]: (row["raw"], row["image_sha256"]) for row in rows(tmp_path / name)}
        for name in ("from parquet", "from files")
    ]
    assert both[0] == both[1]
    assert {sha for _, sha in both[0].values()} == set(catalog.frame["image_sha256"])


def test_a_second_call_does_no_work_and_a_lost_shard_comes_back(photos, tmp_path, monkeypatch):
    log = tmp_path / "log"
    job = noting(photos, tmp_path / "out", log)
    scale.describe_catalogue(job, shard_size=6)
    assert len(asked(log)) == 20
    monkeypatch.setattr(ray.data, "from_items", None)  # nothing may even be planned
    assert scale.describe_catalogue(job, shard_size=6) == {"before": 20}
    monkeypatch.undo()
    next((tmp_path / "out" / "described").glob("*6.parquet")).unlink()
    assert scale.describe_catalogue(job, shard_size=6) == {"described": 6, "before": 14}
    assert len(asked(log)) == 26


def test_a_killed_worker_costs_its_shard_and_nothing_else(photos, tmp_path):
    log = tmp_path / "log"
    killed = []

    def kill():
        wait_until(lambda: log.exists() and len(asked(log)) >= 8)
        killed.append(int(lines(log)[-1][0]))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    job = noting(photos, tmp_path / "out", log, seconds=0.2)
    assert scale.describe_catalogue(job, workers=2, shard_size=5) == {"described": 20}
    killer.join()
    assert killed
    found = [row["product_id"] for row in rows(tmp_path / "out")]
    assert sorted(found) == [f"{number:03}" for number in range(20)]
    assert set(asked(log)) == {str(number) for number in range(20)}
    assert len(asked(log)) <= 20 + 5  # a shard at most was begun in vain


def test_a_killed_driver_costs_what_its_workers_had_begun(photos, tmp_path):
    """Its workers end with it; what they had written is there when the call is made again."""
    out, log = tmp_path / "out", tmp_path / "log"
    with start_python(describing(photos, out, log, crew=2, most=14)) as driver:
        wait_until(lambda: driver.poll() is not None or rows(out))
        driver.kill()
        beside = driver.communicate()[1]
    assert driver.returncode == -signal.SIGKILL, beside
    assert len(loaders(log)) == 2
    wait_until(lambda: not any(map(alive, loaders(log))))
    written = len(rows(out))
    assert 5 <= written < 20
    said, beside = describe_in_a_new_process(photos, out, log)
    assert said == f"{{'described': {20 - written}, 'before': {written}}}\n", beside
    found = [row["product_id"] for row in rows(out)]
    assert sorted(found) == [f"{number:03}" for number in range(20)]
    assert len(asked(log)) <= 20 + 2 * 5  # a shard of each of the two workers was begun in vain


def test_what_a_worker_cannot_load_is_said(photos, tmp_path):
    job = scale.Job(str(photos), str(tmp_path / "out"), {"model": "none"}, unloadable_engine)
    with pytest.raises(RuntimeError, match=r"load the model \(no such weights on this machine\): "):
        scale.describe_catalogue(job)
    assert rows(tmp_path / "out") == []
    with pytest.raises(FileNotFoundError, match="run notebook 05"):
        scale.moda_job(str(photos), str(tmp_path / "out"), tmp_path / "nowhere")


def test_another_model_than_the_rows_name_is_not_used(profile, photos, tmp_path):
    """Trained again in the meantime, or an old copy on one of the machines."""
    best = tmp_path / "runs" / "best"
    shutil.copytree(profile.run_dir("moda") / "best", best)
    job = scale.moda_job(str(photos), str(tmp_path / "out"), best)
    assert job.load()["batch_size"]
    model = start_model(profile)[0]
    for weight in model.parameters():
        weight.data += 1
    model.save_pretrained(best)
    with pytest.raises(
        RuntimeError, match="load the model .the model in .*best is another one here"
    ):
        scale.describe_catalogue(job)
    assert rows(tmp_path / "out") == []


def test_photos_that_are_gone_stop_the_run_and_are_not_to_blame(photos, tmp_path):
    job = scale.Job(
        str(photos), str(tmp_path / "out"), {"model": "noting"}, partial(dropping_engine, photos)
    )
    with pytest.raises(
        RuntimeError, match=r"0\d\d.png can't be fetched \(.*No such file.*call again"
    ):
        scale.describe_catalogue(job)
    assert rows(tmp_path / "out") == rows(tmp_path / "out", "unreadable") == []
    photos.with_name("not mounted").rename(photos)
    job = noting(photos, tmp_path / "out", tmp_path / "log")
    assert scale.describe_catalogue(job) == {"described": 20}


def test_other_photos_of_the_same_names_are_another_run(photos, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    assert scale.describe_catalogue(noting(photos, out, log)) == {"described": 20}
    others = draw_photos(tmp_path / "other shop")
    with pytest.raises(ValueError, match="holds another run.* photos, model and shard size as in"):
        scale.describe_catalogue(noting(others, out, log))
    with pytest.raises(ValueError, match="holds another run.* photos, model and shard size as in"):
        scale.describe_catalogue(noting(photos, out, log), shard_size=5)
    same = noting(f"{others}/../{photos.name}/", f"{out}/", log)
    assert scale.describe_catalogue(same) == {"before": 20}


def test_without_ray_nothing_is_begun(profile, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scale, "get_profile", lambda: profile)
    for name in ("ray", "ray.data"):
        monkeypatch.setitem(sys.modules, name, None)
    assert scale.main([str(photos), str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("No Ray (") and "make scale, or pip install -r requirements" in said
    assert not (tmp_path / "out").exists()


def test_bad_inputs_are_refused_before_any_work(photos, tmp_path):
    log, empty = tmp_path / "log", tmp_path / "empty"
    empty.mkdir()
    for source in (empty, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match="There is no photo in .*: give a folder"):
            scale.describe_catalogue(noting(source, tmp_path / "out", log))
    Image.new("RGB", (20, 30)).save(empty / "007.png")
    (photos / "again").symlink_to(empty)
    (photos / "007.jpg").write_bytes((empty / "007.png").read_bytes())
    with pytest.raises(ValueError, match=r"Ids missing or twice: 1 \(007\): mend"):
        scale.describe_catalogue(noting(photos, tmp_path / "out", log))
    (photos / "007.jpg").unlink()
    (photos / "again").unlink()
    job = noting(photos, tmp_path / "out", log)
    scale.describe_catalogue(job)
    Image.new("RGB", (20, 30)).save(photos / "020.png")
    for other in (job, job._replace(key={"model": "another"})):
        with pytest.raises(ValueError, match="holds another run.*choose another folder"):
            scale.describe_catalogue(other)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds another run"):
        scale.describe_catalogue(job._replace(out=str(tmp_path / "full")))
    assert len(asked(log)) == 20
    for inside in (photos, photos / "out"):
        with pytest.raises(ValueError, match="holds another run, files or photos: choose another"):
            scale.describe_catalogue(job._replace(out=str(inside)))
    assert not (photos / "out").exists()
    with pytest.raises(RuntimeError, match="teleport://shop is no address that can be used"):
        scale.describe_catalogue(job._replace(source="teleport://shop"))


def test_what_a_killed_process_had_not_finished_is_no_other_run(photos, tmp_path):
    described = tmp_path / "out" / "described"
    described.mkdir(parents=True)
    for half in (tmp_path / "out" / ".0a.part", described / ".1b.part"):
        half.write_text('{"mod')
    job = noting(photos, tmp_path / "out", tmp_path / "log")
    assert scale.describe_catalogue(job) == {"described": 20}
    assert len(pd.read_parquet(described)) == 20  # for other programs, they don't count either


def test_a_mended_photo_is_no_longer_listed(photos, tmp_path):
    """Nor is a shard taken for done that only has its list, whatever the folder's name."""
    broken, out = photos / "020.png", tmp_path / "described" / "out"
    broken.write_bytes(b"no photo")
    (photos / "phone.heic").write_bytes(b"of a kind that is named, and not passed over")
    job = noting(photos, out, tmp_path / "log")
    assert scale.describe_catalogue(job) == {"described": 20, "unreadable": 2}
    Image.new("RGB", (20, 30)).save(broken)
    next((out / "described").iterdir()).unlink()
    assert scale.describe_catalogue(job) == {"described": 21, "unreadable": 1}
    assert [row["product_id"] for row in rows(out, "unreadable")] == ["phone"]


def test_a_photo_that_kills_its_worker_ends_in_a_message(photos, tmp_path):
    job = scale.Job(str(photos), str(tmp_path / "out"), {"model": "deadly"}, deadly_engine)
    with pytest.raises(RuntimeError, match="A worker died again and again"):
        scale.describe_catalogue(job, shard_size=10)


def test_the_captioner_gives_the_rows_of_notebook_2(profile, photos, tmp_path):
    for number in range(3, 20):  # three are enough
        next(photos.rglob(f"{number:03}.png")).unlink()
    job = scale.captioner_job(str(photos), str(tmp_path / "out"), profile)
    assert scale.describe_catalogue(job) == {"described": 3}
    paths = {path.stem: path for path in photos.rglob("*.png")}
    hashes = {item: sha256_file(path) for item, path in paths.items()}
    items = [{"product_id": item, "image_sha256": sha} for item, sha in hashes.items()]
    journal, captioner = captions_journal(profile), Captioner.load(profile)

    def prepare(item):
        return captioner.prepare(paths[item["product_id"]])

    run_batches(items, journal, prepare, captioner, batch_size=3)
    kept = list(journal.done().values())
    found = rows(tmp_path / "out")
    assert set(found[0]) == set(kept[0]) == set(scale.SCHEMA.names)
    for row in (*found, *kept):
        assert row.pop("seconds") >= 0
    by_id = partial(sorted, key=lambda row: row["product_id"])
    assert by_id(found) == by_id(kept)


def test_who_stops_the_command_is_told_how_to_go_on(photos, tmp_path):
    """Ctrl-C on the command line, with a model that notes what it is asked in place of MODA."""
    out, log = tmp_path / "out", tmp_path / "log"
    model = f"scale.moda_job = lambda *job: noting(*job[:2], {str(log)!r}, most=1)"
    heed = "signal.signal(signal.SIGINT, signal.default_int_handler)"  # a shell's `&` may not
    code = f"{model}\n{heed}\nsys.exit(scale.main([{str(photos)!r}, {str(out)!r}]))"
    with start_python(code, MODA_PROFILE="mini", MODA_HOME=str(tmp_path)) as command:
        wait_until(lambda: command.poll() is not None or log.exists())
        command.send_signal(signal.SIGINT)
        beside = command.communicate(timeout=900)[1]
    assert beside.splitlines()[-1] == "Stopped: the same command goes on."
    assert command.returncode == 130 and "Traceback" not in beside


def test_an_error_without_text_is_named(monkeypatch, capsys):
    def fail():
        raise TimeoutError

    monkeypatch.setattr(scale, "get_profile", fail)
    assert scale.main(["photos", "out"]) == 1
    assert capsys.readouterr().err == "TimeoutError\n"


def test_the_command_describes_and_explains(profile, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scale, "get_profile", lambda: profile)
    assert scale.main([str(photos), str(tmp_path / "out")]) == 0
    assert "20 described" in capsys.readouterr().out
    assert scale.main([str(tmp_path / "nothing"), str(tmp_path / "other")]) == 1
    assert "There is no photo" in capsys.readouterr().err
    with pytest.raises(SystemExit) as done:
        scale.main(["--help"])
    assert done.value.code == 0
    said = capsys.readouterr().out
    for word in ("--captioner", "--workers", "RAY_ADDRESS", "s3://", "OUT/unreadable", "again"):
        assert word in said
