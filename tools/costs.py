"""What each stage needs with the real models on Colab's GPUs: calculated, nothing is loaded.

Weights are counted from the models' configurations on PyTorch's meta device, where a tensor has a
shape but no memory; number formats and batch sizes follow the rules that the course itself uses.
`tools/results.py` puts the table into README.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
import transformers as hf

from running import ROOT

sys.path.insert(0, str(ROOT))
from moda_utils.answers import fitting_batch_size, sequence_bytes
from moda_utils.captioning import PROMPT_I
from moda_utils.course import _cost
from moda_utils.modeling_moda import ModaConfig, ModaForConditionalGeneration
from moda_utils.phi3_vision import (
    Phi3VisionConfig,
    Phi3VisionForConditionalGeneration,
    Phi3VisionImageProcessor,
)
from moda_utils.profiles import get_profile
from moda_utils.recipe import recipe
from moda_utils.refinement import PROMPT_II
from moda_utils.runs import trained_weights
from moda_utils.storage import read_json

GB = 1e9
PHOTO = (1080, 1440)  # pixels of a photo of the Kaggle set
NEW_TOKENS = 128  # an answer is cut there
LETTERS_PER_TOKEN = 3  # of English there are more: the prompt is rather counted too long
DESCRIPTION = 30  # tokens of a description that MODA learns


@dataclass(frozen=True)
class Gpu:
    """A GPU of Colab: what it leaves to a program, and whether it computes in bfloat16."""

    name: str
    bytes: float
    bfloat16: bool


GPUS = (Gpu("T4", 15 * GB, False), Gpu("L4", 22 * GB, True), Gpu("A100", 40 * GB, True))


def costs_table() -> str:
    """One row per stage that needs a GPU, in Markdown."""
    heads = [f"{gpu.name} ({gpu.bytes / GB:.0f} GB)" for gpu in GPUS]
    rows = [
        f"| Notebook | Download | Disk | {' | '.join(heads)} |",
        "|---|---|---|---|---|---|",
        _captions(),
        _refinement(),
        _training(),
    ]
    photos = _cost("01", get_profile("full"))[1]
    note = (
        "Calculated, not measured: memory for weights and one batch. Behind a GPU's name stands "
        "what a program can count on, a little less than the GPU has. The photos are "
        f"{photos:.1f} GB more, once. Notebooks 00 and 06 need what 05 needs, the others no more."
    )
    return "\n".join(rows) + f"\n\n{note}\n{_beside_measured()}"


def _beside_measured() -> str:
    """What describing took on GPUs where somebody measured it, beside the same calculation."""
    model = _on_meta(Phi3VisionForConditionalGeneration, Phi3VisionConfig()).half()
    lines = []
    for path in sorted((ROOT / "benchmarks" / "results").glob("full-*-captioning-random*.json")):
        figures = read_json(path)
        if figures["reduced"]:  # not the whole model
            continue
        for crops, run in figures["crops"].items():
            places = run["prompt_tokens"] + figures["new_tokens"]
            batch = run["batch_size"] * sequence_bytes(model, places)
            calculated = (2 * model.num_parameters() + batch) / GB
            lines.append(
                f"{run['batch_size']} photos of {crops} crops at once took "
                f"{run['batched']['peak_gb']:.1f} GB on one {figures['device']}, where this way of "
                f"calculating says {calculated:.1f} GB"
            )
    return f"Measured beside it, with random weights: {'; '.join(lines)}.\n" if lines else ""


def _row(name: str, download: float, disk: float, need: Callable[[Gpu], str]) -> str:
    needs = " | ".join(map(need, GPUS))
    return f"| {name} | {download / GB:.1f} GB | {disk / GB:.1f} GB | {needs} |"


def _on_meta(kind: type, config: hf.PreTrainedConfig) -> hf.PreTrainedModel:
    with torch.device("meta"):
        return kind(config)


def _writes(name: str, kind: type, tokens: int) -> str:
    """A row for a model of Phi-3's family, which writes as many answers at once as fit."""
    model = _on_meta(kind, kind.config_class()).half()  # 16 bits, of either format
    weights = 2 * model.num_parameters()

    def need(gpu: Gpu) -> str:
        batch = fitting_batch_size(model, tokens, room=int(gpu.bytes - weights))
        memory = weights + batch * sequence_bytes(model, tokens)
        form = "bfloat16" if gpu.bfloat16 else "float16"
        return f"{form}, {batch} at once: {memory / GB:.1f} GB"

    return _row(name, weights, weights, need)


def _captions() -> str:
    cutter = Phi3VisionImageProcessor(num_crops=get_profile("full").num_crops)
    places = cutter.num_tokens(*cutter.grid(*PHOTO))
    tokens = places + len(PROMPT_I) // LETTERS_PER_TOKEN + NEW_TOKENS
    return _writes("02 Captions", Phi3VisionForConditionalGeneration, tokens)


def _refinement() -> str:
    tokens = len(PROMPT_II) // LETTERS_PER_TOKEN + 4 * NEW_TOKENS  # asked twice, if need be
    return _writes("03 Refinement", hf.Phi3ForCausalLM, tokens)


def _training() -> str:
    model = _on_meta(ModaForConditionalGeneration, ModaConfig())
    trained = sum(weight.numel() for weight in trained_weights(model).values())
    every = model.num_parameters()
    clip = _on_meta(hf.CLIPModel, hf.CLIPConfig())  # FashionCLIP's file holds both halves
    language = model.language_model.num_parameters()
    download = 4 * clip.num_parameters() + 2 * language  # stored in 32 and in 16 bits
    config = recipe(get_profile("full"))
    snapshots = 2 * trained * len(config.snapshot_epochs)
    kept = 2 * every + snapshots + 3 * 4 * trained  # best/, snapshots, the state to go on from
    # Weights, gradients and AdamW's two averages; a batch's logits, their softmax and gradient.
    vocabulary = model.config.text_config.vocab_size
    memory = 4 * (every + 3 * trained) + 3 * 4 * config.batch_size * DESCRIPTION * vocabulary

    def need(gpu: Gpu) -> str:
        form = "bfloat16 autocast" if gpu.bfloat16 else "float32"
        return f"{form}, {config.batch_size} at once: {memory / GB:.1f} GB"

    return _row("05 Training", download, download + kept, need)


if __name__ == "__main__":
    print(costs_table())
