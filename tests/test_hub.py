"""Checkpoints from the hub: the real client against a local server, and each way it can fail.

HF_ENDPOINT is read when huggingface_hub is imported, so a process of its own does the asking: it
stays alive between questions, because importing takes longer than all of them.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fake_hub import FakeHub
from ports import nobodys_port
from real_layout import write_repositories
from transformers import CLIPConfig, CLIPModel

from moda_utils.profiles import ROOT

CLIP, OPT = "patrickjohncyh/fashion-clip", "facebook/opt-125m"
MB = 2**20

CHILD = """
import json, sys, time
import transformers
from moda_utils.device import load_checkpoint
from moda_utils.modeling_moda import ModaForConditionalGeneration, ModaProcessor, VisionTower
from moda_utils.profiles import Checkpoint

LOADERS = {
    "clip": (VisionTower, "patrickjohncyh/fashion-clip"),
    "photos": (transformers.CLIPImageProcessorPil, "patrickjohncyh/fashion-clip"),
    "opt": (transformers.AutoModelForCausalLM, "facebook/opt-125m"),
    "words": (transformers.AutoTokenizer, "facebook/opt-125m"),
}
sleep, waits = time.sleep, []

def wait(seconds):
    waits.append(seconds)
    sleep(seconds)

time.sleep = wait
print("ready", flush=True)
for line in sys.stdin:
    what, cache = json.loads(line)
    loader, name = LOADERS[what]
    waits.clear()
    answer = {}
    try:
        load_checkpoint(loader, Checkpoint(name, "main"), cache_dir=cache)
    except OSError as error:
        answer["error"] = str(error)
    print(json.dumps(answer | {"waited": sum(waits)}), flush=True)
"""


class Reader:
    """A process with the course's loading code, that loads into the cache it is told."""

    def __init__(self, environment: dict[str, str]):
        unset = ("HF_TOKEN", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "http_proxy")
        kept = {name: value for name, value in os.environ.items() if name not in unset}
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD],
            cwd=ROOT,
            env=kept | {"TQDM_DISABLE": "1", "no_proxy": "*"} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *error) -> None:
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()

    def send(self, what: str, cache: Path) -> None:
        self.process.stdin.write(json.dumps([what, str(cache)]) + "\n")
        self.process.stdin.flush()

    def load(self, what: str, cache: Path) -> str:
        """Load; returns the error's text, "" if there is none.

        `waited` has the seconds that were slept between tries: the same on any machine.
        """
        self.send(what, cache)
        answer = json.loads(self.process.stdout.readline())
        self.waited = answer["waited"]
        error = answer.get("error", "")
        assert "\n" not in error
        return error


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with FakeHub(write_repositories(tmp_path_factory.mktemp("hub"))) as server:
        yield server


@pytest.fixture(scope="module")
def online(hub):
    with Reader(hub.environment) as reader:
        yield reader


@pytest.fixture(scope="module")
def warm(online, tmp_path_factory) -> Path:
    """A cache that holds everything, filled by real downloads."""
    cache = tmp_path_factory.mktemp("warm")
    for what in ("clip", "photos", "opt", "words"):
        assert online.load(what, cache) == ""
    return cache


@pytest.fixture
def cold(tmp_path) -> Path:
    return tmp_path / "cold"


@pytest.fixture(autouse=True)
def healthy(hub):
    yield
    hub.status = hub.cut_after = hub.stall_after = None
    hub.gated.clear()
    hub.log.clear()


def test_everything_is_downloaded_and_the_pickled_file_of_opt_too(hub, online, cold):
    for what in ("clip", "photos", "opt", "words"):
        assert online.load(what, cold) == ""
    assert len(hub.fetched("model.safetensors")) == 1
    assert len(hub.fetched("pytorch_model.bin")) == 1
    hub.log.clear()
    assert online.load("clip", cold) == ""
    assert hub.fetched("model.safetensors") == []  # it is here already


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "no such model or refuses it to you (HTTP 401): correct or remove HF_TOKEN"),
        (403, "no such model or refuses it to you (HTTP 403): correct or remove HF_TOKEN"),
        (404, "no such model, revision or file (HTTP 404): check its name"),
    ],
)
@pytest.mark.parametrize("what", ["clip", "words"])
def test_refusals_say_what_to_do(hub, online, cold, what, status, words):
    hub.status = status
    error = online.load(what, cold)
    assert words in error
    assert error.endswith("or choose the profile mini, which needs no network.")
    hub.status = None
    assert online.load(what, cold) == ""  # a failure leaves nothing that stops the next try


@pytest.mark.slow  # the hub's own client tries again for half a minute, which is right here
@pytest.mark.parametrize("status", [429, 500])
def test_a_busy_hub_is_one_to_try_again(hub, online, cold, status):
    hub.status = status
    assert f"can't serve it now (HTTP {status}): try again in some minutes" in online.load(
        "clip", cold
    )


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_is_in_the_cache_works_whatever_the_hub_says(hub, online, warm, status):
    hub.status = status
    assert online.load("clip", warm) == ""


def test_a_gated_model_is_refused_with_its_way_out(hub, online, cold):
    hub.gated.add(CLIP)
    assert "accept the terms on the model's page" in online.load("clip", cold)


@pytest.fixture(scope="module")
def large(hub, tmp_path_factory) -> int:
    """Give CLIP's repository a file of FashionCLIP's vocabulary; returns its size in bytes.

    The client writes 10 MB at a time: only a larger file can be half there.
    """
    folder = tmp_path_factory.mktemp("large")
    config = CLIPConfig.from_pretrained(hub.repos[CLIP])
    config.text_config.vocab_size = 49_408
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    small, hub.repos[CLIP] = hub.repos[CLIP], folder
    yield (folder / "model.safetensors").stat().st_size
    hub.repos[CLIP] = small


@pytest.mark.parametrize(("share", "kept"), [(0.01, 0), (0.5, 10), (0.99, 20)])
def test_a_cut_download_goes_on_where_it_stopped(hub, online, large, cold, share, kept):
    hub.cut_after = int(large * share)
    assert online.load("clip", cold) == ""
    assert hub.fetched("model.safetensors") == [None, f"bytes={kept * MB}-" if kept else None]


def test_a_killed_download_leaves_nothing_half(hub, large, cold):
    """The kernel dies in the middle; whoever asks next gets the whole file."""
    hub.stall_after = large // 2
    with Reader(hub.environment) as reader:
        reader.send("clip", cold)
        assert hub.stalled.wait(600)
        reader.process.send_signal(signal.SIGKILL)
        reader.process.wait()
    with Reader(hub.environment) as reader:
        assert reader.load("clip", cold) == ""


@pytest.mark.parametrize(
    "environment",
    [
        {"HF_ENDPOINT": f"http://127.0.0.1:{nobodys_port()}"},
        {"HF_ENDPOINT": "http://hub.invalid"},  # a name that never resolves
        {"HF_HUB_OFFLINE": "1"},
    ],
    ids=["no network", "no such name", "offline mode"],
)
def test_without_a_network_the_cache_works_and_nobody_waits(environment, warm, cold):
    with Reader(environment) as reader:
        for what in ("clip", "photos", "opt", "words"):
            error = reader.load(what, cold)
            assert reader.waited < 1  # the client's own tries would wait for 23
            assert "the Hugging Face hub can't be reached" in error
            assert error.endswith("or choose the profile mini, which needs no network.")
            assert reader.load(what, warm) == ""
            assert reader.waited < 1
