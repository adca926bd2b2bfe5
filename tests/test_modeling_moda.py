import json

import pytest
import torch
from tiny_moda import build, photo, save_opt
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    GPT2Config,
    LlamaConfig,
    OPTConfig,
)

from moda_utils.modeling_moda import ModaConfig, ModaForConditionalGeneration, ModaProcessor


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("moda")


@pytest.fixture(scope="module")
def parts(folder):
    model, processor = build(folder)
    return model.eval(), processor


def test_real_sizes_are_those_of_the_seed():
    with torch.device("meta"):  # sizes without memory
        model = ModaForConditionalGeneration(ModaConfig(CLIPVisionConfig(), OPTConfig()))
        clip = CLIPModel(CLIPConfig())
    assert model.projection[0].weight.shape == (3072, 512)
    assert parameters(model.projection) == 3_936_000
    assert parameters(model.language_model) == 125_239_296
    assert parameters(clip) == 151_277_313
    total = parameters(clip) + parameters(model.projection) + parameters(model.language_model)
    assert total == 280_452_609
    assert parameters(model) == 87_849_216 + 3_936_000 + 125_239_296  # 217 M are held


def test_backbones_come_with_their_weights_in_float32_and_only_the_encoder_is_frozen(folder, parts):
    model, _ = parts
    assert model.dtype == torch.float32
    stored = CLIPVisionModelWithProjection.from_pretrained(folder / "clip").state_dict()
    for name, weight in model.vision_model.state_dict().items():
        assert torch.equal(weight, stored[name]), name
    half = torch.load(folder / "opt" / "pytorch_model.bin", weights_only=True)
    for name, weight in model.language_model.state_dict().items():
        assert torch.equal(weight, half[name].float()), name
    assert model.language_model.lm_head.weight is model.get_input_embeddings().weight
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    assert frozen == {f"vision_model.{name}" for name, _ in model.vision_model.named_parameters()}


def test_empty_embeddings_are_refused(folder, tmp_path):
    opt = save_opt(tmp_path / "opt")
    weights = torch.load(opt / "pytorch_model.bin", weights_only=True)
    torch.save({name: weight * 0 for name, weight in weights.items()}, opt / "pytorch_model.bin")
    with pytest.raises(ValueError, match="empty embeddings"):
        ModaForConditionalGeneration.from_backbones(str(folder / "clip"), str(opt))


def test_image_embeddings_have_unit_variance_per_coordinate(parts):
    model, processor = parts
    pixels = processor(images=[photo("red"), photo("white")])["pixel_values"]
    embeds = model.encode_images(pixels)
    assert embeds.shape == (2, 24)
    torch.testing.assert_close(embeds.square().mean(dim=-1), torch.ones(2))
    raw = model.vision_model(pixels).image_embeds  # only the length changes
    torch.testing.assert_close(torch.cosine_similarity(embeds, raw), torch.ones(2))


def test_loss_is_the_shifted_cross_entropy_of_the_labelled_places(parts):
    model, processor = parts
    batch = processor(text=["Red shirt for men", "Blue shoes"])
    ids, mask = batch["input_ids"], batch["attention_mask"]
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, 0] = -100
    embeds = torch.randn(2, 24)
    output = model(ids, mask, labels, image_embeds=embeds)
    assert output.logits.shape == (2, 1 + ids.shape[1], model.config.text_config.vocab_size)

    wanted = []  # by hand: the logits at place p (the image is place 0) speak about token p
    for row in range(2):
        for place in range(ids.shape[1]):
            if labels[row, place] != -100:
                log_probs = output.logits[row, place].log_softmax(-1)
                wanted.append(-log_probs[labels[row, place]])
    torch.testing.assert_close(output.loss, torch.stack(wanted).mean())
    half = model(ids, mask, labels, image_embeds=embeds, num_items_in_batch=2 * len(wanted))
    torch.testing.assert_close(half.loss, output.loss / 2)


def test_padding_does_not_change_the_loss_of_a_description(parts):
    model, processor = parts
    embeds = torch.randn(2, 24)
    batch = processor(text=["Red", "Blue shirt for women"])
    alone = processor(text=["Red"])["input_ids"]
    length = alone.shape[1]
    padded = model(batch["input_ids"], batch["attention_mask"], image_embeds=embeds).logits
    single = model(alone, image_embeds=embeds[:1]).logits
    torch.testing.assert_close(padded[:1, : 1 + length], single)


def test_generate_equals_a_greedy_loop_from_pixels_and_from_embeddings(parts):
    model, processor = parts
    pixels = processor(images=[photo("red"), photo("green")])["pixel_values"]
    options = {"max_new_tokens": 6, "eos_token_id": None}
    generated = model.generate(pixel_values=pixels, **options)
    embeds = model.encode_images(pixels)
    assert torch.equal(generated, model.generate(image_embeds=embeds, **options))

    ids = torch.full((2, 1), model.config.end_token_id)
    for _ in range(6):
        following = model(ids, image_embeds=embeds).logits[:, -1].argmax(-1, keepdim=True)
        ids = torch.cat([ids, following], dim=1)
    assert torch.equal(generated, ids[:, 1:])


def test_pixels_or_embeddings_but_not_none_or_both(parts):
    model, _ = parts
    with pytest.raises(ValueError, match="pixel_values or image_embeds"):
        model.generate()
    with pytest.raises(ValueError, match="pixel_values or image_embeds"):
        model(torch.tensor([[2]]), image_embeds=torch.zeros(1, 24), pixel_values=torch.zeros(1))


def test_round_trip_through_the_auto_classes(parts, tmp_path):
    model, processor = parts
    model.config.trained_on = "drawn"
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert isinstance(loaded, ModaForConditionalGeneration)
    assert loaded.config.trained_on == "drawn"
    assert loaded.config.text_config.model_type == "opt"
    assert loaded.generation_config.max_new_tokens == 40
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name
    assert loaded.language_model.lm_head.weight is loaded.get_input_embeddings().weight

    again = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(again, ModaProcessor)
    old, new = (one(images=photo(), text="Red shirt") for one in (processor, again))
    for name in ("pixel_values", "input_ids", "attention_mask"):
        assert torch.equal(old[name], new[name]), name


def test_half_precision_weights_load_as_float32_when_asked(parts, tmp_path):
    model, _ = parts
    state = {name: weight.half() for name, weight in model.state_dict().items()}
    model.save_pretrained(tmp_path, state_dict=state)
    config = json.loads((tmp_path / "config.json").read_text())
    for stored_as in ("float16", "float32"):
        (tmp_path / "config.json").write_text(json.dumps(config | {"dtype": stored_as}))
        loaded = ModaForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32)
        assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
        rounded = model.projection[0].weight.half().float()
        assert torch.equal(loaded.projection[0].weight, rounded)


def test_processor_marks_both_ends_and_undoes_itself(parts):
    _, processor = parts
    batch = processor(text=["Red shirt for men", "Red"])
    end, pad = processor.tokenizer.eos_token_id, processor.tokenizer.pad_token_id
    assert (end, pad) == (2, 1)
    long, short = batch["input_ids"].tolist()
    assert long[0] == long[-1] == end and long.count(end) == 2
    assert short[:3:2] == [end, end] and set(short[3:]) == {pad}
    assert batch["attention_mask"].tolist() == [[1] * len(long), [1] * 3 + [0] * (len(long) - 3)]
    texts = processor.batch_decode(batch["input_ids"], skip_special_tokens=True)
    assert texts == ["Red shirt for men", "Red"]


@pytest.mark.parametrize(
    "text_config",
    [
        LlamaConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            vocab_size=50,
        ),
        GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=50, eos_token_id=0, bos_token_id=0),
        OPTConfig(  # like opt-350m: word embeddings are narrower than the layers
            hidden_size=32,
            word_embed_proj_dim=16,
            ffn_dim=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            vocab_size=50,
            max_position_embeddings=32,
            do_layer_norm_before=False,
        ),
    ],
    ids=["llama", "gpt2", "opt-350m"],
)
def test_any_causal_language_model_can_be_the_decoder(text_config, tmp_path):
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
        projection_dim=24,
    )
    model = ModaForConditionalGeneration(ModaConfig(vision, text_config)).eval()
    embeds, ids = torch.randn(2, 24), torch.tensor([[2, 7, 2], [2, 9, 2]])
    model(ids, labels=ids, image_embeds=embeds).loss.backward()
    assert model.projection[0].weight.grad.abs().sum() > 0
    model.save_pretrained(tmp_path)
    loaded = ModaForConditionalGeneration.from_pretrained(tmp_path)
    options = {"max_new_tokens": 3, "pad_token_id": 1}
    torch.testing.assert_close(
        loaded(ids, image_embeds=embeds).logits, model(ids, image_embeds=embeds).logits
    )
    assert torch.equal(
        loaded.generate(image_embeds=embeds, **options),
        model.generate(image_embeds=embeds, **options),
    )


def test_the_language_model_is_opt_itself(folder, parts):
    """Without the image, MODA's decoder gives OPT's own logits: nothing stands in between."""
    model, processor = parts
    opt = AutoModelForCausalLM.from_pretrained(folder / "opt", dtype=torch.float32).eval()
    ids = processor(text="Red shirt")["input_ids"]
    torch.testing.assert_close(model.language_model(ids).logits, opt(ids).logits)
