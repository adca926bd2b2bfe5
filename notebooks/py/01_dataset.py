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
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/01_dataset.ipynb)
#
# # 1. Dataset
#
# **From a folder of shop photos to a checked dataset, split so that a good score has to be earned.** Core notebook.
#
# | | |
# |---|---|
# | **You will** | get the photos, look at them, find what is wrong with them, split them without leaks, and give each one a first description |
# | **You need** | Python and one classifier that you have trained before; no GPU, no account |
# | **Time and cost** | laptop, `mini`: under a minute ([measured](../benchmarks/results/mini-cpu-course.json)), nothing to download · CPU, T4 or A100, `full`: about five minutes, 0.4 GB to download (calculated; no GPU is used) |

# %% [markdown]
# **Contents**
#
# 1. Get the photos
# 2. Look at them
# 3. Check every row
# 4. Find the duplicates
# 5. Split without leaks
# 6. Describe: a first text for every photo
# 7. Save the dataset
#
# Run the next cell first. It prints what it found.

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
profile = setup("01", PROFILE)

# %%
from collections import Counter

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from moda_utils import plots
from moda_utils.catalog import load_photos, read_catalog

# %% [markdown]
# ## 1. Get the photos
#
# The course uses a public set of product photos, Kaggle's [Image Dataset for E-commerce Applications](https://www.kaggle.com/datasets/vikashrajluhaniwal/fashion-images/data): clothes for children and shoes for adults, one photo and one row of metadata each. The profile `full` downloads it; no account is needed.
#
# The profile `mini` draws a stand-in: clip-art clothes and shoes in the same folders, with the same columns. Everything below works on either. (Own photos? Point the environment variable `MODA_DATA_DIR` at a folder of this layout.)
#
# > **In `mini`:** drawn photos with the flaws of the real set built in: copies of a photo, shared titles, rare classes, columns that hide behind each other.
# >
# > **With real photos:** the same flaws in other proportions, and new ones: photos in other sizes, some of them grey, brands that show. No model is used, so every count below is the count of your catalogue.

# %%
root = load_photos(profile)
folders = Counter(path.parent.relative_to(root).as_posix() for path in root.rglob("*.jpg"))
for folder, number in sorted(folders.items()):
    print(f"{number:5} photos in {folder}")

# %% [markdown]
# The folders' names already say two things about a photo: a category and for whom the item is. The rest stands in one table, `data/fashion.csv`.

# %%
table = pd.read_csv(root / "data" / "fashion.csv", dtype=str)
table.drop(columns="ImageURL", errors="ignore").head()

# %% [markdown]
# `read_catalog` reads this table, opens every photo, and gives the columns short names. It returns the usable items as a table, `catalog.frame`, and a list of whatever it had to leave out.

# %% tags=["nbval-check-output"]
catalog = read_catalog(root)
items = catalog.frame
print(catalog)
print(", ".join(items.columns))

# %% [markdown]
# ## 2. Look at them
#
# ### 2.1 One item
#
# Before any statistics, look at single examples. Everything that the model will ever learn has to be visible in the photo; everything that we know beyond it is in the row.

# %%
item = items.iloc[0]
print(item.drop(["image_sha256", "group", "split"]).to_string())
plots.photo_grid([root / item.image], [item.title], profile=profile, columns=4)

# %% [markdown]
# The title holds a brand. In most photos you could not tell it: keep that in mind until section 6.
#
# ### 2.2 Many items
#
# A random sample, the same one in every run. Ask yourself for each photo: would I have written the same type, colour and gender?

# %%
sample = items.sample(12, random_state=0)
paths = [root / name for name in sample.image]
captions = [f"{row.colour} {row.product_type}\n{row.gender}, {row.usage}"
            for row in sample.itertuples()]
plots.photo_grid(paths, captions, profile=profile, columns=6, n=len(items))

# %% [markdown]
# ### 2.3 How many of each
#
# A few values are frequent, others rare. Whoever always answers with the most frequent one may often be right without looking, so count that first.

# %%
plots.counts(items.product_type, items.colour, items.usage, items.gender, profile=profile)

# %% [markdown]
# In numbers: how many values are there, how many are rare, and how far does the laziest answer get?

# %%
for column in ("product_type", "colour", "gender", "usage"):
    counts = items[column].value_counts()
    rare, lazy = (counts < 10).sum(), counts.iloc[0] / len(items)
    print(f"{column:12} {len(counts):2} values, {rare:2} of them below 10 items; "
          f"{counts.index[0]!r} is right for {lazy:.0%}")

# %% [markdown]
# Read the last column as a warning. A model that scores no more than this on `usage` has learnt nothing about usage, however high the number sounds. [Notebook 06](06_evaluation.ipynb) puts this *majority* score beside every result, and averages over classes as well as over items.
#
# ### 2.4 What hides behind what
#
# Cross two columns and look for empty corners.

# %%
pd.crosstab(items.gender, items.category)

# %% [markdown]
# Clothes here are only for children, shoes only for adults. The two columns are **confounded**: to tell a man from a boy, a model need not learn anything about men and boys. It is enough to see a shoe.
#
# How far does such a shortcut carry? Guess the gender from another column alone, always taking the most frequent one:

# %%
for column in ("category", "product_type"):
    guess = items.groupby(column).gender.transform(lambda genders: genders.mode()[0])
    right = (guess == items.gender).mean()
    print(f"gender guessed from {column:12} alone: right for {right:.0%}")

# %% [markdown]
# Whatever the last line says, a model needs to see no more than the *type* of the item to get there. Only what it scores beyond that shows that it has looked at cut and pattern.
#
# **A dataset can only answer questions that it varies.** "Can the model tell men's shoes from women's?" is a fair question here. "Can it tell men from boys?" is not.
#
# ### 2.5 Sizes and colours
#
# Do the files differ in size or in kind? An encoder takes square RGB pictures, so anything else has to be converted, and the converting should be no surprise.

# %%
sizes, kinds = Counter(), Counter()
for name in items.image:
    with Image.open(root / name) as photo:  # reads the header only
        sizes[photo.size] += 1
        kinds[photo.mode] += 1
print("sizes:", ", ".join(f"{width}x{height}: {n}" for (width, height), n in sizes.most_common(6)))
print("kinds:", ", ".join(f"{kind}: {n}" for kind, n in kinds.most_common()))

# %% [markdown]
# `L` would be a grey photo, `CMYK` one made for print. `moda_utils.catalog.open_photo` turns each of them into upright RGB, so no later notebook has to think of it again. Most photos are taller than wide; exercise 2 asks what that costs.
#
# ## 3. Check every row
#
# Real catalogues have rows without a photo, photos without a row, and files that were cut off during a copy. None of this may end training at item 2,000, and nothing may vanish silently: a skipped item is *listed*, with its reason.
#
# Is the check awake? Break something on purpose. This function copies a few items to another folder and spoils the copy in five ways:

# %%
import shutil
import tempfile

def break_some(folder: Path) -> None:
    """Copy twelve items with their photos to `folder`, then spoil five things."""
    few = table[table.ProductId.isin(items.product_id.head(12))].reset_index(drop=True)
    paths = [folder / name for name in items.image.head(12)]
    for name, path in zip(items.image, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, path)
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:1000])
    paths[2].write_text("<html>404 Not Found</html>")
    shutil.copy(paths[3], paths[3].with_name("forgotten.jpg"))
    few.loc[5, "ProductId"] = few.loc[4, "ProductId"]
    few.to_csv(folder / "data" / "fashion.csv", index=False)


# %% [markdown]
# A missing photo, one cut off, one that is no image, one without a row, and a product number used twice. *Predict first: how many items will be left of the twelve?*

# %%
with tempfile.TemporaryDirectory() as folder:
    break_some(Path(folder))
    broken = read_catalog(folder)
print(f"{len(broken.frame)} items, {len(broken.skipped)} left out:")
for row in broken.skipped.itertuples():
    print(f"  {Path(row.image).name:14} {row.reason}")

# %% [markdown]
# Five faults, five lines. The count adds up, too: items plus skipped rows are the rows of the table, plus the one photo that nobody asked for.
#
# And our own catalogue?

# %% tags=["nbval-check-output"]
print(f"{len(table)} rows = {len(items)} items + {len(catalog.skipped)} left out")
known = set(items.product_id) | set(catalog.skipped.product_id)
print("every product number is accounted for:", set(table.ProductId) <= known)

# %% [markdown]
# ## 4. Find the duplicates
#
# Shops reuse photos: the same shirt in two sizes, the same shoe under two numbers. A file's SHA-256 is a fingerprint of its bytes; equal fingerprints mean the very same file. Copies matter because a model that has learnt one of them by heart would be praised for "recognising" the other.

# %%
copies = items.groupby("image_sha256").size()
repeated = copies[copies > 1]
print(f"{len(repeated)} files occur more than once: {repeated.sum()} of {len(items)} items show them")

# %% [markdown]
# Look at some of them, neighbours with the same file:

# %%
twins = items[items.duplicated("image_sha256", keep=False)].sort_values("image_sha256").head(8)
paths = [root / name for name in twins.image]
captions = [f"{row.product_id}: {row.title}" for row in twins.itertuples()]
plots.photo_grid(paths, captions, profile=profile) if paths else print("no duplicates here")

# %% [markdown]
# One file, several product numbers, sometimes under different titles. Do the rows of one photo at least agree on what it shows? If they didn't, the labels themselves would be in doubt.

# %%
for column in ("product_type", "colour", "gender", "usage", "title"):
    values = items.groupby("image_sha256")[column].nunique()
    print(f"{column:13} differs within {(values > 1).sum():3} of {len(repeated)} repeated photos")

# %% [markdown]
# There is a second kind of twin: photos, the same or others, of what is nearly the same product. Their titles give them away once case, digits and punctuation are dropped.

# %%
from moda_utils.catalog import normalise_title

print(normalise_title("Nike Men's Run-2 Black Shoe"))
titles = items.title.map(normalise_title)
shared = titles.duplicated(keep=False).sum()
print(f"{shared} of {len(items)} items share their title with another one")

# %% [markdown]
# These are the items with the most frequent title. One product, or several?

# %%
same = items[titles == titles.value_counts().index[0]].head(6)
print("The most frequent title:", same.title.iloc[0])
paths = [root / name for name in same.image]
plots.photo_grid(paths, list(same.product_id), profile=profile, columns=6)

# %% [markdown]
# ## 5. Split without leaks
#
# We train on one part of the items (**train**), choose between models on a second (**validation**), and read the score once, at the very end, on a third (**test**). The score is worth something only if the test photos are new to the model. Starting here? Run the setup cell, then the next one.

# %% tags=["start-here"]
import numpy as np
import pandas as pd

from moda_utils import plots
from moda_utils.catalog import load_photos, normalise_title, read_catalog

root = load_photos(profile)
items = read_catalog(root).frame
titles = items.title.map(normalise_title)


# %% [markdown]
# ### 5.1 What a plain random split does
#
# The usual recipe: shuffle all items, cut at 80 and 90 percent.

# %%
def random_split(seed: int) -> pd.Series:
    place = np.random.default_rng(seed).permutation(len(items)) / len(items)  # in [0, 1)
    return pd.Series(np.select([place < 0.8, place < 0.9], ["train", "validation"], "test"))

def leak(split: pd.Series, key: pd.Series) -> float:
    """Share of the test items whose photo or title is in train as well."""
    return key[split == "test"].isin(key[split == "train"]).mean()


# %% [markdown]
# *Predict first: how much of such a test set has the model already seen in training?* Try twenty shuffles, since one could be lucky.

# %% tags=["nbval-check-output"]
for name, key in (("photo", items.image_sha256), ("title", titles)):
    leaks = [leak(random_split(seed), key) for seed in range(20)]
    print(f"test items whose {name} is in train: "
          f"{np.mean(leaks):.1%} on average, {max(leaks):.1%} at worst")

# %% [markdown]
# For these items a model can score by *remembering*. How many they are depends on the catalogue; whom they favour does not: whoever memorises best, with a larger model or more epochs. Here are some of them, each test photo with its twin from train at its right.

# %%
split = random_split(0)
test, train = (items[split == name].drop_duplicates("image_sha256") for name in ("test", "train"))
pairs = test.merge(train, on="image_sha256", suffixes=("", "_train")).head(4)
paths, captions = [], []
for pair in pairs.itertuples():
    paths += [root / pair.image, root / pair.image_train]
    captions += [f"test: {pair.product_id}", f"train: {pair.product_id_train}"]
plots.photo_grid(paths, captions, profile=profile, columns=8) if paths else print("a lucky shuffle")


# %% [markdown]
# ### 5.2 Groups
#
# The remedy: put items that belong together into one **group**, and deal whole groups to the splits. Two items belong together if they share a photo *or* a title. Such links chain: if A and B share a photo, and B and C a title, then all three must stay together.
#
# The classic tool for chains is **union-find**. Every item points at another one of its group; follow the pointers and you reach the group's root. Linking two items means pointing one root at the other.

# %%
def group_items(*keys: pd.Series) -> list[int]:
    parent = list(range(len(items)))

    def find(item: int) -> int:
        while parent[item] != item:
            item = parent[item]
        return item

    for key in keys:
        first = {}
        for item, value in enumerate(key):
            parent[find(item)] = find(first.setdefault(value, item))
    return [find(item) for item in range(len(items))]


# %% [markdown]
# `read_catalog` has done the same, a little faster. Group numbers are only names, so compare them after renumbering:

# %% tags=["nbval-check-output"]
ours = pd.factorize(np.array(group_items(items.image_sha256, titles)))[0]
print("same groups as the catalogue:", (ours == items.group).all())
sizes = items.group.value_counts()
print(f"{len(items)} items in {len(sizes)} groups, the largest with {sizes.max()}")

# %% [markdown]
# Here is the largest group. Are its members really related? When in doubt, grouping too much costs a little training variety; grouping too little costs the truth of the score.

# %%
largest = items[items.group == sizes.index[0]].head(8)
captions = [f"{row.product_id}: {row.title}" for row in largest.itertuples()]
plots.photo_grid([root / name for name in largest.image], captions, profile=profile)

# %% [markdown]
# ### 5.3 The grouped split
#
# `assign_splits` deals the groups in a seeded random order, each to the split that lacks most items of its product types. So the splits come out near 80, 10 and 10 percent, and each type is divided about alike (**stratified**) as far as the groups allow.
#
# > **What we do differently from the original notebook.** It deals single items to train and test at random, without a seed, so copies of a photo fall on both sides; and its test split also chooses the best epoch. Here groups stay together, the split can be repeated, and validation does the choosing.

# %% tags=["nbval-check-output"]
for name in ("train", "validation", "test"):
    part = items[items.split == name]
    share = len(part) / len(items)
    print(f"{name:10} {len(part):4} items {share:6.1%}  {part.group.nunique():4} groups")
for name, key in (("photo", items.image_sha256), ("title", titles)):
    print(f"test items whose {name} is in train: {leak(items.split, key):.1%}")

# %% [markdown]
# Both leaks are gone, by construction. Check the construction anyway: no photo, no title and no group may occur in two splits.

# %% tags=["nbval-check-output"]
for name, key in (("photos", items.image_sha256), ("titles", titles), ("groups", items.group)):
    print(f"{name} in more than one split:", (items.split.groupby(key).nunique() > 1).sum())

# %% [markdown]
# And stratification: for a frequent type, expect about eight tenths in train. A rare type goes to train first, since a type that is never trained on can't be recognised at all; whether the test set contains it is second.

# %%
by_type = pd.crosstab(items.product_type, items.split)[["train", "validation", "test"]]
by_type["share in train"] = (by_type.train / by_type.sum(axis=1)).map("{:.0%}".format)
by_type.sort_values("train", ascending=False)

# %% [markdown]
# The split is *seeded*: the same items and the same seed give the same split, in any order of the rows, today and in a year. Another seed gives another one, and comparing several seeds tells how much of a score is luck.

# %% tags=["nbval-check-output"]
from moda_utils.catalog import assign_splits

again = assign_splits(items.sample(frac=1, random_state=1), seed=0).sort_index()
print("same seed, rows shuffled: same split:", again.split.equals(items.split))
print("another seed: same split:", assign_splits(items, seed=1).split.equals(items.split))

# %% [markdown]
# ## 6. Describe: a first text for every photo
#
# A captioning model needs texts. The titles are at hand; are they any good for this?

# %%
for title in items.title.sample(8, random_state=1):
    print(title)

# %% [markdown]
# They name a brand and often a product line. Neither can be seen in most photos, so a model trained on titles would learn to *invent* brands. And they leave out what can be seen, such as a colour here and there.
#
# The metadata are cleaner. Put colour, usage, type and gender into one fixed sentence:

# %%
from moda_utils.dataset import COLOUR_WORDS, SINGULAR

def describe_by_template(row) -> str:
    colour, usage = row["colour"].lower(), row["usage"].lower()
    kind, gender = row["product_type"].lower(), row["gender"].lower()
    words = [COLOUR_WORDS.get(colour, colour), *usage.split(), *SINGULAR.get(kind, kind).split()]
    # "casual" + "casual shoes" is "casual shoes", so a word that repeats the one before it is dropped.
    words = [word for word, before in zip(words, [None, *words]) if word != before]
    return f"{' '.join(words)} for {gender}".capitalize().replace("t-shirt", "T-shirt")

example = {"colour": "White", "usage": "Casual", "product_type": "Casual Shoes", "gender": "Men"}
print(describe_by_template(example))

# %% [markdown]
# The small dictionary `SINGULAR` makes "T-shirt" of "Tshirts" and leaves pairs as they are. `template_description` is the same function, kept for the later notebooks:

# %% tags=["nbval-check-output"]
from moda_utils.dataset import template_description

rows = items.to_dict("records")
texts = [describe_by_template(row) for row in rows]
print("same as moda_utils:", texts == [template_description(row) for row in rows])
print(f"{len(set(texts))} different texts for {len(texts)} items")

# %% [markdown]
# Does the sentence fit the photo?

# %%
shown = items.sample(8, random_state=2)
captions = [template_description(row) for row in shown.to_dict("records")]
plots.photo_grid([root / name for name in shown.image], captions, profile=profile, n=len(items))

# %% [markdown]
# Correct, if the catalogue is, and dull: many items share one sentence, and nothing is said about sleeves, patterns or heels. That is why notebook 02 will ask a large model to describe each photo, and notebook 03 will correct its answers. Templates are a good start all the same: they need no GPU, and every word in them can be checked.
#
# ## 7. Save the dataset
#
# Two artefacts leave this notebook. (Notebooks 2 and 3 add their texts to the second; if you run this one again later, run them again too: they keep their answers.) `catalog.parquet` is the table that you have seen. `dataset/` holds photos and texts together, one Parquet file per split and a *card* (a README that says what is inside), in the form that the `datasets` library and the Hugging Face Hub read.

# %%
from moda_utils.catalog import save_catalog
from moda_utils.dataset import load_dataset_dir, write_dataset

save_catalog(catalog, profile.catalog_path)
write_dataset(catalog, None, profile.dataset_dir)
dataset = load_dataset_dir(profile.dataset_dir)
for name, rows in dataset.items():
    print(f"{name:10} {rows.num_rows:4} rows, {len(rows.column_names)} columns")

# %% [markdown]
# One row, as training will read it. The empty columns wait for the texts of the next notebooks; `description` is always the best one that exists, and `description_source` says which.

# %%
example = dataset["train"][0]
for name, value in example.items():
    shown = f"a picture, {value.mode}, {value.size}" if name == "image" else value
    print(f"{name:21} {shown}")

# %% [markdown]
# A dataset without a card is a riddle in a year's time. Ours is written from the data, so it can't be out of date:

# %%
card = (profile.dataset_dir / "README.md").read_text(encoding="utf-8")
print(card.split("---\n", 2)[2])

# %% [markdown]
# ## What we learned
#
# * **Look first.** A grid of photos and four bar charts show most of what will go wrong later.
# * **Know the shortcuts**: the majority answer, and columns that hide behind each other.
# * **Skip loudly.** Every row is an item or is listed with its reason.
# * **Split by group.** Identical photos and equal titles stay together, or the test set rewards remembering.
# * **Say only what can be seen.** Descriptions come from metadata that the photo shows, not from titles full of brands.

# %% [markdown]
# ## Exercises
#
# Each has a call of `check`: it says what answer it wants, and with an answer, whether that is right. Solutions: [01_solutions](solutions/01_solutions.ipynb).
#
# **1 (easy). A shortcut of your own.** Section 2.4 guessed the gender from one column. Which column is the best one to guess `usage` from? Would that help a model that sees only the photo? And why is the result for `product_id` worthless?

# %%
from moda_utils import check

column = "colour"  # try others
guess = items.groupby(column).usage.transform(lambda usages: usages.mode()[0])
print(f"usage guessed from {column}: right for {(guess == items.usage).mean():.1%}")
check("01.1")

# %% [markdown]
# **2 (medium). What a square crop costs.** Encoders want squares. One way is to crop the middle, another is to pad with white. For how many items does the crop cut off a part of the *item*? (Hint: look for pixels that aren't nearly white, outside the middle square.)

# %%
from moda_utils.catalog import open_photo

whole = open_photo(root / items.image.iloc[0])
square = (224, 224)
ways = {"whole": whole, "cropped": ImageOps.fit(whole, square)}
ways["padded"] = ImageOps.pad(whole, square, color="white")
check("01.2")
plots.photo_grid(list(ways.values()), list(ways), profile=profile, columns=6, n=1)


# %% [markdown]
# **3 (hard). Nearly the same photo.** SHA-256 misses a photo that was saved again in another size. A *difference hash* doesn't: it shrinks the photo to 9 by 8 grey pixels and notes whether each is brighter than its neighbour. Add such near-duplicates to the groups. How many groups are left, and are the new links right? Look at them before you believe them.

# %%
def difference_hash(path: Path) -> int:
    with Image.open(path) as photo:
        grey = np.asarray(photo.convert("L").resize((9, 8)), dtype=int)  # (8, 9)
    return int("".join("1" if bit else "0" for bit in (grey[:, 1:] > grey[:, :-1]).flat), 2)

few = items.head(100)
hashes = {difference_hash(root / name) for name in few.image}
print(f"{len(hashes)} different hashes, {few.image_sha256.nunique()} different files")
check("01.3")

# %% [markdown]
# ## Further reading
#
# * T. Gebru and others, [Datasheets for Datasets](https://arxiv.org/abs/1803.09010): the questions that a dataset card should answer.
# * B. Barz and J. Denzler, [Do We Train on Test Data? Purging CIFAR of Near-Duplicates](https://arxiv.org/abs/1902.00423): what section 5.1 looks like in a famous benchmark.
# * scikit-learn, [StratifiedGroupKFold](https://scikit-learn.org/stable/modules/generated/sklearn.model_selection.StratifiedGroupKFold.html): the same idea for cross-validation.
# * Hugging Face, [Create an image dataset](https://huggingface.co/docs/datasets/image_dataset): the format of `dataset/`.

# %% [markdown]
# ## Next
#
# [Notebook 02](02_phi3_vision_captions.ipynb) lets a large vision-language model describe the photos. In a hurry? The template descriptions are enough to train on: go straight to [notebook 04](04_model_assembly.ipynb), which builds our own small model.

# %% [markdown]
# ## Save and stop
#
# On Colab, everything under `artifacts/` is lost with the runtime. What this notebook made can be made again in minutes, with the same result, so nothing has to be kept. To keep the catalogue anyway, name a folder of your mounted Drive. Then end the runtime (*Runtime > Disconnect and delete runtime*).

# %% cellView="form"
# @title Copy the small artefacts to a folder { display-mode: "form" }
KEEP_IN = ""  # @param {type:"string"}
from moda_utils.course import keep
keep(profile, KEEP_IN)
