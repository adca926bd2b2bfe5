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
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/solutions/07_solutions.ipynb)
#
# # 7. Solutions
#
# Answers to the exercises of [notebook 7, Use it](../07_use_it.ipynb). Try them yourself first: the second one is worth an evening.

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
profile = setup("07", PROFILE)

# %%
from moda_utils import catch_up

catch_up("07")

# %%
import pandas as pd
import torch

from moda_utils import check, plots
from moda_utils.catalog import load_catalog
from moda_utils.evaluation import score
from moda_utils.features import embed_photos
from moda_utils.modeling_moda import ModaForConditionalGeneration, ModaProcessor
from moda_utils.serving import generate_texts

best = profile.run_dir("moda") / "best"
plain = ModaForConditionalGeneration.from_pretrained(best, dtype=torch.float32).eval()
processor = ModaProcessor.from_pretrained(best)
catalog = load_catalog(profile.catalog_path)
test = catalog.frame[catalog.frame.split == "test"].reset_index(drop=True)
paths = [catalog.root / name for name in test.image]
embeds = embed_photos(plain, processor.image_processor, paths, test.image_sha256,
                      profile.features_dir)

# %% [markdown]
# ## Exercise 1 (easy). One scale for all.
#
# *Round the matrix of section 3 with a single scale, that of its largest weight. How many times larger is the error of the output?*

# %%
layer = plain.language_model.get_decoder().layers[0].fc1
weight, bias = layer.weight.detach(), layer.bias.detach()
x = torch.randn(32, weight.shape[1], generator=torch.manual_seed(0))

def error(scale):
    rounded = (weight / scale).round() * scale
    return (x @ (rounded - weight).T).norm() / (x @ weight.T).norm()

per_row = error(weight.abs().amax(dim=1, keepdim=True) / 127)
for_all = error(weight.abs().max() / 127)
print(f"a scale per row {per_row:.2%}, one for all {for_all:.2%}: {for_all / per_row:.1f} times")
check("07.1", for_all / per_row)

# %% [markdown]
# The error of a rounded weight is at most half a step, so it grows with the scale: the factor is about the ratio of the largest weight of all to that of a usual row. In small models, where rows are alike, that is little. Large language models have rows and columns that stick out far, and there one scale for all ruins the rest.

# %% [markdown]
# ## Exercise 2 (medium). How few bits?
#
# *Round all linear layers of the language model to fewer bits. When do descriptions begin to change, and when does the overall grade give way?*

# %%
from copy import deepcopy

def rounded(weight, bits):
    most = 2 ** (bits - 1) - 1
    scale = weight.abs().amax(dim=1, keepdim=True) / most
    return (weight / scale).round() * scale

texts, rows = {32: generate_texts(plain, processor, embeds)[0]}, []
for bits in (8, 6, 5, 4, 3):
    model = deepcopy(plain)
    for module in model.language_model.get_decoder().layers.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.data = rounded(module.weight.data, bits)
    texts[bits] = generate_texts(model, processor, embeds)[0]

for bits, said in texts.items():
    overall = score(said, test)["criteria"]["overall"]
    changed = sum(a != b for a, b in zip(said, texts[32]))
    rows.append({"bits": bits, "changed": changed, "overall": overall["value"],
                 "low": overall["low"], "high": overall["high"]})
pd.DataFrame(rows).set_index("bits").round(2)

# %% [markdown]
# Expect two thresholds, and the first one before the second: words change early, at places where two were nearly as likely; the grade falls only when the words become wrong. That is why a count of changed texts is a poor measure of a compressed model, and an unchanged grade is no proof that nothing has changed. Each bit less doubles the step, so a fall, once it begins, should be steep; if the last row shows none, go on to two bits.

# %% [markdown]
# ## Exercise 3 (hard). Leave early.
#
# *How much of the work of a batch of 64 is wasted on sentences that have ended, and would it pay to take them out?*

# %%
ended = torch.tensor([len(row) for row in processor.tokenizer(
    texts[32], add_special_tokens=False).input_ids]) + 1  # and the end mark

def waste(lengths, size):
    batches = lengths.split(size)
    steps = sum(int(batch.max()) * len(batch) for batch in batches)
    return 1 - int(lengths.sum()) / steps

for size in (1, 4, 16, 64):
    print(f"batch {size:2}: {waste(ended, size):.0%} of the rows' steps; "
          f"sorted by length {waste(ended.sort().values, size):.0%}")

# %% [markdown]
# The share tells how many rows of the later steps are dead weight. But a step of many rows costs far less than as many steps of one row: the weights are read, and the operations called, once for all of them (section 7 of the notebook prints what a batch gains). So taking rows out saves little arithmetic, and costs the moving of keys and values. It pays when batches are so large that arithmetic is the limit, or when a single long sentence holds up many: then the better idea is to put a new photo into the free place, as servers of large models do. Sorting by length doesn't help a captioner: it knows the length only afterwards.
