"""How steady the hosts of a run were: before it, and from then to it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from planner.core.forecast import Forecast, Rehearsal, Series, forecasts, unavoidable
from planner.core.problem import Problem


@dataclass(frozen=True, slots=True)
class Steadiness:
    """The speed of a host that several nodes may share."""

    nodes: tuple[str, ...]
    wander: float | None
    """Standard deviation from moment to moment while it rehearsed; None where nothing tells."""
    span_s: float
    """How long it did."""
    run_s: float
    unavoidable: float | None
    """Least median error of predictions of runs as long as this one that comes of it."""
    band: float | None
    """Median error that predictions by the profile have; None where nobody knows."""
    drift: float | None
    """How much longer than rehearsed the same steps took in the run, as a fraction."""

    @property
    def restless(self) -> bool:
        """Whether it alone makes predictions worse than their band says."""
        return self.band is not None and (self.unavoidable or 0.0) > self.band

    @property
    def warning(self) -> str:
        """What a restless host means for predictions, in words."""
        return (
            f"the host of {', '.join(self.nodes)} is restless, its speed wandered by "
            f"{self.wander:.0%} in the seconds before the run: no prediction of a run this short "
            f"can be better than {self.unavoidable:.0%} in the median, though the band of its "
            f"profile says {self.band:.0%}"
        )

    def document(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "nodes": list(self.nodes),
            "wander": self.wander,
            "span_s": self.span_s,
            "run_s": self.run_s,
            "unavoidable_error": self.unavoidable,
            "band": self.band,
            "drift": self.drift,
            "restless": self.restless,
        }

    def text(self) -> Iterator[str]:
        """Sentences for people."""
        whose = ", ".join(self.nodes)
        if self.wander is not None and self.unavoidable is not None:
            yield (
                f"The speed of the host of {whose} wandered by {self.wander:.1%} in the "
                f"{self.span_s:.1f} s before the run: no prediction of a run of "
                f"{self.run_s:.1f} s is closer than {self.unavoidable:.1%} in the median."
            )
        if self.drift is not None:
            more = "more" if self.drift >= 0 else "less"
            yield f"Steps of the run took {abs(self.drift):.1%} {more} time there than rehearsed."


def steadiness(
    problem: Problem,
    before: Mapping[str, Rehearsal],
    during: Mapping[str, Rehearsal],
    run_s: float,
) -> tuple[Steadiness, ...]:
    """Of every host whose nodes rehearsed; ``during`` has the steps of the run itself."""
    then: dict[Series, float] = {
        series: one.seen(series)
        for one in forecasts(problem, during).values()
        for series in one.all_series
    }
    return tuple(_steadiness(one, then, run_s) for one in forecasts(problem, before).values())


def _steadiness(before: Forecast, then: Mapping[Series, float], run_s: float) -> Steadiness:
    moved = [then[one] - before.seen(one) for one in before.all_series if one in then]
    bands = [known.trust.band.median for known in before.profiles.values() if known.trust.band]
    wander = before.wander
    return Steadiness(
        nodes=tuple(before.rehearsals),
        wander=wander,
        span_s=before.span_s,
        run_s=run_s,
        unavoidable=None if wander is None else unavoidable(wander, run_s),
        band=min(bands, default=None),
        drift=math.expm1(statistics.fmean(moved)) if moved else None,
    )
