"""Describe every photo of a catalogue with Phi-3 Vision: Prompt I, the model, `captions.jsonl`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .answers import (
    Answer,
    Summary,
    fitting_batch_size,
    load_writer,
    run_batches,
    weights_of,
    write_answers,
)
from .catalog import Catalog, load_catalog, open_photo
from .dataset import texts_of, write_dataset
from .device import load_checkpoint
from .journal import Journal, fingerprint
from .phi3_vision import Encoded, Phi3VisionForConditionalGeneration, Phi3VisionProcessor
from .profiles import Profile

# The course's first prompt, word for word with its spelling: journals are keyed by it.
PROMPT_I = (Path(__file__).parent / "prompt_1.txt").read_text(encoding="utf-8")
PROMPT_I_SHA256 = "0cbc4c424e00cd818203c2464174599269f12cfbca3b56d6d1851ce9c3084c1a"


class Captioner:
    """Phi-3 Vision with a prompt for one photo.

    Args:
        prompt: names the photo `<|image_1|>`.
        max_new_tokens: an answer that is longer is cut off; a description takes about 40.
    """

    def __init__(
        self,
        model: Phi3VisionForConditionalGeneration,
        processor: Phi3VisionProcessor,
        prompt: str = PROMPT_I,
        max_new_tokens: int = 128,
    ):
        self.model, self.processor = model.eval(), processor
        self.prompt, self.max_new_tokens = prompt, max_new_tokens

    @classmethod
    def load(cls, profile: Profile, prompt: str = PROMPT_I, **where: Any) -> "Captioner":
        """Load the profile's captioner; `where` are `device` and `dtype` of `load_writer`."""
        checkpoint = profile.captioner
        model = load_writer(Phi3VisionForConditionalGeneration, checkpoint, **where)
        processor = load_checkpoint(Phi3VisionProcessor, checkpoint, num_crops=profile.num_crops)
        return cls(model, processor, prompt)

    def prepare(self, photo: Any) -> Encoded:
        """Cut a photo (PIL image, or the path of one) into tiles and build its prompt."""
        if isinstance(photo, str | Path):
            photo = open_photo(photo)
        return self.processor.encode(self.prompt, photo)

    def __call__(self, encoded: Sequence[Encoded]) -> list[Answer]:
        """Answers to a batch of prepared photos."""
        inputs = self.processor.collate(encoded).to(self.model.device)
        return write_answers(self.model, self.processor.tokenizer, inputs, self.max_new_tokens)

    def batch_size(self) -> int:
        """Photos that fit into the free memory at once."""
        images = self.processor.image_processor
        tiles = images.num_crops
        # No grid of that many tiles takes more places than one column or one row of them.
        places = max(images.num_tokens(tiles, 1), images.num_tokens(1, tiles))
        words = len(self.processor.tokenizer(self.prompt).input_ids)
        return fitting_batch_size(self.model, places + words + self.max_new_tokens)


def captions_journal(
    profile: Profile, prompt: str = PROMPT_I, max_new_tokens: int = 128
) -> Journal:
    """`captions.jsonl`, opened for the rows of this captioner, prompt and settings."""
    name, weights = weights_of(profile.captioner)
    options = {"weights": weights, "crops": profile.num_crops, "max_new_tokens": max_new_tokens}
    return Journal(profile.captions_path, name, fingerprint(prompt), fingerprint(options))


def caption_catalog(
    catalog: Catalog,
    captioner: Captioner,
    journal: Journal,
    n: int | None = None,
    batch_size: int | None = None,
) -> Summary:
    """Describe `n` photos of a catalogue (default: all). Raise `n` and call again for more.

    The photos come in the order of their hash: a fair mix of the catalogue, the same every time.

    Raises:
        ValueError: the journal was opened for another prompt than the captioner's.
    """
    journal.check_prompt(captioner.prompt)
    items = catalog.frame.sort_values(["image_sha256", "product_id"])[:n].to_dict("records")
    return run_batches(
        items,
        journal,
        prepare=lambda item: captioner.prepare(catalog.root / item["image"]),
        answer=captioner,
        batch_size=batch_size or captioner.batch_size(),
    )


def caption_from_profile(profile: Profile) -> Summary:
    """Notebook 02 in one call: describe every photo, write `dataset/` again with the texts."""
    catalog, captioner = load_catalog(profile.catalog_path), Captioner.load(profile)
    journal = captions_journal(profile, captioner.prompt, captioner.max_new_tokens)
    summary = caption_catalog(catalog, captioner, journal)
    models = {"raw": f"{journal.key['model']} with prompt {journal.key['prompt_sha']}"}
    texts = texts_of(catalog, raw=journal.done())
    write_dataset(catalog, texts, profile.dataset_dir, models)
    return summary
