"""Notebook 06 where the shipped models can't show it: a second encoder, a judge, a tiny shop."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from transformers import CLIPModel

import notebooks as tool
from moda_utils.catalog import load_catalog
from moda_utils.dataset import template_description
from moda_utils.device import best_device
from moda_utils.evaluation import CRITERIA, SYSTEMS, grade
from moda_utils.features import embed_photos
from moda_utils.mini.catalogue import write_catalogue
from moda_utils.profiles import Checkpoint, get_profile
from moda_utils.storage import read_json
from moda_utils.training import start_model
from running import execute, kernel_environment

TWO_CAPTIONS = """
from moda_utils import catch_up
from moda_utils.catalog import load_catalog
from moda_utils.dataset import write_dataset
catch_up("06", go=True)
shop = load_catalog(profile.catalog_path)
two = shop.frame[shop.frame.split == "test"].head(2)[["product_id"]]
write_dataset(shop, two.assign(description_raw="A shirt."), profile.dataset_dir)
"""
(TWIN,) = tool.TWINS.glob("06_*.py")
SMALL_SHOP = 90  # items: about nine of them in the test split, most classes with one or none


def cell(with_text: str) -> str:
    """The source of the notebook's code cell that holds a text."""
    cells = tool.read_twin(TWIN).cells
    (found,) = [c.source for c in cells if c.cell_type == "code" and with_text in c.source]
    return found


@pytest.fixture(scope="module")
def other_clip(tmp_path_factory) -> Path:
    """The shipped CLIP, its weights a little changed: another encoder with its own tokenizer."""
    folder = tmp_path_factory.mktemp("clip") / "other"
    shutil.copytree(get_profile("mini").vision.name, folder)
    model = CLIPModel.from_pretrained(folder)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    model.save_pretrained(folder)
    return folder


def test_clip_score_needs_an_encoder_that_is_not_modas_own(tmp_path, other_clip):
    write_catalogue(tmp_path / "photos", n=12)
    profile = replace(get_profile("mini"), home=tmp_path, data_source=str(tmp_path / "photos"))
    from moda_utils.dataset import build_catalog

    catalog = build_catalog(profile)
    model, processor = start_model(profile)
    test = load_catalog(profile.catalog_path).frame
    right = [template_description(row) for row in test.to_dict("records")]
    said = {"moda": right, "shuffled": right[::-1]}
    names = {"profile": profile, "catalog": catalog, "test": test, "said": said, "torch": torch}
    names |= {"model": model, "processor": processor, "pd": pd, "result": {}}
    names |= {"embed_photos": embed_photos, "best_device": best_device}
    exec(cell("def clip_scores"), names)
    scores = names["clip_scores"](Checkpoint(str(other_clip)), said)
    assert 0 <= scores["shuffled"] < scores["moda"] <= 2.5
    with pytest.raises(ValueError, match="is the encoder that feeds MODA"):
        names["clip_scores"](profile.vision, said)


class Judge:
    """Grades as the rules do, half a point lower, in one of the forms that models answer in."""

    def __init__(self, form: str):
        self.form = form

    def prepare(self, item: dict) -> dict:
        return item

    def __call__(self, items: list[dict]) -> list[SimpleNamespace]:
        grades = [grade([item["caption"]], pd.DataFrame([item])).overall.iloc[0] for item in items]
        return [SimpleNamespace(text=self.form.format(max(0, g - 0.5))) for g in grades]


@pytest.mark.parametrize(
    "form", ['{{"grade": {:.1f}}}', 'Sure!\n{{"grade" : "{:.2f}", "why": ""}}']
)
def test_a_judge_that_agrees_is_read(form):
    rows = [("White", "Heels", "Women", "Casual"), ("Red", "Tops", "Girls", "Casual")]
    test = pd.DataFrame(rows, columns=["colour", "product_type", "gender", "usage"])
    names = {"pd": pd, "grade": grade}
    names["said"] = {
        "template": [template_description(row) for row in test.to_dict("records")],
        "majority": ["White heels"] * 2,
    }
    exec(cell("def read_grade"), names)
    opinions = names["judged"](Judge(form), ["template", "majority"], test)
    assert list(opinions.rules) == pytest.approx([10, 10, 6, 0])
    assert list(opinions.judge) == pytest.approx([9.5, 9.5, 5.5, 0])


@pytest.mark.parametrize("text", ["", "A white heel.", '{"description": "7"}', '{"grade": "good"}'])
def test_an_answer_without_a_grade_is_no_grade(text):
    names = {"pd": pd, "grade": grade}
    exec(cell("def read_grade"), names)
    assert names["read_grade"](text) is None


@pytest.mark.slow
def test_a_tiny_shop_of_ones_own_is_evaluated(tmp_path, monkeypatch, other_clip):
    """Few items, classes of one, two captions, and a second encoder: top to bottom."""
    write_catalogue(tmp_path / "shop", n=SMALL_SHOP)
    monkeypatch.setenv("MODA_DATA_DIR", str(tmp_path / "shop"))
    notebook = tool.read_twin(TWIN)
    for each in notebook.cells:
        if "SECOND_ENCODER = " in each.source:
            each.source = re.sub(
                'SECOND_ENCODER = ""', f'SECOND_ENCODER = "{other_clip}"', each.source
            )
        if "setup" in each.metadata.get("tags", []):
            each.source += TWO_CAPTIONS
    execute(notebook, tool.NOTEBOOKS, kernel_environment(tmp_path / "home"), tmp_path / "log")

    (shown,) = [c for c in notebook.cells if c.source.endswith("table(everyone)")]
    rows = shown.outputs[0].data["text/html"].split("<tr>")
    (row,) = [row for row in rows if "<th>teacher_raw</th>" in row]
    assert set(re.findall("<td>(.*?)</td>", row)) == {"not here"}
    result = read_json(tmp_path / "home" / "mini-shop" / "evaluation" / "moda.json")
    json.dumps(result, allow_nan=False)
    assert tuple(result["systems"]) == SYSTEMS
    assert result["small_classes"]["product_type"]
    assert result["references"] == "template"
    missing = {name for name, system in result["systems"].items() if "missing" in system}
    assert missing == {"teacher_raw", "teacher_refined"}
    raw = result["systems"]["teacher_raw"]["missing"]
    assert raw == f"notebook 02 has described 2 of {result['n']} test photos"
    assert set(result["clip_score"]) == set(SYSTEMS) - missing
    for name in set(SYSTEMS) - missing:
        assert set(result["systems"][name]["criteria"]) == set(CRITERIA)
    assert {"1", "5", "10", "20"} == set(result["epochs"])
