"""The fast loop gives what the stock loop of transformers gives, for the same arguments and the same seed."""

import copy
import gc
import pickle
import threading

import pytest
import torch
from transformers import TextIteratorStreamer

from boustro import BoustroForCausalLM, BoustroTokenizer, decoding_boustro, generation_boustro, products_boustro
from boustro.cache_boustro import BoustroCache
from boustro.decoding_boustro import CharacterStep, _draw
from boustro.layers_boustro import LockedDropout
from boustro.planning_boustro import PlanInputs
from boustro.products_boustro import LAYOUT_PAYS
from boustro.training.precision import has_bf16
from tests.conftest import random_ids, small_model
from tests.modeling.test_generation import uneven_prompts

MODELS = {
    "conditional": {},
    "standard": {"latent_prior": "standard"},
    "no plan skip": {"plan_skip": False},
    "plain": {"latent_size": 0},
    "deep": {"num_context_layers": 2, "num_generator_layers": 3},
    "plain, context only": {"latent_size": 0, "num_generator_layers": 0},
}
ARGUMENTS = {
    "greedy": {},
    "sampling": {"do_sample": True},
    "temperature": {"do_sample": True, "temperature": 0.5},
    "top-k and top-p": {"do_sample": True, "top_k": 9, "top_p": 0.8},
    "min-p": {"do_sample": True, "min_p": 0.05},
    "typical": {"do_sample": True, "typical_p": 0.7},
    "repetition": {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2},
    "bad words": {"bad_words_ids": [[5], [6, 7]], "do_sample": True},
    "bias": {"sequence_bias": [[[8], 4.0], [[9, 10], -5.0]]},
    "forced": {"forced_eos_token_id": 2},
    "watermark": {"watermarking_config": {"seeding_scheme": "lefthash"}, "do_sample": True},
    "several": {"do_sample": True, "num_return_sequences": 3},
    "end marks": {"eos_token_id": [4, 11, 17, 23], "do_sample": True},
    "one end mark, least length": {"eos_token_id": 12, "min_new_tokens": 4, "do_sample": True},
}


def run(model, ids, mask, stock, monkeypatch, **options):
    torch.manual_seed(3)
    with monkeypatch.context() as patch:
        if stock:
            patch.setattr(generation_boustro.BoustroGenerationMixin, "_decodes_fast", lambda *args: False)
        else:
            patch.setattr(generation_boustro.GenerationMixin, "_sample", None)
        return model.generate(ids, attention_mask=mask, **{"max_new_tokens": 14, "pad_token_id": 0, **options})


@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
def test_the_fast_loop_gives_the_ids_of_the_stock_loop(changes, arguments, monkeypatch):
    model = small_model(**changes)
    _, ids, mask = uneven_prompts()
    options = {"do_sample": False, "top_k": 0, **arguments}
    fast, stock = (run(model, ids, mask, stock, monkeypatch, **options) for stock in (False, True))
    assert torch.equal(fast, stock)


@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("at_home", [False, True])
def test_so_do_weights_that_are_laid_out_anew_for_many_characters(changes, rows, at_home, monkeypatch):
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this build of torch has no oneDNN")
    packed, pack = [], products_boustro._packed
    monkeypatch.setattr(products_boustro, "PACKED_PRODUCT", 0)
    monkeypatch.setattr(products_boustro, "_mkl_is_at_home", lambda: at_home)
    monkeypatch.setattr(products_boustro, "_packed", lambda *weights: packed.append(1) or pack(*weights))
    model, ids = small_model(**changes), random_ids(rows, 6)
    options = {"do_sample": True, "top_k": 0, "max_new_tokens": LAYOUT_PAYS + 8}
    fast, stock = (run(model, ids, None, stock, monkeypatch, **options) for stock in (False, True))
    assert torch.equal(fast, stock) and bool(packed) == (rows > 1 or not at_home)


CHANGES = {
    "one number": lambda model: model.model.generator.layers[0].weight_hh_l0.data[3, 2].add_(3.0),
    "by an optimizer": lambda model: torch.optim.SGD(with_gradients(model), lr=0.5).step(),
    "the embedding": lambda model: model.model.embedding.weight.data.mul_(-2),
    "the plan skip": lambda model: model.model.plan_skip.weight.data.neg_(),
    "another model's": lambda model: model.load_state_dict(small_model(seed=5).state_dict()),
    "the head, in another format": lambda model: model.double().lm_head.weight.data.neg_(),
}


def with_gradients(model):
    ids = random_ids(2, 9)
    model(ids, labels=ids).loss.backward()
    return list(model.parameters())


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("at_home", [False, True])
def test_weights_laid_out_for_an_earlier_call_are_those_the_model_has_now(change, at_home, monkeypatch):
    monkeypatch.setattr(products_boustro, "_mkl_is_at_home", lambda: at_home)
    model, ids = small_model(), random_ids(3, 6)
    options = {"do_sample": True, "top_k": 0, "max_new_tokens": LAYOUT_PAYS + 8}
    before = run(model, ids, None, False, monkeypatch, **options)
    change(model)
    fast, stock = (run(model, ids, None, stock, monkeypatch, **options) for stock in (False, True))
    assert torch.equal(fast, stock) and not torch.equal(fast, before)


def test_weights_are_laid_out_once_and_go_with_the_model(monkeypatch):
    made, cat = [], products_boustro.lay_out
    monkeypatch.setattr(products_boustro, "_mkl_is_at_home", lambda: False)
    monkeypatch.setattr(decoding_boustro, "lay_out", lambda weight, layout: made.append(1) or cat(weight, layout))
    model, ids = small_model(), random_ids(3, 6)
    options = {"do_sample": True, "max_new_tokens": LAYOUT_PAYS, "pad_token_id": 0}
    counts = []
    for _ in range(3):
        model.generate(ids, **options)
        counts.append(len(made))
    cells = model.config.num_context_layers + model.config.num_generator_layers
    assert [counts[1] - counts[0], counts[2] - counts[1]] == [counts[0] - cells] * 2
    gc.collect()
    before, copied = len(products_boustro._KEPT), copy.deepcopy(model)
    assert len(products_boustro._KEPT) == before and set(copied.state_dict()) == set(model.state_dict())
    pickle.loads(pickle.dumps(model))
    del model
    gc.collect()
    assert len(products_boustro._KEPT) == before - cells - 2  # the head and the plan skip


@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("characters", [1, 2 * LAYOUT_PAYS])
def test_in_bf16_the_fast_loop_is_as_near_to_float32_as_the_stock_loop(changes, characters):
    exact = small_model(**changes)
    rounded = small_model(**changes).bfloat16()
    ids = random_ids(3, 30)
    with torch.inference_mode():
        fast = []
        cache = rounded(ids[:, :1], use_cache=True).past_key_values
        step = CharacterStep(rounded, cache, PlanInputs(), characters)
        for column in ids[:, 1:].unbind(1):
            fast.append(step.step(column).float())
        step.write_back()
        wanted, stock = exact(ids).logits[:, 1:], rounded(ids).logits[:, 1:].float()
    assert cache.context_state[0].dtype is cache.context_state[1].dtype is torch.bfloat16
    assert cache.get_seq_length() == 30
    error, stock_error = ((found - wanted).square().mean().sqrt() for found in (torch.stack(fast, 1), stock))
    assert 0 < error < 1.5 * stock_error < 0.2 * wanted.std()


@pytest.mark.parametrize("rows", [1, 64])
def test_a_draw_is_that_of_multinomial(rows):
    probabilities = torch.randn(rows, 150).mul(3).softmax(-1)
    probabilities[:, ::3] = 0
    for seed in range(20):
        torch.manual_seed(seed)
        wanted = torch.multinomial(probabilities, 1).squeeze(1), torch.rand(1)
        torch.manual_seed(seed)
        found = _draw(probabilities.clone()), torch.rand(1)
        assert torch.equal(found[0], wanted[0]) and torch.equal(found[1], wanted[1])


def test_scores_without_a_character_to_draw_are_refused(model):
    model.lm_head.bias.data[0] = torch.nan
    with pytest.raises(RuntimeError, match="A character has no probability"):
        model.generate(random_ids(1, 4), max_new_tokens=4, do_sample=True, pad_token_id=0)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"num_return_sequences": 2, "do_sample": True, "top_k": 1}, {"num_beams": 3, "num_return_sequences": 2}],
)
def test_a_prompt_goes_once_through_the_context_lstm(model, arguments):
    ids, read = random_ids(2, 17), []
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, **arguments}
    torch.manual_seed(0)
    wanted = model.generate(ids, use_cache=False, **options)
    hook = model.model.context.register_forward_hook(lambda module, args, output: read.append(args[0].shape[1]))
    torch.manual_seed(0)
    assert torch.equal(model.generate(ids, **options), wanted)
    hook.remove()
    assert read.count(17) == 1 and max(read) == 17


@pytest.mark.skipif(not has_bf16(torch.device("cpu")), reason="this processor does not compute in bf16")
def test_generation_works_under_autocast(model):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ids = model.generate(random_ids(2, 9), max_new_tokens=6, do_sample=True, pad_token_id=0)
    assert ids.shape == (2, 15)


def test_a_cache_that_has_read_ahead_wants_those_characters(model):
    cache = BoustroCache()
    cache.context_ahead = torch.zeros(2, 9, model.config.hidden_size)
    with pytest.raises(ValueError, match="read 9 characters ahead in 2 rows, but the call has 1 in 2"):
        model(random_ids(2, 1), past_key_values=cache, use_cache=True)


def test_scores_logits_and_cache_are_those_of_the_stock_loop(model, monkeypatch):
    _, ids, mask = uneven_prompts()
    options = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True, "temperature": 0.7}
    fast, stock = (run(model, ids, mask, stock, monkeypatch, do_sample=True, **options) for stock in (False, True))
    assert torch.equal(fast.sequences, stock.sequences)
    assert len(fast.scores) == len(fast.logits) == 14
    for name in ("scores", "logits"):
        torch.testing.assert_close(torch.stack(getattr(fast, name)), torch.stack(getattr(stock, name)))
    ours, theirs = fast.past_key_values, stock.past_key_values
    assert ours.get_seq_length() == theirs.get_seq_length() == ids.shape[1] + 13
    for name in ("context_state", "generator_state", "plan", "position", "segment"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))


def test_generation_goes_on_from_a_returned_cache(model):
    options = {"do_sample": False, "pad_token_id": 0, "return_dict_in_generate": True}
    ids = random_ids(2, 8)
    whole = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=18, **options).sequences
    first = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=7, **options)
    assert torch.equal(first.sequences, whole[:, :15])
    more = model.generate(
        first.sequences,
        attention_mask=torch.ones_like(first.sequences),
        past_key_values=first.past_key_values,
        max_new_tokens=11,
        **options,
    ).sequences
    assert torch.equal(more, whole)


def test_stop_strings_and_streamed_text(monkeypatch):
    tokenizer = BoustroTokenizer.train_from_iterator(["abcdefgh ijklmnopqrstuvwxyz 汉字"])
    model = small_model(vocab_size=len(tokenizer))
    batch = tokenizer("the end", return_tensors="pt")
    options = {"do_sample": True, "max_new_tokens": 60, "pad_token_id": 0}
    stopped = []
    for stock in (False, True):
        stop = {"stop_strings": ["a", "e"], "tokenizer": tokenizer}
        stopped.append(run(model, batch.input_ids, batch.attention_mask, stock, monkeypatch, **options | stop))
    assert torch.equal(*stopped) and stopped[0].shape[1] < batch.input_ids.shape[1] + 60
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True)
    torch.manual_seed(3)
    thread = threading.Thread(target=model.generate, kwargs={**batch, **options, "streamer": streamer})
    thread.start()
    streamed = "".join(streamer)
    thread.join()
    ids = run(model, batch.input_ids, batch.attention_mask, False, monkeypatch, **options)
    assert streamed == tokenizer.decode(ids[0, batch.input_ids.shape[1] :])


class SingleMinded(BoustroForCausalLM):
    """Always wants the id 5."""

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits[..., 5] = 1e4
        return output


def hooked(model):
    model.lm_head.register_forward_hook(lambda module, inputs, output: -output)
    return model


def wrapped(model):
    forward = model.lm_head.forward
    model.lm_head.forward = lambda x: -forward(x)
    return model


def in_training_mode(model):
    for module in model.modules():
        if isinstance(module, LockedDropout):
            module.rate = 0.5
    model.config.dropout = 0.5
    return model.train()


def subclassed(model):
    model.__class__ = SingleMinded
    return model


@pytest.mark.parametrize("change", [hooked, wrapped, in_training_mode, subclassed])
def test_a_changed_model_is_heard(change, monkeypatch):
    ids, mask = random_ids(2, 8), torch.ones(2, 8, dtype=torch.long)
    options = {"max_new_tokens": 9, "do_sample": False, "pad_token_id": 0}
    model, plain = change(small_model()), small_model().generate(ids, attention_mask=mask, **options)
    torch.manual_seed(3)
    found = model.generate(ids, attention_mask=mask, **options)
    assert torch.equal(found, run(model, ids, mask, True, monkeypatch, **options)) and not torch.equal(found, plain)


def test_what_the_fast_loop_cannot_do_goes_to_the_stock_loop(model):
    _, ids, mask = uneven_prompts()
    mask[2] = 0  # a row without a prompt stands at another place than the others
    out = model.generate(ids, attention_mask=mask, max_new_tokens=9, do_sample=False, pad_token_id=0)
    assert out.shape == (3, ids.shape[1] + 9)
