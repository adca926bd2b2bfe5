"""A MODA of a few thousand weights, with a real tokenizer and real files, for the tests."""

from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from shop import shop_row, write_shop
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    GPT2Tokenizer,
    OPTConfig,
    OPTForCausalLM,
)

from moda_utils.dataset import build_catalog
from moda_utils.features import Examples
from moda_utils.modeling_moda import ModaForConditionalGeneration, ModaProcessor
from moda_utils.profiles import Checkpoint, Profile, get_profile
from moda_utils.training import TrainConfig, train

COLOURS = ("Red", "Blue", "Green", "White", "Black", "Pink")
THINGS = ("shirt", "casual summer shoes", "dress with a bow", "shorts")  # of several lengths
PEOPLE = ("men", "women", "boys", "girls")
DESCRIPTIONS = [f"{c} {t} for {p}" for c in COLOURS for t in THINGS for p in PEOPLE]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def save_clip(folder: Path, seed: int = 0) -> Path:
    """A random CLIP with both towers, as its big sister is stored: float32, preprocessor beside."""
    torch.manual_seed(seed)
    tower = SIZES | {"intermediate_size": 64}
    config = CLIPConfig(
        vision_config=tower | {"image_size": 32, "patch_size": 16, "projection_dim": 24},
        text_config=tower | {"vocab_size": 99, "projection_dim": 24},
        projection_dim=24,
    )
    CLIPModel(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    return folder


def save_tokenizer(folder: Path) -> int:
    """A byte-level BPE with OPT's special ids, in OPT's two files; returns its vocabulary size."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(DESCRIPTIONS, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.model.save(str(folder))
    GPT2Tokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        unk_token="</s>",
        bos_token="</s>",
        eos_token="</s>",
        pad_token="<pad>",
    ).save_pretrained(folder)
    (folder / "tokenizer.json").unlink()  # the real repository has none
    return tokenizer.get_vocab_size()


def save_opt(folder: Path, seed: int = 1) -> Path:
    """A random OPT as the real one is stored: `pytorch_model.bin` in float16, no safetensors."""
    vocabulary = save_tokenizer(folder)
    torch.manual_seed(seed)
    config = OPTConfig(
        **SIZES,
        ffn_dim=64,
        word_embed_proj_dim=32,
        vocab_size=vocabulary,
        max_position_embeddings=64,
        dropout=0.0,
    )
    model = OPTForCausalLM(config).half()
    model.config.dtype = torch.float16
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


def build(folder: Path) -> tuple[ModaForConditionalGeneration, ModaProcessor]:
    """A fresh tiny MODA and its processor; the projection is the same at every call."""
    clip, opt = folder / "clip", folder / "opt"
    if not clip.exists():
        save_clip(clip), save_opt(opt)
    torch.manual_seed(2)
    return (
        ModaForConditionalGeneration.from_backbones(str(clip), str(opt)),
        ModaProcessor.from_backbones(str(clip), str(opt)),
    )


def photo(colour: str = "red", size: tuple[int, int] = (48, 64)) -> Image.Image:
    return Image.new("RGB", size, colour)


def shop_profile(folder: Path) -> Profile:
    """A profile with these parts (the encoder has 4 patches) and a shop of 60 coloured squares."""
    build(folder)
    kinds = ({}, {"Colour": "Blue", "Usage": "Sports"}, {"ProductType": "Shirts"})
    write_shop(folder / "shop", [shop_row(number, **kinds[number % 3]) for number in range(60)])
    vision, language = Checkpoint(str(folder / "clip")), Checkpoint(str(folder / "opt"))
    mini = replace(get_profile("mini"), vision=vision, language=language, home=folder / "home")
    small = {"epochs": 2, "batch_size": 8, "accumulation": 2, "data_source": str(folder / "shop")}
    profile = replace(mini, data_label="real", **small)
    build_catalog(profile)
    return profile


SAYS = {"red": "Red shirt for men", "blue": "Blue dress with a bow", "lime": "Green shorts"}


def teach(folder: Path) -> Path:
    """`best/` of a tiny MODA that has learnt three photos by heart (see `SAYS`)."""
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
