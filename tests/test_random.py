"""Random numbers: they are Philox, repeat under a seed, do not depend on threads or ISA, and follow their
distributions.

Every test fixes its seed, so each either always passes or always fails. The bounds are far out (about five standard
errors, or a Kolmogorov distance that a right sampler exceeds once in a million seeds), so they tell wrong from right
all the same.
"""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import glassgrad as gg

F = gg.nn.functional
N = 100_000

DRAWS: dict[str, Callable[[], Any]] = {
    "rand": lambda: gg.rand(N),
    "rand float64": lambda: gg.rand(N, dtype=gg.float64),
    "rand bfloat16": lambda: gg.rand(N, dtype=gg.bfloat16),
    "randn": lambda: gg.randn(N),
    "randn float64": lambda: gg.randn(N, dtype=gg.float64),
    "randn float16": lambda: gg.randn(N, dtype=gg.float16),
    "randint": lambda: gg.randint(-5, 1000, (N,)),
    "randperm": lambda: gg.randperm(N),
    "uniform_": lambda: gg.empty(N).uniform_(-3, 2),
    "exponential_": lambda: gg.empty(N).exponential_(2.0),
    "log_normal_": lambda: gg.empty(N).log_normal_(),
    "cauchy_": lambda: gg.empty(N).cauchy_(),
    "geometric_": lambda: gg.empty(N).geometric_(0.3),
    "random_": lambda: gg.empty(N, dtype=gg.int32).random_(),
    "bernoulli_": lambda: gg.empty(N).bernoulli_(0.3),
    "bernoulli": lambda: gg.bernoulli(gg.linspace(0, 1, N)),
    "poisson": lambda: gg.poisson(gg.linspace(0, 40, N)),
    "multinomial": lambda: gg.multinomial(gg.arange(1.0, 9.0), N, replacement=True),
    "dropout": lambda: F.dropout(gg.ones(N), 0.3),
    "dropout2d": lambda: F.dropout2d(gg.ones(10, 100, 2, 2), 0.3),
}


def values(x: Any) -> np.ndarray:
    x = x.detach()
    return np.asarray((x.float() if x.dtype is gg.bfloat16 else x).numpy())


def draw(name: str, seed: int = 0) -> np.ndarray:
    gg.manual_seed(seed)
    return values(DRAWS[name]())


def wide(x: Any) -> np.ndarray:
    return values(x).astype(np.float64)


@pytest.fixture
def two_threads() -> Any:
    before = gg.get_num_threads()
    yield
    gg.set_num_threads(before)


# Streams --------------------------------------------------------------------------------------------------------------


def test_words_are_philox() -> None:
    """The known answers of Salmon et al.'s own test vectors, and the order in which elements take the words."""

    def block(counter: int, key: int) -> list[int]:
        c = [counter >> 32 * i & 0xFFFFFFFF for i in range(4)]
        k = [key & 0xFFFFFFFF, key >> 32]
        for _ in range(10):
            p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
            c = [q >> 32 ^ c[1] ^ k[0], q & 0xFFFFFFFF, p >> 32 ^ c[3] ^ k[1], p & 0xFFFFFFFF]
            k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
        return c

    assert block(0, 0) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert block(2**128 - 1, 2**64 - 1) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    seed = 0x299F31D0A4093822
    gg.manual_seed(seed)
    first = values(gg.rand(200))
    words = [block(b, seed) for b in range(64)]
    expected = [words[32 * (i // 128) + i % 32][i % 128 // 32] >> 8 for i in range(200)]
    assert np.array_equal(first * 2**24, np.array(expected, np.float32))


@pytest.mark.parametrize("name", DRAWS)
def test_a_seed_repeats(name: str) -> None:
    first = draw(name)
    assert np.array_equal(first, draw(name))
    assert not np.array_equal(first, draw(name, seed=1))


@pytest.mark.parametrize("name", DRAWS)
def test_calls_differ(name: str) -> None:
    gg.manual_seed(0)
    assert not np.array_equal(values(DRAWS[name]()), values(DRAWS[name]()))


@pytest.mark.parametrize("name", DRAWS)
def test_threads_do_not_matter(name: str, two_threads: None) -> None:
    gg.set_num_threads(1)
    one = draw(name)
    gg.set_num_threads(2)
    assert np.array_equal(one, draw(name))


@pytest.mark.parametrize("name", DRAWS)
def test_isa_does_not_matter(name: str, isas: list[str], set_isa: Callable[[str], None]) -> None:
    found = []
    for isa in isas:
        set_isa(isa)
        found.append(draw(name))
    for other in found[1:]:
        assert np.array_equal(found[0], other)


def test_length_does_not_matter() -> None:
    gg.manual_seed(0)
    long = values(gg.randn(1000))
    for n in (1, 31, 32, 127, 128, 129, 500):
        gg.manual_seed(0)
        assert np.array_equal(values(gg.randn(n)), long[:n])


def test_strided_tensors_are_filled() -> None:
    x = gg.zeros(4, 6).t()
    gg.manual_seed(0)
    x.uniform_(1, 2)
    gg.manual_seed(0)
    assert np.array_equal(values(x), values(gg.empty(6, 4).uniform_(1, 2)))


def test_state() -> None:
    g = gg.Generator().manual_seed(3)
    gg.rand(5, generator=g)
    state = g.get_state()
    assert state.dtype is gg.uint8
    a = values(gg.randn(7, generator=g))
    for again in (pickle.loads(pickle.dumps(g)), copy.deepcopy(g)):
        assert np.array_equal(
            values(gg.rand(3, generator=again)), values(gg.rand(3, generator=pickle.loads(pickle.dumps(g))))
        )
    g.set_state(state)
    assert np.array_equal(a, values(gg.randn(7, generator=g)))
    assert g.initial_seed() == 3
    with pytest.raises(ValueError, match="set_state: state"):
        g.set_state(gg.zeros(3))


def test_default_generator() -> None:
    assert gg.manual_seed(11) is gg.default_generator
    assert gg.initial_seed() == 11
    state = gg.get_rng_state()
    a = values(gg.rand(4))
    gg.set_rng_state(state)
    assert np.array_equal(a, values(gg.rand(4)))
    with gg.random.fork_rng():
        gg.manual_seed(5)
        gg.rand(9)
    assert gg.initial_seed() == 11
    assert np.array_equal(values(gg.rand(4)), _after(state, 2))
    assert gg.seed() == gg.initial_seed() != gg.seed()
    gg.manual_seed(-1)
    assert gg.initial_seed() == 2**64 - 1
    with pytest.raises(ValueError, match="manual_seed"):
        gg.manual_seed(2**64)


def _after(state: Any, calls: int) -> np.ndarray:
    before = gg.get_rng_state()
    gg.set_rng_state(state)
    drawn = [values(gg.rand(4)) for _ in range(calls)]
    gg.set_rng_state(before)
    return drawn[-1]


def test_generators_are_independent() -> None:
    a, b = gg.Generator().manual_seed(0), gg.Generator().manual_seed(0)
    gg.rand(100)
    assert np.array_equal(values(gg.rand(9, generator=a)), values(gg.rand(9, generator=b)))
    with pytest.raises(TypeError, match="generator must be a Generator"):
        gg.rand(3, generator=7)


# Distributions --------------------------------------------------------------------------------------------------------


def kolmogorov(x: np.ndarray, cdf: Callable[[np.ndarray], np.ndarray]) -> float:
    """sqrt(n) times the largest distance of the empirical distribution from cdf; above 2.7 once in a million."""
    x = np.sort(x.ravel())
    n = len(x)
    p = cdf(x)
    return float(math.sqrt(n) * max((np.arange(1, n + 1) / n - p).max(), (p - np.arange(n) / n).max()))


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    """How many standard deviations the chi-square statistic lies above its mean."""
    freedom = len(counts) - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom))


def normal_cdf(x: np.ndarray) -> np.ndarray:
    return np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x])


CONTINUOUS = {
    "rand": (lambda: gg.rand(N), lambda x: x),
    "rand float64": (lambda: gg.rand(N, dtype=gg.float64), lambda x: x),
    "uniform_": (lambda: gg.empty(N).uniform_(-3, 2), lambda x: (x + 3) / 5),
    "randn": (lambda: gg.randn(N), normal_cdf),
    "randn float64": (lambda: gg.randn(N, dtype=gg.float64), normal_cdf),
    "normal_": (lambda: gg.empty(N).normal_(5, 3), lambda x: normal_cdf((x - 5) / 3)),
    "log_normal_": (lambda: gg.empty(N).log_normal_(0.5, 0.7), lambda x: normal_cdf((np.log(x) - 0.5) / 0.7)),
    "exponential_": (lambda: gg.empty(N).exponential_(2.0), lambda x: 1 - np.exp(-2 * x)),
    "cauchy_": (lambda: gg.empty(N).cauchy_(1.0, 2.0), lambda x: np.arctan((x - 1) / 2) / np.pi + 0.5),
}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous(name: str) -> None:
    make, cdf = CONTINUOUS[name]
    gg.manual_seed(123)
    assert kolmogorov(wide(make()), cdf) < 2.7


def poisson_pmf(rate: float, k: np.ndarray) -> np.ndarray:
    return np.array([math.exp(i * math.log(rate) - rate - math.lgamma(i + 1)) for i in k])


DISCRETE = {
    "randint": (lambda: gg.randint(-3, 17, (N,)) + 3, lambda k: np.where(k < 20, 1 / 20, 0)),
    "random_": (lambda: gg.empty(N, dtype=gg.uint8).random_(), lambda k: np.where(k < 256, 1 / 256, 0)),
    "geometric_": (lambda: gg.empty(N).geometric_(0.3), lambda k: np.where(k > 0, 0.3 * 0.7 ** (k - 1.0), 0)),
    "geometric_ int64": (
        lambda: gg.empty(N, dtype=gg.int64).geometric_(0.6),
        lambda k: np.where(k > 0, 0.6 * 0.4 ** (k - 1.0), 0),
    ),
    "bernoulli_": (lambda: gg.empty(N).bernoulli_(0.3), lambda k: np.array([0.7, 0.3, *[0] * (len(k) - 2)])),
    "bernoulli": (lambda: gg.bernoulli(gg.full((N,), 0.8)), lambda k: np.array([0.2, 0.8, *[0] * (len(k) - 2)])),
    "poisson small": (lambda: gg.poisson(gg.full((N,), 2.5)), lambda k: poisson_pmf(2.5, k)),
    "poisson large": (lambda: gg.poisson(gg.full((N,), 40.0)), lambda k: poisson_pmf(40.0, k)),
    "multinomial": (
        lambda: gg.multinomial(gg.tensor([1.0, 0.0, 2.0, 5.0]), N, replacement=True),
        lambda k: np.array([0.125, 0, 0.25, 0.625, *[0] * (len(k) - 4)]),
    ),
    "dropout": (lambda: F.dropout(gg.ones(N), 0.25) * 0.75, lambda k: np.array([0.25, 0.75, *[0] * (len(k) - 2)])),
}


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete(name: str) -> None:
    make, pmf = DISCRETE[name]
    gg.manual_seed(321)
    x = np.rint(wide(make())).astype(np.int64)
    assert x.min() >= 0
    k = np.arange(max(int(x.max()) + 1, 4))
    counts, expected = np.bincount(x, minlength=len(k)).astype(float), pmf(k) * N
    assert (counts[expected == 0] == 0).all(), "a value of no probability was drawn"
    often = expected > 10
    counts, expected = counts[often], expected[often]
    assert chi_square(np.append(counts, N - counts.sum() + 10), np.append(expected, N - expected.sum() + 10)) < 6


def test_moments_of_halves() -> None:
    for dtype in (gg.float16, gg.bfloat16):
        gg.manual_seed(5)
        u, z = wide(gg.rand(N, dtype=dtype)), wide(gg.randn(N, dtype=dtype))
        assert u.min() >= 0 and u.max() < 1
        assert abs(u.mean() - 0.5) < 0.01 and abs(u.var() - 1 / 12) < 0.002
        assert abs(z.mean()) < 0.02 and abs(z.var() - 1) < 0.03


def test_neighbours_are_independent() -> None:
    gg.manual_seed(9)
    for x in (gg.rand(N) - 0.5, gg.randn(N)):
        z = wide(x)
        z /= z.std()
        for lag in (1, 2, 16, 31, 32, 33, 64, 96, 128):
            assert abs((z[lag:] * z[:-lag]).mean()) < 5 / math.sqrt(N), f"lag {lag}"
        assert abs((z[:-64] ** 2 * z[64:] ** 2).mean() - (z**2).mean() ** 2) < 0.05  # the two of one Box-Muller pair


def test_randperm() -> None:
    gg.manual_seed(2)
    assert sorted(values(gg.randperm(1000)).tolist()) == list(range(1000))
    first = np.bincount([int(gg.randperm(5)[0]) for _ in range(2000)], minlength=5)
    assert chi_square(first.astype(float), np.full(5, 400.0)) < 5


def test_multinomial_without_replacement() -> None:
    gg.manual_seed(4)
    weights = gg.tensor([1.0, 2.0, 3.0, 4.0]).expand(20000, 4)
    x = values(gg.multinomial(weights, 4))
    assert (np.sort(x, 1) == np.arange(4)).all()
    first = np.bincount(x[:, 0], minlength=4).astype(float)
    assert chi_square(first, np.array([0.1, 0.2, 0.3, 0.4]) * 20000) < 5
    second = np.bincount(x[x[:, 0] == 3, 1], minlength=4)[:3].astype(float)
    assert chi_square(second, np.array([1, 2, 3]) / 6 * second.sum()) < 5


def test_random_ranges() -> None:
    for dtype, low, high in ((gg.int8, 0, 127), (gg.uint8, 0, 255), (gg.int32, 0, 2**31 - 1), (gg.int64, 0, 2**63 - 1)):
        x = values(gg.empty(N, dtype=dtype).random_())
        assert x.min() >= low and x.max() <= high and int(x.max()) > 0.99 * high
    x = values(gg.empty(N, dtype=gg.int64).random_(-(2**63), None))
    assert x.min() < -(2**62) and x.max() > 2**62
    assert set(values(gg.empty(50, dtype=gg.bool).random_()).tolist()) == {False, True}
    x = values(gg.empty(N, dtype=gg.float16).random_())
    assert x.max() <= 2048 and (x == np.rint(x)).all()


# Dropout --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_dropout_is_its_own_gradient(dtype: str) -> None:
    gg.manual_seed(0)
    x = gg.randn(1003, dtype=getattr(gg, dtype), requires_grad=True)
    y = F.dropout(x, 0.4)
    dy = gg.randn(1003, dtype=x.dtype)
    (dx,) = gg.autograd.grad(y, x, dy)
    kept = values(y) != 0
    np.testing.assert_allclose(
        wide(y), np.where(kept, wide(x.detach()) / 0.6, 0), rtol=1e-2 if x.itemsize == 2 else 1e-6
    )
    np.testing.assert_allclose(wide(dx), np.where(kept, wide(dy) / 0.6, 0), rtol=1e-2 if x.itemsize == 2 else 1e-6)


def test_dropout_of_channels() -> None:
    gg.manual_seed(0)
    for f, shape in (
        (F.dropout1d, (40, 50, 3)),
        (F.dropout2d, (40, 50, 3, 2)),
        (F.dropout3d, (40, 50, 3, 2, 2)),
        (F.dropout1d, (2000, 3)),
    ):
        y = values(f(gg.ones(*shape), 0.5)).reshape(2000, -1)
        assert ((y == 0).all(1) | (y == 2).all(1)).all()
        assert abs((y[:, 0] == 0).mean() - 0.5) < 0.06


def test_alpha_dropout_keeps_moments() -> None:
    gg.manual_seed(0)
    for f in (F.alpha_dropout, lambda x, p, training: F.feature_alpha_dropout(x.reshape(-1, 1), p, training)):
        y = wide(f(gg.randn(N), 0.3, True))
        assert abs(y.mean()) < 0.02 and abs(y.var() - 1) < 0.03


def test_dropout_in_place() -> None:
    gg.manual_seed(0)
    x = gg.ones(100)
    y = F.dropout(x, 0.5, inplace=True)
    assert y is x and set(values(x).tolist()) == {0.0, 2.0}


def test_in_place_draws_cut_the_graph() -> None:
    x = gg.ones(3, requires_grad=True)
    y = x * 2
    y.uniform_()
    y.sum().backward()
    assert values(x.grad).tolist() == [0, 0, 0]
    with pytest.raises(RuntimeError, match="uniform_"):
        x.uniform_()
    with gg.no_grad():
        x.uniform_()


@pytest.mark.parametrize(
    "call, error, text",
    [
        (lambda: gg.empty(2).uniform_(2, 1), ValueError, "uniform_: from"),
        (lambda: gg.empty(2, dtype=gg.int64).uniform_(), TypeError, "uniform_: self"),
        (lambda: gg.empty(2).normal_(0, -1), ValueError, "normal_: the standard deviation"),
        (lambda: gg.empty(2).exponential_(0), ValueError, "exponential_: the rate"),
        (lambda: gg.empty(2).cauchy_(0, 0), ValueError, "cauchy_: sigma"),
        (lambda: gg.empty(2).geometric_(1.5), ValueError, "geometric_: p"),
        (lambda: gg.empty(2).log_normal_(0, 0), ValueError, "log_normal_: the standard deviation"),
        (lambda: gg.empty(2).bernoulli_(1.5), ValueError, "bernoulli_: p"),
        (lambda: gg.empty(2, dtype=gg.int8).random_(0, 300), ValueError, "random_: .*does not fit"),
        (lambda: gg.empty(2).random_(5, 5), ValueError, "random_: low 5 must be below high 5"),
    ],
)
def test_refusals(call: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
