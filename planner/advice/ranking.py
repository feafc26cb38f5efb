"""Ranking: must-haves exclude, the objective and the weighted wishes order the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence

from planner.advice.alternative import Alternative
from planner.core.requirements import OBJECTIVES, Requirements, Wish


def ranked(requirements: Requirements, found: Sequence[Alternative]) -> list[Alternative]:
    """The alternatives, best first; those that miss a must-have come last.

    Order: no must-have known to be missed, then the score; of equal scores the earlier one.
    """
    scores = scored(requirements, found)
    order = sorted(range(len(found)), key=lambda at: (len(found[at].missed), scores[at], at))
    return [found[at] for at in order]


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
