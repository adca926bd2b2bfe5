"""mini Phi-3: what it learns from, its training, and what the shipped checkpoint can do."""

import argparse
import json
import random

import pytest
import torch
from safetensors import safe_open
from transformers import AutoTokenizer

from moda_utils.answers import parse_answer
from moda_utils.mini import train_phi3
from moda_utils.mini.corrections import (
    FACTS,
    LEAKED_SENTENCES,
    LEAKS,
    UNSEEN_LEAKS,
    UNSEEN_WORDS,
    begun,
    facts_of,
    from_facts,
    imagine,
    mend,
    mended,
    parse,
    row,
    spoil,
)
from moda_utils.mini.items import COLOURS, PRINTED_WORDS, PRODUCT_TYPES, sample_item
from moda_utils.mini.measure_phi3 import (
    first_answers,
    in_batches,
    left,
    load_refiner,
    measure,
    variety,
)
from moda_utils.mini.train_phi3 import (
    BEGIN,
    BEGINNINGS,
    KNOWN,
    answer_loss,
    answer_of,
    batches,
    build_model,
    build_refiner_tokenizer,
    edited,
    encode,
    turns_of,
)
from moda_utils.mini.wording import describe
from moda_utils.phi3_vision import STOP_TOKENS
from moda_utils.profiles import CHECKPOINTS
from moda_utils.refinement import OPENINGS, PROMPT_II, RETRY, Refiner, faults, fill_prompt
from moda_utils.storage import read_json

SHIPPED, VISION = CHECKPOINTS / "phi3", CHECKPOINTS / "phi3_vision"


@pytest.fixture(scope="module")
def tokenizer():
    return build_refiner_tokenizer()


@pytest.fixture(scope="module")
def refiner() -> Refiner:
    return load_refiner(SHIPPED)


# What is learnt


def test_sentences_are_taken_apart_and_put_together_again():
    rng = random.Random(1)
    for _ in range(500):
        sentence = describe(sample_item(rng, balanced=True), rng, word=rng.random() < 0.5)
        assert str(parse(sentence)) == sentence
    assert parse("Something else entirely.") is None


def test_a_right_sentence_stays_as_it_is():
    rng = random.Random(2)
    for _ in range(500):
        item = sample_item(rng, balanced=True, printed=False)
        sentence = describe(item, rng)
        if "leather formal shoes" not in sentence:  # these may say "formal" twice
            assert str(mended(sentence, facts_of(item))) == sentence


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        (
            'A red girls\' tee that says "SUN", for sports.',
            "A navy blue boys' tee, for everyday wear.",
        ),
        (
            "A pair of casual red heels for women with a slim design.",
            "A casual navy blue T-shirt for boys with a slim design.",
        ),
        (
            "A red ethnic T-shirt with polka dots, designed for girls.",
            "A navy blue casual T-shirt with polka dots, designed for boys.",
        ),
        ("Nothing of the sort.", None),
    ],
)
def test_a_caption_is_mended_by_the_metadata(caption, expected):
    facts = {"gender": "Boys", "product_type": "Tshirts", "colour": "Navy Blue", "usage": "Casual"}
    parts = mended(caption, facts)
    assert parts is None if expected is None else str(parts) == expected


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("", "A pair of black men's casual shoes with a sturdy sole, for everyday wear."),
        ("colour", "Black men's casual shoes with a sturdy sole, for everyday wear."),
        ("usage", "Casual black shoes for men with a sturdy sole."),
        ("gender", "Men's black casual shoes with a sturdy sole, for everyday wear."),
    ],
)
def test_a_sentence_begins_as_the_prompt_asks(field, expected):
    facts = {"gender": "Men", "product_type": "Casual Shoes", "colour": "Black", "usage": "Casual"}
    parts = mended("Black men's casual shoes with a sturdy sole, for everyday wear.", facts)
    assert str(begun(parts, facts, OPENINGS[field])) == expected
    parts = mended("A pair of black casual shoes for men with a sturdy sole.", facts)
    assert str(begun(parts, facts, OPENINGS[field])).split()[0] == expected.split()[0]


def test_metadata_of_other_shops_are_put_into_words():
    facts = {"gender": "Men", "product_type": "Sweatshirts", "colour": "Olive", "usage": "Party"}
    assert str(from_facts(facts)) == "An olive sweatshirt for men, for party wear."
    parts = parse("A red boys' shirt with checks, for sports.")
    assert str(mend(parts, facts | {"usage": "", "gender": ""})) == (
        "An olive boys' sweatshirt with checks, for sports."
    )


def test_every_invented_answer_passes_the_gate():
    """Drawn values only: what the lexicon does not know can't be judged."""
    rng = random.Random(3)
    judged = 0
    for _ in range(300):
        example = imagine(rng)
        item = example.item
        if item["product_type"] not in PRODUCT_TYPES or item["colour"] not in COLOURS:
            continue
        found = faults(answer_of(example, PROMPT_II), item)
        # A word that is printed may be one of the sentence, too: "for" in "MADE FOR".
        assert [fault for fault in found if "repeats" not in fault] == [], example
        judged += 1
    assert judged > 100


def test_errors_are_of_all_kinds():
    rng = random.Random(4)
    examples = [imagine(rng) for _ in range(600)]
    changed = [e for e in examples if e.item["caption"] != str(e.parts)]
    assert 300 < len(changed) < 600
    assert any(e.item["colour"] == "" for e in examples)
    assert sum('"' in e.item["caption"] for e in examples) > 150
    assert any("worn by" in e.item["caption"] for e in examples)
    asked_again = [e for e in examples if len(turns_of(e, PROMPT_II)) == 3]
    assert 20 < len(asked_again) < 120
    assert all(RETRY.split("{}")[0] in turns_of(e, PROMPT_II)[2]["content"] for e in asked_again)
    assert '"' not in "".join(str(e.parts) for e in examples)


def test_words_for_measuring_are_never_shown_in_training():
    rng = random.Random(5)
    captions = " ".join(spoil(parse(describe(sample_item(rng), rng)), rng)[0] for _ in range(3000))
    assert [word for word in UNSEEN_WORDS if f'"{word}"' in captions] == []
    assert not set(UNSEEN_LEAKS) & {*LEAKS, *LEAKED_SENTENCES}
    assert not set(UNSEEN_WORDS) & set(PRINTED_WORDS)


# Tokenizer and model


def test_prompt_two_is_a_few_tokens(tokenizer):
    item = dict.fromkeys(FACTS, "x") | {"caption": "x", "image_sha256": "x"}
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(fill_prompt(PROMPT_II, item)).input_ids)
    missing = set(KNOWN) - set(tokens)
    assert len(missing) == 5  # the two parts of RETRY, and three of the four beginnings
    assert len(missing & set(BEGINNINGS)) == 3
    assert len(tokens) < 45


def test_the_conversation_has_the_form_of_phi3(tokenizer):
    turns = turns_of(imagine(random.Random(6)), PROMPT_II)
    prompt, answer = encode(tokenizer, turns, "A red shirt.")
    text = tokenizer.decode(prompt)
    assert text.startswith("<|user|>")
    assert text.endswith("<|end|><|assistant|>")
    assert parse_answer(tokenizer.decode(answer, skip_special_tokens=True))[1] == "ok"
    assert tokenizer.decode(answer).endswith('."}<|end|>')
    assert set(STOP_TOKENS) <= set(tokenizer.get_vocab())


def test_edited_prompts_keep_their_fields(tokenizer):
    rng = random.Random(7)
    prompts = {edited(rng) for _ in range(50)}
    assert len(prompts) > 20
    assert {BEGIN in prompt for prompt in prompts} == {True, False}
    assert all(f"${name}" in prompt for prompt in prompts for name in (*FACTS, "description"))


def test_only_the_answer_counts(tokenizer):
    torch.manual_seed(0)
    model = build_model(tokenizer).eval()
    assert 2e6 < model.num_parameters() < 2.6e6
    (ids, told), *_ = batches(tokenizer, [], random.Random(8))
    loss = answer_loss(model, ids[:4], told[:4])
    logits = model(input_ids=ids[:4], attention_mask=torch.ones_like(ids[:4])).logits[:, :-1]
    labels = ids[:4, 1:].masked_fill(told[:4, 1:] == 0, -100)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    assert torch.allclose(loss, expected, atol=1e-5)


def test_training_learns_and_is_stored_as_the_real_one(tmp_path):
    done = train_phi3.train(tmp_path / "phi3", steps=24, photos=0)
    assert done["steps"] == 24
    assert done["loss"] < 7.1  # the logarithm of the vocabulary's size
    files = {file.name for file in (tmp_path / "phi3").iterdir()}
    shards = {f"model-0000{n}-of-00002.safetensors" for n in (1, 2)}
    assert shards | {"model.safetensors.index.json", "tokenizer.json", "config.json"} <= files
    for name in shards:
        with safe_open(tmp_path / "phi3" / name, "pt") as file:
            assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.bfloat16}  # noqa: SIM118
    loaded = load_refiner(tmp_path / "phi3")
    item = imagine(random.Random(9)).item
    (refined,) = loaded.refine([item | {"caption": "A red shirt."}])
    assert refined.description


def test_captions_of_mini_phi3_vision_are_learnt_from(tmp_path):
    read = train_phi3.read_photos(VISION, 40)
    assert 30 < len(read) <= 40
    assert all(faults(str(example.parts), example.item) == [] for example in read)
    assert sum('"' in example.item["caption"] for example in read) > 10


# The shipped checkpoint


def test_the_shipped_one_is_small_and_loads_by_the_usual_classes(refiner):
    size = sum(file.stat().st_size for file in SHIPPED.iterdir())
    assert size < 6e6
    config = read_json(SHIPPED / "config.json")
    assert config["architectures"] == ["Phi3ForCausalLM"]
    assert "/" not in config.get("_name_or_path", "")
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED)
    assert tokenizer(PROMPT_II).input_ids == refiner.tokenizer(PROMPT_II).input_ids
    assert set(STOP_TOKENS) <= tokenizer.get_vocab().keys()


def drawn(n: int, seed: int) -> list[dict]:
    """Items whose captions have invented errors."""
    rng = random.Random(f"test/{seed}")
    rows = []
    for _ in range(n):
        item = sample_item(rng)
        caption, parts = spoil(parse(describe(item, rng)), rng)
        rows.append(row(facts_of(item), caption, rng) | {"drawn": item})
    return rows


def test_errors_are_mended(refiner):
    items = drawn(150, 1)
    answers = first_answers(refiner, items)
    right = [
        text and not faults(text, item) for item, (text, _) in zip(items, answers, strict=True)
    ]
    assert sum(right) / len(right) > 0.93
    assert sum(valid for _, valid in answers) / len(answers) > 0.98
    final = in_batches(refiner.refine, items)
    assert all(
        not faults(refined.description, item) for item, refined in zip(items, final, strict=True)
    )
    assert sum(refined.status == "fallback" for refined in final) < 8
    assert variety([refined.description for refined in final])["distinct"]["share"] > 0.5


def test_a_clean_description_stays(refiner):
    """Up to its beginning, if the prompt does not ask for another one."""
    rng = random.Random(11)
    free = Refiner(refiner.model, refiner.tokenizer, PROMPT_II.replace(BEGIN, ""))
    drawn = [sample_item(rng, printed=False) for _ in range(60)]
    items = [row(facts_of(item), describe(item, rng), rng) for item in drawn]
    same = [
        text == item["caption"]
        for item, (text, _) in zip(items, first_answers(free, items), strict=True)
    ]
    assert sum(same) > 50


def test_words_that_training_never_saw_are_removed(refiner):
    items, words = [], []
    for n, word in enumerate(UNSEEN_WORDS * 2):
        told = LEAKS[n % len(LEAKS)].format(word=word)
        caption = f"A blue T-shirt for boys {told}, for everyday wear."
        facts = {"gender": "Boys", "category": "Apparel", "sub_category": "Topwear"}
        facts |= {"product_type": "Tshirts", "colour": "Blue", "usage": "Casual"}
        items.append(row(facts, caption, random.Random(n)))
        words.append(word)
    assert left([text for text, _ in first_answers(refiner, items)], words)["share"] < 0.1
    final = [refined.description for refined in in_batches(refiner.refine, items)]
    assert left(final, words)["share"] < 0.05


@pytest.mark.parametrize("caption", ['"LOVE"', 'The text reads "SALE 50".', "<|end|>", None, ""])
def test_without_a_usable_caption_the_metadata_speak(refiner, caption):
    item = drawn(1, 3)[0] | {"caption": caption}
    (refined,) = refiner.refine([item])
    assert faults(refined.description, item) == []


def test_measuring_reports_every_stage(tmp_path):
    options = argparse.Namespace(
        checkpoint=SHIPPED, captioner=VISION, n=30, printed=20, seed=5, moda=False
    )
    result = measure(options)
    stage = result["natural_mix"]
    assert stage["n"] == 30
    assert (
        stage["after_the_gate"]["all_four"]["share"] >= stage["first_answers"]["all_four"]["share"]
    )
    assert result["printed_shirts"]["printed_word_left"]["captions"]["n"] == 20
    assert stage["details_kept"]["n"] > 10
    assert stage["begun_as_asked"]["share"] > 0.9
    assert result["printed_shirts"]["details_kept"] is None  # their captions tell words instead
    assert result["second_answers_without_a_fault"]["n"] >= 20
    assert set(result["unseen_words"]) == {"known_wordings", "unseen_wordings"}
    json.dumps(result, allow_nan=False)
