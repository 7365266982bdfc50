import math

import pytest
import torch

from boustro import BoustroConfig
from boustro.layers_boustro import (
    NUM_WORD_START_CODES,
    WORD_UNKNOWN,
    Alignment,
    BackwardDecoder,
    LockedDropout,
    LSTMStack,
    PosteriorEncoder,
    Prior,
)
from boustro.tokenization_boustro import INSIDE, START, UNKNOWN
from tests.conftest import SMALL

CONFIG = BoustroConfig(**SMALL)


def randomise(module, seed=0):
    torch.manual_seed(seed)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module.eval()


def test_locked_dropout_uses_one_mask_for_all_steps():
    torch.manual_seed(0)
    out = LockedDropout(0.5)(torch.ones(3, 7, 50))
    assert torch.equal(out, out[:, :1].expand_as(out))
    assert set(out.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(out[0], out[1])
    assert torch.equal(LockedDropout(0.5).eval()(torch.ones(3, 7, 50)), torch.ones(3, 7, 50))


def test_lstm_stack_with_lengths_ends_where_each_row_ends():
    stack = randomise(LSTMStack(4, 6, 2, dropout=0.0))
    x = torch.randn(3, 5, 4)
    state = (torch.randn(3, 2, 6), torch.randn(3, 2, 6))
    output, after = stack(x, state, torch.tensor([5, 2, 0]))
    alone, after_alone = stack(x[1:2, :2], tuple(s[1:2] for s in state))
    assert torch.allclose(output[1, :2], alone[0], atol=1e-6)
    for got, want, before in zip(after, after_alone, state, strict=True):
        assert torch.allclose(got[1], want[0], atol=1e-6)
        assert torch.equal(got[2], before[2])


def test_encoder_reads_only_the_segment_and_its_words():
    encoder = randomise(PosteriorEncoder(CONFIG))
    embeds, context = torch.randn(1, 1, 5, 8), torch.randn(1, 1, 12)
    word_starts, lengths = torch.tensor([[[1, 0, 0, 1, 0]]]), torch.tensor([[3]])
    mean, log_variance = encoder(embeds, word_starts, lengths, context)
    beyond = embeds.clone()
    beyond[:, :, 3:] += 1
    assert torch.equal(mean, encoder(beyond, word_starts, lengths, context)[0])
    for place in range(3):
        within = embeds.clone()
        within[:, :, place] += 1
        assert not torch.allclose(mean, encoder(within, word_starts, lengths, context)[0])
    assert not torch.allclose(mean, encoder(embeds, torch.full_like(word_starts, 2), lengths, context)[0])
    assert mean.shape == log_variance.shape == (1, 1, 4)


def test_encoder_reads_backward():
    encoder = randomise(PosteriorEncoder(CONFIG))
    embeds, context = torch.randn(1, 1, 5, 8), torch.zeros(1, 1, 12)
    unknown = torch.full((1, 1, 5), 2)
    flags = encoder.word_start_embedding(unknown)
    states, _ = encoder.lstm(torch.cat([embeds, flags], -1)[0].flip(1))
    hidden = torch.tanh(encoder.projection(torch.cat([states[:, -1], context[0]], -1)))
    expected = encoder.output(hidden)[:, :4]
    assert torch.allclose(encoder(embeds, unknown, torch.tensor([[5]]), context)[0][0], expected, atol=1e-6)


def test_priors():
    context = torch.randn(2, 3, 12)
    standard = Prior(BoustroConfig(**{**SMALL, "latent_prior": "standard"}))(context)
    z = torch.randn(2, 3, 4)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    assert torch.allclose(standard.log_prob(z), expected, atol=1e-5)
    conditional = randomise(Prior(CONFIG))
    assert conditional(context).log_weights.exp().sum(-1).tolist() == [pytest.approx([1.0] * 3, abs=1e-5)] * 2
    assert not torch.allclose(conditional(context).log_prob(z), conditional(context + 1).log_prob(z))


def test_backward_decoder_runs_from_the_last_place_to_the_first():
    decoder = randomise(BackwardDecoder(CONFIG))
    latents = torch.randn(2, 3, 4)
    states = decoder(latents)
    assert states.shape == (2, 3, 5, 6) and decoder.logits(states).shape == (2, 3, 5, 40)
    # changing what is fed at step 1 changes place 3 and all before it, and leaves the last place alone
    with torch.no_grad():
        decoder.step_embedding.weight[1] += 1
    changed = (decoder(latents) - states).abs().sum(-1) > 0
    assert changed.all(0).all(0).tolist() == [True, True, True, True, False]


def test_alignment_by_hand():
    alignment = Alignment(2, 2, max_distance=3)
    with torch.no_grad():
        alignment.query.weight.copy_(torch.eye(2))
        alignment.key.weight.copy_(torch.eye(2))
        alignment.distance_bias[3 + 1] = math.log(3.0)
    query, memory = (
        torch.tensor([[[math.sqrt(2.0), 0.0]]]),
        torch.tensor([[[0.0, 1.0], [math.log(2.0), 0.0]]]),
    )
    # scores: 0 at distance 0; log 2 + log 3 at distance 1
    aligned, weights = alignment(query, memory, distance=torch.tensor([[0, 1]]))
    assert torch.allclose(weights, torch.tensor([[[1 / 7, 6 / 7]]]), atol=1e-6)
    assert torch.allclose(aligned, torch.tensor([[[6 / 7 * math.log(2.0), 1 / 7]]]), atol=1e-6)


def test_alignment_takes_any_memory_with_a_mask():
    alignment = randomise(Alignment(5, 6, max_distance=2))
    query, memory = torch.randn(2, 3, 5), torch.randn(2, 9, 6)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[:, 4:] = False
    aligned, weights = alignment(query, memory, mask)
    assert torch.equal(weights[..., 4:], torch.zeros(2, 3, 5))
    assert torch.allclose(aligned, alignment(query, memory[:, :4])[0], atol=1e-6)


def test_word_start_codes_are_those_of_the_tokenizer():
    assert (INSIDE, START, UNKNOWN) == (0, 1, WORD_UNKNOWN) and NUM_WORD_START_CODES == 3
