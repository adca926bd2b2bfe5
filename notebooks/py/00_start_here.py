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
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/00_start_here.ipynb)
#
# # 0. Start here
#
# **Train a model that looks at a photo and says what it sees, in about a minute, and find out afterwards what you did.** Core notebook.
#
# | | |
# |---|---|
# | **You will** | train a small vision-language model, watch it describe photos it has never seen, learn what its parts do, how large its famous relatives are, and what fits on which machine |
# | **You need** | Python and one classifier that you have trained before; no GPU, no account |
# | **Time and cost** | laptop, `mini`: under a minute ([measured](../benchmarks/results/mini-cpu-course.json)), nothing to download · T4 or A100, `full`: a few minutes, 1.3 GB to download (calculated) · CPU, `full`: a quarter of an hour (calculated) |

# %% [markdown]
# **Contents**
#
# 1. Train a vision-language model in one minute
# 2. What you just did
# 3. What vision-language models are
# 4. What fits where
# 5. What you may do with it
# 6. The course
#
# Run the next cell first. It prints what it found: which models and photos are used here (the *profile*), the device, and where results will lie.

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
profile = setup("00", PROFILE)

# %% [markdown]
# ## 1. Train a vision-language model in one minute
#
# No theory yet. Each step below is one short cell; later notebooks take them apart one by one.
#
# ### 1.1 Photos
#
# A catalogue of fashion items: photos, and for each one its colour, product type, the people it is made for, and its use. Each item belongs to one of three *splits*: some to learn from, some to check on while learning, and some, the test split, to see how well it went. A few hundred of the first kind are enough here.

# %% tags=["nbval-check-output"]
from moda_utils.catalog import load_photos, read_catalog

catalog = read_catalog(load_photos(profile))
items = catalog.frame
training = items[items.split == "train"].sample(frac=1, random_state=0).head(480)
checking, unseen = items[items.split == "validation"], items[items.split == "test"]
for use, rows in {"learn": training, "check": checking, "test": unseen}.items():
    print(f"{use:6} {len(rows)} items")

# %%
from moda_utils import plots

def photos(rows):
    return [catalog.root / name for name in rows.image]

plots.photo_grid(photos(training.head(6)), profile=profile, columns=6, n=len(items))

# %% [markdown]
# ### 1.2 Sentences
#
# For every photo the model needs a sentence to learn from. The simplest comes straight from the catalogue:

# %% tags=["nbval-check-output"]
from moda_utils.dataset import template_description

def sentences(rows):
    return [template_description(row) for row in rows.to_dict("records")]

for sentence in sentences(training.head(6)):
    print(sentence)

# %% [markdown]
# ### 1.3 A model of three parts
#
# An image encoder that somebody has trained before, a language model that somebody has trained before, and between them a small network, the *projection*, that nobody has trained yet.

# %%
from moda_utils.training import start_model

model, processor = start_model(profile)
model.eval()
for name, part in model.named_children():
    print(f"{name:15} {sum(weight.numel() for weight in part.parameters()):>11,} parameters")

# %% [markdown]
# The encoder turns each photo into one list of numbers, an *embedding*. It will not change during training, so each photo is encoded once.

# %%
from moda_utils.device import best_device
from moda_utils.features import embed_photos

model.to(best_device())

def see(rows):
    return embed_photos(model, processor.image_processor, photos(rows), rows.image_sha256,
                        profile.features_dir)

print(see(training.head(1)).shape)

# %% [markdown]
# ### 1.4 Before training
#
# Three photos that the model will never be trained on. You will meet them again in later notebooks. What does it say about them now?

# %%
from moda_utils.catalog import same_three

three = same_three(items)

def say(rows):
    ids = model.generate(image_embeds=see(rows).to(model.device))
    return [text.strip() for text in processor.batch_decode(ids, skip_special_tokens=True)]

before = say(three)
plots.before_after(photos(three), {"before": before}, profile=profile)

# %% [markdown]
# The language model can write, more or less, but it can't see: the untrained projection hands it noise. What it writes comes from what it has read before; if some of it fits a photo, that is chance.
#
# > **In `mini`:** its language model has read nothing but descriptions of clothes, so it writes like a shop from the start.
# >
# > **With real weights:** OPT has read all kinds of text; expect sentences that have nothing to do with clothes. Nobody has measured it yet.
#
# ### 1.5 Train
#
# Training means: show the photo, let the model guess the sentence word by word, and change the projection and the language model a little wherever it was surprised. The number to watch is the *loss*, the average surprise per word piece. It should fall.

# %%
import tempfile

from moda_utils.features import Examples
from moda_utils.training import recipe, start_model, train

def examples(rows):
    return Examples(see(rows), sentences(rows), list(rows.product_id))

model, processor = start_model(profile)  # anew, so that this cell can be run again
model.to(best_device())
config = recipe(profile, epochs=12, accumulation=1, snapshot_epochs=())
with tempfile.TemporaryDirectory() as folder:
    history = train(model, processor, examples(training), examples(checking), config, folder)
plots.loss_curves(history, profile=profile, n=len(training))

# %% [markdown]
# ### 1.6 After training
#
# The same three photos, described by the trained model.

# %%
model.eval()
after = say(three)
plots.before_after(photos(three), {"before": before, "after": after}, profile=profile)

# %% [markdown]
# Three photos prove nothing. Let it describe all unseen ones and count: in how many is the colour right, the product type (called *category* here), the gender, and the use (*style*)? *Predict first: which of the four will be right most often, and does that one need a look at the photo?*

# %%
from moda_utils.evaluation import grade

grades = grade(say(unseen), unseen)
for name in ("colour", "category", "gender", "style"):
    print(f"{name:10} right for {(grades[name] == 10).sum():3} of {len(unseen)} unseen photos")

# %% [markdown]
# *Style* can be right often without a look, because most items here have the same use. Is the rest good? It depends on how far one gets without looking, on how many photos that is, and on which mistakes are left. [Notebook 06](06_evaluation.ipynb) answers all three.
#
# > **In `mini`:** drawn photos, and an encoder that was trained on drawings of the same kind: most answers should be right.
# >
# > **With real weights:** the same cells train FashionCLIP and OPT-125M on real photos. Expect sentences that are well formed long before they are right. How many are right after so short a training, nobody has measured yet.
#
# First, what was it that you trained?
#
# ## 2. What you just did
#
# The figure shows the model at its real size; the setup cell chose how large its parts are here.

# %% cellView="form"
# @title Figure: the parts of MODA { display-mode: "form" }
from moda_utils import show_figure
show_figure("04")

# %% [markdown]
# * The **image encoder** is FashionCLIP, or in `mini` a small relative of it. It has learnt which photos and texts belong together, so its embedding of a photo is rich in what words can say. It stays *frozen*.
# * The **projection** turns the embedding into one vector of the size of the language model's word vectors. To the language model the photo looks like a strange word.
# * The **language model** is OPT, or in `mini` a small relative of it. It reads that word and goes on writing, one piece of a word after another, until it writes the sign for the end.
#
# This is **MODA**, the Multimodal Object Description Assistant. Only part of it was changed by training:

# %% tags=["nbval-check-output"]
trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
every = sum(weight.numel() for weight in model.parameters())
print(f"{trained:,} of {every:,} parameters were trained")

# %% [markdown]
# Why can a few hundred photos and a minute be enough at all? Because both halves, trained before, knew their trade. The encoder had learnt from photos and texts what tells items apart (how well that carries over to the photos here, the count above shows), and the language model could already put words in order. What was missing was a translation between them.
#
# ## 3. What vision-language models are
#
# Language models such as [Llama](https://arxiv.org/abs/2302.13971), [Mistral](https://arxiv.org/abs/2310.06825), [ChatGPT](https://openai.com/index/chatgpt/) and [Gemini](https://deepmind.google/technologies/gemini/) write text. A **vision-language model** (VLM) takes in pictures and text and puts out text. Many of the well-known ones are built like yours: a vision encoder and a language model that exist already, and a *connector* that is trained to join them. The picture becomes a few vectors, and these stand in front of the words as if they were words themselves:

# %% cellView="form"
# @title Figure: any vision-language model of this kind { display-mode: "form" }
show_figure("vlm")

# %% [markdown]
# | Model | Vision encoder | Connector | Language model |
# |---|---|---|---|
# | [LLaVA](https://arxiv.org/abs/2304.08485) 7B, 13B | [CLIP](https://arxiv.org/abs/2103.00020) ViT-L/14 | two layers with GELU (in the first version one linear layer) | [Vicuna](https://lmsys.org/blog/2023-03-30-vicuna/) |
# | [MiniGPT-4](https://arxiv.org/abs/2304.10592) 7B, 13B | EVA ViT-g with a Q-Former, which boils the photo down to 32 vectors | linear layer | Vicuna |
# | [PaLI](https://arxiv.org/abs/2209.06794) 3B, 15B, 17B | [ViT](https://arxiv.org/abs/2010.11929)-G or ViT-e | linear layer | [mT5](https://arxiv.org/abs/2010.11934) |
# | [PaliGemma](https://arxiv.org/abs/2407.07726) 3B, after [PaLI-3](https://arxiv.org/abs/2310.09199) | [SigLIP](https://arxiv.org/abs/2303.15343) So400m | linear layer | [Gemma](https://arxiv.org/abs/2403.08295) 2B |
# | **MODA** | [FashionCLIP](https://doi.org/10.1038/s41598-022-23052-9) ViT-B/32 | two layers with GELU | [OPT-125M](https://arxiv.org/abs/2205.01068) |
#
# A *ViT* (Vision Transformer) reads a photo as a row of square patches. *GELU* is the bend between two layers, without which they could do no more than one. [Notebook 4](04_model_assembly.ipynb) shows both.
#
# How large are they, and what of them is trained? (Sizes as the papers state them, rounded; section 4 counts for itself.)

# %% cellView="form"
# @title Figure: five models to scale { display-mode: "form" }
show_figure("landscape")

# %% [markdown]
# The large ones answer questions, read documents and follow instructions. MODA does one thing: it describes fashion items. That is why it may be small, and why you can train all of it yourself and understand every step.
#
# Where do its sentences come from? In section 1 from the catalogue's columns. Later from a large VLM, Phi-3 Vision, which describes each photo in its own words, after which a language model, Phi-3 Instruct, removes what a small model can't learn. A small model that learns from a large one's answers is called *distilled*. On the way from photo to text:

# %% cellView="form"
# @title Figure: where the sentences come from { display-mode: "form" }
show_figure("pipeline")

# %% [markdown]
# ## 4. What fits where
#
# ### 4.1 Count the parameters
#
# A model that doesn't fit ends in an error, after gigabytes of download. The size can be known before: its *configuration*, a few numbers, says how many layers it has and how wide they are. PyTorch can build it on the *meta device*, where a tensor has a shape but no memory. Below are the published configurations of those relatives that the library transformers can build (MiniGPT-4 from the parts of BLIP-2 that it uses). PaLI's weights were never published; for it we take the number in its name. Starting here? Run the setup cell, then the next one.

# %% tags=["start-here"]
import torch
import transformers as hf

from moda_utils import plots
from moda_utils.modeling_moda import ModaConfig

wider = {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40,
         "num_attention_heads": 40, "num_key_value_heads": 40}
vicuna = {"7B": {}, "13B": wider}  # 7B: the sizes of Llama that are the library's default
clip = {"model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096,
        "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 336, "patch_size": 14}
siglip = {"model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304,
          "num_hidden_layers": 27, "num_attention_heads": 16, "image_size": 224,
          "patch_size": 14, "vision_use_head": False}
gemma = {"model_type": "gemma", "hidden_size": 2048, "intermediate_size": 16384,
         "num_hidden_layers": 18, "num_attention_heads": 8, "num_key_value_heads": 1,
         "head_dim": 256, "vocab_size": 257216}
configs = {
    "MODA": ModaConfig(),  # its defaults are FashionCLIP's and OPT-125M's sizes
    "PaliGemma 3B": hf.PaliGemmaConfig(vision_config=siglip, text_config=gemma,
                                       projection_dim=2048),
}
for size, text in vicuna.items():
    text = {"model_type": "llama", "vocab_size": 32064, **text}
    configs[f"LLaVA {size}"] = hf.LlavaConfig(vision_config=clip, text_config=text)
    configs[f"MiniGPT-4 {size}"] = hf.Blip2Config(text_config={**text, "vocab_size": 32000})


# %% tags=["nbval-check-output"]
def parameters(build, config):
    with torch.device("meta"):
        return sum(weight.numel() for weight in build(config).parameters())

counted = {name: parameters(hf.AutoModelForImageTextToText.from_config, config)
           for name, config in configs.items()}
unused = parameters(hf.CLIPTextModelWithProjection, hf.CLIPTextConfig())
for name, number in counted.items():
    print(f"{name:14} {number / 1e9:6.2f} billion")
print(f"MODA with FashionCLIP's text half, which describing doesn't use: "
      f"{(counted['MODA'] + unused) / 1e9:.2f} billion")

# %% [markdown]
# ### 4.2 Multiply
#
# A parameter takes 4 bytes in float32, 2 in bfloat16 and 1 in int8. So the memory for a model's weights is a multiplication. Running it takes some more (a fifth is added below to find a machine that holds it; behind a machine's name stands what it leaves to programs: of a laptop's eight GB the system takes about two); training takes about four times the float32 size, for gradients and the optimizer's two averages.

# %% tags=["nbval-check-output"]
quoted = {"PaLI 3B": 3e9, "PaLI 15B": 15e9, "PaLI 17B": 17e9}  # by its name
sizes = dict(sorted((counted | quoted).items(), key=lambda pair: pair[1]))
machines = {"laptop, 6 GB": 6, "T4, 15 GB": 15, "A100, 40 GB": 40, "A100, 80 GB": 80}
print(f"{'':14} billions            GB: float32  bfloat16  int8   holds it in bfloat16")
for name, size in sizes.items():
    gb = size / 1e9
    enough = [machine for machine, room in machines.items() if room > 1.2 * 2 * gb]
    print(f"{name:14} {gb:6.2f} {'quoted ' if name in quoted else 'counted'}{4 * gb:18.1f}"
          f"{2 * gb:10.1f}{gb:6.1f}   {enough[0] if enough else 'several GPUs'}")

# %% [markdown]
# The same as a picture, for running (bfloat16) and for training (float32 with AdamW). Mind the logarithmic axis: each grid line is ten times the one before.

# %%
figure, axes = plots.figure(height=4.0)
axis, rows = axes[0, 0], range(len(sizes))
for label, bytes_each, shift in (("to run", 2, -0.2), ("to train", 16, 0.2)):
    gb = [bytes_each * size / 1e9 for size in sizes.values()]
    axis.barh([row + shift for row in rows], gb, 0.38, label=label)
for machine, room in machines.items():
    axis.axvline(room, color=plots.GREY, linestyle="--", linewidth=1)
    axis.text(room, -0.75, machine.split(", ")[1], ha="center", fontsize=8)
axis.set(xscale="log", xlabel="GB, weights and training state", yticks=rows,
         ylim=(len(sizes) - 0.4, -0.6))
axis.set_yticklabels(f"{name}, quoted" if name in quoted else name for name in sizes)
axis.xaxis.set_major_formatter("{x:g}")
axis.grid(axis="y", visible=False)
axis.legend(loc="upper right")
figure.supxlabel("real sizes, in every profile; calculated · dashed: memory of machines", x=0.99,
                 ha="right", fontsize=8)
figure

# %% [markdown]
# A large model can be trained on less by freezing parts of it, as we froze the encoder: what is frozen needs neither gradients nor averages. (The picture counts as if everything were trained.) But a model for one narrow task may simply be small. How well a small one does is a question for measurements, and measuring is what most of this course is about.
#
# ## 5. What you may do with it
#
# A model that you train inherits conditions from its parts. Read them before you build on them; this is what we know.
#
# | | Licence | Where it says so |
# |---|---|---|
# | code, texts, drawn photos and small models of this course | MIT | `LICENSE` in the repository |
# | FashionCLIP | MIT | its model card |
# | OPT-125M | a licence of its own, which allows research and no commercial use | its model card (`license: other`, `commercial: false`) and the file `LICENSE.md` beside it |
# | Phi-3 Vision, Phi-3 Instruct | MIT, which sets no condition on what they write | their model cards |
# | photos of the Kaggle set | **not established**: they show products and brands of third parties | read the data set's page; this course never passes them on |
#
# So a MODA built from OPT-125M is for research and for learning. Another language model can take OPT's place (`from_backbones` takes any), and then its licence counts instead.
#
# ## 6. The course
#
# | Notebook | You make |
# |---|---|
# | **0. Start here** | a first model |
# | [**1. Dataset**](01_dataset.ipynb) | a checked catalogue, split without leaks, and a first text for each photo |
# | [**2. Captions**](02_phi3_vision_captions.ipynb) | descriptions by Phi-3 Vision, and a count of the printed words in them |
# | [**3. Refinement**](03_phi3_instruct_refinement.ipynb) | descriptions corrected by Phi-3 Instruct with the catalogue's columns |
# | [**4. Assembly**](04_model_assembly.ipynb) | MODA from its parts, every parameter counted |
# | [**5. Training**](05_training.ipynb) | the trained model, loss curves, a run that survives a disconnect |
# | [**6. Evaluation**](06_evaluation.ipynb) | scores on five criteria with intervals, beside floors and ceilings |
# | [7. Use it](07_use_it.ipynb), an extra | a faster model, a web page, a model card |
# | [8. Ablations](08_ablations.ipynb), an extra | MODA with other projections and recipes: what each choice is worth |
# | [9. Scaling out](09_scaling_out.ipynb), an extra | the same on many GPUs and over many photos |
#
# Notebooks 2 and 3 may be left out: the catalogue's own sentences are enough to go on with.
#
# The course grew out of a public [guide](https://github.com/SVJLucas/TrainingSmallVisionLanguageModels) with one notebook, called the *original* here: the guide describes MODA and its dataset, its notebook trains MODA on sentences made of the catalogue's columns. Boxes named *What we do differently* say where we depart from them, and why.
#
# <details><summary><b>Glossary</b>: the words of this course</summary>
#
# | Word | Meaning |
# |---|---|
# | AdamW | the optimizer: for each weight it keeps two running averages of its gradients |
# | artefact | a file that a notebook leaves for later ones |
# | batch, epoch | the items of one pass through the model; one round over all items |
# | bfloat16, float16 | numbers in two bytes instead of float32's four: less memory, fewer digits |
# | blind | a model trained with the wrong photos: what can be guessed without looking |
# | caption, description | one sentence about one photo; *template*, *raw* or *refined*, by who made it |
# | CLIP | an encoder for photos and one for texts, trained together: what belongs together gets similar embeddings |
# | distillation | a small model (the student) learns what a large one (the teacher) has written |
# | dropout | in training some numbers are set to zero at random, so that the model relies on none of them |
# | embedding | a list of numbers that stands for a photo or a word |
# | encoder | the network that turns a photo into its embedding |
# | F1 | one number for two faults: what was said wrongly, and what was not said |
# | floor, rival, ceiling | what to compare with: who never looks, who looks without writing, who was told the answers |
# | GELU, MLP | a soft bend between two layers; a network of layers with such bends |
# | gradient, its norm | in which direction each weight should move; how strongly, for all of them together |
# | frozen | not changed by training |
# | greedy | always take the most probable next token |
# | group | items that share a photo or a title; they stay in one split |
# | int8 | a number in one byte instead of four |
# | interval | a range, made so that for 95 of 100 such samples it holds the value of all items of this kind together |
# | journal | a file with one line per answer of a model: what is in it is not asked again |
# | label -100 | nothing is asked at this place, so nothing is learnt there |
# | lexicon | the list of words by which a program finds colour, type, gender and use in a sentence |
# | loss | the average surprise per token, also called cross-entropy; training makes it fall |
# | OCR leak | a word that is printed on the item turns up in its description |
# | padding | what fills up the shorter rows of a batch |
# | profile | `mini` or `full`: which models and photos the same cells use |
# | projection, connector | the network between encoder and language model |
# | split | train: to learn from; validation: to choose by; test: to grade at the end, never to choose |
# | token | a word or a piece of one, with a number; `</s>` is the token for the end |
#
# </details>
#
# Every later notebook begins with this map, on which orange marks what it adds:

# %% cellView="form"
# @title Figure: what you have made so far { display-mode: "form" }
show_figure("moda_00")

# %% [markdown]
# `progress()` looks for the files that notebooks leave, and says which comes next. Some leave none: for those it can't tell.

# %%
from moda_utils import progress

progress()

# %% [markdown]
# ### 6.1 Two profiles
#
# All notebooks run in two sizes, with the same cells. **`mini`** runs on any computer without a network: drawn photos, and small models that come with the course. **`full`** uses real photos, FashionCLIP, OPT-125M and Phi-3. The setup cell chooses and says why; to choose yourself, use its form, or set `MODA_PROFILE` before you start Jupyter. A number from `mini` says something about the method, never about MODA.
#
# Where the two differ in what you should expect, a box like the one of section 1.6 says so, and who has measured it. [One list](../README.md#what-has-been-run-with-what) has what was run and what not yet.
#
# ### 6.2 If something goes wrong
#
# * Killed? Begin again at the setup cell, or go from there to a section that says *Starting here?*. From notebook 2 on, long steps go on where they stopped.
# * Something is missing? The setup cell names the notebook that makes it, and `catch_up` makes it for you:

# %%
from moda_utils import catch_up

catch_up("00")

# %% [markdown]
# * Colab complains? [A list of what it says](../README.md#on-colab), and what to do.
# * Your own photos? Point the environment variable `MODA_DATA_DIR` at a folder laid out like the catalogue of notebook 1.

# %% [markdown]
# ## What we learned
#
# * A vision-language model can be **assembled**: encoder, connector, language model.
# * Its image encoder need not be trained. The **projection** learns to make a photo look like a word.
# * Before training it writes without seeing; afterwards its words follow the photo.
# * Memory is **parameters times bytes**; training multiplies it. A configuration is enough to count.
# * A model **inherits the licences** of its parts.
# * A few nice examples prove nothing: count, on photos that were never trained on.

# %% [markdown]
# ## Exercises
#
# Each ends in a call of `check`: it says what answer it wants, and with an answer, whether that is right. Solutions: [00_solutions](solutions/00_solutions.ipynb).
#
# **1 (easy). Look at its mistakes.** The table `grades` holds a reason for every fault. Show six unseen photos that were described wrongly. Would you have known better? Then write a description of the first unseen photo that gets full marks.

# %%
from moda_utils import check

wrong = grades[grades.overall < 10].index[:6]
for index in wrong:
    print(unseen.product_type[index], "|", grades.reason[index])
check("00.1")  # then: check("00.1", "your description")

# %% [markdown]
# **2 (medium). How much does it have to see?** Train on 30, 120 and 480 items with the same number of *steps* (not epochs), at a constant learning rate (`recipe(profile, schedule="constant", learning_rate=5e-4, ...)`), since the recipe lowers it by epochs. What needs the most examples: colour, type, gender or use? Guess before you try.

# %%
for count in (120, 480):
    batches = -(-count // config.batch_size)  # the last batch may be smaller
    print(f"{count:3} items: {batches:2} batches, so {config.epochs:3} epochs are "
          f"{config.epochs * batches:3} steps")
check("00.2")

# %% [markdown]
# **3 (hard). Is it really looking?** Give each photo the embedding of another one, and describe that. What happens to the count of right answers, and why isn't it zero? Which of the four suffers least? (Hint: think of how often two items have the same use.)

# %%
turned = see(unseen).roll(1, dims=0)
ids = model.generate(image_embeds=turned[:3].to(model.device))
print(processor.batch_decode(ids, skip_special_tokens=True))
check("00.3")

# %% [markdown]
# ## Further reading
#
# * F. Bordes and others, [An Introduction to Vision-Language Modeling](https://arxiv.org/abs/2405.17247): the whole field in one readable text.
# * H. Liu and others, [Visual Instruction Tuning](https://arxiv.org/abs/2304.08485): LLaVA, the best-known model of this construction.
# * R. Mokady and others, [ClipCap](https://arxiv.org/abs/2111.09734): CLIP, a small connector and GPT-2; MODA's closest relative.
# * P. Chia and others, [Contrastive language and vision learning of general fashion concepts](https://doi.org/10.1038/s41598-022-23052-9): FashionCLIP.

# %% [markdown]
# ## Next
#
# [Notebook 1](01_dataset.ipynb) looks closely at the photos, and finds what would have spoilt the result.

# %% [markdown]
# ## Save and stop
#
# This notebook leaves nothing that later ones need. On Colab, end the runtime when you stop (*Runtime > Disconnect and delete runtime*): it may cost credits while it idles.

# %% cellView="form"
# @title Copy the small artefacts to a folder { display-mode: "form" }
KEEP_IN = ""  # @param {type:"string"}
from moda_utils.course import keep
keep(profile, KEEP_IN)
