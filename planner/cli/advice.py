"""What competes in a comparison, and what to do: from targets to values and back."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from planner.cli import console
from planner.cli.contest import Contest, replanned
from planner.core.cost import CostLine
from planner.files.catalogue import Catalogue
from planner.files.manifest import Manifest
from planner.files.scenario import Scenario
from planner.report.simulate import Target
from planner.sim.replicate import Replications

if TYPE_CHECKING:
    from planner.advice.advise import Advice


def contest_of(
    loaded: Sequence[Scenario | Manifest],
    requests: int | None,
    profiles: Sequence[Path],
    alternatives: bool,
    explained: bool,
    grid: bool = False,
) -> Contest:
    """Everything that competes, planned.

    The points of a grid are compared with each other; one without a plan is left out.
    """
    contest = Contest(
        requests,
        lambda scenario: Catalogue(scenario.path.parent, profiles),
        datetime.date.today(),
        explained,
    )
    for target in loaded:
        if grid and isinstance(target, Scenario):
            contest.compete(target)
        else:
            contest.add(target, alternatives=alternatives)
    return contest


def advice_on(
    contest: Contest, simulated: Sequence[Target], first: Replications, search: bool
) -> Advice:
    """What to do, from what was simulated; APIs are asked for the tokens of the first target."""
    from planner.advice.advise import advise
    from planner.advice.alternative import Alternative, api_alternative

    options = contest.options()
    served = [
        (record.prompt_tokens, record.output_tokens)
        for result in first.results
        for record in result.records
        if record.status == "completed"
    ]
    rate = first.metrics.output_throughput
    found = [
        Alternative(
            name=option.name,
            kind=option.kind,
            metrics=target.metrics,
            confidence=dict(target.confidence),
            quality=target.quality,
            lines=target.lines,
            machines=target.machines,
            missed=target.missed,
            source=option.source,
            as_of=option.as_of,
        )
        for option, target in zip(options, simulated, strict=False)
    ]
    found += [
        api_alternative(option, served, rate) for option in options if option.price is not None
    ]
    fixed = contest.contestants[0].kind == "manifest"
    with console.progress("searching for what would change the choice"):
        return advise(options, found, None if fixed else replanned, search=search)


def mean_lines(several: Sequence[Sequence[CostLine]]) -> tuple[CostLine, ...]:
    """The mean of each cost line over the replications, with the first one's words."""
    sums: dict[tuple[str, str, str], tuple[CostLine, float]] = {}
    for lines in several:
        for line in lines:
            key = (line.kind, line.where, line.note.split(":")[0] if ":" in line.note else "")
            first, usd = sums.get(key, (line, 0.0))
            sums[key] = (first, usd + line.usd_per_hour / len(several))
    return tuple(line.model_copy(update={"usd_per_hour": usd}) for line, usd in sums.values())
