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
# | **You will** | encode every photo once, check the model before you train it, write out one training step, train by the original recipe, read the curves, and break a run off to see it go on |
# | **You need** | the dataset of notebook 1; the assembly of notebook 4 helps; no GPU in mini |
# | **Time and cost** | laptop, `mini`: about two minutes · CPU, `full`: one to three hours · T4, `full`: about ten minutes · A100, `full`: about three minutes (the last three calculated) |

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
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", REPOSITORY, "moda-course"], check=True)
    os.chdir("moda-course/notebooks"); roots = [Path.cwd().parent]
sys.path.insert(0, str(roots[0]))
from moda_utils import setup
profile = setup("05", PROFILE)

# %% [markdown]
# ## 1. What we train on
#
# The figure above shows the plan: encode once on the left, learn on the right. Both need the dataset of notebook 1: photos with descriptions, split by groups so that no photo of the test split has a twin among those we learn from. *Validation* will choose the best epoch; *test* stays closed until notebook 6.

# %% tags=["nbval-check-output"]
from moda_utils import plots, require
from moda_utils.dataset import load_dataset_dir

dataset = load_dataset_dir(require(profile.dataset_dir, "01"))
for split, rows in dataset.items():
    print(f"{split:11}{rows.num_rows:6,} items")

# %% [markdown]
# Each item has one description to learn from: the best that exists by now. After notebook 1 that is the *template* made from the catalogue's columns, after notebooks 2 and 3 the one written by Phi-3.

# %%
from collections import Counter

print(dict(Counter(dataset["train"]["description_source"])))
for description in dataset["train"]["description"][::200]:
    print(" ", description)

# %% [markdown]
# ## 2. Encode every photo once
#
# The encoder is frozen: whatever we train, it says the same about a photo in every epoch. So it has to look at each photo only once. That sounds obvious, but the original notebook encoded all photos anew in every epoch, on the CPU, while the GPU waited; nearly all of its 104 minutes on an A100 went there.
#
# How much is at stake here? Time it on a few photos:

# %%
import time

import torch

from moda_utils.device import best_device
from moda_utils.training import start_model

model, processor = start_model(profile)
model.to(best_device()).eval()
few = dataset["train"]["image"][:32]
begin = time.perf_counter()
with torch.inference_mode():
    pixel_values = processor(images=[photo.convert("RGB") for photo in few])["pixel_values"]
    model.encode_images(pixel_values.to(model.device))
seconds = (time.perf_counter() - begin) / len(few) * dataset["train"].num_rows
print(f"all training photos, once: {seconds:.1f} s; in each of {profile.epochs} epochs: "
      f"{profile.epochs * seconds / 60:.1f} minutes")

# %% [markdown]
# `load_examples` encodes all photos and keeps the embeddings in a file, each under the fingerprint of its photo. Change one photo, and one photo is encoded again.

# %%
from moda_utils.features import load_examples

for attempt in ("first time", "again"):
    begin = time.perf_counter()
    examples = load_examples(profile, model, processor)
    print(f"{attempt:11}{time.perf_counter() - begin:6.2f} s")

# %% tags=["nbval-check-output"]
for split, rows in examples.items():
    print(f"{split:11}{tuple(rows.image_embeds.shape)}")

# %% [markdown]
# (If the first time was quick as well, an earlier notebook had already left the embeddings.) Compared with photos, these tables are tiny. They fit on any device beside the model, so nothing has to be loaded during training.
#
# ## 3. What is asked
#
# Notebook 4 built the sequence `[image] [</s>] description [</s>]` and the labels. Here they are for all items at once, and three of them as a picture: a short, a middling and a long one. The model is asked for every green token; grey ones are given, or mere padding.

# %%
from moda_utils.training import tokenize

device = best_device()
tokens = tokenize(processor, examples["train"], device)
held_out = tokenize(processor, examples["validation"], device)

def draw_labels(rows):
    longest = int(tokens.lengths[rows].max())
    figure, axes = plots.figure(width=7, height=0.5 + 0.35 * len(rows))
    for line, row in enumerate(rows):
        names = processor.tokenizer.convert_ids_to_tokens(tokens.input_ids[row, :longest].tolist())
        asked = [False, *(tokens.labels[row, :longest] != -100).tolist()]
        for place, (name, counts) in enumerate(zip(["[image]", *names], asked)):
            box = dict(boxstyle="round", edgecolor="none", alpha=0.35,
                       facecolor=plots.GREEN if counts else plots.GREY)
            axes[0, 0].text(place, -line, name.strip("Ġ"), fontsize=8, ha="center", bbox=box)
    axes[0, 0].set(xlim=(-0.6, longest + 0.6), ylim=(0.4 - len(rows), 0.6))
    axes[0, 0].axis("off")
    plots.stamp(figure, profile, len(tokens.lengths), note="green: asked, grey: given or padding")
    return figure

by_length = tokens.lengths.argsort(stable=True)
draw_labels(by_length[[0, len(by_length) // 2, -1]])

# %% tags=["nbval-check-output"]
print("items, longest description in tokens:", tuple(tokens.input_ids.shape))
print("questions that count:", int((tokens.labels != -100).sum()))

# %% [markdown]
# ## 4. Before training
#
# Two things to do before any training, each a minute that can save a day.
#
# **First, the loss of the untrained model.** Who knows nothing spreads its guess evenly over the whole vocabulary; the surprise of that is the logarithm of the vocabulary's size. A language model knows something already (which words are frequent, which follow each other), so its loss should be lower. A loss *far above* the logarithm means that the model is sure of wrong answers, and that something is broken: labels shifted by one, inputs hundreds of times too large, weights that were not loaded.

# %%
import math

from moda_utils.training import evaluate

loss, count = evaluate(model, held_out)
vocabulary = model.config.text_config.vocab_size
print(f"loss before training {loss:.2f}, guessing among {vocabulary:,} tokens {math.log(vocabulary):.2f}")
print("as it should be" if loss < 1.5 * math.log(vocabulary) else "too high: something is broken")

# %% [markdown]
# **Second, what does it say?** Four validation photos, which we will meet again:

# %%
from moda_utils.serving import generate_texts

four = dataset["validation"].num_rows // 4 * torch.arange(4)
photos = [dataset["validation"][int(row)]["image"] for row in four]

def say(model):
    return generate_texts(model, processor, examples["validation"].image_embeds[four])[0]

said = {"untrained": say(model)}
plots.photo_grid(photos, said["untrained"], profile=profile, columns=4,
                 n=dataset["validation"].num_rows)

# %% [markdown]
# Fluent or not, it has nothing to do with the photos: the projection still hands the language model a random vector.
#
# ## 5. Can it learn at all?
#
# A famous check: take *one* small batch and train on nothing else. A model that can't learn eight examples by heart won't learn the others either, and the mistake shows in seconds instead of hours. The loss should fall towards zero. (We train a copy. The model itself stays fresh.)

# %%
import copy

from moda_utils.training import collate, trained_weights

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
# These are the settings of the original MODA. `accumulation` comes from the profile: eight batches make one step of 256 items in full. In mini: one batch makes one step, because the drawn set is small, and a few dozen large steps would not be enough to learn from.

# %%
from dataclasses import asdict

from moda_utils.training import plan_epoch, recipe

config = recipe(profile)
for name, value in asdict(config).items():
    print(f"{name:17}{value}")
steps = len(plan_epoch(len(examples["train"]), 1, config))
print(f"\n{config.epochs} epochs of {steps} steps: {config.epochs * steps} changes of the weights")

# %% [markdown]
# * **AdamW** adapts the size of a step to each weight.
# * The **learning rate** is high for a pretrained language model, but the projection has to start from nothing. It is multiplied by 0.8 after every second epoch: large steps first, small ones to settle.
# * The **last, smaller step** of an epoch counts too. (The original dropped it: 73 batches at an accumulation of 8 leave one over.)
# * The order of the items is drawn anew in each epoch, from the **seed**: the same seed gives the same run.
# * **Snapshots** after a few epochs will show how the descriptions changed.
#
# ## 8. Train
#
# A finished run is recognised and loaded, an interrupted one goes on. To train again with other settings, give the run another name.

# %%
from IPython.display import display

from moda_utils.training import train

RUN = "moda"  # notebook 6 and describe() use the run of this name

curve = display("The curve appears after the first epoch.", display_id=True)

def redraw(history):
    curve.update(plots.loss_curves(history, profile=profile, n=len(examples["train"])))

history = train(model, processor, examples["train"], examples["validation"], config,
                profile.run_dir(RUN), after_epoch=redraw)
redraw(history)

# %% [markdown]
# ## 9. Read the curves
#
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
rising = last["loss"] > 1.02 * best["loss"]
print("it has begun to learn by heart" if rising else "no sign yet of learning by heart")

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
plots.stamp(figure, profile, len(examples["train"]))
figure

# %% [markdown]
# ## 10. The same photos along the way
#
# The four validation photos again, described by the snapshots. When do the words begin to follow the photo, and which come right first: the colour, the kind of garment, the people it is for?

# %%
from moda_utils.training import load_weights

for snapshot in sorted(profile.run_dir(RUN).glob("epoch-*.safetensors")):
    load_weights(trial, snapshot)
    said[f"epoch {int(snapshot.stem[-2:])}"] = say(trial)
captions = ["\n\n".join(f"{when}: {texts[i][:60]}" for when, texts in said.items())
            for i in range(4)]
plots.photo_grid(photos, captions, profile=profile, columns=4, n=dataset["validation"].num_rows)

# %% [markdown]
# And the model with the best weights, as it is stored in `best/` and used from now on:

# %%
for truth, text in zip(dataset["validation"].select(four.tolist())["description"], say(model)):
    print(f"catalogue: {truth}\n     MODA: {text}")

# %% [markdown]
# ## 11. Killed? Run the cell again
#
# A Colab runtime can disconnect at any moment. Then nothing is lost but the last minute: `train` saves from time to time all that it needs to go on, which is the weights, the optimizer's memory, the learning rate's place on its stairs, the place in the shuffled order, and the state of the random numbers.
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
    resumed = small_run(f"{folder}/broken")

# %% tags=["nbval-check-output"]
pairs = list(zip(whole.rows, resumed.rows, strict=True))
close = all(math.isclose(a["loss"], b["loss"], rel_tol=1e-3) for a, b in pairs)
print(f"{len(pairs)} losses of the broken run equal those of the unbroken one:", close)

# %% [markdown]
# On a CPU they are equal to the last digit; on a GPU the last digits may differ, because it adds in another order every time.

# %% [markdown]
# ## What we learned
#
# * A **frozen** encoder needs to see each photo only once. Ask of everything in a training loop: does it change?
# * **Before training**: compare the first loss with the logarithm of the vocabulary, read what the untrained model says, and learn one batch by heart.
# * **Accumulated batches equal a large one**, if the loss is divided by the questions of all of them.
# * **Validation** chooses the epoch. The test split was not touched.
# * A run that can go on after any kill makes you calm. **Try the kill**; don't trust the saving.

# %% [markdown]
# ## Exercises
#
# **1 (easy). The learning rate.** Train for three epochs with a tenth and with ten times the learning rate. Which of them would you have stopped, and after how many steps did you know?

# %%
for rate in (1e-4, 1e-3, 1e-2):
    trial_config = recipe(profile, epochs=3, learning_rate=rate, snapshot_epochs=())
    print(f"learning rate {trial_config.learning_rate:g}: train(..., trial_config, folder)")

# %% [markdown]
# **2 (medium). Too few steps.** What happens with an accumulation of 8 in mini, or of 64 in full? Predict the loss after 20 epochs from the number of steps, then try. Would a higher learning rate make up for it?

# %%
for accumulation in (1, 8, 64):
    plan = plan_epoch(len(examples["train"]), 1, recipe(profile, accumulation=accumulation))
    print(f"accumulation {accumulation:2}: {20 * len(plan):5} steps in 20 epochs")

# %% [markdown]
# **3 (hard). Never taught to stop.** The original notebook wrote the end mark as a text that the tokenizer doesn't know, so the end was never learnt. Do the same: remove the last question of every item, train a copy for a few epochs, and let it describe a photo with 40 tokens.

# %%
endless = tokens.labels.clone()
endless[torch.arange(len(endless)), tokens.lengths - 1] = -100
print("questions that count:", int((endless != -100).sum()), "of", int((tokens.labels != -100).sum()))

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
