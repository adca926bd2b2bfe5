"""Atomic writes: the old content survives every failure."""

import pytest
import torch
from safetensors.torch import save_file

from moda_utils.storage import (
    atomic_dir,
    atomic_path,
    read_json,
    require,
    sha256_file,
    write_json,
)


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    target = tmp_path / "table.txt"
    target.write_text("old")
    with pytest.raises(OSError, match="disk full"), atomic_path(target) as temporary:
        temporary.write_text("half of the n")
        raise OSError("disk full")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_whatever_wrote_it_a_file_may_be_read_by_those_who_may_read_any_other(tmp_path):
    with atomic_path(tmp_path / "weights.safetensors") as temporary:
        save_file({"w": torch.ones(2)}, temporary)
    (tmp_path / "other").touch()
    weights, other = (tmp_path / name for name in ("weights.safetensors", "other"))
    assert weights.stat().st_mode == other.stat().st_mode


def test_a_failed_folder_leaves_the_old_folder(tmp_path):
    target = tmp_path / "dataset"
    target.mkdir()
    (target / "part").write_text("old")
    with pytest.raises(RuntimeError), atomic_dir(target) as temporary:
        (temporary / "part").write_text("new")
        raise RuntimeError
    assert (target / "part").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_finished_folder_replaces_the_old_one_whole(tmp_path):
    target = tmp_path / "dataset"
    target.mkdir()
    (target / "stale").touch()
    with atomic_dir(target) as temporary:
        (temporary / "part").write_text("new")
    assert [path.name for path in target.iterdir()] == ["part"]
    assert list(tmp_path.iterdir()) == [target]


def test_json_round_trip_and_a_broken_file(tmp_path):
    path = tmp_path / "deep" / "figures.json"
    write_json(path, {"n": 3, "title": "Blå kjole"})
    assert read_json(path) == {"n": 3, "title": "Blå kjole"}
    path.write_text('{"n": ')
    with pytest.raises(ValueError, match="figures.json is not valid JSON"):
        read_json(path)


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "figures.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_require(tmp_path):
    (tmp_path / "here").touch()
    assert require(tmp_path / "here", "01") == tmp_path / "here"
    with pytest.raises(FileNotFoundError, match="captions.jsonl is missing: run notebook 02 first"):
        require(tmp_path / "captions.jsonl", "02")


def test_sha256_is_the_standard_one(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
