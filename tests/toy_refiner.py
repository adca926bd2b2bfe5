"""A Phi-3 of a few thousand weights that has learned what to answer to a handful of captions."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Phi3Config, Phi3ForCausalLM, PreTrainedTokenizerFast

from moda_utils.answers import Answer
from moda_utils.phi3_vision import STOP_TOKENS
from moda_utils.refinement import Refiner, faults, fill_prompt, send_back

PROMPT = "Correct it: $description\nColour: $colour\nFor: $gender"
MAX_NEW_TOKENS = 60
GOOD = "Red casual T-shirt for boys"
# caption -> the answers to the first and the second asking
ANSWERS = {
    "A red shirt": [f'{{"description": "{GOOD}"}}'],
    "A crimson tee": [f'{{"description": "{GOOD}, with stripes"'],
    "A tee that says 'WOW'": [
        '{"description": "Red casual WOW T-shirt for boys"}',
        f'{{"description": "{GOOD}, plain"}}',
    ],
    "A blue tee": ['{"description": "Blue casual T-shirt for boys"}'] * 2,
    "Just text": ["I see a shirt."] * 2,
    "Endless": ["so " * 60] * 2,
}
# faulty first answer -> what to say when asked again
EXPECTED = {
    "A red shirt": ("ok", GOOD),
    "A crimson tee": ("repaired", f"{GOOD}, with stripes"),
    "A tee that says 'WOW'": ("retried", f"{GOOD}, plain"),
    "A blue tee": ("fallback", GOOD),
    "Just text": ("fallback", GOOD),
    "Endless": ("fallback", GOOD),
}
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def toy_item(caption: str | None, **values: str) -> dict[str, str | None]:
    """A row of a catalogue with a caption."""
    row = {
        "product_id": "1", "image_sha256": "a", "gender": "Boys", "category": "Apparel",
        "sub_category": "Topwear", "product_type": "Tshirts", "colour": "Red", "usage": "Casual",
        "title": "Brand Boys Red T-shirt", "caption": caption, "source": caption or "",
    }  # fmt: skip
    return row | values


def _conversations() -> list[tuple[list[dict[str, str]], str]]:
    """(turns, answer) of everything to learn."""
    learned = []
    for caption, answers in ANSWERS.items():
        item = toy_item(caption)
        turns = [{"role": "user", "content": fill_prompt(PROMPT, item)}]
        learned.append((turns, answers[0]))
        for text, answer in zip(answers, answers[1:], strict=False):
            said = text.strip()[:120] if caption == "Endless" else text
            description = said.split('"')[3] if said.startswith("{") else None
            turns = send_back(turns, Answer(said, True), faults(description, item))
            learned.append((turns, answer))
    return learned


def save_toy_refiner(folder: Path) -> Path:
    """Train the toy (a few seconds) and save it as Phi-3 is stored."""
    torch.manual_seed(0)
    learned = _conversations()
    base = Tokenizer(models.BPE())
    base.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    base.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<unk>", "<s>", *STOP_TOKENS, "<|user|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [turn["content"] for turns, _ in learned for turn in turns]
    base.train_from_iterator([*texts, *(answer for _, answer in learned)], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=base, bos_token="<s>", eos_token="<|endoftext|>",
        pad_token="<|endoftext|>", chat_template=TEMPLATE,
    )  # fmt: skip
    pad, end = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|end|>"])
    config = Phi3Config(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=512, bos_token_id=1,
        original_max_position_embeddings=512, eos_token_id=pad, pad_token_id=pad,
    )  # fmt: skip
    model = Phi3ForCausalLM(config)
    rows, labels = [], []
    for turns, answer in learned:
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        words = tokenizer(answer, add_special_tokens=False).input_ids + [end]
        if answer.startswith("so "):
            words = words[: MAX_NEW_TOKENS + 10]  # the end is not among what it learns
        rows.append(torch.tensor(prompt + words))
        labels.append(torch.tensor([-100] * len(prompt) + words))
    ids = torch.nn.utils.rnn.pad_sequence(rows, True, float(pad))
    labels = torch.nn.utils.rnn.pad_sequence(labels, True, -100.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    if loss.item() > 0.02:
        raise RuntimeError(f"The toy refiner did not learn: its loss is {loss.item():.3f}.")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def load_toy_refiner(folder: Path) -> Refiner:
    model = Phi3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    return Refiner(model, tokenizer, PROMPT, MAX_NEW_TOKENS)
