import pytest
import torch

from boustro.segments_boustro import SegmentGrid


def test_regular_grid_cuts_every_s_positions():
    grid = SegmentGrid.regular(torch.tensor([5, 3]), times=5, length=2)
    x = torch.arange(10).view(2, 5)
    assert grid.split(x, fill=-1).tolist() == [[[0, 1], [2, 3], [4, -1]], [[5, 6], [7, 8], [9, -1]]]
    assert grid.start_times.tolist() == [[0, 2, 4], [0, 2, 4]]
    assert grid.started.tolist() == [[True, True, True], [True, True, False]]
    assert (grid.last_segment.tolist(), grid.last_place.tolist()) == ([2, 1], [0, 0])
    assert torch.equal(grid.join(grid.split(x)), x)


def test_starts_anywhere():
    starts = torch.tensor([[0, 1, 0, 0, 1], [0, 0, 1, 0, 0]]).bool()
    grid = SegmentGrid.from_starts(starts, torch.tensor([5, 4]), length=3)
    x = torch.arange(10.0).view(2, 5, 1)
    assert grid.split(x, fill=-1)[..., 0].tolist() == [
        [[0, -1, -1], [1, 2, 3], [4, -1, -1]],
        [[5, 6, -1], [7, 8, -1], [-1, -1, -1]],
    ]
    assert grid.at_starts(x)[..., 0].tolist() == [[0, 1, 4], [5, 7, 5]]
    assert torch.equal(grid.join(grid.split(x))[0], x[0])
    assert torch.equal(grid.join(grid.split(x))[1, :4], x[1, :4])


def test_segment_under_way_is_segment_zero():
    starts = torch.tensor([[0, 1, 0], [1, 0, 0]]).bool()
    grid = SegmentGrid.from_starts(starts, torch.tensor([3, 3]), length=4, position=torch.tensor([2, 0]))
    split = grid.split(torch.tensor([[1, 2, 3], [4, 5, 6]]))
    assert split.tolist() == [[[0, 0, 1, 0], [2, 3, 0, 0]], [[0, 0, 0, 0], [4, 5, 6, 0]]]
    assert grid.started.tolist() == [[False, True], [False, True]]


def test_shortened_to_the_longest_segment():
    starts = torch.tensor([[0, 1, 0, 0, 1], [0, 0, 1, 0, 0]]).bool()
    lengths, x = torch.tensor([5, 4]), torch.randn(2, 5, 3)
    for grid in (SegmentGrid.from_starts(starts, lengths, length=8), SegmentGrid.regular(lengths, 5, length=8)):
        short = grid.shortened()
        assert short.length == grid.longest == (3 if grid.count > 1 else 5)
        assert torch.equal(short.split(x), grid.split(x)[:, :, : short.length])
        assert torch.equal(short.join(short.split(x))[1, :4], x[1, :4])
    whole = SegmentGrid.regular(lengths, 5, length=2)
    assert whole.shortened() is whole


def test_too_long_a_segment_is_refused():
    with pytest.raises(ValueError, match="at most segment_length=3"):
        SegmentGrid.from_starts(torch.tensor([[1, 0, 0, 0]]).bool(), torch.tensor([4]), length=3)
