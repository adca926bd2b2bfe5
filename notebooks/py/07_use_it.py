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
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/07_use_it.ipynb)
#
# # 7. Use it
#
# **Describe your own photos on an ordinary processor, know what each millisecond and each megabyte is spent on, and show the result to others.** Extra notebook.
#
# | | |
# |---|---|
# | **You will** | describe photos and whole folders, make the model small and fast with int8 weights, check that its quality survives, open it as a web page, and publish it with a card of measured figures |
# | **You need** | the run of notebook 5; no GPU. A Hub account only if you publish |
# | **Time and cost** | laptop, `mini`: under a minute ([measured](../benchmarks/results/mini-cpu-course.json)) · CPU, `full`: about ten minutes (calculated) · T4 or A100, `full`: the same, for this notebook is about the processor |

# %% [markdown]
# **Contents**
#
# 1. Your own photos
# 2. Where the time goes
# 3. Weights in 8 bits
# 4. What is never said need not be weighed
# 5. How much memory
# 6. Is it still as good?
# 7. Beside other captioners
# 8. A web page
# 9. Publish model and dataset
#
# Run the next cell first. If it says that something is missing, `catch_up("07")` in a new cell makes it.

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

# %% [markdown]
# ## 1. Your own photos
#
# Name a folder with photos of clothes or shoes, or, on Colab, tick the box and choose files from your computer. Without either, photos of the test split stand in.

# %% cellView="form"
# @title Choose photos { display-mode: "form" }
FOLDER = ""  # @param {type:"string"}
UPLOAD = False  # @param {type:"boolean"}
from contextlib import suppress
from dataclasses import replace
from moda_utils import require
from moda_utils.catalog import load_catalog
best = require(profile.run_dir("moda") / "best", "05")
catalog = load_catalog(profile.catalog_path)
test = catalog.frame[catalog.frame.split == "test"].reset_index(drop=True)
paths = [str(catalog.root / name) for name in test.image]
mine = [str(p) for p in sorted(Path(FOLDER).iterdir()) if p.is_file()] if FOLDER else []
if UPLOAD:
    from google.colab import files
    with suppress(Exception):  # cancelled: as if the box had not been ticked
        mine = list(files.upload())
shown_as = replace(profile, data_label="own") if mine else profile
print(f"{len(mine)} files of your own, {len(test)} photos in the test split")
mine = mine or paths[:4]

# %% [markdown]
# One call describes one photo, or a list of them. It takes files, Pillow images and arrays.

# %%
from moda_utils import describe, plots

describe(paths[0])

# %% [markdown]
# A list stops at the first file that is no photo. `describe_each` goes on: it gives a sentence for each photo, or the error that tells why there is none.

# %%
from moda_utils.serving import describe_each, load_model

answers = dict(zip(mine[:4], describe_each(mine[:4], *load_model(int8=True))))
sentences = {path: said for path, said in answers.items() if isinstance(said, str)}
for error in answers.values():
    if isinstance(error, Exception):
        print(error)
if len(mine) > 4:
    print(f"The first 4 of {len(mine)} are shown.")
if sentences:
    display(plots.photo_grid(list(sentences), list(sentences.values()), profile=shown_as,
                             title="Described"))

# %% [markdown]
# A model that was trained on drawings says so, each time: whoever reads its sentence should know. Hand it a photo of your own and see what it makes of it. It has no word for "I don't know": it answers with whichever item comes closest.
#
# A whole folder is a job for the command line. It shows a bar with the time left, names what it can't read, and with `--csv` writes a table that a second run continues. Here with a few photos and a file that only pretends to be one:

# %%
import shutil

folder, table = profile.home / "own_photos", profile.home / "descriptions.csv"
folder.mkdir(exist_ok=True)
table.unlink(missing_ok=True)
for path in paths[:6]:
    shutil.copy(path, folder)
(folder / "pretender.jpg").write_text("not a photo")

def run(*arguments):
    command = [sys.executable, "-m", "moda_utils.serving", *map(str, arguments)]
    done = subprocess.run(command, cwd=roots[0], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    print(done.stdout, end="")
    print("exit status", done.returncode)

run(folder, "--csv", table)

# %%
run(folder, "--csv", table)  # goes on: only what failed is tried again

# %%
import pandas as pd

pd.set_option("display.max_colwidth", None)  # whole sentences
rows = pd.read_csv(table)
rows["photo"] = rows.photo.map(lambda name: Path(name).name)
rows

# %% [markdown]
# ## 2. Where the time goes
#
# To make something faster, first find out what is slow. Four stages lead from a file to a sentence: open the photo, bring it to the encoder's size, encode it, write. Let us time them for the model as notebook 5 left it, in float32 on the processor.

# %%
import time

import torch

from moda_utils.modeling_moda import ModaForConditionalGeneration, ModaProcessor
from moda_utils.serving import open_checked

plain = ModaForConditionalGeneration.from_pretrained(best, dtype=torch.float32).eval()
processor = ModaProcessor.from_pretrained(best)

def stages(model, path):
    marks = [time.perf_counter()]
    photo = open_checked(path); marks.append(time.perf_counter())
    pixels = processor(images=photo)["pixel_values"]; marks.append(time.perf_counter())
    embeds = model.encode_images(pixels); marks.append(time.perf_counter())
    ids = model.generate(image_embeds=embeds, do_sample=False); marks.append(time.perf_counter())
    seconds = [after - before for before, after in zip(marks, marks[1:])]
    return dict(zip(("open", "prepare", "encode", "write"), seconds)) | {"tokens": ids.shape[1]}


# %%
def medians(model, repeats=9):
    with torch.inference_mode():
        took = pd.DataFrame([stages(model, path) for path in paths[:repeats]])
    return took.median()

before = medians(plain)
for stage in ("open", "prepare", "encode", "write"):
    print(f"{stage:8} {1000 * before[stage]:7.1f} ms")
print(f"write is {before.write / before[:4].sum():.0%} of the time: {before.tokens:.0f} steps, "
      f"{1000 * before.write / before.tokens:.1f} ms each")

# %% [markdown]
# Several photos, and the median of each stage: a single measurement tells more about the machine's mood than about the model.

# %% [markdown]
# Where writing takes most of the time, there is a reason: tokens come one after the other, and **each one reads every weight of the language model once**. With OPT-125M in float32 that is half a gigabyte of memory traffic per token. The encoder has the opposite character: it uses each weight it has read for all patches of the photo at once.
#
# > **In `mini`:** the weights fit into the processor's own memory (its *cache*), so what is left is mostly the cost of calling many small operations. Compare shares, not milliseconds.
# >
# > **With real weights:** reading counts, and so do arithmetic and calls. The next cell shows how much, measured at real size. The weights there are random, which cost the same time as trained ones.
#
# Reading is a *floor*: no program that reads each weight once per token can be faster. It is calculated, bytes over the memory's speed; the time of writing is measured. How far above the floor is it? *Predict first: is reading nearly all of it?*

# %%
import json

results = roots[0] / "benchmarks" / "results"
path = results / "full-cpu-latency-random-weights.json"
bench = json.loads(path.read_text()) if path.exists() else None

def writing(system, encoding):
    return bench["systems"][system]["batch_1_ms"] - bench["systems"][encoding]["batch_1_ms"]

if bench:
    print(f"{bench['what']}; {bench['machine']}; {bench['new_tokens']} tokens each")
    print(f"memory read at {bench['memory_gb_per_second']} GB/s")
    shipped_name = "MODA as shipped: int8, cut output layer"
    for name, encoding in (("MODA, float32", "(float32: encoding)"),
                           (shipped_name, "(of it: encoding)")):
        floor, took = bench["systems"][name]["floor_of_decoding_ms"], writing(name, encoding)
        print(f"{name}: writing {took:.0f} ms, of it reading {floor:.0f} ms ({floor / took:.0%})")
    gain = (writing("MODA, float32, own decoding loop", "(float32: encoding)")
            / writing("MODA, int8, own decoding loop", "(of it: encoding)"))
    print(f"int8, the same loop: a quarter of the bytes, writing {gain:.1f} times faster")
else:
    print("not yet measured: python benchmarks/latency.py")

# %% [markdown]
# So memory traffic explains a part. The rest is the arithmetic of products of a matrix with a single vector, where a processor can't use its full width, and the calls of some hundred operations per token. int8 helps with more than the bytes: its instructions multiply several small numbers at once. Where the last line's factor is larger than four, no saving of bytes alone could explain it.
#
# This gives three ideas, and none of them touches the training:
#
# * make each weight smaller: section 3;
# * read fewer weights: section 4;
# * do nothing in the loop that needn't be done: `moda_utils/fast.py` has a greedy loop of its own, with memory for keys and values that is reserved once.
#
# ## 3. Weights in 8 bits
#
# A float32 number takes four bytes. An **int8** takes one: a whole number from -128 to 127. Take a row of a weight matrix, divide it by its largest absolute value over 127, and round. The row is now small numbers and one *scale*.

# %%
layer = plain.language_model.get_decoder().layers[0].fc1
weight = layer.weight.detach()
scale = weight.abs().amax(dim=1, keepdim=True) / 127  # one for each output
small = (weight / scale).round().to(torch.int8)
print("first numbers:", [round(number, 3) for number in weight[0, :5].tolist()])
print("as int8:      ", small[0, :5].tolist(), f"times {scale[0].item():.5f}")

# %% tags=["nbval-check-output"]
bytes_before = weight.numel() * weight.element_size()
bytes_after = small.numel() * small.element_size() + scale.numel() * scale.element_size()
print("a quarter of the bytes, and the scales:", 0.25 < bytes_after / bytes_before < 0.27)
error = (small * scale - weight).abs() / scale
print("no weight moved by more than half a step:", bool(error.max() <= 0.5001))


# %% [markdown]
# What does rounding do to the layer's output? Inputs are rounded to int8 as well, row by row as they come, so that the whole product is done in whole numbers: processors have instructions for exactly that. `Int8Linear` does both. Here is the same by hand, in slow motion, and then the comparison.

# %%
def int8_by_hand(x):
    size = x.abs().amax(dim=-1, keepdim=True)  # one for each row of the input
    steps = (x / size * 63.5).round()  # 7 bits: sums of 8-bit products could overflow
    product = steps @ small.float().T  # whole numbers
    return product * (size / 63.5) * scale.T + layer.bias.detach()


# %% tags=["nbval-check-output"]
from moda_utils.fast import FastModa, Int8Linear, int8_works

x = torch.randn(32, weight.shape[1], generator=torch.manual_seed(0))
exact = layer(x).detach()
size = (exact - layer.bias.detach()).norm()
kernel = Int8Linear(weight, layer.bias.detach())(x) if int8_works() else int8_by_hand(x)
print("int8 kernels here:", int8_works())
print("error by hand below 2%:", bool((int8_by_hand(x) - exact).norm() < 0.02 * size))
print("kernel and hand agree:", bool((kernel - int8_by_hand(x)).norm() < 0.02 * size))

# %% [markdown]
# Why a scale for each row, and not one for the whole matrix? With one scale, the largest weight of all would set the grid for everybody. The picture shows how many of the 127 steps each row could then still use.

# %%
steps = 127 * scale.squeeze() / scale.max()
figure, axes = plots.figure(height=2.4)
axis = axes[0, 0]
axis.hist(steps.tolist(), bins=40, color=plots.BLUE)
axis.axvline(127, color=plots.VERMILION, label="with a scale of its own")
axis.set(xlabel="steps that a row could use with one scale for all", ylabel="rows", xlim=(0, 130))
axis.legend(loc="upper left")
plots.stamp(figure, profile, len(steps))
figure

# %% [markdown]
# Which library should do it? `benchmarks/int8.py` compares four at real size. It times nothing but the decoder, with another loop and fewer outputs than section 2: compare its milliseconds with each other only.

# %%
path = results / "full-cpu-int8-random-weights.json"
if path.exists():
    result = json.loads(path.read_text())
    print(f"{result['what']}; {result['machine']}")
    table8 = pd.DataFrame(result["methods"]).T.rename_axis("method")
    for method, row in table8.iterrows():
        print(f"{method}: {row.note} ({row.packages})")
    table8 = table8.drop(columns=["note", "packages"])
else:
    table8 = "not yet measured: python benchmarks/int8.py"
table8

# %%
if path.exists():
    for batch in ("batch_1_ms", "batch_16_ms"):
        times = table8[batch].sort_values()
        print(f"{batch}: fastest is {times.index[0]}; torch's kernels take "
              f"{times['torch kernels'] / times.iloc[0]:.2f} times its time, "
              f"float32 {times['float32'] / times.iloc[0]:.1f} times")
    print("agrees least with float32:", table8["same_first_token"].astype(float).idxmin())

# %% [markdown]
# The course uses the kernels that torch brings along. Others may be faster (the cell above prints by how much, for one photo and for a batch), but they need more packages, and most of them a model exported or converted into a second format, apart from the one you train; torch's need nothing else to be installed. (`same_first_token` compares with float32. torch's kernels bring their inputs to seven bits, where others take eight, so they may agree less. Scores of random weights lie closer together than those of a trained model, so what int8 does to *sentences* is measured in section 6.) torch marks its old interface as deprecated in favour of the library torchao, so `fast.py` asks before it uses it, and falls back to float32 where it is gone: slower at real size, and a word differs now and then (section 6).
#
# ## 4. What is never said need not be weighed
#
# The last layer of a language model scores every token of its vocabulary, at every step. MODA was trained on descriptions that use a small part of it. Training notes which (`config.output_tokens`), and the fast model keeps only these rows.

# %%
used, vocabulary = len(plain.config.output_tokens or []), plain.config.text_config.vocab_size
print(f"{used:,} of {vocabulary:,} tokens are used by the training descriptions")
if not used:
    print("(this model was trained before tokens were noted: nothing is cut)")


# %% [markdown]
# Cutting changes nothing as long as no needed token is among those that are gone. Nor does the loop: in float32 the fast model has to say exactly what `generate` says. Does it, for every photo of the test split?

# %%
def pixel_batches(size=16):
    for start in range(0, len(paths), size):
        photos = [open_checked(path) for path in paths[start : start + size]]
        yield processor(images=photos)["pixel_values"]

def written(model):
    texts = []
    for pixels in pixel_batches():
        with torch.inference_mode():
            ids = model.generate(image_embeds=model.encode_images(pixels), do_sample=False)
        texts += [text.strip() for text in processor.batch_decode(ids, skip_special_tokens=True)]
    return texts

slow_texts = written(plain)

# %% tags=["nbval-check-output"]
same = written(FastModa.from_folder(best, int8=False)) == slow_texts
print("cut output layer and own loop, float32: all texts the same:", same)

# %% [markdown]
# If it says `False`: either a token was cut that the model wants to say, or two tokens came so close that the order of the additions decides. The pairs that differ will tell.

# %% [markdown]
# Now all three together: this is what `describe` uses on a processor. The column between has the loop and the cut output layer but not int8. *Predict first: which of the four stages get faster, and which can't?*

# %% tags=["measured"]
fast = FastModa.from_folder(best, int8=int8_works())
models = {"generate, float32": plain, "own loop, float32": FastModa.from_folder(best, int8=False),
          "as shipped": fast}
compared = 1000 * pd.DataFrame({name: medians(model)[:4] for name, model in models.items()})
compared.loc["together"] = compared.sum()
compared["times faster"] = compared["generate, float32"] / compared["as shipped"]
compared.round(1).rename_axis("milliseconds")


# %% [markdown]
# What to look for: only *encode* and *write* can fall.
#
# > **In `mini`:** *write* gains by the loop; int8 takes that gain back, in part, in whole or with more on top (a factor below one is slower than before), and *encode*, which has no loop, may rise. Weights that lie in the cache cost nothing to read, so int8 has nothing to save, and bringing each input to int8 is work on top, shared out among the cores anew in every step, which with so little work costs more than it saves (put `torch.set_num_threads(1)` before the cell and compare). Small models should stay in float32; `describe` shows the other case here so that you can see it.
# >
# > **With real weights:** expect both to fall to a fraction ([measured](../benchmarks/results/full-cpu-latency-random-weights.json) with random weights of the real sizes; nobody has measured trained ones yet).
#
# With a real model, opening a large photo becomes a part of the whole that one notices. For a folder it costs little: threads open the next photos while the model writes.
#
# ## 5. How much memory
#
# A weight in float32 takes 4 bytes, in int8 one; so megabytes follow from counts of weights. The table is calculated, not measured. The fast model reads the file weight by weight, so the float32 model is never in memory as a whole.

# %%
def parts(model):
    vision = sum(weight.numel() for weight in model.vision_model.parameters())
    projection = sum(weight.numel() for weight in model.projection.parameters())
    words = model.get_input_embeddings().weight.numel()
    text = sum(weight.numel() for weight in model.language_model.parameters())
    return {"image encoder": vision, "projection": projection, "word vectors": words,
            "blocks of the language model": text - words}

def small_bytes(model):
    kept = (used or vocabulary) / vocabulary
    linear = [m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear)]
    vision = [m.weight.numel() for m in model.vision_model.modules()
              if isinstance(m, torch.nn.Linear)]
    count = parts(model)
    head = count["word vectors"]
    blocks = sum(linear) - sum(vision) - head - sum(
        m.weight.numel() for m in model.projection if isinstance(m, torch.nn.Linear))
    return {"image encoder": 4 * count["image encoder"] - 3 * sum(vision),
            "projection": 4 * count["projection"],
            "word vectors": (4 + 1) * kept * head,  # float32 to read in, int8 to score
            "blocks of the language model": 4 * count["blocks of the language model"] - 3 * blocks}


# %%
sizes = pd.DataFrame({"float32": {name: 4 * n for name, n in parts(plain).items()},
                      "as shipped": small_bytes(plain)}) / 1e6
sizes.loc["together"] = sizes.sum()
sizes.round(1).rename_axis("megabytes of weights")

# %% tags=["nbval-check-output"]
print("less than half of the bytes:", bool(sizes["as shipped"].together < sizes.float32.together / 2))

# %% [markdown]
# Python, torch and transformers come on top, some hundreds of megabytes before the first weight is read. Beside models as small as those of `mini` they are nearly all of it.
#
# ## 6. Is it still as good?
#
# int8 changes numbers, so it may change words. *Predict first: in how many descriptions? Rather in those that were right, or in those that were wrong?* The test photos and the five criteria of notebook 6 once more, before and after. (One model is compared with its own rounded copy; nothing is tuned to these photos.)

# %%
from moda_utils.evaluation import CRITERIA, grade, score

fast_texts = written(fast)
scores = {name: score(texts, test)["criteria"]
          for name, texts in (("float32", slow_texts), ("int8", fast_texts))}
changed = [i for i, (a, b) in enumerate(zip(slow_texts, fast_texts)) if a != b]
print(f"{len(changed)} of {len(test)} descriptions changed")
for index in changed[:5]:
    print(f"  {slow_texts[index]}\n  -> {fast_texts[index]}")

# %% [markdown]
# The three photos of notebook 0, described by both:

# %%
from moda_utils.catalog import same_three

three = [test.index[test.product_id == item][0] for item in same_three(catalog.frame).product_id]
both = {"float32": slow_texts, "int8": fast_texts}
plots.before_after([paths[index] for index in three],
                   {name: [texts[index] for index in three] for name, texts in both.items()},
                   profile=profile)

# %% [markdown]
# The five criteria:

# %%
plots.bars_with_intervals(scores, profile=profile, n=len(test))

# %% [markdown]
# Where whiskers overlap, nothing is settled yet: the two bars of a criterion come from the same photos, so compare them *photo by photo*: take the difference of the grades for each, and draw groups again for its interval, as in notebook 6. The aim was to lose at most one hundredth of the overall grade.

# %%
from moda_utils.evaluation import paired_difference

change = paired_difference(grade(fast_texts, test).overall, grade(slow_texts, test).overall, test)
allowed, low = 0.01 * scores["float32"]["overall"]["value"], change["low"]
print(f"overall grade changed by {change['value']:+.3f} [{low:+.3f}, {change['high']:+.3f}]")
print(f"allowed loss {allowed:.3f}: {'kept' if -low <= allowed else 'NOT shown to be kept'}")

# %% [markdown]
# *Kept* means that even the lower end of the interval loses no more than allowed. A few photos seldom can show that: near-ties between two words flip with any change of rounding, for better as often as for worse, and a handful of flips moves the grade of a small split. To settle it takes more photos. Where they are drawn, `benchmarks/int8_quality.py` draws many fresh ones and stores what it found:

# %%
found = sorted(results.glob(f"{profile.name}-*-int8-quality.json"))
for stored in map(json.loads, [path.read_text() for path in found]):
    overall = stored["int8_minus_float32"]["overall"]
    kept = "kept" if -overall["low"] <= stored["allowed_loss"] else "NOT shown to be kept"
    print(f"{stored['data']}: {stored['texts_changed']} of {stored['n']:,} texts changed")
    print(f"overall grade {overall['value']:+.4f} [{overall['low']:+.4f}, {overall['high']:+.4f}], "
          f"allowed loss {stored['allowed_loss']:.3f}: {kept}")
if not found:
    print("not yet measured: python benchmarks/int8_quality.py")

# %% [markdown]
# > **In `mini`:** many fresh drawings decide, not the few of the test split.
# >
# > **With real weights:** nobody has measured yet what int8 does to the sentences of FashionCLIP and OPT-125M. Until you have, on your own photos, `describe(photo, int8=False)` is always there.
#
# ## 7. Beside other captioners
#
# How fast is that, compared with models that people run for the same purpose? `benchmarks/latency.py` builds GIT-base, BLIP-base, ViT-GPT2 and SmolVLM-256M from their public configurations, at their own image sizes, with random weights, and lets each write the same number of tokens. That is fair for time (what the weights say doesn't change it) and says nothing about quality. These are general captioners; MODA knows one thing only.

# %%
if bench:
    times = {name: row["batch_1_ms"] for name, row in bench["systems"].items() if name[0] != "("}
    order = sorted(times, key=times.get)
    figure, axes = plots.figure(height=0.9 + 0.27 * len(order))
    axis = axes[0, 0]
    for place, name in enumerate(order):
        ours = name.startswith(("MODA", "describe"))
        axis.plot(times[name], place, "o", color=plots.VERMILION if ours else plots.BLUE)
        axis.annotate(f"{times[name]:,.0f}", (times[name], place), (7, -3), fontsize=8,
                      textcoords="offset points")
    axis.set_yticks(range(len(order)), order)
    axis.set(xscale="log", xlabel="milliseconds for one description (logarithmic)",
             xlim=(0.7 * min(times.values()), 2.5 * max(times.values())))
    axis.invert_yaxis()
    figure.supxlabel(f"random weights, real sizes · {bench['machine']}", x=0.99, ha="right",
                     fontsize=8)
    display(figure)
else:
    print("not yet measured: python benchmarks/latency.py")

# %% [markdown]
# The chart has one dot for each system, MODA's in orange. Further left is faster; as the scale is logarithmic, equal distances are equal factors. A fair share compares like with like, int8 with int8; with the others as most people run them, in float32, MODA as shipped gains by int8 too; the printed shares say what is left without it.

# %%
if bench:
    first = bench["describe_as_shipped"]
    for ours, kind in (("MODA, float32", "float32"), (shipped_name, "int8"), (shipped_name, "float32")):
        peer = min((name for name in times if name.endswith(f", {kind}") and name[:4] != "MODA"),
                   key=times.get)
        print(f"{ours}: {times[ours] / times[peer]:.2f} of the time of {peer}, the fastest such peer")
    print(f"16 photos together: {bench['batch_16_gain']:.1f} times the descriptions per second")
    if "describe_share_of_fastest_peer" in bench:
        print("describe() of a JPEG file, opening and all: "
              f"{bench['describe_share_of_fastest_peer']:.2f} of the fastest float32 peer's time")
    print(f"first describe() after import: {first['first_describe_s']:.1f} s, "
          f"at most {first['peak_memory_gb']:.2f} GB of memory")

# %% [markdown]
# Peers get their photos at their own size, ready in memory; so does MODA, but for `describe()`, which begins with a file.
#
# ## 8. A web page
#
# The same for people who don't write Python: `python -m moda_utils.serving --demo` opens a page on your machine, with upload, examples, attributes and times. It is made with Gradio; its statistics are off, and photos go no further than the machine that runs it. The picture was taken of the real page, in `mini`, with drawn photos, after another run of notebook 5: its sentences may differ from yours.

# %% cellView="form"
# @title Figure: the page (mini, drawn photos) { display-mode: "form" }
from moda_utils import show_figure
show_figure("screens/demo_page")

# %% [markdown]
# This is what it says about three files, one of them the pretender:

# %%
from IPython.display import HTML

from moda_utils import demo

three = [paths[0], str(folder / "pretender.jpg"), paths[1]]
HTML(f"<style>{demo.STYLE}</style>" + demo.describe_cards(three))

# %% [markdown]
# Tick the box to open the page itself, here or in a new tab. It runs until the kernel ends or `page.close()`. On Colab it appears below the cell, over Colab's own connection: `launch` asks Gradio for no public address.

# %% cellView="form"
# @title Open the page { display-mode: "form" }
LAUNCH = False  # @param {type:"boolean"}
if LAUNCH:
    page = demo.launch(prevent_thread_lock=True, quiet=True)
    print(page.share_url or page.local_url)
else:
    print("Not opened.")

# %% [markdown]
# ## 9. Publish model and dataset
#
# A model that others can use needs a **card**: what it is, what it was trained on, how good it is and where it fails. `model_card` fills one from the files of this course; its scores are those of `evaluation/moda.json`, of the float32 model of notebook 6, not typed by anyone. Starting here? Run the setup cell, then the next one.

# %% tags=["start-here"]
from moda_utils.publishing import model_card, publish

card = model_card(profile, "your-name/moda")
print(card)

# %% [markdown]
# To publish, write your name on the Hub, choose what to upload, and tick the box. The token (`HF_TOKEN`, with the right to write) comes from Colab's secrets or from the environment; it is never printed. The repository is private until you change that. Photos of unknown licence can't be made public here.

# %% cellView="form"
# @title Publish { display-mode: "form" }
PUBLISH = False  # @param {type:"boolean"}
OWNER = ""  # @param {type:"string"}
NAME = "moda"  # @param {type:"string"}
WHAT = "model"  # @param ["model", "dataset"]
PRIVATE = True  # @param {type:"boolean"}
if PUBLISH:
    print(publish(profile, f"{OWNER}/{NAME}", WHAT, private=PRIVATE))
else:
    print("Not published.")

# %% [markdown]
# ## What we learned
#
# * **A sentence is slow because its tokens come one by one**: each reads every weight, and works through many small products. Reading is a floor that can be calculated, and measured time lies well above it. Smaller weights help with both.
# * **int8 with a scale per row** keeps a quarter of the bytes and most of the words. Whether the grade survives has to be measured, and so has the gain in speed: small weights that fit into a cache gain none. For the real model the grade can be seen only with real weights on real photos; its speed has been measured with random ones.
# * **A narrow task needs a narrow output**: most of a vocabulary is never said.
# * **Compare in one run, and say what was run**: random weights tell time, not quality.
# * **Nobody should have to trust a model without a card**, and a card's figures should come from a file.

# %% [markdown]
# ## Exercises
#
# The first ends in a call of `check`: it says what answer it wants, and with an answer, whether that is right. Solutions: [07_solutions](solutions/07_solutions.ipynb).
#
# **1 (easy). One scale for all.** Round the matrix of section 3 with a single scale, that of its largest weight. How many times larger is the error of the output?

# %%
from moda_utils import check

one_scale = weight.abs().max() / 127
print(f"scale of all {one_scale:.5f}, median of the rows' scales {scale.median():.5f}")
check("07.1")


# %% [markdown]
# **2 (medium). How few bits?** Round all linear layers of the language model to 6, 5, 4, 3 bits, one scale per row, and keep float32 arithmetic. When do descriptions of the test split begin to change, and when does the overall grade give way?

# %%
def rounded(weight, bits):
    most = 2 ** (bits - 1) - 1
    scale = weight.abs().amax(dim=1, keepdim=True) / most
    return (weight / scale).round() * scale

print(f"4 bits move the weights by {(rounded(weight, 4) - weight).std() / weight.std():.0%}")

# %% [markdown]
# **3 (hard). Leave early.** The loop goes on until the last sentence of a batch has ended; sentences that have ended are carried along. How much of the work of a batch of 64 is wasted in this way, and would it pay to take them out?

# %%
lengths = [len(processor.tokenizer(text).input_ids) for text in slow_texts]
print(f"tokens: mean {sum(lengths) / len(lengths):.1f}, longest {max(lengths)}")

# %% [markdown]
# ## Further reading
#
# * B. Jacob and others, [Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference](https://arxiv.org/abs/1712.05877): where int8 inference comes from.
# * T. Dettmers and others, [LLM.int8()](https://arxiv.org/abs/2208.07339): what outliers do to it in large models.
# * R. Pope and others, [Efficiently Scaling Transformer Inference](https://arxiv.org/abs/2211.05102): memory traffic and batches, worked out.
# * M. Mitchell and others, [Model Cards for Model Reporting](https://arxiv.org/abs/1810.03993): why section 9 prints what it prints.

# %% [markdown]
# ## Next
#
# Whether the parts of MODA are the right ones (a projection of two layers, a frozen encoder, one image token) is a question for experiments: they are the subject of [notebook 8](08_ablations.ipynb).

# %% [markdown]
# ## Save and stop
#
# Nothing here has to be kept but what you described: `descriptions.csv` in the folder of artefacts. On Colab, copy the small artefacts to a folder of your mounted Drive before you end the runtime (*Runtime > Disconnect and delete runtime*).

# %% cellView="form"
# @title Copy the small artefacts to a folder { display-mode: "form" }
KEEP_IN = ""  # @param {type:"string"}
from moda_utils.course import keep
keep(profile, KEEP_IN)
