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
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/solutions/02_solutions.ipynb)
#
# # 2. Solutions
#
# Answers to the exercises of [notebook 2, Captions by Phi-3 Vision](../02_phi3_vision_captions.ipynb). They need the captioner, so in `full` a GPU with 15 GB.

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
import re
import time

import pandas as pd

from moda_utils import catch_up, check
from moda_utils.answers import parse_answer
from moda_utils.captioning import PROMPT_I, Captioner, caption_catalog, captions_journal
from moda_utils.catalog import load_catalog
from moda_utils.device import load_checkpoint
from moda_utils.evaluation import printed_words, score
from moda_utils.phi3_vision import Phi3VisionImageProcessor, Phi3VisionProcessor

catch_up("02")
catalog = load_catalog(profile.catalog_path)
captioner = Captioner.load(profile)
print(f"{len(catalog.frame)} items; the captioner is on {captioner.model.device}")

# %% [markdown]
# All three exercises need captions to compare with. These are the notebook's own: finished ones are found in `captions.jsonl`, missing ones are written now. Half of the photos used below carry print, because print is what the exercises are about. Where nobody has noted which do, T-shirts are the best bet.

# %%
journal = captions_journal(profile)
caption_catalog(catalog, captioner, journal, n=300)
answers = pd.DataFrame(journal.done().values())
items = catalog.frame.merge(answers, on=["product_id", "image_sha256"])
items = items[items.description.notna()].reset_index(drop=True)
words = printed_words(catalog.root)  # {product_id: word}, or None
printed = items[items.product_id.isin(words) if words else items.product_type == "Tshirts"]
print(f"{len(items)} captions, {len(printed)} of photos with print")

def ask(who: Captioner, rows: pd.DataFrame, size: int = 16) -> list[str]:
    """Raw answers about the photos of `rows`."""
    paths, texts = [catalog.root / name for name in rows.image], []
    for start in range(0, len(paths), size):
        batch = [who.prepare(path) for path in paths[start : start + size]]
        texts += [answer.text for answer in who(batch)]
    return texts


# %% [markdown]
# ## Exercise 1 (easy). Edit the prompt
#
# *Ask for the opposite, for a poem, for another language, or for a single word. What does the model follow, and what does it do out of habit?*
#
# Four edits. Each keeps the frame of Prompt I, because a model without its `<|user|>` and `<|assistant|>` would not know whose turn it is.

# %%
def chat(task: str) -> str:
    return f"<|user|>\n<|image_1|>\n{task}<|end|>\n<|assistant|>\n"

OPPOSITE = PROMPT_I.replace("Do not write the text that is in the image. For exemple, if some "
                            "text is in the image, ignore it.", "Quote every word in the image.")
EDITS = {
    "Prompt I": PROMPT_I,
    "opposite": OPPOSITE,
    "French": PROMPT_I.replace("formatted as", "written in French, formatted as"),
    "one word": chat("What colour is the item? Answer with a single word."),
    "poem": chat("Write a poem of two lines about the item."),
}
assert len(set(EDITS.values())) == len(EDITS), "an edit changed nothing"
check("02.1", OPPOSITE)
few = printed.head(2)
said = {name: ask(Captioner(captioner.model, captioner.processor, prompt), few)
        for name, prompt in EDITS.items()}
for place, row in enumerate(few.itertuples()):
    print(f"{row.title}" + (f" (printed: {words[row.product_id]})" if words else ""))
    for name, texts in said.items():
        print(f"  {name:9} {texts[place][:150]}")

# %% [markdown]
# An assertion that an edit has changed anything is worth its line: `replace` is silent when it finds nothing, and then you would compare a prompt with itself.
#
# Two photos are an anecdote. Count over more of them: does an answer mention the printed word, and is it still JSON?

# %%
many = printed.head(48)
for name in ("Prompt I", "opposite", "one word"):
    texts = ask(Captioner(captioner.model, captioner.processor, EDITS[name]), many)
    quoted = score(texts, many, printed=words, resamples=1)["ocr_leakage"]["value"]
    shape = sum(text.startswith("{") for text in texts) / len(texts)
    print(f"{name:9} repeats the print: {quoted or 0:4.0%}   JSON: {shape:4.0%}")

# %% [markdown]
# *What does it follow?* If the rate is nearly the same with "ignore it" and with "quote every word", then the sentence has no effect, in either direction: the model does what it always does. If the opposite prompt raises it, the wish in Prompt I is worth something, and the leaks that are left are what a wish can't stop.
#
# In `mini`: expect habit throughout, in English, in one sentence, as JSON. The small captioner has seen prompts in many wordings, and each time the same kind of answer was right. So it has learnt that wording doesn't matter. That is the lesson of the exercise: **a model follows an instruction only if following it ever made a difference in training.** A large model that was taught with many tasks has learnt exactly this difference.
#
# ## Exercise 2 (medium). More tiles
#
# *What do four times as many tiles cost, and what do they bring?*
#
# First the places. A tile brings 12 x 12 vectors wherever it lies, but each row of vectors ends with one more. So of all shapes with 16 tiles, the one with the most rows is the dearest: all tiles in one column.

# %%
cutter = Phi3VisionImageProcessor(num_crops=16)
for rows, columns in ((4, 4), (1, 16), (16, 1)):
    print(f"{rows:2} x {columns:2} tiles: {cutter.num_tokens(rows, columns)} places")
check("02.2", cutter.num_tokens(16, 1))

# %% [markdown]
# Now the cost and the gain. The same weights with two settings of the processor, on the same photos with print: the number of places, the time, and how often the print is repeated.

# %%
rows = []
for crops in (profile.num_crops, 4 * profile.num_crops):
    sharper = load_checkpoint(Phi3VisionProcessor, profile.captioner, num_crops=crops)
    writer = Captioner(captioner.model, sharper)
    begin = time.perf_counter()
    texts = [parse_answer(text)[0] or "" for text in ask(writer, many)]
    seconds = (time.perf_counter() - begin) / len(many)
    result = score(texts, many, printed=words)
    places = sum(number < 0 for number in writer.prepare(catalog.root / many.image.iloc[0])[0])
    rows.append({"tiles at most": crops, "places": places, "seconds per photo": seconds,
                 "print repeated": result["ocr_leakage"]["value"],
                 "overall (0-10)": result["criteria"]["overall"]["value"]})
pd.DataFrame(rows).set_index("tiles at most").round(2)

# %% [markdown]
# **Cost.** Compare the factor in places with the factor in seconds. Writing takes about the same time per word in both cases, reading the photo grows with the places, and so does the cache: fewer photos fit at once.
#
# **Gain.** Small print becomes readable, so more tiles mean *more* leaks, not fewer. For descriptions of clothes that is a bad bargain: colour, type and gender can be seen in the global view. This is why the course takes fewer tiles than the checkpoint allows. For reading labels or receipts, one would decide the other way.
#
# In `mini`: more tiles do harm. The captioner was trained with one tile, at one number of places; four tiles show it a shirt in four pieces, and the text after them stands at places where it has never seen text. Compare both columns at the right: words that were read before are lost, and types and colours with them. Nothing in the architecture forbids such a setting, and nothing in the training prepared it. **The settings of a processor belong to the weights.**
#
# ## Exercise 3 (hard). No words without a second model
#
# *Could a rule take the leaks out?*
#
# First look at how a print is mentioned. Cut the captions just before the word, and count what is left:

# %%
before = [re.search(r"((?:\S+ ){1,4}\S*)\b%s\b" % re.escape(words[row.product_id]), row.description)
          for row in printed.itertuples()] if words else []
found = pd.Series([match[1].strip() for match in before if match], dtype=str)
print(found.str.split().str[-3:].str.join(" ").value_counts().head(8).to_string())

# %% [markdown]
# The patterns repeat, so a rule can name them. One step beyond the starter: take out the phrase *around* the quotation too, or "with the word on the front" would be left.

# %%
LEAD = r"(?:,? (?:with|and|featuring|that|which)\b(?: (?:a|an|the|has|says|reads|text|word|words|"
LEAD += r"slogan|logo|print|printed|displaying))*)?"
TRAIL = r"(?: (?:print|logo|slogan|printed|written|text)\b)?(?: on (?:the|its) \w+)?"
QUOTED = re.compile(LEAD + r" ?[\"“'](?=[A-Z])[^\"”']*[\"”']" + TRAIL)
CAPITALS = re.compile(LEAD + r" \b[A-Z]{2,}\b" + TRAIL)

def as_it_is(text: str) -> str:
    return text

def without_quotes(text: str) -> str:
    return " ".join(re.sub(r"[\"“].*?[\"”]", "", text).split())

def without_phrases(text: str) -> str:
    return " ".join(CAPITALS.sub("", QUOTED.sub("", text)).split())

check("02.3", without_phrases)
for row in printed.head(5).itertuples():
    print(row.description, "\n  ->", without_phrases(row.description))

# %% [markdown]
# The other way: forbid the tokens while the model writes, so that no leak comes into being. Which tokens? A quotation mark opens nearly every leak; so forbid every token with a quotation mark in it, except those of the JSON itself. In a JSON text the quotation mark inside of a text is escaped, `\"`, which makes it easy to tell them apart.

# %%
vocabulary = captioner.processor.tokenizer.get_vocab()
decode = captioner.processor.tokenizer.decode
special = set(captioner.processor.tokenizer.all_special_ids)
banned = [[number] for number in vocabulary.values()
          if number not in special and ('\\' in decode([number]) or decode([number]).isupper()
                                        and len(decode([number]).strip()) > 1)]
print(f"{len(banned)} of {len(vocabulary)} tokens are forbidden")

def write_without(rows: pd.DataFrame) -> list[str]:
    pairs = [captioner.prepare(catalog.root / name) for name in rows.image]
    inputs = captioner.processor.collate(pairs).to(captioner.model.device)
    ids = captioner.model.generate(
        **inputs, bad_words_ids=banned, do_sample=False, max_new_tokens=128,
        eos_token_id=captioner.processor.stop_ids, pad_token_id=captioner.processor.pad_id)
    return captioner.processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :])


# %%
raw = [text for start in range(0, len(many), 16) for text in write_without(many[start : start + 16])]
forbidden = [parse_answer(text)[0] or "" for text in raw]
print(f"{sum(not text for text in forbidden)} of {len(many)} answers are no JSON any more")
for text in forbidden[:5]:
    print(text)

# %% [markdown]
# All ways on the same photos, with everything that the notebook measures. Look at two columns at once: a method that deletes whole sentences has no leaks either.

# %%
ways = {"as it is": list(many.description),
        "without quotes": [without_quotes(text) for text in many.description],
        "without phrases": [without_phrases(text) for text in many.description],
        "forbidden tokens": forbidden}
rows = []
for name, texts in ways.items():
    result = score(texts, many, printed=words)
    rows.append({"": name, "leakage": result["ocr_leakage"]["value"],
                 "overall (0-10)": result["criteria"]["overall"]["value"],
                 "words": result["length"]["value"]})
pd.DataFrame(rows).set_index("").round(2)

# %% [markdown]
# On captions whose form is known, a rule does well: no leaks, and all attributes still there. Its weakness is everything that it doesn't know. "A T-shirt that says LOVE" it catches by the capitals; "a T-shirt that says love", "a Nike T-shirt" and "a shirt about surfing" go through, and a "USA-style jacket" loses its beginning. Every new form needs another rule, and nobody tells you which ones are missing.
#
# Forbidding tokens works while the model writes, and there is no going back: with the opening "with the word" written and the word forbidden, the model has to end the phrase with something. Read the sentences above and see what it chose: another *attribute*, which needn't be true, or words that make no sense there. The table does not show this damage, because the criteria only look for attributes. **So of the two ways the second breaks more sentences, and only reading them tells.**
#
# Neither way uses what we have and the captioner had not: the row of the catalogue. A second model that reads the caption *and* the row can also mend a wrong colour. That is [notebook 03](../03_phi3_instruct_refinement.ipynb); keep the table above to compare.
