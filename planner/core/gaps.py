"""Gaps: how far tokens are apart, counted by size instead of kept one by one."""

from __future__ import annotations

from array import array
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

    runs: array[float] = field(default_factory=lambda: array("d"))
    """Four numbers a run: first and last gap, how many, standard deviation."""
    sorted_count: float = 0.0
    sorted_total_s: float = 0.0
    bins: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def add(
        self, first_s: float, last_s: float | None = None, times: int = 1, jitter_s: float = 0.0
    ) -> None:
        """Counts ``times`` gaps that grow evenly from ``first_s`` to ``last_s``.

        With ``jitter_s`` they are spread normally around that, with this standard deviation.
        """
        runs = self.runs
        runs.extend((first_s, first_s if last_s is None else last_s, times, jitter_s))
        if len(runs) == _FULL:
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
        below = np.searchsorted(np.cumsum(self.bins), share * self.sorted_count * (1 - 1e-12))
        return float(_LEAST_S * np.exp((below + 0.5) * _WIDTH))

    def _sort(self) -> None:
        """Empties the runs into the bins; a run over several bins in equal parts."""
        if not self.runs:
            return
        first, last, times, jitter = np.array(self.runs).reshape(-1, 4).T
        del self.runs[:]
        self.sorted_count += times.sum()
        self.sorted_total_s += float(times @ (first + last)) / 2
        first, last = np.maximum(first, _LEAST_S), np.maximum(last, _LEAST_S)
        wide = np.abs(np.log(last / first)) / _WIDTH
        parts = np.minimum(wide.astype(int) + 1, times.astype(int))
        which = np.repeat(np.arange(len(parts)), parts)
        within = np.arange(len(which)) - np.repeat(np.cumsum(parts) - parts, parts)
        middle = (within + 0.5) * (times / parts)[which] - 0.5  # of a part, counted in gaps
        share = middle / np.maximum(1, times - 1)[which]
        gaps_s = first[which] + share * (last - first)[which]
        jitter, weights = jitter[which], (times / parts)[which]
        varied = jitter > 0
        if varied.any():
            spread = gaps_s[varied, None] + jitter[varied, None] * _QUANTILES
            shared = np.broadcast_to(weights[varied, None] / len(_QUANTILES), spread.shape)
            gaps_s = np.concatenate([gaps_s[~varied], np.maximum(spread, _LEAST_S).ravel()])
            weights = np.concatenate([weights[~varied], shared.ravel()])
        places = (np.log(gaps_s / _LEAST_S) / _WIDTH).astype(int)
        counted = np.bincount(places, weights=weights)
        longer = max(len(counted), len(self.bins))
        self.bins = np.pad(self.bins, (0, longer - len(self.bins)))
        self.bins[: len(counted)] += counted
