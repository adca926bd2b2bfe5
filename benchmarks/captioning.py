"""Photos per second of Phi-3 Vision: one by one, as most example code does it, and in batches.

    python benchmarks/captioning.py                      the profile's captioner on its photos
    python benchmarks/captioning.py --random-weights     the real size, without a download

Random weights take the same time as trained ones when the number of new tokens is fixed, so speed
and memory of the real size can be measured on a machine without network. A CPU is too slow for the
whole model: there the default is a decoder and a CLIP tower of 2 layers, and the result says so.

The result is printed and written to benchmarks/results/.
"""

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from moda_utils.answers import run_batches
from moda_utils.captioning import Captioner
from moda_utils.catalog import load_photos, read_catalog
from moda_utils.device import best_device, best_dtype
from moda_utils.journal import Journal
from moda_utils.phi3_vision import (
    Phi3VisionConfig,
    Phi3VisionForConditionalGeneration,
    Phi3VisionImageProcessor,
    Phi3VisionProcessor,
)
from moda_utils.profiles import ROOT, get_profile
from moda_utils.storage import write_json

# Sizes of the public checkpoint; the rotary factors don't change the time.
REAL = {
    "vocab_size": 32064,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_attention_heads": 32,
    "max_position_embeddings": 131072,
    "original_max_position_embeddings": 4096,
    "rope_scaling": {"type": "su", "short_factor": [1.0] * 48, "long_factor": [2.0] * 48},
}
REAL_LAYERS, REAL_CLIP_LAYERS = 32, 24
REAL_PHOTO = (1080, 1440)  # width and height of the Kaggle photos


def random_captioner(device: torch.device, layers: int) -> Captioner:
    """Phi-3 Vision of the real sizes with random weights, and a tokenizer of one word per token."""
    torch.manual_seed(0)
    clip = {"num_hidden_layers": min(REAL_CLIP_LAYERS, layers)}
    config = Phi3VisionConfig(**REAL, num_hidden_layers=layers, clip_vision_config=clip)
    torch.set_default_dtype(best_dtype(device))
    with device:
        model = Phi3VisionForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    special = {"<unk>": 0, "<s>": 1, "</s>": 2, "<|endoftext|>": 32000, "<|assistant|>": 32001}
    special |= {"<|end|>": 32007, "<|user|>": 32010}
    words = {f"word{i}": i for i in range(32064) if i not in special.values()}
    tokenizer = Tokenizer(models.WordLevel(words | special, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    return Captioner(model, Phi3VisionProcessor(Phi3VisionImageProcessor(), fast))


def noise_photos(folder: Path, n: int) -> list[Path]:
    """JPEG files of the real photos' size."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(n):
        small = Image.fromarray(rng.integers(0, 256, (48, 36, 3), dtype=np.uint8))
        paths.append(folder / f"{number}.jpg")
        small.resize(REAL_PHOTO, Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def one_by_one(captioner: Captioner, paths: list[Path]) -> tuple[float, list[str]]:
    """Seconds for a plain loop over photos, and the texts."""
    start = time.perf_counter()
    texts = [captioner([captioner.prepare(path)])[0].text for path in paths]
    return time.perf_counter() - start, texts


def batched(captioner: Captioner, paths: list[Path], size: int) -> tuple[float, list[str]]:
    """Seconds for the course's loop, journal included, and the texts."""
    items = [{"product_id": str(n), "image_sha256": path.name} for n, path in enumerate(paths)]
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "captions.jsonl", "benchmark", "", "")
        start = time.perf_counter()
        run_batches(
            items,
            journal,
            prepare=lambda item: captioner.prepare(paths[int(item["product_id"])]),
            answer=captioner,
            batch_size=size,
        )
        seconds = time.perf_counter() - start
        rows = journal.done()
    return seconds, [rows[item["product_id"], item["image_sha256"]]["raw"] for item in items]


def measure(captioner: Captioner, paths: list[Path], size: int, rounds: int) -> dict[str, Any]:
    """Both ways on the same photos, in turns, so that a busy machine slows down both alike.

    Args:
        size: photos in a batch.
        rounds: how often each way is measured; the median counts.
    """
    cuda = captioner.model.device.type == "cuda"
    first = captioner.prepare(paths[0])
    ways: dict[str, dict[str, Any]] = {
        name: {"photos": len(paths), "seconds": [], "peak_gb": None}
        for name in ("one_by_one", "batched")
    }
    texts: dict[str, list[str]] = {}
    for round_ in range(rounds):
        for name, way in ways.items():
            if cuda and not round_:  # the first use of every shape compiles and reserves
                captioner([captioner.prepare(path) for path in paths[: size if texts else 1]])
            _reset_peak(cuda)
            if name == "batched":
                seconds, texts[name] = batched(captioner, paths, size)
            else:
                seconds, texts[name] = one_by_one(captioner, paths)
            way["seconds"].append(round(seconds, 2))
            peak = torch.cuda.max_memory_allocated() if cuda else _peak_of_process()
            if peak is not None:
                way["peak_gb"] = max(way["peak_gb"] or 0.0, round(peak / 1e9, 2))
    for way in ways.values():
        way["photos_per_second"] = round(way["photos"] / statistics.median(way["seconds"]), 3)
    pairs = list(zip(texts["one_by_one"], texts["batched"], strict=True))
    rates = [ways[name]["photos_per_second"] for name in ("batched", "one_by_one")]
    return {
        "tiles": len(first[1][0]),
        "prompt_tokens": len(first[0]),
        "image_tokens": sum(number < 0 for number in first[0]),
        "batch_size": size,
        **ways,
        "times_faster": round(rates[0] / rates[1], 2),
        "equal_texts": f"{sum(one == other for one, other in pairs)} of {len(pairs)}",
    }


def _reset_peak(cuda: bool) -> None:
    """Forget the peak so far, so that each way is measured by itself."""
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def _peak_of_process() -> int | None:
    """Peak resident bytes since `_reset_peak`; None where the system can't tell."""
    if sys.platform != "linux":
        return None
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--random-weights", action="store_true", help="real size, no download")
    parser.add_argument("--profile", help="whose captioner to measure (default: the usual choice)")
    parser.add_argument("--layers", type=int, help="decoder layers with random weights")
    parser.add_argument("--device", type=torch.device, default=best_device())
    parser.add_argument("--crops", type=int, nargs="+", help="default: 4 16, or the profile's")
    parser.add_argument("--new-tokens", type=int, default=40, help="with random weights: exactly")
    parser.add_argument("--photos", type=int, help="photos to describe in both ways")
    parser.add_argument("--batch-size", type=int, help="default: by free memory")
    parser.add_argument("--rounds", type=int, help="measurements of each way, taken in turns")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()

    device, cuda = options.device, options.device.type == "cuda"
    profile = get_profile("full" if options.random_weights else options.profile)
    result: dict[str, Any] = {
        "profile": profile.name,
        "weights": "random" if options.random_weights else "trained",
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    with tempfile.TemporaryDirectory() as folder:
        if options.random_weights:
            layers = options.layers or (REAL_LAYERS if cuda else 2)
            captioner = random_captioner(device, layers)
            captioner.max_new_tokens = options.new_tokens
            captioner.model.generation_config.min_new_tokens = options.new_tokens
            result |= {"layers": f"{layers} of {REAL_LAYERS}", "new_tokens": options.new_tokens}
            result["reduced"] = layers < REAL_LAYERS
        else:
            captioner = Captioner.load(profile, device=device)
        result["dtype"] = str(captioner.model.dtype).removeprefix("torch.")
        result["parameters"] = captioner.model.num_parameters()
        result["crops"] = {}
        small = options.random_weights and not cuda
        for crops in options.crops or ([4, 16] if options.random_weights else [profile.num_crops]):
            captioner.processor.image_processor.num_crops = crops
            size = options.batch_size or (4 if small else captioner.batch_size())
            n = options.photos or (size if small else max(size, 64))
            if options.random_weights:
                paths = noise_photos(Path(folder), n)
            else:
                catalog = read_catalog(load_photos(profile))
                frame = catalog.frame.drop_duplicates("image_sha256").sort_values("image_sha256")
                paths = [catalog.root / image for image in frame["image"][:n]]
            rounds = options.rounds or (1 if small else 3)
            result["crops"][str(crops)] = measure(captioner, paths, size, rounds)
            place = re.sub(r"[^a-z0-9]+", "-", result["device"].lower()).strip("-")
            kind = "captioning-random-weights" if options.random_weights else "captioning"
            # After each: a rented GPU may go before the next one is done.
            write_json(options.results / f"{profile.name}-{place}-{kind}.json", result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
