"""README's table of notebook 08: the variants of MODA, from benchmarks/results/."""

import json
from pathlib import Path

MODELS = {"mini": "Small models", "full": "FashionCLIP and OPT-125M"}
QUESTION = ("linear", "moda", "linear-slow", "moda-slow")


def ablations_table(results: Path) -> str:
    """The projection question in a sentence, and every variant beside MODA."""
    parts = [_result(path) for path in sorted(results.glob("*-ablations.json"))]
    if not parts:
        return "Not yet measured: `make ablations`.\n"
    if not list(results.glob("full-*-ablations.json")):
        parts.append("**FashionCLIP and OPT-125M, real photos**: the same, not yet run.\n")
    return "\n".join(parts)


def _result(path: Path) -> str:
    figures = json.loads(path.read_text(encoding="utf-8"))
    summary = "<details><summary>How other systems wire it, and other recipes</summary>"
    parts = [_answer(figures, path), summary, "", _table(figures), "", "</details>", ""]
    return "\n".join(parts)


def _answer(figures: dict, path: Path) -> str:
    """The claim, and what has to stand beside it: recipe, unfinished training, limits."""
    few, every = figures["shares"]["0.1"], figures["shares"]["1"]

    def minus(pair: str) -> str:
        return _signed(few["differences"][pair]["overall"])

    whole = every["differences"]["linear - moda"]["overall"]
    pairs = len(few["differences"]["linear - moda"]["overall"]["runs"])
    best = [few["rows"][name]["best_epoch"] for name in QUESTION]
    late = max(best) > 0.9 * figures["epochs"]
    unfinished = ": they had not finished learning, and more epochs may move it" if late else ""
    return (
        f"{MODELS[figures['profile']]}, {few['items']} {figures['data']} items, points of ten with "
        f"95 % intervals over {pairs} pairs of runs ([figures](benchmarks/results/{path.name})):\n"
        "\n"
        "| overall grade | difference |\n"
        "|---|---|\n"
        f"| linear projection minus MODA's | {minus('linear - moda')} |\n"
        "| the same, both at a third of the learning rate | "
        f"{minus('linear-slow - moda-slow')} |\n"
        "| MODA at a third of the learning rate minus MODA | "
        f"{minus('moda-slow - moda')} |\n"
        "| linear projection minus MODA at a third of the learning rate | "
        f"{minus('linear - moda-slow')} |\n"
        f"| linear projection minus MODA's, {every['items']} items, {len(whole['runs'])} pairs | "
        f"{_signed(whole)} |\n"
        "\n"
        "The first line holds for one recipe; the next three show how far it depends on the "
        f"learning rate. The best of the {figures['epochs']} epochs was, in the median of each "
        f"row of the first two lines, number {min(best):g} to {max(best):g}{unfinished}. One "
        "encoder, one catalogue, one recipe: the intervals cover the chance of a run, none of "
        "these.\n"
    )


def _table(figures: dict) -> str:
    few = figures["shares"]["0.1"]
    rows = [
        "| | overall grade | seeds | minus MODA | weights trained | seconds per epoch | "
        "ms per caption |",
        "|---|---|---|---|---|---|---|",
    ]
    for variant, cost in figures["rows"].items():
        difference = few["differences"].get(f"{variant} - moda")
        cells = [
            f"`{variant}`: {cost['stands_for']}",
            f"{few['rows'][variant]['overall']['value']:.2f}",
            f"{len(few['rows'][variant]['seeds'])}",
            _signed(difference["overall"]) if difference else "-",
            f"{cost['trained_weights']:,}",
            f"{cost['seconds_per_epoch']:.2f}",
            f"{cost['ms_per_caption']:.1f}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    rows += [
        f"| `{row}` | not measured: {why} | | | | | |" for row, why in figures["missing"].items()
    ]
    moda, sizes = figures["rows"]["moda"], ("projection_weights", "image_places")
    alike = [
        cost["ms_per_caption"]
        for cost in figures["rows"].values()
        if all(cost[size] == moda[size] for size in sizes)
    ]
    return "\n".join(rows) + (
        "\n\nDifferences are taken between runs of the seeds that both rows have, so that they "
        "need not be those of the grades beside them. A caption has "
        f"{figures['caption_tokens']} tokens; the {len(alike)} rows that write it with a model of "
        f"MODA's size take {min(alike):.1f} to {max(alike):.1f} ms: smaller differences between "
        "rows mean nothing."
    )


def _signed(figure: dict) -> str:
    numbers = [figure[key] for key in ("value", "low", "high")]
    digits = 3 if any(abs(bound) < 0.005 for bound in numbers[1:]) else 2  # none looks like zero
    value, low, high = (f"{number:+.{digits}f}" for number in numbers)
    return f"{value} [{low}, {high}]"
