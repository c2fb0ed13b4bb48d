"""Random numbers and dropout.

All numbers come from counter streams (csrc/ops/random/random.h): a seed gives the same ones for any number of threads
and any instruction set. Functions take a `generator`; without one they use the default, which `gg.manual_seed` seeds.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from glassgrad import _core as core
from glassgrad.autograd.graph import Op, note_change, recording
from glassgrad.autograd.in_place import check_in_place, overwrite
from glassgrad.ops import creation

if TYPE_CHECKING:
    from glassgrad._core import Generator
    from glassgrad.tensor import Tensor

    Size = int | Sequence[int]

__all__ = [
    "alpha_dropout",
    "bernoulli",
    "bernoulli_",
    "cauchy_",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "exponential_",
    "feature_alpha_dropout",
    "feature_dropout",
    "fork_rng",
    "geometric_",
    "get_rng_state",
    "initial_seed",
    "log_normal_",
    "manual_seed",
    "multinomial",
    "normal",
    "normal_",
    "poisson",
    "rand",
    "rand_like",
    "randint",
    "randint_like",
    "randn",
    "randn_like",
    "random_",
    "randperm",
    "seed",
    "set_rng_state",
    "uniform_",
]

# The generator ------------------------------------------------------------------------------------------------------


def manual_seed(seed: int) -> Generator:
    """Starts the default generator's stream of this seed from its beginning, and returns the generator.

    >>> _ = gg.manual_seed(0)
    >>> a = gg.rand(2)
    >>> _ = gg.manual_seed(0)
    >>> bool((gg.rand(2) == a).all())
    True
    """
    return core.default_generator.manual_seed(int(seed))


def seed() -> int:
    """Seeds the default generator from the operating system's randomness and returns the seed.

    >>> gg.seed() == gg.initial_seed()
    True
    """
    return core.default_generator.seed()


def initial_seed() -> int:
    """The seed of the default generator's stream.

    >>> _ = gg.manual_seed(7)
    >>> gg.initial_seed()
    7
    """
    return core.default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """The default generator's seed and position, as a uint8 tensor.

    >>> gg.get_rng_state().shape
    (16,)
    """
    return core.default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Sets the default generator back to what `get_rng_state` gave.

    >>> state = gg.get_rng_state()
    >>> a = gg.rand(2)
    >>> gg.set_rng_state(state)
    >>> bool((gg.rand(2) == a).all())
    True
    """
    core.default_generator.set_state(new_state)


@contextlib.contextmanager
def fork_rng(devices: Any = None, enabled: bool = True) -> Iterator[None]:
    """A block after which the default generator stands where it stood before.

    >>> with gg.random.fork_rng():
    ...     _ = gg.manual_seed(0)
    """
    state = core.default_generator.get_state() if enabled else None
    try:
        yield
    finally:
        if state is not None:
            core.default_generator.set_state(state)


# In place -----------------------------------------------------------------------------------------------------------


class Redraw(Op):
    """New numbers in the place of x."""

    def forward(self, x: Tensor, fill: Callable[[Tensor], None]) -> Tensor:
        y = x._alias().clone()
        fill(y)
        return y

    # They do not depend on x.
    def backward(self, dy: Tensor) -> Tensor:
        return dy.new_zeros(dy.shape)


def _redraw(name: str, x: Tensor, fill: Callable[[Tensor], None]) -> Tensor:
    """Fills x by `fill`, in place."""
    check_in_place(name, x)
    if recording() and x.requires_grad:
        return overwrite(name, x, Redraw.apply(x, fill))
    fill(x)
    note_change(x)
    return x


def uniform_(self: Tensor, low: float = 0.0, high: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fills with uniform numbers from [low, high).

    >>> x = gg.empty(100).uniform_(2, 3)
    >>> bool(((x >= 2) & (x < 3)).all())
    True
    """
    return _redraw("uniform_", self, lambda x: core.uniform_(x, low, high, generator))


def normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fills with normal numbers of that mean and standard deviation (Box and Muller 1958).

    >>> gg.empty(3).normal_(5.0, 0.0)
    tensor([5., 5., 5.])
    """
    return _redraw("normal_", self, lambda x: core.normal_(x, mean, std, generator))


def log_normal_(self: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None) -> Tensor:
    """Fills with numbers whose logarithm is normal with that mean and standard deviation.

    >>> bool((gg.empty(9).log_normal_() > 0).all())
    True
    """
    return _redraw("log_normal_", self, lambda x: core.log_normal_(x, mean, std, generator))


def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fills with numbers of density lambd exp(-lambd x), all above 0.

    >>> bool((gg.empty(9).exponential_() > 0).all())
    True
    """
    return _redraw("exponential_", self, lambda x: core.exponential_(x, lambd, generator))


def cauchy_(self: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fills with numbers of density sigma / (pi (sigma^2 + (x - median)^2)).

    >>> gg.empty(2).cauchy_().shape
    (2,)
    """
    return _redraw("cauchy_", self, lambda x: core.cauchy_(x, median, sigma, generator))


def geometric_(self: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Fills with the number of trials up to the first success of probability p: P(k) = (1 - p)^(k - 1) p, k = 1, 2, ...

    >>> bool((gg.empty(9).geometric_(0.5) >= 1).all())
    True
    """
    return _redraw("geometric_", self, lambda x: core.geometric_(x, p, generator))


def bernoulli_(self: Tensor, p: float | Tensor = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fills with 1 with probability p and 0 else; a tensor p has one probability per element.

    >>> gg.empty(3).bernoulli_(1.0)
    tensor([1., 1., 1.])
    """
    if isinstance(p, core.TensorBase):
        each = p if p.dtype.is_floating_point else p.to(core.float32)
        return _redraw("bernoulli_", self, lambda x: core.copy_(x, core.bernoulli(each.expand(x.shape), generator)))
    return _redraw("bernoulli_", self, lambda x: core.bernoulli_(x, p, generator))


_MANTISSA = {core.float16: 11, core.bfloat16: 8, core.float32: 24, core.float64: 53}


def random_(self: Tensor, *bounds: int, generator: Generator | None = None) -> Tensor:
    """Fills with whole numbers: `random_(low, high)` from [low, high), `random_(high)` from [0, high), `random_()` from
    all that are not negative and that the dtype holds exactly.

    >>> x = gg.empty(50, dtype=gg.int64).random_(3, 5)
    >>> bool(((x == 3) | (x == 4)).all())
    True
    """
    if len(bounds) > 2:
        raise TypeError(f"random_: takes at most 2 bounds, got {len(bounds)}")
    low = bounds[0] if len(bounds) == 2 else 0
    _, largest = _exact_range(self.dtype)
    high = bounds[-1] if bounds and bounds[-1] is not None else None
    if high is None:
        high = largest + 1
    _check_range("random_", low, high, self.dtype)
    return _redraw("random_", self, lambda x: core.random_(x, low, None if high == 2**63 else high, generator))


def _exact_range(dtype: Any) -> tuple[int, int]:
    """The whole numbers from which on a dtype holds all."""
    if dtype is core.bool:
        return 0, 1
    if dtype.is_floating_point:
        return -(2 ** _MANTISSA[dtype]), 2 ** _MANTISSA[dtype]
    bits = 8 * dtype.itemsize
    return (0, 2**bits - 1) if dtype is core.uint8 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _check_range(op: str, low: int, high: int, dtype: Any) -> None:
    if low >= high:
        raise ValueError(f"{op}: low {low} must be below high {high}")
    smallest, largest = (-(2**63), 2**63 - 1) if dtype.is_floating_point else _exact_range(dtype)
    if low < smallest or high - 1 > largest:
        raise ValueError(f"{op}: [{low}, {high}) does not fit {dtype}, which holds {smallest} to {largest}")


# New tensors --------------------------------------------------------------------------------------------------------


def rand(
    *sizes: Any,
    size: Size | None = None,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """Uniform numbers from [0, 1): multiples of 2^-24 in float32, 2^-53 in float64.

    >>> gg.rand(2, 3).shape
    (2, 3)
    """
    x = creation.empty(*sizes, size=size, dtype=dtype, device=device)
    core.uniform_(x, 0.0, 1.0, generator)
    return _leaf(x.pin_memory() if pin_memory else x, requires_grad)


def randn(
    *sizes: Any,
    size: Size | None = None,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """Standard normal numbers.

    >>> gg.randn(2, 3).shape
    (2, 3)
    """
    x = creation.empty(*sizes, size=size, dtype=dtype, device=device)
    core.normal_(x, 0.0, 1.0, generator)
    return _leaf(x.pin_memory() if pin_memory else x, requires_grad)


def randint(
    *bounds: int,
    size: Size | None = None,
    low: int = 0,
    high: int | None = None,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Whole numbers from [low, high) or [0, high): `randint(low, high, size)` or `randint(high, size)`, int64 by
    default.

    >>> x = gg.randint(3, 5, (50,))
    >>> bool(((x == 3) | (x == 4)).all())
    True
    """
    listed = list(bounds)
    if size is None:
        if not listed:
            raise TypeError("randint: a size is needed: randint(low, high, size)")
        size = listed.pop()
    if len(listed) == 2:
        low, high = listed
    elif len(listed) == 1:
        if high is None:
            high = listed[0]
        else:
            low = listed[0]
    if high is None or len(listed) > 2:
        raise TypeError("randint: takes (high, size) or (low, high, size)")
    dtype = dtype or core.int64
    _check_range("randint", low, high, dtype)
    x = creation.empty(size, dtype=dtype, device=device)
    core.random_(x, low, None if high == 2**63 else high, generator)
    return _leaf(x, requires_grad)


def randperm(
    n: int,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """A random permutation of 0 ... n - 1, int64 by default (Fisher and Yates).

    >>> gg.randperm(5).sort().values
    tensor([0, 1, 2, 3, 4])
    """
    x = core.randperm(n, generator, device)
    x = x if dtype is None else x.to(dtype)
    return _leaf(x.pin_memory() if pin_memory else x, requires_grad)


def rand_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Uniform numbers from [0, 1) in the shape and dtype of `input`.

    >>> gg.rand_like(gg.zeros(2, 3)).shape
    (2, 3)
    """
    return rand(input.shape, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad)


def randn_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Standard normal numbers in the shape and dtype of `input`.

    >>> gg.randn_like(gg.zeros(2, 3)).shape
    (2, 3)
    """
    return randn(input.shape, dtype=dtype or input.dtype, device=device or input.device, requires_grad=requires_grad)


def randint_like(
    input: Tensor,
    *bounds: int,
    low: int = 0,
    high: int | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Whole numbers from [low, high) or [0, high) in the shape and dtype of `input`.

    >>> gg.randint_like(gg.zeros(2, 3), 5).dtype
    glassgrad.float32
    """
    size, dtype, device = tuple(input.shape), dtype or input.dtype, device or input.device
    return randint(*bounds, size=size, low=low, high=high, dtype=dtype, device=device, requires_grad=requires_grad)


def normal(
    mean: float | Tensor = 0.0,
    std: float | Tensor = 1.0,
    size: Size | None = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Normal numbers: of `size` with one mean and standard deviation, or one for each element of the tensors given.

    >>> gg.normal(gg.tensor([1.0, 100.0]), 0.0)
    tensor([  1., 100.])
    """
    tensors = [t for t in (mean, std) if isinstance(t, core.TensorBase)]
    if not tensors:
        x = creation.empty(size if size is not None else (), dtype=dtype, device=device)
        core.normal_(x, float(mean), float(std), generator)
        return _leaf(x, requires_grad)
    if size is not None:
        raise TypeError("normal: takes a size only where mean and std are numbers")
    if isinstance(std, core.TensorBase) and std.numel() and bool((std < 0).any()):
        raise ValueError("normal: std holds a negative standard deviation")
    if not isinstance(std, core.TensorBase) and std < 0:
        raise ValueError(f"normal: std {std} must not be negative")
    base = tensors[0].detach() if len(tensors) == 1 else (tensors[0] + tensors[1]).detach()
    return randn(base.shape, dtype=base.dtype, device=base.device, generator=generator) * _plain(std) + _plain(mean)


def _plain(x: Any) -> Any:
    return x._alias() if isinstance(x, core.TensorBase) else x


def _leaf(x: Tensor, requires_grad: bool) -> Tensor:
    if requires_grad:
        x.requires_grad = True
    return x


def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
    """1 with the probability that each element of `input` gives (or `p` for all), else 0, in the dtype of `input`.

    >>> gg.bernoulli(gg.tensor([0.0, 1.0]))
    tensor([0., 1.])
    """
    if p is not None:
        return bernoulli_(creation.empty_like(input), p, generator=generator)
    return core.bernoulli(input, generator)


def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Poisson numbers, one for each rate in `input` (Hoermann 1993 for rates from 10 on).

    >>> gg.poisson(gg.tensor([0.0, 0.0]))
    tensor([0., 0.])
    """
    return core.poisson(input, generator)


def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Indices (..., num_samples) drawn with the weights in the rows of `input` (n) or (rows, n), which need not sum to
    1.

    With replacement by inverting the cumulative weights; without, the num_samples largest weight / exponential number
    (Efraimidis and Spirakis 2006), in the order of drawing. Raises RuntimeError where a row has no weight, or too few
    for drawing without replacement.

    >>> gg.multinomial(gg.tensor([0.0, 3.0, 0.0]), 2, replacement=True)
    tensor([1, 1])
    """
    described = f"input {tuple(input.shape)} {input.dtype}"
    if input.ndim not in (1, 2) or input.shape[-1] == 0:
        raise core.ShapeError(f"multinomial: {described} must have one or two axes and a weight in each row")
    if not input.dtype.is_floating_point:
        raise TypeError(f"multinomial: {described} must be floating point; convert it with .float()")
    if num_samples <= 0:
        raise ValueError(f"multinomial: num_samples {num_samples} must be positive")
    weights = input.detach().to(core.float64)
    total = weights.sum(-1, keepdim=True)
    if not bool((total > 0).all()) or not bool((total < math.inf).all()) or bool((weights < 0).any()):
        raise RuntimeError(
            f"multinomial: {described}: weights must be finite and not negative, and each row must have one above 0"
        )
    if not replacement:
        if bool(((weights > 0).sum(-1) < num_samples).any()):
            raise RuntimeError(f"multinomial: {described} has a row with fewer than {num_samples} weights above 0")
        keys = weights / exponential_(creation.empty_like(weights), generator=generator)
        return keys.topk(num_samples, -1).indices
    from glassgrad.ops import sort

    u = rand((*input.shape[:-1], num_samples), dtype=core.float64, device=input.device, generator=generator)
    return sort.searchsorted(weights.cumsum(-1), u * total, right=True).clamp(max=input.shape[-1] - 1)


# Dropout ------------------------------------------------------------------------------------------------------------


class Dropout(Op):
    """y = x mask / (1 - p), mask 1 with probability 1 - p: one pass draws, scales and keeps the mask as bytes."""

    def forward(self, x: Tensor, p: float) -> Tensor:
        self.scale = 1 / (1 - p)
        y, mask = core.dropout(x, p, None)
        self.save(mask)
        return y

    # dx = dy mask / (1 - p).
    def backward(self, dy: Tensor) -> Tensor:
        (mask,) = self.saved
        if recording():
            return dy * (mask.to(dy.dtype) * self.scale)
        return core.dropout_backward(dy, mask, self.scale)


def _check_p(op: str, p: float) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"{op}: dropout probability p must be in [0, 1], got {p}")


def _result(op: str, input: Tensor, output: Tensor, inplace: bool) -> Tensor:
    if not inplace or output is input:
        return output
    check_in_place(op, input)
    return overwrite(op, input, output)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zeroes each element with probability `p` and scales the others by 1 / (1 - p); without `training` does nothing.

    Srivastava et al. 2014, in the inverted form. Raises ValueError unless 0 <= p <= 1.

    >>> gg.nn.functional.dropout(gg.ones(3), p=0.5, training=False)
    tensor([1., 1., 1.])
    """
    _check_p("dropout", p)
    if not training or p == 0 or input.numel() == 0:
        return input
    return _result("dropout", input, input * 0 if p == 1 else Dropout.apply(input, p), inplace)


def _noise(input: Tensor, p: float, per_channel: bool) -> Tensor:
    """1 with probability 1 - p, for each element or each channel of (N, C, ...)."""
    shape = (*input.shape[:2], *[1] * (input.ndim - 2)) if per_channel else input.shape
    noise = creation.empty(shape, dtype=input.dtype, device=input.device)
    core.bernoulli_(noise, 1 - p, None)
    return noise


def feature_dropout(input: Tensor, p: float = 0.5, train: bool = True, inplace: bool = False) -> Tensor:
    """Zeroes each channel of (N, C, ...) with probability `p` and scales the others by 1 / (1 - p) (Tompson et al.
    2015).

    >>> gg.feature_dropout(gg.ones(1, 1, 2), p=1.0, train=True)
    tensor([[[0., 0.]]])
    """
    _check_p("feature_dropout", p)
    if not train or p == 0 or input.numel() == 0:
        return input
    if input.ndim < 2:
        raise core.ShapeError(
            f"feature_dropout: input {tuple(input.shape)} {input.dtype} must have at least 2 axes: (N, C, ...)"
        )
    output = input * 0 if p == 1 else input * (_noise(input, p, True) * (1 / (1 - p)))
    return _result("feature_dropout", input, output, inplace)


def _channel_dropout(
    op: str, input: Tensor, p: float, training: bool, inplace: bool, allowed: tuple[int, ...], unbatched: int
) -> Tensor:
    _check_p(op, p)
    if input.ndim not in allowed:
        raise core.ShapeError(
            f"{op}: input {tuple(input.shape)} {input.dtype} must have {' or '.join(map(str, allowed))} axes"
        )
    if not training or p == 0:
        return input
    if input.ndim == unbatched:
        output = feature_dropout(input.unsqueeze(0), p, training).squeeze(0)
    else:
        output = feature_dropout(input, p, training)
    return _result(op, input, output, inplace)


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zeroes whole channels of (N, C, L) or (C, L) with probability `p`, the others scaled by 1 / (1 - p).

    >>> gg.nn.functional.dropout1d(gg.ones(1, 1, 2), p=0.0)
    tensor([[[1., 1.]]])
    """
    return _channel_dropout("dropout1d", input, p, training, inplace, (2, 3), 2)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zeroes whole channels of (N, C, H, W) with probability `p`, the others scaled by 1 / (1 - p); (N, C, L) does as
    well.

    >>> gg.nn.functional.dropout2d(gg.ones(1, 1, 1, 2), p=0.0)
    tensor([[[[1., 1.]]]])
    """
    return _channel_dropout("dropout2d", input, p, training, inplace, (3, 4), -1)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zeroes whole channels of (N, C, D, H, W) or (C, D, H, W) with probability `p`, the others scaled by 1 / (1 - p).

    >>> gg.nn.functional.dropout3d(gg.ones(1, 1, 1, 1, 2), p=0.0)
    tensor([[[[[1., 1.]]]]])
    """
    return _channel_dropout("dropout3d", input, p, training, inplace, (4, 5), 4)


_ALPHA = 1.7580993408473766  # minus the value SELU saturates at: alpha * scale of Klambauer et al. 2017


def _alpha_dropout(op: str, input: Tensor, p: float, training: bool, inplace: bool, per_channel: bool) -> Tensor:
    # Dropped elements become -alpha; a and b bring mean 0 and variance 1 back.
    _check_p(op, p)
    if not training or p == 0 or input.numel() == 0:
        return input
    if per_channel and input.ndim < 2:
        raise core.ShapeError(f"{op}: input {tuple(input.shape)} {input.dtype} must have at least 2 axes: (N, C, ...)")
    if p == 1:
        return _result(op, input, input * 0, inplace)
    a = 1 / math.sqrt((_ALPHA**2 * p + 1) * (1 - p))
    noise = _noise(input, p, per_channel)
    return _result(op, input, input * (noise * a) + ((noise - 1) * (_ALPHA * a) + _ALPHA * a * p), inplace)


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Dropout that keeps the mean 0 and variance 1 of SELU's outputs: dropped elements saturate (Klambauer et al.
    2017).

    >>> gg.nn.functional.alpha_dropout(gg.ones(3))
    tensor([1., 1., 1.])
    """
    return _alpha_dropout("alpha_dropout", input, p, training, inplace, False)


def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """`alpha_dropout` of whole channels of (N, C, ...).

    >>> gg.nn.functional.feature_alpha_dropout(gg.ones(1, 1, 2))
    tensor([[[1., 1.]]])
    """
    return _alpha_dropout("feature_alpha_dropout", input, p, training, inplace, True)
