"""Rows of a table picked by index: embedding, and sums, means and maxima over bags of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glassgrad import _core as core
from glassgrad.autograd.graph import Op, composite_backward, recording
from glassgrad.ops.creation import arange

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = ["embedding", "embedding_bag"]

MODES = ("sum", "mean", "max")


class Embedding(Op):
    """y[j] = weight[index[j]]."""

    def forward(self, weight: Tensor, index: Tensor, skip: int, by_frequency: bool) -> Tensor:
        self.rows, self.skip, self.by_frequency = weight.shape[0], skip, by_frequency
        self.save(index)
        return core.embedding_forward(weight, index)

    # dweight[r] = the sum of dy[j] over the j with index[j] = r, divided by their number where by_frequency.
    def backward(self, dy: Tensor) -> Tensor:
        (index,) = self.saved
        scale = _inverse_frequency(index, self.rows).to(dy.dtype) if self.by_frequency else None
        return EmbeddingBackward.apply(dy, index, self.rows, self.skip, scale)


class EmbeddingBackward(Op):
    """dweight[r] = sum of scale[j] * dy[j] over the j with index[j] = r; none for the row skip."""

    def forward(self, dy: Tensor, index: Tensor, rows: int, skip: int, scale: Tensor | None) -> Tensor:
        self.skip = skip
        self.save(index, scale)
        return core.embedding_backward(dy, index, rows, skip, scale)

    # It is linear: dy[j] gets scale[j] * d[index[j]].
    def backward(self, d: Tensor) -> Tensor:
        index, scale = self.saved
        ddy = Embedding.apply(d, index, self.skip, False)
        if scale is not None:
            ddy = ddy * scale.unsqueeze(-1)
        return ddy if self.skip < 0 else ddy.masked_fill((index == self.skip).unsqueeze(-1), 0)


def _inverse_frequency(index: Tensor, rows: int) -> Tensor:
    flat = index.long().reshape(-1)
    counts = flat.new_zeros(rows).scatter(0, flat, 1, reduce="add")
    return (1.0 / counts[flat].double()).reshape(index.shape)


def _padding_row(op: str, padding_idx: int | None, rows: int) -> int:
    """padding_idx counted from 0, or -1 for none."""
    if padding_idx is None:
        return -1
    if not -rows <= padding_idx < rows:
        raise IndexError(f"{op}: padding_idx {padding_idx} is out of bounds for the {rows} rows of weight")
    return padding_idx % rows


def _check(op: str, weight: Tensor, sparse: bool) -> None:
    if sparse:
        raise ValueError(f"{op}: sparse gradients are not supported; use sparse=False")
    if weight.ndim != 2:
        raise core.ShapeError(f"{op}: weight {tuple(weight.shape)} {weight.dtype} must have two axes, (rows, width)")


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of `weight` that `input` names: y[..., :] = weight[input[...]].

    Input (*) of int64 or int32, weight (V, D), output (*, D). Row `padding_idx` gets no gradient. With `max_norm`,
    named rows whose norm is greater are first scaled down to it in place. `scale_grad_by_freq` divides a row's gradient
    by how often it was named. IndexError for an index outside [0, V).

    >>> gg.nn.functional.embedding(gg.tensor([1, 0]), gg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[3., 4.],
            [1., 2.]])
    """
    _check("embedding", weight, sparse)
    skip = _padding_row("embedding", padding_idx, weight.shape[0])
    if max_norm is not None:
        core.embedding_renorm_(weight, input, max_norm, norm_type)
    return Embedding.apply(weight, input, skip, scale_grad_by_freq)


class EmbeddingBag(Op):
    """y[b] = sum, mean or max over the positions j of bag b of scale[j] * weight[index[j]]."""

    def forward(
        self,
        weight: Tensor,
        scale: Tensor | None,
        index: Tensor,
        offsets: Tensor,
        mode: int,
        skip: int,
        by_frequency: bool,
    ) -> Tensor:
        self.mode, self.skip, self.by_frequency = mode, skip, by_frequency
        y, bag, count, row = core.embedding_bag_forward(weight, index, offsets, mode, skip, scale)
        # A position before the first or past the last bag belongs to none.
        self.end = int(offsets[-1].item())
        self.save(weight, scale, index, bag, count, row)
        return y

    # sum, mean   dweight[index[j]] += scale[j] * dy[bag[j]], with scale 1 / count for the mean;
    #             dscale[j] = weight[index[j]] . dy[bag[j]].
    # max         each dy goes to the row it came from.
    def backward(self, dy: Tensor) -> tuple[Tensor | None, ...]:
        weight, scale, index, bag, count, row = self.saved
        if recording():
            return composite_backward(self._composite, (weight, scale), dy, self.needs)
        if self.mode == 2:
            d = dy.masked_fill(row < 0, 0)
            return (d.new_zeros(weight.shape).scatter_add(0, row.clamp(min=0), d),)
        dweight = dscale = None
        if self.needs[0]:
            by = scale if self.mode == 0 else (1.0 / count[bag].double()).to(dy.dtype)
            if self.by_frequency:
                part = _inverse_frequency(index, weight.shape[0]).to(dy.dtype)
                by = part if by is None else by * part
            n = self.end
            by = None if by is None else by[:n]
            dweight = core.embedding_backward(dy, index[:n], weight.shape[0], self.skip, by, bag[:n])
        if self.needs[1]:
            dscale = core.embedding_bag_scale_backward(dy, weight, index, bag, self.skip)
            dscale[self.end :] = 0
        return dweight, dscale

    def _composite(self, weight: Tensor, scale: Tensor | None) -> Tensor:
        _, _, index, bag, count, row = self.saved
        index, bag = index[: self.end], bag[: self.end]
        if self.mode == 2:
            return weight.gather(0, row.clamp(min=0)).masked_fill(row < 0, 0)
        rows = Embedding.apply(weight, index, self.skip, self.by_frequency)
        if scale is not None:
            rows = rows * scale[: self.end].unsqueeze(-1)
        if self.skip >= 0:
            rows = rows.masked_fill((index == self.skip).unsqueeze(-1), 0)
        y = rows.new_zeros((count.shape[0], weight.shape[1])).index_add(0, bag, rows)
        return y / count.clamp(min=1).unsqueeze(-1).to(y.dtype) if self.mode == 1 else y


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """The sum, mean or max of the rows of `weight` that each bag of `input` names, without storing the rows.

    Input (B, N): bags of equal size; or (N) with `offsets` (B), where each bag begins (with `include_last_offset` also
    where the last one ends). Weight (V, D), output (B, D); an empty bag gives 0. `per_sample_weights`, shaped as input,
    scale rows in a sum. Row `padding_idx` takes no part. IndexError for an index outside [0, V).

    >>> w = gg.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> gg.nn.functional.embedding_bag(gg.tensor([[0, 1], [2, 2]]), w, mode="sum")
    tensor([[ 4.,  6.],
            [10., 12.]])
    """
    op = "embedding_bag"
    if (
        isinstance(weight, core.TensorBase)
        and weight.dtype in (core.int64, core.int32)
        and input.dtype.is_floating_point
    ):
        raise TypeError(f"{op}: input must hold the indices and weight the table; they seem to be exchanged")
    _check(op, weight, sparse)
    if mode not in MODES:
        raise ValueError(f"{op}: mode must be 'sum', 'mean' or 'max', not {mode!r}")
    if per_sample_weights is not None:
        if mode != "sum":
            raise NotImplementedError(f"{op}: per_sample_weights go with mode 'sum' only, not {mode!r}")
        if per_sample_weights.shape != input.shape:
            raise core.ShapeError(
                f"{op}: per_sample_weights {tuple(per_sample_weights.shape)} and input {tuple(input.shape)}: "
                "the shapes differ"
            )
    if input.ndim == 2:
        if offsets is not None:
            raise ValueError(f"{op}: input {tuple(input.shape)} has bags of equal size; offsets go with one axis only")
        bags, size = input.shape
        offsets = arange(bags + 1, dtype=core.int64, device=input.device) * size
        input = input.reshape(-1)
        per_sample_weights = None if per_sample_weights is None else per_sample_weights.reshape(-1)
    elif input.ndim == 1:
        if offsets is None or offsets.ndim != 1:
            raise ValueError(f"{op}: input {tuple(input.shape)} with one axis needs offsets with one axis")
        if not include_last_offset:
            ends = offsets.new_full((offsets.shape[0] + 1,), input.shape[0])
            ends[:-1] = offsets
            offsets = ends
    else:
        raise core.ShapeError(f"{op}: input {tuple(input.shape)} must have one or two axes")
    skip = _padding_row(op, padding_idx, weight.shape[0])
    if max_norm is not None:
        core.embedding_renorm_(weight, input, max_norm, norm_type)
    return EmbeddingBag.apply(weight, per_sample_weights, input, offsets, MODES.index(mode), skip, scale_grad_by_freq)
