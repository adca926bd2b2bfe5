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
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/09_scaling_out.ipynb)
#
# # 9. Scaling out
#
# **Know when one machine is enough, and take the same model to many processors and many photos when it isn't.** Extra notebook.
#
# | | |
# |---|---|
# | **You will** | turn measured rates into hours and money, see what several GPUs do to a training step, describe a catalogue with several workers that may die at any moment, and find what becomes the bottleneck next |
# | **You need** | the run of notebook 5, and Ray: `make scale`, or `pip install -r requirements-scale.txt`; no GPU |
# | **Time and cost** | laptop, `mini`: about a minute ([measured](../benchmarks/results/mini-cpu-course-scale.json)) · CPU, T4 or A100, `full`: some minutes (calculated for describing, from the rates of section 1; nobody has measured the whole yet) |

# %% [markdown]
# **Contents**
#
# 1. When is one machine enough?
# 2. Many GPUs, one model
# 3. Many photos, many workers
# 4. What two workers bring, what a larger catalogue costs
# 5. The next bottleneck
# 6. When the answers are long
#
# Run the next cell first. If it says that something is missing, `catch_up("09")` in a new cell makes it.

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
profile = setup("09", PROFILE)

# %% [markdown]
# ## 1. When is one machine enough?
#
# Clusters cost money, and more time than one thinks. So first the arithmetic. It needs one number: how many photos a second does the model describe? What this repository has measured lies in `benchmarks/results/`:

# %%
import json

def stored(name):
    path = roots[0] / "benchmarks" / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None

scaling = stored("mini-cpu-scaling")
print("scaling is measured" if scaling else "not yet measured: python benchmarks/scaling.py")

# %% [markdown]
# From there, every rate at which anything of this course describes photos, each with what it was measured on:

# %%
rates = {}
if scaling:
    for workers, rate in scaling["describing"]["photos_per_second"].items():
        rates[f"small MODA, drawn photos, 2 CPU cores, workers: {workers}"] = rate
if captioning := stored("mini-cpu-captioning"):
    for run in captioning["crops"].values():
        rates["small Phi-3 Vision, drawn photos, 2 CPU cores"] = run["batched"]["photos_per_second"]
if latency := stored("full-cpu-latency-random-weights"):
    row = latency["systems"]["MODA as shipped: int8, cut output layer"]
    rates["MODA's real size, random weights, 2 CPU cores"] = 16_000 / row["batch_16_ms"]
for path in sorted((roots[0] / "benchmarks" / "results").glob("full-*-captioning*.json")):
    run = json.loads(path.read_text())
    if not run.get("reduced"):  # a model with fewer layers says nothing about the whole one
        for crops, way in run["crops"].items():
            name = f"Phi-3 Vision's size, {run['weights']} weights, {crops} crops, {run['device']}"
            rates[name] = way["batched"]["photos_per_second"]
print("\n".join(f"{rate:10.1f} photos a second: {name}" for name, rate in rates.items()))

# %% [markdown]
# A rate belongs to its line. The small models are far smaller than the real ones and their photos are drawings; random weights have the right size and so the right time, but nothing to say. What is not in the list has not been measured here: run `python benchmarks/captioning.py` on your own GPU, and the list grows by its lines.
#
# Four catalogues: this course's real one (2,906), the [larger set of the same kind](https://www.kaggle.com/datasets/paramaggarwal/fashion-product-images-dataset) (44,000), a large shop (a million), a marketplace (a hundred million). *Guess first: for which of them does one machine no longer do?*

# %%
import pandas as pd

def span(seconds):
    units = {"years": 31_557_600, "days": 86_400, "hours": 3600, "minutes": 60}
    for unit, size in units.items():
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} seconds"

sizes = {f"{photos:,}": photos for photos in (2_906, 44_000, 1_000_000, 100_000_000)}
table = {name: {size: span(photos / rate) for size, photos in sizes.items()}
         for name, rate in rates.items()}
pd.DataFrame(table).T.rename_axis("one machine, as measured")

# %% [markdown]
# The same as a picture, because rates and catalogues both differ by powers of ten. What lies below a dashed line is done in that time.

# %%
from moda_utils import plots

figure, axes = plots.figure(height=3.9)
axis = axes[0, 0]
photos = [1_000, 1_000_000_000]
for (name, rate), colour in zip(rates.items(), plots.PALETTE):
    axis.plot(photos, [n / rate / 3600 for n in photos], label=name, color=colour)
for label, hours in (("a lunch break", 1), ("a night", 10), ("a month", 730)):
    axis.axhline(hours, color=plots.GREY, linestyle="--", linewidth=1)
    axis.text(1.2e3, hours * 1.25, label, fontsize=8, color=plots.INK)
for size in sizes.values():
    axis.axvline(size, color="#E3E3E3")
axis.set(xscale="log", yscale="log", xlabel="photos (logarithmic)", ylabel="hours (logarithmic)",
         xlim=photos)
figure.legend(*axis.get_legend_handles_labels(), loc="outside upper left", fontsize=8)
figure.supxlabel("from benchmarks/results/, one machine each", x=0.99, ha="right", fontsize=8)
figure

# %% [markdown]
# Read it from the question, not from the technology. If the line of your model passes your catalogue below *a night*, you are done: start it in the evening. New photos arrive by the hundred, not by the million; the whole catalogue is described once per model.
#
# ### 1.1 What does it cost?
#
# **Money = machines × hours × price per hour**, and hours = photos / (rate × machines): the number of machines cancels out. What does not cancel out is what each machine does before its first photo: boot, download the weights, load them. With a rate that we only assume:

# %% tags=["nbval-check-output"]
PRICE_PER_HOUR = 1.0  # of one machine, as your provider asks for it
START = 300  # seconds of a machine before its first photo

def bill(photos, rate, machines):
    hours = START / 3600 + photos / rate / machines / 3600
    return hours, machines * hours * PRICE_PER_HOUR

for machines in (1, 4, 16, 64, 256):
    hours, money = bill(1_000_000, rate=50, machines=machines)
    print(f"{machines:3} machines: {hours:5.2f} hours, price {money:6.2f}")

# %% [markdown]
# So more machines buy time, and for a while at nearly the same price; later one mostly pays for starting. A faster program on one machine buys both: int8 weights (notebook 7) and full batches (notebook 2) come before the second machine.
#
# ## 2. Many GPUs, one model
#
# Training on several GPUs is mostly **data parallel**: each has the whole model and takes a share of every batch; then all add up their gradients, and make the same step. Why is that the same as one GPU with the whole batch? Because the gradient of a sum is the sum of the gradients. Check it with eight descriptions and two shares:

# %%
import torch

from moda_utils.features import load_examples
from moda_utils.training import collate, start_model, tokenize

model, processor = start_model(profile)
model.eval()  # without dropout, which draws at random
examples = load_examples(profile, model, processor, "template")["train"].take(range(8))
tokens = tokenize(processor, examples, model.device)

# %% [markdown]
# A share's loss is the sum over its tokens, divided by a number that we choose: `num_items_in_batch`.

# %%
weights = [weight for weight in model.parameters() if weight.requires_grad]

def gradient(rows, count):
    model.zero_grad()
    model(**collate(tokens, rows), num_items_in_batch=count).loss.backward()
    return torch.cat([weight.grad.flatten() for weight in weights])


# %% tags=["nbval-check-output"]
asked = tokens.lengths - 1  # places where a token has to be guessed, for each description
shares = asked.argsort().chunk(2)  # the short ones, the long ones
whole = gradient(torch.arange(8), int(asked.sum()))
summed = sum(gradient(rows, int(asked.sum())) for rows in shares)
means = sum(gradient(rows, int(asked[rows].sum())) for rows in shares) / 2
for what, made in (("sum of the shares", summed), ("mean of the shares' own means", means)):
    same = (made - whole).norm() < 1e-4 * whole.norm()
    print(f"{what}: {'the gradient of the whole batch' if same else 'something else'}")

# %% [markdown]
# The second line is a trap that many training programs have fallen into. Descriptions differ in length, so two shares ask for different numbers of tokens; if each divides by its own number, tokens in the shorter share weigh more. `moda_utils.training` divides by the number of the whole step.
#
# The program is the same for one process or eight; Accelerate starts it as often as there are GPUs, and tells each which share is its own:
#
# ```bash
# accelerate launch -m moda_utils.training --run moda-many
# ```
#
# Losses are those of one process to four digits (`tests/test_runs.py` starts two and compares), and one of them writes the run's folder. With dropout, each process draws its own zeros, so that losses differ a little, as between two seeds; a run of several that broke off goes on with others.
#
# ### 2.1 Why MODA hardly needs it
#
# Adding up has a price: per step, each of two GPUs sends and receives about as many bytes as the trained weights have; with many GPUs it is up to twice that. Compare that with how long a step takes at all; the run of notebook 5 has noted it.

# %% tags=["measured"]
from moda_utils import require
from moda_utils.training import load_history

best = require(profile.run_dir("moda") / "best", "05")
steps = pd.DataFrame(load_history(best.parent).of("train"))
step = steps.groupby("epoch").seconds.diff().median()
print(f"the run took {steps.seconds.iloc[-1]:.0f} s, one of its steps {1000 * step:.1f} ms")

# %% [markdown]
# And what would the exchange take between two? At best, for it never gets all of a link's speed; for this model, and for the projection with OPT-125M as notebook 4 counted them:

# %%
trained = {"this model": sum(weight.numel() for weight in weights), "real size": 129_180_000}
links = {"network, 10 Gbit/s": 1.25, "PCIe 4 x16": 31.5, "NVLink of an A100": 300}  # GB/s one way
for size, count in trained.items():
    print(f"{size}: {4 * count / 1e6:.0f} MB of gradients in each step")
    for name, speed in links.items():
        print(f"    {name:20} {4 * count / 1e6 / speed:7.2f} ms")

# %% [markdown]
# Two things make a step of MODA cheap. The encoder is frozen, so its embeddings are computed once and for all, and what is left of a photo is one place in a short sequence. That is fine for one GPU, and bad for many: there is little arithmetic to share, all gradients have to be exchanged, and the optimizer's part of a step is not shared at all, for each process changes all weights of its own copy. Where a GPU does its step in less time than the link's line says, a second one would make training slower, not faster.
#
# > **In `mini`:** the model is tiny and a processor slow, so the exchange looks cheap.
# >
# > **With real weights:** read the lines of the real size before you rent a second machine for training; they are calculated, and nobody has measured them yet.
#
# It pays where the encoder learns too, sequences are long, or the model is too large for one GPU; for the last there is [FSDP](https://pytorch.org/docs/stable/fsdp.html), which spreads the weights themselves.
#
# What did two processes of one core each bring, where it was measured? A factor near one would mean: nothing.

# %%
if scaling:
    one, two = scaling["training"]["1"], scaling["training"]["2"]
    print(f"small models, drawn photos, {scaling['training']['epochs']} epochs, CPU:")
    print(f"one process of one core:    {one['seconds']:5.1f} s, loss {one['validation_loss']:.3f}")
    print(f"two processes, a core each: {two['seconds']:5.1f} s, loss {two['validation_loss']:.3f}")
    print(f"times faster: {scaling['training']['times_faster']}")
else:
    print("not yet measured: python benchmarks/scaling.py")

# %% [markdown]
# ## 3. Many photos, many workers
#
# Describing is the easy case: no photo needs to know of another. What is hard is everything around it. Over hours and machines something *will* die, and then nothing should be lost, and nothing done twice. Three ideas are enough:
#
# * photos are cut into **shards**, in an order that is always the same;
# * a **worker** loads the model once, then takes one shard after the other; who is free takes the next;
# * each finished shard is **a file of its own**, written whole or not at all. What has a file is done: this is all the memory that the job has.
#
# The engine is [Ray Data](https://docs.ray.io/en/latest/data/data.html). It starts workers, here or on a cluster, hands out shards and replaces workers that died; `moda_utils/scale.py` is the rest. The process that calls it is the **driver**: it knows which shards there are, and describes nothing itself. Without Ray, the next cell says how to get it.

# %% cellView="form"
# @title Ray { display-mode: "form" }
from importlib.util import find_spec
if not find_spec("ray"):
    wanted = str(roots[0] / "requirements-scale.txt")
    if "google.colab" not in sys.modules:
        raise ImportError(f"Ray is missing: make scale, or pip install -r {Path(wanted).name}")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "-r", wanted], check=True)
print("Ray is here.")

# %% tags=["nbval-check-output"]
from moda_utils.catalog import load_catalog
from moda_utils.scale import describe_catalogue, find_shards, moda_job

catalog = load_catalog(profile.catalog_path)
source = str(catalog.root / "data")
shards = find_shards(source, size=100)
print(f"{sum(len(shard.ids) for shard in shards):,} photos in {len(shards)} shards")
print("the first shard is called", shards[0].name, "and has", len(shards[0].ids), "photos")

# %% [markdown]
# A job says what every worker has to know: where photos are, where descriptions go, how the model is loaded. The folder is named after the model's weights, so that another model gets another one. Photos and descriptions may lie at an address such as `s3://bucket/shop`, and photos may come in Parquet files.

# %%
job = moda_job(source, "", best)
out = profile.home / "scaling" / job.key["options_sha"][:8]
job = job._replace(out=str(out))
print(dict(describe_catalogue(job, workers=2, shard_size=100)))

# %% [markdown]
# If it said *before*, the descriptions were there from an earlier run. The folder is a table in parts, which pandas, DuckDB or Spark read as one:

# %%
rows = pd.read_parquet(out / "described").set_index("product_id")
paths = {Path(name).stem: catalog.root / name for name in catalog.frame.image}
some = rows[rows.index.isin(paths)].sort_index().iloc[:: max(1, len(rows) // 8)][:8]
plots.photo_grid([paths[item] for item in some.index], some.raw.tolist(), profile=profile,
                 n=len(rows), title="Described by two workers")

# %% [markdown]
# Does it say what one machine says? Workers batch their photos in another way, and sums of floats depend on the order; so compare.

# %% tags=["nbval-check-output"]
from moda_utils import describe

alone = describe([paths[item] for item in some.index], best, note=False)
same = sum(ours == theirs for ours, theirs in zip(alone, some.raw))
print(f"{same} of {len(some)} descriptions are those of describe() on one machine")

# %% [markdown]
# ### 3.1 Stop it, and go on
#
# Two shards are taken away, as if the machine had stopped before they were written. *What will the same call do?*

# %% tags=["nbval-check-output"]
for path in sorted((out / "described").glob("*.parquet"))[3:5]:
    path.unlink()
print(dict(describe_catalogue(job, workers=2, shard_size=100)))
print(dict(describe_catalogue(job, workers=2, shard_size=100)))

# %% [markdown]
# The first call did what was missing and nothing else; the second found everything there and didn't even start a worker. A worker that is killed in the middle (`kill -9`, a lost machine) is replaced, and its shard begins again: `tests/test_scale.py` kills one and counts what the model was asked. So the shard size is what you can lose: minutes, not hours. (Of more than 10,000 shards, Ray hands out several at a time, and a killed worker begins those again.)
#
# A photo that can't be read is no reason to stop. It is listed, with its reason, in a table beside the descriptions:

# %%
import shutil

few = profile.home / "scaling" / "few photos"
few.mkdir(parents=True, exist_ok=True)
for item in some.index[:3]:
    shutil.copy(paths[item], few)
print((few / "pretender.jpg").write_text("not a photo"), "bytes that pretend to be a photo")

# %% [markdown]
# A folder of its own is a job of its own, with one worker this time. (*Before* counts photos of finished shards, readable or not.)

# %%
other = moda_job(str(few), str(out) + "-few", best)
print(dict(describe_catalogue(other)))
lost = pd.read_parquet(other.out + "/unreadable")
print(lost.product_id[0], "|", lost.reason[0].split(": ")[-1])

# %% [markdown]
# On the command line it is one line, here from and to an object store:
#
# ```bash
# python -m moda_utils.scale s3://bucket/shop s3://bucket/descriptions --workers 8
# ```
#
# Each worker gets a GPU where Ray finds one. Ray runs on this machine alone, unless `RAY_ADDRESS` names a cluster: then the workers run there, the call is made on one of its machines, and every machine needs this course's requirements, the model in the same folder, and the credentials of the store. A cluster that asks for a token gets it from `RAY_AUTH_MODE=token` and `RAY_AUTH_TOKEN`, which Ray reads once: they have to be there when the kernel starts.
#
# All of this runs in tests, but on one machine without a GPU: the store and the cluster are started there too (`tests/test_scale_storage.py`, `tests/test_scale_cluster.py`). Nobody has tried it on several machines.

# %% [markdown]
# ## 4. What two workers bring, what a larger catalogue costs
#
# Two questions decide whether such a thing deserves its name. Are two workers twice as fast? And does it need more memory when there are more photos? The answers are read from `benchmarks/scaling.py`, where each run is a fresh process.

# %%
if scaling:
    measured = scaling["describing"]
    print(f"small models, drawn photos, {scaling['processors']} CPU cores")
    print(f"{16 * measured['photos']:,} photos, starting Ray and loading the model included:")
    for workers, each in measured["photos_per_second_each"].items():
        print(f"workers: {workers}   photos a second in {len(each)} runs: {each}")
    print(f"two workers beside one, turn by turn: {measured['times_faster_each']} times as fast")
    print(f"memory, largest catalogue beside the smallest: {measured['memory_growth']:.3f}")
else:
    print("not yet measured: python benchmarks/scaling.py")

# %%
if scaling:
    figure, axes = plots.figure(columns=2, height=2.9)
    speeds = list(measured["photos_per_second"].values())
    bars = axes[0, 0].bar(["1", "2"], speeds, color=plots.BLUE, width=0.5)
    axes[0, 0].bar_label(bars, [f"{speed:.0f}" for speed in speeds],
                         label_type="center", color="white")
    for place, each in enumerate(measured["photos_per_second_each"].values()):
        axes[0, 0].plot([place] * len(each), each, ".", color=plots.INK)
    axes[0, 0].hlines(2 * speeds[0], 0.75, 1.25, linestyles="--", color=plots.GREY)
    axes[0, 0].set(xlabel="workers (dashed: twice as fast)", ylabel="photos a second")
    memory = pd.DataFrame(measured["memory"]).T
    memory.index = [int(times) * measured["photos"] for times in memory.index]
    names = {"all_gb": "all processes", "largest_worker_gb": "largest worker", "driver_gb": "driver"}
    for (part, label), marker in zip(names.items(), "os^"):
        axes[0, 1].plot(memory.index, memory[part], marker=marker, label=label)
    axes[0, 1].set(xscale="log", xlabel="photos (logarithmic)", ylabel="memory, GB", ylim=0)
    axes[0, 1].legend(fontsize=8, loc="center right")
    figure.supxlabel("small models, drawn photos, CPU", x=0.99, ha="right", fontsize=8)
    display(figure)

# %% [markdown]
# On the left, the distance to the dashed line is what two workers take from each other. (Dots are single runs. A difference that is no larger than the distance between them is none.) A worker's model runs on one core, and its threads, which open photos meanwhile, use part of another; so more workers help as far as there are idle cores. With GPUs it is the same: one worker for each, and no more. On the right, flat lines are the aim. A worker holds a model and the few photos it is working on. The driver hands out two shards per worker and waits until one is done before it hands out another (*backpressure*), so that nothing piles up. Only names, and what is handed to Ray of them, grow with the catalogue; section 5 weighs them.
#
# Starting takes seconds that describe nothing. For a few hundred photos `describe` in one process is sooner done: that, too, is a result.
#
# ## 5. The next bottleneck
#
# Once the model is fast, something else is slow. A photo has to be fetched, decoded, brought to the encoder's size, described, written down. How fast is each step on one core? Twice: with this catalogue's photos, and with one of them enlarged to the size of a shop's photos. (A photograph of that size has more detail, hence more bytes, and takes longer to decode: a shop's cores will do less than what follows.) Starting here? Run the setup cell, then the next one.

# %% tags=["start-here"]
import pandas as pd
import torch

from moda_utils import plots, require
from moda_utils.catalog import load_catalog
from moda_utils.scale import find_shards, moda_job

best = require(profile.run_dir("moda") / "best", "05")
catalog = load_catalog(profile.catalog_path)
paths = {Path(name).stem: catalog.root / name for name in catalog.frame.image}
shards = find_shards(str(catalog.root / "data"), size=100)
folder = profile.home / "scaling" / moda_job("", "", best).key["options_sha"][:8]
described = require(folder / "described", "09")
rows = pd.read_parquet(described)
print(f"{len(shards)} shards, {len(rows):,} photos with a description, model {best.parent.name}")

# %%
import io

from PIL import Image

content = [path.read_bytes() for path in list(paths.values())[:8]] * 4
large = io.BytesIO()
Image.open(io.BytesIO(content[0])).convert("RGB").resize((1080, 1440)).save(large, "JPEG")
cameras = {"catalogue": content, "1080 x 1440": [large.getvalue()] * len(content)}
print({name: f"{len(files[0]) / 1000:.0f} kB" for name, files in cameras.items()})

# %% [markdown]
# The model is the one that a worker loads, with int8 weights where there is no GPU (notebook 7).

# %%
from moda_utils.serving import generate_texts, load_model

model, processor = load_model(best, int8=True)

def write_texts(pixels):
    with torch.inference_mode():
        return generate_texts(model, processor, model.encode_images(torch.cat(pixels)))


# %% [markdown]
# Each step is done twice, and the second time counts: the first one is never a usual one.

# %%
import time

def per_second(work, items):
    work(items)
    begin = time.perf_counter()
    work(items)
    return len(items) / (time.perf_counter() - begin)


# %% tags=["measured"]
from moda_utils.catalog import open_photo

threads = torch.get_num_threads()
torch.set_num_threads(1)  # one core each, as a worker has it
steps = {}
for name, files in cameras.items():
    photos = [open_photo(io.BytesIO(file)) for file in files]
    pixels = [processor(images=photo)["pixel_values"] for photo in photos]
    device = [pixel.to(model.device) for pixel in pixels]
    steps[name] = {
        "decode": per_second(lambda fs: [open_photo(io.BytesIO(f)).load() for f in fs], files),
        "resize": per_second(lambda ps: [processor(images=p) for p in ps], photos),
        "describe": per_second(write_texts, device)}
torch.set_num_threads(threads)
pd.DataFrame(steps).round(0).rename_axis("photos a second")

# %%
figure, axes = plots.figure(height=2.4)
axis = axes[0, 0]
height = 0.38
for place, (name, colour) in enumerate(zip(steps, (plots.SKY, plots.BLUE))):
    places = [row + (place - 0.5) * height for row in range(3)]
    bars = axis.barh(places, list(steps[name].values()), height, color=colour, label=name)
    axis.bar_label(bars, [f"{rate:,.0f}" for rate in steps[name].values()], padding=3, fontsize=8)
axis.set(yticks=range(3), yticklabels=list(steps["catalogue"]), xscale="log",
         xlabel="photos a second and core (logarithmic); the shortest bar is the bottleneck")
axis.invert_yaxis()
axis.margins(x=0.12)
axis.grid(axis="y", visible=False)
figure.legend(*axis.get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=8)
plots.stamp(figure, profile, len(content))
for name, rates in steps.items():
    print(f"{name}: the slowest step is to {min(rates, key=rates.get)}")
figure

# %% [markdown]
# (What the model gets has one size, so its two bars differ by chance.) Which step is the slowest depends on the photos: large ones have to be decoded, and then made small. As long as it is the model, more workers help. A GPU makes the model fast, and then it is not the model: suppose it describes so and so many photos a second. Then so many cores have to decode and resize for it, and so many bytes have to arrive:

# %% tags=["measured"]
camera = steps["1080 x 1440"]
one = 1 / camera["decode"] + 1 / camera["resize"]  # seconds of one core for one photo
megabyte = len(cameras["1080 x 1440"][0]) / 1e6
for rate in (50, 500, 5000):
    print(f"{rate:5} photos a second: {rate * one:6.1f} cores, {rate * megabyte:7.1f} MB a second")

# %% [markdown]
# A usual cloud machine has some eight to sixteen cores per GPU (Google's smaller [A100 machines](https://cloud.google.com/compute/docs/accelerator-optimized-machines): twelve). Where the list asks for more, the GPU waits, whatever it costs. What helps, in this order: store the photos once in the size that the encoder takes; let JPEG decode at a fraction of its size (Pillow's `draft`); give decoding machines of its own, without GPUs, which Ray can place before the model.
#
# And how much has to be stored, and kept in mind? Per photo of this catalogue: its file, its row of the result, and what the driver holds: its names, and their part of what is handed to Ray.

# %% tags=["measured"]
import json

sizes = {f"{photos:,}": photos for photos in (2_906, 44_000, 1_000_000, 100_000_000)}
files = [path.stat().st_size for path in paths.values()]
written = sum(path.stat().st_size for path in described.iterdir())
names = [name for shard in shards for name in (*shard.ids, *shard.files)]
held = sum(map(sys.getsizeof, names)) + sum(len(json.dumps(shard)) for shard in shards)
per_photo = {"photos": sum(files) / len(files), "descriptions": written / len(rows),
             "names, and what is handed to Ray": held / len(rows) + 16}
kept = {what: {size: f"{photos * number / 1e9:,.2f} GB" for size, photos in sizes.items()}
        for what, number in per_photo.items()}
pd.DataFrame(kept).T.rename_axis("at this catalogue's sizes")

# %% [markdown]
# > **In `mini`:** drawn photos are small files.
# >
# > **With real weights:** a shop's photos are ten to a hundred times as large, and the first row grows with them; the others don't. The cell weighs those that are here; nobody has measured a shop's yet.
#
# Output is never the problem. Storage is read once, at the rate that you pay for. The last row is the honest limit of this program: one driver keeps every name, twice. A marketplace splits its catalogue into parts of some millions, which are jobs of their own; nothing else would change.
#
# ## 6. When the answers are long
#
# `--captioner` runs Phi-3 Vision instead of MODA, with the same shards and the same promises. It is the other kind of work: about a thousand tokens to read per photo (notebook 2 counts them), dozens to write, one after the other. Sentences of a batch end at different times, and those that are done wait for the longest (exercise 3 of notebook 7). Servers such as **vLLM** put the next photo into the free place (*continuous batching*), keep the memory of keys and values in pages so that more sequences fit ([PagedAttention](https://arxiv.org/abs/2309.06180)), and read the part of the prompt that all photos share only once (*prefix caching*).
#
# Phi-3 Vision is among the [models that vLLM supports](https://docs.vllm.ai/en/latest/models/supported_models.html), and [Ray Data runs vLLM](https://docs.ray.io/en/latest/data/working-with-llms.html) in place of our worker. Where a line of Phi-3 Vision in section 1 does not get your catalogue done in a night, try that for notebook 2; this course has not measured it. For MODA there is nothing to gain: one place per photo to read, and a sentence of a dozen tokens to write.
#
# ## What we learned
#
# * **Arithmetic first**: photos / rate, and then compare with a night. Nothing else tells whether one machine is enough.
# * **Machines buy time, not money**; faster programs buy both.
# * **Data parallel training is exact** if each share divides by the tokens of all. MODA's steps are so short that what can't be shared, and the exchange, may eat the gain.
# * **A file per shard** is all it takes to survive any stop: what has a file is done.
# * **Flat memory** comes from handing out little at a time; look at what still grows.
# * **The bottleneck moves**: behind a fast model stand decoding and resizing.

# %% [markdown]
# ## Exercises
#
# The first ends in a call of `check`: it says what answer it wants, and with an answer, whether that is right. Solutions: [09_solutions](solutions/09_solutions.ipynb).
#
# **1 (easy). A night's work.** A model describes 20 photos a second. How many does it get done in a night of ten hours, and which of the four catalogues are smaller than that?

# %%
from moda_utils import check

minutes = 10
print(f"in {minutes} minutes: {20 * 60 * minutes:,} photos")
check("09.1")


# %% [markdown]
# **2 (medium). How large should a shard be?** Each shard costs half a second of overhead, and a worker dies once in six hours on average, in the middle of a shard. Small shards waste overhead, large ones are lost by halves. Complete the function. Which size wastes least at 20 photos a second, and does it matter much?

# %%
def wasted(size, rate=20, overhead=0.5, hours=6):
    seconds = size / rate  # that a worker spends on describing a shard
    return overhead / seconds  # and what do deaths cost?

for size in (10, 100, 1000):
    print(f"shards of {size:4}: for each second of describing, {wasted(size):.3f} s are wasted")

# %% [markdown]
# **3 (hard). The last shard.** Eight workers, and one of them is five times slower than the others. Who is free takes the next shard. How much longer does it take than it would if the work could be divided at will, with few shards and with many? What would you change about the end?

# %%
import heapq

def makespan(shards, speeds):
    """Time until `shards` equal parts of one unit of work are done; who is free takes the next."""
    free = [(0.0, speed) for speed in speeds]
    for _ in range(shards):
        when, speed = heapq.heappop(free)
        heapq.heappush(free, (when + 1 / shards / speed, speed))
    return max(when for when, _ in free)

speeds = [1.0] * 7 + [0.2]
print(f"16 shards: {makespan(16, speeds) * sum(speeds):.2f} times the shortest possible time")

# %% [markdown]
# ## Further reading
#
# * P. Moritz and others, [Ray: A Distributed Framework for Emerging AI Applications](https://arxiv.org/abs/1712.05889): workers that keep state, and how they are replaced.
# * W. Kwon and others, [Efficient Memory Management for Large Language Model Serving with PagedAttention](https://arxiv.org/abs/2309.06180): the idea behind vLLM.
# * P. Goyal and others, [Accurate, Large Minibatch SGD](https://arxiv.org/abs/1706.02677): what else changes when the batch is spread over many GPUs.
# * S. Li and others, [PyTorch Distributed](https://arxiv.org/abs/2006.15704): how gradients are exchanged while they are still being computed.

# %% [markdown]
# ## Next
#
# This was the last notebook. What is left is your own catalogue.

# %%
from moda_utils import progress

progress()

# %% [markdown]
# ## Save and stop
#
# Descriptions lie in `scaling/` in the folder of artefacts; they are made again by the same call. On Colab, copy what is small to a folder of your mounted Drive before you end the runtime (*Runtime > Disconnect and delete runtime*).

# %% cellView="form"
# @title Copy the small artefacts to a folder { display-mode: "form" }
KEEP_IN = ""  # @param {type:"string"}
from moda_utils.course import keep
keep(profile, KEEP_IN)
