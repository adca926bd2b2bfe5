import dataclasses
import hashlib
import subprocess
import sys
import threading
import time

import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from shop import shop_row, write_shop
from tiny_moda import build, photo
from transformers import AutoProcessor, AutoTokenizer, CLIPModel

from moda_utils import features
from moda_utils.catalog import read_catalog
from moda_utils.dataset import load_dataset_dir, write_dataset
from moda_utils.features import embed_photos, embed_texts, fingerprint, load_examples
from moda_utils.profiles import ROOT, get_profile

COLOURS = ["red", "green", "blue", "white", "black", "pink", "gold"]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    model, processor = build(tmp_path_factory.mktemp("moda"))
    return model.eval(), processor.image_processor


@pytest.fixture
def shop(tmp_path):
    """Seven photo files and their hashes."""
    paths = [tmp_path / f"{colour}.png" for colour in COLOURS]
    for path, colour in zip(paths, COLOURS, strict=True):
        photo(colour).save(path)
    return paths, [sha(path) for path in paths]


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def encoded(monkeypatch):
    """Counts the photos that go through the encoder."""
    counts = []
    real = features._encode

    def counting(model, pixel_values):
        counts.append(len(pixel_values))
        return real(model, pixel_values)

    monkeypatch.setattr(features, "_encode", counting)
    return counts


def test_the_cache_holds_what_the_model_says(parts, shop, tmp_path):
    model, processor = parts
    paths, shas = shop
    embeds = embed_photos(model, processor, paths, shas, tmp_path / "cache", batch_size=3)
    assert embeds.shape == (7, 24) and embeds.dtype == torch.float32
    opened = [Image.open(path) for path in paths]
    pixels = processor(opened, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(embeds, model.encode_images(pixels).detach())


def test_a_second_call_opens_no_photo_and_follows_the_order_asked_for(parts, shop, tmp_path):
    model, processor = parts
    paths, shas = shop
    first = embed_photos(model, processor, paths, shas, tmp_path / "cache")
    for path in paths:
        path.unlink()
    order = [4, 0, 0, 6]
    again = embed_photos(
        model, processor, [paths[i] for i in order], [shas[i] for i in order], tmp_path / "cache"
    )
    assert torch.equal(again, first[order])


def test_one_changed_photo_is_one_encoding_and_equal_photos_are_encoded_once(
    parts, shop, tmp_path, encoded
):
    model, processor = parts
    paths, shas = shop
    embed_photos(model, processor, [*paths, paths[0]], [*shas, shas[0]], tmp_path / "cache")
    assert sum(encoded) == 7
    before = embed_photos(model, processor, paths, shas, tmp_path / "cache")
    Image.linear_gradient("L").resize((48, 64)).save(paths[2])
    shas[2] = sha(paths[2])
    after = embed_photos(model, processor, paths, shas, tmp_path / "cache")
    assert sum(encoded) == 8
    same = (before == after).all(dim=1).tolist()
    assert same == [True, True, False, True, True, True, True]


def test_a_killed_run_goes_on_where_it_was(parts, shop, tmp_path, encoded, monkeypatch):
    model, processor = parts
    paths, shas = shop
    photos = [*paths[:4], tmp_path / "nowhere.png", *paths[5:]]
    with pytest.raises(FileNotFoundError, match="nowhere.png"):
        embed_photos(
            model, processor, photos, shas, tmp_path / "cache", batch_size=2, save_seconds=0
        )
    assert sum(encoded) == 4
    embed_photos(model, processor, paths, shas, tmp_path / "cache", batch_size=2)
    assert sum(encoded) == 7


def test_a_photo_that_can_t_be_read_costs_nothing_that_is_done(parts, shop, tmp_path, encoded):
    """Even where the time to save has not come yet."""
    model, processor = parts
    paths, shas = shop
    photos = [*paths[:4], tmp_path / "nowhere.png", *paths[5:]]
    with pytest.raises(FileNotFoundError, match="nowhere.png"):
        embed_photos(model, processor, photos, shas, tmp_path / "cache", batch_size=2)
    embed_photos(model, processor, paths, shas, tmp_path / "cache", batch_size=2)
    assert sum(encoded) == 7


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "not ours"])
def test_a_damaged_cache_is_noticed_and_rebuilt(parts, shop, tmp_path, damage):
    model, processor = parts
    paths, shas = shop
    right = embed_photos(model, processor, paths, shas, tmp_path / "cache")
    [file] = (tmp_path / "cache").iterdir()
    content = bytearray(file.read_bytes())
    if damage == "cut":
        content = content[:-50]
    elif damage == "flipped":
        content[-3] ^= 0xFF
    elif damage == "empty":
        content = b""
    else:
        content = b"x" * 1000
    file.write_bytes(content)
    with pytest.warns(UserWarning, match="is damaged"):
        again = embed_photos(model, processor, paths, shas, tmp_path / "cache")
    assert torch.equal(again, right)
    with safe_open(file, "pt") as whole:
        assert whole.get_tensor("image_embeds").shape == (7, 24)


def test_the_fingerprint_is_that_of_encoder_and_preprocessing_only(parts, tmp_path):
    model, processor = parts
    name = fingerprint(model, processor)
    other, _ = build(tmp_path)
    with torch.no_grad():
        other.projection[0].weight += 1  # trained: no matter
        other.vision_model.half().float()  # stored in half precision: no matter
    assert fingerprint(other, processor) == name
    with torch.no_grad():
        other.vision_model.visual_projection.weight[0, 0] += 0.1
    assert fingerprint(other, processor) != name
    settings = processor.to_dict() | {"do_center_crop": False}
    assert fingerprint(model, type(processor)(**settings)) != name


def test_few_photos_are_open_at_once_however_many_processors_there_are(
    parts, tmp_path, monkeypatch
):
    model, processor = parts
    many = "import os; os.cpu_count = lambda: 64; import moda_utils.catalog as c"
    run = [sys.executable, "-c", f"{many}; print(c.OPEN_AT_ONCE)"]
    assert subprocess.run(run, capture_output=True, text=True, cwd=ROOT).stdout == "8\n"
    monkeypatch.setattr(features, "OPEN_AT_ONCE", 3)
    now, most, lock = 0, 0, threading.Lock()

    def slow(photo):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        deadline = time.monotonic() + 60
        while most < 3 and time.monotonic() < deadline:  # the others are still to come
            time.sleep(0.001)
        time.sleep(0.02)
        with lock:
            now -= 1
        return processor(photo)

    slow.to_dict = processor.to_dict
    shas = [f"{number:064x}" for number in range(24)]
    embed_photos(model, slow, [photo()] * 24, shas, tmp_path, batch_size=12)
    assert most == 3


def test_pillow_images_of_any_mode_work_as_well(parts, tmp_path):
    model, processor = parts
    images = [photo("red"), photo("red").convert("L"), photo("red").convert("CMYK")]
    embeds = embed_photos(model, processor, images, ["aa" * 32, "bb" * 32, "cc" * 32], tmp_path)
    assert embeds.isfinite().all()
    assert not torch.equal(embeds[0], embeds[1])


def test_bad_input_is_named(parts, shop, tmp_path):
    model, processor = parts
    paths, shas = shop
    with pytest.raises(ValueError, match="7 photos but 6 hashes"):
        embed_photos(model, processor, paths, shas[:-1], tmp_path)
    paths[3].write_text("no photo")
    with pytest.raises(ValueError, match=r"white.png can't be read as a photo"):
        embed_photos(model, processor, paths, shas, tmp_path / "cache")
    assert embed_photos(model, processor, [], [], tmp_path / "cache").shape == (0, 24)


def test_weights_that_are_not_numbers_never_reach_the_cache(tmp_path):
    model, processor = build(tmp_path)
    with torch.no_grad():
        model.vision_model.visual_projection.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        embed_photos(model, processor.image_processor, [photo()], ["aa" * 32], tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_texts_are_embedded_as_by_the_whole_clip_model(capfd):
    vision, texts = get_profile("mini").vision, ["a photo of a red dress", "shoes"]
    embeds = embed_texts(vision, texts)
    assert embeds.dtype == torch.float32
    assert capfd.readouterr() == ("", "")  # no report of the image half that is left where it is
    assert embed_texts(vision, ["red " * 500, ""]).isfinite().all()
    whole = CLIPModel.from_pretrained(vision.name, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(vision.name)
    for text, embed in zip(texts, embeds, strict=True):  # one by one: padding changes nothing
        with torch.inference_mode():
            alone = whole.text_model(**tokenizer([text], return_tensors="pt")).pooler_output
            torch.testing.assert_close(embed, whole.text_projection(alone)[0])


@pytest.fixture
def described(tmp_path):
    """A profile whose dataset has refined captions for 18 of 20 items and raw ones for 19."""
    write_shop(tmp_path / "shop", [shop_row(number) for number in range(20)])
    catalog = read_catalog(tmp_path / "shop")
    texts = pd.DataFrame({"product_id": catalog.frame["product_id"]})
    texts["description_raw"] = [f"raw {i}" if i else None for i in range(20)]
    texts["description_refined"] = [f"refined {i}" if i > 1 else None for i in range(20)]
    profile = dataclasses.replace(get_profile("mini"), home=tmp_path / "home")
    write_dataset(catalog, texts, profile.dataset_dir)
    return profile


def test_captions_are_chosen_and_stand_ins_are_counted(tmp_path, described, capsys):
    model, processor = build(tmp_path)
    template = "Red casual T-shirt for boys"
    expected = {
        "refined": {template: 1, "raw 1": 1, "refined": 18},
        "raw": {template: 1, "raw": 19},
        "template": {template: 20},
    }
    lines = {
        "refined": "2 of 20 items have no refined caption: raw 1, template 1 instead.\n",
        "raw": "1 of 20 items have no raw caption: template 1 instead.\n",
        "template": "",
    }
    for captions, counts in expected.items():
        splits = load_examples(described, model, processor, captions).values()
        texts = [text for examples in splits for text in examples.descriptions]
        for beginning, count in counts.items():
            assert sum(text.startswith(beginning) for text in texts) == count
        assert capsys.readouterr().out == lines[captions]
    default = load_examples(described, model, processor)
    assert default["train"].captions.startswith("refined")  # the best texts, as in `description`
    rows = load_dataset_dir(described.dataset_dir)["train"]
    assert default["train"].descriptions == rows["description"][:]
    assert default["train"].shas == rows["image_sha256"][:]
    assert load_examples(described, model, processor, "template")["test"].captions == "template"
    with pytest.raises(ValueError, match="no 'best' captions: choose one of refined, raw, templ"):
        load_examples(described, model, processor, "best")


def test_padding_instead_of_cropping_is_a_setting_that_the_model_keeps(tmp_path, shop):
    """A 3:4 photo with a mark at its upper edge: cut off by the crop, seen with padding."""
    model, processor = build(tmp_path / "parts")
    plain, marked = photo("white"), photo("white")
    marked.paste("black", (0, 0, 48, 6))

    def see(processor):
        return [processor(images=[image])["pixel_values"] for image in (plain, marked)]

    assert torch.equal(*see(processor))
    processor.image_processor.size = {"max_height": 32, "max_width": 32}
    assert not torch.equal(*see(processor))
    processor.save_pretrained(tmp_path / "best")
    model.save_pretrained(tmp_path / "best")
    kept = AutoProcessor.from_pretrained(tmp_path / "best")
    for one, other in zip(see(kept), see(processor), strict=True):
        assert one.shape == (1, 3, 32, 32) and torch.equal(one, other)
    cropped = build(tmp_path / "parts")[1]
    names = {fingerprint(model, p.image_processor) for p in (processor, cropped)}
    assert len(names) == 2  # embeddings of the two never mix in the cache
