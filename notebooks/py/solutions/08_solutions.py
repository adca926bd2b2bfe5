# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,cellView,-all
#     notebook_metadata_filter: kernelspec,accelerator,colab,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/solutions/08_solutions.ipynb)
#
# # 8. Solutions
#
# Answers to the exercises of [notebook 8, Ablations](../08_ablations.ipynb). Try them yourself first: the third one has no single answer.

# %% cellView="form" tags=["setup"]
# @title Setup: run me first { display-mode: "form" }
PROFILE = "auto"  # @param ["auto", "mini", "full"]
import os, subprocess, sys
from pathlib import Path
REPOSITORY = "https://github.com/OWNER/REPO"
roots = [p for p in (Path.cwd(), *Path.cwd().parents) if (p / "moda_utils").is_dir()]
if not roots:
    if not Path("moda-course").exists():
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", REPOSITORY, "moda-course"], check=True)
        print("The whole course is in moda-course now, its notebooks in moda-course/notebooks.")
    os.chdir("moda-course/notebooks"); roots = [Path.cwd().parent]
sys.path.insert(0, str(roots[0]))
from moda_utils import catch_up, setup
profile = setup("08", PROFILE)

# %%
from moda_utils import catch_up

catch_up("08")

# %%
from moda_utils import check
from moda_utils.storage import read_json

stored = read_json(roots[0] / "benchmarks" / "results" / "mini-cpu-ablations.json")
few = stored["shares"]["0.1"]

# %% [markdown]
# ## Exercise 1 (easy). How many pairs?
#
# *Differences of pairs scatter with a standard deviation of a fifth of a point. How many pairs bring the interval to a twentieth on each side, and is that enough to find a true difference of a twentieth?*

# %%
number = 1
while 2 * 0.2 / number**0.5 > 0.05:
    number += 1
print(f"{number} pairs")
check("08.1", number)

# %% [markdown]
# It is not enough. If the true difference is a twentieth, the measured one falls below it as often as above: every other interval of that reach will hold zero. Twice the pairs make it four of five, for then the true difference is larger than the reach by two fifths:

# %%
import math

for pairs in (number, 2 * number):
    reached = 0.05 / (0.2 / math.sqrt(pairs)) - 2  # in standard deviations of the mean
    print(f"{pairs:4} pairs: found in {0.5 * (1 + math.erf(reached / math.sqrt(2))):.0%} of experiments")

# %% [markdown]
# To halve the interval takes four times the runs. That is why it pays to make the scatter smaller first: more photos to grade, and pairs that share whatever they can.

# %% [markdown]
# ## Exercise 2 (medium). What was pairing worth?
#
# *The interval of linear minus MODA as if the runs had nothing in common: how much wider is it, and how many more seeds would make up for that?*

# %%
from statistics import mean, stdev

linear, moda = (few["rows"][name]["overall"]["runs"] for name in ("linear", "moda"))
differences = [one - other for one, other in zip(linear, moda)]
spreads = {"paired": stdev(differences), "as if unrelated": (stdev(linear)**2 + stdev(moda)**2)**0.5}
for name, spread in spreads.items():
    half = 2 * spread / len(differences)**0.5
    print(f"{name:16} {mean(differences):+.2f}, about {half:.2f} to each side")
ratio = spreads["as if unrelated"] / spreads["paired"]
print(f"{ratio:.2f} times as wide: {ratio**2:.1f} times the seeds would be needed without pairs")

# %% [markdown]
# The mean is the same; only the doubt about it changes. A ratio above one means that the runs of one seed go up and down together: some tenths of the items are better to learn from, some sets of photos are harder. A ratio near one would mean that little of the scatter is shared, and most of it comes from what each model makes of its own first weights. Pairing costs nothing, so one does it either way.

# %% [markdown]
# ## Exercise 3 (hard). A row of your own.
#
# *A connector that nobody has tried here, beside MODA, with a few seeds.*
#
# Ours: a straight path, and a small bend beside it that begins at nothing. It starts as a linear projection and bends only where the gradients ask for it. Half of the epochs will do for a try; both get the same.

# %%
from torch import nn

from moda_utils.variants import CONNECTORS, VARIANTS, Variant, mlp, train_variant

class Beside(nn.Module):
    """A linear projection, plus a bend whose last layer starts at zero."""

    def __init__(self, inputs, hidden, outputs):
        super().__init__()
        self.straight, self.bend = nn.Linear(inputs, outputs), mlp(inputs, hidden, outputs)
        self.strength = nn.Parameter(self.straight.weight.new_zeros(outputs))

    def forward(self, embeds):
        return self.straight(embeds) + self.strength * self.bend(embeds)

CONNECTORS["beside"] = Beside
VARIANTS["beside"] = Variant("a bend beside a straight path", {"connector": "beside"})

# %%
import contextlib
import io

from moda_utils.catalog import load_catalog
from moda_utils.evaluation import grade
from moda_utils.features import load_examples
from moda_utils.serving import generate_texts

frame = load_catalog(profile.catalog_path).frame.set_index("product_id", drop=False)

def grade_of(name, seed):
    with contextlib.redirect_stdout(io.StringIO()):
        model, processor, _ = train_variant(
            profile, name, profile.run_dir(f"ablation-try-{name}-{seed}"), share=0.1, seed=seed,
            epochs=max(1, profile.epochs // 2))
        seen = load_examples(profile, model, processor, "template")["validation"]
    texts, _ = generate_texts(model, processor, seen.image_embeds)
    return grade(texts, frame.loc[seen.names].reset_index(drop=True)).overall.mean()

tries = [grade_of("beside", seed) - grade_of("moda", seed) for seed in range(2)]
print("beside minus moda, seed by seed:", ", ".join(f"{value:+.2f}" for value in tries))

# %% [markdown]
# Two seeds give two numbers, and with two numbers Student's interval reaches about twelve times as far as with ten: whatever they say, it is a reason to go on or to stop, not a result. Half of the epochs also favour whichever row learns faster, and say little of where both would end. To believe in the row, one would want what notebook 8 asks of the others: a comparison named beforehand, at least five seeds, an interval that leaves zero out, and the same sign at another learning rate. And one would count how many rows one has tried in the meantime.
