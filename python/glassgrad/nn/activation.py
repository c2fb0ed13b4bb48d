"""Activations as layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glassgrad.nn import functional as F
from glassgrad.nn._wrap import FunctionLayer
from glassgrad.nn.module import Module, Parameter
from glassgrad.ops.creation import full

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "RReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softmax2d",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
    "Threshold",
]  # fmt: skip


class ReLU(FunctionLayer):
    """y = max(x, 0).

    >>> gg.nn.ReLU()(gg.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    function = staticmethod(F.relu)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)


class ReLU6(FunctionLayer):
    """y = min(max(x, 0), 6).

    >>> gg.nn.ReLU6()(gg.tensor([-1.0, 8.0]))
    tensor([0., 6.])
    """

    function = staticmethod(F.relu6)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)


class LeakyReLU(FunctionLayer):
    """y = x where x > 0, else negative_slope x.

    >>> gg.nn.LeakyReLU(0.5)(gg.tensor([-1.0, 2.0]))
    tensor([-0.5000,  2.0000])
    """

    function = staticmethod(F.leaky_relu)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__(negative_slope=negative_slope, inplace=inplace)


class RReLU(FunctionLayer):
    """Leaky ReLU whose slope is drawn from U(lower, upper) in training and is their mean otherwise.

    >>> gg.nn.RReLU(0.5, 0.5)(gg.tensor([-1.0]))
    tensor([-0.5000])
    """

    function = staticmethod(F.rrelu)

    def __init__(self, lower: float = 1.0 / 8, upper: float = 1.0 / 3, inplace: bool = False) -> None:
        super().__init__(lower=lower, upper=upper, inplace=inplace)


class ELU(FunctionLayer):
    """y = x where x > 0, else alpha (exp(x) - 1).

    >>> gg.nn.ELU()(gg.tensor([0.0, 2.0]))
    tensor([0., 2.])
    """

    function = staticmethod(F.elu)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(alpha=alpha, inplace=inplace)


class SELU(FunctionLayer):
    """ELU with the scale and alpha that keep mean 0 and variance 1 (Klambauer et al. 2017).

    >>> gg.nn.SELU()(gg.tensor([1.0]))
    tensor([1.0507])
    """

    function = staticmethod(F.selu)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)


class CELU(FunctionLayer):
    """y = max(x, 0) + min(0, alpha (exp(x/alpha) - 1)).

    >>> gg.nn.CELU()(gg.tensor([2.0]))
    tensor([2.])
    """

    function = staticmethod(F.celu)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(alpha=alpha, inplace=inplace)


class GELU(FunctionLayer):
    """y = x Phi(x), Phi the normal distribution function; approximate='tanh' for its tanh form.

    >>> gg.nn.GELU()(gg.tensor([0.0, 1.0]))
    tensor([0.0000, 0.8413])
    """

    function = staticmethod(F.gelu)

    def __init__(self, approximate: str = "none") -> None:
        super().__init__(approximate=approximate)


class SiLU(FunctionLayer):
    """y = x sigmoid(x).

    >>> gg.nn.SiLU()(gg.tensor([0.0, 1.0]))
    tensor([0.0000, 0.7311])
    """

    function = staticmethod(F.silu)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)


class Mish(FunctionLayer):
    """y = x tanh(softplus(x)).

    >>> gg.nn.Mish()(gg.tensor([0.0, 1.0]))
    tensor([0.0000, 0.8651])
    """

    function = staticmethod(F.mish)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)


class Sigmoid(FunctionLayer):
    """y = 1 / (1 + exp(-x)).

    >>> gg.nn.Sigmoid()(gg.tensor([0.0]))
    tensor([0.5000])
    """

    function = staticmethod(F.sigmoid)

    def __init__(self) -> None:
        super().__init__()


class LogSigmoid(FunctionLayer):
    """y = log(sigmoid(x)).

    >>> gg.nn.LogSigmoid()(gg.tensor([0.0]))
    tensor([-0.6931])
    """

    function = staticmethod(F.logsigmoid)

    def __init__(self) -> None:
        super().__init__()


class Tanh(FunctionLayer):
    """y = tanh(x).

    >>> gg.nn.Tanh()(gg.tensor([1.0]))
    tensor([0.7616])
    """

    function = staticmethod(F.tanh)

    def __init__(self) -> None:
        super().__init__()


class Softplus(FunctionLayer):
    """y = log(1 + exp(beta x)) / beta, the identity where beta x > threshold.

    >>> gg.nn.Softplus()(gg.tensor([0.0]))
    tensor([0.6931])
    """

    function = staticmethod(F.softplus)

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__(beta=beta, threshold=threshold)


class Softsign(FunctionLayer):
    """y = x / (1 + |x|).

    >>> gg.nn.Softsign()(gg.tensor([1.0]))
    tensor([0.5000])
    """

    function = staticmethod(F.softsign)

    def __init__(self) -> None:
        super().__init__()


class Hardtanh(FunctionLayer):
    """y = x held in [min_val, max_val].

    >>> gg.nn.Hardtanh()(gg.tensor([-2.0, 0.5]))
    tensor([-1.0000,  0.5000])
    """

    function = staticmethod(F.hardtanh)

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__(min_val=min_val, max_val=max_val, inplace=inplace)


class Hardsigmoid(FunctionLayer):
    """y = relu6(x + 3) / 6.

    >>> gg.nn.Hardsigmoid()(gg.tensor([0.0]))
    tensor([0.5000])
    """

    function = staticmethod(F.hardsigmoid)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)


class Hardswish(FunctionLayer):
    """y = x relu6(x + 3) / 6.

    >>> gg.nn.Hardswish()(gg.tensor([3.0]))
    tensor([3.])
    """

    function = staticmethod(F.hardswish)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)


class Tanhshrink(FunctionLayer):
    """y = x - tanh(x).

    >>> gg.nn.Tanhshrink()(gg.tensor([0.0]))
    tensor([0.])
    """

    function = staticmethod(F.tanhshrink)

    def __init__(self) -> None:
        super().__init__()


class Softshrink(FunctionLayer):
    """y = x moved towards 0 by lambd, 0 where |x| <= lambd.

    >>> gg.nn.Softshrink()(gg.tensor([-1.0, 0.2]))
    tensor([-0.5000,  0.0000])
    """

    function = staticmethod(F.softshrink)

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__(lambd=lambd)


class Hardshrink(FunctionLayer):
    """y = x where |x| > lambd, else 0.

    >>> gg.nn.Hardshrink()(gg.tensor([-1.0, 0.2]))
    tensor([-1.,  0.])
    """

    function = staticmethod(F.hardshrink)

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__(lambd=lambd)


class Threshold(FunctionLayer):
    """y = x where x > threshold, else value.

    >>> gg.nn.Threshold(0.5, 9.0)(gg.tensor([0.2, 1.0]))
    tensor([9., 1.])
    """

    function = staticmethod(F.threshold)

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__(threshold=threshold, value=value, inplace=inplace)


class GLU(FunctionLayer):
    """y = a sigmoid(b), a and b the halves of x along dim.

    >>> gg.nn.GLU()(gg.tensor([2.0, 0.0]))
    tensor([1.])
    """

    function = staticmethod(F.glu)

    def __init__(self, dim: int = -1) -> None:
        super().__init__(dim=dim)


class Softmin(FunctionLayer):
    """y = softmax(-x) along dim.

    >>> gg.nn.Softmin(dim=0)(gg.tensor([1.0, 1.0]))
    tensor([0.5000, 0.5000])
    """

    function = staticmethod(F.softmin)

    def __init__(self, dim: int | None = None) -> None:
        super().__init__(dim=dim)


class Softmax(FunctionLayer):
    """y_i = exp(x_i) / sum_j exp(x_j) along dim.

    >>> gg.nn.Softmax(dim=0)(gg.tensor([1.0, 1.0]))
    tensor([0.5000, 0.5000])
    """

    function = staticmethod(F.softmax)

    def __init__(self, dim: int | None = None) -> None:
        super().__init__(dim=dim)


class LogSoftmax(FunctionLayer):
    """y = log(softmax(x)) along dim.

    >>> gg.nn.LogSoftmax(dim=0)(gg.tensor([1.0, 1.0]))
    tensor([-0.6931, -0.6931])
    """

    function = staticmethod(F.log_softmax)

    def __init__(self, dim: int | None = None) -> None:
        super().__init__(dim=dim)


class Softmax2d(Module):
    """Softmax over the channels of (N, C, H, W) or (C, H, W).

    >>> gg.nn.Softmax2d()(gg.zeros(1, 2, 1, 1)).tolist()
    [[[[0.5]], [[0.5]]]]
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim not in (3, 4):
            raise ValueError(f"Softmax2d: input must have 3 or 4 axes, got {tuple(input.shape)}")
        return F.softmax(input, -3)


class PReLU(Module):
    """y = x where x > 0, else weight x, with one learned weight or one a channel.

    >>> gg.nn.PReLU()(gg.tensor([-4.0, 2.0])).tolist()
    [-1.0, 2.0]
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.num_parameters, self.init = num_parameters, init
        self.weight = Parameter(full((num_parameters,), init, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Sets the weights back to their initial value."""
        self.weight.detach().fill_(self.init)

    def forward(self, input: Tensor) -> Tensor:
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"
