"""Exact match and token F1 of spans as SQuAD 2.0 defines them (Rajpurkar, Jia and Liang, 2018)."""

import re
import string
from collections import Counter

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(answer: str) -> list[str]:
    """Return the words of an answer that count: lower case, without ASCII punctuation and English articles."""
    return _ARTICLES.sub(" ", answer.lower().translate(_NO_PUNCTUATION)).split()


def exact_match(predicted: str, truth: str) -> float:
    """Return 1 if both have the same normalised words, else 0; an empty answer matches an empty one."""
    return float(normalised(predicted) == normalised(truth))


def token_f1(predicted: str, truth: str) -> float:
    """Return the harmonic mean of precision and recall over words; exact match if either answer is empty."""
    guessed, true = normalised(predicted), normalised(truth)
    if not guessed or not true:
        return float(guessed == true)
    common = sum((Counter(guessed) & Counter(true)).values())
    # 2 P R / (P + R) with P = common / guessed and R = common / true.
    return 2 * common / (len(guessed) + len(true))
