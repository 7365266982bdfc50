"""What the latent is worth: is it heard, what does it say, and how tight is the bound?

Everything is in evaluation mode and drawn from a seed. All figures are in nats; a segment is what shares one latent.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from boustro.cache_boustro import BoustroCache
from boustro.data_scripts.batches import IGNORE_INDEX, Batch
from boustro.distributions_boustro import LOG_TWO_PI, log_normal
from boustro.evaluation.reading import WINDOW_POSITIONS, count_characters, read_batch, single_rows
from boustro.objective_boustro import sample_gaussian, token_nll, unit_kl
from boustro.tokenization_boustro import START

ACTIVE_VARIANCE = 0.01  # a unit is active if its posterior mean varies more (Burda et al. 2016, section 5.2)
PAIRS = 1 << 22  # sample-posterior pairs in memory at once when the aggregate posterior is estimated
DRAWS = 8  # of z from each posterior, for the mutual information
SHOWN_PLACES = 64  # of a segment, in a picture of its alignment


@dataclass(frozen=True)
class Posteriors:
    """What is known of z for N segments, float64 on the CPU.

    Attributes:
        mean, log_variance: (N, Z), of q(z | x).
        unit_kl: (N, Z), nats by which q lies from p(z) in each unit by itself (see `unit_kl` of the objective).
        characters, words: (N,) int64, target ids of each segment and the words that start in it.
    """

    mean: torch.Tensor
    log_variance: torch.Tensor
    unit_kl: torch.Tensor
    characters: torch.Tensor
    words: torch.Tensor

    def __len__(self) -> int:
        return len(self.mean)


def latent_use(
    model: torch.nn.Module, batches: Iterator[Batch], carries_state: bool, segments: int, seed: int
) -> dict[str, Any]:
    """Whether the latent says something and is heard, on about the first `segments` segments of `batches`.

    Returns `swap_loss_per_segment`, the nats of reconstruction that are lost when segments exchange their latents,
    and `active_units` of `latent_units`; all None without latents or with a single segment.
    """
    cache = BoustroCache() if carries_state else None
    loss, swapped, means = 0.0, 0, []
    if model.config.latent_size > 0:
        model.eval()
        for index, batch in enumerate(batches):
            if swapped >= segments:
                break
            batch_loss, batch_means = _swap(model, batch, cache, index, seed)
            loss, swapped = loss + batch_loss, swapped + len(batch_means)
            means.append(batch_means)
    if swapped < 2:
        return dict.fromkeys(("swap_loss_per_segment", "active_units", "latent_units"))
    means = torch.cat(means)
    return {
        "swap_loss_per_segment": loss / swapped,
        "active_units": active_units(means),
        "latent_units": means.shape[1],
    }


@torch.no_grad()
def _swap(
    model: torch.nn.Module, batch: Batch, cache: BoustroCache | None, index: int, seed: int
) -> tuple[float, torch.Tensor]:
    """Nats lost when the batch's N segments exchange latents, and their posterior means (N, Z). Moves `cache` on."""
    before = copy.copy(cache)
    output = read_batch(model, batch, cache, seed, index)
    places = torch.arange(output.latents.shape[1], device=model.device)
    present = places < output.segment_count[:, None]  # (B, K)
    own = output.latents[present]  # (N, Z)
    latents = output.latents.clone()
    latents[present] = own.roll(len(own) // 2, 0)
    swapped = _read_with(model, batch, before, latents)
    loss = float((swapped.reconstruction - output.reconstruction).double().sum())
    return loss, output.posterior_mean[present].float().cpu()


@torch.no_grad()
def examine(
    model: torch.nn.Module, batches: Iterator[Batch], carries_state: bool, segments: int, seed: int
) -> tuple[dict[str, Any], Posteriors | None]:
    """What the latent says, on about the first `segments` segments of `batches`.

    Returns the posteriors of these segments, and a dict: `prior_loss_per_segment`, the nats of reconstruction that
    are lost when every latent is drawn from its prior instead of its posterior; `prior_loss_by_place`, the same at the
    places 0, 1, 2–3, 4–7, 8–15, … of a segment; `backward_nats`, −log likelihood of the backward decoder, per
    character; `mutual_information` and, for a standard prior, `aggregate_kl`, KL(q(z) ‖ p(z)), per segment (see
    `mutual_information`); `unit_kl`, a list of Z, the mean KL of each unit by itself; `examined_segments`. All None
    without latents or with a single segment.
    """
    cache = BoustroCache() if carries_state else None
    losses, backward, characters, found, parts = 0.0, 0.0, 0, 0, []
    if model.config.latent_size > 0:
        model.eval()
        for index, batch in enumerate(batches):
            if found >= segments:
                break
            before = copy.copy(cache)
            backbone = read_batch(model.model, batch, cache, seed, index)
            noise = np.random.default_rng([seed, index, 2]).standard_normal(backbone.latents.shape, dtype=np.float32)
            noise = torch.from_numpy(noise).to(model.device)
            drawn = backbone.prior.sample(noise)
            own = _read_with(model, batch, before, backbone.latents)
            other = _read_with(model, batch, before, drawn)
            losses += sum_by_place(_nll(other, batch) - _nll(own, batch), batch, model.config.segment_length)
            backward += float(own.backward_nll.double().sum())
            characters += count_characters(batch.target_ids)
            parts.append(posteriors_of(backbone, batch))
            found += len(parts[-1])
    if found < 2:
        names = ("prior_loss_per_segment", "prior_loss_by_place", "backward_nats", "mutual_information")
        return dict.fromkeys((*names, "aggregate_kl", "unit_kl", "examined_segments")), None
    posteriors = Posteriors(**{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])})
    information, kl = mutual_information(posteriors, seed), posteriors.unit_kl.mean(0)
    figures = {
        "prior_loss_per_segment": float(losses.sum()) / found,
        "prior_loss_by_place": (losses / found).tolist(),
        "backward_nats": backward / characters,
        "mutual_information": information,
        "aggregate_kl": float(kl.sum()) - information if model.config.latent_prior == "standard" else None,
        "unit_kl": kl.tolist(),
        "examined_segments": found,
    }
    return figures, posteriors


def _read_with(model: torch.nn.Module, batch: Batch, before: BoustroCache | None, latents: torch.Tensor):
    """The output for a batch with the given latents; the cache stays as it is."""
    inputs = batch.tensors(slice(None), model.device)
    return model(**inputs, past_key_values=before, use_cache=False, latents=latents)


def _nll(output, batch: Batch) -> torch.Tensor:
    """−log likelihood of every target of the batch given z, (B, T) float64 on the CPU."""
    targets = torch.from_numpy(batch.target_ids).to(output.logits.device)
    return token_nll(output.logits, targets).double().cpu()


def sum_by_place(values: torch.Tensor, batch: Batch, segment_length: int) -> torch.Tensor:
    """Sums of values (B, T) over the places 0, 1, 2–3, 4–7, … of their segments, of `segment_length` at most."""
    position = torch.arange(values.shape[1])
    segment = _segment_numbers(batch, segment_length)
    first = torch.where(segment.diff(dim=1, prepend=segment[:, :1]) > 0, position, 0).cummax(1).values
    octaves = (segment_length - 1).bit_length()
    octave = torch.bucketize(position - first, 2 ** torch.arange(octaves), right=True)
    return values.new_zeros(octaves + 1).index_add(0, octave.flatten(), values.flatten())


def posteriors_of(backbone, batch: Batch) -> Posteriors:
    """The posteriors of the segments with a target in the backbone's output for a batch."""
    present = (backbone.segment_targets != IGNORE_INDEX).any(-1).cpu()  # (B, K)
    posterior = backbone.posterior_mean, backbone.posterior_log_variance
    values = (*posterior, unit_kl(*posterior, backbone.latents, backbone.prior))
    gaussians = [value.cpu()[present].double() for value in values]
    real = torch.from_numpy(batch.target_ids != IGNORE_INDEX)
    starts = real & torch.from_numpy(batch.word_starts == START)
    segment = _segment_numbers(batch, backbone.segment_targets.shape[-1])
    counts = [torch.zeros(present.shape, dtype=torch.int64).scatter_add_(1, segment, x.long()) for x in (real, starts)]
    return Posteriors(*gaussians, *(count[present] for count in counts))


def _segment_numbers(batch: Batch, segment_length: int) -> torch.Tensor:
    """(B, T), the segment of each position."""
    if batch.segment_starts is not None:
        return torch.from_numpy(batch.segment_starts.cumsum(1) - 1)
    return (torch.arange(batch.input_ids.shape[1]) // segment_length).expand(batch.input_ids.shape)


def active_units(means: torch.Tensor) -> int:
    """Units whose posterior mean, (N, Z), has a variance above 0.01 (Burda et al. 2016, section 5.2)."""
    return int((means.var(0, correction=0) > ACTIVE_VARIANCE).sum())


def mutual_information(posteriors: Posteriors, seed: int = 0) -> float:
    """I_q(x; z) = E[log q(z | x) − log q(z)], nats per segment, at most log N (Hoffman & Johnson 2016).

    q(z) is the aggregate posterior, the mixture of the N posteriors, and the expectation is taken with 8 z of each
    (He et al. 2019, section 4.3). With a standard prior, KL(q(z) ‖ p(z)) is the mean KL less this value. With a
    conditional prior q(z) and the result are about the marginal: what z tells of its segment *and the text before
    it*, so it may exceed the KL, and the difference is no divergence.
    """
    noise = np.random.default_rng(seed).standard_normal((DRAWS, *posteriors.mean.shape))
    latents = sample_gaussian(posteriors.mean, posteriors.log_variance, torch.from_numpy(noise)).flatten(0, 1)
    precision = torch.exp(-posteriors.log_variance)
    scaled_mean = posteriors.mean * precision
    constant = (posteriors.mean * scaled_mean + posteriors.log_variance + LOG_TWO_PI).sum(1)  # (N,)
    count, total = len(posteriors), 0.0
    chunk = max(PAIRS // count, 1)
    for start in range(0, len(latents), chunk):
        z = latents[start : start + chunk]
        # log q(z_i | x_j), (chunk, N)
        log_density = -0.5 * (z.square() @ precision.T - 2 * z @ scaled_mean.T + constant)
        own = log_density[torch.arange(len(z)), torch.arange(start, start + len(z)) % count]
        total += float((own - log_density.logsumexp(1)).sum())
    return total / len(latents) + math.log(count)


def importance_weighted_bound(log_weights: torch.Tensor, dim: int) -> torch.Tensor:
    """log (1/N Σ w), a lower bound on log p(x) in expectation, over the N of `dim`; computed in float64.

    With N = 1 it is a sample of the ELBO, and it grows with N in expectation (Burda et al. 2016, theorem 1).
    """
    return torch.logsumexp(log_weights.double(), dim) - math.log(log_weights.shape[dim])


def importance_weighted(
    model: torch.nn.Module, batches: Iterator[Batch], samples: int = 500, chunk: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """−log (1/N Σ p(x, z) / q(z | x)), an upper bound on −log p(x), for documents (Burda et al. 2016, section 3).

    Every row of `batches` is read by itself, from a fresh state, its segments' latents drawn together: a weight is
    the product over its segments. Draws belong to the row's number, so neither batches nor `chunk` change them.

    Args:
        samples: N for each row.
        chunk: samples in one call of the model. Default: as many as 8,192 characters allow.

    Returns a dict: `importance_nats`, the sum over all rows; `importance_nats_per_document` and
    `importance_nats_per_character`; `importance_elbo_per_document`, −ELBO from the same samples; the counts
    `importance_documents` and `importance_samples`. All None without latents.
    """
    names = ("nats", "nats_per_document", "nats_per_character", "elbo_per_document", "documents", "samples")
    if model.config.latent_size == 0:
        return {f"importance_{name}": None for name in names}
    model.eval()
    nats, elbo, characters, documents = 0.0, 0.0, 0, 0
    for document in single_rows(batches):
        weights = log_importance_weights(model, document, samples, chunk, np.random.default_rng([seed, documents]))
        nats -= float(importance_weighted_bound(weights, 0))
        elbo -= float(weights.mean())
        characters += count_characters(document.target_ids)
        documents += 1
    values = (nats, nats / documents, nats / characters, elbo / documents, documents, samples)
    return {f"importance_{name}": value for name, value in zip(names, values, strict=True)}


@torch.no_grad()
def log_importance_weights(
    model: torch.nn.Module, document: Batch, samples: int, chunk: int | None, rng: np.random.Generator
) -> torch.Tensor:
    """log p(x, z) − log q(z | x) of `samples` draws from the posterior of one row without padding: (N,) float64.

    Posterior and prior depend on the text alone, so they are computed once; each draw needs plan and generator.
    """
    inputs = document.tensors(slice(None), model.device)
    targets, text = inputs["target_ids"], {k: v for k, v in inputs.items() if k in ("input_ids", "segment_starts")}
    chunk = chunk or max(WINDOW_POSITIONS // targets.shape[1], 1)
    backbone = model.model(**inputs, latent_noise=torch.zeros(1, 0, model.config.latent_size, device=model.device))
    posterior = backbone.posterior_mean.double(), backbone.posterior_log_variance.double()  # (1, K, Z)
    prior = backbone.prior.double()
    weights = []
    for start in range(0, samples, chunk):
        rows = min(chunk, samples - start)
        noise = rng.standard_normal((rows, *posterior[0].shape[1:]), dtype=np.float32)
        latents = sample_gaussian(*posterior, torch.from_numpy(noise).to(targets.device))  # (rows, K, Z)
        # without targets the model takes the latents as they are and leaves the encoder out
        repeated = {name: value.expand(rows, -1) for name, value in text.items()}
        logits = model(**repeated, latents=latents, use_cache=False).logits
        likelihood = -token_nll(logits, targets.expand(rows, -1)).double().sum(1)
        ratio = (prior.log_prob(latents) - log_normal(latents, *posterior).sum(-1)).sum(1)
        weights.append((likelihood + ratio).cpu())
    return torch.cat(weights)


@torch.no_grad()
def longest_alignment(model: torch.nn.Module, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """The alignment weights (P, P) of the beginning of the batch's longest segment, and its P ≤ 64 target ids.

    The latent is the posterior mean. Row p is what the generator reads of the plan, place by place, before it writes
    the segment's character p; the plan goes on behind the last column.
    """
    model.eval()
    inputs = batch.tensors(slice(None), model.device)
    noise = torch.zeros(len(batch.input_ids), 0, model.config.latent_size, device=model.device)
    backbone = model.model(**inputs, latent_noise=noise, output_alignments=True)
    sizes = (backbone.segment_targets != IGNORE_INDEX).sum(-1)  # (B, K)
    row, segment = divmod(int(sizes.argmax()), sizes.shape[1])
    size = min(int(sizes[row, segment]), SHOWN_PLACES)
    weights = backbone.alignments[row, segment, :size, :size].float().cpu().numpy()
    return weights, backbone.segment_targets[row, segment, :size].cpu().numpy()
