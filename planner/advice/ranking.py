"""Ranking: must-haves exclude, the objective and the weighted wishes order the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence

from planner.advice.alternative import Alternative
from planner.core.requirements import OBJECTIVES, Requirements, Wish

EQUAL = 0.01
"""Share within which alternatives serve equally well: no simulation is surer, and nobody would pay
for it."""


def ranked(requirements: Requirements, found: Sequence[Alternative]) -> list[Alternative]:
    """The alternatives, best first; those that miss a must-have come last.

    Order: no must-have known to be missed, then the score; of scores that are equal within 1 % the
    cheaper one, and of equal prices the earlier one. A weighted sum says itself what prices weigh.
    """
    scores = scored(requirements, found)
    near = 0.0 if requirements.objective == "weighted" else math.log1p(EQUAL)
    left = sorted(range(len(found)), key=lambda at: (len(found[at].missed), scores[at], at))
    order = []
    while left:
        misses, score = len(found[left[0]].missed), scores[left[0]]
        equal = (
            at
            for at in left
            if len(found[at].missed) == misses
            and (scores[at] == score or scores[at] - score <= near)
        )
        order.append(min(equal, key=lambda at: _price_usd(found[at])))
        left.remove(order[-1])
    return [found[at] for at in order]


def _price_usd(one: Alternative) -> float:
    """Of a million output tokens; infinite where it is not known."""
    price = one.metrics.usd_per_million_output_tokens
    return math.inf if price is None else price


def scored(requirements: Requirements, found: Sequence[Alternative]) -> list[float]:
    """How far each is from the best in everything that is wished for; 0 is the best of all.

    Sum over the objective (weight 1) and the nice-to-haves (their weights) of the logarithm of
    the ratio to the best value: being twice as dear weighs the same whatever the price is. A figure
    that nobody published counts as worst, what costs nothing as best. With the objective
    ``weighted`` it is the weighted sum itself.
    """
    if requirements.objective == "weighted":
        values = [requirements.value(one.metrics) for one in found]
        return [math.inf if value is None else value for value in values]
    wishes: dict[Wish, float] = {requirements.objective: 1.0}
    for name, weight in requirements.nice_to_have.items():
        wishes[name] = wishes.get(name, 0.0) + weight
    sums = [0.0] * len(found)
    for name, weight in wishes.items():
        metric, _, direction = OBJECTIVES[name]
        values = [getattr(one.metrics, metric) for one in found]
        known = [value for value in values if value is not None and value > 0]
        best = (min if direction == "min" else max)(known, default=1.0)
        for index, value in enumerate(values):
            if value is None:
                sums[index] = math.inf
            elif value > 0:
                distance = math.log(value / best)
                sums[index] += weight * (distance if direction == "min" else -distance)
            elif direction == "max" or math.isinf(sums[index]):
                sums[index] = math.inf
            else:
                sums[index] = -math.inf
    return sums
