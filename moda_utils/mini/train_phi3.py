"""mini Phi-3: the architecture of Phi-3-mini in small, trained to follow Prompt II.

It learns from two kinds of captions: invented ones with errors of all sorts, and those that mini
Phi-3 Vision writes about drawn photos. What the answer should be follows from the metadata
(`corrections.py`).
"""

import json
import math
import random
import re
import time
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm
from transformers import GenerationConfig, Phi3Config, Phi3ForCausalLM, PreTrainedTokenizerFast

from ..answers import Answer
from ..captioning import Captioner
from ..phi3_vision import Phi3VisionForConditionalGeneration, Phi3VisionProcessor
from ..profiles import CHECKPOINTS
from ..refinement import OPENINGS, PROMPT_II, RETRY, Turns, faults, fill_prompt, opening, send_back
from ..storage import atomic_dir
from .catalogue import training_items
from .compute import autocast
from .corrections import LEAKED_SENTENCES, LEAKS, Example, begun, facts_of, imagine, mended, row
from .items import PRINTED_WORDS, Item, sample_item
from .measure_phi3_vision import caption
from .phi3_tokenizer import build_tokenizer, phrases
from .prompt_variants import ADDED
from .train_opt import COLOURS, TYPES
from .wording import describe

WIDTH, LAYERS, HEADS = 192, 4, 4
BATCH, ROUND = 64, 8  # examples; batches that are filled together, each with equally long ones
STEPS = 1600
LEARNING_RATE = 1e-3
WARM_UP = 50  # steps
READ = 0.4  # of the examples are captions that mini Phi-3 Vision has written
VARIED = 0.2  # of the prompts are edited

CATEGORIES = ("Apparel", "Footwear", "Topwear", "Bottomwear", "Shoes", "Sandal", "Flip Flops")
LABELS = re.findall(r"^(.+:) \$\w+$", PROMPT_II, re.M)
SENTENCES = phrases(re.sub(r"^.+: \$\w+$|^.*\$opening.*$", "", PROMPT_II, flags=re.M))
(BEGIN,) = re.findall(r"^.*\$opening.*$", PROMPT_II, re.M)
BEGINNINGS = [BEGIN.replace("$opening", way) for way in OPENINGS.values()]
KNOWN = [*SENTENCES, *LABELS, *BEGINNINGS, *RETRY.split(" {}. ")]


def words_of(item: Item, rng: random.Random) -> str:
    """A sentence on an item, half of those on printed shirts with a word read off."""
    return describe(item, rng, word=rng.random() < 0.5)


def build_refiner_tokenizer(seed: int = 0) -> PreTrainedTokenizerFast:
    """A tokenizer that has read the shop's sentences and knows Prompt II by heart."""
    rng = random.Random(f"phi3 tokenizer/{seed}")
    sentences = [words_of(sample_item(rng, balanced=True), rng) for _ in range(20_000)]
    answers = [json.dumps({"description": sentence}) for sentence in sentences]
    values = [f" {value.title()}" for value in (*COLOURS, *TYPES)] * 40
    values += [f" {value}" for value in (*CATEGORIES, *COLOURS, *TYPES)] * 40
    told = [text.format(word=rng.choice(PRINTED_WORDS)) for text in (*LEAKS, *LEAKED_SENTENCES)]
    captions = [text.replace('"', "'") for text in (*sentences, *told * 100)]
    reasons = [
        "it repeats", "it speaks of text, a logo or a brand", "it mentions a person (worn by)",
        "colour: says Red, is Blue", "style: says nothing, is Casual", "gender", "category",
    ]  # fmt: skip
    texts = [*answers, *captions, *values, *reasons * 200]
    return build_tokenizer(texts, KNOWN, vocab_size=1200)


def build_model(tokenizer: PreTrainedTokenizerFast) -> Phi3ForCausalLM:
    """An untrained model of about 2.3 M parameters."""
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    config = Phi3Config(
        vocab_size=math.ceil(len(tokenizer) / 8) * 8, hidden_size=WIDTH, intermediate_size=512,
        num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=HEADS,
        max_position_embeddings=4096, original_max_position_embeddings=4096, sliding_window=2047,
        bos_token_id=1, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    config._attn_implementation = "eager"  # its backward pass is the fastest on a CPU
    return Phi3ForCausalLM(config)


def read_photos(folder: Path, n: int, seed: int = 700) -> list[Example]:
    """What a mini Phi-3 Vision writes about training photos, half of them printed shirts.

    Captions whose form is unknown are left out: nobody can say what they should have been.
    """
    model = Phi3VisionForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    captioner = Captioner(model, Phi3VisionProcessor.from_pretrained(folder))
    examples, rng = [], random.Random(seed)
    for number, kind in enumerate(({"balanced": False}, {"balanced": True}, {"printed": True})):
        size = n // 2 if number == 2 else n // 4
        pairs = training_items(size, seed + number, **kind)
        for item, description, _ in caption(captioner, pairs, size):
            facts = facts_of(item)
            if description and (parts := mended(description, facts)):
                examples.append(Example(row(facts, description, rng), parts))
    return examples


def edited(rng: random.Random) -> str:
    """Prompt II without some sentences, or with others in their place."""
    prompt = PROMPT_II
    for sentence in (*SENTENCES, BEGIN):
        if rng.random() < 0.25:
            prompt = prompt.replace(sentence, rng.choice((*ADDED, "", "", "")))
    return prompt


def turns_of(example: Example, prompt: str) -> Turns:
    """The conversation before the answer: the prompt, maybe a faulty answer and its reason."""
    turns = [{"role": "user", "content": fill_prompt(prompt, example.item)}]
    if example.first and (reasons := faults(example.first, example.item)):
        turns = send_back(turns, Answer(json.dumps({"description": example.first}), True), reasons)
    return turns


def answer_of(example: Example, prompt: str) -> str:
    """The answer to learn, begun as the prompt asks."""
    parts = example.parts
    if BEGIN in prompt:
        parts = begun(parts, example.item, opening(example.item))
    return str(parts)


def encode(
    tokenizer: PreTrainedTokenizerFast, turns: Turns, answer: str
) -> tuple[list[int], list[int]]:
    """Ids of the conversation, and of the answer with its end."""
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    text = json.dumps({"description": answer}, ensure_ascii=False)
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    return prompt, [*tokenizer(text, add_special_tokens=False).input_ids, end]


def batches(
    tokenizer: PreTrainedTokenizerFast, read: Sequence[Example], rng: random.Random
) -> list[tuple[Tensor, Tensor]]:
    """ROUND batches: ids (B, T), padded on the right, and where the answers are (B, T)."""
    rows = []
    for _ in range(ROUND * BATCH):
        example = rng.choice(read) if read and rng.random() < READ else imagine(rng)
        prompt = edited(rng) if rng.random() < VARIED else PROMPT_II
        rows.append(encode(tokenizer, turns_of(example, prompt), answer_of(example, prompt)))
    rows.sort(key=lambda row: sum(map(len, row)))
    made = []
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        ids = [torch.tensor(prompt + answer) for prompt, answer in part]
        told = [torch.tensor([0] * len(prompt) + [1] * len(answer)) for prompt, answer in part]
        pad = nn.utils.rnn.pad_sequence
        made.append((pad(ids, True, tokenizer.pad_token_id), pad(told, True)))
    rng.shuffle(made)
    return made


def answer_loss(model: Phi3ForCausalLM, ids: Tensor, told: Tensor) -> Tensor:
    """Cross-entropy of the answers' tokens; padding stands behind them and is never looked at."""
    hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    counts = told[:, 1:] > 0  # (B, T - 1): positions whose next token is part of an answer
    return F.cross_entropy(model.lm_head(hidden[counts]).float(), ids[:, 1:][counts])


def store(model: Phi3ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a checkpoint as the public one is: bfloat16, two shards, end tokens for generation."""
    model = deepcopy(model).to(torch.bfloat16)
    model.config._attn_implementation = None
    ends = ["<|endoftext|>", "<|assistant|>", "<|end|>"]
    model.generation_config = GenerationConfig(
        bos_token_id=1,
        eos_token_id=tokenizer.convert_tokens_to_ids(ends),
        pad_token_id=tokenizer.pad_token_id,
    )
    size = sum(parameter.nbytes for parameter in model.parameters())
    with atomic_dir(folder) as target:
        model.save_pretrained(target, max_shard_size=int(0.55 * size))
        tokenizer.save_pretrained(target)


def train(
    folder: Path = CHECKPOINTS / "phi3",
    steps: int = STEPS,
    minutes: float | None = None,
    seed: int = 0,
    photos: int = 4000,
    captioner: Path | None = None,
) -> dict:
    """Train and store mini Phi-3 in `folder`; returns what was done, for the README.

    Args:
        minutes: train by the clock instead of by steps.
        photos: how many photos mini Phi-3 Vision describes first.
        captioner: its checkpoint; default: the one beside `folder`, or the shipped one.
    """
    beside = Path(folder).parent / "phi3_vision"
    captioner = captioner or (beside if beside.is_dir() else CHECKPOINTS / "phi3_vision")
    read = read_photos(captioner, photos) if photos else []
    torch.manual_seed(seed)
    tokenizer = build_refiner_tokenizer(seed)
    model = build_model(tokenizer).train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01, fused=True)
    rng, waiting = random.Random(f"phi3/{seed}"), []
    begin, step, done, mean = time.perf_counter(), 0, 0.0, None
    with tqdm(total=steps, desc="mini Phi-3", unit="step") as bar:
        while done < 1:
            waiting = waiting or batches(tokenizer, read, rng)
            rate = min(1.0, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * done))
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * max(rate, 0.01)
            with autocast():
                loss = answer_loss(model, *waiting.pop())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
            done = (time.perf_counter() - begin) / (60 * minutes) if minutes else step / steps
            bar.set_postfix(loss=f"{mean:.4f}", refresh=False)
            bar.update()
    store(model, tokenizer, Path(folder))
    spent = round((time.perf_counter() - begin) / 60, 1)
    return {
        "seed": seed, "captions_read": len(read), "of_photos": photos, "steps": step,
        "loss": round(mean, 4), "minutes": spent,
    }  # fmt: skip
