"""A small tokenizer with the form of Phi-3's: the same special tokens, roles and chat template.

The real one has learnt 32,000 pieces from the web. This one learns a few hundred from the sentences
of the drawn shop, and knows the fixed sentences of the course's prompts by heart: each is one
token. An edited sentence falls apart into words and letters, as any text does; no text is unknown.
"""

import re
from collections.abc import Iterable, Sequence

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

ANSWER_START = '{"description": "'
"""One token, too: every answer of the mini models begins with it."""

_BASE = ("<unk>", "<s>", "</s>")  # ids 0, 1 and 2, as in Phi-3
_ROLES = ("<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>")

# One turn is `<|role|>`, a new line, its text, `<|end|>`; the last one is left to the model.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def phrases(prompt: str) -> list[str]:
    """The fixed sentences of a prompt, examples included, without its tags and white space."""
    text = re.sub(r"<\|\w+\|>", "\n\n", prompt)
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", text)]
    found: list[str] = []
    for paragraph in paragraphs:
        whole = paragraph.startswith("{")  # an example: its sentence is not taken apart
        found += [paragraph] if whole else re.split(r"(?<=\.)\s+", paragraph)
    return [phrase for phrase in dict.fromkeys(found) if phrase]


def build_tokenizer(
    texts: Iterable[str], known: Sequence[str] = (), vocab_size: int = 1000
) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE from `texts`.

    Args:
        texts: sentences in which the model will read and write.
        known: whole sentences that become one token each (white space before them belongs to it).
        vocab_size: of the BPE; what is known by heart and the special tokens come on top.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(_BASE),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),  # any byte: nothing unknown
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # White space beside a role's tag means nothing.
    for token in _ROLES:
        role = token != "<|endoftext|>"
        added = AddedToken(token, special=True, rstrip=role, lstrip=token == "<|end|>")
        tokenizer.add_special_tokens([added])
    by_heart = [AddedToken(phrase, lstrip=True, normalized=False) for phrase in known]
    tokenizer.add_tokens([*by_heart, AddedToken(ANSWER_START, normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
    )
