"""What the repository promises about itself: commands, links, addresses, sizes, figures."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import nbformat
import pytest
import yaml

import costs
import links
import results
from lines import code_lines
from moda_utils.captioning import PROMPT_I
from moda_utils.profiles import FULL_NEEDS_BYTES, ROOT
from moda_utils.refinement import PROMPT_II
from moda_utils.storage import write_json

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md"]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
PACKAGE = ROOT / "moda_utils"
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if PACKAGE / "mini" not in path.parents]

LONGEST_MODULE = 400
LARGEST_PACKAGE = 4_500  # some room for mends; what would need more belongs elsewhere
LARGEST_CHECKPOINTS = 20e6  # bytes of all mini models

# Imports run one way; a module may import from its own line and from those above it.
LEAVES = {
    "profiles",
    "storage",
    "journal",
    "catalog",
    "kaggle",
    "dataset",
    "attributes",
    "overlap",
    "addresses",
    "plots",
}
MODELS = {"device", "features", "modeling_moda", "phi3_vision", "answers", "fast", "runs", "recipe"}
STAGES = {"captioning", "refinement", "training", "evaluation", "serving", "demo", "course"}
STAGES |= {"exercises", "publishing"}
EXTRAS = {"variants", "scale"}


def tracked(pattern: str = "") -> list[Path]:
    """Files of the repository: tracked ones, and new ones that git does not ignore."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what belongs to the repository is unknown")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in listed.stdout.splitlines()]
    return [path for path in paths if path.is_file() and path.name.endswith(pattern)]


def markdown_of(path: Path) -> str:
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))


# Commands and links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_on_the_page_exist(page):
    text = page.read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))
    named = set(re.findall(r"\bmake ([a-z-]+)", code))
    assert named
    assert named <= targets()
    for script in re.findall(r"\bpython (tools/\w+\.py)", code):
        assert (ROOT / script).exists()


def test_every_target_explains_itself_and_runs_something():
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    explained = {line.split()[0] for line in listed.stdout.splitlines() if line.strip()}
    assert targets() <= explained
    for target in sorted(targets() - {"help", "setup"}):  # a dry run finds undefined steps
        dry = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
        assert dry.returncode == 0, dry.stderr
        for script in re.findall(r"(?:tools|benchmarks)/\w+\.py", dry.stdout):
            assert (ROOT / script).exists(), f"make {target} runs {script}"


def test_tests_that_are_named_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"\b(test_\w+)\.py(?:::(test_\w+))?", text)
    assert len(named) > 20
    for module, test in named:
        source = (ROOT / "tests" / f"{module}.py").read_text(encoding="utf-8")
        assert not test or f"def {test}(" in source, f"{module}.py has no {test}"
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*.py"))
    for test in re.findall(r"`\.\.\._(\w+)`", text):  # of a module named before
        assert f"def test_{test}(" in sources, f"there is no test_{test}"


def test_measurements_that_are_cited_are_stored():
    for page in [*PAGES, *NOTEBOOKS]:
        for name in re.findall(r"results/([\w.-]+\.json)", markdown_of(page)):
            assert (ROOT / "benchmarks" / "results" / name).exists(), f"{page.name} cites {name}"


def test_continuous_integration_runs_both_suites():
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "set -euo pipefail" in text
    assert re.search(r"^make test\nmake test-full$", text, re.MULTILINE)
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert ".ci/run" in workflow
    assert "schedule:" in workflow
    for target in ("test-colab", "audit"):  # these once a week
        jobs = yaml.safe_load(workflow)["jobs"].values()
        (job,) = (j for j in jobs if {"run": f"make {target}"}.items() <= j["steps"][-1].items())
        assert "github.event_name == 'schedule'" in job["if"]


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda page: page.name)
def test_relative_links_and_pictures_resolve(page):
    text = re.sub(r"```.*?```", "", markdown_of(page), flags=re.DOTALL)
    found = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    for target in found:
        if re.match(r"(https?:|mailto:)", target):
            continue
        name, _, fragment = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name} links to {target}"
        if fragment and path.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", markdown_of(path), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
            assert fragment in anchors, f"{page.name} links to {target}"


def test_colab_addresses_come_from_the_one_constant():
    pattern = r"colab\.research\.google\.com/github/([\w.-]+/[\w.-]+)/blob/main/([\w./-]+)"
    for page in [*PAGES, *NOTEBOOKS]:
        for slug, target in re.findall(pattern, markdown_of(page)):
            assert slug == links.slug(), page.name
            assert (ROOT / target).exists(), page.name
    # A placeholder is only ever the one that `make links` knows how to replace.
    holders = [
        path.relative_to(ROOT).as_posix()
        for path in tracked()
        if path.suffix in {".md", ".ipynb", ".py", ".toml", ".yml", ".cff"}
        and links.PLACEHOLDER in path.read_text(encoding="utf-8")
    ]
    if links.is_placeholder():
        rewritten = {p.relative_to(ROOT).as_posix() for g in links.PATTERNS for p in ROOT.glob(g)}
        assert set(holders) <= {*rewritten, "tools/links.py", "tests/test_repository.py"}
    else:
        assert set(holders) <= {"tools/links.py", "tests/test_repository.py"}


def test_make_links_rewrites_every_address(tmp_path):
    (tmp_path / "tools").mkdir()
    (tmp_path / "notebooks" / "py").mkdir(parents=True)
    here = ROOT / "tools" / "links.py"
    (tmp_path / "tools" / "links.py").write_text(here.read_text(encoding="utf-8"))
    badge = links.badge("notebooks/00_x.ipynb")
    for name in ("README.md", "notebooks/00_x.ipynb", "notebooks/py/00_x.py"):
        (tmp_path / name).write_text(f'{badge} REPOSITORY = "{links.REPOSITORY}"\n')
    changed = links.rewrite("some-one/moda.course", tmp_path)
    assert len(changed) == 4
    for path in changed:
        assert "github.com/some-one/moda.course" in path.read_text()
    assert links.slug() not in (tmp_path / "README.md").read_text()
    with pytest.raises(ValueError, match="owner/name"):
        links.rewrite("no slash", tmp_path)


# Sizes and layers


def test_modules_stay_small_enough_to_read():
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in tracked(".py")}
    modules = {
        path.relative_to(ROOT).as_posix(): lines
        for path, lines in sizes.items()
        if path.is_relative_to(PACKAGE) or path.is_relative_to(ROOT / "tools")
    }
    assert {name: n for name, n in modules.items() if n > LONGEST_MODULE} == {}
    assert modules["moda_utils/modeling_moda.py"] <= 200
    package = {path: code_lines(path) for path in MODULES}
    assert package[PACKAGE / "scale.py"] <= 200
    assert sum(package.values()) <= LARGEST_PACKAGE, package


def test_mini_models_stay_small_enough_to_ship():
    folder = PACKAGE / "mini" / "checkpoints"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert sum(path.stat().st_size for path in files) <= LARGEST_CHECKPOINTS


def imports_of(module: Path) -> set[str]:
    """Modules of the package that a module of it imports, at its top or within functions."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {node.module.split(".")[0]} if node.module else {a.name for a in node.names}
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("moda_utils."):
            found.add(node.module.split(".")[1])
    return found


def test_imports_run_one_way():
    allowed = {
        **dict.fromkeys(LEAVES, LEAVES),
        **dict.fromkeys(MODELS, LEAVES | MODELS),
        **dict.fromkeys(STAGES, LEAVES | MODELS | STAGES),
        **dict.fromkeys(EXTRAS, LEAVES | MODELS | STAGES),
    }
    graph = {}
    for path in MODULES:
        name = path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__")
        if name == "__init__":
            continue
        layer = name.removesuffix("/__main__")
        assert layer in allowed, f"{path.name}: say in this test which layer it belongs to"
        graph[name] = imports_of(path) - {"mini"}
        assert graph[name] <= allowed[layer], f"{name} imports {graph[name] - allowed[layer]}"
    TopologicalSorter(graph).prepare()  # a CycleError names the modules that import each other


def test_what_is_imported_is_required():
    """Nothing that the notebooks need is there only because something else brings it along."""
    required, scaling = (
        {
            re.split(r"[<>=\[\s]", line)[0].lower().replace("-", "_")
            for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
            if line and not line.startswith("#")
        }
        for name in ("requirements.txt", "requirements-scale.txt")
    )
    provided = required | {"moda_utils", "pil"} | set(sys.stdlib_module_names)
    provided |= {"ipython", "google"}  # part of every notebook; part of Colab
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "notebooks" / "py").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            here = provided | (scaling if path.stem in ("scale", "09_scaling_out") else set())
            for name in names:
                assert name.split(".")[0].lower() in here, f"{path.name} imports {name}"


def test_constraints_name_everything_that_is_required():
    pinned = {
        line.split("==")[0].lower().replace("-", "_")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    }
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-scale.txt"):
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#"):
                assert "#" in line, f"{name}: say what {line} is for"
                assert re.split(r"[<>=\[\s]", line)[0].lower().replace("-", "_") in pinned


def test_importing_the_package_and_its_leaves_loads_no_torch():
    leaves = [name for name in sorted(LEAVES) if (PACKAGE / f"{name}.py").exists()]
    modules = ["moda_utils", *(f"moda_utils.{name}" for name in leaves)]
    code = (
        "import importlib, sys\n"
        f"for name in {modules}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, name\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Words and figures


def test_readme_shows_prompt_one_word_for_word():
    block = re.search(r"```html\n(.*?)\n```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert block.group(1).strip() == PROMPT_I.strip()


def test_readme_shows_prompt_two_word_for_word():
    block = re.search(r"```text\n(A vision.*?)\n```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert block.group(1).strip() == PROMPT_II.strip()


def test_every_reference_of_readme_is_cited_in_a_notebook():
    references = README.read_text(encoding="utf-8").split("## References")[1].strip().splitlines()
    twins = (ROOT / "notebooks" / "py").glob("*.py")
    cited = "\n".join(twin.read_text(encoding="utf-8") for twin in twins)
    addresses = {line: re.findall(r"\]\((\S+)\)", line) for line in references}
    assert len(addresses) == 19
    assert [
        line for line, links in addresses.items() if not any(f"({x})" in cited for x in links)
    ] == []


def test_readme_tables_are_what_make_results_writes():
    text = README.read_text(encoding="utf-8")
    assert results.fill(text) == text, "run `make results` and look at what changed"


def test_readme_states_no_result_outside_the_filled_tables():
    text = README.read_text(encoding="utf-8")
    prose = re.sub(r"<!-- (\w+):begin -->.*?<!-- \1:end -->", "", text, flags=re.DOTALL)
    prose = prose.split("## References")[0]
    assert set(re.findall(r"\d+(?:\.\d+)?\s?%", prose)) <= {"95 %"}  # of the intervals


def test_no_machine_paths_and_no_secrets():
    pattern = re.compile(
        r"/(?:root|home/[a-z]\w*|Users/[A-Za-z]\w*)/|[A-Z]:\\Users\\"
        r"|\bhf_[A-Za-z0-9]{30,}|\bAKIA[0-9A-Z]{16}|\bgh[pousr]_[A-Za-z0-9]{36}"
        r"|-----BEGIN [A-Z ]*PRIVATE KEY"
        # A checkout directly below / has a name like /app, which may stand in any text.
        + (rf"|{re.escape(str(ROOT))}(?![\w-])" if len(ROOT.parts) > 2 else "")
    )
    for path in tracked():
        if path.suffix in {".png", ".jpg", ".safetensors", ".bin", ".npz", ".ico", ".parquet"}:
            continue
        match = pattern.search(path.read_text(encoding="utf-8"))
        assert match is None, f"{path.relative_to(ROOT)}: {match.group(0)}"


def test_no_photo_of_the_real_set_is_tracked():
    """Its licence is not established: pictures here are drawn or plotted by the course itself."""
    sample = ROOT.parent / "shared" / "fashion_sample"
    if not sample.is_dir():
        pytest.skip("no real photos here to compare with")
    sizes = {path.stat().st_size for path in sample.rglob("*.jpg")}
    suspects = [path for path in tracked() if path.stat().st_size in sizes]
    real = {path.read_bytes() for path in sample.rglob("*.jpg")} if suspects else set()
    assert [path for path in suspects if path.read_bytes() in real] == []


def test_results_are_rendered_as_stored(tmp_path, monkeypatch):
    """Each stored measurement becomes a table; an absent one is said to be absent."""
    figure = {"value": 9.876, "low": 9.0, "high": 10.0}
    system = {"criteria": dict.fromkeys(results.CRITERIA, figure), "sees_metadata": False}
    moda = {**system, "eos_rate": {"value": 1.0, "low": 1.0, "high": 1.0}}
    stored = {
        "mini-cpu-descriptions-fresh": {
            "profile": "mini",
            "data": "fresh drawn items",
            "n": 1000,
            "trained_on": "960 drawn items",
            "systems": {"moda": moda, "majority": system},
        },
        "mini-cpu-descriptions-fresh-refined": {
            "profile": "mini",
            "data": "fresh drawn items",
            "n": 1000,
            "trained_on": "960 drawn items, refined",
            "systems": {"moda": system, "teacher_raw": {"missing": "no captions"}},
        },
        "mini-cpu-evaluation-moda": {
            "profile": "mini",
            "data": "drawn",
            "n": 120,
            "systems": {
                "moda": moda,
                "template": {**system, "sees_metadata": True},
                "teacher_raw": {"missing": "no captions"},
            },
        },
    }
    folder = tmp_path / "benchmarks" / "results"
    for name, content in stored.items():
        write_json(folder / f"{name}.json", content)
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "RESULTS", folder)
    text = results.results_tables()
    assert "1,000 fresh drawn items, trained on 960 drawn items" in text
    assert "| moda | 9.9 [9.0, 10.0] |" in text
    assert "| 100% |" in text
    assert "template (sees the catalogue row)" in text
    assert "| teacher raw | not here: no captions | | | | | | |" in text
    assert "FashionCLIP and OPT-125M, real photos**: not yet run" in text
    assert "not yet measured" not in text
    assert "| overall grade | Small models, 1,000 fresh drawn items | FashionCLIP" in text
    assert "| moda | 9.9 [9.0, 10.0] | not yet run |\n| teacher raw | - | not yet run |\n" in text
    full = {**stored["mini-cpu-evaluation-moda"], "profile": "full", "data": "real"}
    write_json(folder / "full-nvidia-a100-evaluation-moda.json", full)
    text = results.results_tables()
    assert "fresh drawn items | FashionCLIP and OPT-125M, real photos |" in text
    assert "| moda | 9.9 [9.0, 10.0] | 9.9 [9.0, 10.0] |\n" in text
    assert "not yet run" not in text
    monkeypatch.setattr(results, "RESULTS", tmp_path / "empty")
    assert "not yet measured" in results.results_tables()


def test_ablations_are_rendered_as_stored(tmp_path):
    figure = {"value": 0.123, "low": -0.2, "high": 0.4, "runs": [0.1] * 5}
    best = {"moda": 19.5, "linear": 18, "moda-slow": 20, "linear-slow": 20}
    slow = {"value": 0.05, "low": 0.001, "high": 0.1, "runs": [0.1] * 5}
    cost = {
        "stands_for": "some system",
        "projection_weights": 1000,
        "image_places": 1,
        "trained_weights": 1_234_567,
        "seconds_per_epoch": 1.5,
        "ms_per_caption": 20.04,
    }
    share = {
        "items": 96,
        "rows": {
            name: {"overall": {"value": 9.444}, "seeds": [0, 1, 2], "best_epoch": epoch}
            for name, epoch in best.items()
        },
        "differences": {
            "linear - moda": {"overall": figure},
            "linear-slow - moda-slow": {"overall": slow},
            "moda-slow - moda": {"overall": {**slow, "value": 0.06}},
            "linear - moda-slow": {"overall": {**slow, "value": 0.07}},
        },
    }
    stored = {
        "profile": "mini",
        "data": "drawn",
        "shares": {"0.1": share, "1": {**share, "items": 958}},
        "rows": {
            "moda": cost,
            "linear": {**cost, "projection_weights": 9},
            "moda-slow": {**cost, "ms_per_caption": 25.0},
        },
        "epochs": 20,
        "caption_tokens": 12,
        "missing": {"raw": "no texts"},
    }
    assert results.ablations_table(tmp_path) == "Not yet measured: `make ablations`.\n"
    write_json(tmp_path / "mini-cpu-ablations.json", stored)
    text = results.ablations_table(tmp_path)
    assert "Small models, 96 drawn items" in text
    assert "FashionCLIP and OPT-125M, real photos**: the same, not yet run" in text
    assert "points of ten with 95 % intervals over 5 pairs of runs" in text
    assert "| linear projection minus MODA's | +0.12 [-0.20, +0.40] |" in text
    assert "| the same, both at a third of the learning rate | +0.050 [+0.001, +0.100] |" in text
    assert "| MODA at a third of the learning rate minus MODA | +0.060 " in text
    assert "| linear projection minus MODA at a third of the learning rate | +0.070 " in text
    assert "| linear projection minus MODA's, 958 items, 5 pairs | +0.12" in text
    assert "of the 20 epochs was, in the median of each row of the first two lines, " in text
    assert "number 18 to 20: they had not finished learning" in text
    row = "| `linear`: some system | 9.44 | 3 | +0.12 [-0.20, +0.40] | 1,234,567 | 1.50 | 20.0 |"
    assert row in text
    assert "| `moda`: some system | 9.44 | 3 | - |" in text
    assert "A caption has 12 tokens; the 2 rows" in text
    assert "MODA's size take 20.0 to 25.0 ms" in text
    assert "| `raw` | not measured: no texts |" in text
    full = {**stored, "profile": "full", "data": "real", "epochs": 60}
    write_json(tmp_path / "full-nvidia-a100-ablations.json", full)
    text = results.ablations_table(tmp_path)
    assert "FashionCLIP and OPT-125M, 96 real items, points" in text
    assert "number 18 to 20. One encoder" in text
    assert "not yet run" not in text


def test_a_gpu_has_one_size_everywhere():
    sizes = {gpu.name: round(gpu.bytes / costs.GB) for gpu in costs.GPUS}
    start, captions = (
        (ROOT / "notebooks" / "py" / name).read_text(encoding="utf-8")
        for name in ("00_start_here.py", "02_phi3_vision_captions.py")
    )
    for name in ("T4", "A100"):
        assert f'"{name}, {sizes[name]} GB": {sizes[name]}' in start
    assert f"A T4, the GPU that Colab gives for free, leaves {sizes['T4']} GB" in captions
    assert f"leaves {sizes['L4']} GB or more to a program, such as an L4" in captions
    assert sizes["T4"] * costs.GB >= FULL_NEEDS_BYTES  # or nobody would get `full` there


def test_costs_of_training_are_rendered_as_stored(tmp_path, monkeypatch):
    way = {"seconds_20_epochs": 6000, "seconds_20_epochs_calculated": True, "peak_gb": 4.2}
    speed = {
        "device": "cpu",
        "items": 290,
        "original": way,
        "ours": {**way, "seconds_20_epochs": 3000, "peak_gb": 5.0},
        "times_faster_20_epochs": 2.0,
        "losses": {"largest_relative_difference": 1.2e-6},
    }
    seeds = {
        "items": 958,
        "captions": "refined",
        "epochs": 20,
        "processors": 2,
        "mean_validation_loss": 0.7,
        "largest_distance_from_mean": 0.012,
        "runs": [{"seconds": 50.0}, {"seconds": 61.0}],
    }
    folder = tmp_path / "benchmarks" / "results"
    write_json(folder / "full-cpu-training.json", speed)
    write_json(folder / "mini-cpu-training-seeds.json", seeds)
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "RESULTS", folder)
    text = results.training_tables()
    assert "290 items | 100.0 min (calculated) | 50.0 min (calculated) | 2.0 times" in text
    assert "4.2 and 5.0 GB | equal but for 1.2e-06" in text
    assert "a GPU | not yet run" in text
    assert "2 seeds: at most 61 s for 20 epochs on 2 processor cores" in text
    assert "0.700 on average, none of these runs farther from it than 1.2%" in text
    write_json(folder / "full-nvidia-a100-training.json", {**speed, "device": "NVIDIA A100"})
    assert "not yet run" not in results.training_tables()


def test_captions_are_rendered_as_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    assert "**Phi-3 Vision itself, real photos**: not yet run.\n" in results.captions_tables()
    share = {"share": 0.987, "interval": [0.98, 0.99], "n": 1500}
    names = ("json", "colour", "product_type", "gender", "usage", "word_that_is_not_there")
    quality = {"natural_mix": dict.fromkeys(names, share), "printed_shirts": {"read": share}}
    way = {"photos_per_second": 2.0}
    run = {"one_by_one": way, "batched": {"photos_per_second": 9.0}, "batch_size": 16}
    run["equal_texts"] = "7 of 8"
    speed = {"profile": "mini", "device": "cpu", "parameters": 2_700_000, "weights": "trained"}
    speed["crops"] = {"1": {**run, "times_faster": 4.5}}
    random = {**speed, "weights": "random", "reduced": True, "layers": "2 of 32"}
    write_json(tmp_path / "results" / "mini-cpu-phi3-vision.json", quality)
    write_json(tmp_path / "results" / "mini-cpu-captioning.json", speed)
    write_json(tmp_path / "results" / "full-cpu-captioning-random-weights.json", random)
    text = results.captions_tables()
    assert "| valid JSON | 98.7% | 98.0% to 99.0% | 1,500 |" in text
    assert "](results/mini-cpu-captioning.json) | cpu | 1 | 2 | 9 | 16 | 4.5 | 7 of 8 |" in text
    assert "[random weights, 3 million parameters (2 of 32 layers)](results/full-cpu" in text
