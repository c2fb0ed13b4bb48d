"""How a tensor looks: PyTorch's layout of numbers, with set_printoptions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = ["set_printoptions"]


class _Options:
    precision = 4
    threshold = 1000
    edgeitems = 3
    linewidth = 80
    sci_mode: bool | None = None


options = _Options()


def set_printoptions(
    precision: int | None = None,
    threshold: int | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Sets how tensors are printed.

    precision: digits after the point; threshold: elements above which the middle is left out; edgeitems: how many are
    then shown at each end; linewidth: columns; profile: 'default', 'short' or 'full'; sci_mode: scientific notation, or
    None to choose.

    >>> gg.set_printoptions(precision=2)
    >>> gg.tensor([1.0, 2.5])
    tensor([1.00, 2.50])
    >>> gg.set_printoptions(profile="default")
    """
    profiles = {"default": (4, 1000, 3, 80), "short": (2, 1000, 2, 80), "full": (4, math.inf, 3, 80)}
    if profile is not None:
        if profile not in profiles:
            raise ValueError(f"set_printoptions: profile '{profile}' is none of {', '.join(profiles)}")
        values: Any = profiles[profile]
        options.precision, options.threshold, options.edgeitems, options.linewidth = values
    if precision is not None:
        options.precision = precision
    if threshold is not None:
        options.threshold = threshold
    if edgeitems is not None:
        options.edgeitems = edgeitems
    if linewidth is not None:
        options.linewidth = linewidth
    options.sci_mode = sci_mode


class _Format:
    """One width for all numbers of a tensor: whole numbers as `1.`, others with fixed or scientific digits."""

    def __init__(self, values: list[Any], floating: bool) -> None:
        self.floating, self.whole, self.scientific = floating, True, False
        self.width = 1
        if not floating:
            self.width = max([len(str(v)) for v in values], default=1)
            return
        shown = [v for v in values if math.isfinite(v) and v != 0]
        if shown:
            self.whole = all(v == math.ceil(v) for v in shown)
            largest, smallest = max(map(abs, shown)), min(map(abs, shown))
            self.scientific = largest / smallest > 1000.0 or largest > 1e8 or smallest < 1e-4
        if options.sci_mode is not None:
            self.scientific = options.sci_mode
        self.width = max([len(self._text(v)) for v in shown], default=1)

    def _text(self, v: Any) -> str:
        if not self.floating:
            return str(v)
        if self.scientific:
            return f"{v:.{options.precision}e}"
        if self.whole:
            return f"{v:.0f}" + ("." if math.isfinite(v) else "")
        return f"{v:.{options.precision}f}"

    def __call__(self, v: Any) -> str:
        return self._text(v).rjust(self.width)


def _summary(values: Any, shape: tuple[int, ...], full: bool) -> Any:
    """The nested list with None where the middle is left out."""
    if not shape:
        return values
    edge = options.edgeitems
    if full or shape[0] <= 2 * edge:
        return [_summary(v, shape[1:], full) for v in values]
    head = [_summary(v, shape[1:], full) for v in values[:edge]]
    return head + [None] + [_summary(v, shape[1:], full) for v in values[-edge:]]


def _flat(values: Any) -> list[Any]:
    if not isinstance(values, list):
        return [] if values is None else [values]
    return [v for inner in values for v in _flat(inner)]


def _lines(values: Any, depth: int, indent: int, show: _Format) -> str:
    if depth == 0:
        return show(values)
    if depth == 1:
        words = [" ..." if v is None else show(v) for v in values]
        per_line = max(1, (options.linewidth - indent) // (show.width + 2))
        rows = [", ".join(words[i : i + per_line]) for i in range(0, len(words), per_line)]
        return "[" + (",\n" + " " * (indent + 1)).join(rows) + "]"
    parts = ["..." if v is None else _lines(v, depth - 1, indent + 1, show) for v in values]
    return "[" + ("," + "\n" * (depth - 1) + " " * (indent + 1)).join(parts) + "]"


def tensor_text(x: Tensor) -> str:
    """`repr` of a tensor."""
    from glassgrad import _core as core

    prefix = "tensor("
    floating = x.dtype.is_floating_point
    suffixes = []
    if x.device.type != "cpu":
        suffixes.append(f"device='{x.device}'")
    if x.numel() == 0:
        text = "[]"
        if x.ndim != 1:
            suffixes.append(f"size={tuple(x.shape)}")
    else:
        full = x.numel() <= options.threshold
        plain = x._alias()
        shown: Any
        if full:
            shown = _summary(plain.tolist(), x.shape, True)
        else:  # only what is shown is converted
            shown = _pick(plain)
        show = _Format(_flat(shown), floating)
        text = _lines(shown, x.ndim, len(prefix), show)
    usual = x.dtype in (core.get_default_dtype(), core.int64, core.bool)
    if not usual or (x.numel() == 0 and x.dtype is not core.get_default_dtype()):
        suffixes.append(f"dtype={x.dtype!r}")
    if x._node is not None:
        suffixes.append(f"grad_fn={x._node!r}")
    elif x.requires_grad:
        suffixes.append("requires_grad=True")
    return prefix + ", ".join([text, *suffixes]) + ")"


def _pick(x: Any) -> Any:
    if x.ndim == 0:
        return x.item()
    edge = options.edgeitems
    if x.shape[0] <= 2 * edge:
        return [_pick(x[i]) for i in range(x.shape[0])]
    head = [_pick(x[i]) for i in range(edge)]
    return head + [None] + [_pick(x[i]) for i in range(x.shape[0] - edge, x.shape[0])]
