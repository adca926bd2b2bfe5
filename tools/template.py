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
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/10_template.ipynb)
#
# # 10. Template
#
# **One sentence: what the reader has at the end that was not there before.** Extra notebook.
#
# | | |
# |---|---|
# | **You will** | what is done, in the order of the sections |
# | **You need** | what it starts from (which notebook makes it), and what the reader should know |
# | **Time and cost** | laptop, `mini`: (measured) · T4, `full`: (calculated) · A100, `full`: (calculated) |

# %% [markdown]
# **Contents**
#
# 1. Why, before how
# 2. Write it out once
#
# Run the next cell first. If it says that something is missing, `catch_up("10")` in a new cell makes it.

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
profile = setup("10", PROFILE)

# %% [markdown]
# ## 1. Why, before how
#
# Begin with the reason: which question does this section answer, and what goes wrong without it? Then one to three sentences, and a short cell with a visible output.

# %% tags=["nbval-check-output"]
from moda_utils.catalog import load_photos, read_catalog

catalog = read_catalog(load_photos(profile))
items = catalog.frame
print(f"{len(items)} items, {items.product_type.nunique()} product types")

# %% [markdown]
# A cell that prints the same on every machine (shapes, counts, sums) is tagged `nbval-check-output`: a test compares it with what is stored. Three of them at least.
#
# Before a result that matters, ask: *how often is the most frequent usage right? Guess first.*

# %% tags=["nbval-check-output"]
share = items.usage.value_counts(normalize=True)
print(f"{share.index[0]}: {share.iloc[0]:.0%} of all items")

# %% [markdown]
# Never write the number that was printed. Write what to look for, why, and what either outcome means: a large share makes a lazy answer look good, a small one makes every right answer count.
#
# Where the small models and the real ones differ, say so in the same two lines:
#
# > **In `mini`:** drawn photos, small models, and what that means for this section.
# >
# > **With real weights:** what changes, what to expect, and who has measured it (nobody yet, the original notebook, a paper).
#
# ## 2. Write it out once
#
# An idea that the notebook is about stands in a cell, and one line shows that it equals what `moda_utils` does. All else is imported.

# %%
from moda_utils.dataset import template_description

def sentence(row: dict) -> str:
    kind = {"Tshirts": "T-shirt"}.get(row["product_type"], row["product_type"].lower())
    return f"{row['colour']} {row['usage'].lower()} {kind} for {row['gender'].lower()}"

row = {"colour": "Red", "usage": "Casual", "product_type": "Tshirts", "gender": "Men"}
print(sentence(row), "|", sentence(row) == template_description(row))

# %% [markdown]
# Figures come from `plots`, which stamps them with profile, photos and number of items; look at each as a picture, 700 pixels wide.

# %%
from moda_utils import plots

sample = items.head(3)
paths = [catalog.root / name for name in sample.image]
plots.photo_grid(paths, list(sample.title), profile=profile, columns=3, n=len(items))

# %% [markdown]
# ## What we learned
#
# * Three to six sentences that stay, each with its **key word** in bold.

# %% [markdown]
# ## Exercises
#
# Each ends in a call of `check`: it says what answer it wants, and with an answer, whether that is right.
#
# **1 (easy). One step from what was shown.** The starter cell runs unmodified. Register what is right, computed and not typed, in `moda_utils/exercises.py`; then the cell ends in `check("10.1")`.

# %% tags=["nbval-check-output"]
longest = max(items.title, key=len)
print(len(longest) > 0)

# %% [markdown]
# **2 (medium). Change one thing and predict what happens.**

# %%
print(items.colour.nunique(), "colours")

# %% [markdown]
# **3 (hard). Something that is open.**

# %%
print(items.groupby("gender").category.first().to_dict())

# %% [markdown]
# ## Further reading
#
# * Two to four sources, each with a link and what it is good for.

# %% [markdown]
# ## Next
#
# Where the reader goes from here.

# %%
from moda_utils import progress

progress()

# %% [markdown]
# ## Save and stop
#
# What this notebook leaves, what is lost with the runtime, and how to end it (*Runtime > Disconnect and delete runtime*).

# %% cellView="form"
# @title Copy the small artefacts to a folder { display-mode: "form" }
KEEP_IN = ""  # @param {type:"string"}
from moda_utils.course import keep
keep(profile, KEEP_IN)
