"""Samplers: in which order indices are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

__all__ = [
    "BatchSampler",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "SubsetRandomSampler",
    "WeightedRandomSampler",
]

T = TypeVar("T", covariant=True)


class Sampler(Generic[T]):
    """Base of samplers: define `__iter__`, and `__len__` where it is known.

    >>> list(gg.data.SequentialSampler("abc"))
    [0, 1, 2]
    """

    def __iter__(self) -> Iterator[T]:
        raise TypeError(f"{type(self).__name__}: define __iter__")


class SequentialSampler(Sampler[int]):
    """0, 1, ..., len(data_source) - 1.

    >>> list(gg.data.SequentialSampler("ab"))
    [0, 1]
    """

    def __init__(self, data_source: Any) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


def _fresh_generator(generator: Any) -> Any:
    """The given generator, or a new one seeded from the default stream, so that manual_seed fixes the order."""
    if generator is not None:
        return generator
    from glassgrad._core import Generator
    from glassgrad.ops.random import randint

    fresh = Generator()
    fresh.manual_seed(int(randint(0, 2**62, size=()).item()))
    return fresh


class RandomSampler(Sampler[int]):
    """A random order of all indices, or num_samples draws with replacement.

    >>> sorted(gg.data.RandomSampler("abc"))
    [0, 1, 2]
    """

    def __init__(
        self, data_source: Any, replacement: bool = False, num_samples: int | None = None, generator: Any = None
    ) -> None:
        if num_samples is not None and num_samples <= 0:
            raise ValueError(f"RandomSampler: num_samples is {num_samples}; it must be positive")
        self.data_source, self.replacement, self.generator = data_source, replacement, generator
        self._num_samples = num_samples

    @property
    def num_samples(self) -> int:
        """How many indices are drawn."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        from glassgrad.ops.random import randint, randperm

        n, generator = len(self.data_source), _fresh_generator(self.generator)
        if self.replacement:
            yield from randint(0, n, size=(self.num_samples,), generator=generator).tolist()
            return
        left = self.num_samples
        while left > 0:
            yield from randperm(n, generator=generator).tolist()[:left]
            left -= n

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler[int]):
    """A random order of the given indices.

    >>> sorted(gg.data.SubsetRandomSampler([3, 5]))
    [3, 5]
    """

    def __init__(self, indices: Sequence[int], generator: Any = None) -> None:
        self.indices, self.generator = indices, generator

    def __iter__(self) -> Iterator[int]:
        from glassgrad.ops.random import randperm

        for i in randperm(len(self.indices), generator=_fresh_generator(self.generator)).tolist():
            yield self.indices[i]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """num_samples indices drawn with probabilities proportional to weights.

    >>> list(gg.data.WeightedRandomSampler([0.0, 1.0], 2))
    [1, 1]
    """

    def __init__(
        self, weights: Sequence[float], num_samples: int, replacement: bool = True, generator: Any = None
    ) -> None:
        from glassgrad.tensor import as_tensor

        if num_samples <= 0:
            raise ValueError(f"WeightedRandomSampler: num_samples is {num_samples}; it must be positive")
        self.weights = as_tensor(weights).double()
        if self.weights.ndim != 1:
            raise ValueError(f"WeightedRandomSampler: weights must have one axis, got {tuple(self.weights.shape)}")
        self.num_samples, self.replacement, self.generator = num_samples, replacement, generator

    def __iter__(self) -> Iterator[int]:
        from glassgrad.ops.random import multinomial

        drawn = multinomial(
            self.weights, self.num_samples, self.replacement, generator=_fresh_generator(self.generator)
        )
        yield from drawn.tolist()

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler["list[int]"]):
    """Lists of batch_size indices from another sampler; drop_last leaves out an incomplete last one.

    >>> list(gg.data.BatchSampler(range(3), batch_size=2, drop_last=False))
    [[0, 1], [2]]
    """

    def __init__(self, sampler: Iterable[Any], batch_size: int, drop_last: bool) -> None:
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size <= 0:
            raise ValueError(f"BatchSampler: batch_size is {batch_size!r}; it must be a positive int")
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    def __iter__(self) -> Iterator[list[int]]:
        batch: list[int] = []
        for index in self.sampler:
            batch.append(index)
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch and not self.drop_last:
            yield batch

    def __len__(self) -> int:
        n = len(self.sampler)  # type: ignore[arg-type]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)
