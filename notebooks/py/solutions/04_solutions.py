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
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/solutions/04_solutions.ipynb)
#
# # 4. Solutions
#
# Answers to the exercises of [notebook 4, Model assembly](../04_model_assembly.ipynb). Try them yourself first: a wrong idea of your own teaches more than a right one of ours.

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

# %%
import torch

from moda_utils import check
from moda_utils.modeling_moda import ModaConfig, ModaForConditionalGeneration
from moda_utils.training import start_model

model, processor = start_model(profile)
widen, _, narrow = model.projection
print(f"{widen.in_features} -> {widen.out_features} -> {narrow.out_features}")

# %% [markdown]
# ## Exercise 1 (easy). A leaner bridge
#
# *How many parameters would a projection of one single layer have, in the model of this notebook? And how many does one have at real size whose middle layer is as narrow as the embedding?*
#
# A layer has a weight for each pair of input and output, and a bias per output. With one layer there is no middle:

# %%
one_layer = widen.in_features * narrow.out_features + narrow.out_features
print(f"one layer here: {one_layer:,}")
check("04.1", one_layer)

# %% tags=["nbval-check-output"]
sizes = {"one layer": 512 * 768 + 768}
for middle in (512, 3072):
    sizes[f"512 -> {middle} -> 768"] = (512 * middle + middle) + (middle * 768 + 768)
for name, number in sizes.items():
    print(f"{name:18}{number:>10,}")

# %% [markdown]
# At real size the narrow one has a sixth of the parameters of MODA's, and one layer a tenth. Beside the language model, all of them are small. What the parameters are worth is another question, and counting does not answer it.
#
# ## Exercise 2 (medium). More than one word
#
# *Let the projection give four places instead of one. What has to change in the labels? At which place, counted from 0, is the first word of the description asked for?*
#
# The input becomes `[image] [image] [image] [image] [</s>] description [</s>]`. Each place is asked for what stands at the next one, so the first word is asked for at the place of the first `</s>`:

# %% tags=["nbval-check-output"]
sequence = ["image"] * 4 + ["</s>", "White", "shoes", "</s>"]
for place, (reads, answer) in enumerate(zip(sequence, [*sequence[1:], "-"])):
    print(f"{place}  {reads:6} {'-' if place < 4 else answer}")

# %%
check("04.2", 4)

# %% [markdown]
# The labels themselves stay as they are: they belong to the *tokens*, and the image places have none. What changes is how outputs and labels are brought together. MODA drops the last output and lets output *i* answer for token *i*; with four image places the first three outputs have to be dropped as well. Here it is, on the model's own parts:

# %% tags=["nbval-check-output"]
places, hidden = 4, narrow.out_features
wider = torch.nn.Sequential(widen, torch.nn.GELU(), torch.nn.Linear(narrow.in_features, places * hidden))
batch = processor(text=["White casual shoes for men", "Red dress for girls"])
labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
labels[:, 0] = -100

image = wider(torch.randn(2, widen.in_features)).view(2, places, hidden)
sequence = torch.cat([image, model.get_input_embeddings()(batch["input_ids"])], dim=1)
logits = model.language_model(inputs_embeds=sequence).logits[:, places - 1:-1]  # (2, T, vocabulary)
print("outputs meet labels:", logits.shape[:2] == labels.shape)
loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
loss.backward()
print("the wider layer gets a gradient:", bool(wider[2].weight.grad.any()))

# %% [markdown]
# Whether four words say more than one is an experiment. They all come from the same embedding, so there is nothing new in them; LLaVA takes its hundreds of places from the patches of the photo, before the encoder has summed them up.
#
# ## Exercise 3 (hard). Another voice
#
# *Build a MODA around the architecture of Llama, and give it one training step. Which of its special tokens open and close a text, and which one does MODA use for both?*

# %% tags=["nbval-check-output"]
from transformers import LlamaConfig

llama = LlamaConfig(hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                    num_attention_heads=4, num_key_value_heads=2, vocab_size=500)
torch.manual_seed(0)
other = ModaForConditionalGeneration(ModaConfig(model.config.vision_config, llama))
ids = torch.tensor([[2, 17, 42, 99, 2]])
inputs = dict(input_ids=ids, labels=ids.clone(), image_embeds=torch.randn(1, widen.in_features))
inputs["labels"][:, 0] = -100
optimizer = torch.optim.AdamW([w for w in other.parameters() if w.requires_grad], lr=1e-3)
losses = []
for step in range(2):
    loss = other(**inputs).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())
print("the loss falls:", losses[1] < losses[0])

# %%
print(f"opens: {llama.bos_token_id}, closes: {llama.eos_token_id}, "
      f"MODA uses for both: {other.config.end_token_id}")
check("04.3", [llama.bos_token_id, llama.eos_token_id])

# %% [markdown]
# Llama has two marks where OPT has one. MODA takes the closing mark for both places: at the beginning it only says "now a description", and the model learns that meaning in the first steps. A tokenizer that adds its opening mark by itself would write two, which is why the processor adds the marks and asks the tokenizer for none.
