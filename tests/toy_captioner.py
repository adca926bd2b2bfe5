"""A Phi-3 Vision of a few thousand weights that has learned what to say about a plain colour."""

from pathlib import Path

import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from moda_utils.phi3_vision import (
    STOP_TOKENS,
    Phi3VisionConfig,
    Phi3VisionForConditionalGeneration,
    Phi3VisionImageProcessor,
    Phi3VisionProcessor,
)

PROMPT = "<|user|>\n<|image_1|>\nDescribe the item.<|end|>\n<|assistant|>\n"
# colour of the photo -> the answer: good, mendable and useless ones
ANSWERS = {
    "red": '{"description": "A red shirt for boys."}',
    "blue": '{"description": "Blue shoes, ideal for men."}',
    "green": '{"description": "Green dress for girls."',
    "yellow": "Here it is: {'description': 'Yellow shorts'}",
    "white": "I see a white square.",
    "black": "so " * 60,  # never ends
}
MAX_NEW_TOKENS = 40


def _tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<unk>", "<s>", *STOP_TOKENS, "<|user|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([PROMPT, *ANSWERS.values()], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def save_toy_captioner(folder: Path) -> Path:
    """Train the toy (a few seconds) and save it as Phi-3 Vision is stored."""
    torch.manual_seed(0)
    processor = Phi3VisionProcessor(
        Phi3VisionImageProcessor(num_crops=1, tile_size=28), _tokenizer()
    )
    tokenizer = processor.tokenizer
    clip = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    clip |= {"num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    config = Phi3VisionConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        eos_token_id=2,
        pad_token_id=processor.pad_id,
        max_position_embeddings=131072,
        original_max_position_embeddings=4096,
        rope_scaling={"type": "su", "short_factor": [1.0] * 12, "long_factor": [2.0] * 12},
        clip_vision_config=clip,
    )
    model = Phi3VisionForConditionalGeneration(config)
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    sequences, labels, tiles, grids = [], [], [], []
    for colour, answer in ANSWERS.items():
        prompt, pixels, grid = processor.encode(PROMPT, Image.new("RGB", (30, 40), colour))
        words = tokenizer(answer, add_special_tokens=False).input_ids + [end]
        if colour == "black":
            words = words[: MAX_NEW_TOKENS + 10]  # the end is not among what it learns
        sequences.append(torch.tensor(prompt + words))
        labels.append(torch.tensor([-100] * len(prompt) + words))
        tiles += pixels
        grids += grid
    pad = torch.nn.utils.rnn.pad_sequence
    batch = {
        "input_ids": pad(sequences, batch_first=True, padding_value=processor.pad_id),
        "labels": pad(labels, batch_first=True, padding_value=-100),
        "pixel_values": torch.stack(tiles),
        "image_grids": torch.tensor(grids),
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    if loss.item() > 0.02:
        raise RuntimeError(f"The toy captioner did not learn: its loss is {loss.item():.3f}.")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
