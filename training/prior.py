"""The end of a training on long text: the prior is fitted to the posteriors of the finished model.

In training the prior follows posteriors that move, and is told of one start where the language model reads a whole
segment. Once the rest of the model stands still, a few thousand starts teach it what it missed. Latents, plans and
reconstruction stay as they are; the KL is paid to a better prior.
"""

import copy
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from boustro import BoustroForCausalLM
from boustro.cache_boustro import BoustroCache
from boustro.data_scripts.batches import StreamBatches, Streams
from boustro.data_scripts.encoding import EncodedCorpus
from boustro.evaluation.reading import WINDOW_POSITIONS
from boustro.objective_boustro import kl_to_prior, sample_gaussian

STARTS = 8_192  # segments that the prior is fitted to, but no more than training has read
JUDGES = 1_024  # segments of validation text, at most
JUDGING_DRAWS = 4_096  # from all their posteriors together, at least
ROWS = 16  # in which a text is read, fewer if it has not SEGMENTS_OF_ROW for each
SEGMENTS_OF_ROW = 8
READING = 0xF17  # of the random places where a reading begins: no epoch of the training has this number
PASSES = 60
BATCH_SIZE = 512
LEARNING_RATE = 0.005  # of Adam, going down to 0 in a straight line
DROPOUT = 0.1  # of the context that the weights are predicted from


@dataclass(frozen=True)
class SegmentStarts:
    """What is known of N segments where each of them starts, on the CPU.

    Attributes:
        context: (N, H), the context state, which the prior sees.
        mean, log_variance: (N, Z), of the posterior.
    """

    context: torch.Tensor
    mean: torch.Tensor
    log_variance: torch.Tensor

    def __len__(self) -> int:
        return len(self.context)

    def __getitem__(self, index: torch.Tensor | slice) -> "SegmentStarts":
        return SegmentStarts(*(getattr(self, field.name)[index] for field in fields(self)))


def fit_prior(
    model: BoustroForCausalLM, batches: StreamBatches, validation: EncodedCorpus, segments: int, seed: int
) -> dict[str, Any] | None:
    """Fits the conditional prior of a trained model to its posteriors, by Adam on −log p(z) of their draws.

    The model keeps all other weights, and its prior too unless the new one lowers the KL of validation text. It is
    left in evaluation mode.

    Args:
        batches: the training text.
        segments: how many segments training has read.

    Returns how many `segments` were used, and `kl_before` and `kl_after` of the beginning of the validation text, nats
    per segment. None, and nothing is done, where there is no whole segment of either text.
    """
    model.eval()
    judges = read_starts(model, validation.ids, validation.word_starts, JUDGES, seed, readings=1)
    training = batches.streams
    starts = read_starts(model, training.sequence, training.word_starts, min(STARTS, segments), seed)
    if not len(judges) or not len(starts):
        return None
    generator = torch.Generator().manual_seed(seed)
    draws = -(-JUDGING_DRAWS // len(judges))
    noise = torch.randn(draws, *judges.mean.shape, generator=generator)
    trained = model.model.planner.prior
    prior = copy.deepcopy(trained).float().cpu()
    before = kl_of(prior, judges, noise)
    _descend(prior, starts, generator)
    prior.to(trained.means.dtype).float()  # what the model can keep of it
    after = kl_of(prior, judges, noise)
    if after < before:
        trained.load_state_dict(prior.state_dict())
    return {"segments": len(starts), "kl_before": before, "kl_after": min(before, after)}


@torch.no_grad()
def read_starts(
    model: BoustroForCausalLM,
    ids: np.ndarray,
    word_starts: np.ndarray,
    count: int,
    seed: int,
    readings: int | None = None,
) -> SegmentStarts:
    """The starts of the first `count` whole segments of a text.

    The text is read as streams, from a random place each time, so that segments fall differently, as often as it takes
    or `readings` times.
    """
    length, bos, device = model.config.segment_length, model.config.bos_token_id, model.device
    streams = Streams(ids, word_starts, min(max(len(ids) // (SEGMENTS_OF_ROW * length), 1), ROWS), bos)
    whole = streams.length // length * length
    window = max(WINDOW_POSITIONS // (streams.rows * length), 1) * length
    no_draw = torch.zeros(streams.rows, 0, model.config.latent_size, device=device)
    rng, found, reading = np.random.default_rng([seed, READING]), [], 0
    while whole and sum(map(len, found)) < count and reading != readings:
        offset, cache = int(rng.integers(len(ids))), BoustroCache()
        for start in range(0, whole, window):
            pieces = streams.window(start, min(start + window, whole), offset)
            inputs, targets, codes = (torch.from_numpy(piece).to(device) for piece in pieces)
            output = model.model.infer(inputs, targets, past_key_values=cache, word_starts=codes, latent_noise=no_draw)
            context = output.last_hidden_state[:, ::length]
            values = (context, output.posterior_mean, output.posterior_log_variance)
            found.append(SegmentStarts(*(value.flatten(0, 1).float().cpu() for value in values)))
            if sum(map(len, found)) >= count:
                break
        reading += 1
    if not found:
        return SegmentStarts(*torch.zeros(3, 0, 1))
    together = (torch.cat([getattr(part, field.name) for part in found]) for field in fields(SegmentStarts))
    return SegmentStarts(*together)[:count]


@torch.no_grad()
def kl_of(prior: torch.nn.Module, starts: SegmentStarts, noise: torch.Tensor) -> float:
    """KL(q ‖ p), nats per segment, at the draws of q that the standard normal `noise` (D, N, Z) gives."""
    latents = sample_gaussian(starts.mean, starts.log_variance, noise)
    return float(kl_to_prior(starts.mean, starts.log_variance, latents, prior(starts.context)).mean())


def _descend(prior: torch.nn.Module, starts: SegmentStarts, generator: torch.Generator) -> None:
    size = min(BATCH_SIZE, len(starts))
    steps = PASSES * len(starts) // size
    optimizer = torch.optim.Adam(prior.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in range(steps):
        some = starts[torch.randint(len(starts), (size,), generator=generator)]
        kept = torch.rand(some.context.shape, generator=generator) >= DROPOUT
        noise = torch.randn(some.mean.shape, generator=generator)
        latents = sample_gaussian(some.mean, some.log_variance, noise)
        loss = -prior(some.context * kept / (1 - DROPOUT)).log_prob(latents).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
