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
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/04_model_assembly.ipynb)
#
# # 4. Model assembly
#
# **Join an image encoder and a language model by a small network, count every parameter, and read what the result says before anybody has trained it.** Core notebook.
#
# | | |
# |---|---|
# | **You will** | follow one photo through MODA, write the decisive steps yourself and compare them with the model, count 280 million parameters, save the model and load it again |
# | **You need** | Python and one classifier that you have trained before; no GPU, no artefact of an earlier notebook |
# | **Time and cost** | laptop, `mini`: under a minute ([measured](../benchmarks/results/mini-cpu-course.json)), nothing to download · CPU, T4 or A100, `full`: about three minutes and 1.3 GB to download (calculated; no GPU is used) |

# %% [markdown]
# **Contents**
#
# 1. Three parts
# 2. The eye: an image encoder
# 3. The voice: a language model
# 4. The bridge: a projection
# 5. One sequence
# 6. What is asked, and the loss
# 7. Every parameter counted
# 8. What it says before training
# 9. Save it, load it
#
# Run the next cell first. It prints what it found, and shows the whole model, at its real size, in one figure.

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
profile = setup("04", PROFILE)

# %% [markdown]
# ## 1. Three parts
#
# MODA is the *Multimodal Object Description Assistant*. Two of its parts exist already, and each knows its trade:
#
# * an **image encoder** that has learnt which photos and texts belong together ([FashionCLIP](https://doi.org/10.1038/s41598-022-23052-9), a [CLIP](https://arxiv.org/abs/2103.00020) trained further on fashion);
# * a **language model** that has learnt which word follows which ([OPT-125M](https://arxiv.org/abs/2205.01068)).
#
# They don't understand each other. The third part, the **projection**, is new, and it is the whole idea: it turns what the encoder sees into something that the language model can read like a word.
#
# Both come in two sizes: the models just named, and for `mini` small relatives of the same architectures, trained by this course on drawings. The cells are the same, and section 7 counts both sizes.

# %%
import torch

from moda_utils import plots
from moda_utils.training import start_model

model, processor = start_model(profile)
model.eval()
for name, part in model.named_children():
    print(f"{name:15} {type(part).__name__}")

# %% [markdown]
# One detail can cost a day of searching. OPT is *stored* in float16, a number format of 16 bits, and transformers loads a model in the format it is stored in. For training that is too coarse: small changes of a weight would be rounded away. So float32 has to be asked for, and it is worth checking:

# %% tags=["nbval-check-output"]
embeddings = model.get_input_embeddings().weight
head = model.language_model.get_output_embeddings().weight
print("format:", model.dtype)
print("word embeddings loaded:", bool(embeddings.any()))
print("output layer is the same matrix as the word embeddings:", head is embeddings)

# %% [markdown]
# The last line says that the weights are *tied*: the matrix that turns tokens into vectors also turns vectors into scores for tokens. It is stored, counted and trained once.
#
# ## 2. The eye: an image encoder
#
# Four photos, taken at even distances from the catalogue:

# %%
from moda_utils.catalog import load_photos, open_photo

files = sorted(load_photos(profile).glob("data/*/*/Images/*/*.jpg"))
photos = [open_photo(file) for file in files[:: max(1, len(files) // 4)][:4]]
plots.photo_grid(photos, profile=profile, columns=4)

# %% [markdown]
# ### 2.1 From photo to pixels
#
# An encoder that gets photos in another form than in its training misreads them, and no error tells. So each comes with an *image processor* that makes all photos equal: it scales the shorter side to a fixed number of pixels, cuts out the middle square, and shifts and scales each colour channel so that its values lie around zero.

# %% tags=["nbval-check-output"]
pixel_values = processor(images=photos)["pixel_values"]
print("photos, channels, height, width:", tuple(pixel_values.shape))

# %% [markdown]
# What is left of the photo? Undo the shift and the scaling, and look:

# %%
from PIL import Image

settings = processor.image_processor
mean, std = (torch.tensor(v).view(3, 1, 1) for v in (settings.image_mean, settings.image_std))
seen = ((pixel_values * std + mean).clamp(0, 1) * 255).byte()  # (4, 3, height, width)
squares = [Image.fromarray(square.permute(1, 2, 0).numpy()) for square in seen]
plots.photo_grid([photos[0], squares[0], photos[1], squares[1]],
                 ["photo", "what the encoder sees"] * 2, profile=profile, columns=4, n=2)

# %% [markdown]
# A photo in portrait format loses a strip above and below. As long as no item reaches into it, nothing is lost. Notebook 1 has an exercise on that, and notebook 5 measures whether another way would be better.
#
# ### 2.2 From pixels to an embedding
#
# The encoder is a [*Vision Transformer*](https://arxiv.org/abs/2010.11929). It cuts the square into patches, turns each into a vector, lets the vectors exchange information for some layers, and sums everything up in one vector. A last matrix gives it the length that photos and texts share. That is the photo's *embedding*.

# %% tags=["nbval-check-output"]
vision = model.config.vision_config
patches = (vision.image_size // vision.patch_size) ** 2
print(f"{patches} patches of {vision.patch_size} x {vision.patch_size} pixels")
with torch.inference_mode():
    raw = model.vision_model(pixel_values).image_embeds
print("photos, numbers per photo:", tuple(raw.shape))


# %% [markdown]
# Its training compared *directions*: two embeddings are similar if they point the same way, however long they are. So we drop the length. But a vector of length 1 with many coordinates has tiny coordinates, and the fresh layer that comes next expects inputs of about size 1. Multiplying by the root of the number of coordinates gives just that:

# %% tags=["nbval-check-output"]
def normalise(embeds):  # (N, D)
    return embeds / embeds.norm(dim=-1, keepdim=True) * embeds.shape[-1] ** 0.5

with torch.inference_mode():
    image_embeds = model.encode_images(pixel_values)
print("same as encode_images:", torch.allclose(normalise(raw), image_embeds, atol=1e-5))
print(f"mean square of a coordinate: {image_embeds.square().mean():.2f}")

# %% [markdown]
# Do the embeddings tell the four photos apart? The cosine is 1 for the same direction and 0 for unrelated ones.

# %%
unit = torch.nn.functional.normalize(image_embeds)
for row in unit @ unit.T:
    print("  ".join(f"{value:5.2f}" for value in row))

# %% [markdown]
# If all values are high, that is no bad sign: all four are product photos, and the differences, however small, are what the projection will learn to read.
#
# ## 3. The voice: a language model
#
# A language model reads *tokens*: words or pieces of words, each with a number. OPT has two special ones that matter here: `</s>`, which marks the beginning and the end of a text, and `<pad>`, which fills up the shorter texts of a batch. (`Ġ` stands for a space.)

# %% tags=["nbval-check-output"]
sentence = "White casual shoes for men"
ids = processor.tokenizer(sentence, add_special_tokens=False)["input_ids"]
for token, number in zip(processor.tokenizer.convert_ids_to_tokens(ids), ids):
    print(f"{number:6} {token}")
print("</s> is", processor.tokenizer.eos_token_id, "and <pad> is", processor.tokenizer.pad_token_id)

# %% [markdown]
# What it can do: say what comes next. Without any photo, and before we change anything, it has an opinion on how this goes on:

# %%
beginning = processor(text="White casual shoes for")["input_ids"][:, :-1]  # without the end mark
with torch.inference_mode():
    scores = model.language_model(beginning).logits[0, -1].softmax(-1)
for share, token in zip(*scores.topk(5)):
    print(f"{share:6.1%}  {processor.tokenizer.decode([int(token)])!r}")

# %% [markdown]
# Inside, each token is a vector, a row of its embedding matrix. Here is the door that we need: the language model doesn't insist on tokens. It also takes vectors, from wherever they come.
#
# ## 4. The bridge: a projection
#
# The projection turns a photo's embedding into one vector of the language model's size. It has two layers with a bend between them: the first one widens, GELU bends, the second one brings it down to the size of a word. GELU lets positive numbers pass and holds negative ones back, softly: each number is multiplied by the chance that a normal random number lies below it.

# %%
figure, axes = plots.figure(width=4.5, height=2.4)
x = torch.linspace(-4, 4, 200)
axes[0, 0].plot(x, torch.nn.functional.gelu(x), label="GELU")
axes[0, 0].plot(x, x.relu(), "--", label="ReLU")
axes[0, 0].set(xlabel="input", ylabel="output")
axes[0, 0].legend()
figure

# %% [markdown]
# Without a bend, two layers would be no more than one, because a matrix times a matrix is a matrix. Here is all of it, written out with the model's own weights:

# %% tags=["nbval-check-output"]
widen, _, narrow = model.projection

def project(embeds):
    wide = embeds @ widen.weight.T + widen.bias
    bent = wide * torch.special.ndtr(wide)  # ndtr: the chance that a normal number lies below
    return bent @ narrow.weight.T + narrow.bias

with torch.inference_mode():
    word = model.project(image_embeds)
    print("same as the model's:", torch.allclose(project(image_embeds), word[:, 0], atol=1e-5))
print(f"{widen.in_features} -> {widen.out_features} -> {narrow.out_features}")
print("photos, places, numbers:", tuple(word.shape))

# %% [markdown]
# One photo has become one *place* of the language model's input. [LLaVA](https://arxiv.org/abs/2304.08485) and [PaLI](https://arxiv.org/abs/2209.06794), its large relatives, use a single linear layer here (LLaVA later two layers with GELU, as MODA has), and give each photo hundreds of places. Is the bend worth it? That is a question for a measurement, and [notebook 8](08_ablations.ipynb), an extra, makes it.
#
# ## 5. One sequence
#
# Now put it together. The language model is to read
#
# `[image] [</s>] description [</s>]`
#
# and nothing else is needed than to put the vectors one after another:

# %% tags=["nbval-check-output"]
batch = processor(text=["White casual shoes for men", "Red dress for girls"])
with torch.inference_mode():
    image = model.project(image_embeds[:2])                      # (2, 1, H)
    words = model.get_input_embeddings()(batch["input_ids"])     # (2, T, H)
    sequence = torch.cat([image, words], dim=1)                  # (2, 1 + T, H)
for name, part in {"image": image, "words": words, "sequence": sequence}.items():
    print(f"{name:9}{tuple(part.shape)}")

# %% [markdown]
# ## 6. What is asked, and the loss
#
# A language model is trained to say, at every place, what comes next. But not every place is an interesting question:
#
# * at the place of the **image** the next token is always `</s>`: nothing to learn;
# * behind the end there is only **padding**: it must not be learnt;
# * the **last `</s>`** is a question that matters. A model that is never asked for the end never learns to stop.
#
# Questions that don't count get the label -100, which the loss skips.
#
# > **What we do differently from the original notebook.** It ends each caption in the text `<\s>`, which is no token, and never asks for the real one; [notebook 5](05_training.ipynb) shows what comes of it. It also fills up with 0 where OPT's padding is 1: masked, and so harmless.

# %% cellView="form"
# @title Figure: two descriptions of different lengths { display-mode: "form" }
from moda_utils import show_figure

show_figure("sequence")

# %% [markdown]
# The same as a table, made from the processor's output:

# %% tags=["nbval-check-output"]
labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
labels[:, 0] = -100  # the first </s> is given

for row in range(2):
    reads = ["[image]", *processor.tokenizer.convert_ids_to_tokens(batch["input_ids"][row])]
    asked = ["-" if n == -100 else processor.tokenizer.convert_ids_to_tokens([n])[0]
             for n in labels[row].tolist()]
    print(f"{'place':7}{'reads':12}must say next")
    for place, (token, answer) in enumerate(zip(reads, [*asked, "-"])):
        print(f"{place:<7}{token:12}{answer}")

# %% [markdown]
# The *loss* is the mean surprise over the questions that count: minus the logarithm of the probability that the model gave to the right answer. By hand, and by the model:

# %% tags=["nbval-check-output"]
with torch.inference_mode():
    logits = model.language_model(inputs_embeds=sequence).logits    # (2, 1 + T, vocabulary)
    chances = logits[:, :-1].log_softmax(dim=-1)                    # place i is asked for token i
    counts = labels != -100                                         # (2, T)
    loss = -chances[counts].gather(1, labels[counts][:, None]).mean()
    output = model(**batch, labels=labels, image_embeds=image_embeds[:2])
print("same as the model's:", torch.allclose(loss, output.loss, atol=1e-5))
print("questions that count:", int(counts.sum()))

# %% [markdown]
# Why was the attention mask not needed in our version? Padding stands *behind* the text, and the language model only looks back. What comes later can't change the answer to a question that counts.
#
# ## 7. Every parameter counted
#
# Counting shows what memory is spent on, and what is loaded for nothing or trained by mistake. *Predict first: which of the three parts is the largest, and how much of the whole will be trained?* Starting here? Run the setup cell, then the next one.

# %% tags=["start-here"]
import torch

from moda_utils import plots
from moda_utils.catalog import load_photos, open_photo
from moda_utils.training import start_model

model, processor = start_model(profile)  # the same weights as in section 1
model.eval()
files = sorted(load_photos(profile).glob("data/*/*/Images/*/*.jpg"))
photos = [open_photo(file) for file in files[:: max(1, len(files) // 4)][:4]]
with torch.inference_mode():
    image_embeds = model.encode_images(processor(images=photos)["pixel_values"])
narrow = model.projection[2]


# %% [markdown]
# First the model in front of us. *Frozen* means that training will not change it.

# %% tags=["nbval-check-output"]
def size(part):
    return sum(weight.numel() for weight in part.parameters())

for name, part in model.named_children():
    state = "trained" if next(part.parameters()).requires_grad else "frozen"
    print(f"{name:15}{size(part):>12,}  {state}")
print(f"{'held in memory':15}{size(model):>12,}")

# %% [markdown]
# And at real size, in every profile. The sizes of FashionCLIP and OPT-125M are written out below; the `meta` device builds the networks without allocating a single weight, so this runs anywhere in a moment.

# %%
from transformers import CLIPConfig, CLIPModel, OPTConfig

from moda_utils.modeling_moda import ModaConfig, ModaForConditionalGeneration

fashion_clip = CLIPConfig(
    projection_dim=512,
    vision_config=dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                       num_attention_heads=12, image_size=224, patch_size=32, projection_dim=512),
    text_config=dict(hidden_size=512, intermediate_size=2048, num_hidden_layers=12,
                     num_attention_heads=8, vocab_size=49408, projection_dim=512))
opt_125m = OPTConfig(hidden_size=768, ffn_dim=3072, num_hidden_layers=12, num_attention_heads=12,
                     vocab_size=50272, max_position_embeddings=2048)
with torch.device("meta"):
    clip = CLIPModel(fashion_clip)
    moda = ModaForConditionalGeneration(ModaConfig(fashion_clip.vision_config, opt_125m))

# %% tags=["nbval-check-output"]
rows = {"FashionCLIP, image half": (size(moda.vision_model), "frozen"),
        "projection": (size(moda.projection), "trained"),
        "OPT-125M": (size(moda.language_model), "trained"),
        "held in memory": (size(moda), ""),
        "FashionCLIP, text half": (size(clip) - size(moda.vision_model), "left out"),
        "together": (size(clip) + size(moda.projection) + size(moda.language_model), "")}
for name, (count, state) in rows.items():
    print(f"{name:24}{count:>12,}  {state}")

# %% [markdown]
# The original guide calls MODA a model of 280 million parameters. That number counts FashionCLIP whole, with the half that encodes *texts*. To describe a photo, that half is not needed, so this implementation doesn't load it.
#
# The projection is the smallest part by far, and its size is easy to check: each layer has inputs times outputs weights, and a bias per output.

# %% tags=["nbval-check-output"]
print(f"{512 * 3072 + 3072:,} + {3072 * 768 + 768:,} = {512 * 3072 + 3072 + 3072 * 768 + 768:,}")


# %% [markdown]
# ## 8. What it says before training
#
# Whoever hasn't read the untrained model will take any fluent sentence of the trained one for a success. To *generate* is to ask for the next token again and again, each time with the answers so far. The simplest way takes the most probable token at each step (*greedy*) and stops at `</s>`:

# %%
def generate(image_embeds, steps=12):
    ids = torch.full((len(image_embeds), 1), model.config.end_token_id)  # [image] [</s>]
    for _ in range(steps):
        logits = model(ids, image_embeds=image_embeds).logits            # (N, 1 + T, vocabulary)
        ids = torch.cat([ids, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    return [text.split("</s>")[1] for text in processor.batch_decode(ids)]

with torch.inference_mode():
    ours = generate(image_embeds)
theirs = model.generate(image_embeds=image_embeds, max_new_tokens=12)
theirs = [text.split("</s>")[0] for text in processor.batch_decode(theirs)]
print("same as the model's generate:", ours == theirs)
plots.photo_grid(photos, [f"“{text.strip()[:90]}”" for text in ours], profile=profile, columns=4)

# %% [markdown]
# The language model writes what it has always written. Where a text seems to fit its photo, it does so by luck: the projection's weights are random, so the image place holds a vector that means nothing to the reader.
#
# > **In `mini`:** the small language model has seen nothing but descriptions of garments, so even its guesses sound like the trade. That makes it a good place to learn how little *sounding right* proves.
# >
# > **With real weights:** OPT-125M has read a part of the web, so expect sentences about anything, or a few words again and again. No such run is stored here yet.
#
# ## 9. Save it, load it
#
# A model that only the code of its own notebook can load is lost with that code. MODA is an ordinary Hugging Face model: `save_pretrained` writes it, the Auto classes read it, and `push_to_hub` would publish it.

# %%
import tempfile

from transformers import AutoModelForImageTextToText, AutoProcessor

with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    for file in sorted(Path(folder).iterdir()):
        print(f"{file.stat().st_size / 1e6:8.2f} MB  {file.name}")
    loaded = AutoModelForImageTextToText.from_pretrained(folder)
    its_processor = AutoProcessor.from_pretrained(folder)

# %% tags=["nbval-check-output"]
print(type(loaded).__name__, "and", type(its_processor).__name__)
again = loaded.eval().generate(image_embeds=image_embeds, max_new_tokens=12)
again = [text.split("</s>")[0] for text in its_processor.batch_decode(again)]
print("says the same:", again == theirs)

# %% [markdown]
# ### 9.1 What may you do with it?
#
# A joined model inherits the terms of its parts. Read them before you publish or sell anything; they can change, and the pages of the models are what counts.
#
# | Part | Licence | Mind |
# |---|---|---|
# | FashionCLIP | MIT | |
# | OPT-125M | OPT-175B licence agreement | research only, no commercial use |
# | Phi-3 (its descriptions, if you train on them) | MIT | |
# | photos of the profile `full` | not established | check the page of the data set; this course ships none of them |
# | mini models and drawings | MIT, like the course | |

# %% [markdown]
# ## What we learned
#
# * A vision-language model is **an encoder, a connector and a language model**. Two of them can be taken off the shelf.
# * The language model reads vectors. So **a photo can be a word**, if a network translates it.
# * **Labels of -100** decide what is learnt. Padding is left out; the end mark is not.
# * Of the 280 million parameters, the text half of FashionCLIP is **never needed** here, the image half is **frozen**, and the rest is trained.
# * An untrained model can sound right. **Sounding right is no evidence.**

# %% [markdown]
# ## Exercises
#
# Each ends in a call of `check`: it says what answer it wants, and with an answer, whether that is right. Solutions: [04_solutions](solutions/04_solutions.ipynb).
#
# **1 (easy). A leaner bridge.** How many parameters would a projection of one single layer have, in the model of this notebook? And how many does one have at real size whose middle layer is as narrow as the embedding? Guess first.

# %%
from moda_utils import check

for middle in (3072, 768, 512, 64):
    two_layers = 512 * middle + middle + middle * 768 + 768
    print(f"real size, 512 -> {middle:4} -> 768: {two_layers:>9,} parameters")
check("04.1")  # then: check("04.1", your_number)

# %% [markdown]
# **2 (medium). More than one word.** A photo says more than one word, LLaVA would object. Let the projection give four places instead of one: make the last layer four times as wide, and cut its output into four vectors. What has to change in the labels? And at which place, counted from 0, is the first word of the description asked for?

# %%
places, hidden = 4, narrow.out_features
wider = torch.nn.Linear(narrow.in_features, places * hidden)
output = wider(torch.randn(2, narrow.in_features)).view(2, places, hidden)
print("photos, places, numbers:", tuple(output.shape))
check("04.2")

# %% [markdown]
# **3 (hard). Another voice.** Any causal language model can take the place of OPT. Build a MODA around the architecture of Llama, with random weights and small sizes, and give it one training step. Which of its special tokens open and close a text, and which one does MODA use for both?

# %%
from transformers import LlamaConfig

llama = LlamaConfig(hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                    num_attention_heads=4, num_key_value_heads=2, vocab_size=500)
other = ModaForConditionalGeneration(ModaConfig(model.config.vision_config, llama))
print(f"{size(other.language_model):,} parameters, end mark {other.config.end_token_id}")
check("04.3")

# %% [markdown]
# ## Further reading
#
# * R. Mokady and others, [ClipCap](https://arxiv.org/abs/2111.09734): a CLIP embedding as a prefix of GPT-2, MODA's closest relative.
# * H. Liu and others, [Improved Baselines with Visual Instruction Tuning](https://arxiv.org/abs/2310.03744): LLaVA's step from one linear layer to two with GELU.
# * S. Zhang and others, [OPT: Open Pre-trained Transformer Language Models](https://arxiv.org/abs/2205.01068).
# * D. Hendrycks and K. Gimpel, [Gaussian Error Linear Units](https://arxiv.org/abs/1606.08415): GELU.
# * Hugging Face, [Sharing custom models](https://huggingface.co/docs/transformers/custom_models): how a model of your own gets into the Auto classes.

# %% [markdown]
# ## Next
#
# [Notebook 5](05_training.ipynb) trains what was assembled here, and the words begin to follow the photo.

# %% [markdown]
# ## Save and stop
#
# This notebook leaves nothing that later ones need: they assemble the model in one line. On Colab, end the runtime when you stop (*Runtime > Disconnect and delete runtime*): it may cost credits while it idles.

# %% cellView="form"
# @title Copy the small artefacts to a folder { display-mode: "form" }
KEEP_IN = ""  # @param {type:"string"}
from moda_utils.course import keep
keep(profile, KEEP_IN)
