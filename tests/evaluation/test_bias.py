from dataclasses import replace

import numpy as np
import pytest

from boustro import BoustroTokenizer
from boustro.evaluation import bias
from boustro.evaluation.bias import counterfactual_bias, unknown_share
from boustro.evaluation.bias_templates import CONTRASTS, Contrast
from tests.conftest import small_model

TOKENIZER = BoustroTokenizer.train_from_iterator(["abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ -."])
CONTRAST = Contrast(
    "en", "x", (("he", "she"), ("boy", "girl")), ("{term} {context}",), ("up", "on"), ("off", "by"), "q"
)


def measured(monkeypatch, nats, contrast=CONTRAST):
    """The contrast's figures if sentences cost what `nats` says."""
    monkeypatch.setattr(bias, "FEWEST", 2)
    monkeypatch.setattr(bias, "text_nats", lambda model, tokenizer, texts: np.array([nats(text) for text in texts]))
    (figures,) = counterfactual_bias(None, TOKENIZER, [contrast])
    return figures


def test_a_model_that_only_likes_a_term_has_a_preference_but_no_association(monkeypatch):
    figures = measured(monkeypatch, lambda text: 1.0 if text.split()[0] in ("he", "boy") else 3.0)
    assert (figures["association"], figures["low"], figures["high"]) == (0, 0, 0)
    assert figures["preference"] == 2 and figures["sentences"] == 16


def test_a_term_that_goes_with_a_context_is_an_association(monkeypatch):
    figures = measured(monkeypatch, lambda text: 1.0 if text in ("he up", "he on", "boy up", "boy on") else 3.0)
    assert (figures["association"], figures["low"], figures["preference"]) == (2, 2, 1)
    # contexts differ by 2, 0 and 0, 0: a standard error of 1 with one degree of freedom, whose t is 12.706
    figures = measured(monkeypatch, lambda text: 1.0 if text in ("he up", "boy up") else 3.0)
    found = [figures[name] for name in ("association", "low", "high", "preference", "preference_low")]
    assert found == pytest.approx([1, 1 - 12.706, 1 + 12.706, 0.5, 0.5 - 12.706 / 2], abs=1e-3)


def test_contexts_that_are_all_alike_have_no_interval(recwarn):
    assert bias._difference(np.full(3, 0.1), np.full(4, 0.3)) == pytest.approx((-0.2, -0.2, -0.2), abs=1e-15)
    assert not recwarn


def test_kinds_of_contexts_weigh_the_same(monkeypatch):
    contrast = replace(CONTRAST, expected=("up", "on", "in", "at"))
    figures = measured(monkeypatch, lambda text: 1.0 if text in ("he off", "boy off") else 3.0, contrast)
    assert figures["preference"] == 0.5 and figures["preference_low"] < 0.5 < figures["preference_high"]


def test_what_the_vocabulary_lacks_is_left_out():
    tokenizer = BoustroTokenizer.train_from_iterator(["heshupndofyi wxt"])  # no b: without boy and by
    contrast = replace(CONTRAST, expected=("up", "on", "in"), other=("off", "by", "to", "down"))
    (figures,) = counterfactual_bias(small_model(vocab_size=len(tokenizer)), tokenizer, [contrast])
    assert figures["sentences"] == 2 * (3 + 3) and figures["association"] is not None and figures["unknown"] > 0
    (figures,) = counterfactual_bias(None, tokenizer, [replace(contrast, expected=("up", "by"))])
    assert figures["sentences"] == 0 and figures["association"] is None


def test_languages_that_the_vocabulary_lacks_are_not_measured():
    figures = counterfactual_bias(small_model(vocab_size=len(TOKENIZER)), TOKENIZER)
    assert [found["language"] for found in figures if found["association"] is not None] == ["en"] * 3
    assert [found["unknown"] for found in figures] == [0, 0, 0, 1, 1, 1]
    assert all(found["low"] <= found["association"] <= found["high"] for found in figures[:3])


def test_the_templates_differ_in_the_term_alone():
    for contrast in CONTRASTS:
        assert all("{term}" in template and "{context}" in template for template in contrast.templates)
        assert len(contrast.expected) == len(contrast.other) and not set(contrast.expected) & set(contrast.other)
    assert {(contrast.language, contrast.subject) for contrast in CONTRASTS} == {
        (language, subject) for language in ("en", "zh") for subject in ("gender", "region", "occupation")
    }


def test_unknown_share_counts_characters():
    assert unknown_share(TOKENIZER, ["ab你好"]) == pytest.approx(0.5)
