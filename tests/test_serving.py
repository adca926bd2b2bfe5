import subprocess
import sys

import pytest
import torch
from PIL import Image
from tiny_moda import build, photo

import moda_utils
from moda_utils import serving
from moda_utils.features import Examples
from moda_utils.profiles import ROOT
from moda_utils.serving import describe, generate_texts, main
from moda_utils.training import TrainConfig, train

SAYS = {"red": "Red shirt for men", "blue": "Blue dress with a bow", "lime": "Green shorts"}


@pytest.fixture(scope="module")
def best(tmp_path_factory):
    """A tiny MODA that has learnt three photos by heart."""
    folder = tmp_path_factory.mktemp("moda")
    model, processor = build(folder)
    model.config.trained_on = "drawn, encoder drawn"
    # One colour fills the photo, and a random encoder hardly sees it: give it its own directions.
    photos = [photo(colour) for colour in SAYS]
    with torch.no_grad():
        embeds = model.encode_images(processor(images=photos)["pixel_values"])
    items = Examples(embeds, list(SAYS.values()), list(SAYS))
    config = TrainConfig(
        epochs=250, batch_size=3, accumulation=1, learning_rate=3e-3, schedule="constant"
    )
    history = train(model, processor, items, items, config, folder / "mini" / "runs" / "moda")
    assert history.best["loss"] < 0.1
    return folder / "mini" / "runs" / "moda" / "best"


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


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (3, 1), (48, 64)])
def test_images_of_any_mode_and_size_get_an_answer(home, mode, size):
    assert isinstance(describe(Image.new(mode, size), note=False), str)


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


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), ([], 2)])
def test_command_line_explains_itself(arguments, status, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == status
    assert "PHOTO" in "".join(capsys.readouterr())


def test_command_line_as_a_command(home, files):
    command = [sys.executable, "-m", "moda_utils.serving", str(files / "red.png")]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert said.stdout == f"{files / 'red.png'}: {SAYS['red']}\n"
    assert said.stderr.strip().endswith("It has only ever seen drawings.")
