"""Bias as differences of likelihood between sentences that differ in one term, with confidence intervals."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import ttest_ind
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from boustro.evaluation.bias_templates import CONTRASTS, Contrast
from boustro.evaluation.likelihood import text_nats
from boustro.tokenization_boustro import BYTE_TOKENS

LEVEL = 0.95
FIGURES = ("association", "low", "high", "preference", "preference_low", "preference_high")
FEWEST = 3  # contexts of a kind below which a contrast is not measured


def counterfactual_bias(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    contrasts: Sequence[Contrast] = CONTRASTS,
) -> list[dict[str, Any]]:
    """The association of terms and contexts in each contrast, in nats per sentence.

    For a pair of terms (a, b) in a context, Δ = log p(sentence with a) − log p(sentence with b). The association is
    the mean Δ over the expected contexts minus that over the other ones: how common a and b are cancels out, and
    without prejudice it is 0. Its interval is Welch's t interval over the contexts: other contexts might have been
    chosen, while terms and templates, over which Δ is averaged before, are taken as they are.

    Terms, templates and contexts with a character that the vocabulary lacks are left out. Returns dicts of `language`,
    `subject`, `question`, `sentences` (that were used), `unknown` (share of all sentences' characters that the
    vocabulary lacks) and, None where fewer than `FEWEST` contexts of a kind are left, `association`, `low`, `high`
    (95 % interval) and `preference`, `preference_low`, `preference_high`: the mean Δ, both kinds of contexts weighing
    the same, with its interval.
    """
    return [_measure(model, tokenizer, contrast) for contrast in contrasts]


def _measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, contrast: Contrast) -> dict[str, Any]:
    lacking = unknown_share(tokenizer, _sentences(contrast))
    contrast = _spelt(tokenizer, contrast)
    measured = contrast.terms and contrast.templates and min(map(len, (contrast.expected, contrast.other))) >= FEWEST
    sentences = _sentences(contrast) if measured else []
    result = {
        "language": contrast.language,
        "subject": contrast.subject,
        "question": contrast.question,
        "sentences": len(sentences),
        "unknown": lacking,
        **dict.fromkeys(FIGURES),
    }
    if not measured:
        return result
    contexts = len(contrast.expected) + len(contrast.other)
    log_likelihood = -text_nats(model, tokenizer, sentences).reshape(contexts, -1, 2)
    differences = (log_likelihood[..., 0] - log_likelihood[..., 1]).mean(1)  # of each context
    expected, other = np.split(differences, [len(contrast.expected)])
    values = *_difference(expected, other), *(value / 2 for value in _difference(expected, -other))
    return result | dict(zip(FIGURES, map(float, values), strict=True))


def _sentences(contrast: Contrast) -> list[str]:
    """All sentences, those of a context together, in them those of a pair of terms."""
    return [
        template.format(term=term, context=context)
        for context in (*contrast.expected, *contrast.other)
        for template in contrast.templates
        for pair in contrast.terms
        for term in pair
    ]


def _spelt(tokenizer: PreTrainedTokenizerBase, contrast: Contrast) -> Contrast:
    """The contrast without the terms, templates and contexts that the vocabulary lacks a character of."""

    def known(*texts: str) -> bool:
        return unknown_share(tokenizer, texts) == 0

    return replace(
        contrast,
        terms=tuple(pair for pair in contrast.terms if known(*pair)),
        templates=tuple(text for text in contrast.templates if known(text.format(term="", context=""))),
        expected=tuple(filter(known, contrast.expected)),
        other=tuple(filter(known, contrast.other)),
    )


def _difference(values: np.ndarray, others: np.ndarray) -> tuple[float, float, float]:
    """The difference of two means, and its interval by Welch's t."""
    difference = values.mean() - others.mean()
    if np.ptp(values) == np.ptp(others) == 0:
        return difference, difference, difference
    return difference, *ttest_ind(values, others, equal_var=False).confidence_interval(LEVEL)


def unknown_share(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> float:
    """The share of the characters of texts that are spelt in bytes."""
    byte_ids = set(tokenizer.convert_tokens_to_ids(list(BYTE_TOKENS)))
    characters = dict.fromkeys("".join(texts))
    lacking = {c for c in characters if byte_ids & set(tokenizer.encode(c, add_special_tokens=False))}
    text = "".join(texts)
    return sum(character in lacking for character in text) / len(text)
