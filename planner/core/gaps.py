"""Gaps: how far tokens are apart, counted by size instead of kept one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

_LEAST_S = 1e-9
"""Shorter gaps count as this long."""
_WIDTH = 1e-3
"""Relative width of a bin: quantiles are within half of it."""
_QUANTILES = np.array([NormalDist().inv_cdf((index + 0.5) / 25) for index in range(25)])
"""A normal distribution in equal parts."""
_FULL = 4 * 20_000
"""Numbers of runs that are kept before they are sorted into bins."""


@dataclass(slots=True)
class Gaps:
    """A histogram over the logarithm of the gap, filled by runs of evenly growing gaps."""

    runs: list[float] = field(default_factory=list)
    """Four numbers a run: first and last gap, how many, standard deviation."""
    sorted_count: float = 0.0
    sorted_total_s: float = 0.0
    bins: dict[float, NDArray[np.float64]] = field(default_factory=dict)
    """By standard deviation: gaps by size, before they are spread."""

    def add(
        self, first_s: float, last_s: float | None = None, times: int = 1, jitter_s: float = 0.0
    ) -> None:
        """Counts ``times`` gaps that grow evenly from ``first_s`` to ``last_s``.

        With ``jitter_s`` they are spread normally around that, with this standard deviation.
        """
        runs = self.runs
        runs += (first_s, first_s if last_s is None else last_s, times, jitter_s)
        self.settle()

    def settle(self) -> None:
        """Sorts the runs into bins if there are many."""
        if len(self.runs) >= _FULL:
            self._sort()

    @property
    def count(self) -> int:
        """Gaps so far."""
        self._sort()
        return round(self.sorted_count)

    @property
    def mean_s(self) -> float:
        """Mean gap (s)."""
        self._sort()
        return self.sorted_total_s / self.sorted_count

    def quantile_s(self, share: float) -> float:
        """The gap that a ``share`` of all gaps do not exceed, in the middle of its bin (s)."""
        self._sort()
        places, counts = zip(*map(_spread, self.bins, self.bins.values()), strict=True)
        counted = np.bincount(np.concatenate(places), np.concatenate(counts))
        below = np.searchsorted(np.cumsum(counted), share * self.sorted_count * (1 - 1e-12))
        return float(_size_s(below))

    def _sort(self) -> None:
        """Empties the runs into the bins."""
        if not self.runs:
            return
        kinds = sorted(set(self.runs[3::4]))  # np.unique would load masked arrays, for 10 ms
        first, last, times, jitter = np.array(self.runs, float).reshape(-1, 4).T
        self.runs.clear()
        self.sorted_count += times.sum()
        # a product of vectors would wake the threads of BLAS, which then spin for nothing
        self.sorted_total_s += float((times * (first + last)).sum()) / 2
        for jitter_s in kinds:
            alike = jitter == jitter_s
            counted = _counted(first[alike], last[alike], times[alike])
            before = self.bins.get(jitter_s, np.zeros(0))
            longer = max(len(counted), len(before))
            padded = [np.pad(bins, (0, longer - len(bins))) for bins in (before, counted)]
            self.bins[jitter_s] = padded[0] + padded[1]


def _counted(
    first: NDArray[np.float64], last: NDArray[np.float64], times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Runs of gaps by bin; a run over several bins in equal parts."""
    first, last = np.maximum(first, _LEAST_S), np.maximum(last, _LEAST_S)
    wide = np.abs(np.log(last / first)) / _WIDTH
    parts = np.minimum(wide.astype(int) + 1, times.astype(int))
    which = np.repeat(np.arange(len(parts)), parts)
    within = np.arange(len(which)) - np.repeat(np.cumsum(parts) - parts, parts)
    middle = (within + 0.5) * (times / parts)[which] - 0.5  # of a part, counted in gaps
    share = middle / np.maximum(1, times - 1)[which]
    gaps_s = first[which] + share * (last - first)[which]
    return np.bincount(_place(gaps_s), (times / parts)[which]).astype(np.float64, copy=False)


def _spread(
    jitter_s: float, bins: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Places and counts of gaps after each bin is spread around its middle."""
    places = np.flatnonzero(bins)
    if not jitter_s:
        return places, bins[places]
    sizes_s = _size_s(places)[:, None] + jitter_s * _QUANTILES
    counts = np.repeat(bins[places] / len(_QUANTILES), len(_QUANTILES))
    return _place(np.maximum(sizes_s, _LEAST_S)).ravel(), counts


def _place(gaps_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bins that gaps are in."""
    return (np.log(gaps_s / _LEAST_S) / _WIDTH).astype(np.int64)


def _size_s(place: NDArray[np.int64] | np.int64) -> NDArray[np.float64]:
    """The middle of a bin (s)."""
    return np.asarray(_LEAST_S * np.exp((place + 0.5) * _WIDTH))
