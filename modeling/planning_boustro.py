"""The planner: a latent for each segment, its backward plan, and the plan's alignment with the forward reading."""

from dataclasses import dataclass

import torch
from torch import nn

from .cache_boustro import BoustroCache
from .distributions_boustro import GaussianMixture
from .layers_boustro import WORD_UNKNOWN, Alignment, BackwardDecoder, PosteriorEncoder, Prior
from .objective_boustro import sample_gaussian
from .segments_boustro import SegmentGrid

IGNORE_INDEX = -100


@dataclass
class PlanInputs:
    """What the caller knows of the segments; shapes and meaning as in [`BoustroModel.forward`]."""

    target_ids: torch.LongTensor | None = None
    target_embeds: torch.FloatTensor | None = None
    word_starts: torch.LongTensor | None = None
    segment_starts: torch.BoolTensor | None = None
    latents: torch.FloatTensor | None = None
    latent_mask: torch.BoolTensor | None = None
    latent_noise: torch.FloatTensor | None = None
    segment_length: int | None = None


@dataclass
class PlanOutput:
    """`aligned` (B, T, Hb) for writing forward, the parts of the bound, and the plan to go on with after the call."""

    aligned: torch.FloatTensor
    plan: torch.FloatTensor
    position: torch.LongTensor
    segment: torch.LongTensor
    latents: torch.FloatTensor | None = None
    prior: GaussianMixture | None = None
    posterior: tuple[torch.FloatTensor, torch.FloatTensor] | None = None
    backward_states: torch.FloatTensor | None = None
    segment_targets: torch.LongTensor | None = None
    alignments: torch.FloatTensor | None = None


@dataclass
class InferredSegments:
    """The segments of a window: where they lie, their `targets` (B, K, S), distributions and `latents` (B, K, Z)."""

    grid: SegmentGrid
    prior: GaussianMixture
    posterior: tuple[torch.FloatTensor, torch.FloatTensor] | None
    latents: torch.FloatTensor
    targets: torch.LongTensor | None


class SegmentPlanner(nn.Module):
    r"""
    Everything between the context LSTM and what writes forward. The future of a segment gets there only through z:
    plan and alignment are functions of z and of the past.
    """

    def __init__(self, config):
        super().__init__()
        self.segment_length = config.segment_length
        self.word_start_dropout = config.word_start_dropout
        self.encoder = PosteriorEncoder(config)
        self.prior = Prior(config)
        self.backward_decoder = BackwardDecoder(config)
        self.alignment = Alignment(config.hidden_size, config.backward_hidden_size, config.segment_length)

    def forward(
        self, context: torch.Tensor, lengths: torch.Tensor, past: BoustroCache, inputs: PlanInputs
    ) -> PlanOutput:
        """context (B, T, H) with each row's `lengths` (B,) real positions first."""
        if inputs.target_ids is None and past.plan is not None:
            if context.shape[1] == 1:
                return self._step(context, lengths, past, inputs)
            return self._window(context, lengths, past, inputs, past.position)
        return self._window(context, lengths, past, inputs, None)

    def _window(self, context, lengths, past, inputs, position):
        """Many positions at once; `position` is where a segment under way goes on, or None to start a new one."""
        segment_length = inputs.segment_length or self.segment_length
        carried = 0 if position is None else 1
        past_segment = lengths.new_zeros(len(lengths)) if past.segment is None else past.segment
        first = 0 if inputs.target_ids is not None else past_segment - carried
        found = self.infer(context, lengths, inputs, position, first)
        grid, latents = found.grid, found.latents
        states = self.backward_decoder(latents, segment_length)  # (B, K, S, Hb)
        if carried:
            # segment 0 goes on with its plan; the latent drawn for it above is not used
            states = torch.cat([past.plan[:, None].to(states.dtype), states[:, 1:]], 1)
            latents = torch.cat([torch.full_like(latents[:, :1], float("nan")), latents[:, 1:]], 1)
        places, short = torch.arange(segment_length, device=context.device), grid.shortened()
        distance = places - places[: short.length, None]
        aligned, weights = self.alignment(short.split(context), states, distance=distance)
        rows = torch.arange(len(lengths), device=lengths.device)
        plan, next_position = states[rows, grid.last_segment], (grid.last_place + 1) % segment_length
        plan = nn.functional.pad(plan, (0, 0, 0, self.segment_length - segment_length))
        if past.plan is not None:
            read = lengths > 0
            plan = torch.where(read[:, None, None], plan, past.plan)
            next_position = torch.where(read, next_position, past.position)
        else:
            next_position = next_position * (lengths > 0)
        return PlanOutput(
            aligned=short.join(aligned),
            plan=plan,
            position=next_position,
            segment=past_segment + grid.started.sum(1),
            latents=latents,
            prior=found.prior,
            posterior=found.posterior,
            backward_states=states,
            segment_targets=found.targets,
            alignments=weights,
        )

    def infer(
        self,
        context: torch.Tensor,
        lengths: torch.Tensor,
        inputs: PlanInputs,
        position: torch.Tensor | None = None,
        first: torch.Tensor | int = 0,
    ) -> InferredSegments:
        """
        Prior, latent and (with targets) posterior of every segment of context (B, T, H), without plans. `position` as
        in `SegmentGrid.from_starts`; `first`, (B,) or 0, is the number in its text of a row's first segment.
        """
        length = inputs.segment_length or self.segment_length
        grid = self._grid(lengths, context.shape[1], inputs.segment_starts, position, length)
        start_context = grid.at_starts(context)  # (B, K, H)
        prior = self.prior(start_context)
        targets, posterior = None, None
        if inputs.target_ids is not None:
            targets = grid.split(inputs.target_ids, fill=IGNORE_INDEX)
            posterior = self._posterior(grid.shortened(), start_context, targets, inputs)
        index = torch.arange(grid.count, device=lengths.device).expand(len(lengths), grid.count)
        if isinstance(first, torch.Tensor):
            index = index + first[:, None]
        return InferredSegments(grid, prior, posterior, _choose_latents(index, prior, posterior, inputs), targets)

    def _step(self, context, lengths, past, inputs):
        """One position in each row, with the plan at hand: the same result as `_window`, without its grid."""
        read = lengths > 0
        starts = past.position == 0 if inputs.segment_starts is None else inputs.segment_starts[:, 0]
        starts = starts & read
        plan, place = past.plan, torch.where(starts, 0, past.position)
        if bool(starts.any()):
            plan = torch.where(starts[:, None, None], self.plan_segment(context, past.segment, inputs), plan)
        distance = torch.arange(self.segment_length, device=place.device) - place[:, None, None]  # (B, 1, S)
        aligned, weights = self.alignment(context, plan, distance=distance)
        position = torch.where(read, (place + 1) % self.segment_length, past.position)
        segment = past.segment + starts
        return PlanOutput(aligned=aligned, plan=plan, position=position, segment=segment, alignments=weights[:, None])

    def plan_segment(self, context: torch.Tensor, segment: torch.Tensor, inputs: PlanInputs) -> torch.Tensor:
        """The plan (B, S, Hb) of the segments numbered `segment` (B,) that start at context (B, 1, H)."""
        latents = _choose_latents(segment[:, None], self.prior(context), None, inputs)
        return self.backward_decoder(latents, self.segment_length)[:, 0]

    def _grid(self, lengths, times, segment_starts, position, length):
        if segment_starts is None and position is None:
            return SegmentGrid.regular(lengths, times, length)
        if segment_starts is None:
            segment_starts = (position[:, None] + torch.arange(times, device=position.device)) % length == 0
        return SegmentGrid.from_starts(segment_starts, lengths, length, position)

    def _posterior(self, grid, start_context, targets, inputs):
        places = torch.arange(1, targets.shape[2] + 1, device=targets.device)
        lengths = ((targets != IGNORE_INDEX) * places).amax(-1)  # (B, K)
        word_starts = inputs.word_starts
        if word_starts is None:
            word_starts = torch.full_like(inputs.target_ids, WORD_UNKNOWN)
        elif self.training and self.word_start_dropout > 0:
            hidden = torch.rand(len(word_starts), 1, device=word_starts.device) < self.word_start_dropout
            word_starts = word_starts.masked_fill(hidden, WORD_UNKNOWN)
        word_starts = grid.split(word_starts, fill=WORD_UNKNOWN)
        return self.encoder(grid.split(inputs.target_embeds), word_starts, lengths, start_context)


def check_latents(latents: torch.Tensor | None, batch: int, latent_size: int) -> None:
    """Raises `ValueError` unless `latents` is None or a floating-point tensor (batch, any, latent_size)."""
    if latents is None:
        return
    if latent_size == 0:
        raise ValueError(
            "latents were given, but this model has latent_size=0: a plain language model without latents."
        )
    if not isinstance(latents, torch.Tensor) or not latents.is_floating_point():
        found = f"a tensor of {latents.dtype}" if isinstance(latents, torch.Tensor) else f"{type(latents).__name__}"
        raise ValueError(f"latents is {found}, expected a floating-point tensor (batch, segments, {latent_size}).")
    if latents.dim() != 3 or latents.shape[0] != batch or latents.shape[2] != latent_size:
        raise ValueError(
            f"latents has the shape {tuple(latents.shape)}, expected (batch, segments, latent_size) = "
            f"({batch}, any, {latent_size})."
        )


def check_segment_length(segment_length: int | None, longest: int, has_targets: bool) -> None:
    """Raises `ValueError` unless `segment_length` is None, or from 1 to `longest` in a call with targets."""
    if segment_length is not None and not has_targets:
        raise ValueError("segment_length was given without labels or target_ids: it is for training alone.")
    if segment_length is not None and not 1 <= segment_length <= longest:
        raise ValueError(f"segment_length is {segment_length}, expected 1 to config.segment_length={longest}.")


def _choose_latents(index, prior, posterior, inputs):
    """z (B, K, Z) of the segments numbered `index` (B, K): given by the caller, else from the posterior or prior."""
    like = prior.log_weights.new_empty(*index.shape, prior.means.shape[-1])
    if inputs.latent_noise is not None:
        noise, _ = _at_segments(inputs.latent_noise.to(like), index, otherwise=torch.zeros_like(like))
    else:
        noise = torch.zeros_like(like) if posterior is None else torch.randn_like(like)
    latents = prior.sample(noise) if posterior is None else sample_gaussian(*posterior, noise)
    if inputs.latents is not None:
        given, known = _at_segments(inputs.latents.to(latents), index, otherwise=latents)
        if inputs.latent_mask is not None:
            wanted, _ = _at_segments(inputs.latent_mask[..., None], index, otherwise=known[..., None])
            known = wanted[..., 0] & known
        latents = torch.where(known[..., None], given, latents)
    return latents


def _at_segments(values, index, otherwise):
    """values (B, K', D) at index (B, K), `otherwise` (B, K, D) outside; and which indices are inside, (B, K)."""
    known = (index >= 0) & (index < values.shape[1])
    if values.shape[1] == 0:
        return otherwise, known
    nearest = index.clamp(0, values.shape[1] - 1)[..., None].expand(*index.shape, values.shape[2])
    return torch.where(known[..., None], values.gather(1, nearest), otherwise), known
