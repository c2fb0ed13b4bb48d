"""Tensor: the one object users hold, its operators and methods, each one line to the op that does the work.

The class adds no state: array, gradient and graph node are members of the core's heap type (csrc/python/tensor.h). A
plain assignment makes an op's function a method, so a method call costs no more than the function.
"""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from glassgrad import _core as core
from glassgrad import cuda, ops, printing
from glassgrad.autograd import backward
from glassgrad.autograd.graph import fetched
from glassgrad.autograd.in_place import in_place, refresh_view

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from glassgrad.cuda import Stream

__all__ = [
    "RemovableHandle",
    "Tensor",
    "as_tensor",
    "asarray",
    "from_dlpack",
    "from_numpy",
    "is_nonzero",
    "is_tensor",
    "tensor",
    "typename",
]


_CPU: Any = core.empty((), core.bool).device  # tensors of one device have one device object
_DL_CPU, _DL_CUDA = 1, 2  # DLPack's numbers of device types


class RemovableHandle:
    """Takes back a registered hook: `handle.remove()`, or at the end of a `with`."""

    _next = 0

    def __init__(self, hooks: dict[int, Any], hook: Any) -> None:
        self.id = RemovableHandle._next
        RemovableHandle._next += 1
        self._hooks = hooks
        hooks[self.id] = hook

    def remove(self) -> None:
        """Removes the hook; doing so twice is harmless."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


class Tensor(core.TensorBase):
    """An array of one dtype on a device that can record what it was computed from.

    Make one with `gg.tensor`, `gg.zeros`, `gg.randn`, ...

    >>> x = gg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> (x @ x).sum().backward()
    >>> x.grad
    tensor([[ 7., 11.],
            [ 9., 13.]])
    """

    __slots__ = ()
    __array_priority__ = 1000  # numpy's operators give way to ours
    __hash__ = object.__hash__

    def __new__(cls, *args: Any) -> Any:
        if len(args) == 1 and isinstance(args[0], core.TensorBase):
            return super().__new__(cls, args[0])
        if args and all(isinstance(a, int) for a in args):
            return super().__new__(cls, ops.creation.empty(*args))
        if len(args) == 1:
            return super().__new__(cls, tensor(args[0], dtype=core.get_default_dtype()))
        return super().__new__(cls)

    # The graph

    @property
    def grad_fn(self) -> Any:
        """The node that made this tensor, or None."""
        return self._node

    @property
    def output_nr(self) -> int:
        """Which of its node's outputs this tensor is."""
        return int(self._output)

    @property
    def _base(self) -> Tensor | None:
        """The tensor whose storage this view shares, or None."""
        base = None
        view = self._view
        while view is not None:
            base, view = view[0], view[0]._view
        return base

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Tensor | Sequence[Tensor] | None = None,
    ) -> None:
        """Accumulates this tensor's gradient by every leaf it was computed from in the leaf's `.grad`.

        `gradient` is what to start from (1 for a scalar). See `gg.autograd.backward`.

        >>> x = gg.tensor([1.0, 2.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        tensor([2., 4.])
        """
        backward(self, gradient, retain_graph, create_graph, inputs)

    def detach(self) -> Tensor:
        """The same elements in the same memory, outside the graph."""
        return self._alias()

    def detach_(self) -> Tensor:
        """Takes this tensor out of the graph that made it."""
        self._node = None
        self._view = None
        self.requires_grad = False
        return self

    @property
    def data(self) -> Tensor:
        """The same elements outside the graph; assigning gives this tensor other elements."""
        return self._alias()

    @data.setter
    def data(self, value: Tensor) -> None:
        self._set_data(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Sets whether backward computes a gradient for this leaf."""
        self.requires_grad = requires_grad
        return self

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Calls `hook(gradient)` when backward has this tensor's gradient; what it returns, if anything, replaces it.

        >>> x = gg.tensor(1.0, requires_grad=True)
        >>> handle = x.register_hook(lambda g: g * 10)
        >>> (x * 2).backward()
        >>> x.grad
        tensor(20.)
        """
        if not self.requires_grad:
            raise RuntimeError(f"register_hook: this tensor {tuple(self.shape)} does not require grad")
        if self._node is None:
            if self._hooks is None:
                self._hooks = {}
            return RemovableHandle(self._hooks, hook)
        node = self._node
        if node.hooks is None:
            node.hooks = {}
        return RemovableHandle(node.hooks.setdefault(self._output, {}), hook)

    def retain_grad(self) -> None:
        """Keeps the gradient in `.grad` even though this tensor is no leaf."""
        if not self.requires_grad:
            raise RuntimeError(f"retain_grad: this tensor {tuple(self.shape)} does not require grad")
        if self._node is None:
            return
        me = weakref.ref(self)

        def keep(gradient: Tensor) -> None:
            x = me()
            if x is not None:
                x.grad = gradient if x.grad is None else x.grad + gradient

        self.register_hook(keep)

    @property
    def retains_grad(self) -> bool:
        """Whether this is a non-leaf that keeps its gradient."""
        node = self._node
        hooks = node.hooks.get(self._output, {}) if node is not None and node.hooks else {}
        return any(hook.__qualname__.startswith("Tensor.retain_grad") for hook in hooks.values())

    # Neighbours and Python

    def numpy(self, *, force: bool = False) -> NDArray[Any]:
        """A numpy array over the same memory; `force` detaches and brings to the CPU first.

        Raises TypeError for a tensor on another device.

        >>> gg.tensor([1.0, 2.0]).numpy()
        array([1., 2.], dtype=float32)
        """
        if self.requires_grad and not force:
            raise RuntimeError("numpy: can't call numpy() on a Tensor that requires grad; use tensor.detach().numpy()")
        if self.dtype is core.bfloat16:
            raise TypeError("numpy: numpy has no bfloat16; convert with .float() first")
        x: Any = self.detach().cpu() if force else self._alias()
        return np.asarray(memoryview(x))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        array = self.numpy()
        if dtype is not None and np.dtype(dtype) != array.dtype:
            if copy is False:
                raise ValueError(f"array: {self.dtype} as {np.dtype(dtype)} needs a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(
        self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None
    ) -> Any:
        if self.requires_grad:
            raise BufferError("dlpack: this tensor requires grad; use .detach() first")
        x, here = self._alias(), self.__dlpack_device__()
        if dl_device is not None and tuple(dl_device) != here:
            if tuple(dl_device) != (_DL_CPU, 0) or copy is False:
                raise BufferError(f"dlpack: a tensor on {self.device} is not on device {tuple(dl_device)}")
            x = x.cpu()
        elif copy:
            x = x.clone()
        if x.is_cuda and stream != -1:  # who asks works on that stream, None being the default one
            _let_wait(x.device, stream or 1, _stream_of(x.device))
        return core.to_dlpack(x)

    def __dlpack_device__(self) -> tuple[int, int]:
        device = self.device
        if device.type == "simt":
            raise BufferError("dlpack: no other library knows the device simt; use .cpu() first")
        return (_DL_CUDA, device.index) if device.type == "cuda" else (_DL_CPU, 0)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """What CuPy, Numba and PyTorch need to share memory on a GPU (version 3 of the protocol)."""
        if not self.is_cuda:
            raise AttributeError(f"__cuda_array_interface__: a tensor on {self.device} is not on a GPU")
        if self.requires_grad:
            raise RuntimeError("__cuda_array_interface__: this tensor requires grad; use .detach() first")
        if self.dtype is core.bfloat16:
            raise TypeError("__cuda_array_interface__: the protocol has no bfloat16; share it by DLPack")
        strides = None if self.is_contiguous() else tuple(s * self.itemsize for s in self.stride())
        return {
            "shape": self.shape,
            "typestr": np.dtype(self.dtype.name).str,
            "data": (self.data_ptr() if self.numel() else 0, False),
            "strides": strides,
            "version": 3,
            "stream": _stream_of(self.device),
        }

    def tolist(self) -> Any:
        """The elements as nested Python lists, or a number if 0-d.

        >>> gg.tensor([[1, 2]]).tolist()
        [[1, 2]]
        """
        x = self._alias().cpu()
        return (x.float() if x.dtype is core.bfloat16 else x).numpy().tolist()

    def __repr__(self) -> str:
        return printing.tensor_text(self)

    def __format__(self, spec: str) -> str:
        return self.item().__format__(spec) if self.ndim == 0 and spec else repr(self)

    def __bool__(self) -> bool:
        if self.numel() != 1:
            raise RuntimeError(
                f"bool: the truth of a tensor {tuple(self.shape)} {self.dtype} with {self.numel()} elements is "
                "ambiguous; use .any() or .all()"
            )
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.numel() != 1 or self.dtype.is_floating_point or self.dtype is core.bool:
            raise TypeError(
                f"index: only an integer tensor of one element can be an index, not {tuple(self.shape)} {self.dtype}"
            )
        return int(self.item())

    def __iter__(self) -> Any:
        if self.ndim == 0:
            raise TypeError("iter: iteration over a 0-d tensor")
        return iter(self.unbind(0))

    def __contains__(self, value: Any) -> bool:
        return bool((self == value).any().item())

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) in memo:
            return memo[id(self)]
        if not self.is_leaf:
            raise RuntimeError(
                "deepcopy: only tensors that are leaves of the graph can be copied; detach() or clone() this one"
            )
        copied: Tensor = type(self)(self._alias().clone())
        copied.requires_grad = self.requires_grad
        if self.grad is not None:
            copied.grad = self.grad.clone()
        memo[id(self)] = copied
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        if not self.is_leaf:
            raise RuntimeError("pickle: only tensors that are leaves of the graph can be pickled; detach() this one")
        x = self._alias().cpu()
        bits = np.ascontiguousarray((x.view(core.int16) if x.dtype is core.bfloat16 else x).numpy())
        return _rebuild, (type(self), bits, self.dtype, self.requires_grad, self.shape, self.device)

    def share_memory_(self) -> Tensor:
        """For code written for PyTorch: workers get tensors by value, so there is nothing to do."""
        return self

    def is_shared(self) -> bool:
        """Whether other processes see this memory: never."""
        return False

    def pin_memory(self, device: Any = None) -> Tensor:
        """This tensor in pinned memory of the CPU, which a GPU reads by itself: `.to(..., non_blocking=True)`.

        Itself if it is already; RuntimeError where there is no GPU.
        """
        if self.device.type != "cpu":
            raise RuntimeError(f"pin_memory: a tensor on {self.device} has no memory of the CPU to pin")
        return self if self.is_pinned() else cuda.pinned_copy(self)

    def is_pinned(self, device: Any = None) -> bool:
        """Whether the elements lie in pinned memory of the CPU.

        >>> gg.zeros(1).is_pinned()
        False
        """
        return cuda.is_pinned(self)

    def record_stream(self, stream: Stream) -> None:
        """Says that a stream uses this memory, made on another: it is not handed out anew before that is done."""
        cuda.record_stream(self, stream)

    def cpu(self) -> Tensor:
        """This tensor on the CPU."""
        return self if self.device is _CPU else self.to(_CPU)

    def cuda(self, device: Any = None, non_blocking: bool = False) -> Tensor:
        """This tensor on a GPU: the first, that of a number, or a device."""
        return self.to(core.device("cuda" if device is None else device), non_blocking=non_blocking)

    @property
    def is_cuda(self) -> bool:
        """Whether the elements are on a GPU."""
        return bool(self.device.type == "cuda")

    def get_device(self) -> int:
        """The GPU's number, -1 on the CPU."""
        return -1 if self.device.index is None else int(self.device.index)

    def element_size(self) -> int:
        """Bytes of an element."""
        return int(self.itemsize)

    # elementwise
    add = ops.elementwise.add
    sub = ops.elementwise.sub
    rsub = ops.elementwise.rsub
    mul = ops.elementwise.mul
    div = ops.elementwise.div
    true_divide = ops.elementwise.true_divide
    floor_divide = ops.elementwise.floor_divide
    remainder = ops.elementwise.remainder
    fmod = ops.elementwise.fmod
    neg = ops.elementwise.neg
    positive = ops.elementwise.positive
    square = ops.elementwise.square
    pow = ops.elementwise.pow
    float_power = ops.elementwise.float_power
    lerp = ops.elementwise.lerp
    addcmul = ops.elementwise.addcmul
    addcdiv = ops.elementwise.addcdiv
    ldexp = ops.elementwise.ldexp
    gcd = ops.elementwise.gcd
    lcm = ops.elementwise.lcm
    maximum = ops.elementwise.maximum
    minimum = ops.elementwise.minimum
    fmax = ops.elementwise.fmax
    fmin = ops.elementwise.fmin
    clamp = ops.elementwise.clamp
    clamp_min = ops.elementwise.clamp_min
    clamp_max = ops.elementwise.clamp_max
    clip = ops.elementwise.clip
    heaviside = ops.elementwise.heaviside
    eq = ops.elementwise.eq
    ne = ops.elementwise.ne
    lt = ops.elementwise.lt
    le = ops.elementwise.le
    gt = ops.elementwise.gt
    ge = ops.elementwise.ge
    logical_and = ops.elementwise.logical_and
    logical_or = ops.elementwise.logical_or
    logical_xor = ops.elementwise.logical_xor
    logical_not = ops.elementwise.logical_not
    bitwise_and = ops.elementwise.bitwise_and
    bitwise_or = ops.elementwise.bitwise_or
    bitwise_xor = ops.elementwise.bitwise_xor
    bitwise_not = ops.elementwise.bitwise_not
    bitwise_left_shift = ops.elementwise.bitwise_left_shift
    bitwise_right_shift = ops.elementwise.bitwise_right_shift
    isnan = ops.elementwise.isnan
    isinf = ops.elementwise.isinf
    isfinite = ops.elementwise.isfinite
    isposinf = ops.elementwise.isposinf
    isneginf = ops.elementwise.isneginf
    isreal = ops.elementwise.isreal
    signbit = ops.elementwise.signbit
    isclose = ops.elementwise.isclose
    allclose = ops.elementwise.allclose
    equal = ops.elementwise.equal
    abs = ops.elementwise.abs
    sign = ops.elementwise.sign
    sgn = ops.elementwise.sgn
    copysign = ops.elementwise.copysign
    floor = ops.elementwise.floor
    ceil = ops.elementwise.ceil
    round = ops.elementwise.round
    trunc = ops.elementwise.trunc
    fix = ops.elementwise.fix
    frac = ops.elementwise.frac
    nan_to_num = ops.elementwise.nan_to_num
    exp = ops.elementwise.exp
    exp2 = ops.elementwise.exp2
    expm1 = ops.elementwise.expm1
    log = ops.elementwise.log
    log2 = ops.elementwise.log2
    log10 = ops.elementwise.log10
    log1p = ops.elementwise.log1p
    sqrt = ops.elementwise.sqrt
    rsqrt = ops.elementwise.rsqrt
    reciprocal = ops.elementwise.reciprocal
    xlogy = ops.elementwise.xlogy
    logaddexp = ops.elementwise.logaddexp
    logaddexp2 = ops.elementwise.logaddexp2
    hypot = ops.elementwise.hypot
    sin = ops.elementwise.sin
    cos = ops.elementwise.cos
    tan = ops.elementwise.tan
    asin = ops.elementwise.asin
    acos = ops.elementwise.acos
    atan = ops.elementwise.atan
    atan2 = ops.elementwise.atan2
    sinh = ops.elementwise.sinh
    cosh = ops.elementwise.cosh
    tanh = ops.elementwise.tanh
    asinh = ops.elementwise.asinh
    acosh = ops.elementwise.acosh
    atanh = ops.elementwise.atanh
    arcsin = ops.elementwise.arcsin
    arccos = ops.elementwise.arccos
    arctan = ops.elementwise.arctan
    arctan2 = ops.elementwise.arctan2
    arcsinh = ops.elementwise.arcsinh
    arccosh = ops.elementwise.arccosh
    arctanh = ops.elementwise.arctanh
    deg2rad = ops.elementwise.deg2rad
    rad2deg = ops.elementwise.rad2deg
    erf = ops.elementwise.erf
    erfc = ops.elementwise.erfc
    erfinv = ops.elementwise.erfinv
    lgamma = ops.elementwise.lgamma
    digamma = ops.elementwise.digamma
    sinc = ops.elementwise.sinc
    mvlgamma = ops.elementwise.mvlgamma
    absolute = ops.elementwise.absolute
    negative = ops.elementwise.negative
    multiply = ops.elementwise.multiply
    subtract = ops.elementwise.subtract
    divide = ops.elementwise.divide
    greater = ops.elementwise.greater
    greater_equal = ops.elementwise.greater_equal
    less = ops.elementwise.less
    less_equal = ops.elementwise.less_equal
    not_equal = ops.elementwise.not_equal
    where = ops.elementwise.where_method
    polygamma = ops.elementwise.polygamma_method
    sigmoid = ops.activation.sigmoid
    logit = ops.activation.logit
    relu = ops.activation.relu
    prelu = ops.activation.prelu
    hardshrink = ops.activation.hardshrink
    add_ = in_place(ops.elementwise.add, ops.elementwise.add_into)
    sub_ = in_place(ops.elementwise.sub, ops.elementwise.sub_into)
    mul_ = in_place(ops.elementwise.mul, core.mul_into)
    div_ = in_place(ops.elementwise.div, ops.elementwise.div_into)
    true_divide_ = in_place(ops.elementwise.true_divide, core.div_into)
    floor_divide_ = in_place(ops.elementwise.floor_divide)
    remainder_ = in_place(ops.elementwise.remainder)
    fmod_ = in_place(ops.elementwise.fmod)
    neg_ = in_place(ops.elementwise.neg, core.neg_into)
    square_ = in_place(ops.elementwise.square)
    pow_ = in_place(ops.elementwise.pow)
    float_power_ = in_place(ops.elementwise.float_power)
    lerp_ = in_place(ops.elementwise.lerp)
    addcmul_ = in_place(ops.elementwise.addcmul)
    addcdiv_ = in_place(ops.elementwise.addcdiv)
    ldexp_ = in_place(ops.elementwise.ldexp)
    gcd_ = in_place(ops.elementwise.gcd)
    lcm_ = in_place(ops.elementwise.lcm)
    clamp_ = in_place(ops.elementwise.clamp)
    clamp_min_ = in_place(ops.elementwise.clamp_min)
    clamp_max_ = in_place(ops.elementwise.clamp_max)
    clip_ = in_place(ops.elementwise.clip)
    heaviside_ = in_place(ops.elementwise.heaviside)
    eq_ = in_place(ops.elementwise.eq)
    ne_ = in_place(ops.elementwise.ne)
    lt_ = in_place(ops.elementwise.lt)
    le_ = in_place(ops.elementwise.le)
    gt_ = in_place(ops.elementwise.gt)
    ge_ = in_place(ops.elementwise.ge)
    logical_and_ = in_place(ops.elementwise.logical_and, core.logical_and_into)
    logical_or_ = in_place(ops.elementwise.logical_or, core.logical_or_into)
    logical_xor_ = in_place(ops.elementwise.logical_xor, core.logical_xor_into)
    logical_not_ = in_place(ops.elementwise.logical_not)
    bitwise_and_ = in_place(ops.elementwise.bitwise_and, core.bitwise_and_into)
    bitwise_or_ = in_place(ops.elementwise.bitwise_or, core.bitwise_or_into)
    bitwise_xor_ = in_place(ops.elementwise.bitwise_xor, core.bitwise_xor_into)
    bitwise_not_ = in_place(ops.elementwise.bitwise_not)
    bitwise_left_shift_ = in_place(ops.elementwise.bitwise_left_shift)
    bitwise_right_shift_ = in_place(ops.elementwise.bitwise_right_shift)
    abs_ = in_place(ops.elementwise.abs, core.abs_into)
    sign_ = in_place(ops.elementwise.sign, core.sign_into)
    sgn_ = in_place(ops.elementwise.sgn, core.sign_into)
    copysign_ = in_place(ops.elementwise.copysign)
    floor_ = in_place(ops.elementwise.floor, core.floor_into)
    ceil_ = in_place(ops.elementwise.ceil, core.ceil_into)
    round_ = in_place(ops.elementwise.round)
    trunc_ = in_place(ops.elementwise.trunc, core.trunc_into)
    fix_ = in_place(ops.elementwise.fix, core.trunc_into)
    frac_ = in_place(ops.elementwise.frac, core.frac_into)
    nan_to_num_ = in_place(ops.elementwise.nan_to_num)
    exp_ = in_place(ops.elementwise.exp, core.exp_into)
    exp2_ = in_place(ops.elementwise.exp2, core.exp2_into)
    expm1_ = in_place(ops.elementwise.expm1, core.expm1_into)
    log_ = in_place(ops.elementwise.log, core.log_into)
    log2_ = in_place(ops.elementwise.log2, core.log2_into)
    log10_ = in_place(ops.elementwise.log10, core.log10_into)
    log1p_ = in_place(ops.elementwise.log1p, core.log1p_into)
    sqrt_ = in_place(ops.elementwise.sqrt, core.sqrt_into)
    rsqrt_ = in_place(ops.elementwise.rsqrt, core.rsqrt_into)
    reciprocal_ = in_place(ops.elementwise.reciprocal, core.reciprocal_into)
    xlogy_ = in_place(ops.elementwise.xlogy)
    hypot_ = in_place(ops.elementwise.hypot)
    sin_ = in_place(ops.elementwise.sin, core.sin_into)
    cos_ = in_place(ops.elementwise.cos, core.cos_into)
    tan_ = in_place(ops.elementwise.tan, core.tan_into)
    asin_ = in_place(ops.elementwise.asin, core.asin_into)
    acos_ = in_place(ops.elementwise.acos, core.acos_into)
    atan_ = in_place(ops.elementwise.atan, core.atan_into)
    atan2_ = in_place(ops.elementwise.atan2)
    sinh_ = in_place(ops.elementwise.sinh, core.sinh_into)
    cosh_ = in_place(ops.elementwise.cosh, core.cosh_into)
    tanh_ = in_place(ops.elementwise.tanh, core.tanh_into)
    asinh_ = in_place(ops.elementwise.asinh, core.asinh_into)
    acosh_ = in_place(ops.elementwise.acosh, core.acosh_into)
    atanh_ = in_place(ops.elementwise.atanh, core.atanh_into)
    arcsin_ = in_place(ops.elementwise.arcsin, core.asin_into)
    arccos_ = in_place(ops.elementwise.arccos, core.acos_into)
    arctan_ = in_place(ops.elementwise.arctan, core.atan_into)
    arctan2_ = in_place(ops.elementwise.arctan2)
    arcsinh_ = in_place(ops.elementwise.arcsinh, core.asinh_into)
    arccosh_ = in_place(ops.elementwise.arccosh, core.acosh_into)
    arctanh_ = in_place(ops.elementwise.arctanh, core.atanh_into)
    deg2rad_ = in_place(ops.elementwise.deg2rad)
    rad2deg_ = in_place(ops.elementwise.rad2deg)
    erf_ = in_place(ops.elementwise.erf, core.erf_into)
    erfc_ = in_place(ops.elementwise.erfc, core.erfc_into)
    erfinv_ = in_place(ops.elementwise.erfinv, core.erfinv_into)
    lgamma_ = in_place(ops.elementwise.lgamma, core.lgamma_into)
    digamma_ = in_place(ops.elementwise.digamma, core.digamma_into)
    sinc_ = in_place(ops.elementwise.sinc, core.sinc_into)
    mvlgamma_ = in_place(ops.elementwise.mvlgamma)
    absolute_ = in_place(ops.elementwise.absolute, core.abs_into)
    negative_ = in_place(ops.elementwise.negative, core.neg_into)
    multiply_ = in_place(ops.elementwise.multiply, core.mul_into)
    subtract_ = in_place(ops.elementwise.subtract)
    divide_ = in_place(ops.elementwise.divide)
    greater_ = in_place(ops.elementwise.greater)
    greater_equal_ = in_place(ops.elementwise.greater_equal)
    less_ = in_place(ops.elementwise.less)
    less_equal_ = in_place(ops.elementwise.less_equal)
    not_equal_ = in_place(ops.elementwise.not_equal)
    polygamma_ = in_place(ops.elementwise.polygamma_method)
    sigmoid_ = in_place(ops.activation.sigmoid, core.sigmoid_into)
    logit_ = in_place(ops.activation.logit)
    relu_ = in_place(ops.activation.relu, core.relu_into)
    __add__ = ops.elementwise.add
    __sub__ = ops.elementwise.sub
    __mul__ = ops.elementwise.mul
    __truediv__ = ops.elementwise.true_divide
    __floordiv__ = ops.elementwise.floor_divide
    __mod__ = ops.elementwise.remainder
    __pow__ = ops.elementwise.pow
    __and__ = ops.elementwise.bitwise_and
    __or__ = ops.elementwise.bitwise_or
    __xor__ = ops.elementwise.bitwise_xor
    __lshift__ = ops.elementwise.bitwise_left_shift
    __rshift__ = ops.elementwise.bitwise_right_shift
    __radd__ = ops.elementwise.add
    __rsub__ = ops.elementwise.rsub
    __rmul__ = ops.elementwise.mul
    __rtruediv__ = ops.elementwise.rtruediv
    __div__ = ops.elementwise.true_divide
    __rdiv__ = ops.elementwise.rtruediv
    __rfloordiv__ = ops.elementwise.rfloordiv
    __rmod__ = ops.elementwise.rmod
    __rpow__ = ops.elementwise.rpow
    __rand__ = ops.elementwise.bitwise_and
    __ror__ = ops.elementwise.bitwise_or
    __rxor__ = ops.elementwise.bitwise_xor
    __rlshift__ = ops.elementwise.rlshift
    __rrshift__ = ops.elementwise.rrshift
    __iadd__ = add_
    __isub__ = sub_
    __imul__ = mul_
    __itruediv__ = true_divide_
    __ifloordiv__ = floor_divide_
    __imod__ = remainder_
    __ipow__ = pow_
    __iand__ = bitwise_and_
    __ior__ = bitwise_or_
    __ixor__ = bitwise_xor_
    __ilshift__ = bitwise_left_shift_
    __irshift__ = bitwise_right_shift_
    __neg__ = neg
    __pos__ = positive
    __abs__ = abs
    __invert__ = bitwise_not
    __eq__ = ops.elementwise.equals
    __ne__ = ops.elementwise.differs
    __lt__ = lt
    __le__ = le
    __gt__ = gt
    __ge__ = ge

    # reduce

    all = ops.reduce.all
    amax = ops.reduce.amax
    amin = ops.reduce.amin
    aminmax = ops.reduce.aminmax
    any = ops.reduce.any
    argmax = ops.reduce.argmax
    argmin = ops.reduce.argmin
    count_nonzero = ops.reduce.count_nonzero
    diff = ops.reduce.diff
    dist = ops.reduce.dist
    logsumexp = ops.reduce.logsumexp
    max = ops.reduce.max
    mean = ops.reduce.mean
    min = ops.reduce.min
    nanmean = ops.reduce.nanmean
    nansum = ops.reduce.nansum
    norm = ops.reduce.norm
    prod = ops.reduce.prod
    renorm = ops.reduce.renorm
    std = ops.reduce.std
    sum = ops.reduce.sum
    trace = ops.reduce.trace
    var = ops.reduce.var
    cummax = ops.scan.cummax
    cummin = ops.scan.cummin
    cumprod = ops.scan.cumprod
    cumsum = ops.scan.cumsum
    logcumsumexp = ops.scan.logcumsumexp
    cumprod_ = in_place(ops.scan.cumprod)
    cumsum_ = in_place(ops.scan.cumsum)
    renorm_ = in_place(ops.reduce.renorm)

    # layout

    reshape = ops.layout.variadic(ops.layout.reshape)
    view = ops.layout.view
    view_as = ops.layout.view_as
    reshape_as = ops.layout.reshape_as
    flatten = ops.layout.flatten
    unflatten = ops.layout.unflatten
    ravel = ops.layout.ravel
    transpose = ops.layout.transpose
    t = ops.layout.t
    swapaxes = ops.layout.swapaxes
    swapdims = ops.layout.swapdims
    permute = ops.layout.variadic(ops.layout.permute)
    movedim = ops.layout.movedim
    moveaxis = ops.layout.moveaxis
    squeeze = ops.layout.squeeze
    unsqueeze = ops.layout.unsqueeze
    expand = ops.layout.variadic(ops.layout.expand)
    expand_as = ops.layout.expand_as
    broadcast_to = ops.layout.variadic(ops.layout.broadcast_to)
    narrow = ops.layout.narrow
    select = ops.layout.select
    diagonal = ops.layout.diagonal
    diag = ops.layout.diag
    diag_embed = ops.layout.diag_embed
    diagflat = ops.layout.diagflat
    unfold = ops.layout.unfold
    as_strided = ops.layout.as_strided
    split = ops.layout.split
    split_with_sizes = ops.layout.split_with_sizes
    chunk = ops.layout.chunk
    tensor_split = ops.layout.tensor_split
    hsplit = ops.layout.hsplit
    vsplit = ops.layout.vsplit
    dsplit = ops.layout.dsplit
    unbind = ops.layout.unbind
    clone = ops.layout.clone
    contiguous = ops.layout.contiguous
    to = ops.layout.to
    type_as = ops.layout.type_as
    copy_ = ops.layout.copy_
    fill_ = ops.layout.fill_
    zero_ = ops.layout.zero_
    dim = ops.layout.dim
    is_floating_point = ops.layout.is_floating_point
    flip = ops.layout.variadic(ops.layout.flip)
    fliplr = ops.layout.fliplr
    flipud = ops.layout.flipud
    roll = ops.layout.roll
    rot90 = ops.layout.rot90
    repeat = ops.layout.variadic(ops.layout.repeat)
    tile = ops.layout.variadic(ops.layout.tile)
    repeat_interleave = ops.layout.repeat_interleave
    tril = ops.layout.tril
    triu = ops.layout.triu
    type = ops.layout.type_
    ndimension = ops.layout.dim
    float = ops.layout.to_float
    double = ops.layout.to_double
    half = ops.layout.to_half
    bfloat16 = ops.layout.to_bfloat16
    long = ops.layout.to_long
    int = ops.layout.to_int
    short = ops.layout.to_short
    char = ops.layout.to_char
    byte = ops.layout.to_byte
    bool = ops.layout.to_bool
    T = property(ops.layout.reversed_axes)
    mT = property(ops.layout.matrix_transpose)
    H = property(ops.layout.hermitian)
    mH = property(ops.layout.matrix_transpose)
    tril_ = in_place(ops.layout.tril)
    triu_ = in_place(ops.layout.triu)
    squeeze_ = ops.layout.reshaping(ops.layout.squeeze)
    unsqueeze_ = ops.layout.reshaping(ops.layout.unsqueeze)
    transpose_ = ops.layout.reshaping(ops.layout.transpose)
    swapaxes_ = ops.layout.reshaping(ops.layout.swapaxes)
    swapdims_ = ops.layout.reshaping(ops.layout.swapdims)
    t_ = ops.layout.reshaping(ops.layout.t)
    new_empty = ops.creation.new_empty
    new_zeros = ops.creation.new_zeros
    new_ones = ops.creation.new_ones
    new_full = ops.creation.new_full
    new_tensor = ops.creation.new_tensor

    # index, sort and embedding

    __getitem__ = ops.index.getitem
    __setitem__ = ops.index.setitem
    gather = ops.index.gather
    scatter = ops.index.scatter
    scatter_add = ops.index.scatter_add
    scatter_reduce = ops.index.scatter_reduce
    index_select = ops.index.index_select
    index_add = ops.index.index_add
    index_copy = ops.index.index_copy
    index_fill = ops.index.index_fill
    index_reduce = ops.index.index_reduce
    index_put = ops.index.index_put
    masked_fill = ops.index.masked_fill
    masked_select = ops.index.masked_select
    masked_scatter = ops.index.masked_scatter
    take = ops.index.take
    take_along_dim = ops.index.take_along_dim
    put = ops.index.put
    nonzero = ops.index.nonzero
    argwhere = ops.index.argwhere
    select_scatter = ops.index.select_scatter
    slice_scatter = ops.index.slice_scatter
    diagonal_scatter = ops.index.diagonal_scatter
    masked_fill_ = ops.index.masked_fill_
    scatter_ = in_place(ops.index.scatter)
    scatter_add_ = in_place(ops.index.scatter_add)
    scatter_reduce_ = in_place(ops.index.scatter_reduce)
    index_add_ = in_place(ops.index.index_add)
    index_copy_ = in_place(ops.index.index_copy)
    index_fill_ = in_place(ops.index.index_fill)
    index_reduce_ = in_place(ops.index.index_reduce)
    index_put_ = in_place(ops.index.index_put)
    masked_scatter_ = in_place(ops.index.masked_scatter)
    put_ = in_place(ops.index.put)
    sort = ops.sort.sort
    argsort = ops.sort.argsort
    msort = ops.sort.msort
    topk = ops.sort.topk
    kthvalue = ops.sort.kthvalue
    mode = ops.sort.mode
    median = ops.sort.median
    nanmedian = ops.sort.nanmedian
    quantile = ops.sort.quantile
    nanquantile = ops.sort.nanquantile
    unique = ops.sort.unique
    unique_consecutive = ops.sort.unique_consecutive
    bincount = ops.sort.bincount
    histc = ops.sort.histc
    histogram = ops.sort.histogram

    # matmul and attention

    addbmm = ops.matmul.addbmm
    addbmm_ = in_place(ops.matmul.addbmm)
    addmm = ops.matmul.addmm
    addmm_ = in_place(ops.matmul.addmm)
    addmv = ops.matmul.addmv
    addmv_ = in_place(ops.matmul.addmv)
    addr = ops.matmul.addr
    addr_ = in_place(ops.matmul.addr)
    baddbmm = ops.matmul.baddbmm
    baddbmm_ = in_place(ops.matmul.baddbmm)
    bmm = ops.matmul.bmm
    corrcoef = ops.matmul.corrcoef
    cov = ops.matmul.cov
    cross = ops.matmul.cross
    dot = ops.matmul.dot
    ger = ops.matmul.ger
    inner = ops.matmul.inner
    inverse = ops.matmul.inv
    kron = ops.matmul.kron
    matmul = ops.matmul.matmul
    matrix_power = ops.matmul.matrix_power
    mm = ops.matmul.mm
    mv = ops.matmul.mv
    outer = ops.matmul.outer
    vdot = ops.matmul.vdot

    __matmul__ = core.operator_of(ops.matmul.matmul)

    def __rmatmul__(self, other: Any) -> Any:
        return ops.matmul.matmul(other, self) if isinstance(other, Tensor) else NotImplemented

    # softmax, norm and loss
    softmax = ops.softmax.softmax
    log_softmax = ops.softmax.log_softmax

    # random

    bernoulli = ops.random.bernoulli
    bernoulli_ = ops.random.bernoulli_
    cauchy_ = ops.random.cauchy_
    exponential_ = ops.random.exponential_
    geometric_ = ops.random.geometric_
    log_normal_ = ops.random.log_normal_
    multinomial = ops.random.multinomial
    normal_ = ops.random.normal_
    random_ = ops.random.random_
    uniform_ = ops.random.uniform_


def _rebuild(
    kind: Any, array: NDArray[Any], dtype: Any, requires_grad: bool, shape: tuple[int, ...], device: Any = None
) -> Any:
    x = core.from_buffer(array if array.flags.writeable else array.copy())
    if dtype is core.bfloat16:
        x = x.view(core.bfloat16)
    out = kind(x.reshape(shape) if device is None else x.reshape(shape).to(device))
    out.requires_grad = requires_grad
    return out


core.set_tensor_type(Tensor, refresh_view, fetched)


def is_tensor(obj: Any) -> bool:
    """Whether `obj` is a Tensor.

    >>> gg.is_tensor([1])
    False
    """
    return isinstance(obj, Tensor)


def is_nonzero(input: Tensor) -> bool:
    """Whether a tensor of one element is not zero.

    >>> gg.is_nonzero(gg.tensor([2.0]))
    True
    """
    return bool(input)


def typename(obj: Any) -> str:
    """The full name of an object's type, or of a tensor's.

    >>> gg.typename(gg.ones(1, dtype=gg.int16))
    'glassgrad.ShortTensor'
    """
    if isinstance(obj, Tensor):
        return str(obj.type())
    return f"{type(obj).__module__}.{type(obj).__qualname__}"


def from_numpy(ndarray: NDArray[Any]) -> Tensor:
    """A tensor over a numpy array's memory: each sees what the other writes.

    An array that cannot be written or has negative strides is copied.

    >>> a = np.zeros(2, dtype=np.float32)
    >>> x = gg.from_numpy(a)
    >>> a[0] = 1
    >>> x
    tensor([1., 0.])
    """
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"from_numpy: expected a numpy array, got {type(ndarray).__name__}")
    if not ndarray.dtype.isnative:
        ndarray = ndarray.astype(ndarray.dtype.newbyteorder("="))
    if (
        not ndarray.flags.writeable
        or any(s < 0 for s in ndarray.strides)
        or any(s % ndarray.itemsize for s in ndarray.strides)
    ):
        ndarray = ndarray.copy()
    return core.from_buffer(ndarray)


def from_dlpack(ext_tensor: Any) -> Tensor:
    """A tensor over the memory of another library's array, on the CPU or a GPU, through DLPack.

    >>> gg.from_dlpack(np.ones(2, dtype=np.float32))
    tensor([1., 1.])
    """
    if not hasattr(ext_tensor, "__dlpack__"):
        return core.from_dlpack_capsule(ext_tensor)
    kind, index = ext_tensor.__dlpack_device__()
    if kind == _DL_CUDA:
        return core.from_dlpack_capsule(ext_tensor.__dlpack__(stream=_stream_of(core.device("cuda", index))))
    return core.from_dlpack_capsule(ext_tensor.__dlpack__())


def _cuda_module() -> Any:
    return importlib.import_module("glassgrad._cuda")


def _stream_of(device: Any) -> int:
    """The current stream of a GPU, as a number."""
    return int(_cuda_module().current_stream(device.index))


def _let_wait(device: Any, waiting: int, busy: int) -> None:
    """What a stream of a GPU is given from now on waits for what another has under way."""
    if waiting == busy:
        return
    cuda = _cuda_module()
    event = cuda.make_event(device.index, False, False, False)
    cuda.event_record(event, busy)
    cuda.stream_wait_event(waiting, event)
    cuda.destroy_event(event)


def _from_gpu(data: Any) -> Tensor:
    """A tensor over memory on a GPU that another library announces by __cuda_array_interface__."""
    if hasattr(data, "__dlpack__"):  # says on which device, and has bfloat16
        return from_dlpack(data)
    about = data.__cuda_array_interface__
    pointer, read_only = about["data"]
    numbers = np.dtype(about["typestr"])
    dtype, strides = getattr(core, numbers.name, None), about.get("strides")
    if not numbers.isnative or not isinstance(dtype, core.dtype):
        raise TypeError(f"tensor: a CUDA array of {numbers} has no tensor type")
    if strides is not None:
        if any(s % numbers.itemsize for s in strides):
            raise ValueError(f"tensor: strides {strides} of a CUDA array of {numbers} are no multiples of its items")
        strides = tuple(s // numbers.itemsize for s in strides)
    device = core.device("cuda", _cuda_module().device_of(pointer) if pointer else 0)
    x = core.from_cuda_memory(data, pointer or 0, dtype, about["shape"], strides, device)
    if about.get("stream") is not None:
        _let_wait(device, _stream_of(device), about["stream"])
    return x.clone() if read_only else x


def _shape_of(data: Any) -> tuple[int, ...]:
    """The shape of nested sequences; uneven ones are an error."""
    if not isinstance(data, (list, tuple)):
        return tuple(data.shape) if isinstance(data, (core.TensorBase, np.ndarray)) else ()
    if not data:
        return (0,)
    inner = _shape_of(data[0])
    for i, item in enumerate(data):
        if _shape_of(item) != inner:
            raise ValueError(
                f"tensor: item 0 has shape {inner} and item {i} has shape {_shape_of(item)}: rows must be even"
            )
    return (len(data), *inner)


def _plain(data: Any) -> Any:
    """Nested sequences with tensors inside, as numpy understands them."""
    if isinstance(data, core.TensorBase):
        x = data._alias().cpu()
        return x.numpy() if x.dtype is not core.bfloat16 else x.float().numpy()
    if isinstance(data, (list, tuple)):
        return [_plain(item) for item in data]
    return data


def tensor(
    data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False
) -> Tensor:
    """A new tensor with a copy of `data`: a number, nested sequences, a numpy array or a tensor.

    Python floats become float32, ints int64; arrays keep their dtype unless `dtype` is given.

    >>> gg.tensor([[1, 2], [3, 4]])
    tensor([[1, 2],
            [3, 4]])
    """
    if isinstance(data, core.TensorBase):
        x = data._alias().clone()
    elif isinstance(data, (np.ndarray, np.generic)):
        x = from_numpy(np.array(data, order="C", subok=False)).clone()
    elif hasattr(data, "__cuda_array_interface__"):
        x = _from_gpu(data).clone()
    else:
        try:
            array = np.array(_plain(data))
        except (ValueError, OverflowError) as error:
            _shape_of(data)
            raise ValueError(f"tensor: {error}") from None
        if array.dtype.kind not in "biufc":
            _shape_of(data)
            hint = "; an int is too large for int64" if array.dtype == object else ""
            raise TypeError(f"tensor: cannot make a tensor of elements of type {array.dtype}{hint}")
        if array.dtype == np.uint64:
            raise RuntimeError("tensor: an int is too large for int64")
        x = from_numpy(array)
        if dtype is None and array.dtype == np.float64 and not _holds_float64(data):
            x = x.to(core.get_default_dtype())
    if dtype is not None:
        x = x.to(dtype)
    if device is not None:
        x = x.to(device)
    if pin_memory:
        x = x.pin_memory()
    if requires_grad:
        x.requires_grad = True
    return x


def _holds_float64(data: Any) -> bool:
    """Whether the first item of nested sequences is a float64 array or tensor rather than a Python float."""
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    if isinstance(data, core.TensorBase):
        return data.dtype is core.float64
    return isinstance(data, (np.ndarray, np.float64))


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """`data` as a tensor, sharing memory where it can: tensors and numpy arrays of the wanted dtype are not copied.

    >>> gg.as_tensor([1, 2])
    tensor([1, 2])
    """
    if isinstance(data, Tensor):
        x = data
    elif isinstance(data, np.ndarray):
        x = from_numpy(data)
    elif hasattr(data, "__cuda_array_interface__"):
        x = _from_gpu(data)
    else:
        return tensor(data, dtype=dtype, device=device)
    if dtype is not None and x.dtype is not dtype:
        x = x.to(dtype)
    return x if device is None else x.to(device)


def asarray(
    obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None, requires_grad: bool = False
) -> Tensor:
    """`obj` as a tensor; `copy` True always copies, False never, None where needed.

    >>> gg.asarray([1.0, 2.0])
    tensor([1., 2.])
    """
    x = tensor(obj, dtype=dtype, device=device) if copy else as_tensor(obj, dtype, device)
    if copy is False and not isinstance(obj, (Tensor, np.ndarray)):
        raise ValueError(f"asarray: {type(obj).__name__} cannot become a tensor without a copy")
    if requires_grad:
        x.requires_grad_(True)
    return x
