"""Phi-3 Vision against the numbers of the original code, and against itself in batches."""

import json
import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

from moda_utils.device import load_checkpoint
from moda_utils.phi3_vision import (
    Phi3VisionConfig,
    Phi3VisionForConditionalGeneration,
    Phi3VisionImageProcessor,
    Phi3VisionProcessor,
)
from moda_utils.profiles import ROOT, Checkpoint

DATA = Path(__file__).parent / "data" / "phi3_vision"
STORED_PIXELS = ROOT.parent / "shared" / "phi3_vision" / "golden"
EXPECTED = json.loads((DATA / "expected.json").read_text())
PHOTOS = ("wide", "tall", "square")
NO_STOP = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}


@cache
def arrays() -> dict[str, torch.Tensor]:
    return load_file(DATA / "expected.safetensors")


@cache
def model(config: str = "config.json") -> Phi3VisionForConditionalGeneration:
    loaded = Phi3VisionForConditionalGeneration.from_pretrained(
        DATA, config=Phi3VisionConfig.from_json_file(DATA / config)
    )
    return loaded.eval()


@cache
def tiles(photo: str) -> tuple[torch.Tensor, tuple[int, int]]:
    with Image.open(DATA / f"{photo}.png") as image:
        return Phi3VisionImageProcessor(num_crops=4)(image)


def inputs(case: str, photos: list[str], half: bool = True) -> dict[str, torch.Tensor]:
    """The case's ids and its photos; rounded to float16 as the reference's pixels were."""
    ids = arrays()[f"{case}.input_ids"].long()[None]
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if photos:
        pixels = [tiles(photo)[0] for photo in photos]
        pixels = torch.nn.utils.rnn.pad_sequence(pixels, batch_first=True)
        batch["pixel_values"] = pixels.half().float() if half else pixels
        batch["image_grids"] = torch.tensor([tiles(photo)[1] for photo in photos])
    return batch


def close(actual: torch.Tensor, expected: torch.Tensor, atol: float = 1e-4) -> None:
    torch.testing.assert_close(actual, expected, atol=atol, rtol=0)


# Photos to tiles


@pytest.mark.parametrize("photo", PHOTOS)
def test_tiles_have_the_reference_means_and_pixels(photo):
    pixels, grid = tiles(photo)
    expected = EXPECTED[photo]
    assert pixels.dtype == torch.float32
    assert len(pixels) == expected["num_real_tiles"] == 1 + grid[0] * grid[1]
    assert [336 * grid[0], 336 * grid[1]] == expected["image_sizes_hw"][0]
    close(pixels.double().mean((1, 2, 3)), torch.tensor(expected["tile_mean_fp64"]).double(), 1e-5)
    close(pixels.double().std((1, 2, 3)), torch.tensor(expected["tile_std_fp64"]).double(), 1e-4)
    close(pixels[:, :, 0, 0], torch.tensor(expected["tile_first_pixel_rgb"]), 1e-5)
    close(pixels[:, :, 168, 168], torch.tensor(expected["tile_center_rgb"]), 1e-5)


@pytest.mark.parametrize("photo", PHOTOS)
def test_tiles_equal_the_stored_pixels(photo):
    stored = STORED_PIXELS / f"{photo}.pixels.safetensors"
    if not stored.exists():
        pytest.skip("the reference's pixels (8 MB) are not part of the repository")
    pixels = load_file(stored)["pixel_values"]
    close(tiles(photo)[0], pixels.float(), 2e-3)
    # So the float16 pixels that the other tests feed are the reference's, but for a last bit.
    assert (tiles(photo)[0].half() != pixels).float().mean() < 1e-3


def test_token_counts():
    table = json.loads((DATA / "token_counts.json").read_text())
    assert len(table) > 20
    for row in table:
        processor = Phi3VisionImageProcessor(num_crops=row["num_crops"])
        rows, columns = processor.grid(row["w"], row["h"])
        assert [336 * columns, 336 * rows] == row["padded_wh"]
        assert processor.num_tokens(rows, columns) == row["tokens"]


def test_tiles_of_another_size():
    processor = Phi3VisionImageProcessor(num_crops=1, tile_size=112, patch_size=14)
    pixels, grid = processor(Image.new("L", (168, 224), 255))
    assert pixels.shape == (2, 3, 112, 112)
    assert grid == (1, 1)
    assert processor.num_tokens(*grid) == 4 * 5 + 1 + 4 * 5


def test_unusable_photo_and_settings():
    with pytest.raises(ValueError, match="1400 x 1 is too thin"):
        Phi3VisionImageProcessor(num_crops=4)(Image.new("RGB", (1400, 1)))
    with pytest.raises(ValueError, match="at least 1"):
        Phi3VisionImageProcessor(num_crops=0)
    with pytest.raises(ValueError, match="two patches"):
        Phi3VisionImageProcessor(tile_size=100, patch_size=14)


# Prompts to ids


@cache
def real_tokenizer() -> PreTrainedTokenizerFast:
    """The few entries of the public tokenizer that the recorded ids use, at their real places."""
    pieces = {"Sum": 11139, "mar": 3034, "ize": 675, "▁the": 278, "▁deck": 19810, "▁of": 310}
    pieces |= {"▁sl": 2243, "ides": 2247, ".": 29889, "▁": 29871, "<0x0A>": 13}
    special = {"<unk>": 0, "<s>": 1, "</s>": 2, "<|endoftext|>": 32000, "<|assistant|>": 32001}
    special |= {"<|end|>": 32007, "<|user|>": 32010}
    names = {number: name for name, number in (pieces | special).items()}
    vocabulary = [(names.get(i, f"unused{i}"), -1.0 if i in names else -99.0) for i in range(32064)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    tokenizer.add_special_tokens(
        [AddedToken(name, rstrip=name == "<|assistant|>", special=True) for name in special]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def run_lengths(ids: list[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for number in ids:
        if runs and runs[-1][0] == number:
            runs[-1][1] += 1
        else:
            runs.append([number, 1])
    return runs


def test_prompt_ids_equal_those_of_the_real_processor():
    recorded = json.loads((DATA / "real_prompt_ids.json").read_text())
    processor = Phi3VisionProcessor(Phi3VisionImageProcessor(num_crops=4), real_tokenizer())
    assert processor.stop_ids == [2, 32000, 32001, 32007]
    assert processor.pad_id == 32000
    slides = [Image.new("RGB", (2048, 1152)), Image.new("RGB", (2048, 1152))]
    pairs = []
    for case, photos in (("two_images", slides), ("text_only", None)):
        (message,) = recorded[case]["messages"]
        pairs.append((f"<|user|>\n{message['content']}<|end|>\n<|assistant|>\n", photos))
    batch = processor(pairs)
    two, text = batch["input_ids"].tolist()
    assert run_lengths(two) == recorded["two_images"]["input_ids_run_length"]
    padding, *runs = run_lengths(text)
    assert padding[0] == 32000
    assert runs == recorded["text_only"]["input_ids_run_length"]
    assert batch["attention_mask"].sum(1).tolist() == [len(two), len(two) - padding[1]]
    assert batch["attention_mask"][1, : padding[1]].sum() == 0
    assert batch["pixel_values"].shape == (2, 5, 3, 336, 336)
    assert batch["image_grids"].tolist() == [[2, 2], [2, 2]]
    assert processor.batch_decode([text]) == ["\nSummarize the deck of slides. \n"]


@pytest.mark.parametrize("tags", ["", "<|image_2|>", "<|image_1|><|image_1|>"])
def test_tags_must_match_the_photos(tags):
    processor = Phi3VisionProcessor(Phi3VisionImageProcessor(num_crops=1), real_tokenizer())
    with pytest.raises(ValueError, match="once each and in this order"):
        processor([(f"<|user|>{tags}", Image.new("RGB", (30, 30)))])


def test_tokenizer_without_stop_tokens_is_refused():
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.Unigram([("a", -1.0)])))
    with pytest.raises(ValueError, match=r"lacks </s>, .*not one of Phi-3 Vision"):
        Phi3VisionProcessor(Phi3VisionImageProcessor(), bare)


def test_processor_save_and_load(tmp_path):
    image_processor = Phi3VisionImageProcessor(num_crops=2, tile_size=112)
    Phi3VisionProcessor(image_processor, real_tokenizer()).save_pretrained(tmp_path)
    loaded = Phi3VisionProcessor.from_pretrained(tmp_path)
    assert vars(loaded.image_processor) == vars(image_processor)
    pair = ("<|user|>\n<|image_1|>\nSummarize<|end|>\n<|assistant|>\n", Image.new("RGB", (9, 9)))
    original = Phi3VisionProcessor(image_processor, real_tokenizer())([pair])
    assert torch.equal(loaded([pair])["input_ids"], original["input_ids"])
    assert Phi3VisionProcessor.from_pretrained(tmp_path, num_crops=7).image_processor.num_crops == 7


# Model: the reference's numbers


@pytest.mark.parametrize("photo", PHOTOS)
@torch.no_grad()
def test_logits_from_photos(photo):
    logits = model()(**inputs(photo, [photo], half=False)).logits
    close(logits[0, -1], arrays()[f"{photo}.logits_last_from_png"])


CASES = [("text", []), ("multi_wide_tall", ["wide", "tall"])]
CASES += [(photo + kind, [photo]) for photo in PHOTOS for kind in ("", "_longrope")]


@pytest.mark.parametrize(("case", "photos"), CASES)
@torch.no_grad()
def test_logits_and_greedy_continuation(case, photos):
    phi3 = model("config_longrope.json" if case.endswith("longrope") else "config.json")
    batch = inputs(case, photos)
    logits = phi3(**batch).logits[0]
    close(logits[-1], arrays()[f"{case}.logits_last"])
    close(logits[EXPECTED[case]["sel_positions"]], arrays()[f"{case}.logits_sel"])
    assert torch.equal(logits.argmax(-1).int(), arrays()[f"{case}.argmax_all"])
    generated = phi3.generate(**batch, **NO_STOP, max_new_tokens=8)
    assert generated[0, logits.shape[0] :].tolist() == EXPECTED[case]["greedy_generate"]


@pytest.mark.parametrize("photo", PHOTOS)
@torch.no_grad()
def test_clip_features_and_decoder_input(photo):
    batch = inputs(photo, [photo])
    features = model().model.vision_embed_tokens.encode(batch["pixel_values"][0])
    for tile in (0, 1):
        rows = features[tile, [0, 1, 2, 3, 574, 575]]
        close(rows, arrays()[f"{photo}.clip_feat_tile{tile}_first4_last2"])
    del batch["attention_mask"]
    embeddings = model().embed(**batch)[0, EXPECTED[photo]["sel_positions"]]
    close(embeddings, arrays()[f"{photo}.embeds_sel"])


@torch.no_grad()
def test_left_padded_batch_equals_single_rows():
    rows = EXPECTED["batch"]["rows"]  # wide, square, text
    singles = [inputs(row, [row] if row in PHOTOS else []) for row in rows]
    longest = max(single["input_ids"].shape[1] for single in singles)
    ids, mask = (
        torch.cat([_pad_left(single[name], longest) for single in singles])
        for name in ("input_ids", "attention_mask")
    )
    batch = inputs("wide", ["wide", "square"]) | {"input_ids": ids, "attention_mask": mask}
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model()(**batch, position_ids=positions).logits
    for row, single in enumerate(singles):
        close(logits[row, -1], arrays()[f"{rows[row]}.logits_last"])
        length = single["input_ids"].shape[1]
        close(logits[row, -length:], model()(**single).logits[0])
    generated = model().generate(**batch, **NO_STOP, max_new_tokens=8)
    assert generated[:, longest:].tolist() == EXPECTED["batch"]["greedy_generate"]


def _pad_left(row: torch.Tensor, length: int) -> torch.Tensor:
    return torch.nn.functional.pad(row, (length - row.shape[1], 0))


@torch.no_grad()
def test_rotary_switch_while_decoding():
    phi3 = model("config_longrope.json")
    generated = phi3.generate(**inputs("rope_switch", []), **NO_STOP, max_new_tokens=10)
    assert generated[0, 508:].tolist() == EXPECTED["rope_switch"]["full_recompute_each_step"]


@torch.no_grad()
def test_rotary_switch_needs_the_photo_again():
    phi3 = model("config_longrope.json")
    photo, grid = Phi3VisionImageProcessor(num_crops=1)(Image.open(DATA / "wide.png"))
    ids = torch.cat([torch.full((1, 313), -1), torch.arange(4, 199)[None]], dim=1)  # 508 ids
    vision = {"pixel_values": photo[None], "image_grids": torch.tensor([grid])}
    mask = torch.ones_like(ids)
    generated = phi3.generate(ids, attention_mask=mask, **vision, **NO_STOP, max_new_tokens=9)
    recomputed = ids
    for _ in range(9):
        best = phi3(recomputed, **vision).logits[:, -1:].argmax(-1)
        recomputed = torch.cat([recomputed, best], dim=1)
    assert generated.tolist() == recomputed.tolist()


@torch.no_grad()
def test_several_answers_per_photo():
    """Generation repeats each prompt; its photo has to follow it."""
    batch = inputs("wide", ["wide", "square"])
    ids = [arrays()[f"{photo}.input_ids"].long()[None] for photo in ("wide", "square")]
    batch["input_ids"] = torch.cat([_pad_left(row, 766) for row in ids])
    batch["attention_mask"] = torch.cat([_pad_left(torch.ones_like(row), 766) for row in ids])
    sampling = {"do_sample": True, "top_k": 1, "num_return_sequences": 2}
    generated = model().generate(**batch, **NO_STOP | sampling, max_new_tokens=4)[:, 766:].tolist()
    wide, square = (EXPECTED[photo]["greedy_generate"][:4] for photo in ("wide", "square"))
    assert generated == [wide, wide, square, square]


def test_photos_must_match_the_ids():
    with pytest.raises(ValueError, match="601 places .* make 757 vectors"):
        model()(**inputs("wide", ["square"]))
    with pytest.raises(ValueError, match="601 places .* make 0 vectors"):
        model()(**inputs("wide", []))


# Checkpoints


def original_name(name: str) -> str:
    """transformers leaves out one level of CLIP's names in memory, and puts it back in files."""
    return name.replace(".img_processor.", ".img_processor.vision_model.")


def real_config(name: str) -> dict:
    return json.loads((DATA / "real_configs.json").read_text())[name]


@pytest.mark.parametrize("name", ["phi_3_vision_128k_instruct", "phi_3_5_vision_instruct"])
def test_public_checkpoints_by_name_and_shape(name, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(real_config(name)))
    config = Phi3VisionConfig.from_pretrained(tmp_path)
    with torch.device("meta"):
        phi3 = Phi3VisionForConditionalGeneration(config)
    shapes = {original_name(key): list(value.shape) for key, value in phi3.state_dict().items()}
    expected = json.loads((DATA / "keys_full.json").read_text())
    assert len(expected) == 593
    del expected["model.vision_embed_tokens.wte.weight"]  # alias of model.embed_tokens.weight
    assert shapes == expected
    assert phi3.num_parameters() == 4_146_621_440
    assert phi3.config._attn_implementation == "sdpa"
    assert phi3.model.vision_embed_tokens.img_processor.config.hidden_act == "quick_gelu"


@pytest.mark.parametrize("name", ["phi_3_vision_128k_instruct", "phi_3_5_vision_instruct"])
def test_public_rotary_factors(name):
    fields = real_config(name)
    rotary = Phi3RotaryEmbedding(Phi3VisionConfig(**fields))
    steps = 10000 ** (torch.arange(0, 96, 2) / 96)
    for length, factor in ((4096, "short_factor"), (4097, "long_factor")):
        cos, _ = rotary(torch.zeros(1), torch.tensor([[0, length - 1]]))
        expected = (length - 1) / (torch.tensor(fields["rope_scaling"][factor]) * steps)
        close(cos[0, 1, :48], expected.cos() * 1.19023807, 2e-3)
        assert cos[0, 0, 0].item() == pytest.approx(1.19023807)


def _copy(folder: Path, weights: dict[str, torch.Tensor] | None = None) -> Path:
    shutil.copyfile(DATA / "config.json", folder / "config.json")
    if weights is None:
        shutil.copyfile(DATA / "model.safetensors", folder / "model.safetensors")
    else:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_save_in_the_original_layout(tmp_path):
    half = Phi3VisionForConditionalGeneration.from_pretrained(DATA, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    half.save_pretrained(tmp_path, max_shard_size="200KB")
    shards = sorted(tmp_path.glob("model-*-of-*.safetensors"))
    assert len(shards) > 2
    original = load_file(DATA / "model.safetensors")
    saved = {}
    for shard in shards:
        with safe_open(shard, "pt") as file:
            saved |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert saved.keys() == original.keys()
    assert all(torch.equal(saved[key], original[key].bfloat16()) for key in original)
    written = json.loads((tmp_path / "config.json").read_text())
    for field, value in json.loads((DATA / "config.json").read_text()).items():
        if field not in ("architectures", "clip_vision_config"):
            assert written[field] == value, field
    assert "rope_parameters" not in written
    again = Phi3VisionForConditionalGeneration.from_pretrained(tmp_path, device_map="cpu")
    assert again.dtype == torch.bfloat16  # as stored
    assert all(
        torch.equal(value, again.state_dict()[key]) for key, value in half.state_dict().items()
    )


def test_public_files_load_without_remote_code_and_extra_packages(tmp_path):
    """What the public files hold and the tiny ones lack: remote code, flash-attn, an alias."""
    weights = load_file(DATA / "model.safetensors")
    alias = weights["model.embed_tokens.weight"].clone()
    _copy(tmp_path, weights | {"model.vision_embed_tokens.wte.weight": alias})
    real = real_config("phi_3_vision_128k_instruct")
    assert real["_attn_implementation"] == "flash_attention_2"
    fields = json.loads((tmp_path / "config.json").read_text())
    fields |= {name: real[name] for name in ("_attn_implementation", "auto_map", "_name_or_path")}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    loaded = Phi3VisionForConditionalGeneration.from_pretrained(tmp_path)
    assert loaded.config._attn_implementation == "sdpa"
    assert torch.equal(loaded.model.embed_tokens.weight, alias)
    with torch.no_grad():
        close(loaded(**inputs("text", [])).logits[0, -1], arrays()["text.logits_last"])


def test_missing_and_unexpected_weights(tmp_path):
    weights = load_file(DATA / "model.safetensors")
    lost = weights.pop("model.vision_embed_tokens.sub_GN")
    with pytest.raises(ValueError, match=r"1 missing keys, such as .*sub_GN"):
        Phi3VisionForConditionalGeneration.from_pretrained(_copy(tmp_path, weights))
    weights |= {"model.vision_embed_tokens.sub_GN": lost, "model.extra": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"1 unexpected keys, such as model\.extra"):
        Phi3VisionForConditionalGeneration.from_pretrained(_copy(tmp_path, weights))


def test_cut_weight_file(tmp_path):
    file = _copy(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"weight file .* is damaged .*delete it and load again"):
        Phi3VisionForConditionalGeneration.from_pretrained(tmp_path)


def test_missing_files(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for loader in (Phi3VisionForConditionalGeneration, Phi3VisionProcessor):
        with pytest.raises(OSError, match="nobody/nothing can't be loaded"):
            load_checkpoint(loader, Checkpoint("nobody/nothing", "main"))
    shutil.copyfile(DATA / "config.json", tmp_path / "config.json")
    with pytest.raises(OSError, match=r"model\.safetensors"):
        load_checkpoint(Phi3VisionForConditionalGeneration, str(tmp_path))
    with pytest.raises(OSError, match=r"preprocessor_config\.json"):
        load_checkpoint(Phi3VisionProcessor, str(tmp_path))
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(OSError, match=r"tokenizer\.json"):
        load_checkpoint(Phi3VisionProcessor, str(tmp_path))


# Training


def test_mini_model_learns_from_photos():
    """Loss falls only if the photo gets through: the prompt is the same for both answers."""
    torch.manual_seed(0)
    config = Phi3VisionConfig(
        vocab_size=20,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        pad_token_id=0,
        clip_vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 56,
            "patch_size": 14,
        },
        img_processor={"name": "clip_vision_model", "image_dim_out": 16},
    )
    phi3 = Phi3VisionForConditionalGeneration(config)
    processor = Phi3VisionImageProcessor(num_crops=1, tile_size=56)
    photos = [processor(Image.new("RGB", (40, 50), colour)) for colour in ("red", "blue")]
    places = processor.num_tokens(1, 1)
    ids = torch.tensor([[1, *[-1] * places, 5, answer, 2] for answer in (7, 8)])
    labels = ids.clone()
    labels[:, : places + 2] = -100
    batch = {
        "input_ids": ids,
        "labels": labels,
        "pixel_values": torch.stack([pixels for pixels, _ in photos]),
        "image_grids": torch.tensor([grid for _, grid in photos]),
    }
    optimizer = torch.optim.AdamW(phi3.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        loss = phi3(**batch).loss
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05  # without the photo it can't fall below ln(2) / 2 = 0.35
    unused = {name for name, value in phi3.named_parameters() if value.grad is None}
    tower = "model.vision_embed_tokens.img_processor"
    assert all(name.startswith((f"{tower}.encoder.layers.2", f"{tower}.post")) for name in unused)
    assert phi3.model.vision_embed_tokens.sub_GN.grad.abs().sum() > 0


def test_attention_of_the_whole_model_can_be_chosen():
    eager = Phi3VisionForConditionalGeneration.from_pretrained(DATA, attn_implementation="eager")
    tower = eager.model.vision_embed_tokens.img_processor
    assert eager.config._attn_implementation == tower.config._attn_implementation == "eager"
    batch = inputs("wide", ["wide"])
    with torch.no_grad():
        close(eager(**batch).logits, model()(**batch).logits)
