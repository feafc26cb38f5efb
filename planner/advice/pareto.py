"""Pareto: the options that no other one beats in everything at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

from planner.advice.alternative import Alternative
from planner.core.metrics import Metrics
from planner.core.spec import Spec

AXES: tuple[tuple[str, int], ...] = (
    ("usd_per_million_output_tokens", 1),
    ("p95_tpot_ms", 1),
    ("availability", -1),
    ("quality", -1),
)
"""What counts, and whether less (1) or more (-1) is better."""
_EQUAL = 1e-6
"""Ratio below which two figures count as the same."""


class ParetoPoint(Spec):
    """One alternative in the space of price, speed, availability and quality."""

    name: str
    values: dict[str, float | None]
    """By axis; None where nobody published it, which counts as worst."""
    front: bool
    """Whether nothing else is at least as good in all and better in one."""
    beaten_by: str = ""
    """Something that is, where it is not on the front."""
    chosen: bool = False
    text: str = ""
    """What taking it means against the chosen one."""


def pareto(found: Sequence[Alternative], chosen: str) -> tuple[ParetoPoint, ...]:
    """All alternatives that miss no must-have, those on the front first, the cheapest first."""
    able = [one for one in found if one.may_serve] or list(found)
    values = {one.name: standing(one.metrics, one.quality) for one in able}
    points = []
    for one in able:
        mine = values[one.name]
        better = next((n for n, other in values.items() if beats(other, mine)), "")
        points.append(
            ParetoPoint(
                name=one.name,
                values={
                    axis: value
                    for (axis, _), value in zip(AXES, _raw(one.metrics, one.quality), strict=True)
                },
                front=not better,
                beaten_by=better,
                chosen=one.name == chosen,
                text=_trade(one, next((o for o in able if o.name == chosen), one)),
            )
        )
    return tuple(
        sorted(points, key=lambda point: (not point.front, values[point.name], point.name))
    )


def standing(metrics: Metrics, quality: float | None) -> tuple[float, ...]:
    """Figures on all axes, each to be minimised; unknown ones are worst."""
    return tuple(
        math.inf if value is None else sign * value
        for value, (_, sign) in zip(_raw(metrics, quality), AXES, strict=True)
    )


def beats(other: tuple[float, ...], mine: tuple[float, ...]) -> bool:
    """Whether the other standing is at least as good on every axis and better on one."""
    pairs = list(zip(other, mine, strict=True))
    return all(a <= b or _same(a, b) for a, b in pairs) and any(
        a < b and not _same(a, b) for a, b in pairs
    )


def _raw(metrics: Metrics, quality: float | None) -> tuple[float | None, ...]:
    speed = metrics.p95_tpot_ms
    if speed is None:
        speed = metrics.mean_tpot_ms
    return (metrics.usd_per_million_output_tokens, speed, metrics.availability, quality)


def _same(a: float, b: float) -> bool:
    return a == b or (math.isfinite(a) and math.isfinite(b) and math.isclose(a, b, rel_tol=_EQUAL))


def _trade(one: Alternative, chosen: Alternative) -> str:
    if one.name == chosen.name:
        return "chosen"
    said = []
    words = {
        "usd_per_million_output_tokens": ("cheaper", "dearer"),
        "p95_tpot_ms": ("faster", "slower"),
        "availability": ("more often there", "less often there"),
        "quality": ("better answers", "worse answers"),
    }
    for (axis, sign), mine, theirs in zip(
        AXES, _raw(one.metrics, one.quality), _raw(chosen.metrics, chosen.quality), strict=True
    ):
        better, worse = words[axis]
        if mine is None or theirs is None or _same(mine, theirs):
            if mine is None and theirs is not None:
                said.append(f"{axis.split('_')[1] if 'tpot' in axis else axis} not known")
            continue
        good = sign * (mine - theirs) < 0
        if axis in ("availability", "quality"):
            said.append(f"{better if good else worse} ({mine:.2%} against {theirs:.2%})")
        else:
            ratio = max(mine, theirs) / min(mine, theirs) if min(mine, theirs) > 0 else math.inf
            said.append(f"{ratio:.3g} times {better if good else worse}")
    return ", ".join(said) or "the same"
