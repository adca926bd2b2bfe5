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
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/solutions/05_solutions.ipynb)
#
# # 5. Solutions
#
# Answers to the exercises of [notebook 5, Training](../05_training.ipynb). Try them yourself first: a wrong idea of your own teaches more than a right one of ours.

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

# %%
from moda_utils import catch_up, check

catch_up("05")

# %%
import torch

from moda_utils import plots
from moda_utils.device import best_device
from moda_utils.features import load_examples
from moda_utils.serving import generate_texts
from moda_utils.training import (accumulate, evaluate, make_accelerator, plan_epoch, recipe,
                                 start_model, tokenize, trained_weights)

model, processor = start_model(profile)
device, accelerator = best_device(), make_accelerator()
examples = load_examples(profile, model.to(device), processor)
tokens, held_out = (tokenize(processor, examples[split], device) for split in ("train", "validation"))

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
# ## Exercise 1 (easy). The learning rate
#
# *By what rate does the recipe train in its last epoch? Train for three epochs with a tenth and with ten times the first rate. Which of them would you have stopped, and after how many steps did you know?*
#
# The rate is multiplied after every second epoch. The last one is not followed by another, so it counts how many pairs of epochs were complete before it began.

# %%
config = recipe(profile)
last = config.learning_rate * config.decay_factor ** ((config.epochs - 1) // config.decay_every)
print(f"{last:.2e}")
check("05.1", last)

# %%
figure, axes = plots.figure(height=2.8)
for rate in (1e-4, 1e-3, 1e-2):
    trained, losses = short_training(tokens, epochs=3, learning_rate=rate)
    axes[0, 0].plot(range(1, len(losses) + 1), losses, label=f"{rate:g}")
    print(f"learning rate {rate:g}: validation loss {evaluate(trained, held_out)[0]:.2f}")
axes[0, 0].set(xlabel="step", ylabel="cross-entropy per token", ylim=(0, max(losses[0] * 1.5, 1)))
axes[0, 0].legend(title="learning rate")
plots.stamp(figure, profile, min(256, len(tokens.lengths)))
figure

# %% [markdown]
# The smallest rate goes the right way in small steps; the first few of them can't tell whether it will get as far as the middle one. A loss that rises a little at first, as at the middle rate it may, is no reason to stop: see whether it comes back. The largest rate makes the loss jump far above where it began, off the picture: what OPT had learnt about language is shaken up. A run that is still up there after some ten steps can be stopped; its validation loss above says what became of it.
#
# ## Exercise 2 (medium). Too few steps
#
# *The original lost each group of fewer than 8 batches. How many steps would that leave in 20 epochs here? Does a higher learning rate make up for the missing steps, and how far?*

# %%
batches = -(-len(examples["train"]) // profile.batch_size)
steps = 20 * (batches // 8)
print(f"{batches} batches in an epoch, {batches // 8} whole groups of 8: {steps} steps in 20 epochs")
check("05.2", steps)

# %%
for accumulation, rate in ((1, 1e-3), (8, 1e-3), (8, 3e-3), (8, 1e-2)):
    trained, losses = short_training(tokens, accumulation=accumulation, learning_rate=rate)
    print(f"accumulation {accumulation}, rate {rate:g}: {len(losses):3} steps, "
          f"validation loss {evaluate(trained, held_out)[0]:.2f}")

# %% [markdown]
# A calmer gradient bears a somewhat longer step, so where a higher rate wins something back, the steps were shorter than they had to be. Where it makes things worse, they were as long as the model bears. Either way, eight times fewer steps can't be made up by steps eight times as long: the gradient was measured where the step begins, and far from there it no longer holds. Adding epochs can.
#
# ## Exercise 3 (hard). Not asked, and yet known?
#
# *How many questions are left when nobody asks for the end? Take its label away. Does the model still stop, with template captions and with refined ones? Where could it know the end from?*
#
# Each description has one question about its end. Without it there are as many questions as there are tokens of text.

# %%
asked = tokens.labels != -100
left = int(asked.sum()) - len(asked)
print(f"{left:,} of {int(asked.sum()):,} questions are left")
check("05.3", left)

# %%
for captions in ("template", "refined"):
    chosen = load_examples(profile, model, processor, captions)
    quiet = tokenize(processor, chosen["train"], device)
    quiet.labels[torch.arange(len(quiet.lengths)), quiet.lengths - 1] = -100
    trained, _ = short_training(quiet)
    texts, ended = generate_texts(trained, processor, chosen["validation"].image_embeds[:32])
    print(f"{captions}: {sum(ended)} of {len(ended)} texts end by themselves, such as\n  {texts[0]}")

# %% [markdown]
# What is not asked stays as the language model had it before. A template has no full stop, and texts seldom end without one, so the model finds no reason to stop. Behind the full stop of a refined sentence, on the other hand, a model that has read single sentences expects the end: it stops although nobody has taught it to here.
#
# > **In `mini`:** the small language model has read just such sentences, each with its end.
# >
# > **With real weights:** OPT has read long documents, where a full stop is followed by the next sentence far more often than by the end; expect refined texts to go on. Nobody has measured it yet.
#
# So ask for what you want, instead of hoping that it is known.
