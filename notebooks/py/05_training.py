# ---
# jupyter:
#   accelerator: GPU
#   colab:
#     gpuType: T4
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
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/05_training.ipynb)
#
# # 5. Training
#
# **Train MODA on your photos, know at every step what you are looking at, and lose nothing when the machine goes away.** Core notebook.
#
# | | |
# |---|---|
# | **You will** | encode every photo once, check the model before you train it, write out one training step, train by the original recipe, read the curves, break a run off to see it go on, and spoil the training in four ways on purpose |
# | **You need** | the dataset of notebook 1, better with the captions of 2 and 3; the assembly of notebook 4 helps; no GPU in `mini` |
# | **Time and cost** | laptop, `mini`: about a minute ([measured](../benchmarks/results/mini-cpu-course.json)) · CPU, `full`: one to three hours · T4, `full`: about ten minutes · A100, `full`: about three minutes (the last three calculated; section 8.1 shows what has been measured) |

# %% [markdown]
# **Contents**
#
# 1. What we train on
# 2. Encode every photo once
# 3. What is asked
# 4. Before training
# 5. Can it learn at all?
# 6. One step, written out
# 7. The recipe
# 8. Train
# 9. Read the curves
# 10. The same photos along the way
# 11. Killed? Run the cell again
# 12. Break it yourself
#
# Run the next cell first. If it says that something is missing, `catch_up("05")` in a new cell makes it.

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
profile = setup("05", PROFILE)

# %% [markdown]
# ## 1. What we train on
#
# The figure above shows the plan: encode once on the left, learn on the right. Both need the dataset of notebook 1: photos with descriptions, split by groups so that no photo of the test split has a twin among those we learn from. *Validation* will choose the best epoch; on *test* nothing is chosen, and notebook 6 grades there.

# %% tags=["nbval-check-output"]
from moda_utils import plots, require
from moda_utils.dataset import load_dataset_dir

dataset = load_dataset_dir(require(profile.dataset_dir, "01"))
for split, rows in dataset.items():
    print(f"{split:11}{rows.num_rows:6,} items")

# %% [markdown]
# An item can have up to three descriptions: the *template* made from the catalogue's columns (notebook 1), the *raw* one that Phi-3 Vision read off the photo (2), and the *refined* one that Phi-3 Instruct made of both (3). Which shall MODA learn? Where an item lacks the kind that you choose here, the next one stands in.

# %% cellView="form"
# @title Which captions, how many epochs, and what about a run that is here already? { display-mode: "form" }
CAPTIONS = "refined"  # @param ["refined", "raw", "template"]
EPOCHS = 20  # @param {type:"integer"}
EXISTING_RUN = "continue"  # @param ["continue", "load", "start over"]

# %%
item = dataset["train"][0]
for kind in ("template", "raw", "refined"):
    texts = [text for text in dataset["train"][f"description_{kind}"] if text]
    print(f"{'>' if kind == CAPTIONS else ' '} {kind:9}{len(set(texts)):6,} different ones among "
          f"{len(texts):5,}, such as:\n     {item[f'description_{kind}'] or '-'}")

# %% [markdown]
# Refined ones are the choice made for you: they vary, they tell what no column holds, and notebook 3 has held them against the catalogue. Without the captions of notebooks 2 and 3, templates stand in. For colour, product type, gender and use alone, templates may do as well or better: notebook 6 grades nothing else, and [notebook 8](08_ablations.ipynb) compares. What a model makes of the other kinds, you can see for yourself: choose one, give section 8 another run name, and look in section 10 for words that the photo does not show.
#
# `EPOCHS` is the original's number; with real models on a CPU, fewer save hours. `EXISTING_RUN` is for readers who come back: *continue* goes on with what is there, *load* shows it without training, and *start over* keeps the old run under another name and trains anew.
#
# ## 2. Encode every photo once
#
# The encoder is frozen: whatever we train, it says the same about a photo in every epoch. So it has to look at each photo only once. That sounds obvious, but the original notebook encoded all photos anew in every epoch, on the CPU, while the GPU waited; it took 104 minutes on an A100. How much of such a time is encoding depends on the machine: section 8.1 has both ways beside each other.
#
# How much is at stake here? Time it on a few photos:

# %%
import time

import torch

from moda_utils.device import best_device
from moda_utils.training import start_model

model, processor = start_model(profile)
device = best_device()
model.to(device).eval()

few = dataset["train"]["image"][:32]
begin = time.perf_counter()
with torch.inference_mode():
    pixel_values = processor(images=[photo.convert("RGB") for photo in few])["pixel_values"]
    model.encode_images(pixel_values.to(device)).cpu()  # or a GPU might not be done yet
seconds = (time.perf_counter() - begin) / len(few) * dataset["train"].num_rows
print(f"all training photos, once: {seconds:.1f} s; in each of {EPOCHS} epochs: "
      f"{EPOCHS * seconds / 60:.1f} minutes")

# %% [markdown]
# `load_examples` encodes all photos and keeps the embeddings in a file, each under the fingerprint of its photo. Change one photo, and one photo is encoded again.

# %%
from moda_utils.features import load_examples

print("embeddings left by earlier notebooks:", any(profile.features_dir.glob("*")))
for attempt in ("first time", "again"):
    begin = time.perf_counter()
    examples = load_examples(profile, model, processor, CAPTIONS)
    print(f"{attempt:11}{time.perf_counter() - begin:6.2f} s, captions: {examples['train'].captions}")

# %% tags=["nbval-check-output"]
for split, rows in examples.items():
    print(f"{split:11}{tuple(rows.image_embeds.shape)}")

# %% [markdown]
# (Where earlier notebooks have left embeddings, the first time is quick as well.) Compared with photos, these tables are tiny. They fit on any device beside the model, so nothing has to be loaded during training.
#
# ### 2.1 A quarter of the photo is cut away
#
# CLIP's preprocessing scales the shorter side to the encoder's size and takes the square in the middle. Of a photo in the format 3:4 a quarter goes: a strip above and one below (of one in 4:3, a strip on either side). Does that hurt? Here are the photos that lose most of their item, and how many of a sample lose a noticeable part:

# %%
import numpy as np

def outside(photo):
    """Share of the item, taken as all that is not white, outside of the middle square."""
    item = np.asarray(photo.convert("L")) < 235  # (height, width)
    side = min(item.shape)
    top, left = ((length - side) // 2 for length in item.shape)
    return 1 - item[top:top + side, left:left + side].sum() / max(1, item.sum())

sample = dataset["train"].select(range(min(150, dataset["train"].num_rows)))["image"]
lost = np.array([outside(photo) for photo in sample])
print(f"{np.mean(lost > 0.1):.0%} of {len(lost)} photos lose more than a tenth of their item")

# %%
figure, axes = plots.figure(1, 4, height=2.5)
for axis, index in zip(axes.flat, lost.argsort()[::-1].tolist()):
    width, height = sample[index].size
    axis.imshow(sample[index].convert("RGB"))
    for length, mark in ((height, axis.axhspan), (width, axis.axvspan)):
        strip = (length - min(width, height)) / 2  # none of the shorter side
        for edge in (0, length - strip):
            mark(edge, edge + strip, color=plots.VERMILION, alpha=0.35, lw=0)
    axis.set(title=f"{lost[index]:.0%} lost", xlim=(0, width), ylim=(height, 0))
    axis.axis("off")
plots.stamp(figure, profile, len(lost), note="shaded: cut away")
figure

# %% [markdown]
# > **In `mini`:** every item is drawn in the middle of its photo, so the cut takes hardly more than white paper.
# >
# > **With real photos:** items come closer to the edge, so expect more of them to be lost. The share above is measured on the photos at hand.
#
# The other ways are to *pad* the photo to a square (nothing is lost, but the item gets smaller, between two black bars) or to *squeeze* it (nothing is lost, but shapes change). Both are settings of the image processor. Which one suits the encoder best, a simple test can tell: give each validation photo its nearest training photo. Do the two agree in product type, in colour, in gender? (± is the 95 % interval of a share; two shares whose intervals overlap may be equal.)

# %%
import copy

from moda_utils.features import embed_photos

side = processor.image_processor.crop_size["height"]
ways = {"cut": {"shortest_edge": side}, "padded": {"max_height": side, "max_width": side},
        "squeezed": {"height": side, "width": side}}
known, new = (rows.select(range(min(400, rows.num_rows)))
              for rows in (dataset["train"], dataset["validation"]))
print(f"n = {new.num_rows} validation photos")

for way, size in ways.items():
    images = copy.deepcopy(processor.image_processor)
    images.size = size
    table, queries = (torch.nn.functional.normalize(embed_photos(
        model, images, rows["image"], rows["image_sha256"], profile.features_dir))
        for rows in (known, new))
    nearest = known.select((queries @ table.T).argmax(dim=1).tolist())
    same = {column: np.mean([a == b for a, b in zip(nearest[column], new[column])])
            for column in ("product_type", "colour", "gender")}
    error = {column: 1.96 * (s * (1 - s) / new.num_rows) ** 0.5 for column, s in same.items()}
    print(f"{way:9}", "  ".join(f"{c} {100 * s:.0f} ± {100 * error[c]:.0f} %" for c, s in same.items()))

# %% [markdown]
# CLIP and its relatives were trained on squares cut out of photos, which speaks for the cut; and the columns may disagree. We keep the cut unless another line is better in all of them. To train with another one, set `processor.image_processor.size` before `load_examples`: the embeddings get a file of their own, and the setting is stored with the trained model, so that `describe()` follows it.
#
# ## 3. What is asked
#
# Notebook 4 built the sequence `[image] [</s>] description [</s>]` and the labels. Here they are for all items at once, and three of them as a picture: a short, a middling and a long one. The model is asked for every green token; grey ones are given, or mere padding.

# %%
from moda_utils.training import tokenize

tokens = tokenize(processor, examples["train"], device)
held_out = tokenize(processor, examples["validation"], device)

def draw_labels(rows, wide=12):
    """Each row's tokens in lines of `wide` boxes, coloured by whether they are asked."""
    places = 1 + int(tokens.lengths[rows].max())
    lines = -(-places // wide)  # per row of tokens
    figure, axes = plots.figure(height=0.5 + 0.32 * (lines + 0.5) * len(rows))
    for number, row in enumerate(rows):
        names = processor.tokenizer.convert_ids_to_tokens(tokens.input_ids[row].tolist())
        asked = [False, *(tokens.labels[row] != -100).tolist()]
        for place, name in enumerate(["[image]", *names][:places]):
            box = dict(boxstyle="round,pad=0.25", edgecolor="none", alpha=0.35,
                       facecolor=plots.GREEN if asked[place] else plots.GREY)
            line = -number * (lines + 0.5) - place // wide
            axes[0, 0].text(place % wide, line, name.strip("Ġ"), size=8, ha="center", bbox=box)
    axes[0, 0].set(xlim=(-0.6, wide - 0.4), ylim=(-(lines + 0.5) * len(rows) + 1, 0.6))
    axes[0, 0].axis("off")
    plots.stamp(figure, profile, len(tokens.lengths), note="green: asked, grey: given or padding")
    return figure

by_length = tokens.lengths.argsort(stable=True)
draw_labels(by_length[[0, len(by_length) // 2, -1]])

# %%
asked = int((tokens.labels != -100).sum())
print("items, longest description in tokens:", tuple(tokens.input_ids.shape))
print(f"questions that count: {asked:,}, {asked / len(tokens.lengths):.1f} per item")

# %% [markdown]
# ## 4. Before training
#
# Two things to do before any training, each a minute that can save a day.
#
# **First, the loss of the untrained model.** A model that knows nothing spreads its guess evenly over the whole vocabulary; the surprise of that is the logarithm of the vocabulary's size. A language model knows something already (which words are frequent, which follow each other), so its loss should be lower. A loss *far above* the logarithm means that the model is sure of wrong answers, and that something is broken: labels shifted by one, inputs hundreds of times too large, weights that were not loaded.

# %%
import math

from moda_utils.training import evaluate

loss, count = evaluate(model, held_out)
vocabulary = model.config.text_config.vocab_size
print(f"loss before training {loss:.2f}, guessing among {vocabulary:,} tokens {math.log(vocabulary):.2f}")
print("as it should be" if loss < 1.5 * math.log(vocabulary) else "too high: something is broken")

# %% [markdown]
# > **In `mini`:** the language model was trained on sentences about garments and nothing else, so it foresees much of a description before it has seen a photo.
# >
# > **With real weights:** OPT has read all kinds of text; expect a higher loss, still below the logarithm; nobody has measured it yet.
#
# **Second, what does it say?** The three photos that return in several notebooks. They are of the test split: we look at what is said about them, and choose nothing by it.

# %%
from moda_utils.catalog import same_three
from moda_utils.serving import generate_texts

test = dataset["test"].remove_columns("image").to_pandas().assign(split="test")
three = [int(test.index[test.product_id == item][0]) for item in same_three(test).product_id]
photos = [dataset["test"][row]["image"] for row in three]

def say(model):
    return generate_texts(model, processor, examples["test"].image_embeds[three])[0]

said = {"untrained": say(model)}
plots.before_after(photos, said, profile=profile)

# %% [markdown]
# Fluent or not, a word that fits does so by chance: the projection still hands the language model a random vector.
#
# ## 5. Can it learn at all?
#
# A famous check: take *one* small batch and train on nothing else. A model that can't learn eight examples by heart won't learn the others either, and the mistake shows in seconds instead of hours. The loss should fall towards zero. (We train a copy. The model itself stays fresh.)

# %%
from moda_utils.training import collate, trained_weights

torch.manual_seed(0)  # dropout: in training some numbers are set to 0 at random
trial = copy.deepcopy(model).train()
eight = torch.arange(8) * (len(tokens.lengths) // 8)
batch = collate(tokens, eight)
optimizer = torch.optim.AdamW(trained_weights(trial).values(), lr=1e-3)
for step in range(1, 61):
    loss = trial(**batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if step in (1, 10, 20, 40, 60):
        print(f"step {step:2}: loss {loss.item():.3f}")

# %% [markdown]
# And does it now say what it was taught? Note that this proves nothing about other photos.

# %%
texts, _ = generate_texts(trial, processor, examples["train"].image_embeds[eight[:4]])
for row, text in zip(eight.tolist(), texts):
    print(f"taught: {examples['train'].descriptions[row]}\n  says: {text}")


# %% [markdown]
# ## 6. One step, written out
#
# A large batch gives a calm gradient but needs much memory. The way out is *accumulation*: run several small batches one after another, let their gradients add up, and only then change the weights.
#
# There is a trap. Descriptions differ in length, so batches differ in how many questions they ask. If each batch's loss is a mean over its own questions, a question in a batch of short texts weighs more than one in a batch of long texts, and eight batches of 32 are not the same as one of 256. The cure: divide by the number of questions in *all* of them.

# %% tags=["nbval-check-output"]
def gradients(batches):
    model.zero_grad()
    questions = sum(int((tokens.labels[rows] != -100).sum()) for rows in batches)
    for rows in batches:
        loss = model(**collate(tokens, rows), num_items_in_batch=questions).loss
        loss.backward()  # adds to what is there already
    return [weight.grad.clone() for weight in trained_weights(model).values()]

rows = by_length[::max(1, len(by_length) // 64)][:64]  # from short to long
small, large = gradients(rows.split(8)), gradients([rows])
same = all(torch.allclose(a, b, atol=1e-4) for a, b in zip(small, large))
print("eight batches of 8 give the gradient of one batch of 64:", same)

# %% [markdown]
# `moda_utils.training.accumulate` does the same, with a few words more for machines with several GPUs:

# %% tags=["nbval-check-output"]
from moda_utils.training import accumulate, make_accelerator

model.zero_grad()
accumulate(model, make_accelerator(), tokens, rows.split(8))
theirs = [weight.grad for weight in trained_weights(model).values()]
print("same as moda_utils:", all(torch.allclose(a, b, atol=1e-4) for a, b in zip(small, theirs)))
model.zero_grad()

# %% [markdown]
# ## 7. The recipe
#
# These are the settings of the original MODA. `accumulation` comes from the profile: eight batches make one step of 256 items in `full`. In `mini`: one batch makes one step, because the drawn set is small, and a few dozen large steps would not be enough to learn from.

# %%
from dataclasses import asdict

from moda_utils.training import plan_epoch, recipe

config = recipe(profile, epochs=EPOCHS)
for name, value in asdict(config).items():
    print(f"{name:17}{value}")
steps = len(plan_epoch(len(examples["train"]), 1, config))
print(f"\n{config.epochs} epochs of {steps} steps: {config.epochs * steps} changes of the weights")

# %% [markdown]
# * **[AdamW](https://arxiv.org/abs/1711.05101)** adapts the size of a step to each weight.
# * The **learning rate** is high for a pretrained language model, but the projection has to start from nothing. It is multiplied by 0.8 after every second epoch: large steps first, small ones to settle.
# * The order of the items is drawn anew in each epoch, from the **seed**: on one machine, with the same versions, the same seed gives the same run. Elsewhere sums are rounded in another order, and losses drift a little apart.
# * **Snapshots** after a few epochs will show how the descriptions changed.
#
# **What we do differently from the original notebook:**
#
# | The original | Here | Why |
# |---|---|---|
# | encodes every photo in every epoch, on the CPU | once, and keeps the embeddings | a frozen encoder never changes its mind |
# | ends a caption with the text `<\s>`, which is no token | with the token `</s>`, and asks for it | or the model never learns to stop (section 12) |
# | chooses the best epoch on the test split | on validation; nothing is chosen on test | a test that has helped to choose is no test |
# | splits at random; copies of a photo cross the split | keeps copies in one split | or it is examined on what it has learnt by heart |
# | 73 batches in groups of 8: one is left over in each epoch | the last, smaller group counts too | its gradient was computed and then thrown away |
# | fills up with 0, not OPT's padding token | with OPT's own, masked | harmless, since both are masked |
# | no seed, always the same order | seeded, shuffled in every epoch | runs can be repeated, and batches differ |
#
# ## 8. Train
#
# A finished run is recognised and loaded, an interrupted one goes on. If a run is refused because it was begun with other captions or settings, the message says what differs, and `EXISTING_RUN` in section 1 offers two ways on. On a machine with several GPUs, `accelerate launch -m moda_utils.training` in a terminal trains the same run on all of them; this cell then loads it.

# %%
from IPython.display import display

from moda_utils.training import train

RUN = "moda"  # notebook 6 and describe() use the run of this name

about = dict(profile=profile, n=len(examples["train"]),
             note=f"{examples['train'].captions} captions")

def redraw(history):
    curve.update(plots.loss_curves(history, **about))

model, _ = start_model(profile)  # anew, so that this cell can be run again
curve = display("The curve appears after the first epoch.", display_id=True)
history = train(model, processor, examples["train"], examples["validation"], config,
                profile.run_dir(RUN), after_epoch=redraw, if_exists=EXISTING_RUN)
redraw(history)

# %% [markdown]
# ### 8.1 What it costs elsewhere
#
# Time and memory of 20 epochs, as stored in `benchmarks/results/`. A line without a measurement says so, and so does a time that was calculated from fewer epochs. *Real sizes* are random weights, which take as long as trained ones, and made-up photos of the real size; a CPU gets a tenth of them. *Original* is the original notebook's way of encoding in every epoch, measured beside ours in the same run; the 104 minutes are that notebook's own figure, which nobody has repeated here.

# %%
from moda_utils.profiles import ROOT
from moda_utils.storage import read_json

def stored(pattern):
    found = sorted((ROOT / "benchmarks" / "results").glob(f"{pattern}.json"))
    return read_json(found[0]) if found else None

def cells(way):
    calculated = "calculated" if way.get("seconds_20_epochs_calculated") else ""
    memory = "" if way["peak_gb"] is None else f"{way['peak_gb']:.1f} GB"
    return f"{way['seconds_20_epochs'] / 60:8.1f} min {calculated:10}{memory:>8}"

print(f"{'':38}{'original':>12}{'memory':>19}{'ours':>12}{'memory':>19}")
print(f"{'the original notebook on an A100':38}{'104 min':>12} its own figure")
for name, pattern in {"CPU": "full-cpu-training", "T4": "full-*t4*-training",
                      "A100": "full-*a100*-training", "H100 or H200": "full-*h?00*-training"}.items():
    if result := stored(pattern):
        label = f"{result['weights']} weights, {result['device']}, {result['items']:,} items"
        print(f"{label:38}{cells(result['original'])}{cells(result['ours'])}")
    else:
        print(f"{'real sizes, ' + name:38}{'not yet run':>15}")
if small := stored("mini-cpu-training-seeds"):
    first = small["runs"][0] | {"seconds_20_epochs": small["runs"][0]["seconds"]}
    label = f"small models, {small['device']}, {small['items']:,} items"
    print(f"{label:38}{'':31}{cells(first)}")
else:
    print(f"{'small models, CPU':38}{'not yet run':>15}")

# %% [markdown]
# ## 9. Read the curves
#
# Every step and every validation is written down in the run's folder, and so is what the run belongs to. The curves come from there. Starting here? Run the setup cell, then the next one.

# %% tags=["start-here"]
from moda_utils import plots, require
from moda_utils.storage import read_json
from moda_utils.training import load_history

run_dir = require(profile.run_dir("moda"), "05")  # or the name that section 8 gave it
history, data = load_history(run_dir), read_json(run_dir / "config.json")["data"]
about = dict(profile=profile, n=data["training items"], note=f"{data['captions']} captions")
plots.loss_curves(history, best=history.best["epoch"], **about)

# %% [markdown]
# Left, on the linear axis, the first epochs fill the picture. Right, on the logarithmic one, the later epochs can be compared. What to look for:
#
# * Both curves fall: it is learning something that holds for other photos too.
# * Training falls, validation turns upwards: from here on it learns its examples by heart. The weights of the best epoch are kept, whatever comes after.
# * Both stay high: it can't learn, or the learning rate is wrong. Section 5 tells which.
#
# In the first epoch training may lie *above* validation. Its loss is averaged over the epoch, while validation is measured at the end.

# %%
last, best = history.of("validation")[-1], history.best
print(f"validation loss: {best['loss']:.3f} in the best epoch ({best['epoch']}), "
      f"{last['loss']:.3f} in the last ({last['epoch']})")
rising = last["loss"] > best["loss"] + 0.01  # less is noise
print("it has begun to learn by heart" if rising else "no sign yet of learning by heart")

# %% [markdown]
# And the original notebook's curve, drawn from the losses that it printed itself:

# %% cellView="form"
# @title Figure: the original notebook's losses { display-mode: "form" }
from moda_utils import show_figure

show_figure("seed_loss")

# %% [markdown]
# Both in one plot: do they have the same shape? Template captions, as it had them, use few words that are easy to foresee. Varied sentences leave more to guess, however well a model sees, so their validation loss stays higher.
#
# > **In `mini`:** other models, another vocabulary, drawn photos: compare shapes, never heights.
# >
# > **With real weights:** compare heights too, but only with template captions; and expect validation to end a little higher than the grey line, whose split let copies of photos through. Nobody has measured our lines yet.

# %%
plots.loss_curves(history, original=True, **about)

# %% [markdown]
# Two more curves belong to every run. The **learning rate** goes down its stairs. The **gradient norm** says how hard the loss pulls at the weights: peaks in it are steps that may have done damage.

# %%
rows = history.of("train")
figure, axes = plots.figure(1, 2, height=2.6)
for axis, name in zip(axes.flat, ("lr", "gradient_norm")):
    axis.plot([row["step"] for row in rows], [row[name] for row in rows], linewidth=1)
    axis.set(xlabel="step", title={"lr": "Learning rate"}.get(name, "Gradient norm"))
axes[0, 0].set_ylim(0)
axes[0, 1].set_yscale("log")
plots.stamp(figure, profile, data["training items"])
figure

# %% [markdown]
# ## 10. The same photos along the way
#
# The three photos again, described by the snapshots. (This section and the next go on with what sections 1 to 8 have in memory; section 12 can be started alone.) *Predict first: which words come right first: the colour, the kind of garment, the people it is for?*

# %%
from moda_utils.training import load_weights

for snapshot in sorted(profile.run_dir(RUN).glob("epoch-*.safetensors")):
    load_weights(trial, snapshot)
    said[f"epoch {int(snapshot.stem[-2:])}"] = say(trial)
plots.before_after(photos, said, profile=profile, longest=100)

# %% [markdown]
# And the model with the best weights, as it is stored in `best/` and used from now on, beside what it would have been taught about these photos:

# %%
for row, text in zip(three, say(model)):
    print(f"caption: {examples['test'].descriptions[row]}\n   MODA: {text}")

# %% [markdown]
# ## 11. Killed? Run the cell again
#
# A kernel can die and a session can end at any moment. As long as the disk is there, nothing is lost but the last minute: `train` saves from time to time all that it needs to go on, which is the weights, the optimizer's memory, the learning rate's place on its stairs, the place in the shuffled order, and the state of the random numbers. (Colab's own disk goes with its runtime; a `MODA_HOME` on a mounted Drive stays.)
#
# Don't believe it; try it. A small run, once unbroken, and once cut off after its second epoch:

# %%
import tempfile

from moda_utils.features import Examples

def part(split, count):
    rows = examples[split]
    return Examples(rows.image_embeds[:count], rows.descriptions[:count], rows.names[:count])

class Disconnected(Exception):
    pass

def disconnect(history):
    if len(history.of("validation")) == 2:
        raise Disconnected

def small_run(folder, after_epoch=None):
    fresh, _ = start_model(profile)
    settings = recipe(profile, epochs=4, snapshot_epochs=(), save_minutes=0)
    return train(fresh, processor, part("train", 96), part("validation", 32), settings, folder,
                 after_epoch)


# %%
with tempfile.TemporaryDirectory() as folder:
    whole = small_run(f"{folder}/whole")
    try:
        small_run(f"{folder}/broken", disconnect)
    except Disconnected:
        print("\nThe runtime is gone. A new one runs the cell again:\n")
    trained = []  # by the second run
    resumed = small_run(f"{folder}/broken", lambda now: trained.append(now.rows[-1]["epoch"]))

# %% [markdown]
# Equal losses alone would prove little: a run that begins anew has them, too. So first: what did the second run train?

# %% tags=["nbval-check-output"]
kept = [row["step"] for row in resumed.of("train") if row["epoch"] < trained[0]]
print(f"it went on after step {kept[-1]} of {resumed.rows[-1]['step']}, with the epochs {trained}")
pairs = list(zip(whole.rows, resumed.rows, strict=True))
close = all(math.isclose(a["loss"], b["loss"], rel_tol=1e-3) for a, b in pairs)
print(f"{len(pairs)} losses of the broken run equal those of the unbroken one:", close)

# %% [markdown]
# On a CPU they are equal to the last digit, after `kill -9` too ([measured](../benchmarks/results/toy-cpu-kills.json) with toy models); on a GPU the last digits may differ, because it adds in another order every time.

# %% [markdown]
# ## 12. Break it yourself
#
# Four mistakes that are easy to make and hard to find, each in a few seconds. Every cell has a switch in capital letters. As stored, the training is broken; turn the switch and run the cell again to see it mended.
#
# Starting here? Run the setup cell, then the next one.

# %% tags=["start-here"]
import time
from dataclasses import replace

import torch

from moda_utils import require
from moda_utils.dataset import load_dataset_dir
from moda_utils.device import best_device
from moda_utils.features import load_examples
from moda_utils.serving import generate_texts
from moda_utils.training import (accumulate, collate, evaluate, make_accelerator, plan_epoch,
                                 recipe, start_model, tokenize, trained_weights)

dataset = load_dataset_dir(require(profile.dataset_dir, "01"))
model, processor = start_model(profile)
device, accelerator = best_device(), make_accelerator()
examples = load_examples(profile, model.to(device), processor)
tokens, held_out = (tokenize(processor, examples[split], device) for split in ("train", "validation"))


# %% [markdown]
# First the loop of section 8 at its barest, without saving and validating, so that there is something to break:

# %%
def short_training(tokens, **changes):
    """A fresh model, trained for a few epochs on some of the items; the loss of each step."""
    settings = recipe(profile, **{"epochs": 4, "accumulation": 1, **changes})
    model = start_model(profile)[0].to(device)
    optimizer = torch.optim.AdamW(trained_weights(model.train()).values(), settings.learning_rate)
    losses = []
    for epoch in range(settings.epochs):
        for batches in plan_epoch(min(256, len(tokens.lengths)), epoch, settings):
            losses.append(accumulate(model, accelerator, tokens, batches)[0].sum().item())
            optimizer.step()
            optimizer.zero_grad()
    return model.eval(), losses


# %% [markdown]
# ### 12.1 The end that is no end
#
# The original wrote `<\s>` behind every caption. That is no token but a text of a few characters, and the real end mark was not asked for. Do the same: the loss looks as good as ever. Then let the model write.

# %%
END_LIKE_THE_ORIGINAL = True

spoiled = tokens
if END_LIKE_THE_ORIGINAL:
    texts = [text + r"<\s>" for text in examples["train"].descriptions]
    spoiled = tokenize(processor, replace(examples["train"], descriptions=texts), device)
    spoiled.labels[torch.arange(len(texts)), spoiled.lengths - 1] = -100
endless, losses = short_training(spoiled)
texts, ended = generate_texts(endless, processor, examples["validation"].image_embeds[:32])
print(f"last loss {losses[-1]:.2f}; {sum(ended)} of {len(ended)} texts end by themselves, such as\n"
      f"{texts[0]}")

# %% [markdown]
# No loss curve shows this mistake. A loss counts the questions that are asked, and whether to stop here is no longer among them.
#
# ### 12.2 The encoder inside the loop
#
# The same few batches, forward and backward, once with embeddings from the table and once with photos that are opened, scaled and encoded on the spot, as the original did in each of its epochs.

# %% tags=["measured"]
ENCODE_IN_THE_LOOP = True

seconds = {}
for way in ("table", "encoder") if ENCODE_IN_THE_LOOP else ("table",):
    begin = time.perf_counter()
    for rows in torch.arange(min(96, len(tokens.lengths))).split(32):
        inputs = collate(tokens, rows)
        if way == "encoder":
            photos = [dataset["train"][row]["image"].convert("RGB") for row in rows.tolist()]
            pixel_values = processor(images=photos)["pixel_values"].to(device)
            with torch.no_grad():
                inputs["image_embeds"] = model.encode_images(pixel_values)
        endless(**inputs).loss.backward()
        endless.projection[0].weight.grad.norm().item()  # or a GPU might not be done yet
    seconds[way] = time.perf_counter() - begin
print("  ".join(f"{way}: {value:.2f} s" for way, value in seconds.items()),
      f"  ratio {seconds[way] / seconds['table']:.1f}")

# %% [markdown]
# > **In `mini`:** both models and all photos are small, so this ratio says little about real ones.
# >
# > **With real weights:** it grows with the size of photos and encoder, and with the speed of a GPU that has to wait for the CPU; section 8.1 says what has been measured at real size.
#
# ### 12.3 Too few steps
#
# The original's accumulation of 8 was chosen for a few thousand items. On a small set it leaves a handful of steps, and each moves the weights only so far, however calm its gradient.

# %%
ACCUMULATION = 8

for accumulation in (1, ACCUMULATION):
    few_steps, losses = short_training(tokens, accumulation=accumulation)
    print(f"accumulation {accumulation}: {len(losses):3} steps, "
          f"validation loss {evaluate(few_steps, held_out)[0]:.2f}")

# %% [markdown]
# ### 12.4 A start in float16
#
# OPT is stored in float16, and a model is loaded in the format that it is stored in, unless one asks for another. Forget to ask, and AdamW divides by the root of a square that is too small for the format:

# %%
FORMAT = torch.float16

coarse = start_model(profile)[0].to(device, FORMAT).train()
optimizer = torch.optim.AdamW(trained_weights(coarse).values(), recipe(profile).learning_rate)
for step in range(1, 4):
    loss = coarse(**collate(tokens, torch.arange(8))).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(f"step {step}: loss {loss.item():.2f}")

# %% [markdown]
# One step, and all is lost. `train` would stop there and name the step and its items, instead of going on for hours with numbers that are none.

# %% [markdown]
# ## What we learned
#
# * A **frozen** encoder needs to see each photo only once. Ask of everything in a training loop: does it change?
# * **Before training**: compare the first loss with the logarithm of the vocabulary, read what the untrained model says, and learn one batch by heart.
# * **Accumulated batches equal a large one**, if the loss is divided by the questions of all of them.
# * **Validation** chooses the epoch. Nothing was chosen on the test split.
# * A run that can go on after any kill makes you calm. **Try the kill**; don't trust the saving.
# * **A good loss proves only what was asked.** Read what the model writes.

# %% [markdown]
# ## Exercises
#
# Each ends in a call of `check`: it says what answer it wants, and with an answer, whether that is right. Solutions: [05_solutions](solutions/05_solutions.ipynb).
#
# **1 (easy). The learning rate.** By what rate does the recipe train in its last epoch? Then train for three epochs with a tenth and with ten times the first rate. Which of them would you have stopped, and after how many steps did you know?

# %%
from moda_utils import check

for rate in (1e-4, 1e-3, 1e-2):
    print(f"learning rate {rate:g}: short_training(tokens, epochs=3, learning_rate={rate:g})")
check("05.1")  # then: check("05.1", your_rate)

# %% [markdown]
# **2 (medium). Too few steps.** The original lost each group of fewer than 8 batches. How many steps would that leave in 20 epochs here? Compare section 12.3 with an accumulation of 8 at a higher learning rate: does it make up for the missing steps, and how far?

# %%
for accumulation in (1, 8, 64):
    plan = plan_epoch(len(examples["train"]), 1, recipe(profile, accumulation=accumulation))
    print(f"accumulation {accumulation:2}: {20 * len(plan):5} steps in 20 epochs, the last groups too")
check("05.2")

# %% [markdown]
# **3 (hard). Not asked, and yet known?** How many questions are left when nobody asks for the end? Take the label of the end away, as below, but write nothing behind the descriptions. Does the model still stop? Try it with template captions and with refined ones. Where could it know the end from, if not from this training?

# %%
quiet = tokens.labels.clone()
quiet[torch.arange(len(quiet)), tokens.lengths - 1] = -100  # then: replace(tokens, labels=quiet)
print([processor.tokenizer.decode([token]) for token in quiet[0].tolist() if token != -100][-3:])
check("05.3")

# %% [markdown]
# ## Further reading
#
# * A. Karpathy, [A Recipe for Training Neural Networks](https://karpathy.github.io/2019/04/25/recipe/): where the checks of sections 4 and 5 come from.
# * I. Loshchilov and F. Hutter, [Decoupled Weight Decay Regularization](https://arxiv.org/abs/1711.05101): AdamW.
# * Hugging Face, [Gradient accumulation fixed](https://huggingface.co/blog/gradient_accumulation): the trap of section 6, which stood in many libraries for years.
# * Hugging Face, [Accelerate](https://huggingface.co/docs/accelerate): one loop for CPU, GPU and many GPUs.

# %% [markdown]
# ## Next
#
# [Notebook 6](06_evaluation.ipynb) opens the test split and finds out how good the descriptions are.

# %% [markdown]
# ## Save and stop
#
# The trained model lies in `runs/moda/best`. On Colab it is lost with the runtime, so name a folder of your mounted Drive below. Then end the runtime (*Runtime > Disconnect and delete runtime*).

# %% cellView="form"
# @title Copy the small artefacts to a folder { display-mode: "form" }
KEEP_IN = ""  # @param {type:"string"}
from moda_utils.course import keep
keep(profile, KEEP_IN)
