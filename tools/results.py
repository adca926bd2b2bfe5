"""Store the figures of finished runs in benchmarks/results/ and show them in README.

    python tools/results.py            collect what this machine has measured, then fill README
    python tools/results.py --fill     only fill README from what is stored

The tables between `<!-- NAME:begin -->` and `<!-- NAME:end -->` are never edited by hand.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat

from ablation_table import ablations_table
from costs import costs_table
from links import badge
from running import NOTEBOOKS, ROOT, relative, select

sys.path.insert(0, str(ROOT))
from moda_utils.profiles import get_profile
from moda_utils.storage import atomic_path, read_json, write_json
from pages import duration, read_lesson

RESULTS = ROOT / "benchmarks" / "results"
COURSES = ("course", "course-scale")  # what `make course` and `make course-scale` leave


def collect() -> list[Path]:
    """Copy this machine's figures into benchmarks/results/; returns the written files."""
    profile = get_profile()
    # The folder's name tells an own catalogue (MODA_DATA_DIR) from the profile's usual photos.
    prefix = f"{profile.home.name}-{_device()}"
    written = []
    for name in COURSES:
        path = ROOT / "build" / "course" / f"{name}.json"
        if not path.exists():
            continue
        course = read_json(path)
        if course.get("home") == profile.home.name:  # none: of a course before it was noted
            written.append(_store(f"{prefix}-{name}", course))
    for path in sorted((profile.home / "evaluation").glob("*.json")):
        written.append(_store(f"{prefix}-evaluation-{path.stem}", read_json(path)))
    return written


def _store(name: str, figures: dict) -> Path:
    text = json.dumps(figures)
    if str(ROOT) in text:
        raise ValueError(f"{name}: a figure holds an absolute path; it would be published.")
    write_json(RESULTS / f"{name}.json", figures)
    return RESULTS / f"{name}.json"


def _device() -> str:
    """ "cpu", or the GPU's name as a file name."""
    import torch

    from moda_utils.device import best_device

    device = best_device()
    if device.type != "cuda":
        return device.type
    return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name(device).lower()).strip("-")


def fill(text: str) -> str:
    """README's text with every marked table written anew."""
    tables = {
        "notebooks": notebooks_table, "captions": captions_tables, "refinement": refinement_table,
        "training": training_tables, "results": results_tables,
        "costs": costs_table, "speed": lambda: speed_line() + scaling_line(),
        "ablations": lambda: ablations_table(RESULTS),
    }  # fmt: skip
    for name, render in tables.items():
        block = re.compile(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
        if len(block.findall(text)) != 1:
            raise ValueError(f"README needs the marks <!-- {name}:begin/end --> exactly once.")
        content = render()
        text = block.sub(lambda match, new=content: match[1] + new + match[2], text)
    return text


def notebooks_table() -> str:
    """One row per notebook: what it teaches, its badge, and what it took here."""
    course, scale = (_stored(f"mini-cpu-{name}") or {} for name in COURSES)
    took = scale.get("notebooks", {}) | course.get("notebooks", {})
    rows = [
        "| Notebook | What you get | Open | Time, small models |",
        "|---|---|---|---|",
    ]
    for path in select(NOTEBOOKS, ".ipynb"):
        lesson = read_lesson(nbformat.read(path, as_version=4), path.stem)
        name = relative_to_root(path)
        seconds = took.get(path.stem, {}).get("seconds")
        cost = "not yet measured" if seconds is None else duration(seconds)
        link = f"[{lesson.number}. {lesson.title}]({name})"
        rows.append(f"| {link} | {lesson.promise} | {badge(name)} | {cost} |")
    note = ""
    if course:
        note = (
            f"\nTimes are of one run of `make course` on {course['processors']} processor cores "
            f"without a GPU: {duration(course['total_seconds'])} in all, at most "
            f"{course['peak_gb']:.1f} GB of memory "
            f"([figures]({_link('mini-cpu-course')})).\n"
        )
    if scale:
        note += (
            f"Notebook 9 needs Ray and has a command of its own, `make course-scale` "
            f"([figures]({_link('mini-cpu-course-scale')})).\n"
        )
    return "\n".join(rows) + "\n" + note


def refinement_table() -> str:
    """Descriptions before and after refinement, and what MODA learns from either."""
    name = "mini-cpu-refinement"
    if (figures := _stored(name)) is None:
        return "Not yet measured.\n"
    natural, shirts = figures["natural_mix"], figures["printed_shirts"]
    rows = [
        f"Small models; {natural['n']:,} fresh drawn items, {shirts['n']:,} fresh T-shirts with a "
        f"printed word ([figures]({_link(name)})).\n",
        "| | colour, type, gender and usage are right | the shirt's own word is in the text | "
        "the text looks as if a word had been read |",
        "|---|---|---|---|",
    ]
    stages = {
        "captions": "first descriptions", "first_answers": "refined, before any check",
        "after_the_gate": "refined and checked",
    }  # fmt: skip
    for stage, label in stages.items():
        word = shirts["printed_word_left"][stage]
        rows.append(f"| {label} | {_share(natural[stage]['all_four'])} | {_share(word)} | - |")
    for source, label in (("raw", "first"), ("refined", "refined")):
        if "moda_trained_on" in figures:
            learnt = figures["moda_trained_on"][source]["printed_shirts"]
            words = " | ".join(_share(learnt[which]) for which in ("own_word", "any_word"))
            rows.append(f"| a MODA trained on {label} descriptions | - | {words} |")
    rows.append(
        "\n*The shirt's own word*: any mention of it, as an ordinary word too ('a big star' on a "
        "shirt that says STAR). *Looks as if*: quotation marks, capitals, 'text', 'logo' and the "
        "like, whichever word it is. MODA can't read: what it learns from first descriptions is to "
        "invent words, and those are seldom the shirt's own."
    )
    return "\n".join(rows) + "\n"


def _share(figure: dict) -> str:
    low, high = (f"{100 * bound:.1f}" for bound in figure["interval"])
    return f"{100 * figure['share']:.1f} [{low}, {high}] %"


def training_tables() -> str:
    """Cost of the original's and of our training, and how much the loss depends on the seed."""
    rows = [
        "| Real sizes, random weights | original, 20 epochs | ours, 20 epochs | faster | "
        "memory, original and ours | losses of both over 50 steps |",
        "|---|---|---|---|---|---|",
    ]
    for path in sorted(RESULTS.glob("full-*-training.json")):
        figures = read_json(path)
        both = [figures["original"], figures["ours"]]
        took = [
            duration(way["seconds_20_epochs"])
            + (" (calculated)" if way["seconds_20_epochs_calculated"] else "")
            for way in both
        ]
        known = [way["peak_gb"] for way in both if way["peak_gb"] is not None]
        memory = " and ".join(f"{peak:.1f}" for peak in known) + " GB" if known else "not known"
        name = f"[{figures['device']}]({_link(path.stem)}), {figures['items']:,} items"
        rows.append(
            f"| {name} | {took[0]} | {took[1]} | {figures['times_faster_20_epochs']:.1f} times | "
            f"{memory} | equal but for {figures['losses']['largest_relative_difference']:.1e} |"
        )
    if not _on_gpu("training"):
        rows.append("| a GPU | not yet run | not yet run | | | |")
    text = "\n".join(rows) + "\n"
    if seeds := _stored("mini-cpu-training-seeds"):
        slowest = max(run["seconds"] for run in seeds["runs"])
        text += (
            f"\nSmall models, {seeds['items']:,} drawn items, {seeds['captions']} descriptions, "
            f"{len(seeds['runs'])} seeds: at most {slowest:.0f} s for {seeds['epochs']} epochs on "
            f"{seeds['processors']} processor cores; validation "
            f"loss {seeds['mean_validation_loss']:.3f} on average, none of these runs farther from "
            f"it than {seeds['largest_distance_from_mean']:.1%} "
            f"([figures]({_link('mini-cpu-training-seeds')})).\n"
        )
    return text


def captions_tables() -> str:
    """How well and how fast photos are described, from whatever has been measured."""
    parts = []
    if figures := _stored("mini-cpu-phi3-vision"):
        natural, printed = figures["natural_mix"], figures["printed_shirts"]
        asked = {
            "valid JSON": natural["json"],
            "the colour is right": natural["colour"],
            "the product type is right": natural["product_type"],
            "the gender is right": natural["gender"],
            "the usage is right": natural["usage"],
            "tells a word that is not there": natural["word_that_is_not_there"],
            "T-shirts with print: the word is repeated": printed["read"],
        }
        link = _link("mini-cpu-phi3-vision")
        rows = ["| | share | 95 % interval | n |", "|---|---|---|---|"]
        for name, share in asked.items():
            low, high = (f"{bound:.1%}" for bound in share["interval"])
            rows.append(f"| {name} | {share['share']:.1%} | {low} to {high} | {share['n']:,} |")
        title = f"**The small captioner, fresh drawn photos** ([figures]({link}))"
        parts.append(title + "\n\n" + "\n".join(rows) + "\n")
    speeds = []
    for path in sorted(RESULTS.glob("*-captioning*.json")):
        figures = read_json(path)
        trained = figures["weights"] == "trained"
        size = f"{figures['parameters'] / 1e6:,.0f} million parameters"
        model = f"{figures['profile']}, {size}" if trained else f"random weights, {size}"
        if figures.get("reduced"):
            model += f" ({figures['layers']} layers)"
        for crops, run in figures["crops"].items():
            rates = [run[way]["photos_per_second"] for way in ("one_by_one", "batched")]
            cells = [model, figures["device"], crops, *(f"{rate:.3g}" for rate in rates)]
            cells += [f"{run['batch_size']}", f"{run['times_faster']:.1f}", run["equal_texts"]]
            speeds.append(f"| [{cells[0]}]({_link(path.stem)}) | {' | '.join(cells[1:])} |")
    if speeds:
        head = "| | device | crops | one by one | in batches | of | times faster | equal texts |"
        parts.append(f"Photos per second:\n\n{head}\n|{'---|' * 8}\n" + "\n".join(speeds) + "\n")
    parts.append(
        "Random weights (in Phi-3 Vision's sizes, with noise for photos) tell about time only. A "
        "CPU spends most of it on reading photo and prompt, which a batch does not shorten; a GPU "
        "fetches weights once for a batch. In 16 bits, rounding decides near a tie of two words.\n"
    )
    if not list(RESULTS.glob("full-*-evaluation-*.json")):
        parts.append("**Phi-3 Vision itself, real photos**: not yet run.\n")
    return "\n".join(parts)


CRITERIA = ("colour", "style", "category", "gender", "factual_consistency", "overall")


def results_tables() -> str:
    """Scores of every stored measurement of descriptions; says so where there is none."""
    names = [
        path.stem
        for kind in ("descriptions", "evaluation")
        for path in sorted(RESULTS.glob(f"*-{kind}-*.json"))
    ]
    parts = [_overview()] if names else []
    parts += [_scores_table(name) for name in names]
    if not any(name.startswith("mini-") for name in names):
        parts.append("Small models, drawn photos: not yet measured.\n")
    if not any(name.startswith("full-") for name in names):
        parts.append(
            "**FashionCLIP and OPT-125M, real photos**: not yet run. "
            "`make results PROFILE=full` after such a run adds the table.\n"
        )
    return "\n".join(parts)


def _overview() -> str:
    """The overall grade of every system, the measured columns beside the one that is open."""
    full = [path.stem for path in RESULTS.glob("full-*-evaluation-moda.json")]
    names = ["mini-cpu-descriptions-fresh-refined", "mini-cpu-descriptions-real", *sorted(full)[:1]]
    measured = [figures for name in names if (figures := _stored(name))]
    heads = [f"{_models(figures)}, {_items(figures).split(', ')[0]}" for figures in measured]
    heads += [] if full else ["FashionCLIP and OPT-125M, real items"]
    rows = [f"| overall grade | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    systems = [figures["systems"] for figures in measured]
    for name in dict.fromkeys(name for column in systems for name in column):
        scores = [column.get(name, {}).get("criteria") for column in systems]
        cells = ["-" if score is None else _cell(score["overall"]) for score in scores]
        cells += [] if full else ["not yet run"]
        rows.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def speed_line() -> str:
    """How long one description takes a processor, in a sentence."""
    name = "full-cpu-latency-random-weights"
    if (figures := _stored(name)) is None:
        return "How long a description takes a processor: not yet measured.\n"
    took = {system: row["batch_1_ms"] for system, row in figures["systems"].items()}
    shipped = next(system for system in took if system.startswith("MODA as shipped"))
    peers = [system for system in took if system.endswith(", float32") and system[:4] != "MODA"]
    fastest = min(peers, key=took.get)
    return (
        f"**Speed, random weights of the real sizes** ([figures]({_link(name)}); "
        f"{figures['machine']}, {figures['new_tokens']} tokens): one description takes "
        f"{took[shipped]:.0f} ms with int8 weights as shipped, {took['MODA, float32']:.0f} ms in "
        f"float32; {fastest.split(',')[0]}, the fastest other captioner tried, "
        f"{took[fastest]:.0f} ms in float32 and {took[fastest[:-7] + 'int8']:.0f} ms in int8.\n"
    )


def scaling_line() -> str:
    """What a second worker and a larger catalogue change, in a sentence."""
    name = "mini-cpu-scaling"
    if (figures := _stored(name)) is None:
        return "\nSeveral workers: not yet measured.\n"
    found = figures["describing"]
    one, two = found["photos_per_second"].values()
    ratios = found["times_faster_each"]
    return (
        f"\n**Several workers, small models on drawn photos** ([figures]({_link(name)}); "
        f"{figures['processors']} cores, {16 * found['photos']:,} photos, whole calls): one worker "
        f"describes {one:.0f} photos a second, two {two:.0f}; turn by turn two were "
        f"{min(ratios):.2f} to {max(ratios):.2f} times as fast. 16 times the catalogue took "
        f"{found['memory_growth']:.3f} times the memory.\n"
    )


def _models(figures: dict) -> str:
    return "Small models" if figures["profile"] == "mini" else "FashionCLIP and OPT-125M"


def _scores_table(path: str) -> str:
    figures = read_json(RESULTS / f"{path}.json")
    columns = [criterion.replace("_", " ") for criterion in CRITERIA]
    rows = [f"| | {' | '.join(columns)} | ends by itself |", "|---|" + "---|" * (len(columns) + 1)]
    for system, scores in figures["systems"].items():
        name = system.replace("_", " ")
        if "missing" in scores:
            rows.append(f"| {name} | not here: {scores['missing']}{' |' * (len(columns) + 1)}")
            continue
        label = f"{name} (sees the catalogue row)" if scores.get("sees_metadata") else name
        cells = [_cell(scores["criteria"][criterion]) for criterion in CRITERIA]
        rows.append(f"| {label} | {' | '.join(cells)} | {_ended(scores.get('eos_rate'))} |")
    summary = f"<details><summary>{_models(figures)}, {_items(figures)}</summary>"
    return "\n".join([summary, "", f"[Figures]({_link(path)})", "", *rows, "", "</details>", ""])


def _items(figures: dict) -> str:
    """What was described, in words."""
    if "seeds" in figures:  # several splits of one catalogue
        sizes = figures["test_items"]
        return (
            f"{figures['data']} of {figures['items']} items, means over {len(figures['seeds'])} "
            f"splits with {min(sizes)} to {max(sizes)} test items"
        )
    if "trained_on" in figures:
        return f"{figures['n']:,} {figures['data']}, trained on {figures['trained_on']}"
    return f"{figures['data']} photos, {figures['n']} items of the test split"


def _ended(rate: dict | None) -> str:
    return "-" if rate is None else f"{rate['value']:.1%}".replace(".0%", "%")


def _cell(figure: dict) -> str:
    if figure["value"] is None:
        return "-"
    return f"{figure['value']:.1f} [{figure['low']:.1f}, {figure['high']:.1f}]"


def _on_gpu(kind: str) -> list[Path]:
    """Stored figures of the real models on anything but a processor, whatever its maker's name."""
    found = RESULTS.glob(f"full-*-{kind}*.json")
    return [path for path in found if not path.name.startswith("full-cpu-")]


def _stored(name: str) -> dict | None:
    path = RESULTS / f"{name}.json"
    return read_json(path) if path.exists() else None


def _link(name: str) -> str:
    return relative_to_root(RESULTS / f"{name}.json")


def relative_to_root(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fill", action="store_true", help="collect nothing, only fill README")
    options = parser.parse_args(arguments)
    if not options.fill:
        written = collect()
        for path in written:
            print(f"stored {relative(path)}")
        if not written:
            print("Nothing to store: no finished run of this profile is here (`make course`).")
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    if (new := fill(text)) != text:
        with atomic_path(readme) as temporary:
            temporary.write_text(new, encoding="utf-8")
        print("README.md: tables written anew.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
