"""What is said about a list of times: median, quartiles, and a ratio with its interval."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable, Sequence

RESAMPLES = 400  # bootstrap samples: enough for the second digit of a 95 % interval


def quartiles(times: Sequence[float]) -> list[float]:
    """The lower quartile, the median and the upper quartile."""
    if len(times) < 2:
        return [times[0]] * 3
    return statistics.quantiles(times, n=4, method="inclusive")


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Their median over ours, with a 95 % bootstrap interval: [ratio, low, high].

    Rounds are resampled as pairs, since a disturbance of the machine tends to fall on both turns of a round.
    """
    generator = random.Random(0)
    rounds = range(len(ours))
    found = []
    for _ in range(RESAMPLES):
        chosen = generator.choices(rounds, k=len(ours))
        found.append(statistics.median(theirs[i] for i in chosen) / statistics.median(ours[i] for i in chosen))
    found.sort()
    edge = RESAMPLES // 40
    return [statistics.median(theirs) / statistics.median(ours), found[edge], found[-1 - edge]]


def geometric_mean(values: Iterable[float]) -> float:
    """The mean of ratios."""
    return math.exp(statistics.fmean(map(math.log, values)))
