"""Products of matrices: matmul and its kin, linear, einsum and what is made of them, pairwise distances.

z = x y for x (..., M, K) and y (..., K, N), batch axes broadcast. The kernel (csrc/cpu/gemm.h) takes any strides, so a
transpose on either side, forward or backward, costs no copy. Forward saves x and y.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from glassgrad import _core as core
from glassgrad.amp import Casts
from glassgrad.autograd.graph import Op, composite_backward, direct, recording, unbroadcast
from glassgrad.ops._names import numpy_names

if TYPE_CHECKING:
    from glassgrad.tensor import Tensor

__all__ = [
    "addbmm",
    "addmm",
    "addmv",
    "addr",
    "baddbmm",
    "bilinear",
    "bmm",
    "cdist",
    "chain_matmul",
    "corrcoef",
    "cov",
    "cross",
    "dot",
    "einsum",
    "ger",
    "inner",
    "inv",
    "kron",
    "linalg_cross",
    "linear",
    "matmul",
    "matrix_power",
    "mm",
    "multi_dot",
    "mv",
    "outer",
    "pdist",
    "tensordot",
    "vdot",
    "vecdot",
]

Number = int | float


def times_transposed(x: Tensor, y: Tensor) -> Tensor:
    """x y^T, differentiable where the graph is being recorded."""
    return x @ y.mT if recording() else core.matmul_nt(x, y)


def transposed_times(x: Tensor, y: Tensor) -> Tensor:
    """x^T y, differentiable where the graph is being recorded."""
    return x.mT @ y if recording() else core.matmul_tn(x, y)


def _rows(x: Tensor) -> Tensor:
    """All leading axes of x as the rows of a matrix."""
    return x if x.ndim == 2 else x.reshape((math.prod(x.shape[:-1]), x.shape[-1]))


# z = x y, so dz = dx y + x dy: dx = dz y^T and dy = x^T dz, each summed over the batch axes along which it was
# stretched. A vector is a matrix of one row (x) or one column (y).
def product_gradients(
    x: Tensor, y: Tensor, dz: Tensor, needs_x: bool, needs_y: bool
) -> tuple[Tensor | None, Tensor | None]:
    if x.ndim == 2 and y.ndim == 2:
        return times_transposed(dz, y) if needs_x else None, transposed_times(x, dz) if needs_y else None
    x_shape, y_shape = x.shape, y.shape
    if y.ndim == 1:
        y, dz = y.unsqueeze(1), dz.unsqueeze(-1)
    if x.ndim == 1:
        x, dz = x.unsqueeze(0), dz.unsqueeze(-2)
    dx = dy = None
    if needs_x:
        dx = unbroadcast(times_transposed(dz, y), x.shape)
        if len(x_shape) == 1:
            dx = dx.reshape(x_shape)
    if needs_y:
        if y.ndim == 2 and x.ndim > 2:  # one product over all rows sums over the batch on the way
            x, dz = _rows(x), _rows(dz)
        dy = unbroadcast(transposed_times(x, dz), y.shape)
        if len(y_shape) == 1:
            dy = dy.reshape(y_shape)
    return dx, dy


class MatMul(Op):
    """z = x y, batches broadcast."""

    autocast = Casts(cpu="lower", gpu="lower")
    kernel = core.matmul
    saves = ((0, None), (1, None))

    def backward(self, dz: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, y = self.saved
        needs = self.needs
        return product_gradients(x, y, dz, needs[0], needs[1])


class MM(MatMul):
    """z = x y for two matrices."""

    kernel = core.mm


class BMM(MatMul):
    """z = x y for two batches of matrices."""

    kernel = core.bmm


class MatVec(MatMul):
    """z = x y for a matrix x and a vector y."""

    autocast = Casts(gpu="lower")
    kernel = core.mv


class Dot(MatMul):
    """z = x y for vectors."""

    autocast = Casts(gpu="widest")
    kernel = core.dot


@direct(MatMul)
def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The product of matrices, z_ij = sum_k x_ik y_kj, over any batch axes: `input @ other`.

    Shapes: (..., M, K) and (..., K, N) give (..., M, N), the leading axes broadcast; a vector (K,) counts as a row on
    the left and as a column on the right, and that axis is dropped from the result. Both operands have the same
    dtype, any but bool; 16-bit floats are summed in float32. Raises ShapeError where the inner dimensions or the
    batch axes clash and DTypeError where the dtypes differ.

    >>> gg.matmul(gg.tensor([[1.0, 2.0], [3.0, 4.0]]), gg.tensor([1.0, 1.0]))
    tensor([3., 7.])
    """
    return MatMul.apply(input, other)


@direct(MM)
def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices (M, K) and (K, N); nothing broadcasts.

    >>> gg.mm(gg.tensor([[1.0, 2.0]]), gg.tensor([[3.0], [4.0]]))
    tensor([[11.]])
    """
    return MM.apply(input, mat2)


@direct(BMM)
def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The products of two batches of matrices, (B, M, K) and (B, K, N); nothing broadcasts.

    >>> gg.bmm(gg.ones(2, 1, 3), gg.ones(2, 3, 1)).flatten()
    tensor([3., 3.])
    """
    return BMM.apply(input, mat2)


@direct(MatVec)
def mv(input: Tensor, vec: Tensor) -> Tensor:
    """The product of a matrix (M, K) and a vector (K,).

    >>> gg.mv(gg.tensor([[1.0, 2.0], [3.0, 4.0]]), gg.tensor([1.0, 1.0]))
    tensor([3., 7.])
    """
    return MatVec.apply(input, vec)


@direct(Dot)
def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The scalar product sum_k x_k y_k of two vectors.

    >>> gg.dot(gg.tensor([1.0, 2.0]), gg.tensor([3.0, 4.0]))
    tensor(11.)
    """
    return Dot.apply(input, tensor)


def vdot(input: Tensor, other: Tensor) -> Tensor:
    """The scalar product of two vectors; of real ones, the same as `dot`.

    >>> gg.vdot(gg.tensor([1.0, 2.0]), gg.tensor([3.0, 4.0]))
    tensor(11.)
    """
    return dot(input, other)


class Addmm(Op):
    """z = beta input + alpha x y; input is stretched to the product's shape."""

    autocast = Casts(cpu="lower", gpu="lower")

    def forward(self, input: Tensor, x: Tensor, y: Tensor, beta: Number, alpha: Number, name: str) -> Tensor:
        self.shape, self.beta, self.alpha = input.shape, beta, alpha
        self.save(x, y)
        return core.addmm(name, input, x, y, beta, alpha)

    # d input = beta dz summed over the stretched axes; dx and dy are the product's, by alpha dz.
    def backward(self, dz: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, y = self.saved
        needs = self.needs
        dinput = None
        if needs[0]:
            dinput = unbroadcast(dz, self.shape)
            if self.beta != 1:
                dinput = dinput * self.beta
        if self.alpha != 1:
            dz = dz * self.alpha
        return (dinput, *product_gradients(x, y, dz, needs[1], needs[2]))


class Addmv(Addmm):
    """z = beta input + alpha x y for a matrix x and a vector y."""

    autocast = Casts(gpu="lower")


def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
    """beta input + alpha mat1 mat2, for mat1 (M, K), mat2 (K, N) and an input that broadcasts to (M, N).

    With beta 0 the input is ignored, NaN and all.

    >>> gg.addmm(gg.tensor([1.0]), gg.tensor([[1.0, 2.0]]), gg.tensor([[3.0], [4.0]]), alpha=2)
    tensor([[23.]])
    """
    return Addmm.apply(input, mat1, mat2, beta, alpha, "addmm")


def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
    """beta input + alpha mat vec, for mat (M, K), vec (K,) and an input that broadcasts to (M,).

    >>> gg.addmv(gg.tensor([1.0]), gg.tensor([[1.0, 2.0]]), gg.tensor([3.0, 4.0]))
    tensor([12.])
    """
    return Addmv.apply(input, mat, vec, beta, alpha, "addmv")


def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
    """beta input + alpha batch1 batch2, for (B, M, K), (B, K, N) and an input that broadcasts to (B, M, N).

    >>> gg.baddbmm(gg.tensor([1.0]), gg.ones(2, 1, 3), gg.ones(2, 3, 1)).flatten()
    tensor([4., 4.])
    """
    return Addmm.apply(input, batch1, batch2, beta, alpha, "baddbmm")


def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
    """beta input + alpha sum_b batch1_b batch2_b, for (B, M, K), (B, K, N) and an input that broadcasts to (M, N).

    >>> gg.addbmm(gg.tensor([1.0]), gg.ones(2, 1, 3), gg.ones(2, 3, 1))
    tensor([[7.]])
    """
    if batch1.ndim != 3 or batch2.ndim != 3 or batch1.shape[0] != batch2.shape[0] or batch1.shape[2] != batch2.shape[1]:
        raise core.ShapeError(
            f"addbmm: batch1 {_describe(batch1)} and batch2 {_describe(batch2)} must be (B, M, K) and (B, K, N)"
        )
    b, m, k = batch1.shape
    rows, columns = batch1.transpose(0, 1).reshape((m, b * k)), batch2.reshape((b * k, batch2.shape[2]))
    return addmm(input, rows, columns, beta=beta, alpha=alpha)


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """The outer product z_ij = x_i y_j of two vectors; dtypes promote.

    >>> gg.outer(gg.tensor([1.0, 2.0]), gg.tensor([3.0, 4.0]))
    tensor([[3., 4.],
            [6., 8.]])
    """
    if input.ndim != 1 or vec2.ndim != 1:
        raise core.ShapeError(f"outer: input {_describe(input)} and vec2 {_describe(vec2)} must each have one axis")
    return input.unsqueeze(1) * vec2


def ger(input: Tensor, vec2: Tensor) -> Tensor:
    """The outer product of two vectors, by its BLAS name: `outer`.

    >>> gg.ger(gg.tensor([1.0, 2.0]), gg.tensor([3.0]))
    tensor([[3.],
            [6.]])
    """
    return outer(input, vec2)


@Casts(gpu="lower")
def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
    """beta input + alpha vec1_i vec2_j, for vectors (M,), (N,) and an input that broadcasts to (M, N).

    >>> gg.addr(gg.zeros(2, 1), gg.tensor([1.0, 2.0]), gg.tensor([3.0]), alpha=2)
    tensor([[ 6.],
            [12.]])
    """
    if vec1.ndim != 1 or vec2.ndim != 1:
        raise core.ShapeError(f"addr: vec1 {_describe(vec1)} and vec2 {_describe(vec2)} must each have one axis")
    shape = (vec1.shape[0], vec2.shape[0])
    if input.ndim > 2 or any(n not in (1, s) for n, s in zip(reversed(input.shape), reversed(shape))):
        raise core.ShapeError(f"addr: input {_describe(input)} does not broadcast to the product's shape {shape}")
    product = vec1.unsqueeze(1) * vec2
    if product.dtype is core.bool:
        return product | input if alpha and beta else product if alpha else input.expand(shape).clone()
    if alpha != 1:
        product = product * alpha
    if beta == 0:
        return product.to(core.promote_types(product.dtype, input.dtype))
    return product + (input if beta == 1 else input * beta)


class Linear(Op):
    """y = x W^T + b for x (..., in), W (out, in), b (out)."""

    autocast = Casts(cpu="lower", gpu="lower")
    kernel = core.linear
    saves = ((0, 1), (1, 0))

    # With all leading axes as rows, y = x W^T + b: dx = dy W, dW = dy^T x, db = the sum of dy's rows.
    def backward(self, dy: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = self.saved
        needs = self.needs
        dx = dweight = dbias = None
        if needs[0]:
            dx = dy @ weight
        rows = _rows(dy)
        if needs[1]:
            dweight = transposed_times(rows, _rows(x))
        if needs[2]:
            dbias = rows.sum(0)
        return dx, dweight, dbias


@direct(Linear, 3, core.linear_fits)
def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x W^T + b, the layer of `nn.Linear`.

    Shapes: input (..., in), weight (out, in) or (in,), bias (out,) or none; the result is (..., out), or (...) for a
    weight of one axis. All of one dtype.

    >>> F.linear(gg.tensor([1.0, 2.0]), gg.tensor([[1.0, 0.0], [1.0, 1.0]]), gg.tensor([0.5, 0.5]))
    tensor([1.5000, 3.5000])
    """
    fits = core.linear_fits(input, weight, bias)
    return Linear.apply(input, weight, bias) if fits else _linear_in_parts(input, weight, bias)


@Casts(cpu="lower", gpu="lower")
def _linear_in_parts(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """linear with a weight of one axis, or a bias that broadcasts."""
    product = matmul(input, weight) if weight.ndim == 1 else Linear.apply(input, weight, None)
    if bias is not None and weight.ndim != 1 and bias.ndim > product.ndim:
        raise core.ShapeError(f"linear: bias {_describe(bias)} must be ({weight.shape[0]},)")
    return product if bias is None else product + bias


@Casts(cpu="widest", gpu="widest")
def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y_o = x1^T W_o x2 + b_o for input1 (..., in1), input2 (..., in2), weight (out, in1, in2), bias (out,).

    >>> F.bilinear(gg.tensor([[1.0, 2.0]]), gg.tensor([[3.0]]), gg.ones(1, 2, 1))
    tensor([[9.]])
    """
    fits = (
        weight.ndim == 3
        and input1.ndim >= 1
        and input1.shape[:-1] == input2.shape[:-1]
        and input1.shape[-1:] == weight.shape[1:2]
        and input2.shape[-1:] == weight.shape[2:3]
        and (bias is None or bias.shape == weight.shape[:1])
    )
    if not fits:
        given = f"input1 {_describe(input1)}, input2 {_describe(input2)} and weight {_describe(weight)}"
        if bias is not None:
            given += f" with bias {_describe(bias)}"
        raise core.ShapeError(f"bilinear: {given} must be (..., in1), (..., in2), (out, in1, in2) and (out,)")
    out, in1, in2 = weight.shape
    y = _rows(input1) @ weight.transpose(0, 1).reshape((in1, out * in2))
    y = y.reshape((y.shape[0], out, in2)) @ _rows(input2).unsqueeze(2)
    y = y.reshape((*input1.shape[:-1], out))
    return y if bias is None else y + bias


def inner(input: Tensor, other: Tensor) -> Tensor:
    """The scalar products of all last axes, z_{i..j..} = sum_k x_{i..k} y_{j..k}; a 0-d operand multiplies.

    >>> gg.inner(gg.tensor([[1.0, 2.0], [3.0, 4.0]]), gg.tensor([1.0, 1.0]))
    tensor([3., 7.])
    """
    if input.ndim == 0 or other.ndim == 0:
        return input * other
    if input.shape[-1] != other.shape[-1]:
        raise core.ShapeError(
            f"inner: input {_describe(input)} and other {_describe(other)}: the last axes differ, "
            f"{input.shape[-1]} and {other.shape[-1]}"
        )
    if input.ndim == 1 and other.ndim == 1:
        return dot(input, other)
    return tensordot(input, other, ([-1], [-1]))


@Casts(gpu="widest")
def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Sums the products of a and b over pairs of axes; the other axes stay, a's first.

    `dims` is a number n (the last n axes of a with the first n of b) or two lists of axes, paired in order, or a tensor
    of either; paired axes have the same size, or one of them size 1.

    >>> gg.tensordot(gg.ones(2, 3), gg.ones(3, 4), dims=1)
    tensor([[3., 3., 3., 3.],
            [3., 3., 3., 3.]])
    """
    if hasattr(dims, "tolist"):
        dims = dims.tolist() if dims.numel() > 1 else int(dims.item())
    if isinstance(dims, int):
        if dims < 0 or dims > min(a.ndim, b.ndim):
            raise core.ShapeError(
                f"tensordot: dims {dims} must lie between 0 and the axes of {_describe(a)} and {_describe(b)}"
            )
        of_a, of_b = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    else:
        of_a, of_b = ([d] if isinstance(d, int) else list(d) for d in dims)
    if len(of_a) != len(of_b):
        raise core.ShapeError(f"tensordot: dims pair {len(of_a)} axes of a with {len(of_b)} axes of b")
    of_a = [_axis("tensordot", d, a) for d in of_a]
    of_b = [_axis("tensordot", d, b) for d in of_b]
    if len(set(of_a)) != len(of_a) or len(set(of_b)) != len(of_b):
        raise core.ShapeError(f"tensordot: an axis appears twice in dims {of_a}, {of_b}")
    for i, j in zip(of_a, of_b):
        if a.shape[i] != b.shape[j]:
            if 1 not in (a.shape[i], b.shape[j]):
                raise core.ShapeError(
                    f"tensordot: a {_describe(a)} and b {_describe(b)}: axis {i} of a has {a.shape[i]} elements "
                    f"and axis {j} of b has {b.shape[j]}"
                )
            if a.shape[i] == 1:
                b = b.sum(j, keepdim=True, dtype=b.dtype)
            else:
                a = a.sum(i, keepdim=True, dtype=a.dtype)
    rest_a = [i for i in range(a.ndim) if i not in of_a]
    rest_b = [j for j in range(b.ndim) if j not in of_b]
    shape = [a.shape[i] for i in rest_a] + [b.shape[j] for j in rest_b]
    k = math.prod(a.shape[i] for i in of_a)
    x = a.permute(rest_a + of_a).reshape((math.prod(a.shape[i] for i in rest_a), k))
    y = b.permute(of_b + rest_b).reshape((k, math.prod(b.shape[j] for j in rest_b)))
    return (x @ y).reshape(shape)


def kron(input: Tensor, other: Tensor) -> Tensor:
    """The Kronecker product: every element of input times the whole of other, block by block.

    An operand of fewer axes gets leading axes of size 1; dtypes promote.

    >>> gg.kron(gg.tensor([1.0, 10.0]), gg.tensor([1.0, 2.0]))
    tensor([ 1.,  2., 10., 20.])
    """
    n = max(input.ndim, other.ndim)
    x_shape = (1,) * (n - input.ndim) + tuple(input.shape)
    y_shape = (1,) * (n - other.ndim) + tuple(other.shape)
    x = input.reshape([s for size in x_shape for s in (size, 1)])
    y = other.reshape([s for size in y_shape for s in (1, size)])
    return (x * y).reshape([p * q for p, q in zip(x_shape, y_shape)])


def multi_dot(tensors: Sequence[Tensor], *, out: None = None) -> Tensor:
    """The product of two matrices or more, in the order that takes the fewest multiplications.

    The first may be a row and the last a column, given as vectors. The order is found by dynamic programming over
    intervals (Cormen, Leiserson, Rivest and Stein, "Introduction to Algorithms", 15.2).

    >>> gg.linalg.multi_dot([gg.ones(1, 2), gg.ones(2, 3), gg.ones(3, 1)])
    tensor([[6.]])
    """
    chain = list(tensors)
    n = len(chain)
    given = ", ".join(map(_describe, chain))
    if n < 2:
        raise core.ShapeError(f"multi_dot: takes two tensors or more, got {n}")
    if any(x.ndim != 2 for x in chain[1:-1]) or any(x.ndim not in (1, 2) for x in (chain[0], chain[-1])):
        raise core.ShapeError(f"multi_dot: tensors {given} must be matrices; the first and the last may be vectors")
    row, column = chain[0].ndim == 1, chain[-1].ndim == 1
    if row:
        chain[0] = chain[0].unsqueeze(0)
    if column:
        chain[-1] = chain[-1].unsqueeze(1)
    for x, y in itertools.pairwise(chain):
        if x.shape[1] != y.shape[0]:
            raise core.ShapeError(f"multi_dot: tensors {given}: inner dimensions {x.shape[1]} and {y.shape[0]} differ")
    sizes = [x.shape[0] for x in chain] + [chain[-1].shape[1]]
    cost = {(i, i): 0 for i in range(n)}
    cut: dict[tuple[int, int], int] = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            cost[i, j], cut[i, j] = min(
                (cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j)
            )

    def product(i: int, j: int) -> Tensor:
        return chain[i] if i == j else product(i, cut[i, j]) @ product(cut[i, j] + 1, j)

    shape = [] if row else [sizes[0]]
    return product(0, n - 1).reshape(shape if column else [*shape, sizes[-1]])


@Casts(gpu="lower")
def chain_matmul(*matrices: Tensor) -> Tensor:
    """The product of several matrices in the cheapest order: `gg.linalg.multi_dot`.

    >>> gg.chain_matmul(gg.ones(1, 2), gg.ones(2, 3), gg.ones(3, 1))
    tensor([[6.]])
    """
    if len(matrices) == 1 and isinstance(matrices[0], (list, tuple)):
        matrices = tuple(matrices[0])
    return matrices[0] if len(matrices) == 1 else multi_dot(matrices)


class Inverse(Op):
    """Y = A^-1."""

    autocast = Casts(cpu="float32")

    def forward(self, a: Tensor) -> Tensor:
        y = core.inverse(a)
        self.save(y)
        return y

    # A Y = I, so dA Y + A dY = 0 and dY = -Y dA Y: the gradient by A is -Y^T (gradient by Y) Y^T.
    def backward(self, dy: Tensor) -> Tensor:
        (y,) = self.saved
        return -times_transposed(transposed_times(y, dy), y)


def inv(A: Tensor) -> Tensor:
    """The inverses of square matrices (..., N, N) in float32 or float64, computed in float64.

    Raises RuntimeError where a matrix is singular.

    >>> gg.linalg.inv(gg.tensor([[2.0, 0.0], [0.0, 4.0]]))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.2500]])
    """
    return Inverse.apply(A)


def matrix_power(input: Tensor, n: int) -> Tensor:
    """The n-th power of square matrices (..., M, M) by repeated squaring; n = 0 gives the identity, n < 0 powers of the
    inverse.

    >>> gg.matrix_power(gg.tensor([[1.0, 1.0], [0.0, 1.0]]), 5)
    tensor([[1., 5.],
            [0., 1.]])
    """
    if input.ndim < 2 or input.shape[-1] != input.shape[-2]:
        raise core.ShapeError(f"matrix_power: input {_describe(input)} must hold square matrices")
    if n < 0:
        return matrix_power(inv(input), -n)
    power: Tensor | None = None
    square = input
    while n:
        if n & 1:
            power = square if power is None else power @ square
        n >>= 1
        if n:
            square = square @ square
    if power is None:
        m = input.shape[-1]
        below = input.new_ones((m, m)).tril()
        return input.masked_fill(input.new_ones((), dtype=core.bool), 0.0) + (below - below.tril(-1))
    return power.clone() if power is input else power


def cov(
    input: Tensor, *, correction: int = 1, fweights: Tensor | None = None, aweights: Tensor | None = None
) -> Tensor:
    """The covariance matrix of variables in rows, C_ij = sum_n w_n (x_in - m_i)(x_jn - m_j) / norm.

    m is the weighted mean; w = fweights * aweights. norm is sum w - correction without aweights, else
    sum w - correction * (sum w aweights) / (sum w).

    >>> gg.cov(gg.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]))
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    if input.ndim > 2:
        raise core.ShapeError(f"cov: input {_describe(input)} must have two axes or fewer")
    x = input.reshape((1, -1)) if input.ndim < 2 else input
    n = x.shape[1]
    for name, weights in (("fweights", fweights), ("aweights", aweights)):
        if weights is not None and (weights.ndim > 1 or weights.numel() != n):
            raise core.ShapeError(f"cov: {name} {_describe(weights)} must have one weight per column of {_describe(x)}")
    w = fweights if aweights is None else aweights if fweights is None else fweights * aweights
    total: Any = n if w is None else w.sum()
    mean = x.sum(1, keepdim=True) / n if w is None else (x * w).sum(1, keepdim=True) / total
    norm = total - correction
    if aweights is not None and w is not None and correction:
        norm = total - correction * (w * aweights).sum() / total
    x = x - mean
    c = x @ (x if w is None else x * w).mT
    c = c / (max(norm, 0) if w is None else norm.clamp(min=0))
    return c.squeeze()


def corrcoef(input: Tensor) -> Tensor:
    """The matrix of correlation coefficients of variables in rows, C_ij / sqrt(C_ii C_jj) with C = cov(input).

    >>> gg.corrcoef(gg.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]))
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    c = cov(input)
    if c.ndim == 0:
        return c / c
    deviation = c.diagonal().sqrt()
    return (c / deviation.unsqueeze(1) / deviation).clamp(-1, 1)


@numpy_names
@Casts(cpu="lower", gpu="lower")
def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """The scalar products sum_k x_k y_k along one axis; the others broadcast.

    >>> gg.linalg.vecdot(gg.tensor([[1.0, 2.0], [3.0, 4.0]]), gg.tensor([1.0, 1.0]))
    tensor([3., 7.])
    """
    return (x * y).sum(dim)


@numpy_names
@Casts(gpu="widest")
def cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """The vector product along an axis of 3 elements, z_i = x_{i+1} y_{i+2} - x_{i+2} y_{i+1}, indices modulo 3.

    `dim` None takes the first axis of size 3. The other axes broadcast.

    >>> gg.cross(gg.tensor([1.0, 0.0, 0.0]), gg.tensor([0.0, 1.0, 0.0]))
    tensor([0., 0., 1.])
    """
    if dim is None:
        dim = next((i for i, n in enumerate(input.shape) if n == 3), None)
        if dim is None:
            raise core.ShapeError(f"cross: input {_describe(input)} has no axis of 3 elements")
        dim -= input.ndim
    if input.ndim != other.ndim:
        raise core.ShapeError(f"cross: input {_describe(input)} and other {_describe(other)} must have as many axes")
    dim = _axis("cross", dim, input)
    if input.shape[dim] != 3 or other.shape[dim] != 3:
        raise core.ShapeError(
            f"cross: input {_describe(input)} and other {_describe(other)}: axis {dim} must have 3 elements in both"
        )
    return input.roll(-1, dim) * other.roll(-2, dim) - input.roll(-2, dim) * other.roll(-1, dim)


@numpy_names
def linalg_cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """The vector product along `dim`, the last axis unless given: `cross`, as `gg.linalg.cross`.

    >>> gg.linalg.cross(gg.tensor([1.0, 0.0, 0.0]), gg.tensor([0.0, 1.0, 0.0]))
    tensor([0., 0., 1.])
    """
    return cross(input, other, dim)


def _axis(op: str, dim: int, x: Tensor) -> int:
    if not -x.ndim <= dim < max(x.ndim, 1):
        raise IndexError(f"{op}: dim {dim} is out of range for {_describe(x)}")
    return dim % x.ndim if x.ndim else 0


def _describe(x: Tensor) -> str:
    return f"{tuple(x.shape)} {str(x.dtype).rpartition('.')[2]}"


# einsum


@Casts(gpu="lower")
def einsum(equation: str, *operands: Any) -> Tensor:
    """Sums of products in Einstein's notation: one letter per axis, letters missing from the result are summed over.

    `"ij,jk->ik"` is the matrix product, `"ii->i"` the diagonal, `"...ij->...ji"` a transpose. Without `->` the result
    has, in alphabetical order, the letters that appear once. `...` stands for the axes a term does not name; they
    broadcast. Also takes axis numbers: `einsum(x, [0, 1], y, [1, 2], [0, 2])`. Contracts from left to right, each
    pair by one batched product, as numpy.einsum(optimize=False) orders them. Raises ShapeError where terms and shapes
    clash.

    >>> gg.einsum("ij,j->i", gg.tensor([[1.0, 2.0], [3.0, 4.0]]), gg.tensor([1.0, 1.0]))
    tensor([3., 7.])
    """
    if not isinstance(equation, str):
        equation, operands = _from_sublists((equation, *operands))
    elif len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    terms, result = _parse_einsum(equation, operands)

    sizes: dict[str, int] = {}
    for term, x in zip(terms, operands):
        for label, n in zip(term, x.shape):
            known = sizes.get(label, 1)
            if n != known and n != 1 and known != 1:
                raise core.ShapeError(
                    f"einsum: {equation}: {_name(label)} has size {known} in one operand and {n} in {_describe(x)}"
                )
            sizes[label] = n if known == 1 else known
    pending = [_diagonals(x, term) for x, term in zip(operands, terms)]
    x, labels = pending.pop(0)
    while pending:
        y, y_labels = pending.pop(0)
        later = set(result).union(*(term for _, term in pending))
        x, labels = _contract(x, labels, y, y_labels, later)
    gone = [i for i, label in enumerate(labels) if label not in result]
    if gone:
        x = x.sum(gone, dtype=x.dtype)
        labels = [label for label in labels if label in result]
    return x.permute([labels.index(label) for label in result]) if labels != result else x


def _from_sublists(arguments: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """The equation of einsum(x, [0, 1], y, [1, 2], [0, 2]); axis numbers below 52 are letters."""

    def letters(axes: Sequence[Any]) -> str:
        for a in axes:
            if a is not Ellipsis and not 0 <= a < 52:
                raise core.ShapeError(f"einsum: axis number {a} must lie in [0, 52)")
        return "".join("..." if a is Ellipsis else chr(65 + a) if a < 26 else chr(71 + a) for a in axes)

    pairs = len(arguments) // 2
    equation = ",".join(letters(arguments[2 * i + 1]) for i in range(pairs))
    if len(arguments) % 2:
        equation += "->" + letters(arguments[-1])
    return equation, arguments[: 2 * pairs : 2]


def _name(label: str) -> str:
    return f"index {label}" if label.isalpha() else "an axis of ..."


def _parse_einsum(equation: str, operands: Sequence[Tensor]) -> tuple[list[list[str]], list[str]]:
    """One label per axis of the operands and of the result; axes of `...` are labelled "0", "1", ... from the right."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(operands) or not operands:
        raise core.ShapeError(f"einsum: {equation}: {len(terms)} terms for {len(operands)} operands")
    rest = 0
    labelled = []
    for term, x in zip(terms, operands):
        before, dots, after = term.partition("...")
        letters = before + after
        if not all(c.isascii() and c.isalpha() for c in letters):
            raise core.ShapeError(f"einsum: {equation}: the term {term!r} may hold letters and one ... only")
        extra = x.ndim - len(letters)
        if extra < 0 or (extra > 0 and not dots):
            raise core.ShapeError(
                f"einsum: {equation}: the term {term!r} names {len(letters)} axes of operand {_describe(x)}"
            )
        rest = max(rest, extra)
        labelled.append([*before, *[str(i) for i in range(extra - 1, -1, -1)], *after])
    dotted = [str(i) for i in range(rest - 1, -1, -1)]
    if not arrow:
        every = [label for labels in labelled for label in labels if label.isalpha()]
        return labelled, dotted + sorted(c for c in set(every) if every.count(c) == 1)
    before, dots, after = right.partition("...")
    result = [*before, *(dotted if dots else []), *after]
    for label in result:
        if not label.isalnum() or not any(label in labels for labels in labelled) or result.count(label) > 1:
            raise core.ShapeError(
                f"einsum: {equation}: {label!r} in the result must appear there once and in some operand"
            )
    return labelled, result


def _diagonals(x: Tensor, term: Sequence[str]) -> tuple[Tensor, list[str]]:
    """x with each label once: the diagonal over axes that share one, which goes last."""
    labels = list(term)
    while len(set(labels)) < len(labels):
        label = next(c for c in labels if labels.count(c) > 1)
        i = labels.index(label)
        j = labels.index(label, i + 1)
        if x.shape[i] != x.shape[j]:
            raise core.ShapeError(
                f"einsum: index {label} has sizes {x.shape[i]} and {x.shape[j]} in operand {_describe(x)}"
            )
        x = x.diagonal(0, i, j)
        del labels[j], labels[i]
        labels.append(label)
    return x, labels


def _arranged(x: Tensor, labels: list[str], wanted: list[str]) -> Tensor:
    return x if labels == wanted else x.permute([labels.index(c) for c in wanted])


def _contract(x: Tensor, x_term: list[str], y: Tensor, y_term: list[str], later: set[str]) -> tuple[Tensor, list[str]]:
    """The product of two terms, summed over every label that nothing later needs."""
    x_labels, y_labels = list(x_term), list(y_term)
    for c in x_term:  # an axis of size 1 that the other operand has as well is only stretched along it
        if c in y_labels and y.shape[y_labels.index(c)] == 1:
            y = y.squeeze(y_labels.index(c))
            y_labels.remove(c)
        elif c in y_labels and x.shape[x_labels.index(c)] == 1:
            x = x.squeeze(x_labels.index(c))
            x_labels.remove(c)
    x_sums = [i for i, c in enumerate(x_labels) if c not in y_labels and c not in later]
    y_sums = [i for i, c in enumerate(y_labels) if c not in x_labels and c not in later]
    if x_sums:
        x = x.sum(x_sums, dtype=x.dtype)  # which for whole numbers would be int64
        x_labels = [c for i, c in enumerate(x_labels) if i not in x_sums]
    if y_sums:
        y = y.sum(y_sums, dtype=y.dtype)
        y_labels = [c for i, c in enumerate(y_labels) if i not in y_sums]

    sizes = {**dict(zip(y_labels, y.shape)), **dict(zip(x_labels, x.shape))}
    batch = [c for c in x_labels if c in y_labels and c in later]
    inner = [c for c in x_labels if c in y_labels and c not in later]
    rows = [c for c in x_labels if c not in y_labels]
    columns = [c for c in y_labels if c not in x_labels]
    shape = [sizes[c] for c in batch + rows + columns]
    if not inner:  # nothing to sum: an elementwise product
        x = _arranged(x, x_labels, batch + rows).reshape(shape[: len(batch + rows)] + [1] * len(columns))
        y = _arranged(y, y_labels, batch + columns)
        y = y.reshape([sizes[c] for c in batch] + [1] * len(rows) + [sizes[c] for c in columns])
        return x * y, batch + rows + columns

    def size(group: list[str]) -> int:
        return math.prod(sizes[c] for c in group)

    lead = [size(batch)] if batch else []
    x = _arranged(x, x_labels, batch + rows + inner).reshape([*lead, size(rows), size(inner)])
    y = _arranged(y, y_labels, batch + inner + columns).reshape([*lead, size(inner), size(columns)])
    return (x @ y).reshape(shape), batch + rows + columns


# Distances


class Cdist(Op):
    """d_ij = (sum_t |x_it - y_jt|^p)^(1/p). Saves x, y and d."""

    autocast = Casts(cpu="float32", gpu="float32")

    def forward(self, x: Tensor, y: Tensor, p: float) -> Tensor:
        self.p = p
        d = core.cdist_forward(x, y, p)
        self.save(x, y, d)
        return d

    # d_ij^p = sum_t |x_it - y_jt|^p, so d d_ij / d x_it = sign(x_it - y_jt) (|x_it - y_jt| / d_ij)^(p - 1), taken as
    # 0 where d_ij = 0; p = 1 gives the sign, p = inf the sign at the largest coordinate. By y_jt the same with the
    # sign turned.
    def backward(self, dd: Tensor) -> tuple[Tensor | None, ...]:
        x, y, d = self.saved
        if recording():
            return composite_backward(cdist_composite, (x, y, self.p), dd, self.needs)
        needs = self.needs
        dx = unbroadcast(core.cdist_backward(dd, x, y, d, self.p, False), x.shape) if needs[0] else None
        dy = unbroadcast(core.cdist_backward(dd, y, x, d, self.p, True), y.shape) if needs[1] else None
        return dx, dy


def cdist_composite(x: Tensor, y: Tensor, p: float) -> Tensor:
    """cdist in ordinary ops."""
    size = (x.unsqueeze(-2) - y.unsqueeze(-3)).abs()
    if p == 0:
        return (size != 0).sum(-1).to(x.dtype)
    if p == math.inf:
        return size.amax(-1)
    if p == 1:
        return size.sum(-1)
    total = (size * size if p == 2 else size**p).sum(-1)
    gone = total == 0  # the root's slope at 0 is infinite; the distance's is taken as 0
    return (total.masked_fill(gone, 1.0) ** (1 / p)).masked_fill(gone, 0.0)


def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str | int | None = None) -> Tensor:
    """The p-norm distance of every row of x1 from every row of x2, d_ij = (sum_t |x_it - y_jt|^p)^(1/p).

    Shapes: x1 (..., M, T), x2 (..., N, T), batch axes broadcast; the result is (..., M, N). p >= 0; 0 counts the
    coordinates that differ. Differences are taken before squares, so nothing cancels; `compute_mode` is accepted for
    PyTorch's sake.

    >>> gg.cdist(gg.tensor([[0.0, 0.0]]), gg.tensor([[3.0, 4.0], [0.0, 1.0]]))
    tensor([[5., 1.]])
    """
    modes = (None, "use_mm_for_euclid_dist_if_necessary", "use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist")
    if compute_mode not in (*modes, 0, 1, 2):
        raise ValueError(f"cdist: compute_mode {compute_mode!r} is none of {modes[1:]}")
    return Cdist.apply(x1, x2, float(p))


@Casts(gpu="float32")
def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """The p-norm distances between every two rows of a matrix (N, T), as a vector of N (N - 1) / 2: (0, 1), (0, 2), ...

    >>> F.pdist(gg.tensor([[0.0], [1.0], [3.0]]))
    tensor([1., 3., 2.])
    """
    if input.ndim != 2:
        raise core.ShapeError(f"pdist: input {_describe(input)} must have two axes")
    n = input.shape[0]
    return cdist(input, input, p)[input.new_ones((n, n), dtype=core.bool).triu(1)]
