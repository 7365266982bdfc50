"""The named parts of a boustro model: recurrent stack, posterior encoder, prior, backward decoder, alignment."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from .distributions_boustro import GaussianMixture

# codes of `word_starts`: 0 inside a word, 1 at its start, 2 unknown
NUM_WORD_START_CODES = 3
WORD_UNKNOWN = 2
WORD_START_SIZE = 8


class LockedDropout(nn.Module):
    """Dropout with one mask for all time steps of a row (Gal & Ghahramani 2016): (B, T, D) → (B, T, D)."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        mask = x.new_empty(x.shape[0], 1, x.shape[2]).bernoulli_(keep) / keep
        return x * mask


class LSTMStack(nn.Module):
    r"""
    Layers of `nn.LSTM` with locked dropout in front of each. With no layers it returns its input.

    `forward(x, state, lengths)`: x (B, T, D); state a pair (h, c), each (B, layers, H), or None for zeros; lengths
    (B,), real steps of each row (they come first), needed only when the returned state matters and rows are padded.
    Returns outputs (B, T, H) and the state after each row's last real step.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, dropout: float):
        super().__init__()
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        self.layers = nn.ModuleList(nn.LSTM(size, hidden_size, batch_first=True) for size in sizes[:num_layers])
        self.dropout = LockedDropout(dropout)

    def forward(
        self,
        x: torch.Tensor,
        state: tuple[torch.Tensor, torch.Tensor] | None = None,
        lengths: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        if not self.layers:
            empty = x.new_zeros(x.shape[0], 0, 1)
            return x, (empty, empty)
        new_state = []
        for i, layer in enumerate(self.layers):
            before = None if state is None else tuple(s[:, i].unsqueeze(0).contiguous() for s in state)
            x, after = _run_lstm(layer, self.dropout(x), before, lengths)
            new_state.append(after)
        return x, tuple(torch.cat(parts).transpose(0, 1) for parts in zip(*new_state, strict=True))


def _run_lstm(layer, x, before, lengths):
    """One layer over a batch; where `lengths` is given, each row stops at its own length."""
    if lengths is None:
        return layer(x, before)
    packed = pack_padded_sequence(x, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
    packed, after = layer(packed, before)
    output, _ = pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])
    if before is None:
        before = tuple(torch.zeros_like(s) for s in after)
    read = (lengths > 0)[None, :, None]
    return output, tuple(torch.where(read, new, old) for new, old in zip(after, before, strict=True))


class PosteriorEncoder(nn.Module):
    r"""
    q(z_k | segment k, context): an LSTM that reads the characters of a segment backward, last one first, each with
    its word-start code.

    `forward(embeds, word_starts, lengths, context)`: embeds (B, K, S, E) of the segment's characters; word_starts
    (B, K, S), 0 inside a word, 1 at its start, 2 unknown; lengths (B, K), characters of each segment; context
    (B, K, H), the context state at each segment's start. Returns mean and log variance, each (B, K, Z).
    """

    def __init__(self, config):
        super().__init__()
        size = config.encoder_hidden_size
        self.word_start_embedding = nn.Embedding(NUM_WORD_START_CODES, WORD_START_SIZE)
        self.lstm = nn.LSTM(config.embedding_size + WORD_START_SIZE, size, batch_first=True)
        self.projection = nn.Linear(size + config.hidden_size, size)
        self.output = nn.Linear(size, 2 * config.latent_size)

    def forward(self, embeds, word_starts, lengths, context):
        longest = max(int(lengths.max()), 1)
        embeds, word_starts = embeds[:, :, :longest], word_starts[:, :, :longest]
        x = torch.cat([embeds, self.word_start_embedding(word_starts).to(embeds.dtype)], -1)  # (B, K, S, E + W)
        batch, count, length, _ = x.shape
        places = torch.arange(length, device=x.device)
        backward = (lengths[..., None] - 1 - places).clamp(min=0)  # (B, K, S)
        x = x.gather(2, backward[..., None].expand_as(x))
        states, _ = self.lstm(x.flatten(0, 1))
        last = (lengths.flatten() - 1).clamp(min=0)
        summary = states[torch.arange(batch * count, device=x.device), last].unflatten(0, (batch, count))
        hidden = torch.tanh(self.projection(torch.cat([summary, context], -1)))
        mean, log_variance = self.output(hidden).float().chunk(2, -1)
        return mean, log_variance.clamp(-10, 10)


class Prior(nn.Module):
    r"""
    p(z_k | context), a [`GaussianMixture`]. `"conditional"`: its components are the same for all segments, and a
    two-layer network on the context state at the segment's start gives their weights, so that what comes next may be
    one thing or another (as the VampPrior of Tomczak & Welling 2018, but predicted); `"standard"`: N(0, I), with no
    parameters.

    `forward(context)`: (B, K, H) → mixture with log weights (B, K, C).
    """

    def __init__(self, config):
        super().__init__()
        self.latent_size = config.latent_size
        self.conditional = config.latent_prior == "conditional"
        if self.conditional:
            components = config.prior_components
            self.projection = nn.Linear(config.hidden_size, config.encoder_hidden_size)
            self.output = nn.Linear(config.encoder_hidden_size, components)
            self.means = nn.Parameter(torch.zeros(components, config.latent_size))
            self.log_variances = nn.Parameter(torch.zeros(components, config.latent_size))

    def forward(self, context):
        if not self.conditional:
            log_weights = context.new_zeros(*context.shape[:-1], 1, dtype=torch.float32)
            zeros = log_weights.new_zeros(1, self.latent_size)
            return GaussianMixture(log_weights, zeros, zeros)
        log_weights = self.output(torch.tanh(self.projection(context))).float().log_softmax(-1)
        return GaussianMixture(log_weights, self.means.float(), self.log_variances.float().clamp(-10, 10))


class BackwardDecoder(nn.Module):
    r"""
    Generates a segment backward from its latent alone: an LSTM of S steps, last character first, to which no
    character is fed, so that its states are a function of z. Step j stands for place S − 1 − j of the segment.

    `forward(latents, length)`: (B, K, Z) → states (B, K, S, Hb) in text order: `states[..., p, :]` stands for place
    p. S is `length`, by default `config.segment_length`, which is also the most.
    `logits(states)`: (…, Hb) → (…, V), the decoder's own prediction of the character at each place.
    """

    def __init__(self, config):
        super().__init__()
        size = config.backward_hidden_size
        self.step_embedding = nn.Embedding(config.segment_length, size)
        self.input = nn.Linear(config.latent_size, size)
        self.initial = nn.Linear(config.latent_size, size)
        self.lstm = nn.LSTM(size, size, batch_first=True)
        self.output = nn.Linear(size, config.vocab_size)

    def forward(self, latents, length=None):
        steps = self.step_embedding.weight[-(length or 0) :]  # the last step stands for place 0
        flat = latents.flatten(0, 1).to(steps.dtype)  # (B * K, Z)
        x = self.input(flat)[:, None] + steps  # (B * K, S, Hb)
        hidden = torch.tanh(self.initial(flat))[None]
        states, _ = self.lstm(x, (hidden, torch.zeros_like(hidden)))
        return states.flip(1).unflatten(0, latents.shape[:2])

    def logits(self, states):
        return self.output(states)


class Alignment(nn.Module):
    r"""
    Attends from a forward reading over any memory: content score (scaled dot product) plus, where the memory's
    places relate to the query's, a learned bias for their distance. The backward plan is the first such memory.

    `forward(query, memory, mask, distance)`: query (…, P, H); memory (…, M, D); mask (…, M) bool, true where memory
    may be read, or None; distance (…, P, M), the memory's place minus the query's, or None for no bias. Returns
    the aligned memory (…, P, D) and the weights (…, P, M), which sum to 1 over M.
    """

    def __init__(self, query_size: int, memory_size: int, max_distance: int):
        super().__init__()
        self.max_distance = max_distance
        self.query = nn.Linear(query_size, memory_size, bias=False)
        self.key = nn.Linear(memory_size, memory_size, bias=False)
        self.distance_bias = nn.Parameter(torch.zeros(2 * max_distance + 1))

    def forward(self, query, memory, mask=None, distance=None):
        score = self.query(query) @ self.key(memory).transpose(-1, -2) * memory.shape[-1] ** -0.5
        if distance is not None:
            nearest = distance.clamp(-self.max_distance, self.max_distance)
            score = score + self.distance_bias[nearest + self.max_distance].to(score.dtype)
        if mask is not None:
            score = score.masked_fill(~mask[..., None, :], torch.finfo(score.dtype).min)
        weights = score.float().softmax(-1).to(memory.dtype)
        return weights @ memory, weights
