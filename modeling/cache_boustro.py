"""The recurrent cache: all that a boustro model remembers of the text it has read, in constant space."""

from collections.abc import Callable

import torch


class BoustroCache:
    r"""
    State between two calls of a boustro model, passed as `past_key_values`. It duck-types the methods of
    `transformers.Cache` that `generate` calls; every tensor has the batch first, so that beams can be reordered.

    Attributes (all `None` before the first call):
        context_state, generator_state: pairs (h, c), each (B, layers, H).
        plan: (B, S, Hb), the backward decoder's states for the segment under way, in text order.
        position: (B,), the place of the next character in its segment; 0 means that a new segment starts.
        segment: (B,), how many segments have been started.
        context_ahead: (B, T, H), what the context LSTM made of the next T characters, where `generate` has had it read
            the prompt already; the next call of the model must be about those.
    """

    is_compileable = False
    is_croppable = False

    def __init__(self):
        self.reset()

    def reset(self) -> None:
        """Forgets everything."""
        self.context_state: tuple[torch.Tensor, torch.Tensor] | None = None
        self.generator_state: tuple[torch.Tensor, torch.Tensor] | None = None
        self.plan: torch.Tensor | None = None
        self.position: torch.Tensor | None = None
        self.segment: torch.Tensor | None = None
        self.context_ahead: torch.Tensor | None = None
        self.seen_tokens = 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Characters read so far, padding included."""
        return self.seen_tokens

    def update(self, context_state, generator_state, plan, new_tokens: int) -> None:
        """Moves on by a call's `new_tokens` characters; `plan` is the planner's output, None in a plain model."""
        self.context_state, self.generator_state, self.context_ahead = context_state, generator_state, None
        if plan is not None:
            self.plan, self.position, self.segment = plan.plan, plan.position, plan.segment
        self.seen_tokens += new_tokens

    def become(self, other: "BoustroCache") -> "BoustroCache":
        """Takes the state of another cache, which is given up; returns itself."""
        vars(self).update(vars(other))
        return self

    def apply(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "BoustroCache":
        """Replaces every tensor by `function(tensor)`, in place; returns itself."""
        for name, value in vars(self).items():
            if isinstance(value, tuple):
                setattr(self, name, tuple(function(tensor) for tensor in value))
            elif isinstance(value, torch.Tensor):
                setattr(self, name, function(value))
        return self

    def detach(self) -> "BoustroCache":
        """Cuts the gradient, for truncated back-propagation through time; returns itself."""
        return self.apply(torch.Tensor.detach)

    def forget(self, rows: torch.BoolTensor) -> "BoustroCache":
        """Empties the recurrent state of `rows` (B,), for a call with targets, which plans anew; returns itself."""
        for name in ("context_state", "generator_state"):
            state = getattr(self, name)
            if state is not None:
                setattr(self, name, tuple(part.masked_fill(rows[:, None, None], 0) for part in state))
        return self

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Row i becomes the former row `beam_idx[i]`."""
        self.apply(lambda tensor: tensor.index_select(0, beam_idx.to(tensor.device)))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keeps the rows `indices`."""
        self.apply(lambda tensor: tensor[indices])

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeats every row `repeats` times."""
        self.apply(lambda tensor: tensor.repeat_interleave(repeats, dim=0))

    def crop(self, max_length: int) -> None:
        """A recurrent state cannot be taken back: always raises."""
        raise NotImplementedError(
            "A BoustroCache holds a recurrent state, which cannot be cropped to an earlier length; "
            "run the model again on the shorter text."
        )

    def activate_past_recording(self, *args, **kwargs) -> None:
        """Recording past states serves assisted decoding, which a recurrent state cannot do: always raises."""
        raise NotImplementedError(
            "boustro models do not support assisted decoding: a recurrent state cannot be taken back."
        )
