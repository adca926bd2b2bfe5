"""Overlap with reference texts: equal to the libraries and to the authors' CIDEr-D."""

import json
from pathlib import Path

import numpy as np
import pytest
import sacrebleu

from moda_utils import overlap

STORED = json.loads((Path(__file__).parent / "data" / "cider.json").read_text(encoding="utf-8"))
TEXTS, REFERENCES = STORED["texts"], STORED["references"]


def test_cider_d_equals_the_authors_implementation():
    assert overlap.cider_d(TEXTS, REFERENCES) == pytest.approx(STORED["cider"], abs=1e-5)


def test_cider_d_does_not_depend_on_the_order_of_items():
    turned = overlap.cider_d(TEXTS[::-1], REFERENCES[::-1])
    assert turned[::-1] == pytest.approx(STORED["cider"], abs=1e-5)


def test_cider_d_ignores_case_and_punctuation_and_counts_repetition_no_further():
    references = ["Red shoes for men.", "A blue top for girls", "Green kurta"]
    plain, loud, again = (
        overlap.cider_d([text, "", ""], references)[0]
        for text in ("red shoes for men", "RED shoes, for men!", "red red red red shoes for men")
    )
    assert plain == loud == pytest.approx(10)
    assert again < plain


def test_bleu_of_summed_counts_is_the_librarys_corpus_bleu():
    counts = overlap.bleu_counts(TEXTS, REFERENCES)
    assert counts.shape == (len(TEXTS), 10)
    expected = sacrebleu.corpus_bleu(TEXTS, [REFERENCES]).score
    assert overlap.bleu(counts.sum(axis=0)) == pytest.approx(expected, abs=1e-9)
    some = [0, 1, 1, 8]  # as a resample draws them
    drawn = [TEXTS[i] for i in some], [[REFERENCES[i] for i in some]]
    expected = sacrebleu.corpus_bleu(*drawn).score
    assert overlap.bleu(counts[some].sum(axis=0)) == pytest.approx(expected, abs=1e-9)


def test_rouge_l_by_hand():
    # "white shoes for" is common to both: 3 of 4 words of the text, 3 of 5 of the reference.
    [value] = overlap.rouge_l(["White shoes for women"], ["White casual shoes for men"])
    assert value == pytest.approx(2 * 0.75 * 0.6 / (0.75 + 0.6))


@pytest.mark.parametrize("measure", [overlap.cider_d, overlap.rouge_l])
def test_equal_texts_get_the_most_and_empty_ones_nothing(measure):
    values = measure(["Red shoes for men", ""], ["Red shoes for men", "A blue top for girls"])
    assert values == pytest.approx([10 if measure is overlap.cider_d else 1, 0])


def test_bleu_of_empty_texts_is_zero():
    assert overlap.bleu(overlap.bleu_counts([""], ["Red shoes"]).sum(axis=0)) == 0


@pytest.mark.parametrize("measure", [overlap.cider_d, overlap.rouge_l, overlap.bleu_counts])
def test_every_text_needs_its_reference(measure):
    with pytest.raises(ValueError):
        measure(["Red shoes", "Blue top"], ["Red shoes"])


def test_no_text_no_score():
    assert np.size(overlap.cider_d([], [])) == 0
