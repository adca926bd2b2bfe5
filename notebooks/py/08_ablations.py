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
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/08_ablations.ipynb)
#
# # 8. Ablations, on drawn photos
#
# **Is MODA's non-linear projection worth its weights, and what would LLaVA's, PaLI's, MiniGPT-4's or ClipCap's way have given? Each answer with its uncertainty, whichever way it falls.** Extra notebook.
#
# | | |
# |---|---|
# | **You will** | turn a claim into an experiment, train one pair of models yourself, see why one pair decides nothing, and read from many stored pairs what the bend in the projection, more places for the photo, a frozen language model or a trained encoder are worth |
# | **You need** | the dataset of notebook 1; no GPU |
# | **Time and cost** | laptop, `mini`: about a minute ([measured](../benchmarks/results/mini-cpu-course.json)) · CPU, `full`: about half an hour, for the live pair · T4 or A100, `full`: a few minutes (the last two calculated). `make ablations` repeats the stored runs, in less than an hour on two quiet cores (calculated from the processor minutes that section 4 prints) |

# %% [markdown]
# **Contents**
#
# 1. A claim without a number
# 2. Four projections
# 3. One pair, live
# 4. Why one pair decides nothing
# 5. The answer
# 6. Few items, or all
# 7. How the others are wired
# 8. Recipe and texts
# 9. All rows in one table
# 10. What this says about the real model, and what not
#
# Run the next cell first. If it says that something is missing, `catch_up("08")` in a new cell makes it.

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

# %% [markdown]
# ## 1. A claim without a number
#
# The guide in which MODA first appeared says that its non-linear projection "provides a distinct advantage" over the linear ones of LLaVA and PaLI. It may be so. But no figure is given, and there are reasons why it might not be: the language model behind the projection is trained as well, and is full of bends itself. LLaVA's authors went from one layer to two and reported a gain; PaliGemma's tried both and stayed with one.
#
# So we take a part away, or put another in its place, leave everything else as it is, and measure. That is an **ablation**. Each way of building the model is a *row*, and `moda_utils/variants.toml` lists them all. None of them changes MODA itself: they are MODA with another `projection`, other inputs to it, or other parts in training, trained by the same loop as in notebook 5.

# %% tags=["nbval-check-output"]
from moda_utils.variants import VARIANTS

for name, variant in VARIANTS.items():
    print(f"{name:15} {variant.stands_for}")

# %% [markdown]
# The figure above draws systems that some of them stand for; section 7 says how far each goes. The others vary the projection's size, the learning rate, the schedule or the texts.
#
# ## 2. Four projections
#
# MODA's projection has a middle layer, so it differs from a linear one in two things: it has a *bend* (the GELU), and it has many more *weights*. Whoever compares only these two will not know which of them made the difference. Two more rows tell them apart: `linear-deep` has as many weights as MODA's and no bend, `narrow` has the bend and only as many weights as the linear one.

# %% tags=["nbval-check-output"]
from moda_utils.variants import start_variant

FOUR = ("linear", "linear-deep", "narrow", "moda")
fresh = {name: start_variant(profile, name)[0].projection for name in FOUR}
for name, projection in fresh.items():
    count = sum(weight.numel() for weight in projection.parameters())
    bend = any("GELU" in type(layer).__name__ for layer in projection.modules())
    layers = [layer for layer in projection.modules() if hasattr(layer, "in_features")]
    sizes = " -> ".join(str(n) for n in (layers[0].in_features, *(s.out_features for s in layers)))
    print(f"{name:12} {count:>10,} weights, {'with' if bend else 'without'} a bend, {sizes}")

# %% [markdown]
# Two linear layers in a row, with nothing between them, are a single linear layer: their matrices can be multiplied once and for all. So `linear-deep` has the weights of MODA and can express no more than `linear`. It only *learns* differently.
#
# Neither row changes one thing alone, though. `linear-deep` adds a layer along with the weights, and steps through two layers multiply. `narrow` pays for its bend with a middle that is narrower than both of its ends: whatever does not pass through there is lost. So it measures a *bottleneck* along with the bend.

# %% tags=["nbval-check-output"]
import torch

first, second = fresh["linear-deep"]
vectors = torch.randn(8, first.in_features, generator=torch.manual_seed(0))
with torch.inference_mode():
    matrix = second.weight @ first.weight
    offset = second.weight @ first.bias + second.bias
    both = fresh["linear-deep"](vectors)
print("two layers:", tuple(first.weight.shape), "and", tuple(second.weight.shape))
print("one matrix:", tuple(matrix.shape))
print("they say the same:", torch.allclose(vectors @ matrix.T + offset, both, atol=1e-4))

# %% [markdown]
# ## 3. One pair, live
#
# Now train two of them, `linear` and `moda`, on a tenth of the training items. Why so few? With all of them a small task may be solved by any projection, and where every row is near the top, nothing can stand out. A tenth leaves *headroom*. Each batch is smaller by as much, so the number of optimizer steps stays nearly the same.
#
# Both get the same items, in the same order, from the same seed, and learn from the *template* captions of notebook 1. Killed? Run the cell again.

# %%
import contextlib
import io

from moda_utils.variants import train_variant

models, histories = {}, {}
for name in ("linear", "moda"):
    with contextlib.redirect_stdout(io.StringIO()):  # a line for each epoch
        models[name], processor, histories[name] = train_variant(
            profile, name, profile.run_dir(f"ablation-live-{name}"), share=0.1, seed=0)
    print(f"{name:7} {histories[name]}")

# %% [markdown]
# The losses of both, epoch by epoch:

# %%
from moda_utils import plots

figure, axes = plots.figure(1, 2, height=3.0, sharey=True)
for axis, split in zip(axes.flat, ("train", "validation")):
    for (name, history), colour in zip(histories.items(), (plots.BLUE, plots.VERMILION)):
        losses = plots.epoch_losses(history)[split]
        axis.plot(losses.index, losses, color=colour, marker=".", label=name)
    axis.set(title=split, xlabel="epoch", yscale="log")
axes[0, 0].set_ylabel("cross-entropy per token")
axes[0, 0].legend()
plots.stamp(figure, profile, note="a tenth of the training items, seed 0")
figure

# %% [markdown]
# Where the left curves go on falling while the right ones rise, the model is learning its few items by heart; the best epoch is kept, as always. Whichever curve lies lower: a loss is no description. Let both describe the photos of the *validation* split. (The test split stays closed; and validation has chosen the epoch of either model, so both profit alike.)

# %%
from moda_utils.catalog import load_catalog
from moda_utils.features import load_examples
from moda_utils.serving import generate_texts

catalog = load_catalog(profile.catalog_path)
seen = load_examples(profile, models["moda"], processor, "template")["validation"]
rows = catalog.frame.set_index("product_id", drop=False).loc[seen.names].reset_index(drop=True)
said = {name: generate_texts(model, processor, seen.image_embeds)[0]
        for name, model in models.items()}

# %% [markdown]
# Graded as in notebook 6; the overall grade is the mean of the five criteria.

# %%
from moda_utils.evaluation import grade

grades = {name: grade(texts, rows).overall for name, texts in said.items()}
for name, values in grades.items():
    print(f"{name:7} {values.mean():.2f} of 10 on {len(rows)} validation photos")
print(f"linear minus moda: {(grades['linear'] - grades['moda']).mean():+.2f}")

# %% [markdown]
# Some photos on which the two disagree most, in either direction:

# %%
gap = (grades["linear"] - grades["moda"])[~rows.duplicated("group")].sort_values(kind="stable")
some = [*gap.index[:2], *gap.index[::-1][:2]]
captions = [f"catalogue: {', '.join(rows.loc[i, ['colour', 'product_type', 'gender', 'usage']])}"
            f"\n\nlinear: {said['linear'][i]}\n\nmoda: {said['moda'][i]}" for i in some]
plots.photo_grid([catalog.root / rows.image[i] for i in some], captions, profile=profile,
                 title=", ".join(f"{'linear' if gap[i] > 0 else 'moda'} ahead" if gap[i] else "equal"
                                 for i in some), n=len(rows))

# %% [markdown]
# ### 3.1 Does it use its bend?
#
# A look inside. Take the embeddings of two photos and walk from one to the other in a straight line. A linear projection turns that into a straight line again, whatever its weights. How far does MODA's leave it? The distance is measured in units of the way from end to end.

# %%
from copy import deepcopy

def leaves_the_line(projection, one, other, steps=21):
    """Mean distance from the straight line, (steps,), for pairs of embeddings (pairs, inputs)."""
    away = []
    with torch.inference_mode():
        begin, end = projection(one), projection(other)
        length = (end - begin).norm(dim=-1)
        for part in torch.linspace(0, 1, steps).tolist():
            between = projection(torch.lerp(one, other, part))
            away.append(((between - torch.lerp(begin, end, part)).norm(dim=-1) / length).mean())
    return torch.stack(away)

embeds = seen.image_embeds.unique(dim=0)
one, other = embeds[: len(embeds) // 2], embeds[-(len(embeds) // 2) :]
trained = {name: deepcopy(model.projection).cpu() for name, model in models.items()}
lines = {"linear, trained": leaves_the_line(trained["linear"], one, other),
         "MODA, before training": leaves_the_line(fresh["moda"], one, other),
         "MODA, trained": leaves_the_line(trained["moda"], one, other)}

# %%
figure, axes = plots.figure(height=2.8)
axis = axes[0, 0]
for (name, away), style in zip(lines.items(), ("-", "--", "-")):
    axis.plot(torch.linspace(0, 1, len(away)), away, style, label=name)
axis.set(xlabel="part of the way from one photo to another", ylabel="distance from the line",
         ylim=(-0.01, None))
axis.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
plots.stamp(figure, profile, note=f"{len(one)} pairs of validation photos")
figure

# %% [markdown]
# Zero means: linear. Where MODA's curve leaves the ground, its projection bends. Compare dashed and solid: a lower curve after training says that the gradients have straightened it, a higher one that they have put the bend to use. Neither says whether the descriptions profit: that takes grades, and more than two.
#
# ## 4. Why one pair decides nothing
#
# Train the same pair with another seed, and other first weights, another order and other items give another difference. A difference that is smaller than this scatter is a matter of luck. So the question was put to several seeds, by `benchmarks/ablations.py`, with the small models and drawn photos. Every row but `raw` and `refined` learned from templates. The result is stored, and all that follows reads it. Starting here? Run the setup cell, then the next one.

# %% tags=["start-here"]
from dataclasses import replace

import torch

from moda_utils import plots
from moda_utils.storage import read_json
from moda_utils.variants import VARIANTS, start_variant

results = roots[0] / "benchmarks" / "results"
stored = read_json(results / "mini-cpu-ablations.json")
drawn = replace(profile, name=stored["profile"], data_label=stored["data"])  # for the stamps
few, all_items = stored["shares"]["0.1"], stored["shares"]["1"]

# %%
print(f"profile {stored['profile']}, {stored['data']} photos, {stored['device']}")
print(f"graded on {few['graded']} photos per run: {stored['graded_on']}")
print(f"intervals: {stored['interval']}")
for share in (few, all_items):
    print(f"{share['items']:4} training items, {len(share['rows'])} rows,",
          sum(len(row["seeds"]) for row in share["rows"].values()), "runs")
print(f"all of them took {stored['processor_minutes']:.0f} minutes of one processor core")


# %% [markdown]
# A seed fixes all that is left to chance: first weights, order, which tenth of the items, and the photos that are graded. Two rows of the same seed have met the same luck. So the differences are taken **seed by seed**, and the interval (Student's t: wider where seeds are few) is that of the differences: what both rows share cancels out.

# %%
def seeds_joined(share, names):
    """One line per seed from row to row: parallel lines are a difference that can be trusted."""
    figure, axes = plots.figure(height=3.0)
    axis = axes[0, 0]
    runs = [share["rows"][name]["overall"]["runs"] for name in names]
    for values in zip(*runs):
        axis.plot(range(len(names)), values, color=plots.GREY, lw=1, marker="o", ms=4)
    means = [share["rows"][name]["overall"]["value"] for name in names]
    axis.plot(range(len(names)), means, color=plots.VERMILION, lw=2.5, marker="o", label="mean")
    axis.set_xticks(range(len(names)), names)
    axis.set(ylabel="overall grade", title="One line per seed")
    axis.margins(x=0.08)
    axis.legend()
    plots.stamp(figure, drawn, share["graded"], f"for each seed, {share['items']} training items")
    return figure

seeds_joined(few, ("linear", "linear-deep", "narrow", "moda"))


# %%
def minus(one, other, share, criterion="overall"):
    """The stored difference of two rows, whichever way round it was taken."""
    taken = share["differences"]
    if f"{one} - {other}" in taken:
        return taken[f"{one} - {other}"][criterion]
    f = taken[f"{other} - {one}"][criterion]
    return {"value": -f["value"], "low": -f["high"], "high": -f["low"],
            "runs": [-run for run in f["runs"]]}

pairs = minus("linear", "moda", few)
print("linear minus moda, seed by seed:", ", ".join(f"{run:+.2f}" for run in pairs["runs"]))
print(f"one pair may say anything from {min(pairs['runs']):+.2f} to {max(pairs['runs']):+.2f}")


# %% [markdown]
# Where did your own pair fall? It was graded on other photos, so it need not lie within these.
#
# ## 5. The answer
#
# *Predict first: linear minus MODA in points of ten, with its sign. And how far will the interval of this many pairs reach to each side?*

# %%
def outcome(difference, above, below, neither):
    return above if difference["low"] > 0 else below if difference["high"] < 0 else neither

def numbers(difference):
    """Value, interval, seeds."""
    value, low, high = (difference[key] for key in ("value", "low", "high"))
    digits = 3 if min(abs(low), abs(high)) < 0.005 else 2  # no bound is to look like zero
    value, low, high = (f"{number:+.{digits}f}" for number in (value, low, high))
    return f"{value} [{low}, {high}] over {len(difference['runs'])} seeds"

def verdict(difference):
    return f"{numbers(difference)}: {outcome(difference, 'above', 'below', 'not told apart')}"

def says(*rows):
    return verdict(minus(*rows))


# %%
def forest(figures, title, share):
    """A dot and its interval per row, a mark for each seed; left of the line is worse."""
    figure, axes = plots.figure(height=1.0 + 0.37 * len(figures))
    axis = axes[0, 0]
    for place, f in enumerate(figures.values()):
        colour = plots.BLUE if f["low"] > 0 else plots.VERMILION if f["high"] < 0 else plots.GREY
        axis.plot(f["runs"], [place + 0.28] * len(f["runs"]), "|", color=plots.GREY, ms=5)
        axis.plot([f["low"], f["high"]], [place, place], color=colour, lw=2.2)
        axis.plot(f["value"], place, "o", color=colour)
    axis.axvline(0, color=plots.INK, lw=1)
    axis.set_yticks(range(len(figures)), list(figures))
    axis.set(title=title, xlabel="difference of the overall grade (points of ten)")
    axis.invert_yaxis()
    plots.stamp(figure, drawn, share["graded"], f"for each seed, {share['items']} training items")
    return figure

questions = {("linear", "moda"): "the claim",
             ("linear-slow", "moda-slow"): "the claim, at a third of the rate",
             ("linear", "moda-slow"): "MODA at a third of the rate",
             ("linear-deep", "moda"): "the bend, many weights",
             ("linear", "narrow"): "the bend, few weights",
             ("narrow", "moda"): "the weights, with bend",
             ("linear", "linear-deep"): "the weights, no bend"}
forest({f"{one} - {other}\n({asks})": minus(one, other, few)
        for (one, other), asks in questions.items()}, "Projections, a tenth of the items", few)

# %% [markdown]
# Grey: the interval holds zero, so the two are not told apart. Blue: the first of the two is better; orange: the second is. The small marks are the seeds. Every row has the straighter or smaller one first, so left of zero speaks for MODA's projection, right of it against; across it, there is no answer but a bound. How to read the rows together:
#
# * **At a third of the learning rate**: a recipe can suit one of two models better. If the difference shrinks or turns here, the first row compared recipes, at least in part. The third row sets the linear projection at the usual rate against MODA at the slow one: the claim, with a recipe that may suit MODA better.
# * **The bend** makes the difference if its two rows lie away from zero on the same side, **the weights** if theirs do. One row of the bend and one of the weights add up to the claim. With what section 2 said of both, they narrow the question down and do not take it apart cleanly.

# %%
for (one, other), asks in questions.items():
    print(f"{asks + ',':34} {one} - {other}: {says(one, other, few)}")

# %% [markdown]
# The overall grade is a mean of five criteria. Is one of them hiding behind the others?

# %%
from moda_utils.evaluation import CRITERIA

for criterion in CRITERIA:
    print(f"{criterion.replace('_', ' '):20} {says('linear', 'moda', few, criterion)}")

# %% [markdown]
# Whoever looks at five criteria has five chances to be fooled: of twenty intervals at 95%, one misses the truth on average. A single criterion that stands out, while the overall grade doesn't, is a question for the next experiment, not an answer of this one. The answer is that of the one comparison named beforehand, followed by what has to be quoted with it: the same at a third of the learning rate, and with all items.

# %%
answer = outcome(pairs, "the linear projection is better", "the non-linear projection is better",
                 "no difference is shown")
print(f"In `mini`, with {few['items']} drawn items and this recipe, {answer}: {numbers(pairs)}.")
slow = minus("linear-slow", "moda-slow", few)
smaller = max(map(abs, (slow["low"], slow["high"]))) < min(map(abs, (pairs["low"], pairs["high"])))
part = "part of it was the learning rate" if smaller else "the learning rate is not shown to matter"
print(f"At a third of the learning rate: {numbers(slow)}.",
      "" if answer == "no difference is shown" else f"So {part}.")
every = minus("linear", "moda", all_items)
print(f"With all {all_items['items']} items: {numbers(every)}. There", outcome(
    every, "the linear one is better.", "the non-linear one is better.", "no difference is shown."))

# %% [markdown]
# Had the runs finished learning? A best epoch in the middle says so. One at the end says that longer training might move both rows, and not by the same amount.

# %%
for name in ("linear", "moda", "linear-slow", "moda-slow"):
    print(f"{name:12} best epoch {few['rows'][name]['best_epoch']:g} of {drawn.epochs} (median)")

# %% [markdown]
# And what could the experiment have missed? The reach of the interval is no promise that a difference of that size is seen:

# %%
reach = (pairs["high"] - pairs["low"]) / 2
print(f"the interval reaches {reach:.2f} to each side: a true difference of {reach:.2f} would be found")
print(f"about every other time, one of {1.4 * reach:.2f} about four times of five")

# %% [markdown]
# ## 6. Few items, or all
#
# The same rows trained on all items. The dotted line is the floor, a model trained on exchanged photos, which can only know what is frequent. The closer a row is to ten, the less room is left for anything to show.

# %%
figure, axes = plots.figure(height=3.0)
axis = axes[0, 0]
both = [name for name in few["rows"] if name in all_items["rows"]]
for share, shift, colour in ((few, -0.12, plots.BLUE), (all_items, 0.12, plots.ORANGE)):
    for place, name in enumerate(both):
        f = share["rows"][name]["overall"]
        label = f"{share['items']} items" if place == 0 else None
        axis.plot([place + shift] * 2, [f["low"], f["high"]], color=colour, lw=2)
        axis.plot(place + shift, f["value"], "o", color=colour, label=label)
axis.axhline(few["rows"]["blind"]["overall"]["value"], color=plots.GREY, ls=":", label="blind")
axis.set_xticks(range(len(both)), both)
axis.set(ylabel="overall grade", ylim=(None, 10.3))
axis.margins(x=0.08)
axis.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
plots.stamp(figure, drawn, few["graded"], "for each seed")
figure

# %% [markdown]
# The room that is left, in numbers:

# %%
headroom = {share["items"]: 10 - share["rows"]["moda"]["overall"]["value"]
            for share in (few, all_items)}
for items, room in headroom.items():
    print(f"MODA on {items} items: {room:.2f} points are left to ten")


# %% [markdown]
# Compare the distance between the colours with the distance between the rows. Where more items lift every row by far more than any row differs from its neighbour, the next hour belongs to photos and captions, not to the projection.

# %% [markdown]
# > **In `mini`:** the encoder was trained on drawings of the same kind, so that even few items leave little room, and differences are small.
# >
# > **With real weights:** real photos leave more room, so differences may be larger, and the scatter too. Nobody has measured any row yet.

# %% [markdown]
# ## 7. How the others are wired
#
# Each of the next sections rebuilds one idea of a large system in MODA's size. It is a **stand-in**: the wiring is that of the system, its encoder, language model, data and training are not. A cell prints what changes and what came of it; all of these rows learned from the templates of a tenth of the items.

# %%
def facts(name, against="moda"):
    """What a row changes, what it costs, and how it did."""
    variant, cost = VARIANTS[name], stored["rows"][name]
    print(f"{name}: {variant.model | variant.recipe}")
    print(f"places {cost['image_places']}, weights in the projection "
          f"{cost['projection_weights']:,}, trained in all {cost['trained_weights']:,}")
    print(f"overall {few['rows'][name]['overall']['value']:.2f}; minus {against},",
          says(name, against, few))


# %% [markdown]
# ### 7.1 ClipCap: one vector, ten places
#
# *Stands for*: a CLIP embedding, mapped by a small network to ten vectors in front of the sentence, and GPT-2 trained along. *How far it goes*: far. Ours has MODA's GELU in place of its tanh and another middle layer.

# %%
facts("prefix")

# %% [markdown]
# One place has to carry everything about the photo through the language model's width. Ten places have room, but the vector they come from is the same. A gain says that the language model reads better from several places; none says that one was enough for what an embedding holds.
#
# ### 7.2 LLaVA: every patch, through one matrix
#
# *Stands for*: the encoder's patches, taken before its last layer, each moved by the same linear layer to a place of its own. *How far it goes*: LLaVA trains the projection first and then the language model with it, has hundreds of places, and learns to answer questions; ours trains both at once, on one kind of sentence.

# %%
model, _ = start_variant(profile, "patches-linear")
size = model.config.vision_config.image_size
pixels = torch.zeros(2, 3, size, size)
with torch.inference_mode():
    patches = model.encode_images(pixels)
    places = model.project(patches)
print("photos, patches, numbers:", tuple(patches.shape), "->", tuple(places.shape))
facts("patches-linear")

# %% [markdown]
# Two things change at once against MODA: *what* is seen (patches know where something is; the embedding was trained to match a text) and *how many* places carry it. Below MODA, the embedding was the better summary for four attributes, or so few items are not enough to learn where to look; above, the embedding had thrown away something that the descriptions need.
#
# ### 7.3 LLaVA-1.5: every patch, through two layers
#
# *Stands for*: the same, with two layers and a GELU as wide as the language model. *How far it goes*: as in section 7.2; LLaVA-1.5 also has larger photos and more data. The right neighbour for this row is not MODA but section 7.2: it is the projection question once more, with patches.

# %%
facts("patches-mlp", against="patches-linear")
print("minus moda,", says("patches-mlp", "moda", few))
print("With patches, in this recipe:", outcome(
    minus("patches-mlp", "patches-linear", few), "two layers are better, as LLaVA-1.5 reports.",
    "one layer is better; LLaVA-1.5, with far more data, reports the opposite.",
    "one and two layers are not told apart; LLaVA-1.5 reports a gain."))


# %% [markdown]
# ### 7.4 PaLI and PaliGemma: places that see each other
#
# *Stands for*: every patch, one linear layer, and attention in both directions within the image. In a usual decoder each place sees only what stands before it, which makes little sense for patches: the upper left corner would never hear of the lower right. *How far it goes*: PaLI has an encoder-decoder language model, whose encoder sees all of its input by design; PaliGemma opens the mask in a decoder, as ours does, and includes the question in it.
#
# The mask by hand: a place may look at those before it, and at every place of the image. (For MODA's one place both masks are the same.)

# %%
def may_look(length, image_places):
    place = torch.arange(length)
    before = place <= place[:, None]  # causal
    return before | (place < image_places)

figure, axes = plots.figure(1, 2, height=3.1)
for axis, (title, image) in zip(axes.flat, {"Causal: LLaVA": 0, "Open: PaLI, PaliGemma": 4}.items()):
    axis.imshow(may_look(8, image), cmap="Blues", vmax=1.6)
    axis.set_xticks(range(8), [*["photo"] * 4, *["word"] * 4], rotation=60)
    axis.set_yticks(range(8), [*["photo"] * 4, *["word"] * 4])
    axis.set(title=title, xlabel="is seen", ylabel="looks")
    axis.grid(False)
figure.supxlabel("a drawing: four places of a photo, four words", x=0.99, ha="right", fontsize=8)
figure

# %% [markdown]
# Does the model do that? Change the last patch only. In a causal model the first place can't notice; with the open prefix it has to.

# %% tags=["nbval-check-output"]
changed = patches.clone()
changed[:, -1] += 1
for name in ("patches-linear", "patches-prefix"):
    model = start_variant(profile, name)[0].eval()
    ids = torch.full((2, 1), model.config.end_token_id)
    with torch.inference_mode():
        before, after = (model(ids, image_embeds=seen_).logits[:, 0] for seen_ in (patches, changed))
    print(f"{name:15} first place notices the last patch:", not torch.allclose(before, after, atol=1e-5))

# %%
facts("patches-prefix", against="patches-linear")
print("minus moda,", says("patches-prefix", "moda", few))
facts("unfrozen")

# %% [markdown]
# PaliGemma also trains its encoder, which is the row `unfrozen`: here with MODA's one place, to change one thing at a time. It costs what the frozen encoder saved, for every photo has to be encoded again at every step.
#
# ### 7.5 MiniGPT-4: the language model stays as it is
#
# *Stands for*: a frozen encoder, a query transformer that boils the patches down to a few vectors, a projection, and a frozen language model. *How far it goes*: the least far of all. MiniGPT-4's query transformer came from BLIP-2, trained on millions of pictures, and only one linear layer behind it was trained; ours starts from nothing. And Vicuna, its language model, can be told in words what to do; a small model can't. Two rows beside it freeze the language model behind MODA's embedding.

# %%
facts("frozen-queries", against="frozen-linear")
for name in ("frozen-linear", "frozen-mlp", "frozen-queries"):
    print(f"{name:15} {few['rows'][name]['overall']['value']:.2f}; minus moda,",
          says(name, "moda", few))

# %% [markdown]
# What does a frozen language model make of a photo? One more run, a short one, because fewer weights are trained. Look at the form of its sentences before their content.

# %%
import contextlib
import io

from moda_utils.catalog import load_catalog
from moda_utils.features import load_examples
from moda_utils.serving import generate_texts
from moda_utils.variants import train_variant

with contextlib.redirect_stdout(io.StringIO()):
    frozen, processor, _ = train_variant(
        profile, "frozen-linear", profile.run_dir("ablation-live-frozen"), share=0.1, seed=0)
seen = load_examples(profile, frozen, processor, "template")["validation"]
catalog = load_catalog(profile.catalog_path)
items = catalog.frame.set_index("product_id").loc[seen.names].drop_duplicates("product_type")
some = [seen.names.index(name) for name in items.index[:4]]
texts, _ = generate_texts(frozen, processor, seen.image_embeds[some])
plots.photo_grid([catalog.root / name for name in items.image[:4]],
                 [f"template: {seen.descriptions[i]}\n\nfrozen: {text}"
                  for i, text in zip(some, texts)], profile=profile, title="Frozen", n=len(seen))

# %% [markdown]
# Do they begin as the templates do? All that the projection can do is to choose among what the language model would say anyway, in its own manner of speaking. Where that manner has no place for a word, such as a colour at the very beginning, a vector in front of it can hardly make one. If the bend matters anywhere, it should be here, where no trained layer behind the projection can make up for its lack:

# %%
print("frozen-mlp minus frozen-linear,", says("frozen-mlp", "frozen-linear", few))
print(outcome(minus("frozen-mlp", "frozen-linear", few), "Here the bend helps.", "Here the bend harms.",
              "Not even here is the bend shown to matter."))

# %% [markdown]
# > **In `mini`:** the language model was trained on sentences about fashion before, so that a frozen one at least knows the words.
# >
# > **With real weights:** a frozen OPT-125M would have to be talked into writing shop descriptions by a few vectors. Expect these rows to fall far behind; nobody has measured it.
#
# ## 8. Recipe and texts
#
# The last rows leave the wiring alone. They ask whether other choices of the recipe weigh more: a cosine schedule (the rate glides down to zero along half a wave) in place of steps, a tenth of the learning rate for the pretrained language model; and what the descriptions of notebooks 2 and 3 teach in place of templates.

# %%
for name in ("cosine", "two-rates", "moda-slow", "raw", "refined", "blind"):
    if name in few["rows"]:
        print(f"{name:10} minus moda, {says(name, 'moda', few)}")
    else:
        print(f"{name:10} not measured: {stored['missing'][name]}")

# %% [markdown]
# > **In `mini`:** small stand-ins for Phi-3 Vision and Phi-3 have written and refined the descriptions. What the rows `raw` and `refined` say is about their texts.
# >
# > **With real weights:** Phi-3 Vision and Phi-3 themselves write and refine them; nobody has measured yet what MODA learns from those.

# %% [markdown]
# Templates name exactly the four attributes that are graded, so they have an unfair advantage here: free descriptions spend words on sleeves and stripes, for which nobody gets points. What they are worth beyond the attributes, this grade can't see. One thing can be counted: how often does a text hold the very word that is printed on its item?

# %%
for name in ("moda", "raw", "refined"):
    if name in few["rows"]:
        print(f"{name:8} the printed word in {few['rows'][name]['leaks']:.1%} of the printed items' texts,"
              f" with all items {all_items['rows'][name]['leaks']:.1%}")

# %% [markdown]
# Words invented on plain clothes are not counted. And STAR is a word as well as a motif of the drawings: "a big star" counts, though nothing was read.
#
# ## 9. All rows in one table
#
# The differences are those of a tenth of the items; both rows of a difference have met the same seeds, so where MODA's row has more of them, the difference is not that of the two means beside it. Seconds are for one pass over all items, milliseconds for one photo and a sentence of fixed length. The command that makes a row again stands above the table.

# %%
import pandas as pd

real = [read_json(path) for path in sorted(results.glob("full-*-ablations.json"))]
form = "{value:.2f} [{low:.2f},\u00a0{high:.2f}]".format

def line(name):
    difference = few["differences"].get(f"{name} - moda", {}).get("overall")
    cost = stored["rows"][name]
    found = [result["shares"]["0.1"]["rows"].get(name) for result in real]
    alike = [row for row in found if row]
    return {"overall, few items": form(**few["rows"][name]["overall"]),
            "minus moda": form(**difference) if difference else "",
            "seeds": len(few["rows"][name]["seeds"]),
            "overall, all": form(**all_items["rows"][name]["overall"])
                            if name in all_items["rows"] else "",
            "trained weights": f"{cost['trained_weights']:,}",
            "s per epoch": f"{cost['seconds_per_epoch']:.2f}",
            "ms per caption": f"{cost['ms_per_caption']:.1f}"} | ({"full": form(**alike[0]["overall"])} if alike else {})

print("a row again, here linear:", stored["rows"]["linear"]["command"])
print("not measured:", stored["missing"] or "none")
print("times:", stored["times"], f"({stored['caption_tokens']} tokens per caption)")
pd.DataFrame({name: line(name) for name in stored["rows"]}).T

# %% [markdown]
# How far can the times be trusted? Rows that write captions with a model of the same sizes should take the same time. What they differ by is the machine's doing, and no smaller difference between other rows means anything.

# %%
size = ("projection_weights", "image_places")
same = {name: row["ms_per_caption"] for name, row in stored["rows"].items()
        if all(row[key] == stored["rows"]["moda"][key] for key in size)}
print(f"{len(same)} rows of MODA's size: {min(same.values()):.1f} to {max(same.values()):.1f} ms per caption")
print(f"all rows: {min(row['ms_per_caption'] for row in stored['rows'].values()):.1f} to",
      f"{max(row['ms_per_caption'] for row in stored['rows'].values()):.1f}")

# %% [markdown]
# Differences from MODA, the best row first. The axis is linear up to half a point, and logarithmic beyond:

# %%
others = {name: minus(name, "moda", few) for name in few["rows"] if name != "moda"}
others = dict(sorted(others.items(), key=lambda pair: -pair[1]["value"]))
figure = forest({f"{name} - moda": f for name, f in others.items()}, "All rows", few)
axis = figure.axes[0]
axis.set_xscale("symlog", linthresh=0.5)
axis.set_xticks(ticks := [-5, -2, -1, -0.5, -0.25, 0, 0.25, 0.5], [f"{tick:g}" for tick in ticks])
axis.minorticks_off()
figure

# %% [markdown]
# Before you believe in any single row: how many of these would stand out by luck?

# %%
clear = {name: f for name, f in others.items() if f["low"] > 0 or f["high"] < 0}
print(f"{len(clear)} of {len(others)} rows are told apart from MODA;",
      f"about {0.05 * len(others):.0f} would be by luck alone.")
print("above:", ", ".join(name for name in clear if clear[name]["low"] > 0) or "none")
print("below:", ", ".join(name for name in clear if clear[name]["high"] < 0) or "none")

# %% [markdown]
# What does a gain cost? To the right: dearer to train. Up: better than MODA. Rows without a name lie close to MODA in both; the floor is left out.

# %%
figure, axes = plots.figure(height=3.4)
axis, seconds = axes[0, 0], {name: row["seconds_per_epoch"] for name, row in stored["rows"].items()}
named = {}  # what lies close together shares one label
for name in [name for name in others if name != "blind"]:
    spot = seconds[name], others[name]["value"]
    axis.plot(*spot, "o", color=plots.BLUE)
    if abs(spot[1]) > 0.4 or spot[0] > 1.25 * seconds["moda"]:
        named.setdefault((round(spot[0], 1), round(2 * spot[1])), {})[name] = spot
for alike in named.values():
    axis.annotate(", ".join(alike), max(alike.values()), (8, -3), textcoords="offset points",
                  fontsize=8)
axis.plot(seconds["moda"], 0, "D", color=plots.VERMILION, label="moda")
axis.set(xlabel="seconds per epoch, all items", ylabel="overall grade minus MODA's",
         xlim=(0, 1.4 * max(seconds.values())))
axis.legend(loc="lower right")
plots.stamp(figure, drawn, few["graded"], f"for each seed, {few['items']} training items")
figure

# %% [markdown]
# Training pays for every place of the image at every step. Writing one caption hardly does: the image is read once, and then it goes word by word, as in every other row. Compare the two ranges that were printed under the table.

# %% [markdown]
# ## 10. What this says about the real model, and what not
#
# **It says**: how this question can be answered, with what effort, and what came out for small models on drawn photos (section 5 has it whole); and that the code for every row works.
#
# **Its limits**: one encoder, one catalogue, one recipe. Seeds vary all that is left to chance *within* these; no interval here covers another encoder, other photos, or more epochs. The learning rate was varied once, downwards, and no projection was given the rate that suits it best.
#
# **It does not say** what FashionCLIP and OPT-125M would do on real photos. The small encoder was trained on drawings of the same kind; FashionCLIP's embedding is four times as wide, and OPT-125M has four times the layers behind the projection to bend with. Each of these could turn the answer, in one direction or the other. Nobody should quote a figure of this page as one of the real MODA.
#
# The same commands answer it there. With a GPU, after notebook 1:

# %%
if real:
    for result in real:
        pair = result["shares"]["0.1"]["differences"]["linear - moda"]["overall"]
        print(f"{result['profile']}, {result['data']} photos, {result['device']}:", verdict(pair))
else:
    print("full, FashionCLIP and OPT-125M on real photos: not yet run")
print("MODA_PROFILE=full make ablations              # all rows")
print("MODA_PROFILE=full make ablations MINUTES=60   # an hour of them; call it again to go on")

# %% [markdown]
# ## What we learned
#
# * **A claim becomes a question** when it names what is compared, on what, and by which number, before anybody has looked.
# * **Change one thing.** A bend that brings weights along is two things; it takes two more rows to tell them apart.
# * **Pair what you compare.** Same items, same order, same photos: what both share cancels out.
# * **One pair of runs is an anecdote.** Seeds scatter; the interval says by how much.
# * **"Not told apart" is a result**, if it comes with its interval: all that would still fit.
# * **A difference belongs to a recipe.** At another learning rate it may shrink, and that must be told with it.
# * **Look where there is headroom**, and at what else would move the grade.

# %% [markdown]
# ## Exercises
#
# The first ends in a call of `check`: it says what answer it wants, and with an answer, whether that is right. Solutions: [08_solutions](solutions/08_solutions.ipynb).
#
# **1 (easy). How many pairs?** Suppose the differences of pairs scatter with a standard deviation of a fifth of a point. How many pairs does it take until the interval reaches no farther than a twentieth of a point to each side? It reaches about two standard deviations over the root of the number of pairs. And would that many pairs be enough to *find* a true difference of a twentieth?

# %%
from moda_utils import check

for number in (4, 16):
    print(f"{number:3} pairs: to each side {2 * 0.2 / number**0.5:.3f}")
check("08.1")

# %% [markdown]
# **2 (medium). What was pairing worth?** Compute the interval of linear minus MODA as if the runs had nothing in common: the variance of the difference is then the sum of both rows' variances. How much wider is it, and how many more seeds would make up for that?

# %%
runs = {name: few["rows"][name]["overall"]["runs"] for name in ("linear", "moda")}
print("standard deviation of each row:",
      {name: round(float(torch.tensor(values).std()), 3) for name, values in runs.items()})
print(f"of the paired differences: {float(torch.tensor(pairs['runs']).std()):.3f}")

# %% [markdown]
# **3 (hard). A row of your own.** Add a connector and a variant that nobody has tried here, and train it beside MODA with two or three seeds. What would you have to see to believe in it?

# %%
from moda_utils.variants import CONNECTORS, Variant

print("connectors:", *CONNECTORS, sep="\n  ")
print(Variant("an idea", model={"connector": "mlp"}, recipe={"learning_rate": 5e-4}))

# %% [markdown]
# ## Further reading
#
# * H. Liu and others, [Visual Instruction Tuning](https://arxiv.org/abs/2304.08485) and [Improved Baselines with Visual Instruction Tuning](https://arxiv.org/abs/2310.03744): LLaVA with one layer, and with two.
# * X. Chen and others, [PaLI](https://arxiv.org/abs/2209.06794), and L. Beyer and others, [PaliGemma](https://arxiv.org/abs/2407.07726): the latter with ablations of mask, connector and freezing.
# * D. Zhu and others, [MiniGPT-4](https://arxiv.org/abs/2304.10592): how little can be trained.
# * R. Mokady and others, [ClipCap](https://arxiv.org/abs/2111.09734): one embedding, ten places.
# * X. Bouthillier and others, [Accounting for Variance in Machine Learning Benchmarks](https://arxiv.org/abs/2103.03098): why all that is left to chance should vary.

# %% [markdown]
# ## Next
#
# All of this ran on one machine. [Notebook 9](09_scaling_out.ipynb) asks what changes with many GPUs and many photos.

# %% [markdown]
# ## Save and stop
#
# Nothing here has to be kept: the live pair is trained again in a minute or two, and the stored result belongs to the repository. If you ran `make ablations` on Colab, copy `benchmarks/results/` to a folder of your mounted Drive before you end the runtime (*Runtime > Disconnect and delete runtime*).

# %% cellView="form"
# @title Copy the small artefacts to a folder { display-mode: "form" }
KEEP_IN = ""  # @param {type:"string"}
from moda_utils.course import keep
keep(profile, KEEP_IN)
