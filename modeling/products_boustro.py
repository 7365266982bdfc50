"""Products with a model's weights for one character a row, in the layout that is fastest on this CPU."""

import weakref
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

# characters to come from which on weights are laid out anew: that takes as long as some ten steps of 64 rows
LAYOUT_PAYS = 32
# multiplications of a float32 product from which on oneDNN, which divides it among threads, is the faster
PACKED_PRODUCT = 2**20

LYING, TRANSPOSED, PACKED = "lying", "transposed", "packed"

# module → (kind, copies of the sources, what was made of them): see `Products.made`
_KEPT = weakref.WeakKeyDictionary()


class Products:
    r"""
    Lays weights out and multiplies with them.

    Args:
        rows: rows of every product.
        characters: how many products with each weight are expected at most.
    """

    def __init__(self, rows: int, characters: int):
        self.rows, self.pays = rows, characters >= LAYOUT_PAYS

    def layout(self, weight: torch.Tensor, size: int | None = None) -> str:
        """The layout for a weight of the kind of `weight`, with `size` numbers, by default as many as it has."""
        size = weight.numel() if size is None else size
        if not self.pays or weight.device.type != "cpu":
            return LYING
        packs, at_home = torch.backends.mkldnn.is_available(), _mkl_is_at_home()
        if weight.dtype is torch.bfloat16:
            packs = packs and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        elif at_home:
            packs = packs and weight.dtype is torch.float32 and self.rows > 1 and size > PACKED_PRODUCT
        else:
            packs = packs and weight.dtype is torch.float32 and self.rows * size > PACKED_PRODUCT
        if packs:
            return PACKED
        return LYING if at_home else TRANSPOSED

    def made(self, owner: nn.Module, kind: tuple, sources: tuple[torch.Tensor, ...], make: Callable):
        r"""
        `make(*sources)`, which nobody may write to. Where laying weights out pays it is kept beside the module
        `owner`, for the next call of the same `kind`, until one of `sources` holds another number: they are compared
        with copies, for what `parameter.data` is told no version counts. It goes with the module, and is neither
        copied nor saved with it.
        """
        if not self.pays or sources[0].device.type != "cpu":
            return make(*sources)
        kind = (*kind, *((x.dtype, x.shape) for x in sources), torch.is_autocast_enabled("cpu"))
        kept = _KEPT.get(owner)
        if kept is None or kept[0] != kind or not all(map(torch.equal, kept[1], sources)):
            kept = _KEPT[owner] = (kind, tuple(x.clone() for x in sources), make(*sources))
        return kept[2]

    def linear(self, owner: nn.Module) -> Callable:
        """The product of the weight and bias of an `nn.Linear`."""
        weight, bias = owner.weight.detach(), owner.bias
        layout = self.layout(weight)
        make = partial(lay_out, layout=layout)
        laid_out = make(weight) if layout == LYING else self.made(owner, (layout,), (weight,), make)
        return product(laid_out, layout, None if bias is None else bias.detach())


def _mkl_is_at_home():
    """Whether `torch.addmm` runs what MKL has for CPUs of Intel (those with AMX were measured): it takes a weight as
    it lies there, and is the faster one for few rows."""
    return torch.backends.mkl.is_available() and torch.cpu._is_amx_tile_supported()


def lay_out(weight: torch.Tensor, layout: str) -> torch.Tensor:
    """A weight (D', D) as `product` takes it."""
    if layout == PACKED:
        return torch.ops.mkldnn._reorder_linear_weight(weight)
    return weight.t().contiguous() if layout == TRANSPOSED else weight.t()


def product(laid_out: torch.Tensor, layout: str, bias: torch.Tensor | None = None) -> Callable:
    """x (B, D) → x @ weightᵀ + bias, and (x, other) → x @ weightᵀ + other; good until the next call."""
    return _packed(laid_out, bias) if layout == PACKED else _plain(laid_out, bias)


def _plain(weight, bias):
    """Always into the same buffer."""
    buffer = weight.new_empty(0)

    def linear(x, other=bias):
        nonlocal buffer
        if buffer.size(0) != x.size(0):  # `len` of a tensor goes through Python
            buffer = x.new_empty(x.size(0), weight.size(1))
        if other is None:
            return torch.mm(x, weight, out=buffer)
        return torch.addmm(other, x, weight, out=buffer)

    return linear


def _packed(weight, bias):
    """As `torch.compile` lowers it for a CPU: the weight is packed once for all products."""

    def linear(x, other=None):
        if other is None:
            return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return torch.ops.mkldnn._linear_pointwise.binary(x, other, weight, None, "add")

    return linear
