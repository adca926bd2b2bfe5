"""mini Phi-3 Vision: its tokenizer, its training, and what the shipped checkpoint can do."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoTokenizer

from moda_utils.answers import parse_answer
from moda_utils.attributes import extract
from moda_utils.captioning import PROMPT_I, Captioner
from moda_utils.mini import measure_phi3_vision, train_phi3_vision
from moda_utils.mini.catalogue import fresh_items, training_items
from moda_utils.mini.items import PRINTED_WORDS, sample_item
from moda_utils.mini.measure_phi3_vision import (
    caption,
    grade,
    grade_words,
    measure,
    printed_words,
    share,
)
from moda_utils.mini.phi3_tokenizer import ANSWER_START, build_tokenizer, phrases
from moda_utils.mini.photos import as_stored
from moda_utils.mini.prompt_variants import vary
from moda_utils.mini.train_phi3_vision import (
    GRID,
    IMAGES,
    WORD_WEIGHT,
    Training,
    answer_loss,
    build_model,
    build_processor,
    encode_batch,
    image_vectors,
    prepare,
    store,
    tiles,
    truth,
    write_answer,
)
from moda_utils.phi3_vision import Phi3VisionForConditionalGeneration, Phi3VisionProcessor
from moda_utils.profiles import CHECKPOINTS
from moda_utils.storage import read_json

SHIPPED = CHECKPOINTS / "phi3_vision"
KEYS = Path(__file__).parent / "data" / "phi3_vision" / "keys_full.json"


@pytest.fixture(scope="module")
def processor() -> Phi3VisionProcessor:
    return build_processor()


@pytest.fixture(scope="module")
def drawn():
    """Items of all kinds, some with printed words, and their photos."""
    pairs = [*training_items(10, seed=7), *training_items(6, seed=7, printed=True)]
    return [item for item, _ in pairs], [as_stored(photo) for _, photo in pairs]


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    model = Phi3VisionForConditionalGeneration.from_pretrained(SHIPPED, dtype=torch.float32)
    return Captioner(model, Phi3VisionProcessor.from_pretrained(SHIPPED))


# Tokenizer


def test_special_tokens_have_the_roles_of_phi3(processor):
    tokenizer = processor.tokenizer
    assert tokenizer.convert_tokens_to_ids(["<unk>", "<s>", "</s>"]) == [0, 1, 2]
    assert (tokenizer.bos_token, tokenizer.pad_token) == ("<s>", "<|endoftext|>")
    special = {"<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"}
    added = tokenizer.added_tokens_decoder.values()
    assert {str(token) for token in added if token.special} == special | {"<unk>", "<s>", "</s>"}
    assert tokenizer("a").input_ids[0] == 1


def test_chat_template_writes_the_form_of_prompt_one(processor):
    turns = [{"role": "user", "content": "<|image_1|>\nDescribe it."}]
    text = processor.tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True
    )
    assert text == "<|user|>\n<|image_1|>\nDescribe it.<|end|>\n<|assistant|>\n"


def test_prompt_one_is_a_few_tokens_and_an_edit_takes_only_its_sentence_apart(processor):
    tokenizer = processor.tokenizer
    known = phrases(PROMPT_I)
    prompt = PROMPT_I.replace("<|image_1|>", "")
    ids = tokenizer(prompt).input_ids
    tokens = tokenizer.convert_ids_to_tokens(ids)
    assert tokens == ["<s>", "<|user|>", *known, "<|end|>", "<|assistant|>"]
    edited = prompt.replace("concise description of the", "very short text on the")
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(edited).input_ids)
    assert [phrase for phrase in known if phrase not in tokens] == known[:1]
    # White space between sentences does not matter.
    assert tokenizer(re.sub(r"\n\n+", "\n", prompt)).input_ids == ids


def test_answers_are_words_and_come_back_exactly(processor):
    rng = random.Random(3)
    for _ in range(200):
        text, told = write_answer(sample_item(rng, balanced=True), rng)
        ids = processor.tokenizer(text).input_ids
        assert processor.batch_decode(torch.tensor([ids])) == [text]
        assert len(ids) < 30
        tokens = processor.tokenizer.convert_ids_to_tokens(ids)
        assert tokens[1] == ANSWER_START
        assert told is None or told in tokens


def test_no_text_is_unknown(processor):
    text = "zażółć 日本 🙂\t{'x': 1}"
    ids = processor.tokenizer(text).input_ids
    assert 0 not in ids
    assert processor.batch_decode(torch.tensor([ids])) == [text]


def test_auto_tokenizer_loads_the_same(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in (PROMPT_I, "Something else entirely", ANSWER_START):
        assert loaded(text).input_ids == processor.tokenizer(text).input_ids
    assert loaded.chat_template == processor.tokenizer.chat_template


def test_tokenizers_of_the_same_texts_are_equal():
    texts = ["a red shirt", "a blue shirt", "a red skirt"] * 5
    first, second = (build_tokenizer(texts, ["Describe it."], 300) for _ in range(2))
    assert first.get_vocab() == second.get_vocab()


# What is learnt


def test_every_answer_is_json_and_states_all_attributes():
    rng = random.Random(5)
    for _ in range(400):
        item = sample_item(rng, balanced=True)
        text, told = write_answer(item, rng)
        description, status = parse_answer(text)
        assert status == "ok"
        stated = extract(description)
        assert stated.colours == {item.colour} and stated.genders == {item.gender}
        assert stated.product_types == {item.product_type} and stated.usages == {item.usage}
        assert printed_words(description) == ({told} if told else set())
        assert told in (None, item.printed_word)


def test_most_printed_words_are_told_and_wording_depends_on_the_item():
    rng = random.Random(6)
    shirts = [sample_item(rng, printed=True) for _ in range(400)]
    told = [write_answer(item, rng)[1] for item in shirts]
    assert 0.9 < sum(word is not None for word in told) / 400 < 1
    item = sample_item(random.Random(1), product_type="Shorts")
    answers = [write_answer(item, rng)[0] for _ in range(60)]
    most = max(set(answers), key=answers.count)
    assert 30 < answers.count(most) < 60


def test_varied_prompts_keep_the_photo_and_stay_short(processor):
    rng = random.Random(2)
    lengths = []
    for _ in range(300):
        prompt = vary(rng)
        assert prompt.count("<|image_1|>") == 1
        assert prompt.startswith("<|user|>") and prompt.endswith("<|end|>\n<|assistant|>\n")
        lengths.append(len(processor.tokenizer(prompt).input_ids))
    assert max(lengths) < 120


def test_training_sees_what_the_processor_and_the_model_make_of_a_photo(processor, drawn):
    items, photos = drawn
    model = build_model(processor)
    tower = model.model.vision_embed_tokens
    pixels = torch.from_numpy(np.stack([prepare(photo) for photo in photos]))
    mine = tiles(pixels, torch.arange(4), random.Random(0), shift=0)
    inputs = processor([(PROMPT_I, photo) for photo in photos[:4]])
    torch.testing.assert_close(mine, inputs["pixel_values"][:, 1])
    with torch.no_grad():
        wanted = tower(inputs["pixel_values"], inputs["image_grids"])
        got = image_vectors(model, tower.encode(mine))
    torch.testing.assert_close(got.flatten(0, 1), wanted)
    ids, weights = encode_batch(processor, items[:4], random.Random(0), varied=False)
    prompt = inputs["input_ids"].shape[1]
    assert torch.equal(ids[:, :prompt], inputs["input_ids"])
    assert not weights[:, :prompt].any()
    # The loss is that of the model's own forward, up to the weights.
    labels = ids.masked_fill(weights == 0, -100)
    flat = (weights > 0).float()
    with torch.no_grad():
        own = model(**inputs | {"input_ids": ids, "attention_mask": None}, labels=labels).loss
        loss = answer_loss(model, got, ids, flat)
    torch.testing.assert_close(loss, own)


def test_weights_lie_on_the_printed_word_and_the_end_is_learnt(processor):
    item = sample_item(random.Random(4), printed=True)
    ids, weights = encode_batch(processor, [item] * 40, random.Random(0), varied=True)
    end = processor.tokenizer.convert_tokens_to_ids("<|end|>")
    word = processor.tokenizer.convert_tokens_to_ids(item.printed_word)
    for row, weight in zip(ids, weights, strict=True):
        answer = row[weight > 0].tolist()
        assert answer[-1] == end and answer.count(end) == 1
        heavy = row[weight == WORD_WEIGHT].tolist()
        assert heavy == [word] * answer.count(word)


def test_truth_spells_the_printed_word():
    item = sample_item(random.Random(4), printed=True)
    row = truth([item])[0].tolist()
    assert PRINTED_WORDS[row[5] - 1] == item.printed_word
    letters = "".join(chr(64 + place) for place in row[-5:] if place)
    assert letters == item.printed_word
    plain = truth([sample_item(random.Random(4), printed=False)])[0].tolist()
    assert plain[5:] == [0] * 6


def test_a_stopped_training_goes_on_to_the_same_weights(drawn, tmp_path, monkeypatch):
    items, photos = drawn
    pixels = torch.from_numpy(np.stack([prepare(photo) for photo in photos]))
    monkeypatch.setattr(train_phi3_vision, "BATCH", 4)
    monkeypatch.setattr(train_phi3_vision, "SAVE_EVERY", 2)
    whole = Training(seed=1)
    reports = [whole.run(items, pixels, 4) for _ in range(2)]
    assert reports[0]["steps"] == 4 and set(reports[1]["losses"]) == {"seeing", "answering"}

    state = tmp_path / "state.pt"
    stopped = Training(seed=1, state=state)
    stopped.run(items, pixels, 4)
    losses, calls = stopped.losses, []

    def killed(*args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return losses(*args)

    monkeypatch.setattr(stopped, "losses", killed)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(items, pixels, 4)
    again = Training(seed=1, state=state)
    assert (again.stage, again.step) == (1, 2)
    again.run(items, pixels, 4)
    for name, weight in whole.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], weight, msg=name)


def test_training_makes_both_losses_smaller(drawn, monkeypatch):
    items, photos = drawn
    pixels = torch.from_numpy(np.stack([prepare(photo) for photo in photos]))
    monkeypatch.setattr(train_phi3_vision, "BATCH", 8)
    monkeypatch.setattr(train_phi3_vision, "WARM_UP", 2)
    training = Training(seed=2)
    wanted = truth(items[:8])

    def losses():
        rng = random.Random(0)
        with torch.no_grad():
            pixels_now = tiles(pixels, torch.arange(8), rng, shift=0)
            return {
                k: v.item() for k, v in training.losses(items[:8], pixels_now, wanted, rng).items()
            }

    training.stage = 1
    before = losses()
    training.run(items, pixels, 8)
    training.stage = 1
    after = losses()
    assert all(after[name] < 0.9 * before[name] for name in before)


# Figures


def test_share_and_its_interval():
    figures = share(95, 100)
    assert figures["share"] == 0.95 and figures["n"] == 100
    # Wilson's interval for 95 of 100, by hand from its formula.
    assert figures["interval"] == pytest.approx([0.8883, 0.9785], abs=2e-4)
    assert share(0, 50)["interval"][0] == 0
    assert share(50, 50)["interval"][1] == 1


def test_grades_count_what_is_wrong():
    rng = random.Random(8)
    item = sample_item(rng, printed=True)
    text, _ = write_answer(item, random.Random(1))
    right = json.loads(text)["description"]
    other = next(word for word in PRINTED_WORDS if word != item.printed_word)
    rows = [(item, right, True), (item, right.replace(item.printed_word, other), True)]
    rows += [(item, None, False), (item, "A thing.", True)]
    graded = grade(rows)
    assert graded["json"]["share"] == 0.75
    assert graded["colour"]["share"] == graded["all_four"]["share"] == 0.5
    assert graded["word_that_is_not_there"]["share"] == 0.25
    words = grade_words(rows)
    assert (words["read"]["share"], words["another_word"]["share"]) == (0.25, 0.25)
    assert words["left_out"]["share"] == 0.5
    assert words["read_by_word"] == {item.printed_word: [1, 4]}


def test_printed_words_are_words_in_capitals():
    assert printed_words('A T-shirt with the word "WILD", for boys.') == {"WILD"}
    assert printed_words("A T-shirt for girls.") == set()


# The shipped checkpoint


def test_checkpoint_has_the_layout_of_the_public_one():
    names = {path.name for path in SHIPPED.iterdir()}
    assert {"config.json", "preprocessor_config.json", "tokenizer.json"} <= names
    shards = sorted(name for name in names if name.endswith(".safetensors"))
    assert shards == [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 8e6
    stored = {}
    for shard in shards:
        with safe_open(SHIPPED / shard, "pt") as file:
            stored |= {key: file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
    assert set(stored.values()) == {"BF16"}
    index = read_json(SHIPPED / "model.safetensors.index.json")
    assert set(index["weight_map"]) == set(stored)

    # The same names as the public checkpoint's, but for the number of layers.
    def form(key):
        return re.sub(r"layers\.\d+", "layers.N", key)

    public = {form(key) for key in read_json(KEYS)} - {"model.vision_embed_tokens.wte.weight"}
    assert {form(key) for key in stored} == public


def test_checkpoint_config_is_written_as_the_public_one():
    config = read_json(SHIPPED / "config.json")
    assert config["model_type"] == "phi3_v" and config["rope_scaling"]["type"] == "su"
    assert config["embd_layer"]["hd_transform_order"] == "sub_glb"
    assert config["img_processor"]["name"] == "clip_vision_model"
    assert str(Path.cwd().anchor) not in config.get("_name_or_path", "")
    settings = read_json(SHIPPED / "preprocessor_config.json")
    assert settings == {"num_crops": 1, "tile_size": 112, "patch_size": 14}
    assert IMAGES.num_tokens(*GRID) == 41


def test_checkpoint_describes_fresh_photos_and_reads_words(captioner):
    rows = caption(captioner, fresh_items(60, seed=90), 60, batch=20)
    graded = grade(rows)
    assert graded["json"]["share"] >= 0.98
    assert graded["all_four"]["share"] >= 0.8
    assert graded["word_that_is_not_there"]["share"] <= 0.1
    words = grade_words(caption(captioner, fresh_items(40, seed=91, printed=True), 40, batch=20))
    assert words["read"]["share"] >= 0.55
    assert len({description for _, description, _ in rows}) > 20


def test_checkpoint_looks_at_the_photo_and_not_at_the_prompt(captioner):
    pairs = list(fresh_items(6, seed=92, printed=False))
    inputs = [captioner.prepare(photo) for _, photo in pairs]
    answers = captioner(inputs)
    assert answers == [captioner([one])[0] for one in inputs]  # a batch changes nothing
    blank = [(ids, [torch.zeros_like(t) for t in cut], grids) for ids, cut, grids in inputs]
    assert len({answer.text for answer in captioner(blank)}) == 1


@pytest.mark.parametrize("name", measure_phi3_vision.EDITED)
def test_checkpoint_still_writes_sentences_when_the_prompt_is_edited(captioner, name):
    prompt = measure_phi3_vision.EDITED[name]
    assert prompt != PROMPT_I
    asked = Captioner(captioner.model, captioner.processor, prompt)
    graded = grade(caption(asked, fresh_items(20, seed=93), 20, batch=20))
    assert graded["json"]["share"] >= 0.9
    assert graded["all_four"]["share"] >= 0.6


def test_measuring_gives_all_figures():
    result = measure(SHIPPED, n=8, printed=8, edited=0)
    assert result["natural_mix"]["json"]["n"] == result["printed_shirts"]["read"]["n"] == 8
    assert result["parameters"] < 4e6
    json.dumps(result, allow_nan=False)


def test_stored_model_computes_what_the_trained_one_did(processor, drawn, tmp_path):
    torch.manual_seed(0)
    model = build_model(processor).eval()
    store(model, processor, tmp_path)
    loaded = Phi3VisionForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32)
    inputs = Phi3VisionProcessor.from_pretrained(tmp_path)([(PROMPT_I, drawn[1][0])])
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16().float()  # as precise as the files
    with torch.no_grad():
        torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits)
