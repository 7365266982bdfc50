import math

import pytest
import torch
from torch.nn import functional as F

from boustro import BoustroConfig, BoustroForCausalLM, BoustroModel
from tests.conftest import random_ids, small_model


def test_logits_without_labels_are_causal(model):
    ids = random_ids(2, 13)
    logits = model(ids).logits
    for place in range(13):
        changed = ids.clone()
        changed[:, place] = (changed[:, place] - 3 + 7) % 37 + 3
        difference = (model(changed).logits - logits).abs().amax((0, 2))
        assert (difference[:place] == 0).all()
        assert (difference[place:] > 0).all()


def test_future_reaches_the_generator_only_through_z(model):
    ids, latents = random_ids(2, 13), torch.randn(2, 3, 4)
    logits = model(ids, labels=ids, latents=latents).logits
    free = model(ids, labels=ids, latent_noise=torch.zeros(2, 3, 4)).logits
    for place in range(1, 13):
        changed = ids.clone()
        changed[:, place] = (changed[:, place] - 3 + 7) % 37 + 3
        fixed = model(changed, labels=changed, latents=latents).logits
        assert torch.equal(fixed[:, :place], logits[:, :place])
        through_z = model(changed, labels=changed, latent_noise=torch.zeros(2, 3, 4)).logits
        assert not torch.equal(through_z[:, place - 1], free[:, place - 1])


def test_the_plan_skip_adds_the_aligned_plan_to_what_the_softmax_reads():
    ids, latents = random_ids(2, 8), torch.randn(2, 2, 4)
    with_skip, without = small_model(), small_model(plan_skip=False)
    without.load_state_dict({k: v for k, v in with_skip.state_dict().items() if "plan_skip" not in k})
    outputs = [
        model.model(ids, target_ids=ids, latents=latents, output_alignments=True) for model in (with_skip, without)
    ]
    aligned = (outputs[0].alignments @ outputs[0].backward_states).flatten(1, 2)[:, :8]  # segments of 5: (2, 2, 5, 6)
    difference = outputs[0].last_hidden_state - outputs[1].last_hidden_state
    assert torch.allclose(difference, with_skip.model.plan_skip(aligned), atol=1e-5)
    assert not hasattr(without.model, "plan_skip") and not hasattr(small_model(latent_size=0).model, "plan_skip")


def test_a_latent_never_sees_later_segments(model):
    ids = random_ids(1, 13)
    noise = torch.zeros(1, 3, 4)
    before = model.model(ids, target_ids=F.pad(ids[:, 1:], (0, 1), value=-100), latent_noise=noise)
    ids[:, 11] = 3 if ids[0, 11] != 3 else 4  # target of place 10, in the third segment
    after = model.model(ids, target_ids=F.pad(ids[:, 1:], (0, 1), value=-100), latent_noise=noise)
    assert torch.equal(before.posterior_mean[:, :2], after.posterior_mean[:, :2])
    assert not torch.equal(before.posterior_mean[:, 2], after.posterior_mean[:, 2])


def torch_mixture(prior):
    shape = (*prior.log_weights.shape[:-1], *prior.means.shape)
    normal = torch.distributions.Normal(prior.means.expand(shape), (0.5 * prior.log_variances).exp().expand(shape))
    weights = torch.distributions.Categorical(logits=prior.log_weights)
    return torch.distributions.MixtureSameFamily(weights, torch.distributions.Independent(normal, 1))


def test_loss_is_the_bound_computed_from_its_parts_by_hand(model):
    ids = random_ids(2, 9)
    noise = torch.randn(2, 2, 4)
    output = model(ids, labels=ids, latent_noise=noise)
    backbone = model.model(ids, target_ids=F.pad(ids[:, 1:], (0, 1), value=-100), latent_noise=noise)
    q = torch.distributions.Normal(backbone.posterior_mean, (0.5 * backbone.posterior_log_variance).exp())
    assert torch.allclose(backbone.latents, q.mean + q.stddev * noise)
    kl = q.log_prob(backbone.latents).sum(-1) - torch_mixture(backbone.prior).log_prob(backbone.latents)
    log_p = F.log_softmax(output.logits, -1)
    reconstruction = [-sum(log_p[b, t, ids[b, t + 1]] for t in range(8)) for b in range(2)]
    assert torch.allclose(output.kl, kl, atol=1e-4)
    assert torch.allclose(output.reconstruction, torch.stack(reconstruction), atol=1e-4)
    assert output.target_count.tolist() == [8, 8] and output.segment_count.tolist() == [2, 2]
    assert output.loss.item() == pytest.approx(((sum(reconstruction) + kl.sum()) / 16).item(), rel=1e-5)


def test_training_objective_adds_floor_annealing_and_backward_term():
    model = small_model(kl_floor=50.0, backward_weight=0.3, dropout=0.0, word_start_dropout=0.0)
    ids, noise = random_ids(2, 11), torch.randn(2, 2, 4)
    bound = model(ids, labels=ids, latent_noise=noise)
    objective = model.train()(ids, labels=ids, latent_noise=noise, kl_weight=0.5)
    floored = torch.maximum(bound.kl, torch.tensor([[50.0, 50.0, 0.0]]))  # the third has no target
    expected = (bound.reconstruction.sum() + 0.5 * floored.sum() + 0.3 * bound.backward_nll.sum()) / 20
    assert objective.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert bound.loss.item() == pytest.approx(((bound.reconstruction.sum() + bound.kl.sum()) / 20).item(), rel=1e-5)


def test_the_backward_term_counts_less_further_from_a_segments_start():
    ids, noise, losses = random_ids(2, 11), torch.zeros(2, 2, 4), {}
    for weight in (0.0, 1.0):
        model = small_model(backward_weight=weight, backward_horizon=2, dropout=0.0, word_start_dropout=0.0).train()
        output = model(ids, labels=ids, latent_noise=noise)
        losses[weight] = output.loss
    latents = output.latents[:, :2]
    decoder = model.model.planner.backward_decoder
    log_p = F.log_softmax(decoder.logits(decoder(latents)), -1)  # (2, 2, 5, V)
    nll = -log_p.gather(-1, ids[:, 1:].unflatten(1, (2, 5))[..., None])[..., 0]
    expected = sum(nll[:, :, place].sum() * math.exp(-place / 2) for place in range(5)) / 20
    assert (losses[1.0] - losses[0.0]).item() == pytest.approx(expected.item(), rel=1e-4)


def test_training_leaves_out_places_far_beyond_the_horizon_and_evaluation_does_not():
    ids, latents = random_ids(2, 11), torch.randn(2, 2, 4)
    model = small_model(backward_horizon=1 / 6, dropout=0.0, word_start_dropout=0.0)
    whole = model(ids, labels=ids, latents=latents).backward_nll
    first = model.train()(ids, labels=ids, latents=latents).backward_nll
    decoder = model.model.planner.backward_decoder
    log_p = F.log_softmax(decoder.logits(decoder(latents)), -1)
    nll = -log_p.gather(-1, ids[:, 1:].unflatten(1, (2, 5))[..., None])[..., 0]  # (2, 2, 5)
    assert torch.allclose(whole, nll.sum((1, 2)), rtol=1e-4)
    assert torch.allclose(first, nll[:, :, 0].sum(1), rtol=1e-4)


def test_backward_nll_is_that_of_the_targets_under_the_backward_logits(model):
    ids, latents = random_ids(1, 6), torch.randn(1, 2, 4)
    output = model(ids, labels=ids, latents=latents)
    decoder = model.model.planner.backward_decoder
    log_p = F.log_softmax(decoder.logits(decoder(latents)), -1)[0, 0]
    expected = -sum(log_p[p, ids[0, p + 1]] for p in range(5))
    assert output.backward_nll.item() == pytest.approx(expected.item(), rel=1e-5)


def test_labels_and_target_ids_agree(model):
    ids, noise = random_ids(2, 9), torch.zeros(2, 2, 4)
    flags = torch.randint(0, 2, (2, 9))
    shifted = F.pad(ids[:, 1:], (0, 1), value=-100)
    a = model(ids, labels=ids, word_starts=flags, latent_noise=noise)
    b = model(ids, target_ids=shifted, word_starts=F.pad(flags[:, 1:], (0, 1), value=2), latent_noise=noise)
    assert a.loss == b.loss
    assert a.loss != model(ids, labels=ids, latent_noise=noise).loss


def test_word_starts_are_hidden_at_random_in_training():
    model = small_model(word_start_dropout=1.0, dropout=0.0).train()
    ids, noise = random_ids(2, 9), torch.zeros(2, 2, 4)
    flags = torch.ones_like(ids)
    assert (
        model(ids, labels=ids, word_starts=flags, latent_noise=noise).loss
        == model(ids, labels=ids, latent_noise=noise).loss
    )
    model.eval()
    assert (
        model(ids, labels=ids, word_starts=flags, latent_noise=noise).loss
        != model(ids, labels=ids, latent_noise=noise).loss
    )


@pytest.mark.parametrize("cuts", [[1], [5], [6, 10], list(range(1, 13))])
def test_prefix_and_remainder_equal_the_whole(model, cuts):
    ids = random_ids(3, 13)
    whole = model(ids).logits
    cache, parts = None, []
    for start, end in zip([0, *cuts], [*cuts, 13], strict=True):
        output = model(ids[:, start:end], past_key_values=cache)
        cache = output.past_key_values
        parts.append(output.logits)
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-5)


def test_streamed_windows_equal_one_long_window(model):
    ids, noise = random_ids(2, 21), torch.randn(2, 4, 4)
    inputs, targets = ids[:, :-1], ids[:, 1:]
    whole = model(inputs, target_ids=targets, latent_noise=noise)
    first = model(inputs[:, :10], target_ids=targets[:, :10], latent_noise=noise, use_cache=True)
    second = model(
        inputs[:, 10:],
        target_ids=targets[:, 10:],
        latent_noise=noise[:, 2:],
        past_key_values=first.past_key_values,
    )
    assert torch.allclose(first.reconstruction + second.reconstruction, whole.reconstruction, atol=1e-4)
    assert torch.allclose(torch.cat([first.kl, second.kl], 1), whole.kl, atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("latent_size", [0, 4])
def test_padded_batch_equals_single_rows(side, latent_size):
    model = small_model(latent_size=latent_size)
    rows = [random_ids(1, n, seed=n)[0] for n in (12, 7, 1)]
    pad = (lambda n: (12 - n, 0)) if side == "left" else (lambda n: (0, 12 - n))
    ids = torch.stack([F.pad(row, pad(len(row))) for row in rows])
    mask = torch.stack([F.pad(torch.ones_like(row), pad(len(row))) for row in rows])
    noise = torch.zeros(3, 3, 4)
    batch, labelled = (
        model(ids, attention_mask=mask),
        model(ids, attention_mask=mask, labels=ids, latent_noise=noise),
    )
    for i, row in enumerate(rows):
        alone = model(row[None])
        assert torch.allclose(batch.logits[i][mask[i] == 1], alone.logits[0], atol=1e-5)
        nll = model(row[None], labels=row[None], latent_noise=noise[:1])
        assert torch.allclose(labelled.reconstruction[i], nll.reconstruction[0], atol=1e-4)
        assert labelled.target_count[i] == len(row) - 1
        if latent_size:
            assert torch.allclose(labelled.kl[i].sum(), nll.kl.sum(), atol=1e-4)
        # and the state after the padded row is the state after the row alone
        follow = random_ids(1, 3, seed=99)
        cache, single = batch.past_key_values, alone.past_key_values
        for got, want in zip(cache.generator_state, single.generator_state, strict=True):
            assert torch.allclose(got[i], want[0], atol=1e-5)
        assert model(follow, past_key_values=single).logits.shape == (1, 3, 40)


def test_segments_start_where_asked(model):
    ids, noise = random_ids(1, 9), torch.zeros(1, 3, 4)
    starts = torch.zeros(1, 9, dtype=torch.bool)
    starts[:, [0, 2, 6]] = True
    output = model(ids, labels=ids, segment_starts=starts, latent_noise=noise)
    pieces = [model(ids[:, :3], labels=ids[:, :3], latent_noise=noise)]
    assert output.segment_count.tolist() == [3]
    assert torch.allclose(output.kl[0, 0], pieces[0].kl[0, 0], atol=1e-5)


def test_latents_given_for_the_first_segments_only(model):
    ids, latents = random_ids(2, 13), torch.randn(2, 1, 4)
    given, free = model.model(ids, latents=latents), model.model(ids)
    assert torch.equal(given.latents[:, :1], latents)
    assert torch.equal(given.latents[:, 1:], free.latents[:, 1:])
    mask = torch.tensor([[True], [False]])
    masked = model.model(ids, latents=latents, latent_mask=mask)
    assert torch.equal(masked.latents[0], given.latents[0]) and torch.equal(masked.latents[1], free.latents[1])


def by_hand(layer, x):
    """Hochreiter & Schmidhuber's cell with a forget gate, step by step."""
    h = c = torch.zeros(len(x), layer.hidden_size)
    outputs = []
    for t in range(x.shape[1]):
        gates = x[:, t] @ layer.weight_ih_l0.T + h @ layer.weight_hh_l0.T + layer.bias_ih_l0 + layer.bias_hh_l0
        i, f, g, o = gates.chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        outputs.append(h)
    return torch.stack(outputs, 1)


@pytest.mark.parametrize("layers", [(1, 0), (2, 0), (1, 1), (1, 2)])
def test_without_latent_it_is_a_hand_written_lstm(layers):
    context, generator = layers
    model = small_model(latent_size=0, num_context_layers=context, num_generator_layers=generator)
    ids = random_ids(3, 11)
    states = model.model.embedding.weight[ids]
    for layer in model.model.context.layers:
        states = by_hand(layer, states)
    read = states
    for layer in model.model.generator.layers:
        states = by_hand(layer, states)
    states = states + read if generator else states
    logits = states @ model.lm_head.weight.T + model.lm_head.bias
    output = model(ids, labels=ids)
    assert torch.allclose(output.logits, logits, atol=1e-5)
    assert output.loss.item() == pytest.approx(
        F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).item(), rel=1e-5
    )
    expected = {"model.embedding", "model.context", "model.generator", "lm_head"}
    assert {
        n if n.startswith("lm_head") else ".".join(n.split(".")[:2])
        for n in (k.rsplit(".", 1)[0] for k, _ in model.named_parameters())
    } <= expected
    assert output.kl is None and output.latents is None


@pytest.mark.parametrize("changes", [{}, {"latent_prior": "standard"}, {"latent_size": 0}, {"num_context_layers": 2}])
def test_gradients_reach_every_parameter(changes):
    model = small_model(**changes).train()
    ids = random_ids(4, 13)
    model(ids, labels=ids, word_starts=torch.randint(0, 2, ids.shape)).loss.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_initial_weights_follow_the_recipe():
    torch.manual_seed(0)
    model = BoustroForCausalLM(BoustroConfig())
    layer = model.model.context.layers[0]
    assert layer.bias_ih_l0.view(4, -1).mean(1).tolist() == [0, 1, 0, 0] and layer.bias_hh_l0.abs().sum() == 0
    gate = layer.weight_hh_l0[:256]
    assert torch.allclose(gate @ gate.T, torch.eye(256), atol=1e-4)
    bias = model.model.planner.alignment.distance_bias
    assert bias[128] == 0 and bias[126] == bias[130] == -1


def test_save_and_load_give_every_weight_back(tmp_path, model):
    model.save_pretrained(tmp_path)
    loaded = BoustroForCausalLM.from_pretrained(tmp_path)
    assert {k: v.tolist() for k, v in loaded.state_dict().items()} == {
        k: v.tolist() for k, v in model.state_dict().items()
    }
    backbone, report = BoustroModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert torch.equal(backbone.planner.encoder.lstm.weight_hh_l0, model.model.planner.encoder.lstm.weight_hh_l0)


def test_tied_embeddings_share_and_survive(tmp_path):
    model = small_model(tie_word_embeddings=True, embedding_size=12)
    assert model.lm_head.weight is model.model.embedding.weight
    model.save_pretrained(tmp_path)
    loaded = BoustroForCausalLM.from_pretrained(tmp_path)
    ids = random_ids(1, 6)
    assert torch.allclose(loaded(ids).logits, model(ids).logits, atol=1e-5)


def test_output_bias_is_the_unigram_distribution(model):
    counts = torch.arange(40)
    model.set_output_bias(counts)
    assert torch.allclose(model.lm_head.bias.exp(), (counts + 1) / (counts + 1).sum())


def test_alignments_are_distributions_over_the_plan(model):
    ids = random_ids(2, 12)
    alignments = model(ids, labels=ids, output_alignments=True).alignments
    assert alignments.shape == (2, 3, 5, 5)
    assert torch.allclose(alignments.sum(-1), torch.ones(2, 3, 5), atol=1e-5)
    short = model(ids[:, :3], labels=ids[:, :3], output_alignments=True).alignments
    assert short.shape == (2, 1, 3, 5)
    assert model(ids, labels=ids).alignments is None


def test_logits_to_keep(model):
    ids = random_ids(2, 9)
    assert torch.allclose(model(ids, logits_to_keep=2).logits, model(ids).logits[:, -2:], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_ids": torch.tensor([[3, 40]])}, "id 40, expected ids from 0 to 39"),
        ({"input_ids": torch.tensor([[3, 4]]), "latents": torch.zeros(1, 2, 9)}, r"\(1, 2, 9\), expected"),
        ({"input_ids": torch.tensor([3, 4])}, r"shape \(2,\), expected \(rows, characters\)"),
        ({"input_ids": torch.zeros(0, 4, dtype=torch.long)}, "holds no character"),
        ({}, "input_ids or inputs_embeds"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model(**arguments)


def test_latents_for_a_plain_model_are_refused():
    with pytest.raises(ValueError, match="latent_size=0"):
        small_model(latent_size=0)(random_ids(1, 3), latents=torch.zeros(1, 1, 4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_number_formats_score_generate_and_learn(dtype):
    model, ids = small_model().to(dtype), random_ids(2, 9)
    expected = small_model()(ids, labels=ids, latent_noise=torch.zeros(2, 2, 4)).loss
    output = model(ids, labels=ids, latent_noise=torch.zeros(2, 2, 4))
    assert output.logits.dtype == dtype
    assert torch.allclose(output.loss.float(), expected, rtol=0.05)
    assert model.generate(ids, max_new_tokens=7, pad_token_id=0).shape == (2, 16)
    model.train()(ids, labels=ids).loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_grown_backbone_is_saved_and_loaded(model, tmp_path):
    model.model.resize_token_embeddings(44)
    model.model.save_pretrained(tmp_path)
    loaded = BoustroModel.from_pretrained(tmp_path)
    assert loaded.planner.backward_decoder.output.out_features == loaded.embedding.num_embeddings == 44


@pytest.mark.parametrize("strict", [False, True])
def test_the_causal_call_is_exported(model, strict):
    ids = random_ids(2, 7)
    exported = torch.export.export(model, (), {"input_ids": ids, "use_cache": False}, strict=strict)
    assert torch.allclose(exported.module()(input_ids=ids, use_cache=False).logits, model(ids).logits, atol=1e-5)


def test_a_grown_vocabulary_scores_its_new_ids(model):
    model.resize_token_embeddings(44)
    ids = torch.tensor([[3, 43, 41, 5]])
    assert model(ids, labels=ids).loss.isfinite()
    assert model.config.vocab_size == 44


def test_latent_of_a_segment_under_way_is_not_made_up(model):
    ids = random_ids(1, 12)
    cache = model(ids[:, :7]).past_key_values
    latents = model(ids[:, 7:], past_key_values=cache).latents
    assert latents[:, 0].isnan().all()
    assert torch.allclose(latents[:, 1:], model(ids).latents[:, 2:], atol=1e-5)


def test_a_shorter_segment_length_is_that_of_a_model_with_it(model):
    ids, targets = random_ids(2, 7), random_ids(2, 7, seed=1)
    noise = torch.randn(2, 4, 4)
    short = small_model(segment_length=2)
    state = model.state_dict()
    steps, bias = "model.planner.backward_decoder.step_embedding.weight", "model.planner.alignment.distance_bias"
    state |= {steps: state[steps][-2:], bias: state[bias][3:8]}
    short.load_state_dict(state)
    output = model(ids, target_ids=targets, latent_noise=noise, segment_length=2)
    expected = short(ids, target_ids=targets, latent_noise=noise)
    assert torch.allclose(output.logits, expected.logits, atol=1e-6)
    assert torch.allclose(output.kl, expected.kl, atol=1e-5)
    assert output.loss.item() == pytest.approx(expected.loss.item(), rel=1e-5)


def test_a_segment_length_out_of_range_or_without_targets_is_refused(model):
    ids = random_ids(2, 7)
    with pytest.raises(ValueError, match=r"segment_length is 6, expected 1 to config\.segment_length=5"):
        model(ids, labels=ids, segment_length=6)
    with pytest.raises(ValueError, match="without labels or target_ids"):
        model(ids, segment_length=2)
