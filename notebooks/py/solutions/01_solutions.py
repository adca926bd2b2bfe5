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
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/solutions/01_solutions.ipynb)
#
# # 1. Solutions
#
# Answers to the exercises of [notebook 1, Dataset](../01_dataset.ipynb). Try them yourself first: a wrong idea of your own teaches more than a right one of ours.

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
from itertools import combinations

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from moda_utils import check, plots
from moda_utils.catalog import load_photos, open_photo, read_catalog

root = load_photos(profile)
items = read_catalog(root).frame
print(f"{len(items)} items")

# %% [markdown]
# ## Exercise 1 (easy). A shortcut of your own
#
# *Which column is the best one to guess `usage` from? Would that help a model that sees only the photo? Why is the result for `product_id` worthless?*
#
# A guess should be tested on items that it wasn't made from, as a model is. So learn each column's most frequent usage on train, and count on the other two splits. A value that train doesn't have gets the overall majority.

# %%
train, others = items[items.split == "train"], items[items.split != "train"]
majority = train.usage.mode()[0]

def guess_from(column: str, asked: pd.DataFrame) -> pd.Series:
    usual = train.groupby(column).usage.agg(lambda usages: usages.mode()[0])
    return asked[column].map(usual).fillna(majority)

columns = ["product_id", "title", "colour", "gender", "category", "sub_category", "product_type"]
rows = [{"column": column,
         "on train": (guess_from(column, train) == train.usage).mean(),
         "on others": (guess_from(column, others) == others.usage).mean(),
         "values known": others[column].isin(train[column]).mean()} for column in columns]
pd.DataFrame(rows).set_index("column").map("{:.1%}".format)

# %% [markdown]
# Compare the first two columns of the table, row by row. `product_id` is perfect on train and no better than the majority elsewhere: every number occurs once, so "most frequent usage of this number" is the answer itself, learnt by heart. Nothing in it carries over; the last column says so. The title is nearly as bad. This is what *overfitting* looks like without any model.
#
# How much do the others gain over always saying the same?

# %%
for row in rows[2:]:
    gain = row["on others"] - (others.usage == majority).mean()
    print(f"{row['column']:13} {gain:+.1%} over the majority")
check("01.1", max(rows[1:], key=lambda row: row["on others"])["column"])


# %% [markdown]
# Look for the largest gain: that of `product_type`, if the catalogue has types that are made for one purpose, such as sports shoes. A model that sees only the photo can profit from it, because the type *is* visible. It never gets the column, but nothing keeps it from recognising the type inside and answering by that. A high score on usage may therefore be a score on types. To find out, score usage within one type that has several.
#
# ## Exercise 2 (medium). What a square crop costs
#
# *For how many items does a crop of the middle cut off a part of the item?*
#
# The photos have a white ground, so nearly every pixel that isn't nearly white belongs to the item. Count those inside and outside of the middle square.

# %%
def lost_share(photo: Image.Image) -> float:
    """Share of the item's pixels that a square crop of the middle cuts off."""
    grey = np.asarray(photo.convert("L"))  # (H, W)
    item = grey < 235
    side = min(grey.shape)
    top, left = (grey.shape[0] - side) // 2, (grey.shape[1] - side) // 2
    kept = item[top : top + side, left : left + side].sum()
    return 1 - kept / max(item.sum(), 1)

files = items.drop_duplicates("image_sha256").reset_index(drop=True)
lost = files.image.map(lambda name: lost_share(open_photo(root / name)))
check("01.2", lost_share)
for limit in (0.0, 0.01, 0.1):
    print(f"more than {limit:3.0%} of the item cut off: {(lost > limit).sum():4} of {len(files)} photos")

# %% [markdown]
# The limit matters. A shadow or a speck of dust counts as "a part", so read the later lines rather than the first. And look at the worst cases before you judge:

# %%
worst = lost.nlargest(4).index
square = (224, 224)
paths, captions = [], []
for place in worst:
    whole = open_photo(root / files.image[place])
    paths += [whole, ImageOps.fit(whole, square), ImageOps.pad(whole, square, color="white")]
    captions += [f"{lost[place]:.1%} lost", "cropped", "padded"]
plots.photo_grid(paths, captions, profile=profile, columns=6, n=len(worst))


# %% [markdown]
# If hardly anything is lost, take the crop: it shows the item larger, and every pixel of the encoder's small square is worth having. If sleeves and heels go, pad with white, the colour that is there anyway, and accept a smaller item. Squeezing is the third way; it keeps everything and changes the proportions that tell a long skirt from a short one. There is one more consideration: a pretrained encoder should get what it was trained with. CLIP's preprocessing crops.
#
# ## Exercise 3 (hard). Nearly the same photo
#
# *Add near-duplicates, by difference hash, to the groups. How many groups are left, and are the new links right?*

# %%
def difference_hash(path) -> int:
    with Image.open(path) as photo:
        grey = np.asarray(photo.convert("L").resize((9, 8)), dtype=int)  # (8, 9)
    return int("".join("1" if bit else "0" for bit in (grey[:, 1:] > grey[:, :-1]).flat), 2)

hashes = items.image.map(lambda name: difference_hash(root / name))
print(f"{items.image_sha256.nunique()} different files, {hashes.nunique()} different hashes")


# %% [markdown]
# Items of one hash are linked, and the links chain with the old groups. Union-find as in the notebook; this time the links are (group, hash).

# %%
def join(*keys: pd.Series) -> np.ndarray:
    """Group numbers of items that share a value of any key, directly or by a chain."""
    parent = list(range(len(items)))

    def find(item: int) -> int:
        while parent[item] != item:
            item = parent[item]
        return item

    for key in keys:
        first = {}
        for item, value in enumerate(key):
            parent[find(item)] = find(first.setdefault(value, item))
    return pd.factorize(np.array([find(item) for item in range(len(items))]))[0]

joined = join(items.group, hashes)
print(f"{items.group.nunique()} groups before, {joined.max() + 1} after; "
      f"the largest has {np.bincount(joined).max()} items")
check("01.3", joined.max() + 1)

# %% [markdown]
# Are the new links right? Take all pairs of *different files* with the same hash, and ask the catalogue whether the two rows agree.

# %%
links = [pair for _, same in items.groupby(hashes) if same.image_sha256.nunique() > 1
         for pair in combinations(same.drop_duplicates("image_sha256").index, 2)]
first, second = (items.loc[[pair[side] for pair in links]] for side in (0, 1))
print(f"{len(links)} pairs of different files with equal hashes")
for column in ("product_type", "gender", "usage", "colour"):
    agree = (first[column].values == second[column].values).mean() if links else 1
    print(f"  {agree:4.0%} agree in {column}")

# %%
paths, captions = [], []
for pair in links[:: max(1, len(links) // 6)][:6]:
    for row in items.loc[list(pair)].itertuples():
        paths.append(root / row.image)
        captions.append(f"{row.product_id}: {row.colour}")
plots.photo_grid(paths, captions, profile=profile, columns=6, n=len(links)) if paths else print("no new links")

# %% [markdown]
# Two kinds of pairs can turn up. A photo that was saved again, or shot again from the same place: such links are right, and the split should respect them. And two *products* that look alike in 9 by 8 grey pixels, in another colour or with another print: the hash is blind for colour and for anything small. These links are wrong in one sense, the products differ, and harmless in another: they only keep look-alikes in one split, which makes the test a little harder and never easier.
#
# What would *not* be harmless is a chain that swallows the catalogue: compare the size of the largest group with before. If it has grown to a good part of all items, the hash is too coarse for photos that all show one item in the middle of a white ground. A longer hash (17 by 16) or a hash per colour channel is then the next thing to try.
