"""Convolution layers in one, two and three dimensions, and their transposes; Unfold and Fold."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from glassgrad.nn import functional as F
from glassgrad.nn import init
from glassgrad.nn.module import Module, Parameter
from glassgrad.ops.creation import empty

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "Fold", "Unfold"]

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


def _times(value: Any, n: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * n


class _Conv(Module):
    """What the six have in common: the arguments, the weights and their initial values U(±1/√fan_in)."""

    dims: int
    transposed = False
    convolve: Callable[..., Any]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        kind = type(self).__name__
        if groups <= 0 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{kind}: in_channels {in_channels} and out_channels {out_channels} must both divide into {groups} "
                "groups"
            )
        if padding_mode not in _PADDING_MODES:
            raise ValueError(f"{kind}: padding_mode '{padding_mode}' is none of {', '.join(_PADDING_MODES)}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = _times(kernel_size, self.dims)
        self.stride = _times(stride, self.dims)
        self.dilation = _times(dilation, self.dims)
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"{kind}: padding '{padding}' is neither 'same' nor 'valid'")
            if padding == "same" and any(s != 1 for s in self.stride):
                raise ValueError(f"{kind}: padding 'same' needs stride 1, got {self.stride}")
            self.padding: Any = padding
        else:
            self.padding = _times(padding, self.dims)
        self.padding_mode = padding_mode
        if self.transposed:
            shape = (in_channels, out_channels // groups, *self.kernel_size)
        else:
            shape = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = Parameter(empty(shape, device=device, dtype=dtype))
        self.register_parameter("bias", Parameter(empty(out_channels, device=device, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws new initial values."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in = self.weight.shape[1] * math.prod(self.kernel_size)
            if fan_in:
                init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def _around(self) -> list[int]:
        """The padding as F.pad wants it: last dimension first, both sides."""
        sides: list[int] = []
        for k, d, i in zip(reversed(self.kernel_size), reversed(self.dilation), reversed(range(self.dims))):
            if self.padding == "same":
                total = d * (k - 1)
                sides += [total // 2, total - total // 2]
            elif self.padding == "valid":
                sides += [0, 0]
            else:
                sides += [self.padding[i], self.padding[i]]
        return sides

    def forward(self, input: Tensor) -> Tensor:
        convolve = type(self).convolve
        if self.padding_mode != "zeros":
            padded = F.pad(input, self._around(), mode=self.padding_mode)
            return convolve(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
        return convolve(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if isinstance(self.padding, str) or any(self.padding):
            text += f", padding={self.padding}"
        if any(d != 1 for d in self.dilation):
            text += f", dilation={self.dilation}"
        if self.transposed and any(getattr(self, "output_padding", ())):
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class Conv1d(_Conv):
    """Cross-correlation of (N, C_in, L) or (C_in, L) with weight (C_out, C_in/groups, K).

    >>> gg.nn.Conv1d(2, 4, 3)(gg.zeros(1, 2, 8)).shape
    (1, 4, 6)
    """

    dims = 1
    convolve = staticmethod(F.conv1d)


class Conv2d(_Conv):
    """Cross-correlation of (N, C_in, H, W) or (C_in, H, W) with weight (C_out, C_in/groups, K_h, K_w).

    >>> gg.nn.Conv2d(3, 8, 3, padding=1)(gg.zeros(2, 3, 5, 5)).shape
    (2, 8, 5, 5)
    """

    dims = 2
    convolve = staticmethod(F.conv2d)


class Conv3d(_Conv):
    """Cross-correlation of (N, C_in, D, H, W) or (C_in, D, H, W) with weight (C_out, C_in/groups, K_d, K_h, K_w).

    >>> gg.nn.Conv3d(1, 2, 2)(gg.zeros(1, 1, 3, 3, 3)).shape
    (1, 2, 2, 2, 2)
    """

    dims = 3
    convolve = staticmethod(F.conv3d)


class _ConvTranspose(_Conv):
    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if padding_mode != "zeros":
            raise ValueError(f"{type(self).__name__}: only padding_mode 'zeros' is possible, got '{padding_mode}'")
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype
        )
        self.output_padding = _times(output_padding, self.dims)

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        extra = self.output_padding if output_size is None else self._extra_for(input, output_size)
        return type(self).convolve(
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation
        )

    def _extra_for(self, input: Tensor, output_size: Any) -> tuple[int, ...]:
        """The output_padding that gives `output_size`."""
        wanted = tuple(output_size)[-self.dims :]
        extra = []
        for i, size in enumerate(wanted):
            n = input.shape[input.ndim - self.dims + i]
            least = (n - 1) * self.stride[i] - 2 * self.padding[i] + self.dilation[i] * (self.kernel_size[i] - 1) + 1
            most = least + self.stride[i] - 1
            if not least <= size <= most:
                raise ValueError(
                    f"{type(self).__name__}: output_size {tuple(wanted)} is out of reach for input "
                    f"{tuple(input.shape)}: axis {i} can be {least} to {most}"
                )
            extra.append(size - least)
        return tuple(extra)


class ConvTranspose1d(_ConvTranspose):
    """The transpose of Conv1d as a linear map; weight (C_in, C_out/groups, K).

    >>> gg.nn.ConvTranspose1d(2, 4, 3, stride=2)(gg.zeros(1, 2, 8)).shape
    (1, 4, 17)
    """

    dims = 1
    convolve = staticmethod(F.conv_transpose1d)


class ConvTranspose2d(_ConvTranspose):
    """The transpose of Conv2d as a linear map; weight (C_in, C_out/groups, K_h, K_w).

    >>> gg.nn.ConvTranspose2d(2, 4, 2, stride=2)(gg.zeros(1, 2, 3, 3)).shape
    (1, 4, 6, 6)
    """

    dims = 2
    convolve = staticmethod(F.conv_transpose2d)


class ConvTranspose3d(_ConvTranspose):
    """The transpose of Conv3d as a linear map; weight (C_in, C_out/groups, K_d, K_h, K_w).

    >>> gg.nn.ConvTranspose3d(1, 2, 2)(gg.zeros(1, 1, 2, 2, 2)).shape
    (1, 2, 3, 3, 3)
    """

    dims = 3
    convolve = staticmethod(F.conv_transpose3d)


class Unfold(Module):
    """Sliding blocks of (N, C, H, W) as columns (N, C·K_h·K_w, L).

    >>> gg.nn.Unfold(2)(gg.zeros(1, 3, 4, 4)).shape
    (1, 12, 9)
    """

    def __init__(self, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> None:
        super().__init__()
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, input: Tensor) -> Tensor:
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"


class Fold(Module):
    """Sums columns (N, C·K_h·K_w, L) back into an image (N, C, *output_size); overlaps add.

    >>> gg.nn.Fold((4, 4), 2, stride=2)(gg.ones(1, 12, 4)).shape
    (1, 3, 4, 4)
    """

    def __init__(
        self, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
    ) -> None:
        super().__init__()
        self.output_size, self.kernel_size = output_size, kernel_size
        self.dilation, self.padding, self.stride = dilation, padding, stride

    def forward(self, input: Tensor) -> Tensor:
        return F.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, dilation={self.dilation}, "
            f"padding={self.padding}, stride={self.stride}"
        )
