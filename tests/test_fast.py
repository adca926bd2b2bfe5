"""The fast path says what `generate` says: with float32 exactly, with int8 in its own rounding."""

import json
import shutil

import pytest
import torch
from tiny_moda import SAYS, build, photo, teach
from transformers import AutoModelForCausalLM

from moda_utils.fast import FastModa, Int8Linear, int8_works
from moda_utils.modeling_moda import ModaConfig, ModaForConditionalGeneration, ModaProcessor
from moda_utils.profiles import CHECKPOINTS

needs_int8 = pytest.mark.skipif(not int8_works(), reason="this torch has no int8 kernels here")


@pytest.fixture(scope="module")
def best(tmp_path_factory):
    return teach(tmp_path_factory.mktemp("moda"))


@pytest.fixture(scope="module")
def model(best):
    return ModaForConditionalGeneration.from_pretrained(best, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def pixels(best):
    colours = [*SAYS, "white", "black", "navy", "#808080", "#ff00ff"]
    return ModaProcessor.from_pretrained(best)(images=[photo(c) for c in colours])["pixel_values"]


def reference(model, pixels, length):
    return model.generate(pixel_values=pixels, max_new_tokens=length, do_sample=False)


@pytest.mark.parametrize("length", [1, 2, 5, 30])
def test_float32_gives_the_ids_of_generate(best, model, pixels, length):
    for fast in (FastModa.from_folder(best, int8=False), FastModa.from_model(model, int8=False)):
        for rows in (pixels[:1], pixels):
            ids = fast.generate(fast.encode_images(rows), max_new_tokens=length)
            assert torch.equal(ids, reference(model, rows, length))


def test_ids_are_those_of_generate_where_texts_are_nonsense(best, model):
    """Embeddings that no photo has: texts that never end, of other lengths in one batch."""
    fast = FastModa.from_model(model, int8=False)
    embeds = 3 * torch.randn(64, 24, generator=torch.manual_seed(0))
    expected = model.generate(image_embeds=embeds, max_new_tokens=40, do_sample=False)
    assert len({tuple(row) for row in expected.tolist()}) > 3
    cut = set(model.config.output_tokens)
    said = {int(token) for row in expected for token in row} - {1}  # 1 fills what ended early
    assert said <= cut, "a token was needed that the cut takes away"
    assert torch.equal(fast.generate(embeds, max_new_tokens=40), expected)


def test_ids_are_those_of_generate_with_the_shipped_models():
    """Joined by an untrained projection they talk nonsense, to the last place allowed."""
    model = ModaForConditionalGeneration.from_backbones(
        str(CHECKPOINTS / "clip"), str(CHECKPOINTS / "opt")
    ).eval()
    fast = FastModa.from_model(model, int8=False)
    width = model.config.vision_config.projection_dim
    embeds = 2 * torch.randn(64, width, generator=torch.manual_seed(0))
    expected = model.generate(image_embeds=embeds, max_new_tokens=30, do_sample=False)
    assert torch.equal(fast.generate(embeds, max_new_tokens=30), expected)


def test_training_notes_the_tokens_and_only_they_can_be_said(best):
    config = ModaConfig.from_pretrained(best)
    tokenizer = ModaProcessor.from_pretrained(best).tokenizer
    used = {
        i for text in SAYS.values() for i in tokenizer(text, add_special_tokens=False).input_ids
    }
    assert set(config.output_tokens) == used | {config.end_token_id}
    fast = FastModa.from_folder(best, int8=False)
    ids = fast.generate(5 * torch.randn(64, 24, generator=torch.manual_seed(1)), max_new_tokens=20)
    assert set(ids.flatten().tolist()) <= {*config.output_tokens, config.text_config.pad_token_id}


def test_without_that_note_all_tokens_stay(best, model, pixels, tmp_path):
    """As of a model that was trained before tokens were noted."""
    shutil.copytree(best, tmp_path / "old")
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    del config["output_tokens"]
    (tmp_path / "old" / "config.json").write_text(json.dumps(config))
    fast = FastModa.from_folder(tmp_path / "old", int8=False)
    assert len(fast._words) == model.config.text_config.vocab_size
    ids = fast.generate(fast.encode_images(pixels), max_new_tokens=30)
    assert torch.equal(ids, reference(model, pixels, 30))


def test_a_text_stops_at_the_last_place_that_the_model_has(best, model):
    fast = FastModa.from_model(model, int8=False)
    fast._end = -1  # never ends
    assert fast.generate(torch.randn(2, 24), max_new_tokens=500).shape == (2, 63)  # 64 places
    assert fast.generate(torch.randn(2, 24), max_new_tokens=0).shape == (2, 0)


@needs_int8
def test_int8_layer_is_near_the_float32_one_and_treats_rows_one_by_one():
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(96, 200), torch.randn(7, 96) * torch.logspace(-3, 3, 7)[:, None]
    small = Int8Linear(layer.weight.detach(), layer.bias.detach())
    with torch.inference_mode():
        error = (small(x) - layer(x)).norm(dim=1) / (layer(x) - layer.bias).norm(dim=1)
        assert error.max() < 0.03
        assert torch.equal(small(x[2:3]), small(x)[2:3])  # neighbours change nothing
        assert torch.equal(small(x.view(1, 7, 96)), small(x).view(1, 7, 200))
        assert torch.equal(small(torch.zeros(1, 96))[0], layer.bias)


@needs_int8
def test_int8_says_the_same_and_a_photo_alone_what_it_says_in_company(best, pixels):
    fast = FastModa.from_folder(best)
    processor = ModaProcessor.from_pretrained(best)
    ids = fast.generate(fast.encode_images(pixels), max_new_tokens=30)
    texts = processor.batch_decode(ids, skip_special_tokens=True)
    assert texts[:3] == list(SAYS.values())
    for number, row in enumerate(pixels):
        alone = fast.generate(fast.encode_images(row[None]), max_new_tokens=30)
        assert processor.batch_decode(alone, skip_special_tokens=True) == [texts[number]]


def test_another_language_model_is_refused(tmp_path):
    config = build(tmp_path)[0].config
    assert FastModa.fits(config)
    other = AutoModelForCausalLM.from_config(
        ModaConfig(
            text_config={"model_type": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 2}
        ).text_config
    )
    config = ModaConfig(vision_config=config.vision_config, text_config=other.config)
    assert not FastModa.fits(config)
    with pytest.raises(ValueError, match="knows OPT, not gpt2"):
        FastModa(config, read=lambda name: torch.empty(0))
