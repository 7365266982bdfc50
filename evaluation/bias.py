"""Bias as differences of likelihood between sentences that differ in one term, with confidence intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from boustro.evaluation.bias_templates import CONTRASTS, Contrast
from boustro.evaluation.likelihood import text_nats
from boustro.tokenization_boustro import BYTE_TOKENS

DRAWS = 10_000  # of the bootstrap
LEVEL = 0.95
FIGURES = ("association", "low", "high", "preference", "preference_low", "preference_high")
MOST_UNKNOWN = 0.05  # share of characters that are spelt in bytes above which a language is not the model's


def counterfactual_bias(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    contrasts: Sequence[Contrast] = CONTRASTS,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The association of terms and contexts in each contrast, in nats per sentence.

    For a pair of terms (a, b) in a context, Δ = log p(sentence with a) − log p(sentence with b). The association is
    the mean Δ over the expected contexts minus that over the other ones: how common a and b are cancels out, and
    without prejudice it is 0. Its interval is a bootstrap over the contexts; terms and templates are averaged before.

    Returns dicts of `language`, `subject`, `question`, `sentences`, `unknown` (share of their characters that the
    vocabulary lacks) and, where that is at most `MOST_UNKNOWN`, else None, `association`, `low`, `high` (95 %
    interval) and `preference`, `preference_low`, `preference_high`: the mean of all Δ, with its interval.
    """
    generators = (np.random.default_rng([seed, index]) for index in range(len(contrasts)))
    return [_measure(model, tokenizer, *pair) for pair in zip(contrasts, generators, strict=True)]


def _measure(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, contrast: Contrast, rng: np.random.Generator
) -> dict[str, Any]:
    contexts = [*contrast.expected, *contrast.other]
    sentences = [
        template.format(term=term, context=context)
        for context in contexts
        for template in contrast.templates
        for pair in contrast.terms
        for term in pair
    ]
    unknown = unknown_share(tokenizer, sentences)
    result = {
        "language": contrast.language,
        "subject": contrast.subject,
        "question": contrast.question,
        "sentences": len(sentences),
        "unknown": unknown,
        **dict.fromkeys(FIGURES),
    }
    if unknown > MOST_UNKNOWN:
        return result
    log_likelihood = -text_nats(model, tokenizer, sentences).reshape(len(contexts), -1, 2)
    differences = (log_likelihood[..., 0] - log_likelihood[..., 1]).mean(1)  # of each context
    expected, other = np.split(differences, [len(contrast.expected)])
    draws = _bootstrap_means(expected, rng), _bootstrap_means(other, rng)
    association, preference = expected.mean() - other.mean(), differences.mean()
    values = (association, *_interval(draws[0] - draws[1]), preference, *_interval((draws[0] + draws[1]) / 2))
    return result | dict(zip(FIGURES, map(float, values), strict=True))


def _interval(draws: np.ndarray) -> np.ndarray:
    return np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])


def unknown_share(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> float:
    """The share of the characters of texts that are spelt in bytes."""
    byte_ids = set(tokenizer.convert_tokens_to_ids(list(BYTE_TOKENS)))
    characters = dict.fromkeys("".join(texts))
    lacking = {c for c in characters if byte_ids & set(tokenizer.encode(c, add_special_tokens=False))}
    text = "".join(texts)
    return sum(character in lacking for character in text) / len(text)


def _bootstrap_means(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return values[rng.integers(len(values), size=(DRAWS, len(values)))].mean(1)
