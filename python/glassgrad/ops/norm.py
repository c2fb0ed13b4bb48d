"""Normalisations: batch, layer, group, instance and RMS norm, each one fused kernel forward and one backward.

    y = (x - mean) / sqrt(var + eps) * weight + bias,   var biased

Forward saves x, the mean and rstd = 1 / sqrt(var + eps). Backward of the kernels is checked against
`..._in_ordinary_ops`, the same mathematics that higher orders differentiate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from glassgrad import _core as core
from glassgrad.amp import Casts
from glassgrad.autograd.graph import Op, composite_backward, recording
from glassgrad.ops._names import numpy_names
from glassgrad.ops.softmax import described

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = [
    "batch_norm",
    "cosine_similarity",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "normalize",
    "pairwise_distance",
    "rms_norm",
]


def _normalized(x: Tensor, dims: list[int], eps: float) -> Tensor:
    d = x - x.mean(dims, keepdim=True)
    return d * ((d * d).mean(dims, keepdim=True) + eps).rsqrt()


def _affine(h: Tensor, weight: Tensor | None, bias: Tensor | None, shape: Sequence[int] | None = None) -> Tensor:
    if weight is not None:
        h = h * (weight if shape is None else weight.reshape(shape))
    if bias is not None:
        h = h + (bias if shape is None else bias.reshape(shape))
    return h


def _spread(wanted: Any, needs: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    """The gradients that a kernel gave, in the places of the inputs that need one."""
    each = iter(wanted)
    return tuple(next(each) if need else None for need in needs)


class LayerNorm(Op):
    """y = (x - mean) rstd weight + bias over the last axes, weight and bias per element."""

    autocast = Casts(gpu="float32")

    def forward(
        self, x: Tensor, weight: Tensor | None, bias: Tensor | None, normalized_shape: Sequence[int], eps: float
    ) -> Tensor:
        self.shape, self.eps = normalized_shape, eps
        y, mean, rstd = core.layer_norm_forward(x, normalized_shape, weight, bias, eps)
        self.save(x, weight, bias, mean, rstd)
        return y

    # With h = (x - mean) rstd and g = dy weight, mean and rstd of a row depend on each of its n elements:
    #   dx = rstd (g - mean(g) - h mean(g h)),  dweight = sum over rows of dy h,  dbias = sum over rows of dy.
    def backward(self, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, rstd = self.saved
        needs = self.needs[:3]
        if recording():
            return composite_backward(self.in_ordinary_ops, (x, weight, bias), dy, needs)
        return _spread(core.layer_norm_backward(dy, x, self.shape, weight, mean, rstd, *needs), needs)

    def in_ordinary_ops(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        return _affine(_normalized(x, list(range(-len(self.shape), 0)), self.eps), weight, bias)


class RmsNorm(Op):
    """y = x rstd weight over the last axes, rstd = 1 / sqrt(mean(x^2) + eps)."""

    autocast = Casts(gpu="float32")

    def forward(self, x: Tensor, weight: Tensor | None, normalized_shape: Sequence[int], eps: float) -> Tensor:
        self.shape, self.eps = normalized_shape, eps
        y, rstd = core.rms_norm_forward(x, normalized_shape, weight, eps)
        self.save(x, weight, rstd)
        return y

    # As layer norm with no mean to subtract: with h = x rstd and g = dy weight, dx = rstd (g - h mean(g h)).
    def backward(self, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, rstd = self.saved
        needs = self.needs[:2]
        if recording():
            return composite_backward(self.in_ordinary_ops, (x, weight), dy, needs)
        return _spread(core.rms_norm_backward(dy, x, self.shape, weight, rstd, *needs), needs)

    def in_ordinary_ops(self, x: Tensor, weight: Tensor | None) -> Tensor:
        dims = list(range(-len(self.shape), 0))
        return _affine(x * ((x * x).mean(dims, keepdim=True) + self.eps).rsqrt(), weight, None)


class GroupNorm(Op):
    """y = (x - mean) rstd weight_c + bias_c, statistics over each of `groups` groups of channels of each image."""

    autocast = Casts(gpu="float32")

    def forward(self, x: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, eps: float) -> Tensor:
        self.groups, self.eps = groups, eps
        y, mean, rstd = core.group_norm_forward(x, groups, weight, bias, eps)
        self.save(x, weight, bias, mean, rstd)
        return y

    # As layer norm over a group, with one weight a channel: the kernel sums dy and dy (x - mean) over each channel of
    # each image, and these serve dx, dweight and dbias alike.
    def backward(self, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, rstd = self.saved
        needs = self.needs[:3]
        if recording():
            return composite_backward(self.in_ordinary_ops, (x, weight, bias), dy, needs)
        return _spread(core.group_norm_backward(dy, x, self.groups, weight, mean, rstd, *needs), needs)

    def in_ordinary_ops(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        rows = x.reshape((x.shape[0], self.groups, -1))
        h = _normalized(rows, [2], self.eps).reshape(x.shape)
        return _affine(h, weight, bias, [-1] + [1] * (x.ndim - 2))


class InstanceNorm(GroupNorm):
    """Group norm with one channel a group; to autocast a batch norm, which takes its operands as they are."""

    autocast = Casts()


class BatchNorm(Op):
    """y = (x - mean_c) rstd_c weight_c + bias_c, statistics over the batch, or (training=False) the running ones."""

    def forward(
        self,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        training: bool,
        momentum: float,
        eps: float,
    ) -> Tensor:
        self.training, self.eps = training, eps
        if training:
            y, mean, rstd = core.batch_norm_forward(x, weight, bias, running_mean, running_var, momentum, eps)
        else:
            y, mean, rstd = core.batch_norm_eval(x, weight, bias, running_mean, running_var, eps)
        self.save(x, weight, bias, mean, rstd)
        return y

    # With h = (x - mean) rstd over a channel of M elements:
    #   dweight = sum dy h,  dbias = sum dy,  dx = weight rstd (dy - dbias / M - h dweight / M);
    # fixed statistics depend on no x, and leave dx = weight rstd dy.
    def backward(self, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, rstd = self.saved
        needs = self.needs[:3]
        if recording():
            return composite_backward(
                lambda x, w, b: self.in_ordinary_ops(x, w, b, mean, rstd), (x, weight, bias), dy, needs
            )
        return _spread(core.batch_norm_backward(dy, x, weight, mean, rstd, self.training, *needs), needs)

    def in_ordinary_ops(
        self, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, rstd: Tensor
    ) -> Tensor:
        line = [-1] + [1] * (x.ndim - 2)
        if self.training:
            h = _normalized(x, [i for i in range(x.ndim) if i != 1], self.eps)
        else:
            h = (x - mean.to(x.dtype).reshape(line)) * rstd.to(x.dtype).reshape(line)
        return _affine(h, weight, bias, line)


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes, whose sizes are `normalized_shape`.

    weight and bias have that shape too. Raises ShapeError where sizes do not fit and TypeError for whole numbers.
    (Ba, Kiros and Hinton, 2016.)

    >>> gg.nn.functional.layer_norm(gg.tensor([[1.0, 3.0]]), (2,))
    tensor([[-1.0000,  1.0000]])
    """
    return LayerNorm.apply(input, weight, bias, tuple(normalized_shape), eps)


def rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axes, whose sizes are `normalized_shape`.

    `eps` None is the machine epsilon of the dtype computed in. Raises ShapeError where sizes do not fit and TypeError
    for whole numbers. (Zhang and Sennrich, 2019.)

    >>> gg.nn.functional.rms_norm(gg.tensor([1.0, 7.0]), (2,))
    tensor([0.2000, 1.4000])
    """
    if eps is None:
        eps = 2.0**-52 if input.dtype is core.float64 else 2.0**-23
    return RmsNorm.apply(input, weight, tuple(normalized_shape), eps)


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias over groups of channels: input (N, C, ...), weight and bias (C).

    Raises ValueError where num_groups does not divide C, ShapeError where sizes do not fit. (Wu and He, 2018.)

    >>> gg.nn.functional.group_norm(gg.tensor([[1.0, 3.0, 5.0, 7.0]]), 2)
    tensor([[-1.0000,  1.0000, -1.0000,  1.0000]])
    """
    return GroupNorm.apply(input, weight, bias, num_groups, eps)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias per channel: input (N, C, ...), everything else (C).

    In training the statistics are the batch's, and the running ones become (1 - momentum) old + momentum new (the
    variance unbiased); otherwise they are the running ones. Raises ShapeError where sizes do not fit, ValueError for
    one value a channel in training or for missing statistics outside it. (Ioffe and Szegedy, 2015.)

    >>> gg.nn.functional.batch_norm(gg.tensor([[1.0], [3.0]]), None, None, training=True)
    tensor([[-1.0000],
            [ 1.0000]])
    """
    if not training and (running_mean is None or running_var is None):
        raise ValueError("batch_norm: running_mean and running_var are needed where training is False")
    return BatchNorm.apply(input, weight, bias, running_mean, running_var, training, momentum, eps)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch norm of every image by itself: input (N, C, d1, ...), everything else (C).

    Running statistics, where given, follow the mean of the images' ones. Raises ValueError for one value a channel of
    an image, or for missing statistics where use_input_stats is False. (Ulyanov, Vedaldi and Lempitsky, 2016.)

    >>> gg.nn.functional.instance_norm(gg.tensor([[[1.0, 3.0]]]))
    tensor([[[-1.0000,  1.0000]]])
    """
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise ValueError("instance_norm: running_mean and running_var are needed where use_input_stats is False")
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    if input.ndim < 2:
        raise core.ShapeError(f"instance_norm: input {described(input)}: (N, C, d1, ...) is needed")
    size = 1
    for n in input.shape[2:]:
        size *= n
    if size == 1:
        raise ValueError(
            f"instance_norm: input {described(input)}: more than one value per channel of an image is needed"
        )
    if running_mean is not None or running_var is not None:
        dims = list(range(2, input.ndim))
        x = input.detach()
        for running, now in ((running_mean, x.mean(dims)), (running_var, x.var(dims))):
            if running is not None:
                running.copy_(running * (1 - momentum) + now.mean(0).to(running.dtype) * momentum)
    return InstanceNorm.apply(input, weight, bias, input.shape[1], eps) if input.shape[1] else input.clone()


def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """x / (k + alpha mean(x^2))^beta, the mean over `size` neighbouring channels: input (N, C, d1, ...).

    Raises ShapeError for fewer than three axes. (Krizhevsky, Sutskever and Hinton, 2012.)

    >>> gg.nn.functional.local_response_norm(gg.ones(1, 2, 1), 2)
    tensor([[[1.0000],
             [0.9999]]])
    """
    if input.ndim < 3:
        raise core.ShapeError(
            f"local_response_norm: input {described(input)}: at least three axes, (N, C, d1, ...), are needed"
        )
    if input.numel() == 0:
        return input
    channels = input.shape[1]
    square = input * input
    total = square
    for shift in range(1, size // 2 + 1):  # the channels before
        if shift < channels:
            total = total + _shifted(square, shift)
    for shift in range(1, (size - 1) // 2 + 1):  # the channels after
        if shift < channels:
            total = total + _shifted(square, -shift)
    return input / (total * (alpha / size) + k) ** beta


def _shifted(x: Tensor, shift: int) -> Tensor:
    """x moved along the channels, zeros moving in."""
    from glassgrad.ops.layout import cat

    n = x.shape[1]
    zeros = (x.narrow(1, 0, abs(shift)) * 0).detach()
    return cat([zeros, x.narrow(1, 0, n - shift)], 1) if shift > 0 else cat([x.narrow(1, -shift, n + shift), zeros], 1)


@numpy_names
def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None) -> Tensor:
    """x / max(||x||_p, eps) along `dim`.

    >>> gg.nn.functional.normalize(gg.tensor([[3.0, 4.0]]))
    tensor([[0.6000, 0.8000]])
    """
    if out is not None:
        raise ValueError("normalize: out= is not supported; use the result")
    axes = max(input.ndim, 1)
    if not -axes <= dim < axes:
        raise IndexError(f"normalize: input {described(input)} and dim {dim}: dim must be in [{-axes}, {axes - 1}]")
    return input / input.norm(p, dim, keepdim=True).clamp(min=eps)


@numpy_names
@Casts(gpu="float32")
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 . x2 / (max(||x1||, eps) max(||x2||, eps)) along `dim`, the operands broadcast.

    >>> gg.cosine_similarity(gg.tensor([[1.0, 0.0]]), gg.tensor([[1.0, 1.0]]))
    tensor([0.7071])
    """
    dtype = core.result_type(x1, x2)
    x1, x2 = x1.to(dtype), x2.to(dtype)
    if x1.shape != x2.shape:
        from glassgrad.ops.layout import broadcast_tensors

        x1, x2 = broadcast_tensors(x1, x2)
    a = x1.norm(2, dim, keepdim=True).clamp(min=eps)
    b = x2.norm(2, dim, keepdim=True).clamp(min=eps)
    return ((x1 / a) * (x2 / b)).sum(dim)


@numpy_names
def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """||x1 - x2 + eps||_p along the last axis, the operands broadcast.

    >>> gg.pairwise_distance(gg.tensor([[3.0, 4.0]]), gg.zeros(1, 2))
    tensor([5.0000])
    """
    return (x1 - x2 + eps).norm(p, -1, keepdim=keepdim)
