"""README's table of notebook 08: the variants of MODA, from benchmarks/results/."""

import json
from pathlib import Path

MODELS = {"mini": "Small models", "full": "FashionCLIP and OPT-125M"}


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
    few = figures["shares"]["0.1"]
    answer = few["differences"]["linear - moda"]["overall"]
    every = figures["shares"]["1"]
    text = (
        f"{MODELS[figures['profile']]}, {few['items']} {figures['data']} items: the overall grade "
        f"with a linear projection minus that with MODA's is {_signed(answer)} points of ten, over "
        f"{len(answer['runs'])} pairs of runs; with {every['items']} items it is "
        f"{_signed(every['differences']['linear - moda']['overall'])} "
        f"([figures](benchmarks/results/{path.name})).\n"
    )
    rows = [
        "| | overall grade | minus MODA | weights trained | seconds per epoch | ms per caption |",
        "|---|---|---|---|---|---|",
    ]
    for variant, cost in figures["rows"].items():
        difference = few["differences"].get(f"{variant} - moda")
        cells = [
            f"`{variant}`: {cost['stands_for']}",
            f"{few['rows'][variant]['overall']['value']:.2f}",
            _signed(difference["overall"]) if difference else "-",
            f"{cost['trained_weights']:,}",
            f"{cost['seconds_per_epoch']:.2f}",
            f"{cost['ms_per_caption']:.1f}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    rows += [
        f"| `{row}` | not measured: {why} | | | | |" for row, why in figures["missing"].items()
    ]
    summary = "<details><summary>How other systems wire it, and other recipes</summary>"
    return "\n".join([text, summary, "", *rows, "", "</details>", ""])


def _signed(figure: dict) -> str:
    return f"{figure['value']:+.2f} [{figure['low']:+.2f}, {figure['high']:+.2f}]"
