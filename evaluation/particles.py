"""A bound on long text that is tighter than the ELBO: a particle filter over the latents of its segments."""

from typing import Any

import numpy as np
import torch

from boustro.cache_boustro import BoustroCache
from boustro.data_scripts.batches import IGNORE_INDEX, Batch, Streams
from boustro.data_scripts.encoding import EncodedCorpus
from boustro.distributions_boustro import log_normal
from boustro.evaluation.latents import importance_weighted_bound
from boustro.evaluation.reading import count_characters
from boustro.objective_boustro import sample_gaussian, token_nll


@torch.no_grad()
def particle_bound(
    model: torch.nn.Module, corpus: EncodedCorpus, particles: int = 16, rows: int = 1, seed: int = 0
) -> dict[str, Any]:
    r"""
    −log of an unbiased estimate of p(text), an upper bound on −log p(text) in expectation (Maddison et al. 2017,
    "Filtering Variational Objectives", section 3), for a text read as a stream with its state carried.

    For each segment in turn, every particle draws z from the posterior and reads on from a generator state of its own;
    the mean of the weights p(segment, z) / q(z) is multiplied into the estimate, and the particles are resampled by
    their weights. With one particle it is a sample of the ELBO.

    Args:
        particles: N. The time grows with it.
        rows: parallel rows, each starting cold.

    Returns a dict: `particle_nats`, nats per character (None without latents), and `particles`.
    """
    if model.config.latent_size == 0:
        return {"particle_nats": None, "particles": None}
    model.eval()
    length, rng = model.config.segment_length, np.random.default_rng(seed)
    streams = Streams(corpus.ids, corpus.word_starts, min(rows, len(corpus.ids)), model.config.bos_token_id)
    reader, cache, bound, characters = BoustroCache(), BoustroCache(), 0.0, 0
    for start in range(0, streams.length, length):
        inputs, targets, word_starts = streams.window(start, start + length)
        batch = Batch(inputs, targets, word_starts, None, 1, int((targets != IGNORE_INDEX).sum()))
        weights = _weights(model, batch.tensors(slice(None), model.device), reader, cache, particles, rng)
        bound += float(importance_weighted_bound(weights, 1).sum())
        characters += count_characters(targets)
        cache.batch_select_indices(_resample(weights, rng).to(model.device))
    return {"particle_nats": -bound / characters, "particles": particles}


def _weights(model, inputs, reader, cache, particles, rng) -> torch.Tensor:
    """log p(segment, z) − log q(z) of each row's particles, (R, N) float64; both caches move on by a segment."""
    device, targets = model.device, inputs["target_ids"]
    no_noise = torch.zeros(len(targets), 0, model.config.latent_size, device=device)
    backbone = model.model(**inputs, past_key_values=reader, use_cache=True, latent_noise=no_noise)
    posterior = [part.double() for part in (backbone.posterior_mean, backbone.posterior_log_variance)]  # (R, 1, Z)
    prior = backbone.prior.double()
    noise = torch.from_numpy(rng.standard_normal((len(targets), particles, model.config.latent_size)))
    latents = sample_gaussian(*posterior, noise.to(device))  # (R, N, Z)
    ratio = prior.log_prob(latents) - log_normal(latents, *posterior).sum(-1)
    # every particle starts a segment here: what the cache knows of the last one is not needed
    cache.plan = cache.position = cache.segment = None
    ids = inputs["input_ids"].repeat_interleave(particles, 0)
    logits = model(ids, latents=latents.flatten(0, 1)[:, None], past_key_values=cache, use_cache=True).logits
    nll = token_nll(logits, targets.repeat_interleave(particles, 0)).double().sum(1).view(-1, particles)
    present = (targets != IGNORE_INDEX).any(1, keepdim=True)
    return ((ratio - nll) * present).cpu()


def _resample(weights: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Systematic resampling: R · N row numbers, each row's particles in proportion to their weights."""
    rows, count = weights.shape
    cumulative = weights.softmax(1).cumsum(1).numpy()
    places = (rng.random((rows, 1)) + np.arange(count)) / count
    chosen = [np.searchsorted(cumulative[row], places[row]).clip(max=count - 1) + row * count for row in range(rows)]
    return torch.from_numpy(np.concatenate(chosen))
