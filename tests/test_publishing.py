"""Publishing, against a stand-in for the Hub on this machine: what arrives, and what never does."""

import json
import os
import subprocess
import sys
import types

import pytest
import yaml
from fake_upload_hub import UploadHub
from shop import shop_row, write_shop
from tiny_moda import SAYS, photo, teach

from moda_utils import publishing
from moda_utils.dataset import build_catalog
from moda_utils.evaluation import evaluate
from moda_utils.profiles import ROOT, get_profile
from moda_utils.publishing import find_token, model_card, publish

TOKEN = "hf_a_secret_that_no_output_may_hold"


@pytest.fixture(scope="module")
def best(tmp_path_factory):
    return teach(tmp_path_factory.mktemp("moda"))


@pytest.fixture
def profile(best, monkeypatch):
    """A taught model, a small shop of real photos, and an evaluation of a few sentences."""
    home = best.parents[3]
    monkeypatch.setenv("MODA_HOME", str(home))
    monkeypatch.setenv("MODA_PROFILE", "mini")
    write_shop(home / "shop", [shop_row(number) for number in range(20)])
    monkeypatch.setenv("MODA_DATA_DIR", str(home / "shop"))
    profile = get_profile()
    if not profile.dataset_dir.exists():
        (profile.home / "runs").mkdir(parents=True)
        os.symlink(best.parent, profile.run_dir("moda"))
        frame = build_catalog(profile).frame.head(4)
        said = {"moda": {"descriptions": ["Red casual T-shirt for boys"] * 3 + ["Blue dress"]},
                "majority": {"descriptions": ["Red casual T-shirt for boys"] * 4}}  # fmt: skip
        evaluate(said, frame, profile, path=profile.evaluation_path("moda"))
    return profile


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_holds_the_figures_of_the_evaluation(profile):
    card = model_card(profile, "someone/moda")
    about = front_matter(card)
    result = json.loads(profile.evaluation_path("moda").read_text())
    scores = result["systems"]["moda"]["criteria"]
    [results] = about["model-index"]
    found = {
        metric["type"]: metric["value"]
        for entry in results["results"] for metric in entry["metrics"]
    }  # fmt: skip
    assert found == {name: score["value"] for name, score in scores.items()}
    colour = "{value:.2f} [{low:.2f}, {high:.2f}]".format(**scores["colour"])
    assert f"| moda | {colour} |" in card and "| majority |" in card
    assert "4 real photos of the test split" in card
    assert 'snapshot_download("someone/moda")' in card
    assert about["license"] == "mit" and about["pipeline_tag"] == "image-to-text"
    assert "$" not in card and str(ROOT) not in card and str(profile.home) not in card


def test_a_card_before_the_evaluation_says_so(profile):
    path = profile.evaluation_path("moda")
    kept = path.read_text()
    path.unlink()
    try:
        card = model_card(profile, "someone/moda")
    finally:
        path.write_text(kept)
    assert "Not evaluated yet." in card and "model-index" not in front_matter(card)


def test_real_models_hand_on_their_licence(profile, monkeypatch):
    full = get_profile("full")
    monkeypatch.setattr(publishing, "require", lambda path, notebook: path)
    real = types.SimpleNamespace(
        vision=full.vision, language=full.language, data_label="real",
        run_dir=profile.run_dir, evaluation_path=profile.evaluation_path,
        dataset_dir=profile.dataset_dir,
    )  # fmt: skip
    about = front_matter(model_card(real, "someone/moda"))
    assert about["license"] == "other"
    assert about["base_model"] == ["patrickjohncyh/fashion-clip", "facebook/opt-125m"]
    assert "non-commercial research only" in model_card(real, "someone/moda")


def in_process(hub, code, token=TOKEN):
    """Run code that imports huggingface_hub anew: it reads HF_ENDPOINT when it is imported."""
    environment = {**os.environ, **hub.environment, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    environment |= {"HF_TOKEN": token} if token else {}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


PUBLISH = """
from moda_utils.profiles import get_profile
from moda_utils.publishing import publish
print(publish(get_profile(), "someone/moda", {kind!r}, private=True))
"""


@pytest.mark.slow
def test_a_published_model_can_be_fetched_and_used(profile, best, tmp_path):
    photo("blue").save(tmp_path / "blue.png")
    with UploadHub(tmp_path / "hub", TOKEN) as hub:
        for attempt in range(2):
            done = in_process(hub, PUBLISH.format(kind="model"))
            assert done.returncode == 0, done.stderr
            assert done.stdout.strip() == f"{hub.address}/someone/moda"
            assert TOKEN not in done.stdout + done.stderr
            assert hub.commits == 1, f"attempt {attempt}: the same content is not sent again"
        assert "private" in (hub.created[0].get("visibility"), *hub.created[0])
        arrived = hub.stored("model", "someone/moda")
        code = f"""
from huggingface_hub import snapshot_download
from moda_utils import describe
print(describe({str(tmp_path / "blue.png")!r}, snapshot_download("someone/moda"), note=False))
"""
        used = in_process(hub, code.replace("snapshot_download(", "snapshot_download(cache_dir="
                          f"{str(tmp_path / 'cache')!r}, repo_id="), token=None)  # fmt: skip
        assert used.returncode == 0, used.stderr
        assert used.stdout.strip() == SAYS["blue"]
    sent = {path.name: path.read_bytes() for path in best.iterdir()}
    assert {name: arrived[name] for name in sent} == sent
    assert set(arrived) == {*sent, "README.md"}
    for name, content in arrived.items():
        if name.endswith((".json", ".md")):
            assert TOKEN.encode() not in content and str(profile.home).encode() not in content


def test_a_published_dataset_has_its_photos_and_its_card(profile, tmp_path):
    with UploadHub(tmp_path / "hub", TOKEN) as hub:
        done = in_process(hub, PUBLISH.format(kind="dataset"))
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == f"{hub.address}/datasets/someone/moda"
        arrived = hub.stored("dataset", "someone/moda")
    folder = profile.dataset_dir
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    assert arrived == {name: path.read_bytes() for name, path in files.items()}
    assert "data/train.parquet" in arrived and front_matter(arrived["README.md"].decode())


def test_real_photos_are_not_shown_to_everyone(profile):
    with pytest.raises(ValueError, match="licence is not established"):
        publish(profile, "someone/moda", "dataset", private=False)


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_nothing_private_goes_into_a_repository_that_everyone_sees(profile, tmp_path, kind):
    with UploadHub(tmp_path / "hub", TOKEN) as hub:
        (hub.root / kind / "someone" / "moda").mkdir(parents=True)  # made public, earlier
        done = in_process(hub, PUBLISH.format(kind=kind))
        assert done.returncode == 1
        assert "someone/moda is there already, for everyone to see" in done.stderr.splitlines()[-1]
        assert hub.commits == 0 and hub.large == {} and hub.stored(kind, "someone/moda") == {}


def test_without_a_network_a_sentence_says_so(profile, tmp_path):
    with UploadHub(tmp_path / "hub", TOKEN) as hub:
        pass  # nobody listens at its address any more
    done = in_process(hub, PUBLISH.format(kind="model"))
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "The Hub can't be reached" in last and "check the network, then publish again" in last


def test_a_wrong_token_and_no_token_are_said_in_words(profile, tmp_path):
    with UploadHub(tmp_path / "hub", TOKEN) as hub:
        refused = in_process(hub, PUBLISH.format(kind="model"), token="hf_wrong")
        assert refused.returncode == 1
        last = refused.stderr.strip().splitlines()[-1]
        assert "The Hub refused (401)" in last and "right to write" in last
        assert "hf_wrong" not in refused.stderr
        none = in_process(hub, PUBLISH.format(kind="model"), token=None)
        assert "There is no HF_TOKEN" in none.stderr.strip().splitlines()[-1]
        assert hub.commits == 0


def test_a_name_without_an_owner_is_refused(profile, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(ValueError, match='give "owner/name"'):
        publish(profile, "not a/good/name")


def test_nothing_to_publish_names_the_notebook(tmp_path, monkeypatch):
    monkeypatch.setenv("MODA_HOME", str(tmp_path))
    monkeypatch.setenv("MODA_PROFILE", "mini")
    for kind, notebook in (("model", "05"), ("dataset", "01")):
        with pytest.raises(FileNotFoundError, match=f"run notebook {notebook} first"):
            publish(get_profile(), "someone/moda", kind)


class Secrets(types.ModuleType):
    """What `google.colab.userdata` offers."""

    class SecretNotFoundError(Exception):
        pass

    class NotebookAccessError(Exception):
        pass

    def __init__(self, answer):
        super().__init__("google.colab.userdata")
        self.answer = answer

    def get(self, name):
        assert name == "HF_TOKEN"
        if isinstance(self.answer, str):
            return self.answer
        raise self.answer


@pytest.mark.parametrize("answer", ["hf_colab", Secrets.SecretNotFoundError(),
                                    Secrets.NotebookAccessError()])  # fmt: skip
def test_the_token_comes_from_colabs_secrets_or_the_environment(monkeypatch, answer):
    colab = types.ModuleType("google.colab")
    colab.userdata = Secrets(answer)
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setitem(sys.modules, "google.colab.userdata", colab.userdata)
    monkeypatch.setenv("HF_TOKEN", "hf_environment")
    assert find_token() == (answer if isinstance(answer, str) else "hf_environment")
    monkeypatch.delenv("HF_TOKEN")
    if not isinstance(answer, str):
        with pytest.raises(RuntimeError, match="There is no HF_TOKEN"):
            find_token()
