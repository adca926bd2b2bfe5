"""The training benchmark, whole, with models of a few thousand weights and small photos."""

import importlib.util
import json
import sys

import pytest
import torch
from shop import shop_row, write_shop
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, OPTConfig

from moda_utils.dataset import build_catalog
from moda_utils.modeling_moda import ModaConfig, ModaForConditionalGeneration, ModaProcessor
from moda_utils.profiles import ROOT, get_profile
from moda_utils.storage import read_json

RESULTS = ROOT / "benchmarks" / "results"
WAYS = ("original", "ours")
LOSSES_AGREE = 1e-3  # relative, over 50 steps of AdamW, which magnifies the last digits


@pytest.fixture
def benchmark(monkeypatch):
    path = ROOT / "benchmarks" / "training.py"
    spec = importlib.util.spec_from_file_location("training_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    real = module.real_size()[1].tokenizer

    def tiny() -> tuple[ModaForConditionalGeneration, ModaProcessor]:
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        vision = {**sizes, "intermediate_size": 16, "image_size": 32, "patch_size": 16}
        vision = CLIPVisionConfig(**vision, projection_dim=12)
        text = OPTConfig(**sizes, ffn_dim=16, word_embed_proj_dim=16)
        side = {"height": 32, "width": 32}
        images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=side)
        return ModaForConditionalGeneration(ModaConfig(vision, text)), ModaProcessor(images, real)

    monkeypatch.setattr(module, "real_size", tiny)
    monkeypatch.setattr(module, "REAL_PHOTO", (48, 64))
    monkeypatch.setattr(module, "STEPS", 6)
    return module


def test_both_ways_train_the_same_and_every_figure_is_measured(
    benchmark, tmp_path, monkeypatch, capsys
):
    arguments = ["training.py", "--items", "40", "--results", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    benchmark.main()
    result = json.loads((tmp_path / "full-cpu-training.json").read_text())
    assert json.loads(capsys.readouterr().out.split("\n{", 1)[1].join(["{", ""])) == result
    assert (result["items"], result["weights"], result["reduced"]) == (40, "random", True)
    # Utilisations are of one and the same speed, where both ways compute in the same format.
    speeds = {result[way]["format"]: result[way]["matrix_product_tflops"] for way in WAYS}
    assert [result[way]["matrix_product_tflops"] for way in WAYS] == [*speeds.values()] * 2
    losses = result["losses"]
    assert losses["steps"] == 6
    assert losses["largest_relative_difference"] < 1e-4
    assert losses["first"][0] > losses["last"][0]  # and they were really trained
    for way in ("original", "ours"):
        figures = result[way]
        assert figures["seconds_per_epoch"] > 0
        if sys.platform == "linux":
            assert 0.1 < figures["peak_gb"] < 10
        assert figures["samples_per_second"] > 0 and 0 < figures["flop_utilisation"] < 1
        assert figures["seconds_20_epochs_calculated"]
    assert result["ours"]["encoding_once_seconds"] > 0
    expected = result["original"]["seconds_20_epochs"] / result["ours"]["seconds_20_epochs"]
    assert result["times_faster_20_epochs"] == pytest.approx(expected, abs=0.006)
    assert [path.name for path in tmp_path.iterdir()] == ["full-cpu-training.json"]


def test_what_is_measured_stays_when_a_later_part_fails(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["training.py", "--items", "20", "--results", str(tmp_path)])

    def lost(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, "compare_losses", lost)
    with pytest.raises(KeyboardInterrupt):
        benchmark.main()
    [file] = tmp_path.iterdir()
    assert file.name == "full-cpu-training-unfinished.json"  # no table reads it
    result = json.loads(file.read_text())
    assert result["device"] == "cpu" and "losses" not in result
    for way in ("original", "ours"):
        assert result[way]["seconds_per_epoch"] > 0


@pytest.mark.skipif(sys.platform != "linux", reason="the peak as Linux keeps it")
def test_each_part_has_a_peak_of_its_own(benchmark):
    device, peaks = torch.device("cpu"), []
    for numbers in (100_000_000, 1):
        with benchmark.peak_memory(device) as peak:
            torch.ones(numbers).sum()
        peaks.append(peak[0])
    assert peaks[0] - peaks[1] == pytest.approx(0.4, abs=0.05)  # 4 bytes each, freed in between


def test_operations_of_the_real_sizes(benchmark, tmp_path):
    """One item of 10 words has 13 places; OPT-125M and the projection have 127.6 million weights
    in matrices and biases that a place passes through."""
    with torch.device("meta"):
        model = ModaForConditionalGeneration(ModaConfig(CLIPVisionConfig(), OPTConfig()))
    shop = benchmark.Shop(tmp_path, 5)
    shop.texts = [" ".join(["w7"] * 10)] * 5
    operations = benchmark.flops_per_epoch(shop, model, None)
    weights = 125_239_296 + 3_936_000 - 2050 * 768
    assert operations["training"] == 13 * weights * (4 * 6 + 1 * 2)
    assert operations["encoding"] == 2 * 87_849_216 * 50 * 5


def test_seeds_are_measured_on_the_profile_s_own_dataset(benchmark, tmp_path, monkeypatch):
    write_shop(tmp_path / "shop", [shop_row(number) for number in range(20)])
    for name, value in {
        "MODA_PROFILE": "mini",
        "MODA_DATA_DIR": str(tmp_path / "shop"),
        "MODA_HOME": str(tmp_path / "home"),
    }.items():
        monkeypatch.setenv(name, value)
    build_catalog(get_profile())
    recipe = benchmark.recipe
    monkeypatch.setattr(benchmark, "recipe", lambda profile, **c: recipe(profile, epochs=2, **c))
    stored = []
    result = benchmark.measure_seeds(
        [0, 1], "template", lambda result: stored.append(len(result["runs"]))
    )
    assert stored == [1, 2]
    runs = result["runs"]
    assert [run["seed"] for run in runs] == [0, 1]
    assert runs[0]["validation_loss"] != runs[1]["validation_loss"]
    mean = (runs[0]["validation_loss"] + runs[1]["validation_loss"]) / 2
    assert result["mean_validation_loss"] == pytest.approx(mean, abs=1e-4)
    far = abs(runs[0]["validation_loss"] - mean) / mean
    assert result["largest_distance_from_mean"] == pytest.approx(far, abs=1e-3)
    assert (result["captions"], result["data"], result["epochs"]) == ("template", "real", 2)


# What the course promises, held against the stored measurements


def test_the_stored_seeds_keep_time_and_loss():
    result = read_json(RESULTS / "mini-cpu-training-seeds.json")
    runs = result["runs"]
    assert (result["captions"], result["epochs"], result["processors"]) == ("refined", 20, 2)
    assert len({run["seed"] for run in runs}) == len(runs) >= 3
    assert max(run["seconds"] for run in runs) <= 90
    losses = [run["validation_loss"] for run in runs]
    mean = sum(losses) / len(losses)
    assert max(abs(loss - mean) for loss in losses) <= 0.05 * mean
    assert result["mean_validation_loss"] == pytest.approx(mean, abs=1e-4)


def test_the_stored_comparison_reaches_equal_losses_in_both_ways():
    """That of the CPU has to be there; one of a GPU is held to the same."""
    paths = sorted(RESULTS.glob("full-*-training.json"))
    assert RESULTS / "full-cpu-training.json" in paths
    for path in paths:
        result = read_json(path)
        losses = result["losses"]
        assert (losses["steps"], losses["format"]) == (50, "float32")
        assert losses["largest_relative_difference"] <= LOSSES_AGREE
        assert losses["last"][0] < 0.9 * losses["first"][0]  # and they were really trained
        took = [result[way]["seconds_20_epochs"] for way in ("original", "ours")]
        assert result["times_faster_20_epochs"] == pytest.approx(took[0] / took[1], rel=0.01)
        assert took[0] > took[1]
        ways = [result[way] for way in WAYS]
        for way in ways:
            assert 0 < way["flop_utilisation"] < 1
        if ways[0]["format"] == ways[1]["format"]:
            assert ways[0]["matrix_product_tflops"] == ways[1]["matrix_product_tflops"]
