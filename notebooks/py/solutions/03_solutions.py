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
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/solutions/03_solutions.ipynb)
#
# # 3. Solutions
#
# Answers to the exercises of [notebook 3, Refinement by Phi-3 Instruct](../03_phi3_instruct_refinement.ipynb). Try them yourself first: a wrong idea of your own teaches more than a right one of ours.

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
profile = setup("03", PROFILE)

# %%
from moda_utils import catch_up

catch_up("03")

# %% [markdown]
# The exercises are about refined texts. If notebook 03 has written them, this cell only reads them.

# %%
import re
from collections import Counter

import pandas as pd

from moda_utils import check, plots
from moda_utils.captioning import captions_journal
from moda_utils.catalog import load_catalog
from moda_utils.dataset import template_description
from moda_utils.refinement import captioned_items, faults, read_words, refine_from_profile, refined_journal

if not profile.refined_path.exists():
    print(refine_from_profile(profile))
catalog = load_catalog(profile.catalog_path)
items = captioned_items(catalog, captions_journal(profile))
rows = refined_journal(profile, items).done()
for item in items:
    item["refined"] = rows[item["product_id"], item["image_sha256"]]["description"]
items = [item for item in items if item["caption"]]
print(f"{len(items)} items with a caption and a refined text")

# %% [markdown]
# ## Exercise 1 (easy). Fool the check
#
# *Write a description that has no fault by the rules and is still not true of the photo. What would a check need to find it?*
#
# The rules compare four attributes with the row. Everything else is free to be invented:

# %%
item = items[0]
yours = f"{template_description(item)}, with a fur collar and seven golden zips"
print(yours, "\n  faults:", faults(yours, item) or "none")
check("03.1", yours)
plots.photo_grid([catalog.root / item["image"]], [yours], profile=profile, columns=4, n=1)


# %% [markdown]
# To find it, a check would have to look at the photo: ask a model that sees whether there is a zip, or compare an embedding of the sentence with that of the photo, as CLIPScore does. There is a cheaper way that catches part of it. The refiner sees two texts and nothing else, so **a word that stands in neither of them can't come from the photo**. How many refined texts hold such words?

# %%
def words(*texts: str) -> set[str]:
    return set(re.findall(r"[\w'-]+", " ".join(texts).lower()))

def unsupported(item: dict) -> set[str]:
    row = (item["colour"], item["product_type"], item["usage"], item["gender"])
    return words(item["refined"]) - words(item["caption"], template_description(item), *row)

found = [unsupported(item) for item in items]
print(f"{sum(map(bool, found))} of {len(items)} refined texts hold a word of neither source")
print(Counter(word for some in found for word in some).most_common(12))

# %% [markdown]
# Read the list before you call them inventions. "For", "wear" or "everyday" are only another way to say what the row says; "a" and "pair" are grammar. What would be left is a word for something that can be seen: a collar, a pattern. Does one stand there?
#
# ## Exercise 2 (medium). Leave well alone
#
# *How many captions have no fault, and how many of those came back changed all the same? Would it be better to refine only what has a fault?*

# %%
sound = [item for item in items if not faults(item["caption"], item)]
changed = [item for item in sound if item["caption"] != item["refined"]]
print(f"{len(sound)} of {len(items)} captions had no fault, {len(changed)} of them were changed")
check("03.2", len(changed))
for item in changed[:6]:
    print(f"\n  {item['caption']}\n  {item['refined']}")

# %% [markdown]
# Two answers are possible, and both are right somewhere. *Refining only what has a fault* saves most of the work, and what isn't touched can't be spoiled: for a weak refiner, such as the small one of `mini`, that is the safer way. But "no fault" means no fault *that the rules see*. They know four attributes and a few signs of print. A caption that names a brand which doesn't stand in the title, or says that the shirt "looks comfortable on him", passes; a large model that has understood Prompt II would have caught it. So with a strong refiner, ask it about everything, and use the rules to check *it*.
#
# What would the shorter way have saved?

# %%
print(f"questions saved: {len(sound) / len(items):.0%}")
spoilt = [item for item in sound if faults(item["refined"], item)]
print(f"sound captions that were spoilt: {len(spoilt)}")

# %% [markdown]
# ## Exercise 3 (hard). A rule instead of a model
#
# *Write `mend(caption, row)`. How many of your answers pass? What does it do with a sentence that it has not foreseen?*
#
# Two steps. Where something is quoted, the whole phrase around it goes, from "with" or "that" to the next comma. Then every word, or pair of words, that states a wrong value gives way to the right one; `extract` knows which those are.

# %%
from moda_utils.attributes import extract
from moda_utils.dataset import SINGULAR

FIELDS = {"colours": "colour", "product_types": "product_type", "genders": "gender", "usages": "usage"}

def swap(text: str, field: str, value: str, word: str) -> str:
    """Put `word` where the text states another value of this attribute."""
    def stated(*run: str) -> frozenset:
        return getattr(extract(" ".join(run)), field)

    tokens = text.split()
    for size in (2, 1):  # "navy blue" before "blue"
        for start in range(len(tokens) - size + 1):
            run, after = tokens[start : start + size], tokens[start + size : start + size + 1]
            alone = [bool(stated(token)) for token in run]
            if any(alone) and not all(alone) or not stated(*run, *after):
                continue  # a neighbour that says nothing; "short" in "short sleeves"
            if stated(*run) and value not in stated(*run):
                end = re.search(r"('s|')?[,.]?$", run[-1])[0]
                tokens[start : start + size] = [word + end] + [""] * (size - 1)
    return " ".join(filter(None, tokens))

def mend(caption: str, row: dict) -> str:
    text = re.sub(r"\s(with|that)\b[^,.]*\"[^\"]*\"[^,.]*", "", caption)
    for field, column in FIELDS.items():
        word = row[column].lower()
        text = swap(text, field, row[column], SINGULAR.get(word, word))
    return text[:1].upper() + text[1:]


# %%
def passing(rule) -> float:
    return sum(not faults(rule(item["caption"], item), item) for item in items) / len(items)

print(f"as they came: {passing(lambda caption, row: caption):.0%}")
print(f"mended:       {passing(mend):.0%}")
check("03.3", mend)
failed = [item for item in items if faults(mend(item["caption"], item), item)]
for item in failed[:4]:
    text = mend(item["caption"], item)
    print(f"  {text}\n     {'; '.join(faults(text, item))}")

# %% [markdown]
# For captions of one captioner that always builds its sentences in a few ways, some twenty lines do nearly what the model does. Now one that nobody has foreseen:

# %%
item = items[0]
colour = "turquoise" if "blue" not in item["colour"].lower() else "orange"
caption = f"On the front of this {colour} thing one can make out LOVE, in cursive; nice for a party."
print(", ".join(item[column] for column in FIELDS.values()))
print("rule: ", mend(caption, item))
print("fault:", "; ".join(faults(mend(caption, item), {**item, "caption": caption})))

# %% [markdown]
# The rule swaps words and has no idea of the sentence. It can't take out a statement that isn't in quotation marks, it can't add a type that nobody named, and each new phrasing needs a new line of code. Give the same caption to a model (`Refiner.load(profile).refine([{**item, "caption": caption}])`). In `mini` it was trained on few ways to say things, and may need the fallback here, too. Phi-3 Instruct has read more ways to say it than you could list.
