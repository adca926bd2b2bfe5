import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_moda import SAYS, photo, teach

import moda_utils
from moda_utils import serving
from moda_utils.fast import FastModa
from moda_utils.modeling_moda import ModaForConditionalGeneration
from moda_utils.profiles import ROOT
from moda_utils.serving import __main__ as terminal
from moda_utils.serving import describe, generate_texts
from moda_utils.serving.__main__ import main


@pytest.fixture(scope="module")
def best(tmp_path_factory):
    """A tiny MODA that has learnt three photos by heart."""
    return teach(tmp_path_factory.mktemp("moda"))


@pytest.fixture
def home(best, monkeypatch):
    monkeypatch.setenv("MODA_HOME", str(best.parents[3]))
    monkeypatch.setenv("MODA_PROFILE", "mini")
    monkeypatch.delenv("MODA_DATA_DIR", raising=False)


@pytest.fixture
def files(tmp_path):
    for colour in SAYS:
        photo(colour).save(tmp_path / f"{colour}.png")
    return tmp_path


def test_one_photo_gives_a_text_and_several_give_a_list(home, files, capsys):
    assert moda_utils.describe(files / "red.png") == SAYS["red"]
    assert "only ever seen drawings" in capsys.readouterr().out
    assert describe(photo("blue"), note=False) == SAYS["blue"]
    many = [str(files / "lime.png"), photo("red"), files / "blue.png"]
    assert describe(many, note=False) == [SAYS["lime"], SAYS["red"], SAYS["blue"]]
    assert describe([], note=False) == []
    assert capsys.readouterr().out == ""


def test_the_model_is_read_once_and_again_after_a_new_training(home, best, files):
    serving._load.cache_clear()
    describe(photo("red"))
    describe(photo("blue"))
    assert (serving._load.cache_info().misses, serving._load.cache_info().hits) == (1, 1)
    (best / "model.safetensors").touch()
    describe(photo("red"))
    assert serving._load.cache_info().misses == 2


def test_without_a_trained_model_the_notebook_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MODA_HOME", str(tmp_path))
    monkeypatch.setenv("MODA_PROFILE", "mini")
    with pytest.raises(FileNotFoundError, match="run notebook 05 first"):
        describe(photo())


def test_bad_photos_are_named(home, tmp_path):
    with pytest.raises(FileNotFoundError, match="no photo .*nowhere.jpg"):
        describe(tmp_path / "nowhere.jpg")
    (tmp_path / "text.jpg").write_text("not a photo")
    with pytest.raises(ValueError, match="text.jpg can't be read as a photo"):
        describe(tmp_path / "text.jpg")
    with pytest.raises(ValueError, match=r"can't be read as a photo|Is a directory"):
        describe(tmp_path)
    with pytest.raises(ValueError, match="stripe of 9000 x 2 pixels"):
        describe(photo(size=(9000, 2)))
    with pytest.raises(ValueError, match="not NoneType"):
        describe([photo(), None])


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (3, 1), (48, 64)])
def test_images_of_any_mode_and_size_get_an_answer(home, mode, size):
    assert isinstance(describe(Image.new(mode, size), note=False), str)


@pytest.mark.parametrize("colour", SAYS)
def test_an_array_is_a_photo(home, colour):
    array = np.asarray(photo(colour))
    assert describe(array, note=False) == SAYS[colour]
    assert describe([array, array], note=False) == [SAYS[colour]] * 2
    grey = describe(array[..., 0], note=False)
    assert grey == describe(Image.fromarray(array[..., 0]), note=False)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4, 3)), np.zeros(5, np.uint8), np.zeros((2, 3, 4, 5), np.uint8)]
)
def test_an_array_of_another_form_is_refused_in_words(home, array):
    with pytest.raises(ValueError, match=r"must be uint8 .*, this is \w+ of shape"):
        describe(array)


def test_on_a_cpu_the_fast_model_is_used_and_float32_on_request(home, files):
    assert isinstance(serving.load_model(int8=True)[0], FastModa)
    assert isinstance(serving.load_model()[0], ModaForConditionalGeneration)
    for int8 in (True, False):
        assert describe(files / "lime.png", note=False, int8=int8) == SAYS["lime"]


@pytest.mark.parametrize("name", serving.FILES)
def test_a_model_folder_with_a_missing_file(home, best, tmp_path, files, name, capsys):
    folder = tmp_path / "model"
    shutil.copytree(best, folder)
    (folder / name).unlink()
    for int8 in (True, False):
        with pytest.raises(OSError, match=f"{folder} lacks {name}: copy the whole folder again"):
            describe(photo(), folder, int8=int8)
    assert main([str(files / "red.png"), "--model", str(folder)]) == 1
    assert str(folder) in capsys.readouterr().err


def test_a_damaged_model_is_named(home, best, tmp_path):
    shutil.copytree(best, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    for int8 in (True, False):
        with pytest.raises(OSError, match="model can't be loaded: "):
            describe(photo(), tmp_path / "model", int8=int8)


def test_a_broken_configuration_is_said_once(home, best, tmp_path):
    shutil.copytree(best, tmp_path / "model")
    (tmp_path / "model" / "processor_config.json").write_text("{")
    with pytest.raises(OSError) as failed:
        describe(photo(), tmp_path / "model")
    assert str(failed.value).count("can't be loaded") == 1


def test_photos_are_made_smaller_before_the_processor_to_the_same_pixels(home):
    processor = serving.load_model()[1]
    edge = processor.image_processor.size["shortest_edge"]
    for size in ((1, 1), (31, 33), (33, 900), (640, 480), (1077, 1431)):
        noise = Image.effect_noise(size, 90).convert("RGB")
        small = serving._shrink(noise, edge)
        assert min(small.size) == edge
        pixels = (processor(images=image)["pixel_values"] for image in (noise, small))
        assert torch.equal(*pixels), size


# The peak as Linux keeps it of the program; that of getrusage begins with what its parent had.
LARGE_FOLDER = """
import re, sys
from pathlib import Path
from moda_utils.serving.__main__ import main

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

main([sys.argv[2], "--csv", sys.argv[3]])
before = peak()
status = main([sys.argv[1], "--csv", sys.argv[3]])
print(status, peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in other units elsewhere")
def test_a_folder_of_large_photos_takes_little_memory(home, files, tmp_path):
    """Eight photos of 24 megapixels, lying on their side: two of them at a time, and no copies."""
    folder = tmp_path / "large"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    photo("red", (6000, 4000)).save(folder / "0.jpg", exif=exif)
    for number in range(1, 8):
        shutil.copy(folder / "0.jpg", folder / f"{number}.jpg")
    command = [sys.executable, "-c", LARGE_FOLDER, folder, files / "red.png", tmp_path / "out.csv"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    status, more = done.stdout.split()
    assert status == "0", done.stderr
    assert float(more) < 2 * 2 * 92 + 60, "MiB: two photos, each once more while it is turned"


def test_texts_end_by_themselves_or_are_cut(home, best):
    model, processor = serving.load_model()
    with torch.no_grad():
        embeds = model.encode_images(processor(images=[photo(c) for c in SAYS])["pixel_values"])
    texts, ended = generate_texts(model, processor, embeds, batch_size=2)
    assert texts == list(SAYS.values()) and ended == [True] * 3
    texts, ended = generate_texts(model, processor, embeds, max_new_tokens=2)
    assert ended == [False] * 3
    assert all(whole.startswith(cut) for whole, cut in zip(SAYS.values(), texts, strict=True))


def test_command_line_describes_the_good_ones_and_reports_the_others(home, files, capsys):
    (files / "text.jpg").write_text("not a photo")
    names = [files / "red.png", files / "nowhere.jpg", files / "text.jpg", files / "blue.png"]
    assert main([str(name) for name in names]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"{files / 'red.png'}: {SAYS['red']}",
        f"{files / 'blue.png'}: {SAYS['blue']}",
    ]
    assert "nowhere.jpg" in err and "text.jpg can't be read" in err and "drawings" in err
    assert main([str(files / "lime.png")]) == 0
    assert main([str(files / "lime.png"), "--model", str(files)]) == 1
    assert "run notebook 05 first" in capsys.readouterr().err


def bomb(path: Path) -> None:
    """A PNG of a few hundred bytes that claims to be 60,000 x 60,000 pixels."""

    def chunk(kind, data):
        checksum = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + checksum

    size = (60_000).to_bytes(4, "big")
    head = chunk(b"IHDR", size + size + bytes([1, 0, 0, 0, 0]))
    body = chunk(b"IDAT", zlib.compress(b"\0" * 10_000))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b""))


@pytest.fixture
def trouble(tmp_path):
    """A folder of photos that people have; what is said about each that can't be described."""
    folder = tmp_path / "trouble"
    (folder / "deep").mkdir(parents=True)
    photo("red").save(folder / "good.jpg")
    photo("blue").save(folder / "deep" / "good.PNG")
    photo("lime").convert("CMYK").save(folder / "cmyk.jpg")
    Image.new("RGBA", (40, 40), (255, 0, 0, 0)).save(folder / "clear.png")
    Image.new("RGB", (1, 1), "red").save(folder / "dot.png")
    pages = [photo("red"), photo("blue")]
    pages[0].save(folder / "moving.gif", save_all=True, append_images=pages[1:])
    bomb(folder / "bomb.png")
    photo("red", (20, 4_000)).save(folder / "long.png")
    Image.new("1", (9_000, 10_000)).save(folder / "wall.png")
    (folder / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    Image.new("RGB", (20, 20)).save(folder / "program.jpg", "EPS")
    whole = (folder / "good.jpg").read_bytes()
    (folder / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("not a photo")
    (folder / "notes.txt").write_text("no photo, and none that is claimed")
    (folder / ".hidden.jpg").write_text("a file manager's")
    large = "more than 89 million pixels"
    return folder, {
        "bomb.png": large, "wall.png": large, "phone.HEIC": "save it as JPEG",
        "program.jpg": "not an image file", "long.png": "stripe of 20 x 4000",
        "half.jpg": "can't be read", "empty.jpg": "not an image file",
        "text.jpg": "not an image file",
    }  # fmt: skip


def test_a_folder_good_ones_are_described_bad_ones_named(home, trouble, capsys):
    folder, bad = trouble
    assert main([str(folder)]) == 1
    out, err = capsys.readouterr()
    said = dict(line.removeprefix(f"{folder}/").split(": ", 1) for line in out.splitlines())
    good = ["clear.png", "cmyk.jpg", "dot.png", "good.jpg", "moving.gif", "deep/good.PNG"]
    assert list(said) == good
    assert (said["good.jpg"], said["deep/good.PNG"]) == (SAYS["red"], SAYS["blue"])
    assert said["moving.gif"] == said["good.jpg"]  # its first picture
    lines = err.splitlines()
    for name, reason in bad.items():
        assert any(name in line and reason in line for line in lines), name
    assert ".." not in err
    assert len(lines) == len(bad) + 1  # and the note about drawings
    for name in bad:
        (folder / name).unlink()
    assert main([str(folder)]) == 0


def test_an_empty_folder_is_an_error(home, tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    assert f"no photo in the folder {tmp_path}" in capsys.readouterr().err


def test_a_folder_that_may_not_be_read(home, files, tmp_path):
    """In a process of its own, without the privilege of root to read everything."""
    locked = tmp_path / "locked"
    locked.mkdir()
    command = [sys.executable, "-m", "moda_utils.serving", str(locked), str(files / "red.png")]
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root reads every folder, and there is no setpriv to take that away")
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    locked.chmod(0)
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    finally:
        locked.chmod(0o700)
    assert done.returncode == 1
    assert "Permission denied" in done.stderr and str(locked) in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == f"{files / 'red.png'}: {SAYS['red']}\n"


def test_a_table_goes_on_where_it_stopped(home, trouble, tmp_path, capsys):
    folder, bad = trouble
    table = tmp_path / "out.csv"
    assert main([str(folder), "--csv", str(table)]) == 1
    assert capsys.readouterr().out == ""
    whole = table.read_text()
    rows = whole.splitlines()
    assert rows[0] == "photo,description"
    assert f"{folder}/good.jpg,{SAYS['red']}" in rows
    assert len(rows) == 7

    begun = "\n".join(rows[:3]) + "\n" + rows[3][:-4]  # as a killed run may leave it
    table.write_text(begun)
    seen = []
    describe_each = terminal.describe_each

    def spy(photos, *rest):
        seen.extend(photos)
        return describe_each(photos, *rest)

    terminal.describe_each = spy
    try:
        assert main([str(folder), "--csv", str(table)]) == 1
    finally:
        terminal.describe_each = describe_each
    assert "2 photos are in" in capsys.readouterr().err
    assert sorted(table.read_text().splitlines()) == sorted(rows)
    assert len(seen) == 4 + len(bad)  # what failed is tried again

    for name in bad:
        (folder / name).unlink()
    assert main([str(folder), "--csv", str(table)]) == 0
    assert sorted(table.read_text().splitlines()) == sorted(rows)


def test_a_photo_that_is_named_twice_is_one(home, files, tmp_path, capsys):
    table = tmp_path / "out.csv"
    names = [files / "red.png", files / "red.png", files / ".." / files.name / "red.png", files]
    assert main([*map(str, names), "--csv", str(table)]) == 0
    assert table.read_text().splitlines()[1:] == [
        f"{files / f'{name}.png'},{SAYS[name]}" for name in ("red", "blue", "lime")
    ]
    capsys.readouterr()
    assert main([str(files / "red.png"), str(files / "red.png")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_table_that_a_spreadsheet_has_saved_goes_on(home, files, tmp_path, capsys):
    """Excel puts a mark at the beginning and ends its lines in its own way."""
    table = tmp_path / "out.csv"
    assert main([str(files / "red.png"), "--csv", str(table)]) == 0
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\n", b"\r\n"))
    assert main([str(files), "--csv", str(table)]) == 0
    assert "1 photos are in" in capsys.readouterr().err
    assert table.read_text("utf-8-sig").count(SAYS["red"]) == 1
    assert len(table.read_text().splitlines()) == 4


def test_a_photo_with_an_oddity_is_described_without_a_warning(home, tmp_path):
    """Whoever describes a folder should read of photos, and not of the places of libraries."""
    oddity = Image.new("P", (12, 16))
    oddity.putpalette([200, 30, 30] * 2)
    oddity.save(tmp_path / "odd.png", transparency=b"\xff\x80")
    command = [sys.executable, "-m", "moda_utils.serving", str(tmp_path / "odd.png")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "Warning" not in done.stderr


@pytest.mark.parametrize("content", ["name,price\nshirt,3\n", "no line end"])
def test_a_table_of_something_else_is_left_alone(home, files, tmp_path, content, capsys):
    table = tmp_path / "prices.csv"
    table.write_text(content)
    assert main([str(files), "--csv", str(table)]) == 1
    assert "no table of descriptions" in capsys.readouterr().err
    assert table.read_text() == content


def test_a_table_that_cannot_be_written_is_said_before_the_work(home, files, tmp_path, capsys):
    assert main([str(files), "--csv", str(tmp_path / "nowhere" / "out.csv")]) == 1
    assert "nowhere" in capsys.readouterr().err


# Python runs this in the process that is to be stopped: one photo opens when a file is gone.
HELD_UP = """
import os, sys, time

def hold(event, arguments):
    if event == "open" and str(arguments[0]) == os.environ["HELD"]:
        while os.path.exists(os.environ["HOLD"]):
            time.sleep(0.01)

sys.addaudithook(hold)
"""


@pytest.mark.slow
def test_a_stopped_run_keeps_what_it_has(home, tmp_path):
    """Ctrl-C in the middle of a folder, in a process of its own."""
    folder, hold = tmp_path / "many", tmp_path / "hold"
    folder.mkdir()
    hold.touch()
    (tmp_path / "sitecustomize.py").write_text(HELD_UP)
    photo("red", (240, 320)).save(folder / "000.jpg")
    for number in range(1, 100):
        shutil.copy(folder / "000.jpg", folder / f"{number:03}.jpg")
    table = tmp_path / "out.csv"
    command = [sys.executable, "-m", "moda_utils.serving", str(folder), "--csv", str(table)]
    # A shell that starts the tests in the background has them ignore Ctrl-C.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    first = 2 * serving.BATCH  # of the third batch, in which a photo is held up
    held = os.environ | {"PYTHONPATH": str(tmp_path), "HOLD": str(hold)}
    held |= {"HELD": str(folder / f"{first + 3:03}.jpg")}
    run = subprocess.Popen(
        command, cwd=ROOT, env=held, stderr=subprocess.PIPE, text=True, preexec_fn=heed
    )
    deadline = time.monotonic() + 300
    while not (table.exists() and table.read_text().count("\n") > first):
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    hold.unlink()
    assert "the same command goes on" in run.communicate()[1]
    assert run.returncode == 130
    rows = table.read_text().splitlines()
    assert len(rows) == 1 + first
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0
    again = table.read_text().splitlines()
    assert again[: len(rows)] == rows
    assert [row.split(",")[0] for row in again[1:]] == [str(p) for p in sorted(folder.iterdir())]


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), ([], 2)])
def test_command_line_explains_itself(arguments, status, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == status
    assert "PHOTO" in "".join(capsys.readouterr())


@pytest.mark.parametrize("more", [["photo.jpg"], ["--csv", "out.csv"]])
def test_a_demo_describes_no_folder(more, capsys):
    with pytest.raises(SystemExit):
        main([*more, "--demo"])
    assert "name photos or folders, or --demo" in capsys.readouterr().err


def test_command_line_as_a_command(home, files):
    command = [sys.executable, "-m", "moda_utils.serving", str(files / "red.png")]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert said.stdout == f"{files / 'red.png'}: {SAYS['red']}\n"
    assert said.stderr.strip().endswith("It has only ever seen drawings.")
