import weakref

import huggingface_hub.utils as hub
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from moda_utils.device import best_device, best_dtype, free, free_memory, load_checkpoint
from moda_utils.profiles import Checkpoint


def test_the_device_computes_in_its_format():
    device = best_device()
    assert device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    a = torch.ones(4, 4, dtype=best_dtype(), device=device)
    assert (a @ a).sum().item() == 64
    assert best_dtype("cpu") == torch.float32


def test_free_memory_is_bytes_that_can_be_had():
    assert 10_000_000 < free_memory("cpu") < 100e12
    assert free_memory() > 0


def test_a_freed_model_keeps_its_shapes_and_no_memory():
    model = torch.nn.Linear(1000, 1000, device=best_device())
    weights = weakref.ref(model.weight.untyped_storage())
    free(model)
    assert weights() is None
    assert {weight.device.type for weight in model.parameters()} == {"meta"}
    assert model.weight.shape == (1000, 1000)


def test_bars_of_downloads_stay():
    assert not hub.are_progress_bars_disabled()


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint folder .*nowhere"):
        load_checkpoint(AutoModelForCausalLM, str(tmp_path / "nowhere"))


def test_without_a_network_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="owner/model can't be loaded: .*profile mini") as caught:
        load_checkpoint(AutoTokenizer, Checkpoint("owner/model", "main"))
    assert "\n" not in str(caught.value)


def test_a_broken_checkpoint_is_an_error_not_a_random_model(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "opt"}')
    with pytest.raises(OSError, match="can't be loaded"):
        load_checkpoint(AutoModelForCausalLM, str(tmp_path))
