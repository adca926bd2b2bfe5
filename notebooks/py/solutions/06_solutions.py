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
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/solutions/06_solutions.ipynb)
#
# # 6. Solutions
#
# Answers to the exercises of [notebook 6, Evaluation](../06_evaluation.ipynb). Try them yourself first: who has once fooled a metric reads scores with other eyes.

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
profile = setup("06", PROFILE)

# %%
from moda_utils import catch_up

catch_up("06")

# %%
import numpy as np
import pandas as pd

from moda_utils import check, plots
from moda_utils.attributes import extract
from moda_utils.catalog import load_catalog
from moda_utils.dataset import template_description
from moda_utils.evaluation import CRITERIA, evaluate, grade, score
from moda_utils.features import embed_photos
from moda_utils.serving import generate_texts, load_model

catalog = load_catalog(profile.catalog_path)
splits = {name: rows.reset_index(drop=True) for name, rows in catalog.frame.groupby("split")}
train, test = splits["train"], splits["test"]
model, processor = load_model(profile.run_dir("moda") / "best")

def embed(rows):
    paths = [catalog.root / name for name in rows.image]
    return embed_photos(model, processor.image_processor, paths, rows.image_sha256,
                        profile.features_dir)

texts, ended = generate_texts(model, processor, embed(test))
print(f"{len(test)} test photos are described")

# %% [markdown]
# ## Exercise 1 (easy). Fool the ruler
#
# *Write a description that deserves more than it gets, and one that gets more than it deserves. Can everything that a text says be true, and its grade poor all the same?*
#
# The first test item, and seven ways to describe it:

# %%
first = test.head(1)
row = first.iloc[0]
perfect = template_description(row)
tries = {
    "the catalogue's words": perfect,
    "a not that denies nothing": f"Not just any {perfect[0].lower()}{perfect[1:]}",
    "a lie without a not": f"Anything but {perfect[0].lower()}{perfect[1:]}",
    "the same in another language": "Ein schönes Stück für jeden Tag",
    "nonsense around it": f"{perfect}, made of glass, for swimming pools of the moon",
    "a list of guesses": f"{perfect} or for women or men or boys or girls",
    "colour only": row.colour,
}
table = pd.concat([grade([text], first).assign(text=name) for name, text in tries.items()])
print("catalogue:", ", ".join(row[["colour", "product_type", "gender", "usage"]]))
table.set_index("text")[list(CRITERIA)].round(1).rename(columns={"factual_consistency": "factual"})

# %% [markdown]
# * **Deserves more**: whatever a list of words can't follow. "Not just any" denies nothing, but it has a *not* in it, and the rule that serves so well for "not for boys" takes attributes away. Another language is silence.
# * **Gets more than it deserves**: "anything but", which denies without a *not*, and nonsense that avoids the list's words. The criteria ask for four attributes; glass and the moon are none of them. A list of guesses, on the other hand, is punished, because *right* means this value and no other.
# * **All true, and poor**: say little. Factual consistency asks only about what is stated, so one true word gets full marks there, and nothing for what it leaves out. No single criterion is enough; that is why there are five.

# %%
check("06.1", row.colour)

# %% [markdown]
# What would the list have to know? Not more words, in the end, but meaning. That is the case for a model as judge, and section 10 of the notebook shows what has to be measured before one is believed.
#
# ## Exercise 2 (medium). Items instead of groups
#
# *Draw single items for the intervals. Do they shrink? Are they better for that?*

# %%
alone = test.group.duplicated(keep=False)
print(f"{alone.mean():.1%} of the test items share their group with another one")
check("06.2", alone.mean())

# %%
for name, rows in {"groups": test, "items": test.drop(columns="group")}.items():
    overall = score(texts, rows)["criteria"]["overall"]
    print(f"drawing {name:7} {overall['low']:.3f} to {overall['high']:.3f}, "
          f"width {overall['high'] - overall['low']:.3f}")

# %% [markdown]
# With few shared groups, or few mistakes in them, the two hardly differ here. To see the danger, exaggerate: a test set in which every photo stands five times. It holds no new fact.

# %%
five = test.loc[test.index.repeat(5)].reset_index(drop=True)
repeated = [text for text in texts for _ in range(5)]
for name, rows in {"groups": five, "items": five.drop(columns="group")}.items():
    overall = score(repeated, rows)["criteria"]["overall"]
    print(f"five copies, drawing {name:7} width {overall['high'] - overall['low']:.3f}")

# %% [markdown]
# Drawing groups gives the width of the original test set, as it should. Drawing items gives less than half of it: five copies pass for five times the evidence (the width goes with one over the square root of the number). The narrower interval is not the better one. It is wrong, and it is wrong in the direction that flatters.
#
# ## Exercise 3 (hard). A better neighbour
#
# *Let the five nearest training photos vote on each attribute. Is that above MODA? On which criterion, and why there?*

# %%
length = embed(train).norm(dim=1, keepdim=True)
likeness = ((embed(train) / length) @ embed(test).T).T  # (test, train)
columns = ["colour", "product_type", "gender", "usage"]

def vote(k):
    sentences = []
    for nearest in likeness.topk(k, dim=1).indices.numpy():  # the most similar one first
        winners = {}
        for column in columns:
            values = train[column].iloc[nearest].tolist()
            winners[column] = max(values, key=values.count)  # in a tie the nearest one wins
        sentences.append(template_description(winners))
    return sentences

check("06.3", vote(5))

# %%
systems = {"moda": {"descriptions": texts}}
systems |= {f"{k} voting": {"descriptions": vote(k)} for k in (1, 3, 5, 15, 51) if k <= len(train)}
result = evaluate(systems, test, profile)
scores = {name: system["criteria"] for name, system in result["systems"].items()}
plots.bars_with_intervals(scores, profile=profile, n=len(test))

# %%
for name in scores:
    if name != "moda":
        above = [c for c in CRITERIA if scores[name][c]["value"] > scores["moda"][c]["value"]]
        print(f"{name:10} more points than MODA on: {', '.join(above) or 'no criterion'}")

# %% [markdown]
# A vote removes the whims of a single neighbour, such as a catalogue row that is itself wrong; where those are the trouble, a few voters are better than one. Where the nearest photo is a near copy of the item, every further voter can only take something away. The fiftieth neighbour is no neighbour any more, and the vote drifts to what is frequent: with all training photos voting, it *is* the majority. Look at colour first, since photos that are alike in shape needn't be alike in colour; where there are few values, as with gender, a large vote may still do well.
#
# Note that the attributes are voted on one by one. So the vote can combine what no single neighbour has, a known type in a known colour, which plain nearest can't. What it can't do is what MODA was built for: write what is not in the columns.
