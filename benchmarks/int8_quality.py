"""Does MODA say the same with int8 weights? The five criteria before and after, photo by photo.

    python benchmarks/int8_quality.py            after notebook 05, about three minutes in mini

Takes the trained model of the profile. Where photos are drawn, it describes freshly drawn items,
many more than the test split has; where they are real, those of the test split.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from descriptions import draw_fresh

from moda_utils.catalog import load_catalog
from moda_utils.evaluation import CRITERIA, grade, paired_difference, score
from moda_utils.fast import FastModa
from moda_utils.profiles import ROOT, Profile, get_profile
from moda_utils.serving import generate_texts, load_model, open_checked
from moda_utils.storage import write_json


def said(model: Any, processor: Any, pixels: list[Tensor]) -> list[str]:
    """Descriptions of batches of pixels (B, 3, height, width)."""
    with torch.inference_mode():
        embeds = torch.cat([model.encode_images(batch) for batch in pixels])
    return generate_texts(model, processor, embeds)[0]


def measure(folder: Path, root: Path, frame: pd.DataFrame) -> dict[str, Any]:
    """Describe the photos of `frame` with both forms of the model in `folder`."""
    plain, processor = load_model(folder)
    photos = [open_checked(root / name) for name in frame["image"]]
    batches = [photos[start : start + 64] for start in range(0, len(photos), 64)]
    pixels = [processor(images=batch)["pixel_values"] for batch in batches]
    forms = {"float32": plain.cpu(), "int8": FastModa.from_folder(folder)}
    texts = {name: said(model, processor, pixels) for name, model in forms.items()}
    scores = {name: score(text, frame)["criteria"] for name, text in texts.items()}
    grades = {name: grade(text, frame) for name, text in texts.items()}
    return {
        "n": len(frame),
        "texts_changed": sum(a != b for a, b in zip(*texts.values(), strict=True)),
        "criteria": scores,
        "int8_minus_float32": {
            name: paired_difference(grades["int8"][name], grades["float32"][name], frame)
            for name in CRITERIA
        },
        "allowed_loss": round(scores["float32"]["overall"]["value"] / 100, 4),
    }


def measured_photos(profile: Profile, folder: Path, n: int) -> tuple[Path, pd.DataFrame, str]:
    """The photos' root, their catalogue rows, and what to call them."""
    if profile.data_source == "drawn":
        fresh, _ = draw_fresh(folder / "fresh", n)
        return fresh.root, fresh.frame, "fresh drawn items"
    catalog = load_catalog(profile.catalog_path)
    test = catalog.frame[catalog.frame["split"] == "test"]
    return catalog.root, test, f"{profile.data_label}, test split"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", type=int, default=2000, help="fresh items (default: 2000)")
    options = parser.parse_args()
    profile = get_profile()
    best = profile.run_dir("moda") / "best"
    with tempfile.TemporaryDirectory() as folder:
        root, frame, data = measured_photos(profile, Path(folder), options.n)
        result = {"profile": profile.name, "data": data} | measure(best, root, frame)
    overall = result["int8_minus_float32"]["overall"]
    print(f"{result['texts_changed']} of {result['n']} texts changed; overall grade {overall}")
    path = ROOT / "benchmarks" / "results" / f"{profile.name}-cpu-int8-quality.json"
    write_json(path, result)
    print(f"-> {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
