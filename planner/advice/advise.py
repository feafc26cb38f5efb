"""advise: options and what came of them -> the verdict with everything that it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.advice.alternative import Alternative, Option
from planner.advice.flips import Flip, Replan, flips
from planner.advice.lever import levers
from planner.advice.metered import MeteredHop, metered_hops
from planner.advice.pareto import ParetoPoint, pareto
from planner.advice.ranking import ranked
from planner.advice.tornado import Swing, swings
from planner.advice.verdict import Verdict, verdict


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do, when that changes, and what is traded."""

    alternatives: tuple[Alternative, ...]
    """The one asked about first, then as they were given."""
    verdict: Verdict
    flips: tuple[Flip, ...]
    swings: tuple[Swing, ...]
    """Of the one asked about."""
    points: tuple[ParetoPoint, ...]
    hops: tuple[MeteredHop, ...]
    """Of the one asked about, where the lines have a price."""
    cheapest: tuple[str, float] | None
    """The API with the lowest price of a million output tokens, prompts not counted."""

    @property
    def flips_from(self) -> str:
        """The choice that the flips start from, where that is not the verdict's; else empty.

        Flips are searched for with the cost model, and a simulation may see another winner.
        """
        before = self.flips[0].before if self.flips else self.verdict.winner
        return "" if before == self.verdict.winner else before


def advise(
    options: Sequence[Option],
    found: Sequence[Alternative],
    replan: Replan | None = None,
    *,
    search: bool = True,
) -> Advice:
    """Advice on ``options``, of which ``found`` says what came of each.

    Flips and swings are searched for with the cost model, whatever ``found`` was made with;
    not at all without ``search``.
    """
    requirements, first = options[0].problem.requirements, options[0]
    moved = levers(options) if search else []
    changes = flips(options, moved, replan)
    told = verdict(requirements, found, changes, asked=first.name)
    best = ranked(requirements, found)[0].name
    apis = [
        (option.price.usd_per_output_token * 1e6, option.name)
        for option in options
        if option.price is not None
    ]
    usd, name = min(apis, default=(0.0, ""))
    hops = tuple(hop for plan in first.plans[:1] for hop in metered_hops(first.problem, plan))
    return Advice(
        alternatives=tuple(found),
        verdict=told,
        flips=changes,
        swings=swings(first, moved) if first.price is None else (),
        points=pareto(found, told.winner or best),
        hops=hops,
        cheapest=(name, usd) if apis else None,
    )
