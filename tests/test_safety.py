"""Nothing that comes from outside can run, leave its folder, or read what it shouldn't."""

import ast
import io
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import torch
from fake_hub import FakeHub
from fake_kaggle import FakeKaggle
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from real_layout import RAN, _like_phi3, write_repositories
from tiny_moda import build, save_opt
from toy_captioner import save_toy_captioner
from transformers import AutoModelForCausalLM

import pages
from moda_utils.answers import needed_bytes
from moda_utils.device import load_checkpoint
from moda_utils.features import embed_photos
from moda_utils.kaggle import download
from moda_utils.phi3_vision import Phi3VisionForConditionalGeneration, Phi3VisionProcessor
from moda_utils.profiles import ROOT, Checkpoint

SHIPPED = [
    path
    for folder in ("moda_utils", "tools", "benchmarks", "notebooks/py")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
RUNS_ANYTHING = {"eval", "exec", "compile", "__import__"}
# Modules whose files run code when they are read; the names of their errors are harmless.
UNPICKLING = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}

ESCAPED_BEFORE = {  # read by a person: what comes from others is escaped where it is put together
    "gr.Markdown(INTRO)",  # the demo's own words
    "gr.Markdown(f'*{note}*')",  # one of serving.NOTES
    "HTML(shown.to_html(escape=False, index=False))",  # 03 escapes every cell of this table
    "HTML(f'<style>{demo.STYLE}</style>' + demo.describe_cards(three))",  # cards escape all texts
}


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """Every call of a file: ("torch.load", node)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [(ast.unparse(n.func), n) for n in ast.walk(tree) if isinstance(n, ast.Call)]


def keyword(call: ast.Call, name: str) -> object:
    for given in call.keywords:
        if given.arg == name:
            return getattr(given.value, "value", "not a constant")
    return None


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_shipped_code_runs_nothing_that_it_reads(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & UNPICKLING
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNPICKLING:
            assert all(alias.name.endswith("Error") for alias in node.names)
    for name, call in calls(path):
        assert name not in RUNS_ANYTHING, name
        assert name not in ("os.system", "os.popen"), name
        assert keyword(call, "shell") in (None, False), name
        assert keyword(call, "trust_remote_code") in (None, False), name
        assert keyword(call, "allow_pickle") in (None, False), name
        assert not name.endswith(("read_pickle", "extractall", "unpack_archive")), name
        if name in ("torch.load", "load") and ast.unparse(call.func) == "torch.load":
            assert keyword(call, "weights_only") is True
        # What is shown as HTML holds titles and captions of others.
        literal = all(isinstance(argument, ast.Constant) for argument in call.args)
        shows = name.split(".")[-1] in ("HTML", "Markdown") and not literal
        if shows and ast.unparse(call) not in ESCAPED_BEFORE:
            assert "escape(" in ast.unparse(call), ast.unparse(call)


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


@pytest.fixture
def mark(tmp_path) -> Path:
    """A file that exists as soon as foreign code has run."""
    return tmp_path / "mark"


def test_the_bomb_is_one(mark):
    pickle.loads(pickle.dumps(Bomb(mark))).close()
    assert mark.exists()


def test_a_pickled_checkpoint_can_hold_weights_only(mark, tmp_path):
    folder = save_opt(tmp_path / "opt")
    torch.save({"weight": Bomb(mark)}, folder / "pytorch_model.bin")
    with pytest.raises(Exception, match="weights_only|Weights only|Unsupported|unpickl"):
        load_checkpoint(AutoModelForCausalLM, str(folder))
    assert not mark.exists()


def test_a_pickled_training_state_can_hold_weights_only(mark, tmp_path):
    from test_training import TINY, examples

    from moda_utils.training import train

    run = tmp_path / "moda"
    train(*build(tmp_path / "parts"), examples(), examples(9), TINY, run)
    (run / "config.json").write_text(
        (run / "config.json").read_text().replace('"finished": true', '"finished": false')
    )
    torch.save({"place": Bomb(mark)}, run / "state.pt")
    with pytest.warns(UserWarning, match="begins anew"):
        train(*build(tmp_path / "parts"), examples(), examples(9), TINY, run)
    assert not mark.exists()


def test_an_embedding_cache_is_never_unpickled(mark, tmp_path):
    model, processor = build(tmp_path / "parts")
    photo = processor.image_processor, [torch.zeros(3)], ["ab" * 32]
    cache = tmp_path / "features"
    cache.mkdir()
    from PIL import Image

    images, _, shas = photo
    embed_photos(model, images, [Image.new("RGB", (30, 40))], shas, cache)
    (file,) = cache.glob("*.safetensors")
    file.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.warns(UserWarning, match="damaged"):
        embed_photos(model, images, [Image.new("RGB", (30, 40))], shas, cache)
    assert not mark.exists()


def test_a_repositorys_own_code_is_never_run(mark, tmp_path, monkeypatch):
    folder = save_toy_captioner(tmp_path / "captioner")
    _like_phi3(folder, "phi3_v")
    monkeypatch.setenv(RAN, str(mark))
    model = load_checkpoint(Phi3VisionForConditionalGeneration, str(folder))
    load_checkpoint(Phi3VisionProcessor, str(folder), num_crops=1)
    needed_bytes(Phi3VisionForConditionalGeneration, Checkpoint(str(folder)), torch.float32)
    assert model.dtype == torch.bfloat16
    assert not mark.exists()
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    with pytest.raises(Exception):  # noqa: B017 - the trap is no model; that it runs is the point
        AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    assert mark.exists(), "the trap does not work, so the test above says nothing"


def evil_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("../../evil.txt", "/tmp/moda-evil.txt", "data/../../../evil.txt", "data/a"):
            archive.writestr(name, "evil")
    return buffer.getvalue()


def evil_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in ("../../evil.txt", "/tmp/moda-evil.txt"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"evil"))
        link = tarfile.TarInfo("data")
        link.type, link.linkname = tarfile.SYMTYPE, "/tmp"
        archive.addfile(link)
    return buffer.getvalue()


@pytest.mark.parametrize("make", [evil_zip, evil_tar])
def test_an_archive_cannot_leave_its_folder(make, tmp_path, monkeypatch):
    cache = tmp_path / "deep" / "cache"
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(cache))
    before = set(Path("/tmp").glob("moda-evil*"))
    with FakeKaggle("owner/clothes", make()) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        try:
            root = download("owner/clothes/versions/1")
        except RuntimeError as error:  # refused: fine, if it says so
            assert "can't be unpacked" in str(error)
        else:
            assert root.is_relative_to(cache)
    outside = [p for p in tmp_path.rglob("*") if p.is_file() and not p.is_relative_to(cache)]
    assert outside == []
    assert set(Path("/tmp").glob("moda-evil*")) == before
    links = [p for p in cache.rglob("*") if p.is_symlink()]
    assert all(p.resolve().is_relative_to(cache) for p in links)


SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def test_titles_and_captions_are_text_on_the_pages(tmp_path):
    """As a cell may show them: printed, as a value, in a table."""
    table = pd.DataFrame({"title": [SCRIPT]})
    outputs = [
        new_output("stream", name="stdout", text=SCRIPT),
        new_output("execute_result", data={"text/plain": repr(SCRIPT)}, execution_count=1),
        new_output("display_data", data={"text/html": table._repr_html_(), "text/plain": "x"}),
    ]
    cells = [
        new_markdown_cell("# 1. A test\n\nFirst words.\n\n## 1. A section"),
        new_code_cell("show()", outputs=outputs, execution_count=1),
    ]
    notebook = new_notebook(cells=cells)
    nbformat.validate(notebook)
    lesson = pages.read_lesson(notebook, "01_test")
    stamp = pages.Stamp("mini", "drawn", 3, "2026-11-25")
    pages.write_page(notebook, [lesson], 0, stamp, 1.0, tmp_path, tmp_path)
    text = (tmp_path / lesson.page).read_text(encoding="utf-8")
    assert text.count("alert(1)") == 3  # it is there ...
    assert "<script>alert" not in text  # ... and no element
    assert "<img src=x" not in text and '<img src="x"' not in text


CANARY = "hf_" + 6 * "canary"  # in one piece it would look like a real one
TALKATIVE = """
import sys, warnings
from transformers import AutoTokenizer
from moda_utils import setup
from moda_utils.device import load_checkpoint
from moda_utils.kaggle import download
from moda_utils.profiles import Checkpoint
setup("01")
for act in (
    lambda: download("owner/clothes/versions/1"),
    lambda: load_checkpoint(AutoTokenizer, Checkpoint("facebook/opt-125m", "main")),
):
    try:
        act()
    except (RuntimeError, OSError):
        import traceback
        traceback.print_exc()
    else:
        sys.exit("should have failed")
"""


def test_a_token_is_used_and_never_shown(tmp_path):
    """Not in a message, not in a traceback, not in a file of the course."""
    hub_server = FakeHub(write_repositories(tmp_path / "repositories"))
    kaggle_server = FakeKaggle("owner/clothes", b"")
    with hub_server as hub, kaggle_server as kaggle:
        hub.status, kaggle.status = 401, 403
        environment = os.environ | hub.environment | kaggle.environment
        environment |= {"HF_TOKEN": CANARY, "KAGGLE_API_TOKEN": CANARY, "MODA_PROFILE": "mini"}
        environment |= {"MODA_HOME": str(tmp_path / "home"), "HF_HOME": str(tmp_path / "hf")}
        environment |= {"KAGGLEHUB_CACHE": str(tmp_path / "kaggle")}
        command = [sys.executable, "-c", TALKATIVE]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert f"Bearer {CANARY}" in hub.tokens
        assert any(CANARY in token for token in kaggle.tokens if token)
    assert done.returncode == 0, done.stderr
    assert "HTTP 401" in done.stderr and "HTTP 403" in done.stderr
    assert CANARY not in done.stdout + done.stderr
    for file in (tmp_path / "home").rglob("*"):
        assert not file.is_file() or CANARY.encode() not in file.read_bytes()
