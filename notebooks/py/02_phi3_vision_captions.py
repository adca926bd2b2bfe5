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
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/02_phi3_vision_captions.ipynb)
#
# # 2. Captions by Phi-3 Vision
#
# **From a photo and a prompt to a sentence, for every photo of the catalogue; and a close look at what can go wrong: a model that reads what is printed on a shirt, and says it.** Core notebook.
#
# | | |
# |---|---|
# | **You will** | take Phi-3 Vision apart, watch it write a description word by word, let it describe the catalogue in batches, and measure how often it repeats printed words |
# | **You need** | [notebook 01](01_dataset.ipynb); for the profile `full` a GPU with 15 GB. Without one you still see how everything works, and go on with template descriptions |
# | **Time and cost** | laptop, `mini`: under a minute ([measured](../benchmarks/results/mini-cpu-course.json)), nothing to download · `full`: 8.3 GB to download once (calculated); the time depends on the GPU (one has been [measured](../benchmarks/results/full-nvidia-h200-captioning-random-weights.json), with random weights), so section 4.2 tells it for yours before you start |

# %% [markdown]
# **Contents**
#
# 1. What Phi-3 Vision is made of
# 2. Prompt I
# 3. One caption, step by step
# 4. Many at once
# 5. The whole catalogue
# 6. The OCR problem
# 7. Distillation: may we train on these sentences?
# 8. Save the dataset
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
profile = setup("02", PROFILE)

# %%
import math
import time
from datetime import timedelta
from itertools import groupby
import pandas as pd
import torch
from PIL import Image

from moda_utils import check, plots, require, show_figure
from moda_utils.catalog import load_catalog, open_photo
from moda_utils.device import best_device, best_dtype, free_memory, load_checkpoint

# %% [markdown]
# Everything starts from the catalogue that notebook 01 has checked. (Missing? `catch_up("02")` makes it.)

# %% tags=["nbval-check-output"]
catalog = load_catalog(require(profile.catalog_path, "01"))
items = catalog.frame
print(f"{len(items)} items, {items.image_sha256.nunique()} different photos")

# %% [markdown]
# ## 1. What Phi-3 Vision is made of
#
# [Phi-3 Vision](https://huggingface.co/microsoft/Phi-3-vision-128k-instruct) is a language model, Phi-3, that has learnt to see. Four parts stand in a row:
#
# 1. the photo is cut into **tiles**;
# 2. a **CLIP tower** turns each tile into vectors, one per patch of pixels;
# 3. neighbouring vectors are **merged** and **projected** to the size of the decoder's own;
# 4. the **decoder** reads them as if they were words, and then writes.
#
# The model that we train ourselves, from [notebook 04](04_model_assembly.ipynb) on, has the same order: encoder, projection, decoder. The whole of this one stands in `moda_utils/phi3_vision.py`.

# %% cellView="form"
# @title Figure: from a photo to places of the prompt { display-mode: "form" }
show_figure("tiles")

# %% [markdown]
# ### 1.1 Tiles
#
# The CLIP tower takes squares of a fixed size. A photo shrunk to one such square loses its small print, so Phi-3 Vision looks twice: at the whole photo in one square, the *global view*, and at the photo enlarged and cut into several. Here with the public checkpoint's squares of 336 pixels, and at most 4 tiles, as in `full`:

# %%
from moda_utils.phi3_vision import CLIP_MEAN, CLIP_STD, Phi3VisionImageProcessor

shirts = items[items.product_type == "Tshirts"]
item = (shirts if len(shirts) else items).sample(1, random_state=0).iloc[0]
photo = open_photo(catalog.root / item.image)
real = Phi3VisionImageProcessor(num_crops=4, tile_size=336, patch_size=14)
tiles, (rows, columns) = real(photo)
print(f"{item.title}: {photo.width} x {photo.height} pixels")
print(f"{rows} x {columns} tiles + 1 global view: {tuple(tiles.shape)}")


# %% [markdown]
# A tensor of tiles, the global view first. Turned back into pictures:

# %%
def spread(tiles: torch.Tensor, rows: int, columns: int, gap: int = 10) -> Image.Image:
    """Tiles (N, 3, S, S) as one picture, framed, with gaps where the photo was cut."""
    pixels = ((tiles * CLIP_STD + CLIP_MEAN).clamp(0, 1) * 255).byte()
    step = tiles.shape[-1] + gap
    picture = Image.new("RGB", (columns * step + gap, rows * step + gap), plots.SKY)
    for place, tile in enumerate(pixels.permute(0, 2, 3, 1).numpy()):  # (S, S, 3)
        row, column = divmod(place, columns)
        picture.paste(Image.fromarray(tile), (gap + column * step, gap + row * step))
    return picture

overview, details = spread(tiles[:1], 1, 1), spread(tiles[1:], rows, columns)
height = 5.6 * rows / (columns + 1) + 0.7
widths = [overview.width, details.width]
made, axes = plots.figure(1, 2, height=height, width_ratios=widths)
for axis, picture in zip(axes.flat, (overview, details)):
    axis.imshow(picture)
    axis.set_title("global view" if picture is overview else f"{rows} x {columns} tiles")
    axis.axis("off")
plots.stamp(made, profile, 1, "cut as for the full-size model")
made

# %% [markdown]
# The photo keeps its proportions: what is missing to make whole tiles is filled with white.
#
# ### 1.2 How many places a photo takes
#
# In the prompt, each vector of the photo will take the place of one word. A tile has 24 x 24 patches; merging 2 x 2 neighbours leaves 12 x 12 vectors. The decoder reads them row by row, as one long line, so one more vector (orange) marks the end of each row. Here is the global view:

# %%
made, axes = plots.figure(1, 2, height=4)
names = ("24 x 24 patches", "12 x 12 places + 12 row ends")
for axis, step, name in zip(axes.flat, (14, 28), names):
    axis.imshow(spread(tiles[:1], 1, 1, gap=0))
    axis.hlines(range(0, 337, step), 0, 336, color=plots.BLUE, linewidth=0.5)
    axis.vlines(range(0, 337, step), 0, 336, color=plots.BLUE, linewidth=0.5)
    axis.set(title=name, xlim=(-2, 372))
    axis.axis("off")
for row in range(12):
    axes[0, 1].broken_barh([(342, 26)], (28 * row + 1, 26), color=plots.ORANGE)
plots.stamp(made, profile, 1, "cut as for the full-size model")
made


# %% [markdown]
# The tiles are laid side by side again and read as one large picture in the same way. One last vector separates the tiles from the global view. So the number of places follows from the grid:

# %% tags=["nbval-check-output"]
def places(rows: int, columns: int, side: int = 12) -> int:
    tiles = rows * side * (columns * side + 1)
    global_view = side * (side + 1)
    return tiles + 1 + global_view

grids = [(rows, columns) for rows in range(1, 5) for columns in range(1, 5)]
same = all(places(*grid) == real.num_tokens(*grid) for grid in grids)
print("same as moda_utils:", same)

# %% [markdown]
# More tiles show more detail and cost more: the decoder's work grows with every place. The public checkpoint allows 16 tiles (*crops*) unless told otherwise; this course uses 4 in `full`.

# %% tags=["nbval-check-output"]
for crops in (1, 4, 16):
    cutter = Phi3VisionImageProcessor(num_crops=crops)
    for size in (photo.size, (480, 480), (1200, 300)):
        rows_, columns_ = cutter.grid(*size)
        print(f"at most {crops:2} tiles, photo {size[0]:4} x {size[1]:3}: "
              f"{rows_} x {columns_} tiles, {places(rows_, columns_):4} places")

# %% [markdown]
# And the captioner of this profile? Its settings come with its tokenizer in one *processor*, a few small files:

# %% tags=["nbval-check-output"]
from moda_utils.phi3_vision import Phi3VisionProcessor

crops = profile.num_crops
processor = load_checkpoint(Phi3VisionProcessor, profile.captioner, num_crops=crops)
here = processor.image_processor
grid = here.grid(*photo.size)
print(f"here: tiles of {here.tile_size} pixels, at most {here.num_crops}; this photo: "
      f"{grid[0]} x {grid[1]}, {here.num_tokens(*grid)} places")

# %% [markdown]
# ### 1.3 From pixels to the decoder's vectors
#
# PyTorch can run a model on the *meta* device: it computes shapes, but no numbers, and needs no memory for weights. So any laptop can send a photo through the full-size Phi-3 Vision and see what becomes of it.

# %% tags=["nbval-check-output"]
from moda_utils.phi3_vision import Phi3VisionConfig, Phi3VisionForConditionalGeneration

def skeleton(config: Phi3VisionConfig) -> Phi3VisionForConditionalGeneration:
    with torch.device("meta"):
        return Phi3VisionForConditionalGeneration(config)

large = skeleton(Phi3VisionConfig())  # the defaults are the public checkpoint's
eye = large.model.vision_embed_tokens
pixels = tiles.to("meta")
patches = eye.encode(pixels)
cells = eye.merge(patches)
vectors = eye(pixels[None], torch.tensor([[rows, columns]]))  # all steps, for one photo
steps = {"tiles": pixels, "CLIP tower": patches, "2 x 2 merge": cells,
         "projection": eye.img_projection(cells), "with row ends": vectors}
for name, tensor in steps.items():
    print(f"{name:14} {tuple(tensor.shape)}")


# %% [markdown]
# The last line is what the decoder gets: as many rows as the photo has places, each as long as the embedding of a word.
#
# The merge throws nothing away. It lays four neighbours end to end, so that there are a quarter as many vectors, each four times as long. Written out:

# %%
def merge(patches: torch.Tensor) -> torch.Tensor:
    """(H, W, C) -> (H / 2, W / 2, 4 C)"""
    above, below = patches[0::2], patches[1::2]  # (H / 2, W, C)
    four = [above[:, 0::2], above[:, 1::2], below[:, 0::2], below[:, 1::2]]
    return torch.cat(four, dim=-1)


# %% [markdown]
# On a tiny tile of 4 x 4 patches that are numbered:

# %% tags=["nbval-check-output"]
numbered = torch.arange(16).view(4, 4, 1)
print(numbered[..., 0])
print(merge(numbered))
same = eye.merge(numbered.flatten(0, 1)[None])[0]  # takes tiles as (N, H * W, C)
print("same as moda_utils:", torch.equal(merge(numbered), same))


# %% [markdown]
# ### 1.4 Where the weights are
#
# Count the parameters of each part, in the public model and in the captioner of this profile. (In `full` they are the same.)

# %% tags=["nbval-check-output"]
def count(part: torch.nn.Module) -> int:
    return sum(weights.numel() for weights in part.parameters())

small = skeleton(load_checkpoint(Phi3VisionConfig, profile.captioner))
for name, model in (("Phi-3 Vision", large), ("captioner here", small)):
    tower = count(model.model.vision_embed_tokens.img_processor)
    projection = count(model.model.vision_embed_tokens.img_projection)
    decoder = count(model) - tower - projection
    print(f"{name:14} CLIP tower {tower:11,}   projection {projection:10,}   decoder {decoder:13,}")

# %% [markdown]
# In the public model nearly all of it is decoder: the sentences come from a language model that has read far more than captions.
#
# ## 2. Prompt I
#
# What the decoder writes depends on what it reads first. This is the course's first prompt, word for word as the original MODA used it. (Only the line breaks are made to fit the page.)
#
# > **What we do differently from the original guide.** Its text describes this step and the next, its notebook leaves both out and trains on sentences made of the catalogue's columns. Here both steps are code, and every answer has a status.

# %% tags=["nbval-check-output"]
from textwrap import fill

from moda_utils.captioning import PROMPT_I

def show_text(text: str) -> None:
    paragraphs = [part.strip() for part in text.split("\n\n") if part.strip()]
    print(*(fill(part, 88) if part[0].isalpha() else part for part in paragraphs), sep="\n\n")

task, rest = PROMPT_I.split("Exemple 1:")
show_text(task)

# %% [markdown]
# * At `<|image_1|>` the vectors of the photo go.
# * "Focus solely on the item": some photos show a person wearing it, but the catalogue sells the shirt.
# * "gender, category, … color, and usage": the list of what has to be said. These columns stand in the catalogue, too, so we can check the answers.

# %% tags=["nbval-check-output"]
examples, wishes = rest.split("Please ensure")
show_text("Exemple 1:" + examples)

# %% [markdown]
# Three examples show length, tone and order better than any rule could. Asking by example is called *few-shot prompting*.

# %% tags=["nbval-check-output"]
show_text("Please ensure" + wishes)

# %% [markdown]
# * "Do not write the text that is in the image": a wish. Section 6 measures whether it is granted.
# * `<|end|>` closes the turn, and after `<|assistant|>` it is the model's.
#
# All of it on one page:

# %%
show_figure("prompt_1")

# %% [markdown]
# The prompt is kept as it is, spelling included ("Exemple"): captions are filed under the *hash* of their prompt (a number computed from its letters), and a better spelling would be another prompt.
#
# ### 2.1 The prompt as numbers
#
# A model reads *tokens*, words or pieces of words, by their numbers, the *ids*. At the photo's places the ids are *negative*: no word has such an id, so each marks a place for a vector of the photo.

# %% tags=["nbval-check-output"]
encoded = processor.encode(PROMPT_I, photo)
for of_photo, run in groupby(encoded[0], key=lambda number: number < 0):
    run = list(run)
    if of_photo:
        print(f"{len(run):4} places for the photo, all with id {run[0]}")
    else:
        text = processor.tokenizer.decode(run)
        print(f"{len(run):4} ids of text, from {text[:16]!r} to {text[-13:]!r}")


# %% [markdown]
# Text, photo, text. Each piece of text starts with `<s>`, the token for a beginning, because the model has been trained that way. (In `mini` the numbers are small: its tokenizer knows each sentence of Prompt I by heart, as one token, which keeps a small model quick. The real one cuts the same text into a few hundred pieces.)
#
# ## 3. One caption, step by step
#
# ### 3.1 Does the model fit?
#
# Before you load a model, do the arithmetic. Its weights take *parameters times bytes per parameter*. While it writes, it keeps two vectors per layer and place, *keys* and *values*, so as not to compute them again with each word: the **cache**.

# %%
def cache_bytes(config: Phi3VisionConfig, places: int, bytes_each: int) -> int:
    head = config.hidden_size // config.num_attention_heads
    vector = config.num_key_value_heads * head  # a key, and a value, of one layer
    return 2 * vector * config.num_hidden_layers * places * bytes_each


# %% [markdown]
# In two number formats, with the photo from above:

# %% tags=["nbval-check-output"]
for name, bytes_each in (("float32, any CPU", 4), ("16 bit, a GPU", 2)):
    weights = large.num_parameters() * bytes_each
    per_photo = cache_bytes(large.config, real.num_tokens(rows, columns), bytes_each)
    print(f"Phi-3 Vision in {name:16}: {weights / 1e9:4.1f} GB of weights, "
          f"{per_photo / 1e9:.1f} GB of cache for each photo")

# %% [markdown]
# A T4, the GPU that Colab gives for free, leaves 15 GB to a program. In 16 bit the weights fit, and some photos at a time; in 32 bit they don't. How much is needed and how much is free here?

# %%
from moda_utils.answers import needed_bytes

device, dtype = best_device(), best_dtype()
needed = needed_bytes(Phi3VisionForConditionalGeneration, profile.captioner, dtype)
print(f"The captioner needs {needed / 1e6:,.0f} MB in {dtype}; "
      f"{free_memory(device) / 1e6:,.0f} MB are free on {device}.")

# %% [markdown]
# `Captioner.load` compares the same two numbers before it loads anything. If the model doesn't fit, it says so, and this notebook goes on without it: cells that need the model are skipped, and the dataset keeps the template descriptions of notebook 01.

# %%
from moda_utils.captioning import Captioner

SKIPPED = "Skipped: there is no captioner here, see section 3.1."
try:
    captioner = Captioner.load(profile)
    print(f"Loaded: {count(captioner.model):,} parameters on {captioner.model.device}")
except RuntimeError as reason:
    captioner = None
    print(f"Going on without a captioner. {reason}")

# %% [markdown]
# One more thing to know before reading any caption: has this captioner ever seen such photos?

# %%
if count(small) < 1e9 and profile.data_label == "real":
    print("No. It is a small model that has only ever seen drawings. These photos are real.\n"
          "Expect well-formed sentences about the wrong thing. All steps below run as with\n"
          "Phi-3 Vision, but no number below says anything about the quality of captions.")
else:
    print("This captioner was made for photos of this kind.")

# %% [markdown]
# ### 3.2 The first word
#
# The model's output is a probability for every token of its vocabulary: which one comes next? For the first place after the prompt:

# %%
if captioner is None:
    print(SKIPPED)
else:
    inputs = processor.collate([encoded]).to(captioner.model.device)
    with torch.inference_mode():
        logits = captioner.model(**inputs).logits[0, -1]  # (vocabulary,)
    best = logits.float().softmax(-1).topk(3)
    for chance, number in zip(best.values.tolist(), best.indices.tolist()):
        print(f"{chance:8.3%}  {processor.tokenizer.decode([number])!r}")


# %% [markdown]
# Three examples in JSON leave little choice: expect an opening brace far ahead of everything else. (In `mini`, the start of the JSON is one token of its own, `{"description": "`.)
#
# ### 3.3 Word by word
#
# Writing means: take the most probable token, append it, ask again. This is *greedy decoding*. It has no dice in it, so the same photo always gets the same caption. Thanks to the cache, the photo and the prompt are read only once; after that each step is given one new token.

# %%
@torch.inference_mode()
def write(encoded, longest: int = 128) -> list[tuple[int, float]]:
    """Token ids of the answer, greedily, each with its probability."""
    inputs = processor.collate([encoded]).to(captioner.model.device)
    written = []
    while len(written) < longest:
        out = captioner.model(**inputs, use_cache=True)
        chance, number = out.logits[0, -1].float().softmax(-1).max(-1)
        written.append((number.item(), chance.item()))
        if number in processor.stop_ids:
            break
        cache = out.past_key_values
        inputs = {"input_ids": number.view(1, 1), "past_key_values": cache}
    return written


# %% [markdown]
# Look at the probabilities. Where is the model sure, and where could it as well have said something else?

# %%
answer = write(encoded) if captioner else []
for number, chance in answer:
    bar = "#" * round(30 * chance)
    print(f"{chance:5.2f} {bar:30} {processor.tokenizer.decode([number])!r}")
if not captioner:
    print(SKIPPED)

# %% [markdown]
# Many steps are certain: a word that has begun must end, and JSON must close. Doubt sits where there is a choice, between attributes that the photo doesn't settle or between two ways to say the same.
#
# The last token is `<|end|>`, one of several that stop the answer. The public checkpoint's own configuration names just one, and [not the one that the model writes](https://github.com/microsoft/onnxruntime-genai/issues/571); our processor names four.
#
# `Captioner` does the same, a little faster. And the photo beside it:

# %%
if captioner:
    begin = time.perf_counter()
    (whole,) = captioner([captioner.prepare(photo)])
    seconds_each = time.perf_counter() - begin
    (text,) = processor.batch_decode(torch.tensor([[number for number, _ in answer]]))
    print("same as moda_utils:", text.strip() == whole.text)
    print(f"{seconds_each:.2f} seconds")
raw = whole.text if captioner else SKIPPED
plots.photo_grid([photo], [raw], profile=profile, columns=3, n=1)

# %% [markdown]
# ### 3.4 From the answer to a description
#
# The answer is text that should be JSON. Models mostly manage, but not always: they may add a greeting, forget a brace, or never stop. `parse_answer` returns the description and a *status*. *Predict first: which of these five would you still accept?*

# %% tags=["nbval-check-output"]
from moda_utils.answers import parse_answer

for text, ended in [
    ('{"description": "A red shirt for boys."}', True),
    ('Sure: {"description": "A red shirt for boys."} Enjoy!', True),
    ('{"description": "A red shirt for boys."', True),
    ('{"description": "A red shirt for', False),  # cut off: too long
    ("I see a red shirt.", True),
]:
    print(parse_answer(text, ended), "<-", text)

# %% [markdown]
# `ok` is perfect JSON, `repaired` had to be found or mended, `failed` has no description. Half a sentence would look like a description, so an answer that was cut off is never mended. A failed answer is kept with its raw text.
#
# ## 4. Many at once
#
# A GPU that writes one caption is mostly waiting: for every token, all weights have to be fetched from memory, and they would serve sixteen captions as well as one. So captions are written in **batches**.
#
# ### 4.1 Why the padding stands on the left
#
# In a batch all rows must be of one length, and prompts aren't: photos of another shape have more places, prompts more words. Short rows are filled with padding. See on which side:

# %% tags=["nbval-check-output"]
SHORT = "<|user|>\n<|image_1|>\nDescribe the item.<|end|>\n<|assistant|>\n"
pair = processor([(PROMPT_I, photo), (SHORT, photo)])
print("input_ids", tuple(pair["input_ids"].shape))
for mask in pair["attention_mask"].tolist():
    print(" + ".join(f"{len(list(run))} x {bit}" for bit, run in groupby(mask)))

# %% [markdown]
# In the mask, 0 is padding and 1 is something to look at. New words are appended on the right, to all rows at the same place. If the padding stood there, the short row would have to go on after a row of blanks. On the left it disturbs nobody: the mask hides it.
#
# ### 4.2 What it brings
#
# The same photos, one by one and in a batch. The texts should be the same, the time should not.

# %%
if captioner is None:
    print(SKIPPED)
else:
    few = items.sample(min(len(items), 16 if seconds_each < 5 else 2), random_state=1)
    prepared = [captioner.prepare(catalog.root / name) for name in few.image]
    begin = time.perf_counter()
    singly = [captioner([one])[0] for one in prepared]
    middle = time.perf_counter()
    together = captioner(prepared)
    end = time.perf_counter()
    same = sum(one == other for one, other in zip(singly, together))
    print(f"{same} of {len(few)} texts are the same")
    print(f"one by one: {len(few) / (middle - begin):5.1f} photos/s")
    print(f"in a batch: {len(few) / (end - middle):5.1f} photos/s")
    print(f"fit at once: {captioner.batch_size()} photos")

# %% [markdown]
# (In 16 bit a text may differ: where two words are about equally probable, rounding decides.) The batch size is computed from the free memory, as in section 3.1; should the memory run out all the same, it is halved and the batch tried again.
#
# > **In `mini`:** prompts and answers are short, so most of the time goes into starting small operations, and a batch starts them once for all its rows.
# >
# > **With real weights:** on a GPU expect the gain described above ([measured](../benchmarks/results/full-nvidia-h200-captioning-random-weights.json) on one large GPU, with random weights of the real size; there, batches gained less with 16 tiles a photo than with 4: there was more to read, and a batch held fewer photos). On a CPU expect next to none: reading photo and prompt takes nearly all the time, and a batch does not shorten it ([measured](../benchmarks/results/full-cpu-captioning-random-weights.json) with random weights and fewer layers).
#
# How long will the catalogue take at this pace?

# %% tags=["measured"]
if captioner is None:
    print(SKIPPED)
else:
    for number in (60, 600, items.image_sha256.nunique()):
        duration = timedelta(seconds=math.ceil(number * (end - middle) / len(few)))
        print(f"{number:5} photos: about {duration} (h:mm:ss)")

# %% [markdown]
# ## 5. The whole catalogue
#
# Now choose how many. "auto" takes as many (60, 600 or all) as can be done in a quarter of an hour at this pace, and starts nothing where even 60 would take longer. Start small if you like and raise the number later: finished photos are kept in `captions.jsonl`. Killed? Run the cell again, after a lost session the cells above it first.

# %%
HOW_MANY = "auto"  # @param ["auto", "60", "600", "all"]
from moda_utils.captioning import caption_catalog, captions_journal

journal = captions_journal(profile)
choices = {"60": 60, "600": 600, "all": len(items)}
if captioner:
    pace = (end - middle) / len(few)  # seconds per photo
    quick = max([number for number in choices.values() if number * pace < 900], default=0)
    number = choices.get(HOW_MANY, quick)
    print(caption_catalog(catalog, captioner, journal, number) if number else
          f"Not started: 60 photos would take {timedelta(seconds=math.ceil(60 * pace))} here. Choose "
          "60 yourself to start, or go on: the template descriptions are there.")
else:
    print(SKIPPED)

# %% [markdown]
# Equal photos were asked once: that is what "copied" means. Rows of another model or prompt stay in the file and are left alone.

# %%
fields = ["product_id", "image_sha256", "raw", "description", "status"]
answers = pd.DataFrame(journal.done().values(), columns=fields)
captions = items.merge(answers, on=["product_id", "image_sha256"])
print(f"{len(captions)} of {len(items)} items have an answer")
for status in ("ok", "repaired", "failed"):
    print(f"{(captions.status == status).sum():5} {status}")
for row in captions[captions.status == "failed"].head(5).itertuples():
    print(f"failed: {row.product_id}: {row.raw[:100]}")

# %% [markdown]
# Items that failed, and items that nobody asked about yet, keep their template description. Now look, before you count anything. Would you have said the same?

# %%
described = captions[captions.description.notna()].reset_index(drop=True)

def show(rows: pd.DataFrame, title: str = ""):
    paths, texts = [catalog.root / name for name in rows.image], list(rows.description)
    return plots.photo_grid(paths, texts, profile=profile, title=title, n=len(described))
sample = described.sample(min(12, len(described)), random_state=0)
show(sample) if len(sample) else print("no captions to show")

# %% [markdown]
# Compare them with the templates of notebook 01. Do they vary, and do they mention what no column holds, such as sleeves, stripes, a bow? That is why we asked.
#
# ## 6. The OCR problem
#
# Phi-3 Vision was trained to read: documents, tables, charts, screenshots. *Optical character recognition* (OCR) is one of its strengths.
#
# For a shop this is a fault. For the small model that we want to train, it is worse: our encoder turns a photo into one vector, in which hardly a letter survives. Taught with such captions, it would learn to *invent* words. Starting here? Run the setup cell, then the next one.

# %% tags=["start-here"]
import pandas as pd

from moda_utils import plots, require, show_figure
from moda_utils.captioning import captions_journal
from moda_utils.catalog import load_catalog

catalog = load_catalog(require(profile.catalog_path, "01"))
items, fields = catalog.frame, ["product_id", "image_sha256", "description"]
captions = items.merge(pd.DataFrame(captions_journal(profile).done().values(), columns=fields))
described = captions[captions.description.notna()].reset_index(drop=True)

def show(rows: pd.DataFrame, title: str = ""):
    paths, texts = [catalog.root / name for name in rows.image], list(rows.description)
    return plots.photo_grid(paths, texts, profile=profile, title=title, n=len(described))


# %% [markdown]
# In one picture:

# %%
show_figure("ocr")

# %% [markdown]
# ### 6.1 Find the leaks
#
# How do we know that a word was read off the photo? The drawn catalogue comes with a list of what is printed on which shirt; a caption **leaks** if it holds that word. For real photos nobody has made such a list. There we look for signs: quotation marks, "text", "reads", "logo", runs of capitals, and the brand from the title, which the model could only have got from the photo.

# %%
from moda_utils.evaluation import printed_words, score

printed = printed_words(catalog.root)  # {product_id: word}, or None: nobody noted them

def leaks(row: pd.DataFrame) -> bool:
    """Does this caption (a table of one row) repeat what is written on its photo?"""
    found = score(list(row.description), row, printed=printed, resamples=1)
    return bool(found["ocr_leakage"]["value"])

marks = [leaks(described.iloc[[place]]) for place in range(len(described))]
leaking = described[pd.Series(marks, dtype=bool)]
print(f"{len(leaking)} captions leak, of {len(described)}")
for row in leaking.head(5).itertuples():
    print(f"  {printed[row.product_id] if printed else row.title}: {row.description}")

# %% [markdown]
# Beside their photos:

# %%
shown = leaking.sample(min(8, len(leaking)), random_state=0)
show(shown, "Captions that repeat printed words") if len(shown) else print("no leak found")

# %% [markdown]
# ### 6.2 How often
#
# *Predict first: in how many captions of photos with print does the word come back, although the prompt forbids it?* A rate is worth as much as its sample. The interval says between which bounds the rate over all such photos probably lies; if it is wide, raise `HOW_MANY`. (One thing it can't do: if *every* photo leaks, all resamples agree, and the interval shrinks to a point.)

# %%
if len(described):
    result = score(list(described.description), described, printed=printed)
    leakage = result["ocr_leakage"]
    base = "photos with print" if printed else "captions"
    print(f"leakage, judged by {leakage['by']}")
    if leakage["n"]:
        print(f"{leakage['value']:.0%} of {leakage['n']} {base} "
              f"(95 % interval: {leakage['low']:.0%} to {leakage['high']:.0%})")
else:
    print("no captions to judge")

# %% [markdown]
# The two ways to judge can't be compared. Against a list of words, the rate is a share of the photos that *have* print. By signs, it is a share of all captions, with false alarms and misses (a slogan in small letters).
#
# > **In `mini`:** the small captioner says what it reads because nearly all answers that it was trained on did so; that was our choice. It had to learn the reading itself, off the pixels: it knows the twenty words that drawn shirts carry, and takes any other word for one of them. So the rate above tells how well *it reads*.
# >
# > **With real weights:** Phi-3 Vision was trained to read documents, so it knows far more words. The original guide shows one caption that repeats a print; how often that happens, nobody has measured yet.
#
# And the photos with print whose caption does *not* leak? Either the model could not read the word, or it obeyed. Misread words show which:

# %%
with_print = described[described.product_id.isin(printed or {})]
silent = with_print[~with_print.product_id.isin(leaking.product_id)].head(4)
show(silent, "Print, but no leak") if len(silent) else print("none, or nobody knows")

# %% [markdown]
# The opposite fault is worse: a word on a photo that has none. Where the list of printed words exists, such *hallucinations* are easy to find: quotation marks, but no print.

# %%
without = described[~described.product_id.isin(printed or {})]
invented = without[without.description.str.contains('"')] if printed else without.head(0)
print(f"{len(invented)} of {len(without)} photos without print" if printed else "nobody knows")
show(invented.head(4), "A word that is not there") if len(invented) else None

# %% [markdown]
# ### 6.3 What else is wrong
#
# Leaks aside, do the captions state the right colour, type, gender and usage? We read these out of each sentence and compare them with the catalogue ([notebook 06](06_evaluation.ipynb) explains how). The template is hatched: it was written from the answers and can't be wrong.

# %%
from moda_utils.dataset import template_description
from moda_utils.evaluation import majority_descriptions

if len(described):
    templates = [template_description(row) for row in described.to_dict("records")]
    texts = {"captions": list(described.description), "template": templates,
             "majority": majority_descriptions(items, described)}
    criteria = {name: score(said, described)["criteria"] for name, said in texts.items()}
    figure = plots.bars_with_intervals(
        criteria, profile=profile, n=len(described), ceilings=["template"])
figure if len(described) else print("no captions to judge")

# %% [markdown]
# *Majority* is one sentence for all, made of the most frequent values. A criterion on which the captions are hardly above it deserves suspicion: either the model can't see it, or the photo doesn't show it. Whether a shirt is for boys or girls, the catalogue knows, and a real photo often doesn't show it.
#
# So the captions have two faults, and one remedy: a second model that gets the caption *and the catalogue's row*, takes out what was read, and lets the row win. That is [notebook 03](03_phi3_instruct_refinement.ipynb).
#
# ## 7. Distillation: may we train on these sentences?
#
# That a large model teaches a small one is called **distillation**. The classic form compares the probabilities of both, word by word. We use the plainer form: the *teacher* writes sentences, the *student* learns to write the same ones. Nothing of the teacher is needed but its answers. The original guide calls this *data-free*: nobody annotated a photo, and the data that the teacher was trained on are not needed. Photos are.
#
# Not every teacher may be used like this: many commercial services forbid training competing models on their answers. Phi-3 Vision comes under the **MIT licence**, which sets no such condition. That is the reason for this choice of teacher. Two things no licence of a model settles: the rights in the *photos*, and whether what the teacher says is *true*.
#
# | | Licence | What it means here |
# |---|---|---|
# | Phi-3 Vision, Phi-3 Instruct | MIT | captions may be used as training data |
# | photos of `full` (Kaggle) | not established: look at the page of the set | train for yourself; ask before you publish them |
# | photos of `mini` | MIT, drawn by the course | do what you like |
#
# ## 8. Save the dataset
#
# `dataset/` is written again, now with the column `description_raw` beside the template. [Notebook 05](05_training.ipynb) has a field `CAPTIONS` to choose what to train on; where an item lacks that text, the next one stands in.

# %%
from moda_utils.dataset import load_dataset_dir, texts_of, write_dataset

models = {"raw": f"{journal.key['model']} with prompt {journal.key['prompt_sha']}"}
texts = texts_of(catalog, raw=journal.done())
write_dataset(catalog, texts, profile.dataset_dir, models)
dataset = load_dataset_dir(profile.dataset_dir)
for name, part in dataset.items():
    raw = sum(text is not None for text in part["description_raw"])
    print(f"{name:10} {part.num_rows:4} items, {raw:4} with a caption")

# %% [markdown]
# Each row has room for three texts. The third waits for notebook 03. (If you have run that one already, run its last section again: the dataset was just rewritten without it.)

# %% tags=["nbval-check-output"]
columns_ = dataset["train"].column_names
print([name for name in columns_ if name.startswith("description_")])
complete = all(all(part["description"]) for part in dataset.values())
print("every item has a text to train on:", complete)

# %% [markdown]
# ## What we learned
#
# * **A photo becomes words.** Tiles, CLIP tower, merge, projection: at the end stand vectors of the decoder's own size, at places that a negative id has kept free.
# * **Do the arithmetic first.** Weights and cache decide what fits, before anything is downloaded.
# * **Greedy decoding is a short loop**: ask, take the most probable token, append it. A batch makes it fast where fetching the weights or starting each step is what costs, if the padding stands on the left.
# * **Parse, count, keep.** Every answer has a status and its raw text.
# * **A prompt is a wish.** Measure whether it is granted.
# * **The licence of the teacher decides** whether a student may learn from it.

# %% [markdown]
# ## Exercises
#
# Each has a call of `check`: it says what answer it wants, and with an answer, whether that is right. Solutions: [02_solutions](solutions/02_solutions.ipynb).
#
# **1 (easy). Edit the prompt.** Ask for the opposite, for a poem, for another language, or for a single word. What does the model follow, and what does it do out of habit?
#
# > **In `mini`:** the small captioner was trained with the prompt in many wordings, but always with the same kind of answer. So it goes on describing, whatever you write, and can follow *no* instruction. It has learnt a habit, not to obey.
# >
# > **With real weights:** Phi-3 Vision was trained on many kinds of instructions, so expect it to follow some of your edits; which, nobody has measured yet.

# %%
check("02.1")
EDITED = PROMPT_I.replace("Do not write the text", "Quote every word of the text")
some = (leaking if len(leaking) else items).head(3)
editor = Captioner(captioner.model, processor, EDITED) if captioner else None
for row in some.itertuples() if captioner else ():
    for name, who in ((row.product_id, captioner), ("edited", editor)):
        print(f"{name:6} {who([who.prepare(catalog.root / row.image)])[0].text}")
if not captioner:
    print(SKIPPED)

# %% [markdown]
# **2 (medium). More tiles.** What do four times as many tiles cost, and what do they bring? First on paper: how many places can a photo take at most, if 16 tiles are allowed? (The cell counts the whole prompt.) Take photos with small print and compare texts and times. With a GPU that leaves 22 GB or more to a program, such as an L4, also try `microsoft/Phi-3.5-vision-instruct` (`dataclasses.replace(profile, captioner=Checkpoint(...))`): the same class loads it.
#
# > **In `mini`:** the captioner was trained with one setting. Before you run the cell: will more tiles help it? Why not?
# >
# > **With real weights:** expect smaller print to be read, and each photo to take longer; nobody has measured either yet.

# %%
check("02.2")
for crops in (profile.num_crops, 4 * profile.num_crops):
    sharper = load_checkpoint(Phi3VisionProcessor, profile.captioner, num_crops=crops)
    print(f"at most {crops} tiles: {len(sharper.encode(PROMPT_I, photo)[0])} places")
    if captioner:
        writer = Captioner(captioner.model, sharper)
        begin = time.perf_counter()
        for name in some.image:
            print("  ", writer([writer.prepare(catalog.root / name)])[0].text)
        print(f"   {(time.perf_counter() - begin) / len(some):.2f} seconds each")

# %% [markdown]
# **3 (hard). No words without a second model.** Could a rule take the leaks out? The one below deletes what stands between quotation marks. Improve it until the leakage is near zero, and check with `score` that it does not take colours and types along. What would your rule do to "a T-shirt that says LOVE"? Another way: forbid the tokens while the model writes (`generate` takes `bad_words_ids`). Which of the two breaks more sentences?

# %%
import re

def without_quotes(text: str) -> str:
    return " ".join(re.sub(r"[\"“].*?[\"”]", "", text).split())

check("02.3", without_quotes)
for change in (str, without_quotes) if len(described) else ():
    result = score([change(text) for text in described.description], described, printed=printed)
    leakage, overall = result["ocr_leakage"]["value"], result["criteria"]["overall"]["value"]
    print(f"{change.__name__:15} leakage {leakage or 0:4.0%}, overall {overall:.2f} of 10")

# %% [markdown]
# ## Further reading
#
# * M. Abdin and others, [Phi-3 Technical Report](https://arxiv.org/abs/2404.14219): the teacher, with a section on Phi-3 Vision and on what it was trained to read.
# * X. Dong and others, [InternLM-XComposer2-4KHD](https://arxiv.org/abs/2404.06512): where the scheme of global view, tiles, row ends and separator was studied.
# * G. Hinton, O. Vinyals, J. Dean, [Distilling the Knowledge in a Neural Network](https://arxiv.org/abs/1503.02531), and Y. Kim, A. Rush, [Sequence-Level Knowledge Distillation](https://arxiv.org/abs/1606.07947): the classic form, and learning from the teacher's sentences.
# * R. Gontijo Lopes and others, [Data-Free Knowledge Distillation for Deep Neural Networks](https://arxiv.org/abs/1710.07535): the term, in its stricter sense.
# * H. Liu and others, [Visual Instruction Tuning](https://arxiv.org/abs/2304.08485): another model that learnt to see from a larger one's texts.

# %% [markdown]
# ## Next
#
# [Notebook 03](03_phi3_instruct_refinement.ipynb) gives the captions and the catalogue's columns to Phi-3 Instruct, which takes the printed words out.

# %% [markdown]
# ## Save and stop
#
# On Colab, everything under `artifacts/` is lost with the runtime, and captions took a GPU's time: keep `captions.jsonl`. Name a folder of your mounted Drive. Then end the runtime (*Runtime > Disconnect and delete runtime*): a GPU that waits is paid for, too.

# %% cellView="form"
# @title Copy the small artefacts to a folder { display-mode: "form" }
KEEP_IN = ""  # @param {type:"string"}
from moda_utils.course import keep
keep(profile, KEEP_IN)
