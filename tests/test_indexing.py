"""Index expressions at random: reading, views, assignment and their gradients, against PyTorch and numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import glassgrad as gg

torch = pytest.importorskip("torch")

DTYPES = ["float64", "float32", "float16", "bfloat16", "uint8", "int8", "int16", "int32", "int64", "bool"]


def pair(array: np.ndarray, dtype: str) -> tuple[Any, Any]:
    array = np.array(array)
    t = torch.from_numpy(array.copy()).to(getattr(torch, dtype))
    return gg.from_numpy(array.copy()).to(getattr(gg, dtype)), t


def same(ours: Any, theirs: Any) -> None:
    assert tuple(ours.shape) == tuple(theirs.shape)
    assert str(ours.dtype).rsplit(".", 1)[-1] == str(theirs.dtype).rsplit(".", 1)[-1]
    ours, theirs = ours.detach(), theirs.detach()
    if theirs.dtype == torch.bfloat16:
        ours, theirs = ours.float(), theirs.float()
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def basic_item(size: int) -> st.SearchStrategy[Any]:
    bound = st.one_of(st.none(), st.integers(-size - 2, size + 2))
    return st.one_of(
        st.integers(-size, size - 1) if size else st.just(slice(None)),
        st.builds(slice, bound, bound, st.one_of(st.none(), st.integers(1, 3))),
    )


@st.composite
def expressions(draw: Any, advanced: bool = True) -> tuple[tuple[int, ...], list[Any]]:
    """A shape and an index expression; index arrays are numpy's, to be made each library's own."""
    shape = tuple(draw(st.lists(st.integers(0 if draw(st.booleans()) else 1, 5), min_size=0, max_size=4)))
    key: list[Any] = []
    axis = 0
    common = draw(st.sampled_from([(), (1,), (3,), (2, 3)]))  # what index arrays broadcast to
    single = common == ()  # a mask or a bool sets it
    while axis < len(shape):
        kind = draw(st.sampled_from(["basic", "basic", "none", "ellipsis", "index", "mask", "bool", "stop"]))
        if kind == "stop":
            break
        if kind == "basic":
            key.append(draw(basic_item(shape[axis])))
            axis += 1
        elif kind == "none":
            key.append(None)
        elif kind == "ellipsis" and Ellipsis not in [k for k in key if not isinstance(k, np.ndarray)]:
            skipped = draw(st.integers(0, len(shape) - axis))
            rest = len(shape) - axis - skipped
            key.append(Ellipsis)
            axis = len(shape) - rest
            while axis < len(shape):  # after an ellipsis every axis is named
                key.append(draw(basic_item(shape[axis])))
                axis += 1
        elif kind == "index" and advanced and shape[axis] and common != (0,):
            shape_of_index = common[draw(st.integers(0, len(common))) :]
            values = draw(
                st.lists(
                    st.integers(-shape[axis], shape[axis] - 1),
                    min_size=int(np.prod(shape_of_index)),
                    max_size=int(np.prod(shape_of_index)),
                )
            )
            key.append(np.array(values, dtype=draw(st.sampled_from([np.int64, np.int32]))).reshape(shape_of_index))
            axis += 1
        elif kind == "mask" and advanced and single:
            n = draw(st.integers(1, min(2, len(shape) - axis)))
            size = int(np.prod(shape[axis : axis + n]))
            bits = draw(st.lists(st.booleans(), min_size=size, max_size=size))
            key.append(np.array(bits, dtype=bool).reshape(shape[axis : axis + n]))
            axis += n
            common, single = (sum(bits),), False
        elif kind == "bool" and advanced and single:
            key.append(draw(st.booleans()))
            common, single = (int(key[-1]),), False
    return shape, key


def as_key(key: list[Any], library: Any, as_list: bool = False) -> Any:
    def convert(k: Any) -> Any:
        if isinstance(k, np.ndarray):
            return k.tolist() if as_list and k.ndim == 1 and k.size else library.from_numpy(k.copy())
        return k

    return tuple(convert(k) for k in key)


def numbers(shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray((np.arange(int(np.prod(shape)), dtype=np.float64).reshape(shape) * 7 % 31) - 9)


@settings(max_examples=300, deadline=None)
@given(expressions(), st.sampled_from(DTYPES), st.booleans(), st.booleans())
def test_reading(case: Any, dtype: str, strided: bool, as_list: bool) -> None:
    shape, key = case
    ours, theirs = pair(numbers(shape), dtype)
    if strided and len(shape) > 1:
        ours, theirs = (
            ours.movedim(0, -1).contiguous().movedim(-1, 0),
            theirs.movedim(0, -1).contiguous().movedim(-1, 0),
        )
    expected = theirs[as_key(key, torch, as_list)]
    same(ours[as_key(key, gg, as_list)], expected)


@settings(max_examples=150, deadline=None)
@given(expressions(advanced=False))
def test_basic_reading_is_numpys_and_a_view(case: Any) -> None:
    shape, key = case
    array = numbers(shape)
    ours = gg.from_numpy(array.copy())
    view = ours[tuple(key)]
    np.testing.assert_array_equal(view.numpy(), array[tuple(key)])
    if view.numel():
        before = ours._version
        view.fill_(100)
        assert ours._version > before
        array[tuple(key)] = 100
        np.testing.assert_array_equal(ours.numpy(), array)


@settings(max_examples=300, deadline=None)
@given(expressions(), st.sampled_from(DTYPES), st.sampled_from(["number", "0-d", "row", "full"]), st.data())
def test_assignment(case: Any, dtype: str, kind: str, data: Any) -> None:
    shape, key = case
    ours, theirs = pair(numbers(shape), dtype)
    region = theirs[as_key(key, torch)]
    places = torch.arange(theirs.numel()).reshape(theirs.shape)[as_key(key, torch)]
    if places.unique().numel() != places.numel():  # which of two writes to one place stays is nobody's promise
        kind = "number"
    value_shape = {"number": (), "0-d": (), "row": tuple(region.shape[-1:]), "full": tuple(region.shape)}[kind]
    value = numbers(value_shape) + 3
    if kind == "number":
        ours[as_key(key, gg)] = 5
        theirs[as_key(key, torch)] = 5
    else:
        mine, other = pair(
            value,
            data.draw(st.sampled_from([dtype, "float32"]))
            if not any(isinstance(k, (np.ndarray, bool)) for k in key)
            else dtype,
        )
        ours[as_key(key, gg)] = mine
        theirs[as_key(key, torch)] = other
    same(ours, theirs)


@settings(max_examples=150, deadline=None)
@given(expressions(), st.sampled_from(["row", "full"]), st.booleans())
def test_gradients(case: Any, kind: str, add: bool) -> None:
    """Of a read, and of both operands of an assignment (or of +=) to a value that has a history."""
    shape, key = case
    ours, theirs = pair(numbers(shape), "float64")
    region = theirs[as_key(key, torch)]
    places = torch.arange(theirs.numel()).reshape(theirs.shape)[as_key(key, torch)]
    if places.unique().numel() != places.numel() or places.numel() == 0:
        return
    value_shape = tuple(region.shape[-1:]) if kind == "row" else tuple(region.shape)
    v, w = pair(numbers(value_shape) + 3, "float64")
    results = []
    for library, x, value in ((gg, ours, v), (torch, theirs, w)):
        x.requires_grad_()
        value.requires_grad_()
        y = x * 2
        k = as_key(key, library)
        if add:
            y[k] += value
        else:
            y[k] = value
        z = y * y
        picked = z[k]
        loss = (picked * picked).sum() + z.sum()
        dx, dv = library.autograd.grad(loss, (x, value), create_graph=True)
        ddx, ddv = library.autograd.grad((dx * dx).sum() + (dv * dv).sum(), (x, value), allow_unused=True)
        results.append([y, dx, dv, ddx, ddv])
    for mine, other in zip(*results):
        a, b = (0.0 if g is None else g.detach().numpy() for g in (mine, other))  # None: no gradient
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_numpys_scalars_and_ranges() -> None:
    x = gg.arange(12).reshape(3, 4)
    assert x[np.int64(1), np.int32(2)].item() == 6
    assert x[range(2)].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert x[np.array([True, False, True])].tolist() == [[0, 1, 2, 3], [8, 9, 10, 11]]
    assert tuple(x[np.bool_(True)].shape) == (1, 3, 4)
    assert x[[]].tolist() == []
    assert x[gg.tensor([1, 0, 1], dtype=gg.uint8)].tolist() == [[0, 1, 2, 3], [8, 9, 10, 11]]
    x[1] = [9, 9, 9, 9]
    x[2] = np.array([1, 2, 3, 4])
    assert x[1:].tolist() == [[9, 9, 9, 9], [1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (5, IndexError, r"index 5 is out of bounds for axis 0 of x \(3, 4\) int64, which has size 3"),
        ((0, -5), IndexError, "index -5 is out of bounds for axis 1"),
        ((0, 0, 0), IndexError, "too many indices"),
        ((Ellipsis, Ellipsis), IndexError, "single ellipsis"),
        (slice(None, None, -1), ValueError, "step -1 on axis 0 must be positive"),
        (slice(None, None, 0), ValueError, "must be positive"),
        (slice(0.5), TypeError, "slice bounds"),
        (1.5, IndexError, "valid indices, not float"),
        ("a", IndexError, "valid indices, not str"),
        ([0.5], IndexError, "must be integers or bool"),
        ([0, 3], IndexError, "index 3 is out of bounds for axis 0"),
        ((slice(None), [0, -5]), IndexError, "index -5 is out of bounds for axis 1"),
        (([0, 1], [0, 1, 2]), IndexError, r"\(2,\), \(3,\) do not broadcast"),
        ([True, False], IndexError, r"mask \(2,\) does not match"),
    ],
)
def test_bad_keys(key: Any, error: type[Exception], message: str) -> None:
    x = gg.arange(12).reshape(3, 4)
    with pytest.raises(error, match=message):
        x[key]
    with pytest.raises(error, match=message):
        x[key] = 1
    assert x.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]  # nothing was written


def test_a_value_that_does_not_fit() -> None:
    x = gg.zeros(3, 4)
    with pytest.raises(gg.ShapeError, match=r"value \(3,\) float32 does not broadcast to the indexed shape \(2, 4\)"):
        x[1:] = gg.ones(3)
    with pytest.raises(gg.ShapeError, match="does not broadcast"):
        x[[0, 1]] = gg.ones(3)


def test_assignment_reads_its_value_before_it_writes() -> None:
    x = gg.arange(6)
    x[1:] = x[:-1]
    assert x.tolist() == [0, 0, 1, 2, 3, 4]
    x[[0, 1, 2]] = x[3:]
    assert x.tolist() == [2, 3, 4, 2, 3, 4]


def test_leaves_and_saved_values_are_guarded() -> None:
    x = gg.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf"):
        x[0] = 1
    y = x * 1
    z = y * y
    y[0] = 5
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()
    with gg.no_grad():
        x[0] = 4
    assert x.tolist() == [4, 1, 1]


def test_scatter_adds_are_the_same_for_any_number_of_threads() -> None:
    rng = np.random.default_rng(0)
    index = gg.from_numpy(rng.integers(0, 1000, 200_000))
    source = gg.from_numpy(rng.standard_normal((200_000, 3)).astype(np.float32))
    before = gg.get_num_threads()
    results = []
    for threads in (1, 2, 5):
        gg.set_num_threads(threads)
        results.append(gg.zeros(1000, 3).index_add(0, index, source).numpy())
    gg.set_num_threads(before)
    assert all(np.array_equal(results[0], r) for r in results[1:])
    in_order = np.zeros((1000, 3), np.float32)
    np.add.at(in_order, index.numpy(), source.numpy())
    np.testing.assert_array_equal(results[0], in_order)


# What each program returns must agree between libraries: tensors changed in place, and gradients.


def into_a_constant(L: Any, w: Any) -> list[Any]:
    x = L.zeros(3, 4, dtype=L.float64)
    x[[0, 2], 1] = w[0, :2] * 2
    x[1][2] = w[1, 1]
    x[L.tensor([[True, False, False, True]] * 3)] = w[1, 0]
    (x * x).sum().backward()
    return [x, w.grad]


def through_views(L: Any, w: Any) -> list[Any]:
    y = w * 1
    y[:, 1:] += y[:, :1]
    first = y[0]
    y[1] = first
    first *= 2
    y.T[2, 0] = w[0, 0]
    y[y > 6] = 0
    (y * y).sum().backward()
    return [first, y, w.grad]


def onto_itself(L: Any, w: Any) -> list[Any]:
    y = w * 1
    y[:] = y.flip(1)
    y[...] = y * 2
    y[0, :2] = y[1, 1:]
    (y * w).sum().backward()
    return [y, w.grad]


def by_name(L: Any, w: Any) -> list[Any]:
    y = w * 1
    y.index_add_(0, L.tensor([0, 0]), w)
    y.scatter_(1, L.tensor([[2], [0]]), w[:, :1])
    y.masked_fill_(L.tensor([False, True, False]), 0.5)
    y.index_put_((L.tensor([1, 1]), L.tensor([2, 2])), w[0, :2], accumulate=True)
    (y * y).sum().backward()
    return [y, w.grad]


def with_a_cast(L: Any, w: Any) -> list[Any]:
    x = L.zeros(2, 3, dtype=L.float32)
    x[:, 1:] = w[:, 1:]
    (x * x).sum().backward()
    return [x, w.grad]


@pytest.mark.parametrize("program", [into_a_constant, through_views, onto_itself, by_name, with_a_cast])
def test_programs(program: Any) -> None:
    start = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    results = [program(L, L.from_numpy(start.copy()).requires_grad_()) for L in (gg, torch)]
    for ours, theirs in zip(*results):
        assert str(ours.dtype).rsplit(".", 1)[-1] == str(theirs.dtype).rsplit(".", 1)[-1]
        np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy())


# Long rows and many rows take other paths through the kernels than the samples of the op table.


def test_long_rows_sort() -> None:
    rng = np.random.default_rng(1)
    for array in (
        np.round(rng.standard_normal(200_000), 2).astype(np.float32),
        rng.integers(-(2**40), 2**40, 100_000),
        rng.integers(0, 50, (3, 90_000)),
        rng.standard_normal((40, 1000)),
    ):
        x = gg.from_numpy(array)
        order = np.argsort(array, -1, kind="stable")
        values, indices = gg.sort(x)
        np.testing.assert_array_equal(indices.numpy(), order)
        np.testing.assert_array_equal(values.numpy(), np.take_along_axis(array, order, -1))
        flat, inverse, counts = gg.unique(x, return_inverse=True, return_counts=True)
        expected = np.unique(array, return_inverse=True, return_counts=True)
        np.testing.assert_array_equal(flat.numpy(), expected[0])
        np.testing.assert_array_equal(inverse.numpy(), expected[1].reshape(array.shape))
        np.testing.assert_array_equal(counts.numpy(), expected[2])
        for k in (5, 700):
            np.testing.assert_array_equal(gg.topk(x, k).values.numpy(), -np.sort(-array, -1)[..., :k])
        middle = array.shape[-1] // 2
        np.testing.assert_array_equal(gg.kthvalue(x, middle).values.numpy(), np.sort(array, -1)[..., middle - 1])


def test_long_rows_search_and_count() -> None:
    rng = np.random.default_rng(2)
    row = np.sort(rng.standard_normal(5000))
    x = rng.standard_normal(30_001)
    for right in (False, True):
        found = gg.searchsorted(gg.from_numpy(row), gg.from_numpy(x), right=right)
        np.testing.assert_array_equal(found.numpy(), np.searchsorted(row, x, "right" if right else "left"))
    mask = rng.random((300, 700)) < 0.3
    np.testing.assert_array_equal(gg.nonzero(gg.from_numpy(mask)).numpy(), np.argwhere(mask))
    counts = gg.histc(gg.from_numpy(np.tile(x, 10)), 50, -2, 2)
    np.testing.assert_array_equal(counts.numpy(), np.histogram(np.tile(x, 10), 50, (-2, 2))[0])


@pytest.mark.parametrize(("shape", "dim"), [((40, 3000), 1), ((3000, 200), 0), ((200_000,), 0), ((5_000_000,), 0)])
def test_long_rows_scatter(shape: tuple[int, ...], dim: int) -> None:
    rng = np.random.default_rng(3)
    index = rng.integers(0, 97, shape)
    source = rng.integers(-9, 9, shape).astype(np.float32)  # whole numbers: every order has the same sum
    start = np.zeros([97 if d == dim else n for d, n in enumerate(shape)], np.float32)
    expected = start.copy()
    grid = list(np.ogrid[tuple(slice(n) for n in shape)])
    grid[dim] = index
    np.add.at(expected, tuple(grid), source)
    x, i, src = gg.from_numpy(start), gg.from_numpy(index), gg.from_numpy(source)
    np.testing.assert_array_equal(x.scatter_add(dim, i, src).numpy(), expected)
    np.testing.assert_array_equal(gg.from_numpy(expected).gather(dim, i).numpy(), expected[tuple(grid)])
    bad = index.copy()
    bad.reshape(-1)[-5] = 97
    with pytest.raises(IndexError, match="index 97 is out of bounds"):
        x.scatter_add(dim, gg.from_numpy(bad), src)
    assert not x.numpy().any()


def test_the_last_write_stays() -> None:
    rng = np.random.default_rng(4)
    for inner in (1, 3, 40, 5000):
        n = 40_000 // inner + 200
        index, source = rng.integers(0, 50, n), rng.standard_normal((n, inner))
        expected = np.zeros((50, inner))
        expected[index] = source
        np.testing.assert_array_equal(
            gg.zeros(50, inner, dtype=gg.float64).index_copy(0, gg.from_numpy(index), gg.from_numpy(source)).numpy(),
            expected,
        )


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_gradient_of_a_large_table(dtype: str) -> None:
    rng = np.random.default_rng(5)
    index = rng.integers(0, 3000, (50, 100))
    dy = rng.integers(-4, 4, (50, 100, 24)).astype(np.float32)
    weight = gg.zeros(3000, 24, dtype=getattr(gg, dtype)).requires_grad_()
    y = gg.nn.functional.embedding(gg.from_numpy(index), weight, padding_idx=7)
    y.backward(gg.from_numpy(dy).to(weight.dtype))
    expected = np.zeros((3000, 24), np.float32)
    np.add.at(expected, index, dy)
    expected[7] = 0
    np.testing.assert_array_equal(weight.grad.float().numpy(), expected)
