"""How long training takes: the original notebook's way, and this course's. And: is it dependable?

    python benchmarks/training.py                    both ways, real sizes, random weights
    python benchmarks/training.py --seeds 0 1 2      the profile's models and dataset, per seed

The original encodes every photo on the CPU, inside the data loader, anew in each epoch; the course
encodes it once and keeps the result. Random weights take as long as trained ones, so both are
measured without a download, on photos of the real size. Both ways train the same items from the
same weights; that they also reach the same losses is checked over a number of steps in float32.

A CPU gets a tenth of the items and one epoch of each way, a GPU all items and all epochs of ours;
what is calculated from a part is marked as such. Each part is written to benchmarks/results/ as
soon as it is finished, in a file that ends in -unfinished.json until all are there.
"""

import argparse
import copy
import ctypes
import gc
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from moda_utils.profiles import ROOT, get_profile  # before torch: see moda_utils/__init__.py

# isort: split
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.utils.data import DataLoader, Dataset
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
)

from moda_utils.catalog import open_photo
from moda_utils.device import best_device, best_dtype
from moda_utils.features import Examples, embed_photos, load_examples
from moda_utils.modeling_moda import ModaConfig, ModaForConditionalGeneration, ModaProcessor
from moda_utils.recipe import TrainConfig, recipe
from moda_utils.runs import trained_weights
from moda_utils.storage import require, write_json
from moda_utils.training import accumulate, start_model, tokenize, train

REAL_ITEMS = 2_906
REAL_PHOTO = (1080, 1440)  # width and height of the Kaggle photos
PHOTO_FILES = 290  # different ones; more items show them again, each under a hash of its own
WORDS = (12, 28)  # tokens of a description, from ... to
FREQUENT = 200  # words occur: which ones is soon learnt, so the loss falls
EPOCHS = 20
STEPS = 50  # over which the losses of both ways are compared


class Shop:
    """Photos of the real size with descriptions of random words, split 80 to 20."""

    def __init__(self, folder: Path, items: int):
        rng = np.random.default_rng(0)
        files = []
        for number in range(min(PHOTO_FILES, items)):
            small = Image.fromarray(rng.integers(0, 256, (48, 36, 3), dtype=np.uint8))
            files.append(folder / f"{number}.jpg")
            small.resize(REAL_PHOTO, Image.Resampling.BICUBIC).save(files[-1])
        self.photos = [files[number % len(files)] for number in range(items)]
        self.shas = [f"{number:064x}" for number in range(items)]
        self.texts = [
            " ".join(f"w{word}" for word in rng.integers(4, FREQUENT, rng.integers(*WORDS)))
            for _ in range(items)
        ]
        known = items - items // 5
        self.splits = {"train": range(known), "validation": range(known, items)}

    def examples(self, model: Any, processor: ModaProcessor, split: str, cache: Path) -> Examples:
        rows = self.splits[split]
        photos, shas = [self.photos[row] for row in rows], [self.shas[row] for row in rows]
        embeds = embed_photos(model, processor.image_processor, photos, shas, cache)
        return Examples(embeds, [self.texts[row] for row in rows], shas)


def real_size() -> tuple[ModaForConditionalGeneration, ModaProcessor]:
    """MODA as FashionCLIP and OPT-125M would make it, with random weights, always the same."""
    torch.manual_seed(0)
    model = ModaForConditionalGeneration(ModaConfig(CLIPVisionConfig(), OPTConfig()))
    special = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    words = {f"w{number}": number for number in range(4, 50_272)}
    tokenizer = Tokenizer(models.WordLevel(special | words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    marks = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks)
    return model, ModaProcessor(CLIPImageProcessorPil(), tokenizer)


# ---------------------------------------------------------------------------------------------
# The original way


class PhotosEncodedWhenAsked(Dataset):
    """Opens and encodes a photo on the CPU each time it is asked for."""

    def __init__(self, shop: Shop, model: Any, processor: ModaProcessor, rows: range):
        self.shop, self.rows = shop, rows
        # The encoder stays on the CPU, also where the model is on a GPU.
        on_cpu = model.device.type == "cpu"
        self.encoder = model.vision_model if on_cpu else copy.deepcopy(model.vision_model).cpu()
        self.image_processor = processor.image_processor
        self.texts = processor(text=[shop.texts[row] for row in rows])

    def __len__(self) -> int:
        return len(self.rows)

    @torch.no_grad()
    def __getitem__(self, place: int) -> dict[str, torch.Tensor]:
        photo = open_photo(self.shop.photos[self.rows[place]])
        pixels = self.image_processor(photo, return_tensors="pt")["pixel_values"]
        embeds = self.encoder(pixels).image_embeds  # (1, 512)
        ids, mask = (self.texts[name][place] for name in ("input_ids", "attention_mask"))
        labels = ids.masked_fill(mask == 0, -100)
        labels[0] = -100
        scaled = F.normalize(embeds, dim=-1)[0] * embeds.shape[-1] ** 0.5
        return {"image_embeds": scaled, "input_ids": ids, "attention_mask": mask, "labels": labels}


def original_epoch(
    model: Any, loaders: dict[str, DataLoader], optimizer: torch.optim.Optimizer, accumulation: int
) -> None:
    """One epoch of the original notebook: training and validation, float32."""
    model.train()
    for number, batch in enumerate(loaders["train"], start=1):
        batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
        (model(**batch).loss / accumulation).backward()
        if number % accumulation == 0:
            optimizer.step()
            optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        for batch in loaders["validation"]:
            batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
            model(**batch).loss.item()


def measure_original(shop: Shop, config: TrainConfig, device: torch.device) -> dict[str, Any]:
    model, processor = real_size()
    model.to(device)
    loaders = {
        split: DataLoader(PhotosEncodedWhenAsked(shop, model, processor, rows), config.batch_size)
        for split, rows in shop.splits.items()
    }
    optimizer = torch.optim.AdamW(trained_weights(model).values(), lr=config.learning_rate)
    with peak_memory(device) as peak:
        begin = time.perf_counter()
        original_epoch(model, loaders, optimizer, config.accumulation)
        _wait(device)
        seconds = time.perf_counter() - begin
    return figures(shop, seconds, 0.0, seconds * EPOCHS, 1, peak[0])


# ---------------------------------------------------------------------------------------------
# Our way


def measure_ours(
    shop: Shop, config: TrainConfig, device: torch.device, folder: Path
) -> dict[str, Any]:
    """`embed_photos` and `train`, as notebook 05 calls them, saving included."""
    model, processor = real_size()
    model.to(device)
    with peak_memory(device) as peak:
        begin = time.perf_counter()
        splits = [shop.examples(model, processor, split, folder / "cache") for split in shop.splits]
        encoding = time.perf_counter() - begin
        history = train(model, processor, *splits, config, folder / "run")
        whole = time.perf_counter() - begin
    epoch = history.of("validation")[-1]["seconds"] / config.epochs
    whole += (EPOCHS - config.epochs) * epoch
    return figures(shop, epoch, encoding, whole, config.epochs, peak[0])


def figures(
    shop: Shop, epoch: float, encoding: float, whole: float, epochs: int, peak: float | None
) -> dict[str, Any]:
    return {
        "seconds_per_epoch": round(epoch, 2),
        "encoding_once_seconds": round(encoding, 4),
        "samples_per_second": round(len(shop.photos) / epoch, 1),
        "epochs_measured": epochs,
        f"seconds_{EPOCHS}_epochs": round(whole, 1),
        f"seconds_{EPOCHS}_epochs_calculated": epochs < EPOCHS,
        "peak_gb": peak,
    }


# ---------------------------------------------------------------------------------------------
# Equal losses, speed of the device, memory


def compare_losses(
    shop: Shop, batch_size: int, device: torch.device, folder: Path
) -> dict[str, Any]:
    """Both ways from the same weights through the same batches, one optimizer step per batch."""
    # A GPU may take TF32, products of 10 bits, for float32 (by default in convolutions only).
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    losses: dict[str, list[float]] = {}
    for way in ("original", "ours"):
        model, processor = real_size()
        model.to(device).eval()  # dropout would draw other numbers: our batches are cut shorter
        optimizer = torch.optim.AdamW(trained_weights(model).values(), lr=1e-3)
        if way == "original":
            photos = PhotosEncodedWhenAsked(shop, model, processor, shop.splits["train"])
        else:
            examples = shop.examples(model, processor, "train", folder / "cache of losses")
            tokens = tokenize(processor, examples, device)
        order = torch.Generator().manual_seed(1)
        losses[way] = []
        for _ in range(STEPS):
            rows = torch.randint(len(shop.splits["train"]), (batch_size,), generator=order)
            if way == "original":
                [batch] = DataLoader([photos[row] for row in rows.tolist()], batch_size)
                loss = model(**{name: tensor.to(device) for name, tensor in batch.items()}).loss
                loss.backward()
            else:
                plain = Accelerator(cpu=device.type == "cpu", mixed_precision="no")
                loss = accumulate(model, plain, tokens, [rows])[0].sum()
            losses[way].append(loss.item())
            optimizer.step()
            optimizer.zero_grad()
    pairs = list(zip(losses["original"], losses["ours"], strict=True))
    return {
        "steps": STEPS,
        "batch_size": batch_size,
        "format": "float32",
        "dropout": 0,
        "largest_relative_difference": max(abs(a - b) / a for a, b in pairs),
        "first": [round(loss, 4) for loss in pairs[0]],
        "last": [round(loss, 4) for loss in pairs[-1]],
    }


def flops_per_epoch(shop: Shop, model: Any, processor: ModaProcessor) -> dict[str, float]:
    """Floating-point operations of one epoch, by the usual rule: 2 per weight and place forward,
    4 backward. Embedding tables are looked up; OPT's word table counts because it is its output."""
    tables = model.language_model.model.decoder.embed_positions
    weights = sum(weight.numel() for weight in trained_weights(model).values())
    weights -= sum(weight.numel() for weight in tables.parameters())
    encoder = sum(weight.numel() for weight in model.vision_model.parameters())
    patches = model.vision_model.vision_model.embeddings.num_positions
    places = {
        split: sum(3 + len(shop.texts[row].split()) for row in rows)  # [image] </s> text </s>
        for split, rows in shop.splits.items()
    }
    return {
        "training": 6 * weights * places["train"] + 2 * weights * places["validation"],
        "encoding": 2 * encoder * patches * len(shop.photos),
    }


def matrix_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a large matrix product: what this device can reach."""
    size = 8192 if device.type == "cuda" else 2048
    a = torch.randn(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(20):
        _wait(device)
        begin = time.perf_counter()
        a @ a
        _wait(device)
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best


@contextmanager
def peak_memory(device: torch.device) -> Iterator[list[float | None]]:
    """Yields a list whose only entry is, in the end, the peak of this part's memory in GB: of the
    GPU's, or of the process's resident memory as Linux keeps it. None: the system can't tell."""
    peak: list[float | None] = [None]
    gc.collect()  # what an earlier part has left is not this one's
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        yield peak
        peak[0] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    elif sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # the C library keeps freed memory for later
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        yield peak
        status = Path("/proc/self/status").read_text()
        peak[0] = round(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e9, 2)
    else:
        yield peak


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def about(device: torch.device) -> dict[str, Any]:
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__.split("+")[0],
    }


def measure_speed(items: int | None, store: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Both ways, one after the other, in this run; `store` gets the result after each part."""
    device = best_device()
    cuda = device.type == "cuda"
    items = items or (REAL_ITEMS if cuda else REAL_ITEMS // 10)
    config = TrainConfig(epochs=EPOCHS if cuda else 1)
    ours = best_dtype(device) if best_dtype(device) == torch.bfloat16 else torch.float32
    speeds = dict.fromkeys({torch.float32, ours}, 0.0)  # of each format, whichever way uses it
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shop, tiny = Shop(folder, items), Shop(folder, 10)
        warm = replace(config, epochs=1, snapshot_epochs=())
        (folder / "warm").mkdir()
        measure_ours(tiny, warm, device, folder / "warm")  # libraries, kernels, clocks
        result: dict[str, Any] = {
            "profile": "full",
            "weights": "random",
            **about(device),
            "items": items,
            "reduced": items < REAL_ITEMS,
            "photo_files": len(set(shop.photos)),
        }
        for name, measure in {
            "original": lambda: measure_original(shop, config, device),
            "ours": lambda: measure_ours(shop, config, device, folder),
            "losses": lambda: compare_losses(shop, 32 if cuda else 2, device, folder),
        }.items():
            result[name] = measure()
            store(result)
            for dtype, best in speeds.items():  # a moment in which others use the machine is none
                speeds[dtype] = max(best, matrix_speed(device, dtype))
    operations = flops_per_epoch(shop, *real_size())
    for way, dtype in (("original", torch.float32), ("ours", ours)):
        needed = operations["training"] + (operations["encoding"] if way == "original" else 0)
        speed = speeds[dtype]
        result[way] |= {
            "format": str(dtype).removeprefix("torch."),
            "matrix_product_tflops": round(speed / 1e12, 3),
            "flop_utilisation": round(needed / result[way]["seconds_per_epoch"] / speed, 4),
        }
    whole = f"seconds_{EPOCHS}_epochs"
    for name, key in (("epoch", "seconds_per_epoch"), (f"{EPOCHS}_epochs", whole)):
        ratio = result["original"][key] / result["ours"][key]
        result[f"times_faster_{name}"] = round(ratio, 2)
    return result


def measure_seeds(
    seeds: list[int], captions: str, store: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Notebook 05's training on the profile's dataset, once per seed; `store` as above."""
    profile, device = get_profile(), best_device()
    require(profile.dataset_dir, "01")
    runs: list[dict[str, Any]] = []
    result = {"profile": profile.name, "data": profile.data_label, **about(device), "runs": runs}
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            model, processor = start_model(profile, seed)
            examples = load_examples(profile, model.to(device), processor, captions)
            splits, config = (examples["train"], examples["validation"]), recipe(profile, seed=seed)
            with peak_memory(device) as peak:
                begin = time.perf_counter()
                history = train(model, processor, *splits, config, Path(folder) / str(seed))
                seconds = time.perf_counter() - begin
            runs.append(
                {
                    "seed": seed,
                    "validation_loss": round(history.best["loss"], 4),
                    "best_epoch": history.best["epoch"],
                    "seconds": round(seconds, 1),
                    "peak_gb": peak[0],
                }
            )
            store(result)
    losses = [run["validation_loss"] for run in runs]
    mean = statistics.mean(losses)
    return result | {
        "captions": splits[0].captions,
        "items": len(splits[0]),
        "epochs": config.epochs,
        "mean_validation_loss": round(mean, 4),
        "largest_distance_from_mean": round(max(abs(loss - mean) for loss in losses) / mean, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, help="default: 2,906, and a tenth of them on a CPU")
    parser.add_argument("--seeds", type=int, nargs="+", help="train the profile's own models")
    parser.add_argument("--captions", default="refined", help="with --seeds")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    kind = "training-seeds" if options.seeds else "training"

    def store(result: dict[str, Any], end: str = "-unfinished") -> None:
        place = re.sub(r"[^a-z0-9]+", "-", result["device"].lower()).strip("-")
        name = f"{result['profile']}-{place}-{kind}"
        write_json(options.results / f"{name}{end}.json", result)
        if not end:
            (options.results / f"{name}-unfinished.json").unlink(missing_ok=True)

    if options.seeds:
        result = measure_seeds(options.seeds, options.captions, store)
    else:
        result = measure_speed(options.items, store)
    print(json.dumps(result, indent=2))
    store(result, end="")


if __name__ == "__main__":
    main()
