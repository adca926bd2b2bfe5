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
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/solutions/09_solutions.ipynb)
#
# # 9. Solutions
#
# Answers to the exercises of [notebook 9, Scaling out](../09_scaling_out.ipynb). All three are arithmetic: they need neither Ray nor a model.

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

# %%
from moda_utils import check, plots

# %% [markdown]
# ## Exercise 1 (easy). A night's work.
#
# *A model describes 20 photos a second. How many does it get done in a night of ten hours?*

# %%
night = 20 * 10 * 3600
print(f"{night:,} photos")
check("09.1", night)


# %% [markdown]
# More than the larger of the two public sets, and most of the large shop: a second night, or a second machine, does the rest. For the marketplace it is a matter of months.

# %% [markdown]
# ## Exercise 2 (medium). How large should a shard be?
#
# *Each shard costs half a second of overhead, a worker dies once in six hours. Which size wastes least?*

# %%
def wasted(size, rate=20, overhead=0.5, hours=6):
    seconds = size / rate
    return overhead / seconds + seconds / 2 / (hours * 3600)  # half a shard for each death

sizes = [10 * 1.1**n for n in range(90)]
best = min(sizes, key=wasted)
formula = 20 * (2 * 0.5 * 6 * 3600) ** 0.5
print(f"best of those tried: {best:,.0f} photos; by formula: {formula:,.0f}")
for size in (30, 256, round(formula), 30_000):
    print(f"shards of {size:6,}: {wasted(size):.4f} s wasted for each second of describing")

# %%
figure, axes = plots.figure(height=2.6)
axes[0, 0].plot(sizes, [100 * wasted(size) for size in sizes])
axes[0, 0].axvline(formula, color=plots.GREY, linestyle="--")
axes[0, 0].set(xscale="log", yscale="log", xlabel="photos per shard (logarithmic)",
               ylabel="% of the describing time")
figure

# %% [markdown]
# A sum of two parts, one falling and one rising, is least where their changes cancel: at a duration of the square root of two × overhead × time between deaths. It is the rule that J. W. Young gave in 1974 for how often a long computation should save itself ([A first order approximation to the optimum checkpoint interval](https://doi.org/10.1145/361147.361115)). The valley is flat: ten times too large or too small still wastes little. So choose the shard by what you like to see: a file that opens at once, a bar that moves every minute.

# %% [markdown]
# ## Exercise 3 (hard). The last shard.
#
# *Eight workers, one of them five times slower. How much longer does it take than if the work could be divided at will, and what would you change about the end?*

# %%
import heapq

def makespan(sizes, speeds):
    """Time until all shards are done, taken in this order; who is free takes the next."""
    free = [(0.0, speed) for speed in speeds]
    for size in sizes:
        when, speed = heapq.heappop(free)
        heapq.heappush(free, (when + size / speed, speed))
    return max(when for when, _ in free)

speeds = [1.0] * 7 + [0.2]
for shards in (8, 16, 80, 800, 8000):
    slower = makespan([1 / shards] * shards, speeds) * sum(speeds)
    print(f"{shards:5} shards: {slower:5.2f} times the shortest possible time")


# %% [markdown]
# With as many shards as workers, everybody waits for the slow one. The loss is at most one shard of the slowest worker, so ten times more shards make it ten times smaller. But more shards mean more overhead (exercise 2). A better end: begin with large shards and let them become smaller towards the end.

# %%
def shrinking(first, last):
    sizes, left = [], 1.0
    while left > 1e-9:
        sizes.append(min(left, max(last, left * first)))
        left -= sizes[-1]
    return sizes

sizes = shrinking(first=1 / 40, last=1 / 800)
slower = makespan(sizes, speeds) * sum(speeds)
print(f"{len(sizes)} shards that shrink: {slower:.2f} times the shortest possible time")

# %% [markdown]
# Fewer shards, and an end that is nearly as even as with many small ones. Others give the last shards out twice and keep the copy that is finished first ([MapReduce](https://research.google/pubs/mapreduce-simplified-data-processing-on-large-clusters/) calls them backup tasks): work done in vain, but only at the very end.
