"""The shipped mini-CLIP and mini-OPT: real architectures in the real repositories' file layout."""

import random

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    OPTForCausalLM,
)

from moda_utils.mini import train_opt
from moda_utils.mini.catalogue import fresh_items
from moda_utils.mini.items import COLOURS, Item, sample_item
from moda_utils.mini.measure import measure_clip
from moda_utils.mini.train_clip import (
    build_model,
    build_tokenizer,
    contrastive_loss,
    labels,
    matches,
    prepare,
)
from moda_utils.mini.wording import caption
from moda_utils.profiles import CHECKPOINTS

CLIP, OPT = CHECKPOINTS / "clip", CHECKPOINTS / "opt"
REAL_WORDS = [*train_opt.COLOURS, *train_opt.TYPES, *train_opt.GENDERS, *train_opt.USAGES]


def test_files_are_those_of_the_real_repositories():
    clip = {path.name for path in CLIP.iterdir()}
    assert clip >= {
        "config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json",
        "tokenizer_config.json", "vocab.json", "merges.txt",
    }  # fmt: skip
    opt = {path.name for path in OPT.iterdir()}
    assert opt == {
        "config.json", "generation_config.json", "pytorch_model.bin", "vocab.json", "merges.txt",
        "tokenizer_config.json", "special_tokens_map.json",
    }  # fmt: skip
    assert sum(path.stat().st_size for folder in (CLIP, OPT) for path in folder.iterdir()) < 9e6


def test_stored_dtypes_are_those_of_the_real_repositories():
    with safe_open(CLIP / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float32}  # noqa: SIM118
    weights = torch.load(OPT / "pytorch_model.bin", weights_only=True)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}


def test_opt_loads_in_float32_with_a_tied_head_and_no_missing_weight():
    model, info = AutoModelForCausalLM.from_pretrained(
        OPT, dtype=torch.float32, output_loading_info=True
    )
    assert isinstance(model, OPTForCausalLM)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    embeddings = model.get_input_embeddings().weight
    assert model.lm_head.weight.data_ptr() == embeddings.data_ptr()
    assert embeddings[4:1000].abs().sum(1).min() > 0
    assert model.dtype == torch.float32


def test_opt_has_the_special_ids_of_opt():
    tokenizer = AutoTokenizer.from_pretrained(OPT)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (2, 2, 2)
    assert tokenizer.pad_token_id == 1
    assert tokenizer.convert_tokens_to_ids("<s>") == 0
    assert tokenizer("White casual shoes").input_ids[0] == 2
    config = AutoModelForCausalLM.from_pretrained(OPT).config
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (2, 2, 1)


def test_any_text_survives_opts_tokenizer():
    tokenizer = AutoTokenizer.from_pretrained(OPT)
    rng = random.Random(0)
    texts = ["", "Crème brûlée - 100 % ☃", ' "quoted"\n\ttabs ', "ABCxyz 0123456789 {}[]\\"]
    texts += ["".join(chr(rng.randrange(32, 0x2FF)) for _ in range(40)) for _ in range(50)]
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_words_of_the_real_catalogue_are_few_tokens():
    tokenizer = AutoTokenizer.from_pretrained(OPT)
    for word in REAL_WORDS:
        ids = tokenizer(f" {word}", add_special_tokens=False).input_ids
        assert len(ids) <= 2 * len(word.replace("-", " - ").split()), word


def test_opt_continues_a_text_with_words_and_an_end():
    tokenizer = AutoTokenizer.from_pretrained(OPT)
    model = AutoModelForCausalLM.from_pretrained(OPT, dtype=torch.float32).eval()
    ids = tokenizer("Black casual", return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=40, do_sample=False)[0]
    assert out[-1] == 2
    assert any(
        kind in tokenizer.decode(out) for kind in ("shoes", "dress", "shirt", "top", "heels")
    )


def test_clip_prefers_the_true_caption():
    model = CLIPModel.from_pretrained(CLIP).eval()
    processor, tokenizer = (
        CLIPImageProcessorPil.from_pretrained(CLIP),
        AutoTokenizer.from_pretrained(CLIP),
    )
    assert isinstance(tokenizer, CLIPTokenizer)
    drawn = list(fresh_items(60, seed=9))
    pixels = processor([photo for _, photo in drawn], return_tensors="pt").pixel_values
    texts = tokenizer([f"{c.lower()} item" for c in COLOURS], padding=True, return_tensors="pt")
    with torch.no_grad():
        found = model(pixel_values=pixels, **texts).logits_per_image.argmax(1)
    truth = [list(COLOURS).index(item.colour) for item, _ in drawn]
    assert (found == torch.tensor(truth)).float().mean() > 0.8


def test_training_sees_the_pixels_that_the_processor_makes():
    processor = CLIPImageProcessorPil.from_pretrained(CLIP)
    photo = next(fresh_items(1))[1]
    made = processor(photo, do_normalize=False, do_rescale=False, return_tensors="pt").pixel_values[
        0
    ]
    ours = torch.tensor(prepare(photo)).permute(2, 0, 1)
    assert made.shape == ours.shape
    assert (made.float() - ours.float()).abs().max() <= 1


def test_both_tokenizer_forms_of_clip_agree(tmp_path):
    rng = random.Random(3)
    texts = [caption(sample_item(rng), rng)[0] for _ in range(300)]
    tokenizer = build_tokenizer(tmp_path, texts, vocab_size=700)
    (tmp_path / "tokenizer.json").unlink()
    slow_form = CLIPTokenizer.from_pretrained(tmp_path)
    for text in [*texts[:50], "Zebra-striped café chairs!"]:
        assert tokenizer(text).input_ids == slow_form(text).input_ids
        assert tokenizer(text).input_ids[-1] == tokenizer.eos_token_id


def test_matches_tell_which_photos_a_partial_caption_fits():
    def shoe(colour, gender):
        return Item("Casual Shoes", "Shoes", "Footwear", gender, colour, "Casual")

    truth = labels([shoe("Red", "Men"), shoe("Red", "Women"), shoe("Blue", "Women")])
    stated = [{"colour": "Red"}, {"gender": "Women", "colour": "Red"}, {"category": "Footwear"}]
    wanted = [[True, False, True], [True, True, True], [False, False, True]]
    assert matches(stated, truth).tolist() == wanted


def test_the_contrastive_loss_is_clips_where_each_photo_has_one_caption():
    torch.manual_seed(0)
    images, texts = F.normalize(torch.randn(5, 8)), F.normalize(torch.randn(5, 8))
    logits = 10 * images @ texts.T
    target = torch.arange(5)
    clip = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    ours = contrastive_loss(images, texts, torch.tensor(10.0), torch.eye(5, dtype=torch.bool))
    assert torch.allclose(ours, clip)


def test_an_untrained_clip_fails_where_the_shipped_one_succeeds(tmp_path):
    rng = random.Random(0)
    tokenizer = build_tokenizer(tmp_path, [caption(sample_item(rng), rng)[0] for _ in range(300)])
    CLIPImageProcessorPil.from_pretrained(CLIP).save_pretrained(tmp_path)
    torch.manual_seed(0)
    build_model(tokenizer).save_pretrained(tmp_path)
    untrained, shipped = (measure_clip(folder, n=80, train=40) for folder in (tmp_path, CLIP))
    assert untrained["zero_shot_captions"]["product_type"] < 0.4
    assert shipped["zero_shot_captions"]["product_type"] > 0.7
    assert np.isfinite(list(shipped["zero_shot"].values())).all()


@pytest.mark.parametrize("name", ["clip", "opt"])
def test_loading_needs_no_remote_code(name):
    config = (CHECKPOINTS / name / "config.json").read_text()
    assert "auto_map" not in config
