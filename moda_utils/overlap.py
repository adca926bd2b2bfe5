"""How much the words of a text overlap with those of a reference: BLEU, ROUGE-L and CIDEr-D.

They reward wording, not truth: "white shoes for women" shares most of its words with "white shoes
for men". What is true is asked by `evaluation`; these figures only make a captioner comparable
with others that are scored on the same references. Every text has one reference.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

_N = 4  # n-grams of 1 to 4 words, in BLEU and CIDEr-D alike
_SIGMA = 6.0  # how many words of difference in length CIDEr-D forgives


def bleu_counts(texts: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """What BLEU counts in each text, (N, 10): the sum of several rows is that of a corpus."""
    from sacrebleu import BLEU

    metric = BLEU(effective_order=True)  # else it warns of texts shorter than four words
    pairs = zip(texts, references, strict=True)
    scores = [metric.sentence_score(text, [reference]) for text, reference in pairs]
    return np.array([[*s.counts, *s.totals, s.sys_len, s.ref_len] for s in scores], dtype=float)


def bleu(counts: Iterable[float]) -> float:
    """BLEU of a corpus, 0 to 100, from summed rows of `bleu_counts`."""
    from sacrebleu import BLEU

    whole = [round(count) for count in counts]
    parts = whole[:_N], whole[_N : 2 * _N], *whole[2 * _N :]  # matched, all, two lengths
    return BLEU.compute_bleu(*parts, smooth_method="exp").score


def rouge_l(texts: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """ROUGE-L of each text (N,), 0 to 1: F1 of the longest common subsequence of words."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    pairs = zip(texts, references, strict=True)
    return np.array([scorer.score(reference, text)["rougeL"].fmeasure for text, reference in pairs])


def cider_d(texts: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """CIDEr-D of each text (N,), 0 to 10: the likeness of its n-grams, weighted by their rarity.

    An n-gram weighs more, the fewer of `references` have it: scores against other references can't
    be compared with these. A word that a text repeats more often than its reference gains nothing,
    and another length costs (R. Vedantam and others, 2015).
    """
    wanted = [_words(reference) for reference in references]
    seen_in = Counter(gram for words in wanted for gram in _ngrams(words))
    scores = []
    for text, reference in zip(map(_words, texts), wanted, strict=True):
        likeness = 0.0
        for n in range(1, _N + 1):
            ours, theirs = (
                {
                    gram: count * math.log(len(wanted) / max(1, seen_in[gram]))
                    for gram, count in _ngrams(words).items()
                    if len(gram) == n
                }
                for words in (text, reference)
            )
            shared = sum(min(ours.get(g, 0.0), weight) * weight for g, weight in theirs.items())
            lengths = math.hypot(*ours.values()) * math.hypot(*theirs.values())
            likeness += shared / lengths / _N if lengths else 0.0
        difference = len(text) - len(reference)
        scores.append(10 * likeness * math.exp(-(difference**2) / (2 * _SIGMA**2)))
    return np.array(scores)


def _words(text: str) -> list[str]:
    """Words in lower case, split as by the tokenizer of CIDEr's authors: men, 's, t-shirt."""
    return re.findall(r"\w+(?:-\w+)*|'s\b", text.lower().replace("’", "'"))


def _ngrams(words: list[str]) -> Counter[tuple[str, ...]]:
    """How often each run of 1 to 4 words occurs."""
    sizes = range(1, _N + 1)
    return Counter(tuple(words[at : at + n]) for n in sizes for at in range(len(words) - n + 1))
