"""PyTorch's own per-op and per-layer samples, run against the same names in glassgrad.

`torch.testing._internal` holds, for each op and layer, generators of sample arguments. Each sample runs in both
libraries; results (structure, shape, dtype, values) and gradients must agree, as function, method and in-place form.
Workers run in processes of their own, so a crash is charged to the op that crashed.

    python tests/torch_samples.py [PATTERN ...]     a table; PATTERN: a family, or a part of a name
        --all        every sample (8 per dtype and form by default)
        --verbose    every failure, not just the first of an op
        --jobs N     worker processes (2)
        --dtypes D   of the ops' samples, separated by commas (float32,float64,int64)
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import os
import select
import subprocess
import sys
import time
import traceback
import types
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

# Names in PyTorch's lists, variants after a dot as there; by family. A name without its variants means all of them.
LISTED = {
    "creation": """arange bernoulli empty empty_like eye full full_like linspace logspace multinomial new_empty
        new_full new_ones new_zeros normal ones ones_like rand_like randint randint_like randn randn_like
        scalar_tensor tril tril_indices triu triu_indices uniform zeros zeros_like fill exponential""",
    "elementwise": """abs acos acosh add addcdiv addcmul asin asinh atan atan2 atanh bitwise_and
        bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor ceil clamp clamp_max clamp_min
        copysign cos cosh deg2rad digamma div eq erf erfc erfinv exp exp2 expm1 float_power floor floor_divide fmax
        fmin fmod frac ge gt heaviside hypot isclose isfinite isinf isnan isneginf isposinf ldexp le lerp lgamma log
        log10 log1p log2 logaddexp logaddexp2 logical_and logical_not logical_or logical_xor logit lt max.binary
        maximum min.binary minimum mul nan_to_num ne neg positive pow rad2deg reciprocal remainder round rsqrt rsub
        sgn sigmoid sign signbit sin sinc sinh sqrt square sub tan tanh true_divide trunc where xlogy __radd__
        __rand__ __rdiv__ __rmod__ __rmul__ __ror__ __rpow__ __rsub__ __rxor__ allclose equal nn.functional.celu
        nn.functional.elu nn.functional.gelu nn.functional.glu nn.functional.hardshrink nn.functional.hardsigmoid
        nn.functional.hardswish nn.functional.hardtanh nn.functional.leaky_relu nn.functional.logsigmoid
        nn.functional.mish nn.functional.prelu nn.functional.relu nn.functional.relu6 nn.functional.selu
        nn.functional.silu nn.functional.softplus nn.functional.softshrink nn.functional.softsign
        nn.functional.tanhshrink nn.functional.threshold bfloat16 bool byte char double float half int long short to
        item clone""",
    "reduce": """all amax amin aminmax any argmax argmin argsort bincount count_nonzero cummax cummin cumprod cumsum
        diff dist histc kthvalue logcumsumexp logsumexp max.reduction_no_dim max.reduction_with_dim mean median
        min.reduction_no_dim min.reduction_with_dim mode nanmean nanmedian nanquantile nansum norm prod quantile
        searchsorted bucketize sort std std.unbiased std_mean sum topk trace unique unique_consecutive var
        var.unbiased var_mean msort linalg.norm linalg.vector_norm linalg.matrix_norm trapezoid""",
    "layout": """atleast_1d atleast_2d atleast_3d block_diag broadcast_tensors broadcast_to cat chunk column_stack
        contiguous diag diag_embed diagflat diagonal dsplit dstack expand expand_as flatten flip fliplr flipud hsplit
        hstack mT T meshgrid movedim narrow nn.functional.pad permute ravel repeat repeat_interleave reshape
        reshape_as roll rot90 select split split_with_sizes squeeze stack swapaxes t tensor_split tile transpose
        unbind unflatten unfold unsqueeze view view_as vsplit vstack nn.functional.pixel_shuffle
        nn.functional.pixel_unshuffle nn.functional.channel_shuffle""",
    "index": """__getitem__ argwhere gather index_add index_copy index_fill index_put index_select isin masked_fill
        masked_scatter masked_select nn.functional.embedding nn.functional.embedding_bag nn.functional.one_hot nonzero
        put scatter scatter_add scatter_reduce take take_along_dim select_scatter slice_scatter diagonal_scatter""",
    "matmul": """__rmatmul__ addbmm addmm addmv addr baddbmm bmm cdist cross dot einsum inner kron linalg.cross
        linalg.multi_dot linalg.vecdot linalg.diagonal linalg.matrix_power matmul mm mv nn.functional.bilinear
        nn.functional.linear outer tensordot vdot nn.functional.pdist cov corrcoef""",
    "conv": """nn.functional.conv1d nn.functional.conv2d nn.functional.conv3d nn.functional.conv_transpose1d
        nn.functional.conv_transpose2d nn.functional.conv_transpose3d nn.functional.unfold""",
    "pool": """nn.functional.adaptive_avg_pool1d nn.functional.adaptive_avg_pool2d nn.functional.adaptive_avg_pool3d
        nn.functional.adaptive_max_pool1d nn.functional.adaptive_max_pool2d nn.functional.adaptive_max_pool3d
        nn.functional.avg_pool1d nn.functional.avg_pool2d nn.functional.avg_pool3d nn.functional.grid_sample
        nn.functional.interpolate nn.functional.max_pool1d nn.functional.max_pool2d nn.functional.max_pool3d
        nn.functional.max_unpool1d nn.functional.max_unpool2d nn.functional.max_unpool3d
        nn.functional.upsample_bilinear nn.functional.upsample_nearest""",
    "softmax": """log_softmax softmax nn.functional.softmin nn.functional.cross_entropy nn.functional.nll_loss
        nn.functional.binary_cross_entropy nn.functional.binary_cross_entropy_with_logits
        nn.functional.cosine_embedding_loss nn.functional.ctc_loss nn.functional.gaussian_nll_loss
        nn.functional.hinge_embedding_loss nn.functional.huber_loss nn.functional.kl_div nn.functional.l1_loss
        nn.functional.margin_ranking_loss nn.functional.mse_loss nn.functional.multi_margin_loss
        nn.functional.multilabel_margin_loss nn.functional.multilabel_soft_margin_loss nn.functional.poisson_nll_loss
        nn.functional.smooth_l1_loss nn.functional.soft_margin_loss nn.functional.triplet_margin_loss
        nn.functional.triplet_margin_with_distance_loss""",
    "norm": """nn.functional.batch_norm nn.functional.cosine_similarity nn.functional.group_norm
        nn.functional.instance_norm nn.functional.layer_norm nn.functional.local_response_norm nn.functional.normalize
        nn.functional.pairwise_distance nn.functional.rms_norm nn.functional.dropout nn.functional.dropout2d
        nn.functional.dropout3d nn.functional.alpha_dropout nn.functional.feature_alpha_dropout renorm""",
    "attention": "nn.functional.scaled_dot_product_attention nn.functional.multi_head_attention_forward",
    "layers": """nn.AdaptiveAvgPool1d nn.AdaptiveAvgPool2d nn.AdaptiveAvgPool3d nn.AdaptiveMaxPool1d
        nn.AdaptiveMaxPool2d nn.AdaptiveMaxPool3d nn.AvgPool1d nn.AvgPool2d nn.AvgPool3d nn.BCELoss
        nn.BCEWithLogitsLoss nn.BatchNorm1d nn.BatchNorm2d nn.BatchNorm3d nn.Bilinear nn.CELU nn.CTCLoss
        nn.CircularPad1d nn.CircularPad2d nn.CircularPad3d nn.ConstantPad1d nn.ConstantPad2d nn.ConstantPad3d
        nn.Conv1d nn.Conv2d nn.Conv3d nn.ConvTranspose1d nn.ConvTranspose2d nn.ConvTranspose3d nn.CosineEmbeddingLoss
        nn.CrossEntropyLoss nn.ELU nn.Embedding nn.GELU nn.GLU nn.GaussianNLLLoss nn.GroupNorm nn.Hardshrink
        nn.Hardswish nn.Hardtanh nn.HingeEmbeddingLoss nn.HuberLoss nn.InstanceNorm1d nn.InstanceNorm2d
        nn.InstanceNorm3d nn.KLDivLoss nn.L1Loss nn.LPPool1d nn.LPPool2d nn.LPPool3d nn.LayerNorm nn.LeakyReLU
        nn.Linear nn.LocalResponseNorm nn.LogSigmoid nn.LogSoftmax nn.MSELoss nn.MarginRankingLoss nn.MaxPool1d
        nn.MaxPool2d nn.MaxPool3d nn.Mish nn.MultiLabelMarginLoss nn.MultiLabelSoftMarginLoss nn.MultiMarginLoss
        nn.MultiheadAttention nn.NLLLoss nn.PReLU nn.PoissonNLLLoss nn.RMSNorm nn.ReLU nn.ReLU6 nn.ReflectionPad1d
        nn.ReflectionPad2d nn.ReflectionPad3d nn.ReplicationPad1d nn.ReplicationPad2d nn.ReplicationPad3d nn.SELU
        nn.SiLU nn.Sigmoid nn.SmoothL1Loss nn.SoftMarginLoss nn.Softmax nn.Softmax2d nn.Softmin nn.Softplus
        nn.Softshrink nn.Softsign nn.Tanh nn.Tanhshrink nn.Threshold nn.ZeroPad1d nn.ZeroPad2d nn.ZeroPad3d""",
}

# Results that no other generator can repeat: structure, shape and dtype only.
RANDOM = {
    *[
        "bernoulli",
        "empty",
        "empty_like",
        "exponential",
        "multinomial",
        "new_empty",
        "normal",
        "rand_like",
        "randint",
        "randint_like",
        "randn",
    ],
    *["randn_like", "uniform", "nn.functional.dropout", "nn.functional.dropout2d", "nn.functional.dropout3d"],
    *["nn.functional.alpha_dropout", "nn.functional.feature_alpha_dropout"],
}

# Where several elements are equal, which of their indices comes out is the library's own affair: values only.
TIES = {"kthvalue", "mode", "topk"}

# (rtol, atol relative to the largest element)
TOLERANCE = {
    "float64": (1e-7, 1e-9),
    "float32": (1e-4, 2e-5),
    "float16": (5e-3, 5e-3),
    "bfloat16": (4e-2, 4e-2),
}
DTYPES = ("float32", "float64", "int64")
SAMPLES = 8


@dataclass
class Result:
    name: str
    family: str
    passed: int = 0
    failed: int = 0
    missing: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    crash: str = ""

    @property
    def good(self) -> bool:
        return not (self.failed or self.missing or self.crash)


def listed_family(name: str, variant: str = "") -> str | None:
    full = f"{name}.{variant}" if variant else name
    for family, names in LISTED.items():
        if full in names.split() or name in names.split():
            return family
    return None


# Worker: one process, both libraries ---------------------------------------------------------------------------------


class Skip(Exception):
    """A sample that asks for what is not on the list: complex or sparse numbers."""


def drops(info: Any, sample: Any) -> bool:
    """Does this sample draw a dropout mask?"""
    if info.name == "nn.functional.multi_head_attention_forward":  # dropout_p is its 11th argument
        return bool(sample.args[9]) and bool(sample.kwargs.get("training", True))
    return bool(sample.kwargs.get("dropout_p"))


class Translator:
    """Arguments for glassgrad out of arguments for torch; one tensor stays one tensor."""

    def __init__(self, torch: Any, gg: Any) -> None:
        self.torch, self.gg = torch, gg
        self.seen: dict[int, Any] = {}

    def __call__(self, value: Any) -> Any:
        torch, gg = self.torch, self.gg
        if isinstance(value, torch.Tensor):
            if id(value) not in self.seen:
                self.seen[id(value)] = self.tensor(value)
            return self.seen[id(value)]
        if isinstance(value, torch.dtype):
            if value.is_complex or not hasattr(gg, str(value)[6:]):
                raise Skip(str(value))
            return getattr(gg, str(value)[6:])
        if isinstance(value, torch.device):
            return str(value)
        if isinstance(value, torch.memory_format):
            return getattr(gg, str(value)[6:])
        if isinstance(value, complex):
            raise Skip("complex")
        if isinstance(value, torch.Size):
            return tuple(value)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*map(self, value))
        if isinstance(value, (tuple, list)):
            return type(value)(map(self, value))
        if isinstance(value, slice):
            return slice(self(value.start), self(value.stop), self(value.step))
        if isinstance(value, dict):
            return {k: self(v) for k, v in value.items() if k not in ("layout", "pin_memory")}
        if isinstance(value, types.FunctionType) and value.__module__.startswith("torch.testing"):
            return in_glassgrad(value, gg)
        if isinstance(value, torch.nn.PairwiseDistance):
            return gg.nn.PairwiseDistance(value.norm, value.eps, value.keepdim)
        return value

    def tensor(self, t: Any) -> Any:
        torch, gg = self.torch, self.gg
        if t.is_complex() or t.layout != torch.strided or t.is_quantized or t.is_nested:
            raise Skip("complex, sparse or quantized")
        if not hasattr(gg, str(t.dtype)[6:]):
            raise Skip(str(t.dtype))
        plain = t.detach()
        if t.dtype == torch.bfloat16:
            ours = gg.from_numpy(plain.float().numpy().copy()).to(gg.bfloat16)
        else:
            # the same strides over a storage of its own
            twin = torch.empty(0, dtype=t.dtype)
            twin.set_(plain.untyped_storage().clone(), plain.storage_offset(), plain.size(), plain.stride())
            ours = gg.from_numpy(twin.numpy())
        return ours.requires_grad_() if t.requires_grad else ours


def in_glassgrad(f: types.FunctionType, gg: Any) -> types.FunctionType:
    """A function of PyTorch's test code that finds glassgrad where it says torch."""
    scope = {**f.__globals__, "torch": gg, "F": gg.nn.functional}
    closure = f.__closure__ and tuple(
        types.CellType(
            in_glassgrad(c.cell_contents, gg) if isinstance(c.cell_contents, types.FunctionType) else c.cell_contents
        )
        for c in f.__closure__
    )
    twin = types.FunctionType(f.__code__, scope, f.__name__, f.__defaults__, closure)
    twin.__kwdefaults__ = f.__kwdefaults__
    return twin


def resolve(root: Any, name: str) -> Any:
    for part in name.split("."):
        root = getattr(root, part, None) if part else None
    return root


def flatten(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for k in value for leaf in flatten(value[k])]
    if isinstance(value, (tuple, list)):
        return [leaf for v in value for leaf in flatten(v)]
    return [value]


def to_numpy(t: Any) -> np.ndarray:
    t = t.detach().clone()  # torch's lazy zeros become numbers
    if str(t.dtype).endswith("bfloat16"):
        t = t.float()
    return np.array(t.numpy())


def compare(ours: Any, theirs: Any, values: bool, what: str) -> None:
    """AssertionError unless structure, dtypes, shapes and values agree."""
    a, b = flatten(ours), flatten(theirs)
    assert len(a) == len(b), f"{what}: {len(a)} results, torch {len(b)}"
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        at = f"{what}[{i}]" if len(a) > 1 else what
        if not hasattr(y, "detach"):
            same = x == y or (x != x and y != y) or (isinstance(y, float) and abs(x - y) <= 1e-4 * abs(y))
            assert same or not values, f"{at}: {x!r}, torch {y!r}"
            continue
        assert hasattr(x, "detach"), f"{at}: {type(x).__name__}, torch a tensor"
        if y.is_complex() or y.is_sparse:
            raise Skip("complex or sparse result")
        assert tuple(x.shape) == tuple(y.shape), f"{at}: shape {tuple(x.shape)}, torch {tuple(y.shape)}"
        x_dtype, y_dtype = (str(t.dtype).rsplit(".", 1)[-1] for t in (x, y))
        assert x_dtype == y_dtype, f"{at}: {x_dtype}, torch {y_dtype}"
        if values:
            close(to_numpy(x), to_numpy(y), *TOLERANCE.get(y_dtype, (0.0, 0.0)), at)


def compare_gradients(ours: Sequence[Any], theirs: Sequence[Any]) -> None:
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if (b is None and (a is None or not to_numpy(a).any())) or (a is None and not to_numpy(b).any()):
            continue
        assert a is not None, f"gradient {i}: none, torch gives one"
        assert b is not None, f"gradient {i}: torch gives none"
        compare(a, b, True, f"gradient {i}")


def no_worse(ours: Any, theirs: Any, exact: Any) -> bool:
    """Is each float32 tensor of ours as near to the float64 one as torch's is?"""
    for x, y, z in zip(flatten(ours), flatten(theirs), flatten(exact), strict=True):
        if not hasattr(y, "detach") or not hasattr(x, "detach") or not y.is_floating_point() or not y.numel():
            continue
        if str(y.dtype) != "torch.float32" or tuple(x.shape) != tuple(y.shape):
            return False
        a, b, t = (to_numpy(v).astype(np.float64) for v in (x, y, z))
        if not np.isfinite(a - t).all() or np.abs(a - t).max() > 2 * np.abs(b - t).max():
            return False
    return True


def close(a: np.ndarray, b: np.ndarray, rtol: float, atol: float, at: str) -> None:
    if a.size == 0:
        return
    if b.dtype.kind == "f":
        a, b = a.astype(np.float64), b.astype(np.float64)
        scale = float(np.abs(b[np.isfinite(b)]).max(initial=0.0))
        with np.errstate(invalid="ignore"):
            wrong = ~(np.abs(a - b) <= atol * max(scale, 1.0) + rtol * np.abs(b))
        wrong &= (a != b) & ~(np.isnan(a) & np.isnan(b))
    else:
        wrong = a != b
    if wrong.any():
        i = tuple(int(k) for k in np.argwhere(wrong)[0]) if a.ndim else ()
        raise AssertionError(f"{at}{list(i)}: {a[i]!r}, torch {b[i]!r} ({int(wrong.sum())} of {a.size} differ)")


def gradients(result: Any, inputs: Sequence[Any], library: Any, make: Any) -> list[Any]:
    """Gradients of a fixed random combination of the floating outputs."""
    rng = np.random.default_rng(0)
    ys, dys = [], []
    for y in flatten(result):
        if hasattr(y, "detach") and y.is_floating_point():
            dy = rng.standard_normal(tuple(y.shape))
            if y.requires_grad:
                ys.append(y)
                dys.append(make(np.asarray(dy)).to(y.dtype))
    if not ys:
        return [None] * len(inputs)
    return list(library.autograd.grad(ys, inputs, dys, allow_unused=True))


def describe(value: Any) -> str:
    if hasattr(value, "detach"):
        strided = "" if value.is_contiguous() else "*"
        return f"{str(value.dtype).rsplit('.', 1)[-1]}{list(value.shape)}{strided}"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(describe, value)) + "]"
    if isinstance(value, dict):
        return ", ".join(f"{k}={describe(v)}" for k, v in value.items())
    return repr(value)[:60]


class Worker:
    def __init__(self, limit: int | None, dtypes: Sequence[str]) -> None:
        import torch

        import glassgrad as gg

        warnings.simplefilter("ignore")
        torch.set_num_threads(1)
        self.torch, self.gg, self.limit, self.dtypes = torch, gg, limit, dtypes

    # Ops ---------------------------------------------------------------------

    def op(self, info: Any, result: Result) -> None:
        ours, methods = self.forms(info)
        if ours is None:
            result.missing.append(info.name)
            return
        for form, (function, _) in methods.items():
            if function is None:
                result.missing.append(f"Tensor.{info.name}{'_' if form == 'in place' else ''}")
        for dtype in self.dtypes:
            torch_dtype = getattr(self.torch, dtype)
            if torch_dtype not in info.supported_dtypes("cpu"):
                continue
            grad = bool(info.supports_autograd and torch_dtype.is_floating_point)
            for i, sample in enumerate(self.samples(info, torch_dtype, grad)):
                case = f"{dtype} sample {i} ({describe([sample.input, *sample.args])[1:-1]}; {describe(sample.kwargs)})"
                self.case(result, case, self.function, info, sample, ours, info.op, grad)
                if dtype == "float64" or not isinstance(sample.input, self.torch.Tensor):
                    continue
                for form, (function, twin) in methods.items():
                    if function is not None and not (form == "in place" and sample.broadcasts_input):
                        self.case(result, f"{form}: {case}", self.form, info, sample, function, twin)

    def samples(self, info: Any, dtype: Any, grad: bool) -> Iterator[Any]:
        self.torch.manual_seed(0)
        try:
            samples = info.sample_inputs("cpu", dtype, requires_grad=grad)
            yield from itertools.islice(samples, self.limit)
        except (RuntimeError, NotImplementedError, ValueError, TypeError):
            return  # this PyTorch cannot make samples for the dtype

    def forms(self, info: Any) -> tuple[Any, dict[str, tuple[Any, Any]]]:
        """Our function, and our method and in-place method with torch's, where torch has them."""
        gg = self.gg
        op = info.op
        if isinstance(op, types.FunctionType) and op.__module__.startswith("torch.testing"):
            ours = in_glassgrad(op, gg)
            if resolve(gg, info.name) is None and resolve(gg.Tensor, info.name) is None and info.name.isidentifier():
                in_place = resolve(gg.Tensor, info.name + "_") if info.name not in ("to", "slice") else None
                ours = ours if in_place or info.name in ("slice",) else None
        else:
            ours = resolve(gg, info.name) or resolve(gg.Tensor, info.name)
        methods = {}
        for form, variant in (("method", info.method_variant), ("in place", info.inplace_variant)):
            name = getattr(variant, "__name__", "")
            if variant is op or isinstance(variant, types.FunctionType) or not resolve(self.torch.Tensor, name):
                continue
            methods[form] = (resolve(gg.Tensor, name), variant)
        return ours, methods

    def case(self, result: Result, case: str, check: Any, *arguments: Any) -> None:
        try:
            if check(*arguments):
                result.passed += 1
        except Skip:
            pass
        except AssertionError as error:
            result.failed += 1
            result.failures.append(f"{case}: {error}")
        except Exception as error:
            result.failed += 1
            frame = traceback.extract_tb(error.__traceback__)[-1]
            message = (str(error).splitlines() or [""])[0][:300]
            result.failures.append(
                f"{case}: {type(error).__name__}: {message} [{Path(frame.filename).name}:{frame.lineno}]"
            )

    def function(self, info: Any, sample: Any, ours: Any, theirs: Any, grad: bool) -> bool:
        """Values and gradients; where torch's float32 differs, its float64 decides which of the two is nearer."""
        translate = Translator(self.torch, self.gg)
        args, kwargs = translate([sample.input, *sample.args]), translate(sample.kwargs)
        values = info.name not in RANDOM and not drops(info, sample)
        try:
            expected, leaves, dtheirs = self.torch_results(info, sample, theirs, grad and values)
        except Exception:
            return False  # torch refuses its own sample
        result = ours(*args, **kwargs)
        if info.name in TIES and not sample.input.is_floating_point():
            result, expected = result[0], expected[0]
        dours: list[Any] = []
        try:
            compare(result, expected, values, "value")
            if leaves:
                twins = [translate.seen[id(t)] for t in leaves]
                dours = gradients(sample.output_process_fn_grad(result), twins, self.gg, self.gg.from_numpy)
                compare_gradients(dours, dtheirs)
        except AssertionError:
            precise = sample.transform(self.double)
            exact, _, dexact = self.torch_results(info, precise, theirs, grad)
            if len(dours) == len(dexact) and no_worse([result, dours], [expected, dtheirs], [exact, dexact]):
                return True
            raise
        return True

    def torch_results(self, info: Any, sample: Any, theirs: Any, grad: bool) -> tuple[Any, list[Any], list[Any]]:
        """The result, the leaves that require a gradient, and their gradients."""
        self.torch.manual_seed(0)
        expected = theirs(sample.input, *sample.args, **sample.kwargs)
        leaves = [t for t in self.leaves([sample.input, sample.args, sample.kwargs]) if t.requires_grad and t.is_leaf]
        if not grad or not leaves:
            return expected, [], []
        processed = sample.output_process_fn_grad(expected)
        found = gradients(processed, leaves, self.torch, self.torch.from_numpy)
        return expected, leaves, [g.to_dense() if g is not None and g.is_sparse else g for g in found]

    def double(self, value: Any) -> Any:
        if isinstance(value, self.torch.Tensor) and value.is_floating_point():
            return value.detach().double().requires_grad_(value.requires_grad)
        return value

    def form(self, info: Any, sample: Any, ours: Any, theirs: Any) -> bool:
        """A method or in-place form, without gradients, each library on tensors of its own."""
        translate = Translator(self.torch, self.gg)
        with self.torch.no_grad(), self.gg.no_grad():
            args, kwargs = translate([sample.input, *sample.args]), translate(sample.kwargs)
            try:
                theirs_input = sample.input.clone()
                expected = theirs(theirs_input, *sample.args, **sample.kwargs)
            except Exception:
                return False
            args[0] = args[0].clone()
            result = ours(*args, **kwargs)
            values = info.name not in RANDOM
            if info.name in TIES and not sample.input.is_floating_point():
                result, expected = result[0], expected[0]
            compare(result, expected, values, "value")
            compare(args[0], theirs_input, values, "the tensor itself")
        return True

    def leaves(self, value: Any) -> list[Any]:
        if isinstance(value, self.torch.Tensor):
            return [value]
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, (tuple, list)):
            unique = {id(t): t for v in value for t in self.leaves(v)}
            return list(unique.values())
        return []

    # Layers ------------------------------------------------------------------

    def layer(self, info: Any, result: Result) -> None:
        cls = resolve(self.gg, info.name)
        if cls is None:
            result.missing.append(info.name)
            return
        for dtype, training in itertools.product(("float32", "float64"), (True, False)):
            torch_dtype = getattr(self.torch, dtype)
            self.torch.manual_seed(0)
            inputs = info.module_inputs_func(info, "cpu", torch_dtype, True, training)
            for i, sample in enumerate(inputs[: self.limit]):
                call = sample.constructor_input
                mode = "training" if training else "evaluation"
                case = f"{dtype}, {mode}, sample {i} ({describe(call.args)}; {describe(call.kwargs)})"
                self.case(result, case, self.module, info, sample, cls, torch_dtype, training)

    def module(self, info: Any, sample: Any, cls: Any, dtype: Any, training: bool) -> bool:
        torch, gg = self.torch, self.gg
        translate = Translator(torch, gg)
        build, call = sample.constructor_input, sample.forward_input
        theirs = info.module_cls(*build.args, **build.kwargs).to(dtype).train(training)
        ours = cls(*translate(build.args), **translate(build.kwargs)).to(translate(dtype)).train(training)
        a, b = list(ours.state_dict()), list(theirs.state_dict())
        assert a == b, f"state_dict keys {a}, torch {b}"
        ours.load_state_dict({k: translate(v) for k, v in theirs.state_dict().items()})
        try:
            torch.manual_seed(0)
            expected = theirs(*call.args, **call.kwargs)
        except Exception:
            return False
        result = ours(*translate(call.args), **translate(call.kwargs))
        if training and getattr(theirs, "dropout", 0.0) and isinstance(theirs.dropout, float):
            compare(result, expected, False, "value")
            return True
        compare(result, expected, True, "value")
        named = dict(theirs.named_parameters())
        leaves = [t for t in self.leaves([call.args, call.kwargs]) if t.requires_grad and t.is_leaf]
        twins = [translate.seen[id(t)] for t in leaves]
        ours_named = dict(ours.named_parameters())
        assert list(ours_named) == list(named), f"parameters {list(ours_named)}, torch {list(named)}"
        wanted, ours_wanted = [*leaves, *named.values()], [*twins, *ours_named.values()]
        if not wanted:
            return True
        names = [*(f"input {i}" for i in range(len(leaves))), *named]
        dtheirs = gradients(expected, wanted, torch, torch.from_numpy)
        dours = gradients(result, ours_wanted, gg, gg.from_numpy)
        for name, x, y in zip(names, dours, dtheirs, strict=True):
            if (y is None and (x is None or not to_numpy(x).any())) or (x is None and not to_numpy(y).any()):
                continue
            assert x is not None and y is not None, f"gradient of {name}: {x is not None}, torch {y is not None}"
            compare(x, y, True, f"gradient of {name}")
        for (name, x), y in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
            compare(x, y, True, f"{name} afterwards")
        return True


def infos() -> dict[str, Any]:
    """The listed ops and layers by full name."""
    from torch.testing._internal.common_methods_invocations import op_db
    from torch.testing._internal.common_modules import module_db

    found = {}
    for info in op_db:
        if listed_family(info.name, info.variant_test_name):
            found[f"{info.name}.{info.variant_test_name}" if info.variant_test_name else info.name] = info
    for info in module_db:
        if listed_family(info.name):
            found[info.name] = info
    return found


def work(names: Sequence[str], limit: int | None, dtypes: Sequence[str]) -> None:
    """Run the named ops, a line of JSON before and after each."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    known = infos()
    worker = Worker(limit, dtypes)
    for name in names:
        print(json.dumps({"start": name}), file=out, flush=True)
        info = known[name]
        layer = hasattr(info, "module_cls")
        result = Result(name, listed_family(info.name, "" if layer else info.variant_test_name) or "")
        try:
            (worker.layer if layer else worker.op)(info, result)
        except Exception as error:
            result.failed += 1
            result.failures.append(f"{type(error).__name__}: {error}")
        print(json.dumps(asdict(result)), file=out, flush=True)


# Parent: processes and the table -------------------------------------------------------------------------------------

OP_SECONDS = 120.0


def run(names: Sequence[str], limit: int | None = SAMPLES, dtypes: Sequence[str] = DTYPES) -> dict[str, Result]:
    """Run the named ops in a process that is started again after each crash."""
    results: dict[str, Result] = {}
    rest = list(names)
    while rest:
        command = [sys.executable, "-X", "faulthandler", __file__, "--worker", str(limit or 0), ",".join(dtypes), *rest]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)
        assert process.stdout is not None and process.stderr is not None
        os.set_blocking(process.stderr.fileno(), False)
        errors = collections.deque[str](maxlen=40)
        current, deadline = "", time.monotonic() + OP_SECONDS
        while True:
            ready, _, _ = select.select([process.stdout, process.stderr], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                process.kill()
                errors.append(f"no answer within {OP_SECONDS:g} s")
                break
            if process.stderr in ready:
                errors.extend((process.stderr.read() or "").splitlines())
            if process.stdout in ready:
                line = process.stdout.readline()
                if not line:
                    break
                message = json.loads(line)
                deadline = time.monotonic() + OP_SECONDS
                if "start" in message:
                    current = message["start"]
                else:
                    results[message["name"]] = Result(**message)
                    rest.remove(message["name"])
                    current = ""
        code = process.wait()
        errors.extend((process.stderr.read() or "").splitlines())
        if not rest:
            break
        if not current:
            raise RuntimeError("the worker could not start:\n" + "\n".join(errors))
        family = next(f for f in (listed_family(current), listed_family(*current.rsplit(".", 1)), "") if f is not None)
        why = next((e for e in errors if "Fatal" in e or "no answer" in e), f"exit code {code}")
        results[current] = Result(current, family, crash=why)
        rest.remove(current)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--dtypes", default=",".join(DTYPES))
    options = parser.parse_args()
    chosen = []
    for name, info in infos().items():
        family = listed_family(info.name, getattr(info, "variant_test_name", ""))
        if not options.patterns or any(p == family or p in name for p in options.patterns):
            chosen.append(name)
    from concurrent.futures import ThreadPoolExecutor

    results: dict[str, Result] = {}
    limit, dtypes = None if options.all else SAMPLES, options.dtypes.split(",")
    with ThreadPoolExecutor(options.jobs) as pool:
        for part in pool.map(
            lambda k: run(chosen[k :: options.jobs], limit, dtypes), range(min(options.jobs, len(chosen)))
        ):
            results.update(part)
    print(table([results[name] for name in chosen], options.verbose))


def table(results: Sequence[Result], verbose: bool = False) -> str:
    lines = []
    for family in LISTED:
        mine = [r for r in results if r.family == family]
        if not mine:
            continue
        passed, total = sum(r.passed for r in mine), sum(r.passed + r.failed for r in mine)
        lines.append(f"{family}: {passed} of {total} samples, {sum(r.good for r in mine)} of {len(mine)} ops clean")
        missing = dict.fromkeys(name for r in mine for name in r.missing)
        if missing:
            lines.append(f"  missing  {' '.join(missing)}")
        for r in mine:
            if r.crash:
                lines.append(f"  CRASH    {r.name}: {r.crash}")
            if r.failed:
                lines.append(f"  {r.passed:4d}/{r.passed + r.failed:<4d}{r.name}: {r.failures[0]}")
                if verbose:
                    lines.extend(f"           {f}" for f in r.failures[1:])
    passed, failed = sum(r.passed for r in results), sum(r.failed for r in results)
    share = 100 * passed / max(1, passed + failed)
    missing, crashed = sum(bool(r.missing) for r in results), sum(bool(r.crash) for r in results)
    lines.append(
        f"all: {passed} of {passed + failed} samples pass ({share:.1f}%), {sum(r.good for r in results)} of "
        f"{len(results)} ops clean, {missing} with missing forms, {crashed} crashed"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[4:], int(sys.argv[2]) or None, sys.argv[3].split(","))
    else:
        main()
