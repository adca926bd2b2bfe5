"""Captioning for real: a small Phi-3 Vision that was trained to describe plain colours."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from PIL import Image
from shop import photo_path, shop_row, write_shop
from toy_captioner import ANSWERS, MAX_NEW_TOKENS, PROMPT, save_toy_captioner

from moda_utils import answers
from moda_utils.captioning import (
    PROMPT_I,
    PROMPT_I_SHA256,
    Captioner,
    caption_catalog,
    caption_from_profile,
    captions_journal,
)
from moda_utils.catalog import Catalog, read_catalog, save_catalog
from moda_utils.dataset import load_dataset_dir
from moda_utils.phi3_vision import Phi3VisionForConditionalGeneration, Phi3VisionProcessor
from moda_utils.profiles import ROOT, Checkpoint, Profile, get_profile


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Path:
    return save_toy_captioner(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def profile(toy, tmp_path) -> Profile:
    captioner = Checkpoint(str(toy))
    return replace(get_profile("mini"), home=tmp_path / "home", captioner=captioner)


@pytest.fixture
def captioner(toy) -> Captioner:
    model = Phi3VisionForConditionalGeneration.from_pretrained(toy)
    return Captioner(model, Phi3VisionProcessor.from_pretrained(toy), PROMPT, MAX_NEW_TOKENS)


def colour_catalog(root: Path, scales=(1, 2, 3)) -> Catalog:
    """One item per colour and size, and every third item twice."""
    rows, number = [], 0
    for scale in scales:
        for position, colour in enumerate(ANSWERS):
            for _ in range(2 if position % 3 == 0 else 1):
                row = shop_row(number, Colour=colour)
                path = photo_path(root, row)
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (30 * scale, 40 * scale), colour).save(path, quality=100)
                rows.append(row)
                number += 1
    return read_catalog(write_shop(root, rows))


def journal_of(profile: Profile):
    return captions_journal(profile, PROMPT, MAX_NEW_TOKENS)


def lasting(journal) -> list[dict]:
    """The journal's rows in the order of their ids, without times."""
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in journal.done().values()]
    return sorted(rows, key=lambda row: row["product_id"])


# Prompt I


def test_prompt_is_the_one_of_the_course():
    assert sha256(PROMPT_I.encode()).hexdigest() == PROMPT_I_SHA256
    assert PROMPT_I_SHA256.startswith("0cbc4c424e00cd81")
    assert PROMPT_I.startswith("<|user|>\n\n<|image_1|>\n\nAnalyze the image and provide")
    assert PROMPT_I.endswith("ignore it.\n\n<|end|>\n<|assistant|>\n")


# The toy's answers


def test_answers_and_their_status(profile, captioner, tmp_path):
    catalog = colour_catalog(tmp_path / "shop")
    assert catalog.skipped.empty
    summary = caption_catalog(catalog, captioner, journal_of(profile))
    colours = dict(zip(catalog.frame["product_id"], catalog.frame["colour"], strict=True))
    expected = {
        "red": ("A red shirt for boys.", "ok", True),
        "blue": ("Blue shoes, ideal for men.", "ok", True),
        "green": ("Green dress for girls.", "repaired", True),
        "yellow": ("Yellow shorts", "repaired", True),
        "white": (None, "failed", True),
        "black": (None, "failed", False),
    }
    rows = lasting(journal_of(profile))
    assert len(rows) == len(catalog.frame) == 24
    for row in rows:
        colour = colours[row["product_id"]]
        assert (row["description"], row["status"], row["ended"]) == expected[colour]
        assert ANSWERS[colour].startswith(row["raw"])
        assert row["model"] == Path(profile.captioner.name).name
    assert (summary.new, summary.copied, summary.endless) == (18, 6, 3)
    assert summary.statuses == {"ok": 9, "repaired": 9, "failed": 6}


def test_batches_give_the_same_texts_as_single_photos(profile, captioner, tmp_path):
    catalog = colour_catalog(tmp_path / "shop")
    together = replace(profile, home=tmp_path / "together")
    caption_catalog(catalog, captioner, journal_of(profile), batch_size=1)
    caption_catalog(catalog, captioner, journal_of(together), batch_size=16)
    assert lasting(journal_of(profile)) == lasting(journal_of(together))


def test_more_photos_later_keeps_the_finished_ones(profile, captioner, tmp_path):
    catalog = colour_catalog(tmp_path / "shop")
    caption_catalog(catalog, captioner, journal_of(profile), n=5)
    first = profile.captions_path.read_bytes()
    summary = caption_catalog(catalog, captioner, journal_of(profile), n=12)
    assert summary.statuses.total() == 12
    assert profile.captions_path.read_bytes().startswith(first)
    assert len(journal_of(profile).done()) == 12


def test_damaged_photo_is_left_out(profile, captioner, tmp_path):
    catalog = colour_catalog(tmp_path / "shop", scales=(1,))
    (red,) = catalog.frame.query("colour == 'blue'").itertuples()
    photo = catalog.root / red.image
    content = photo.read_bytes()
    photo.write_bytes(content[:200])
    summary = caption_catalog(catalog, captioner, journal_of(profile))
    assert [product_id for product_id, _ in summary.unreadable] == [red.product_id]
    assert f"Left out: {red.product_id} (" in str(summary)
    assert "can't be read as a photo" in str(summary)
    photo.write_bytes(content)
    summary = caption_catalog(catalog, captioner, journal_of(profile))
    assert (summary.new, summary.statuses.total()) == (1, 8)


def test_other_prompts_and_other_weights_have_rows_of_their_own(profile, toy, tmp_path):
    caption_options = {journal_of(profile).key["options_sha"]}
    other = tmp_path / toy.name
    other.mkdir()
    for file in toy.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    again = replace(profile, captioner=Checkpoint(str(other)))
    assert journal_of(again).key == journal_of(profile).key
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    caption_options.add(journal_of(again).key["options_sha"])
    caption_options.add(journal_of(replace(profile, num_crops=2)).key["options_sha"])
    hub = replace(profile, captioner=Checkpoint("microsoft/Phi-3-vision", "main"))
    assert journal_of(hub).key["model"] == "microsoft/Phi-3-vision"
    caption_options.add(journal_of(hub).key["options_sha"])
    assert len(caption_options) == 4
    assert captions_journal(profile).key["prompt_sha"] != journal_of(profile).key["prompt_sha"]


def test_a_journal_takes_no_answers_to_another_prompt(profile, captioner, tmp_path):
    catalog = colour_catalog(tmp_path / "shop")
    captioner.prompt = PROMPT.replace("<|image_1|>", "<|image_1|> Please.")
    with pytest.raises(ValueError, match="answers to another prompt"):
        caption_catalog(catalog, captioner, journal_of(profile))
    assert not profile.captions_path.exists()


def test_a_profile_is_enough(profile, tmp_path):
    """With the real prompt, which the toy was not trained on: any status, but every photo."""
    catalog = colour_catalog(tmp_path / "shop", scales=(1,))
    journal = captions_journal(profile)
    summary = caption_catalog(catalog, Captioner.load(profile), journal, n=4)
    first = catalog.frame.sort_values(["image_sha256", "product_id"])["product_id"][:4]
    assert sorted(row["product_id"] for row in lasting(journal)) == sorted(first)
    assert "4 photos have an answer" in str(summary)


def test_the_notebook_in_one_call(profile, captioner, tmp_path, monkeypatch):
    """The dataset holds the descriptions, and the template where the model failed."""
    catalog = colour_catalog(tmp_path / "shop")
    save_catalog(catalog, profile.catalog_path)
    monkeypatch.setattr(Captioner, "load", lambda _: captioner)
    summary = caption_from_profile(profile)
    assert summary.statuses == {"ok": 9, "repaired": 9, "failed": 6}
    rows = [row for part in load_dataset_dir(profile.dataset_dir).values() for row in part]
    assert len(rows) == 24
    for row in rows:
        failed = row["colour"] in ("white", "black")
        assert row["description_source"] == ("template" if failed else "raw")
        assert row["description"] == row["description_template" if failed else "description_raw"]
        assert failed == (row["description_raw"] is None)
    assert caption_from_profile(profile).new == 0


# Trouble


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_numbers_stop_the_run(profile, captioner, tmp_path, value):
    torch.nn.init.constant_(captioner.model.lm_head.weight[:1], value)
    catalog = colour_catalog(tmp_path / "shop", scales=(1,))
    with pytest.raises(RuntimeError, match=r"NaN or infinity .*dtype=torch.float32"):
        caption_catalog(catalog, captioner, journal_of(profile))
    assert not profile.captions_path.exists()


def test_too_little_memory_is_said_before_loading(profile, monkeypatch):
    monkeypatch.setattr("moda_utils.answers.free_memory", lambda device: 100_000)
    with pytest.raises(
        RuntimeError, match=r"0\.0 GB in torch\.float32, but cpu has .*MODA_PROFILE"
    ):
        Captioner.load(profile, device="cpu")


def test_a_cell_that_is_run_again_needs_room_for_one_model_only(profile, monkeypatch):
    """Memory for one and a half captioners, as of Phi-3 Vision on a T4."""
    first = Captioner.load(profile, device="cpu").model
    room = 1.5 * first.num_parameters() * first.dtype.itemsize

    def free_memory(device):
        held = [model for model in answers._writers if model.device.type == "cpu"]
        return room - sum(model.num_parameters() * model.dtype.itemsize for model in held)

    monkeypatch.setattr(answers, "free_memory", free_memory)
    answers.free(*(model for model in answers._writers if model is not first))  # of other tests
    second = Captioner.load(profile, device="cpu").model
    assert (first.device.type, second.device.type) == ("meta", "cpu")
    monkeypatch.setattr(answers, "free_memory", lambda device: 10 * room)
    Captioner.load(profile, device="cpu")  # with room for both, both stay
    assert second.device.type == "cpu"


def test_load_takes_crops_and_type_from_the_profile(profile):
    loaded = Captioner.load(replace(profile, num_crops=3), device="cpu", dtype=torch.bfloat16)
    assert loaded.processor.image_processor.num_crops == 3
    assert loaded.model.dtype == torch.bfloat16
    assert not loaded.model.training
    assert loaded.batch_size() == 64


CHILD = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from dataclasses import replace
from moda_utils.captioning import Captioner, caption_catalog, captions_journal
from moda_utils.catalog import load_catalog
from moda_utils.profiles import Checkpoint, get_profile
profile = replace(get_profile("mini"), home=Path({home!r}), captioner=Checkpoint({toy!r}))
captioner = Captioner.load(profile, {prompt!r}, device="cpu")
captioner.max_new_tokens = {tokens}
journal = captions_journal(profile, {prompt!r}, {tokens})
caption_catalog(load_catalog(profile.catalog_path), captioner, journal, batch_size=2)
"""


# As above, and it is killed while the model is asked about the fifth batch.
DYING = CHILD.replace(
    "journal = ",
    """import itertools, os, signal
class Dying(Captioner):
    batches = itertools.count(1)
    def __call__(self, encoded):
        if next(self.batches) == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(encoded)
captioner.__class__ = Dying
journal = """,
    1,
)


def test_killed_and_run_again(profile, captioner, toy, tmp_path):
    catalog = colour_catalog(tmp_path / "shop", scales=range(1, 9))
    save_catalog(catalog, profile.catalog_path)
    child = DYING.format(
        paths=[str(ROOT)],
        home=str(profile.home),
        toy=str(toy),
        prompt=PROMPT,
        tokens=MAX_NEW_TOKENS,
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    done = subprocess.run([sys.executable, "-c", child], env=environment)
    assert done.returncode == -signal.SIGKILL
    whole = profile.captions_path.read_bytes().splitlines(True)
    assert 4 * 2 <= len(whole) < len(catalog.frame)  # equal photos share an answer
    with open(profile.captions_path, "ab") as file:
        file.write(b'{"product_id": "10')  # the line that the kill could have cut

    summary = caption_catalog(catalog, captioner, journal_of(profile), batch_size=2)
    written = profile.captions_path.read_bytes().splitlines(True)
    assert written[: len(whole)] == whole  # nothing that was finished is written again
    assert len(written) == len(catalog.frame) == summary.statuses.total()

    unbroken = replace(profile, home=tmp_path / "unbroken")
    caption_catalog(catalog, captioner, journal_of(unbroken), batch_size=2)
    assert lasting(journal_of(profile)) == lasting(journal_of(unbroken))
    assert json.loads(written[-1])["prompt_sha"] == journal_of(profile).key["prompt_sha"]


# As above, and it tells how many photos it asks the model about.
COUNTING = CHILD.replace(
    "journal = ",
    """class Counting(Captioner):
    def __call__(self, encoded):
        print(len(encoded), flush=True)
        return super().__call__(encoded)
captioner.__class__ = Counting
journal = """,
    1,
)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_moments(profile, captioner, toy, tmp_path, seed):
    """Killed again and again: the end is that of an unbroken run, a batch is lost at most each."""
    rng, size, kills, asked = random.Random(seed), 2, 0, 0
    catalog = colour_catalog(tmp_path / "shop", scales=range(1, 9))
    save_catalog(catalog, profile.catalog_path)
    child = COUNTING.format(
        paths=[str(ROOT)],
        home=str(profile.home),
        toy=str(toy),
        prompt=PROMPT,
        tokens=MAX_NEW_TOKENS,
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    while True:
        process = subprocess.Popen(
            [sys.executable, "-c", child], env=environment, stdout=subprocess.PIPE, text=True
        )
        if kills < 3:
            # It has begun; or an earlier one was killed when all was done, and nothing is asked.
            asked += int(process.stdout.readline() or 0)
            time.sleep(rng.uniform(0, 0.2))
            process.kill()
            kills += 1
        asked += sum(map(int, process.stdout.read().split()))
        if process.wait() == 0:
            break
        assert process.returncode == -signal.SIGKILL
    unbroken = replace(profile, home=tmp_path / "unbroken")
    summary = caption_catalog(catalog, captioner, journal_of(unbroken), batch_size=size)
    assert lasting(journal_of(profile)) == lasting(journal_of(unbroken))
    lines = profile.captions_path.read_bytes().splitlines()
    assert len(lines) == summary.statuses.total()  # no row twice, none torn
    assert summary.new <= asked <= summary.new + kills * size
