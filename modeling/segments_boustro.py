"""Where the segments of a batch lie: pure index arithmetic between (B, T, ·) and (B, K, S, ·)."""

from copy import copy

import torch
from torch import nn


class SegmentGrid:
    r"""
    Lays the T positions of each row out in K segments of at most S places.

    Build it with [`SegmentGrid.regular`] (a segment every S positions) or [`SegmentGrid.from_starts`] (anywhere).
    Real positions come first in a row, padding after them.

    Attributes:
        count: K.  length: S.  times: T.  longest: P ≤ S, the places of the longest segment.
        start_times: (B, K), the time at which each segment starts (0 where none does).
        started: (B, K) bool, the segments that start in this grid.
        last_segment, last_place: (B,), where each row's last real position lies.
    """

    def __init__(self, cells, lengths, count, length, longest, start_times, started, is_regular):
        self.count, self.length, self.longest, self.times = count, length, longest, cells.shape[1]
        self.start_times, self.started = start_times, started
        last = cells.gather(1, (lengths - 1).clamp(min=0)[:, None])[:, 0]
        self.last_segment = (last // length).clamp(max=count - 1)
        self.last_place = last % length
        self._cells = cells  # (B, T) cell of each position in the flat grid; K * S is the bin for padding
        self._is_regular = is_regular

    @classmethod
    def regular(cls, lengths: torch.Tensor, times: int, length: int) -> "SegmentGrid":
        """Segments start at 0, S, 2S, …; lengths (B,) are the real positions of each row, of `times` = T."""
        cells = torch.arange(times, device=lengths.device).expand(len(lengths), times)
        start_times = cells[:, ::length]
        started = start_times < lengths[:, None]
        longest = min(times, length)
        return cls(cells, lengths, start_times.shape[1], length, longest, start_times, started, True)

    @classmethod
    def from_starts(
        cls, starts: torch.Tensor, lengths: torch.Tensor, length: int, position: torch.Tensor | None = None
    ) -> "SegmentGrid":
        r"""
        Args:
            starts: (B, T) bool, true where a segment starts.
            lengths: (B,), real positions of each row.
            length: S.
            position: (B,), how far each row is into a segment begun earlier. When given, segment 0 of the grid is
                that earlier one; when not, the first position of a row always starts a segment.

        Raises `ValueError` if a segment would be longer than S.
        """
        batch, times = starts.shape
        time = torch.arange(times, device=starts.device).expand(batch, times)
        real = time < lengths[:, None]
        if position is None:
            starts = starts | (time == 0)
        starts = starts & real
        segment = starts.cumsum(1) - (1 if position is None else 0)
        last_start = torch.where(starts, time, -1).cummax(1).values
        carried = 0 if position is None else position[:, None]
        place = torch.where(last_start >= 0, time - last_start, time + carried)
        longest = int(place.masked_fill(~real, 0).max()) + 1
        if longest > length:
            raise ValueError(
                f"segment_starts leaves a segment of {longest} characters, expected at most "
                f"segment_length={length}; mark a start at least every {length} characters."
            )
        count = max(int(segment.max()) + 1, 1)
        cells = torch.where(real, segment * length + place, count * length)
        bins = torch.where(starts, segment, count)
        start_times = time.new_zeros(batch, count + 1).scatter(1, bins, time)[:, :count]
        started = starts.new_zeros(batch, count + 1).scatter(1, bins, starts)[:, :count]
        return cls(cells, lengths, count, length, longest, start_times, started, False)

    def shortened(self) -> "SegmentGrid":
        """The same segments with P places each in place of S."""
        if self.longest == self.length:
            return self
        short = copy(self)
        short.length = self.longest
        short._cells = self._cells // self.length * self.longest + self._cells % self.length
        return short

    def split(self, x: torch.Tensor, fill: float = 0) -> torch.Tensor:
        """(B, T, …) → (B, K, S, …), with `fill` in the cells that hold no position."""
        if self._is_regular:
            missing = self.count * self.length - self.times
            padding = (0, 0) * (x.dim() - 2) + (0, missing)
            return nn.functional.pad(x, padding, value=fill).unflatten(1, (self.count, self.length))
        flat = x.new_full((x.shape[0], self.count * self.length + 1, *x.shape[2:]), fill)
        return flat.scatter(1, expand_index(self._cells, x), x)[:, :-1].unflatten(1, (self.count, self.length))

    def join(self, x: torch.Tensor) -> torch.Tensor:
        """(B, K, S, …) → (B, T, …), the inverse of `split` on real positions."""
        flat = x.flatten(1, 2)
        if self._is_regular:
            return flat[:, : self.times]
        return flat.gather(1, expand_index(self._cells.clamp(max=self.count * self.length - 1), flat))

    def at_starts(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, D) → (B, K, D): the value at each segment's first position."""
        return x.gather(1, expand_index(self.start_times, x))


def expand_index(index: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """An index (B, N) for `gather` and `scatter` along dimension 1 of `like` (B, ·, …)."""
    return index.reshape(*index.shape, *[1] * (like.dim() - 2)).expand(*index.shape, *like.shape[2:])
