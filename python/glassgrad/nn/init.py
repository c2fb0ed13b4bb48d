"""Initial values of parameters, in place and unrecorded, with PyTorch's formulas."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from glassgrad.autograd.grad_mode import no_grad

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = [
    "calculate_gain", "constant_", "dirac_", "eye_", "kaiming_normal_", "kaiming_uniform_", "normal_", "ones_",
    "orthogonal_", "sparse_", "trunc_normal_", "uniform_", "xavier_normal_", "xavier_uniform_", "zeros_",
]  # fmt: skip


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which a nonlinearity shrinks the standard deviation of its input, to be undone by the weights.

    >>> round(gg.nn.init.calculate_gain("relu"), 4)
    1.4142
    """
    if nonlinearity in ("linear", "sigmoid") or nonlinearity.startswith("conv"):
        return 1.0
    if nonlinearity == "tanh":
        return 5.0 / 3.0
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else float(param)
        return math.sqrt(2.0 / (1.0 + slope * slope))
    if nonlinearity == "selu":
        return 0.75
    raise ValueError(
        f"calculate_gain: unknown nonlinearity '{nonlinearity}'; known are linear, conv*, sigmoid, tanh, relu, "
        "leaky_relu, selu"
    )


def _fans(op: str, tensor: Tensor) -> tuple[int, int]:
    """Inputs and outputs of one unit: axis 1 and axis 0, times the receptive field."""
    if tensor.ndim < 2:
        raise ValueError(f"{op}: fan in and fan out need a tensor of at least 2 axes, got {tuple(tensor.shape)}")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


@no_grad()
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Tensor:
    """Fills with U(a, b).

    >>> bool((gg.nn.init.uniform_(gg.empty(8), 2.0, 3.0) >= 2).all())
    True
    """
    return tensor.uniform_(a, b, generator=generator)


@no_grad()
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Tensor:
    """Fills with N(mean, std²).

    >>> gg.nn.init.normal_(gg.empty(3)).shape
    (3,)
    """
    return tensor.normal_(mean, std, generator=generator)


@no_grad()
def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: Any = None
) -> Tensor:
    """Fills with N(mean, std²) confined to [a, b], by the inverse of its distribution function.

    >>> bool((gg.nn.init.trunc_normal_(gg.empty(100)).abs() <= 2).all())
    True
    """

    def below(x: float) -> float:
        return (1.0 + math.erf(x / math.sqrt(2.0))) / 2.0

    low, high = below((a - mean) / std), below((b - mean) / std)
    tensor.uniform_(2 * low - 1, 2 * high - 1, generator=generator)
    tensor.erfinv_()
    tensor.mul_(std * math.sqrt(2.0)).add_(mean)
    return tensor.clamp_(a, b)


@no_grad()
def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fills with one value.

    >>> gg.nn.init.constant_(gg.empty(2), 3.0)
    tensor([3., 3.])
    """
    return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Fills with 1.

    >>> gg.nn.init.ones_(gg.empty(2))
    tensor([1., 1.])
    """
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Fills with 0.

    >>> gg.nn.init.zeros_(gg.empty(2))
    tensor([0., 0.])
    """
    return constant_(tensor, 0.0)


@no_grad()
def eye_(tensor: Tensor) -> Tensor:
    """Fills a matrix with the identity.

    >>> gg.nn.init.eye_(gg.empty(2, 2))
    tensor([[1., 0.],
            [0., 1.]])
    """
    if tensor.ndim != 2:
        raise ValueError(f"eye_: a matrix is needed, got {tuple(tensor.shape)}")
    tensor.zero_()
    tensor.diagonal().fill_(1.0)
    return tensor


@no_grad()
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fills a convolution's weight so that it passes its input channels through.

    >>> gg.nn.init.dirac_(gg.empty(1, 1, 3)).tolist()
    [[[0.0, 1.0, 0.0]]]
    """
    if tensor.ndim not in (3, 4, 5):
        raise ValueError(f"dirac_: a weight of 3, 4 or 5 axes is needed, got {tuple(tensor.shape)}")
    if tensor.shape[0] % groups:
        raise ValueError(f"dirac_: {tensor.shape[0]} output channels do not divide into {groups} groups")
    per_group = tensor.shape[0] // groups
    centre = [n // 2 for n in tensor.shape[2:]]
    tensor.zero_()
    for g in range(groups):
        for c in range(min(per_group, tensor.shape[1])):
            tensor[(g * per_group + c, c, *centre)] = 1.0
    return tensor


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Fills with U(-a, a), a = gain sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010).

    >>> gg.nn.init.xavier_uniform_(gg.empty(3, 5)).shape
    (3, 5)
    """
    fan_in, fan_out = _fans("xavier_uniform_", tensor)
    bound = gain * math.sqrt(6.0 / (fan_in + fan_out))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Fills with N(0, std²), std = gain sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010).

    >>> gg.nn.init.xavier_normal_(gg.empty(3, 5)).shape
    (3, 5)
    """
    fan_in, fan_out = _fans("xavier_normal_", tensor)
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / (fan_in + fan_out)), generator)


def _kaiming_std(op: str, tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"{op}: mode '{mode}' is neither 'fan_in' nor 'fan_out'")
    fan = _fans(op, tensor)[0 if mode == "fan_in" else 1]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def kaiming_uniform_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Tensor:
    """Fills with U(-b, b), b = gain sqrt(3 / fan) (He et al. 2015).

    >>> gg.nn.init.kaiming_uniform_(gg.empty(3, 5), nonlinearity="relu").shape
    (3, 5)
    """
    if 0 in tensor.shape:
        return tensor
    bound = math.sqrt(3.0) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Tensor:
    """Fills with N(0, std²), std = gain / sqrt(fan) (He et al. 2015).

    >>> gg.nn.init.kaiming_normal_(gg.empty(3, 5)).shape
    (3, 5)
    """
    if 0 in tensor.shape:
        return tensor
    return normal_(tensor, 0.0, _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity), generator)


@no_grad()
def orthogonal_(tensor: Tensor, gain: float = 1, generator: Any = None) -> Tensor:
    """Fills with an orthogonal matrix (axes after the first flattened), by QR of a normal one (Saxe et al. 2013).

    >>> w = gg.nn.init.orthogonal_(gg.empty(3, 3))
    >>> bool(gg.allclose(w @ w.T, gg.eye(3), atol=1e-5))
    True
    """
    import numpy as np

    from glassgrad.tensor import from_numpy

    if tensor.ndim < 2:
        raise ValueError(f"orthogonal_: at least 2 axes are needed, got {tuple(tensor.shape)}")
    if tensor.numel() == 0:
        return tensor
    rows = tensor.shape[0]
    columns = tensor.numel() // rows
    flat = tensor.new_empty(rows, columns).normal_(0, 1, generator=generator).double().cpu().numpy()
    q, r = np.linalg.qr(flat.T if rows < columns else flat)
    q = q * np.sign(np.diag(r))
    q = q.T if rows < columns else q
    return tensor.copy_(from_numpy(np.ascontiguousarray(q)).reshape(tensor.shape)).mul_(gain)


@no_grad()
def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Any = None) -> Tensor:
    """Fills a matrix with N(0, std²), a fraction `sparsity` of each column being zero (Martens 2010).

    >>> int((gg.nn.init.sparse_(gg.empty(10, 3), 0.2) == 0).sum())
    6
    """
    from glassgrad.ops.random import randperm

    if tensor.ndim != 2:
        raise ValueError(f"sparse_: a matrix is needed, got {tuple(tensor.shape)}")
    rows, columns = tensor.shape
    tensor.normal_(0, std, generator=generator)
    for j in range(columns):
        tensor[randperm(rows, generator=generator)[: math.ceil(sparsity * rows)], j] = 0.0
    return tensor
