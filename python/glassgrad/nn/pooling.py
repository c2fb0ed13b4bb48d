"""Pooling layers in one, two and three dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glassgrad.nn import functional as F
from glassgrad.nn._wrap import FunctionLayer
from glassgrad.nn.module import Module

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d", "LPPool1d", "LPPool2d", "LPPool3d", "MaxPool1d",
    "MaxPool2d", "MaxPool3d", "MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d",
]  # fmt: skip


class MaxPool1d(FunctionLayer):
    """The greatest element of each window of (N, C, L); stride defaults to the kernel.

    >>> gg.nn.MaxPool1d(2)(gg.zeros(1, 2, 8)).shape
    (1, 2, 4)
    """

    function = staticmethod(F.max_pool1d)

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            return_indices=return_indices,
            ceil_mode=ceil_mode,
        )


class AvgPool1d(FunctionLayer):
    """The mean of each window of (N, C, L); the padding counts unless count_include_pad is False.

    >>> gg.nn.AvgPool1d(2)(gg.zeros(1, 2, 8)).shape
    (1, 2, 4)
    """

    function = staticmethod(F.avg_pool1d)

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
        )


class LPPool1d(FunctionLayer):
    """The p-norm of each window of (N, C, L).

    >>> gg.nn.LPPool1d(2, 2)(gg.zeros(1, 2, 8)).shape
    (1, 2, 4)
    """

    function = staticmethod(F.lp_pool1d)

    def __init__(self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> None:
        super().__init__(norm_type=norm_type, kernel_size=kernel_size, stride=stride, ceil_mode=ceil_mode)


class AdaptiveMaxPool1d(FunctionLayer):
    """Max pooling of (N, C, L) to output_size, whatever the input's size.

    >>> gg.nn.AdaptiveMaxPool1d(4)(gg.zeros(1, 2, 8)).shape
    (1, 2, 4)
    """

    function = staticmethod(F.adaptive_max_pool1d)

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__(output_size=output_size, return_indices=return_indices)


class AdaptiveAvgPool1d(FunctionLayer):
    """Average pooling of (N, C, L) to output_size, whatever the input's size.

    >>> gg.nn.AdaptiveAvgPool1d(4)(gg.zeros(1, 2, 8)).shape
    (1, 2, 4)
    """

    function = staticmethod(F.adaptive_avg_pool1d)

    def __init__(self, output_size: Any) -> None:
        super().__init__(output_size=output_size)


class MaxPool2d(FunctionLayer):
    """The greatest element of each window of (N, C, H, W); stride defaults to the kernel.

    >>> gg.nn.MaxPool2d(2)(gg.zeros(1, 2, 8, 8)).shape
    (1, 2, 4, 4)
    """

    function = staticmethod(F.max_pool2d)

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            return_indices=return_indices,
            ceil_mode=ceil_mode,
        )


class AvgPool2d(FunctionLayer):
    """The mean of each window of (N, C, H, W); the padding counts unless count_include_pad is False.

    >>> gg.nn.AvgPool2d(2)(gg.zeros(1, 2, 8, 8)).shape
    (1, 2, 4, 4)
    """

    function = staticmethod(F.avg_pool2d)

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
            divisor_override=divisor_override,
        )


class LPPool2d(FunctionLayer):
    """The p-norm of each window of (N, C, H, W).

    >>> gg.nn.LPPool2d(2, 2)(gg.zeros(1, 2, 8, 8)).shape
    (1, 2, 4, 4)
    """

    function = staticmethod(F.lp_pool2d)

    def __init__(self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> None:
        super().__init__(norm_type=norm_type, kernel_size=kernel_size, stride=stride, ceil_mode=ceil_mode)


class AdaptiveMaxPool2d(FunctionLayer):
    """Max pooling of (N, C, H, W) to output_size, whatever the input's size.

    >>> gg.nn.AdaptiveMaxPool2d(4)(gg.zeros(1, 2, 8, 8)).shape
    (1, 2, 4, 4)
    """

    function = staticmethod(F.adaptive_max_pool2d)

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__(output_size=output_size, return_indices=return_indices)


class AdaptiveAvgPool2d(FunctionLayer):
    """Average pooling of (N, C, H, W) to output_size, whatever the input's size.

    >>> gg.nn.AdaptiveAvgPool2d(4)(gg.zeros(1, 2, 8, 8)).shape
    (1, 2, 4, 4)
    """

    function = staticmethod(F.adaptive_avg_pool2d)

    def __init__(self, output_size: Any) -> None:
        super().__init__(output_size=output_size)


class MaxPool3d(FunctionLayer):
    """The greatest element of each window of (N, C, D, H, W); stride defaults to the kernel.

    >>> gg.nn.MaxPool3d(2)(gg.zeros(1, 2, 8, 8, 8)).shape
    (1, 2, 4, 4, 4)
    """

    function = staticmethod(F.max_pool3d)

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            return_indices=return_indices,
            ceil_mode=ceil_mode,
        )


class AvgPool3d(FunctionLayer):
    """The mean of each window of (N, C, D, H, W); the padding counts unless count_include_pad is False.

    >>> gg.nn.AvgPool3d(2)(gg.zeros(1, 2, 8, 8, 8)).shape
    (1, 2, 4, 4, 4)
    """

    function = staticmethod(F.avg_pool3d)

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
            divisor_override=divisor_override,
        )


class LPPool3d(FunctionLayer):
    """The p-norm of each window of (N, C, D, H, W).

    >>> gg.nn.LPPool3d(2, 2)(gg.zeros(1, 2, 8, 8, 8)).shape
    (1, 2, 4, 4, 4)
    """

    function = staticmethod(F.lp_pool3d)

    def __init__(self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> None:
        super().__init__(norm_type=norm_type, kernel_size=kernel_size, stride=stride, ceil_mode=ceil_mode)


class AdaptiveMaxPool3d(FunctionLayer):
    """Max pooling of (N, C, D, H, W) to output_size, whatever the input's size.

    >>> gg.nn.AdaptiveMaxPool3d(4)(gg.zeros(1, 2, 8, 8, 8)).shape
    (1, 2, 4, 4, 4)
    """

    function = staticmethod(F.adaptive_max_pool3d)

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__(output_size=output_size, return_indices=return_indices)


class AdaptiveAvgPool3d(FunctionLayer):
    """Average pooling of (N, C, D, H, W) to output_size, whatever the input's size.

    >>> gg.nn.AdaptiveAvgPool3d(4)(gg.zeros(1, 2, 8, 8, 8)).shape
    (1, 2, 4, 4, 4)
    """

    function = staticmethod(F.adaptive_avg_pool3d)

    def __init__(self, output_size: Any) -> None:
        super().__init__(output_size=output_size)


class _MaxUnpool(Module):
    """Puts each value back where max pooling found it; all else is zero."""

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__()
        self.kernel_size, self.padding = kernel_size, padding
        self.stride = kernel_size if stride is None else stride

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """The partial inverse of MaxPool1d with return_indices=True: maxima at their places, zeros elsewhere.

    >>> y, indices = gg.nn.MaxPool1d(2, return_indices=True)(gg.tensor([[[1.0, 5.0, 2.0, 3.0]]]))
    >>> gg.nn.MaxUnpool1d(2)(y, indices).shape
    (1, 1, 4)
    """

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Tensor:
        return F.max_unpool1d(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool2d(_MaxUnpool):
    """The partial inverse of MaxPool2d with return_indices=True: maxima at their places, zeros elsewhere.

    >>> y, indices = gg.nn.MaxPool2d(2, return_indices=True)(gg.zeros(1, 1, 4, 4))
    >>> gg.nn.MaxUnpool2d(2)(y, indices).shape
    (1, 1, 4, 4)
    """

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Tensor:
        return F.max_unpool2d(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool3d(_MaxUnpool):
    """The partial inverse of MaxPool3d with return_indices=True: maxima at their places, zeros elsewhere.

    >>> y, indices = gg.nn.MaxPool3d(2, return_indices=True)(gg.zeros(1, 1, 4, 4, 4))
    >>> gg.nn.MaxUnpool3d(2)(y, indices).shape
    (1, 1, 4, 4, 4)
    """

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Tensor:
        return F.max_unpool3d(input, indices, self.kernel_size, self.stride, self.padding, output_size)
