"""How long one description takes on a CPU, beside captioners of about the same size.

    python benchmarks/latency.py                 real sizes, about 15 minutes on 2 cores
    python benchmarks/latency.py --small         every model tiny: does the script work?

All models are built from their public configurations with random weights: the time of a fixed
number of new tokens does not depend on what the weights say. Quality is another matter, and not
compared here. Every model gets photos at its own size and writes NEW_TOKENS tokens, greedily. Each
round measures all of them one after the other, so a busy minute of the machine hits all alike;
medians over the rounds are reported. "int8" is the same layer for all of them
(`moda_utils.fast.Int8Linear`); "as shipped" is what `describe` runs. One more system begins with
a JPEG file, as `describe` does: peers get their photos at their size, ready in memory.

A floor stands beside MODA's times: what reading its decoder's weights once per token takes at the
memory speed that is measured in the same rounds. The result goes to benchmarks/results/.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from moda_utils import serving
from moda_utils.fast import FastModa, Int8Linear
from moda_utils.modeling_moda import ModaConfig, ModaForConditionalGeneration, ModaProcessor
from moda_utils.profiles import ROOT
from moda_utils.storage import write_json

NEW_TOKENS = 24
OUTPUT_TOKENS = 4096  # of OPT's 50,272: a generous guess at what refined descriptions use
THREADS = 2
ROUNDS = 5
LONG_ROUNDS = 3  # of batches
NO_BATCH = {"SmolVLM-256M": "16 photos are 208 tiles: minutes, and nothing to learn from it"}
SHIPPED = "MODA as shipped: int8, cut output layer"
FROM_FILE = "describe() as shipped, from a JPEG file"
PHOTO = (1080, 1440)  # width and height of a usual photo of the Kaggle set
# Parameters by the models' cards: a wrong configuration would not meet them. BLIP's card says
# 247.4: it counts the output layer (23.4) beside the embeddings, whose weights it shares.
MILLIONS = {
    "MODA": 217.0, "GIT-base": 176.6, "BLIP-base": 224.0, "ViT-GPT2": 239.2, "SmolVLM-256M": 256.5,
}  # fmt: skip
FIXED = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS, "do_sample": False}
BASE = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12,
}  # fmt: skip
Caption = Callable[[int], Any]  # describes a batch of this many photos


# ---------------------------------------------------------------------------------------------
# The models, from their public configurations


def moda(small: bool) -> ModaForConditionalGeneration:
    """FashionCLIP's image tower (ViT-B/32), the projection, OPT-125M. Never says `</s>`."""
    tower = BASE | {"image_size": 224, "patch_size": 32, "projection_dim": 512}
    text = {
        "hidden_size": 768, "num_hidden_layers": 12, "ffn_dim": 3072, "num_attention_heads": 12,
        "vocab_size": 50272, "word_embed_proj_dim": 768, "max_position_embeddings": 2048,
    }  # fmt: skip
    if small:
        tower, text = shrunk(tower), shrunk(text) | {"word_embed_proj_dim": 96, "ffn_dim": 96}
    config = ModaConfig(hf.CLIPVisionConfig(**tower), hf.OPTConfig(**text))
    config.output_tokens = list(range(OUTPUT_TOKENS))
    model = ModaForConditionalGeneration(config).eval()
    with torch.no_grad():  # a score of 0 is never the highest of thousands
        model.get_input_embeddings().weight[config.end_token_id] = 0
    return model


def git(small: bool) -> Caption:
    config = hf.GitConfig()
    if small:
        vision = shrunk(BASE | {"image_size": 224, "patch_size": 16})
        config = hf.GitConfig(**shrunk(BASE), vision_config=vision)
    model = hf.GitForCausalLM(config).eval()
    first = config.bos_token_id

    def caption(batch: int) -> Tensor:
        ids = torch.full((batch, 1), first)
        return model.generate(input_ids=ids, pixel_values=noise(batch, 224), **FIXED)

    return with_model(caption, model)


def blip(small: bool) -> Caption:
    text = BASE | {"vocab_size": 30524, "encoder_hidden_size": 768}
    vision = BASE | {"image_size": 384, "patch_size": 16}
    if small:
        text, vision = shrunk(text) | {"encoder_hidden_size": 96}, shrunk(vision)
    config = hf.BlipConfig(text_config=text, vision_config=vision)
    model = hf.BlipForConditionalGeneration(config).eval()
    return with_model(lambda n: model.generate(pixel_values=noise(n, 384), **FIXED), model)


def vit_gpt2(small: bool) -> Caption:
    vision, text = hf.ViTConfig(), hf.GPT2Config(add_cross_attention=True, is_decoder=True)
    if small:
        vision = hf.ViTConfig(**shrunk(BASE))
        text = hf.GPT2Config(n_embd=96, n_layer=1, n_head=12, add_cross_attention=True)
    config = hf.VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, text)
    config.decoder_start_token_id = config.pad_token_id = text.bos_token_id
    model = hf.VisionEncoderDecoderModel(config).eval()
    start = {"decoder_start_token_id": text.bos_token_id, "pad_token_id": text.bos_token_id}
    return with_model(lambda n: model.generate(pixel_values=noise(n, 224), **start, **FIXED), model)


def smolvlm(small: bool) -> Caption:
    """A photo becomes tiles of 512 pixels, as its image processor cuts them, of 64 tokens each."""
    text = {
        "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
        "vocab_size": 49280, "max_position_embeddings": 8192, "rope_theta": 100000,
        "tie_word_embeddings": True, "pad_token_id": 2,
    }  # fmt: skip
    vision = BASE | {"image_size": 512, "patch_size": 16}
    if small:
        text, vision = text | {"num_hidden_layers": 1}, shrunk(vision)
    config = hf.Idefics3Config(
        text_config=text, vision_config=vision, scale_factor=4, image_token_id=49190
    )
    model = hf.Idefics3ForConditionalGeneration(config).eval()
    cut = hf.Idefics3ImageProcessorPil(
        size={"longest_edge": 2048}, max_image_size={"longest_edge": 512}
    )
    tiles = cut(Image.new("RGB", PHOTO), return_tensors="pt")["pixel_values"].shape[1]

    def caption(batch: int) -> Tensor:
        ids = torch.tensor([[1] * 20 + [config.image_token_id] * (64 * tiles) + [2] * 40])
        pixels = torch.randn(batch, tiles, 3, 512, 512)
        return model.generate(
            input_ids=ids.expand(batch, -1), attention_mask=torch.ones(batch, ids.shape[1]),
            pixel_values=pixels, pad_token_id=2, **FIXED,
        )  # fmt: skip

    return with_model(caption, model)


def shrunk(config: dict[str, Any]) -> dict[str, Any]:
    wide = {name: 96 for name in ("hidden_size", "intermediate_size") if name in config}
    return config | wide | {"num_hidden_layers": 1}


def noise(batch: int, size: int) -> Tensor:
    return torch.randn(batch, 3, size, size)


def with_model(caption: Caption, model: nn.Module) -> Caption:
    caption.model = model
    return caption


PEERS = {"GIT-base": git, "BLIP-base": blip, "ViT-GPT2": vit_gpt2, "SmolVLM-256M": smolvlm}


def to_int8(model: nn.Module) -> nn.Module:
    """Give a model int8 layers in place of its linear ones, GPT-2's `Conv1D` included."""
    for name, child in list(model.named_children()):
        if isinstance(child, hf.pytorch_utils.Conv1D):
            setattr(model, name, Int8Linear(child.weight.detach().t().contiguous(), child.bias))
        elif isinstance(child, nn.Linear):
            bias = None if child.bias is None else child.bias.detach()
            setattr(model, name, Int8Linear(child.weight.detach(), bias))
        else:
            to_int8(child)
    return model


def parameters(model: nn.Module) -> float:
    """Millions of weights; shared ones once."""
    return sum(weight.numel() for weight in model.parameters()) / 1e6


# ---------------------------------------------------------------------------------------------
# Measuring


def moda_captions(model: ModaForConditionalGeneration) -> dict[str, Caption]:
    """MODA in the steps from the plain model to what is shipped."""
    size = model.config.vision_config.image_size

    def plain(n: int) -> Tensor:
        return model.generate(image_embeds=model.encode_images(noise(n, size)), **FIXED)

    def fast(ready: FastModa, n: int) -> Tensor:
        return ready.generate(ready.encode_images(noise(n, size)), NEW_TOKENS)

    shipped = FastModa.from_model(model)
    whole = ModaConfig.from_dict(model.config.to_dict() | {"output_tokens": None})
    state = model.state_dict()
    full = {int8: FastModa(whole, lambda name: state[name].float(), int8) for int8 in (False, True)}
    return {
        "MODA, float32": plain,
        "MODA, float32, own decoding loop": partial(fast, full[False]),
        "MODA, int8, own decoding loop": partial(fast, full[True]),
        SHIPPED: partial(fast, shipped),
        "(of it: encoding)": lambda n: shipped.encode_images(noise(n, size)),
        "(float32: encoding)": lambda n: model.encode_images(noise(n, size)),
    }


def decoder_bytes(model: ModaForConditionalGeneration) -> dict[str, int]:
    """Bytes of weights that one new token makes the decoder read."""
    text = model.config.text_config
    layers = sum(
        layer.weight.numel()
        for layer in model.language_model.model.decoder.layers.modules()
        if isinstance(layer, nn.Linear)
    )
    head = text.vocab_size * text.hidden_size
    return {
        "MODA, float32": 4 * (layers + head),
        SHIPPED: layers + OUTPUT_TOKENS * text.hidden_size,
    }


def read_speed(block: Tensor) -> float:
    """Bytes per second at which all threads together read a block far larger than the caches."""
    began = time.perf_counter()
    block.max()
    return block.numel() * block.element_size() / (time.perf_counter() - began)


def measure(captions: dict[str, Caption], rounds: int) -> dict[str, Any]:
    """Seconds of every system at batch 1 and 16, and the memory's speed, round by round."""
    block = torch.ones(2**28 // 4 * 2)  # 512 MiB
    seconds: dict[tuple[str, int], list[float]] = {}
    speeds = []
    for number in range(rounds + 1):  # round 0 warms up
        for name, caption in captions.items():
            for batch in (1,) if name.split(",")[0] in NO_BATCH else (1, 16):
                if batch == 16 and number > LONG_ROUNDS:
                    continue
                began = time.perf_counter()
                with torch.inference_mode():
                    caption(batch)
                took = time.perf_counter() - began
                if number:
                    seconds.setdefault((name, batch), []).append(took)
        speeds += [read_speed(block) for _ in range(5)] if number else []
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    return {"seconds": seconds, "bytes_per_second": max(speeds)}


def save_whole(model: ModaForConditionalGeneration, folder: Path) -> None:
    """A folder that `describe` takes, and a photo of a usual size in it."""
    model.half().save_pretrained(folder)
    model.float()
    image = model.config.vision_config.image_size
    words = {f"word{number}": number for number in range(model.config.text_config.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="word3"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="word2", pad_token="word1"
    )
    crop = {"height": image, "width": image}
    pixels = hf.CLIPImageProcessorPil(size={"shortest_edge": image}, crop_size=crop)
    ModaProcessor(pixels, fast).save_pretrained(folder)
    noise_image = Image.effect_noise((PHOTO[0] // 8, PHOTO[1] // 8), 80).convert("RGB")
    noise_image.resize(PHOTO).save(folder / "photo.jpg")


def from_file(folder: Path) -> Caption:
    """What `describe` does for photos in files, of NEW_TOKENS tokens each as all others."""
    moda, processor = serving.load_model(folder, int8=True)
    serving.generate_texts = partial(serving.generate_texts, max_new_tokens=NEW_TOKENS)
    photo = folder / "photo.jpg"

    def caption(n: int) -> list[str]:
        texts = list(serving.describe_each([photo] * n, moda, processor))
        assert all(isinstance(text, str) for text in texts), texts
        return texts

    return caption


def first_describe(folder: Path) -> dict[str, float]:
    """In fresh processes: import, first description of a JPEG, later ones by stage, memory."""
    runs = []
    for _ in range(3):
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-c", FIRST_DESCRIBE, str(folder), str(NEW_TOKENS)]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


FIRST_DESCRIBE = """
import json, statistics, sys, time
from pathlib import Path
folder, tokens = Path(sys.argv[1]), int(sys.argv[2])
marks = [time.perf_counter()]
def lap():
    marks.append(time.perf_counter())
    return marks[-1] - marks[-2]
from moda_utils import describe
import moda_utils.serving as serving
figures = {"import_s": lap()}
describe(folder / "photo.jpg", folder, note=False)
figures["first_describe_s"] = lap()
moda, processor = serving.load_model(folder, int8=True)
stages = {"open_ms": [], "prepare_ms": [], "encode_ms": [], "write_ms": [], "all_ms": []}
for _ in range(7):
    begin = lap() or marks[-1]
    photo = serving.open_checked(folder / "photo.jpg"); stages["open_ms"].append(lap())
    pixels = processor(images=photo)["pixel_values"]; stages["prepare_ms"].append(lap())
    embeds = moda.encode_images(pixels); stages["encode_ms"].append(lap())
    moda.generate(embeds, tokens); stages["write_ms"].append(lap())
    stages["all_ms"].append(marks[-1] - marks[-5])
figures |= {name: 1000 * statistics.median(times) for name, times in stages.items()}
def peak_gb():
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e9
    import resource
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
figures["peak_memory_gb"] = peak_gb()
texts = list(serving.describe_each([folder / "photo.jpg"] * 16, moda, processor))
assert all(isinstance(text, str) for text in texts)
figures["peak_memory_folder_of_16_gb"] = peak_gb()
print(json.dumps(figures))
"""


def report(measured: dict[str, Any], model: ModaForConditionalGeneration) -> dict[str, Any]:
    """Medians by system, and the four promises."""
    systems: dict[str, dict[str, float]] = {}
    for (name, batch), times in measured["seconds"].items():
        row = systems.setdefault(name, {})
        row |= {f"batch_{batch}_rounds": len(times)} if batch > 1 else {}
        row[f"batch_{batch}_ms"] = round(1000 * statistics.median(times), 1)
        row[f"batch_{batch}_spread_ms"] = [round(1000 * t, 1) for t in (min(times), max(times))]
    for name, size in decoder_bytes(model).items():
        floor = 1000 * NEW_TOKENS * size / measured["bytes_per_second"]
        systems[name]["floor_of_decoding_ms"] = round(floor, 1)
    for name, reason in NO_BATCH.items():
        for row in (row for system, row in systems.items() if system.startswith(name)):
            row["no_batch_16"] = reason
    shipped, described = systems[SHIPPED], systems[FROM_FILE]
    peers = {name: systems[f"{name}, float32"]["batch_1_ms"] for name in PEERS}
    smol = peers.pop("SmolVLM-256M")
    return {
        "memory_gb_per_second": round(measured["bytes_per_second"] / 1e9, 1),
        "systems": systems,
        "share_of_fastest_peer": round(shipped["batch_1_ms"] / min(peers.values()), 3),
        "describe_share_of_fastest_peer": round(described["batch_1_ms"] / min(peers.values()), 3),
        "share_of_smolvlm": round(shipped["batch_1_ms"] / smol, 4),
        "batch_16_gain": round(16 * shipped["batch_1_ms"] / shipped["batch_16_ms"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="tiny models, one round")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/, nothing if small")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    hf.logging.set_verbosity_error()

    model = moda(options.small)
    folder = tempfile.TemporaryDirectory()
    save_whole(model, Path(folder.name))
    captions, sizes = moda_captions(model), {"MODA": parameters(model)}
    captions[FROM_FILE] = from_file(Path(folder.name))
    for name, build in PEERS.items():
        captions[f"{name}, float32"] = caption = build(options.small)
        sizes[name] = parameters(caption.model)
        twin = build(options.small)
        to_int8(twin.model)
        captions[f"{name}, int8"] = twin
        gc.collect()
    if not options.small:
        for name, size in sizes.items():
            assert abs(size / MILLIONS[name] - 1) < 0.005, f"{name} has {size:.1f} M parameters"
    measured = measure(captions, 1 if options.small else options.rounds)
    result = {
        "what": "random weights, sizes of the public configurations" if not options.small
        else "tiny models: the script's own test, no result",
        "machine": f"{cpu_name()}, {THREADS} threads, {platform.system()}",
        "versions": {"torch": torch.__version__, "transformers": hf.__version__},
        "new_tokens": NEW_TOKENS,
        "output_tokens": OUTPUT_TOKENS,
        "rounds": options.rounds,
        "millions_of_parameters": {name: round(size, 1) for name, size in sizes.items()},
        **report(measured, model),
    }  # fmt: skip
    captions.clear()
    first = first_describe(Path(folder.name))
    folder.cleanup()
    result["describe_as_shipped"] = {name: round(figure, 3) for name, figure in first.items()}
    print(json.dumps(result, indent=2))
    out = options.out or (
        None if options.small else ROOT / "benchmarks/results/full-cpu-latency-random-weights.json"
    )
    if out:
        write_json(out, result)


def cpu_name() -> str:
    lines = (
        Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    )
    named = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


if __name__ == "__main__":
    main()
