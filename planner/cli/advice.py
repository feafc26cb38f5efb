"""What competes in a comparison, and what to do: from targets to values and back."""

from __future__ import annotations

from collections.abc import Sequence

from planner.advice.advise import Advice, advise
from planner.advice.alternative import Alternative, api_alternative
from planner.cli import console
from planner.cli.contest import Contest
from planner.cli.entrants import options as options_of
from planner.cli.entrants import replanned
from planner.core.outcomes import completed
from planner.report.simulate import Target
from planner.sim.replicate import Replications


def advice_on(
    contest: Contest, simulated: Sequence[Target], first: Replications, search: bool
) -> Advice:
    """What to do, from what was simulated; APIs are asked for the tokens of the first target."""
    options = options_of(contest)
    served = [
        tokens
        for one in (completed(result.records) for result in first.results)
        for tokens in zip(one.prompt_tokens.tolist(), one.output_tokens.tolist(), strict=True)
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
