"""The mini checkpoints in the dress of their big sisters: names, files and stored types of the hub.

The rehearsal loads `full` from such copies, so each line that a reader of `full` runs has run, and
only the weights differ. The copies of the Phi-3 models come with the Python files that the real
repositories bring along; if any of them is ever executed, it leaves a mark (see `RAN`).
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from moda_utils.profiles import get_profile

COMMIT = "c0ffee" + "0" * 34
PARTS = ("vision", "language", "captioner", "refiner")  # fields of a profile that name checkpoints
REMOTE_CODE = ("modeling", "configuration", "image_processing", "processing")
RAN = "MODA_REMOTE_CODE_RAN"  # names the file that executed remote code makes


def real_names() -> dict[str, Path]:
    """{name of a repository on the hub: folder of the mini checkpoint that stands in for it}."""
    full, mini = get_profile("full"), get_profile("mini")
    pairs = {getattr(full, part).name: Path(getattr(mini, part).name) for part in PARTS}
    return {name: folder for name, folder in pairs.items() if folder.is_dir()}


def write_repositories(root: Path) -> dict[str, Path]:
    """Write a folder per repository below `root`: {name: folder}."""
    written = {}
    for name, source in real_names().items():
        folder = root / name
        shutil.copytree(source, folder)
        model_type = json.loads((folder / "config.json").read_text())["model_type"]
        if model_type == "opt":
            _like_opt(folder)
        elif model_type == "clip":
            _like_fashion_clip(folder)
        else:
            _like_phi3(folder, model_type)
        written[name] = folder
    return written


def seed_cache(hub: Path, repositories: dict[str, Path]) -> None:
    """Lay the folders into a hub cache ($HF_HOME/hub) as finished downloads of `main`."""
    for name, folder in repositories.items():
        place = hub / f"models--{name.replace('/', '--')}"
        shutil.copytree(folder, place / "snapshots" / COMMIT)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text(COMMIT)


def _like_opt(folder: Path) -> None:
    """facebook/opt-125m: a pickled float16 file, a tokenizer in two files, no tokenizer.json."""
    files = {file.name for file in folder.iterdir()}
    assert {"pytorch_model.bin", "vocab.json", "merges.txt"} <= files
    assert not {"tokenizer.json", "model.safetensors"} & files
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    assert {weight.dtype for weight in weights.values()} == {torch.float16}


def _like_fashion_clip(folder: Path) -> None:
    """patrickjohncyh/fashion-clip: float32 safetensors, a preprocessor, both forms of tokenizer."""
    files = {file.name for file in folder.iterdir()}
    assert {"preprocessor_config.json", "tokenizer.json", "vocab.json", "merges.txt"} <= files
    dtypes = {weight.dtype for weight in load_file(folder / "model.safetensors").values()}
    assert dtypes == {torch.float32}


def _like_phi3(folder: Path, model_type: str) -> None:
    """microsoft/Phi-3-*: bfloat16 in two shards with an index, and code that wants to be run."""
    weights = {}
    for file in sorted(folder.glob("*.safetensors")):
        weights |= load_file(file)
        file.unlink()
    weights = {name: weight.to(torch.bfloat16) for name, weight in sorted(weights.items())}
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    names, places = list(weights), {}
    half = len(names) // 2
    for number, part in enumerate((names[:half], names[half:]), start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({n: weights[n] for n in part}, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(part, file)
    size = sum(weight.nbytes for weight in weights.values())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.pop("dtype", None)
    kind = "Phi3V" if model_type == "phi3_v" else "Phi3"
    config |= {"torch_dtype": "bfloat16", "architectures": [f"{kind}ForCausalLM"]}
    if model_type == "phi3_v":  # an extra package, which the course must do without
        config["_attn_implementation"] = "flash_attention_2"
    config["auto_map"] = {
        "AutoConfig": f"configuration_{model_type}.{kind}Config",
        "AutoModelForCausalLM": f"modeling_{model_type}.{kind}ForCausalLM",
    }
    path.write_text(json.dumps(config))
    trap = f"import os, pathlib\npathlib.Path(os.environ['{RAN}']).touch()\n"
    for what in REMOTE_CODE:
        (folder / f"{what}_{model_type}.py").write_text(trap)
