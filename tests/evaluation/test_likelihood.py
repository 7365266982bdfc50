import pytest
import torch

from boustro import BoustroTokenizer
from boustro.evaluation.likelihood import text_nats
from tests.conftest import small_model

TEXTS = ["the quick brown fox", "a dog", "你好，世界 the end"]
TOKENIZER = BoustroTokenizer.train_from_iterator(TEXTS)


@pytest.mark.parametrize("options", [{}, {"latent_prior": "standard"}, {"latent_size": 0}])
def test_texts_are_as_likely_together_as_alone(options):
    model = small_model(vocab_size=len(TOKENIZER), **options)
    together = text_nats(model, TOKENIZER, TEXTS)
    assert together == pytest.approx([text_nats(model, TOKENIZER, [text])[0] for text in TEXTS], rel=1e-5)


def test_a_plain_model_gives_the_exact_likelihood():
    model = small_model(vocab_size=len(TOKENIZER), latent_size=0)
    assert text_nats(model, TOKENIZER, TEXTS) == pytest.approx(model.score(TEXTS, tokenizer=TOKENIZER).nats.tolist())


def test_a_posterior_without_spread_gives_the_bound():
    model = small_model(vocab_size=len(TOKENIZER))
    with torch.no_grad():
        model.model.planner.encoder.output.bias[4:] = -30.0
    # the density of a draw under its posterior varies by a chi-square of each dimension, whatever the spread
    scores = torch.stack([model.score(TEXTS, tokenizer=TOKENIZER).nats for _ in range(200)])
    assert text_nats(model, TOKENIZER, TEXTS) == pytest.approx(scores.mean(0).tolist(), rel=1e-2)
