"""check(): a tick for what a reader would find, a hint otherwise, in any catalogue."""

import re
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from shop import photo_path, shop_row, write_shop

from moda_utils import catch_up, check
from moda_utils.captioning import PROMPT_I, captions_journal
from moda_utils.catalog import load_catalog
from moda_utils.dataset import load_dataset_dir, template_description
from moda_utils.exercises import EXERCISES, KINDS
from moda_utils.features import embed_photos
from moda_utils.phi3_vision import Phi3VisionImageProcessor
from moda_utils.profiles import get_profile
from moda_utils.refinement import captioned_items, refined_journal
from moda_utils.training import TrainConfig, plan_epoch, start_model

COLOURS, PEOPLE = ("Red", "Blue", "White", "Black"), ("Men", "Women", "Boys", "Girls", "Men")
TYPES = {"Tshirts": "Casual", "Shirts": "Formal", "Tops": "Casual", "Dresses": "Party"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """360 items with stripes; every tenth photo has the stripes of the one before it."""
    root = tmp_path_factory.mktemp("shop")
    rows = []
    for number in range(360):
        kind = list(TYPES)[number * 7 % 4]
        rows.append(
            shop_row(
                number,
                ProductType=kind,
                Usage=TYPES[kind] if number % 9 else "Casual",
                Colour=COLOURS[number * 5 % 3],
                Gender=PEOPLE[number * 3 % 5],
            )  # fmt: skip
        )
        rows[-1]["Image"] = f"{rows[-1]['ProductId']}.png"
        path = photo_path(root, rows[-1])
        path.parent.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(number - (number % 10 == 9))
        photo = Image.new("RGB", (30, 40), "white")
        for left in range(0, 30, 5):
            shade = tuple(int(value) for value in random.integers(0, 256, 3))
            ImageDraw.Draw(photo).rectangle((left, 0, left + 4, 39), fill=shade)
        photo.putpixel((0, 0), (number % 256, number // 256, 0))  # another file all the same
        photo.save(path)
    rows[1]["ProductTitle"] = rows[0]["ProductTitle"]
    return write_shop(root, rows)


@pytest.fixture(scope="module")
def home(shop, tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def profile(shop, home, monkeypatch):
    monkeypatch.setenv("MODA_DATA_DIR", str(shop))
    monkeypatch.setenv("MODA_HOME", str(home))
    monkeypatch.setenv("MODA_PROFILE", "mini")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    catch_up("02")  # catalogue and dataset, once
    return get_profile()


def judged(capsys, name, answer):
    capsys.readouterr()
    check(name, answer)
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    return printed


def test_without_an_answer_it_says_what_is_asked(capsys):
    for name, asked in EXERCISES.items():
        assert judged(capsys, name, None) == f"{name} asks for {asked.kind}: {asked.wanted}.\n"


@pytest.mark.parametrize("name", EXERCISES)
def test_an_answer_of_another_kind_is_named(capsys, name):
    others = ["words", 3, 0.5, [1], len]
    for answer in (other for other in others if not KINDS[EXERCISES[name].kind](other)):
        assert f"not {type(answer).__name__}: " in judged(capsys, name, answer)
    assert "✓" not in judged(capsys, name, True)


def test_an_unknown_exercise_lists_those_that_exist():
    with pytest.raises(ValueError, match="no exercise '05.9'; there are: 00.1, 00.2"):
        check("05.9", 3)


def test_an_answer_needs_the_artefacts_it_is_about(monkeypatch, tmp_path):
    monkeypatch.setenv("MODA_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="run notebook 01 first"):
        check("05.2", 3)


def cut_off(photo):
    """Exercise 01.2 as a reader may solve it."""
    dark = np.asarray(photo.convert("L")) < 235
    side = min(dark.shape)
    top, left = (dark.shape[0] - side) // 2, (dark.shape[1] - side) // 2
    return 1 - dark[top : top + side, left : left + side].sum() / dark.sum()


def groups_by_search(items, root):
    """Exercise 01.3: walk along the links from item to item."""
    keys = {}
    for row in items.itertuples():
        with Image.open(root / row.image) as photo:
            grey = np.asarray(photo.convert("L").resize((9, 8)), dtype=int)
        for key in (("group", row.group), ("hash", (grey[:, 1:] > grey[:, :-1]).tobytes())):
            keys.setdefault(key, set()).add(row.Index)
    left, found = set(items.index), 0
    while left:
        found += 1
        reached = [left.pop()]
        while reached:
            item = reached.pop()
            for linked in keys.values():
                if item in linked:
                    reached += linked & left
                    left -= linked
    return found


def without_words(text):
    """Exercise 02.3."""
    return re.sub(r' (that says|with the word) "?[A-Z]+"?( on the front)?', "", text)


def votes(catalog, profile, k=5):
    """Exercise 06.3."""
    model, processor = start_model(profile)
    items = catalog.frame
    train, test = items[items.split == "train"], items[items.split == "test"]
    embeds = [
        embed_photos(
            model, processor.image_processor, [catalog.root / name for name in rows.image],
            rows.image_sha256, profile.features_dir,
        )
        for rows in (train, test)
    ]  # fmt: skip
    likeness = torch.cosine_similarity(embeds[1][:, None], embeds[0][None], dim=-1)
    sentences = []
    for row in likeness.topk(k).indices.tolist():
        chosen = {
            column: Counter(train.iloc[row][column]).most_common(1)[0][0]
            for column in ("colour", "usage", "product_type", "gender")
        }
        sentences.append(template_description(chosen))
    return sentences


def describe_sixty(profile) -> int:
    """Captions and refined texts: every third caption has a wrong colour, the refiner adds a word
    to every fifth text. Returns how many sound captions came back changed."""
    frame = load_catalog(profile.catalog_path).frame.sort_values(["image_sha256", "product_id"])
    captions, refined, changed = captions_journal(profile), [], 0
    for number, item in enumerate(frame.head(60).to_dict("records")):
        ids = {"product_id": item["product_id"], "image_sha256": item["image_sha256"]}
        shown = item | ({"colour": "Turquoise Blue"} if number % 3 == 0 else {})
        text = f"{template_description(shown)}, with stripes and buttons"
        captions.append([ids | {"raw": text, "description": text, "status": "ok", "ended": True}])
        changed += number % 3 > 0 and number % 5 == 0
        added = " all over" if number % 5 == 0 else ""
        refined.append(f"{template_description(item)}, with stripes and buttons{added}")
    items = captioned_items(load_catalog(profile.catalog_path), captions)
    rows = [
        {"description": text, "status": "ok", "raw": text, "faults": [], "ended": True}
        | {name: item[name] for name in ("product_id", "image_sha256", "source")}
        for item, text in zip(items, refined, strict=True)
    ]
    refined_journal(profile, items).append(rows)
    return changed


def one_scale_for_all(model):
    """Exercise 07.1, with other inputs."""
    weight = model.language_model.get_decoder().layers[0].fc1.weight.detach()
    inputs, errors = torch.randn(100, weight.shape[1]), []
    for largest in (weight.abs().max(), weight.abs().amax(dim=1, keepdim=True)):
        scale = largest / 127
        rounded = (weight / scale).round() * scale
        errors.append((inputs @ rounded.T - inputs @ weight.T).norm())
    return errors[0] / errors[1]


def test_what_a_reader_finds_is_right_and_something_near_is_not(capsys, profile):
    catalog = load_catalog(profile.catalog_path)
    items = catalog.frame
    first = items[items.split == "test"].iloc[0]
    texts = load_dataset_dir(profile.dataset_dir)["train"]["description"]
    model, processor = start_model(profile)
    words = [len(row) for row in processor.tokenizer(list(texts))["input_ids"]]
    extra = len(processor.tokenizer("")["input_ids"])  # marks that the tokenizer adds itself
    linked = groups_by_search(items, catalog.root)
    assert linked < items.group.nunique() < len(items)
    layer = torch.nn.Linear(model.projection[0].in_features, model.projection[-1].out_features)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.8)
    for _ in range(19):
        optimizer.step()
        schedule.step()
    steps = sum(
        len(step) == 8
        for epoch in range(20)
        for step in plan_epoch(len(texts), epoch, TrainConfig(batch_size=32))
    )
    group = items[items.split == "test"].group
    not_alone = group.isin(group.value_counts()[lambda sizes: sizes > 1].index).mean()
    five = votes(catalog, profile)
    assert len(set(five)) > 1
    opposite = PROMPT_I.replace("Do not write the text", "Quote the text").split("For exemple")[0]
    opposite += "<|end|>\n<|assistant|>\n"
    cutter = Phi3VisionImageProcessor(num_crops=16)
    sizes = [(336 * width, 336 * height) for width in range(1, 17) for height in range(1, 17)]
    places = [cutter.num_tokens(*cutter.grid(*size)) for size in sizes]
    model.save_pretrained(profile.run_dir("moda") / "best")
    processor.save_pretrained(profile.run_dir("moda") / "best")
    touched = describe_sixty(profile)
    (caption, *_) = (row["description"] for row in captions_journal(profile).done().values())
    row = captioned_items(catalog, captions_journal(profile))[0]
    sound = caption.replace("Turquoise blue", row["colour"])
    found = {
        "00.1": (template_description(first), first.colour),
        "00.2": (180, 12),
        "00.3": ("style", "colour"),
        "01.1": ("product_type", "title"),
        "01.2": (cut_off, lambda photo: 0.25),
        "01.3": (linked, items.group.nunique()),
        "02.1": (opposite, PROMPT_I),
        "02.2": (max(places), places[3]),
        "02.3": (without_words, lambda text: re.sub('"[A-Z]+"', "", text)),
        "03.1": (f"{sound} and pockets", f"{caption} and pockets"),
        "03.2": (touched, 60),
        "03.3": (
            lambda caption, row: caption.replace("Turquoise blue", row["colour"]),
            lambda caption, row: template_description(row),
        ),
        "04.1": (sum(weight.numel() for weight in layer.parameters()), layer.weight.numel()),
        "04.2": (4, 5),
        "04.3": ([1, 2], [2, 2]),
        "05.1": (optimizer.param_groups[0]["lr"], 1e-3),
        "05.2": (steps, 2 * steps),
        "05.3": (sum(words) - extra * len(words), sum(words)),
        "06.1": (first.colour, template_description(first)),
        "06.2": (np.float64(not_alone), 1.0),
        "06.3": (five, votes(catalog, profile, k=40)),
        "07.1": (one_scale_for_all(model), 1.0),
        "08.1": (next(n for n in range(1, 999) if 0.4 / n**0.5 <= 0.05), 16),
        "09.1": (sum(20 for _ in range(36_000)), 720),
    }
    assert set(found) == set(EXERCISES)
    for name, (right, wrong) in found.items():
        assert judged(capsys, name, right) == f"✓ {name} is right.\n"
        assert judged(capsys, name, wrong).startswith(f"✗ {name}, not yet. Hint: "), name


@pytest.mark.parametrize(
    ("wish", "mark"),
    [
        ("Read out every word that is printed on the item.", "✓"),
        ("Copy the text that is printed on the item into the description, word for word.", "✓"),
        ("Do not quote the text that is in the image.", "✗"),
        ("Quote the colour.", "✗"),
        ("Do not write the text that is in the image. Quote every letter.", "✗"),
    ],
)
def test_any_wish_for_the_printed_words_is_an_opposite_prompt(capsys, wish, mark):
    start = PROMPT_I.split("Do not write the text")[0]
    assert judged(capsys, "02.1", f"{start}{wish}\n\n<|end|>\n<|assistant|>\n").startswith(mark)


def test_hints_and_questions_are_sentences_that_hold_no_number_of_a_run():
    for asked in EXERCISES.values():
        assert re.fullmatch(r"[a-z].*[.?]", asked.hint)
        assert not asked.wanted.endswith(".")
