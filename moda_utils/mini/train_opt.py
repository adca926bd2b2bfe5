"""mini-OPT: the architecture of OPT-125M in small, a language model that knows fashion sentences.

Stored as the real repository is: float16 `pytorch_model.bin`, `vocab.json` and `merges.txt`, no
tokenizer.json. The same traps lie in it: `</s>` both begins and ends a text, padding is 1.
"""

import json
import math
import random
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm
from transformers import AutoTokenizer, OPTConfig, OPTForCausalLM

from ..storage import atomic_dir, write_json
from .compute import BAR, autocast
from .items import sample_item
from .wording import describe

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # ids 0 to 3, as in OPT
VOCAB_SIZE = 1200
WIDTH = 192

# The values of the real catalogue: its words must be cheap to write, although few are ever drawn.
TYPES = (
    "blazers", "booties", "capris", "casual shoes", "churidar", "clothing set", "dresses", "flats",
    "flip flops", "formal shoes", "heels", "innerwear vests", "jackets", "jeans", "kurta sets",
    "kurtas", "leggings", "lehenga choli", "rompers", "salwar", "sandals", "shirts", "shorts",
    "skirts", "sports sandals", "sports shoes", "sweatshirts", "tops", "trousers", "tshirts",
    "waistcoat", "T-shirt", "shirt", "dress", "top", "skirt", "kurta", "jacket", "blazer", "romper",
    "sweatshirt", "vest", "waistcoats", "shoes", "sneakers", "boots",
)  # fmt: skip
COLOURS = (
    "beige", "black", "blue", "bronze", "brown", "burgundy", "charcoal", "coffee brown", "copper",
    "cream", "fluorescent green", "gold", "green", "grey", "grey melange", "khaki", "lavender",
    "lime green", "magenta", "maroon", "mauve", "metallic", "multicoloured", "multi",
    "mushroom brown", "mustard", "navy blue", "nude", "off white", "olive", "orange", "peach",
    "pink", "purple", "red", "rose", "rust", "sea green", "silver", "skin", "steel", "tan", "taupe",
    "teal", "turquoise blue", "white", "yellow",
)  # fmt: skip
GENDERS = ("boys", "girls", "men", "women")
USAGES = ("casual", "sports", "formal", "ethnic", "smart casual", "party")
_ENDINGS = (
    "", "", "", " with long sleeves", " with short sleeves", " with a round neck", " with a print",
    " with stripes", " with laces", " made of cotton", " made of leather", " with a thick sole",
    " for everyday wear", " for special occasions", " with buttons", " with a zip and pockets",
)  # fmt: skip


def sentence(rng: random.Random) -> str:
    """One sentence about an item: half of them drawn items, half any item of the real catalogue."""
    if rng.random() < 0.5:
        return describe(sample_item(rng, balanced=True), rng, word=rng.random() < 0.3)
    colour, kind, gender = rng.choice(COLOURS), rng.choice(TYPES), rng.choice(GENDERS)
    usage = rng.choice(USAGES)
    usage = "" if kind.startswith(usage) or rng.random() < 0.2 else usage + " "
    owner = gender + ("'" if gender.endswith("s") else "'s")
    text = rng.choice(
        (
            f"{colour} {usage}{kind} for {gender}",
            f"{colour} {usage}{kind} for {gender}",
            f"{owner} {colour} {usage}{kind}",
            f"{usage}{kind} in {colour} for {gender}",
        )
    )
    return text[0].upper() + text[1:] + rng.choice(_ENDINGS) + rng.choice(("", "."))


def build_tokenizer(folder: Path, rng: random.Random) -> None:
    """Train a byte-level BPE, as GPT-2's, and store it in OPT's files."""
    words = [*COLOURS, *TYPES, *GENDERS, *USAGES]
    texts = [sentence(rng) for _ in range(30_000)]
    for word in words:  # each frequent enough to become few tokens, at a start and within a text
        texts += [word, word.capitalize(), f" {word}"] * 60
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, special_tokens=list(SPECIAL), show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    trained.train_from_iterator(texts, trainer)
    model = json.loads(trained.to_str())["model"]
    (folder / "vocab.json").write_text(
        json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8"
    )
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    end = {
        "__type": "AddedToken", "content": "</s>", "lstrip": False, "normalized": True,
        "rstrip": False, "single_word": False,
    }  # fmt: skip
    pad = {**end, "content": "<pad>"}
    roles = {"bos_token": end, "eos_token": end, "unk_token": end, "pad_token": pad}
    config = {
        **roles, "errors": "replace", "add_prefix_space": False, "add_bos_token": True,
        "tokenizer_class": "GPT2Tokenizer",
    }  # fmt: skip
    write_json(folder / "tokenizer_config.json", config)
    plain = {n: {k: v for k, v in t.items() if k != "__type"} for n, t in roles.items()}
    write_json(folder / "special_tokens_map.json", plain)


def build_model(vocab_size: int) -> OPTForCausalLM:
    """An untrained OPTForCausalLM of about 1.6 M parameters."""
    config = OPTConfig(
        vocab_size=vocab_size, hidden_size=WIDTH, word_embed_proj_dim=WIDTH, ffn_dim=4 * WIDTH,
        num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=128, dropout=0.1,
        bos_token_id=2, eos_token_id=2, pad_token_id=1,
    )  # fmt: skip
    config._attn_implementation = "eager"
    return OPTForCausalLM(config)


def train(folder: Path, minutes: float = 4.0, seed: int = 0, batch: int = 64) -> dict:
    """Train and store mini-OPT in `folder`; returns what was done, for the README."""
    torch.manual_seed(seed)
    rng = random.Random(f"opt/{seed}")
    with atomic_dir(folder) as target:
        build_tokenizer(target, rng)
        OPTConfig().save_pretrained(target)  # so that AutoTokenizer knows the model's type
        tokenizer = AutoTokenizer.from_pretrained(target)
        model = build_model(math.ceil(len(tokenizer) / 8) * 8)  # a few rows unused, as in OPT
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.01, fused=True)
        model.train()
        begin, step, loss_mean = time.perf_counter(), 0, None
        with tqdm(total=100, desc="mini-OPT", bar_format=BAR) as bar:
            while (done := (time.perf_counter() - begin) / (60 * minutes)) < 1:
                rate = min(1.0, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * done))
                optimizer.param_groups[0]["lr"] = 1e-3 * max(rate, 0.01)
                ids = encode(tokenizer, [sentence(rng) for _ in range(batch)])  # (B, T)
                with autocast():
                    logits = model(input_ids=ids, attention_mask=(ids != 1).long()).logits
                loss = F.cross_entropy(
                    logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten(), ignore_index=1
                )
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                step += 1
                loss_mean = (
                    loss.item() if loss_mean is None else 0.98 * loss_mean + 0.02 * loss.item()
                )
                bar.set_postfix(loss=f"{loss_mean:.3f}", refresh=False)
                bar.update(min(100, 100 * done) - bar.n)
        _store(model, target)
    return {"minutes": minutes, "steps": step, "loss": round(loss_mean, 4)}


def encode(tokenizer, texts: list[str]) -> torch.Tensor:
    """`</s> text </s>`, padded on the right with 1: (B, T)."""
    rows = [[2, *tokenizer(text, add_special_tokens=False).input_ids, 2] for text in texts]
    longest = max(map(len, rows))
    return torch.tensor([row + [1] * (longest - len(row)) for row in rows])


def _store(model: OPTForCausalLM, folder: Path) -> None:
    model = model.eval().half()
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    torch.save(
        state, folder / "pytorch_model.bin"
    )  # the tied head shares its storage: once on disk
    config = json.loads(model.config.to_json_string())
    config.pop("dtype", None)
    config.pop("transformers_version", None)
    config.update(architectures=["OPTForCausalLM"], torch_dtype="float16", prefix="</s>")
    write_json(folder / "config.json", config)
    generation = {
        "_from_model_config": True,
        "bos_token_id": 2,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }
    write_json(folder / "generation_config.json", generation)
