"""``--capacity``: the largest load that each target takes, and what it is like there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import console

if TYPE_CHECKING:
    from planner.cli.contest import Contestant
    from planner.cli.targets import How
    from planner.core.workload import Request
    from planner.report.simulate import Target
    from planner.sim.capacity import Capacity
    from planner.sim.replicate import Replications

CapacityOption = Annotated[
    bool,
    typer.Option(
        "--capacity",
        help="Search for the largest load (requests per second, or users) that meets the "
        "must-haves, and tell how it is there.",
    ),
]


@dataclass(frozen=True, slots=True)
class AtCapacity:
    """A contestant under the largest load that it takes."""

    contestant: Contestant
    run: Replications
    capacity: Capacity
    requests: Sequence[Request] | None
    """What was replayed instead of the workload's own."""

    @property
    def target(self) -> Target:
        """What the report says of it."""
        from planner.cli.targets import target_of

        return replace(target_of(self.contestant, self.run), capacity=self.capacity)


def at_capacity(contestant: Contestant, seeds: Sequence[int], how: How) -> AtCapacity:
    """The largest load of a contestant; raises UsageError where nothing says what is too much."""
    from planner.cli.targets import replications
    from planner.core.errors import UsageError
    from planner.core.request import mean_rate
    from planner.sim.capacity import Unit, burdened, capacity

    must, workload = contestant.problem.requirements.must_have, contestant.problem.workload
    if not burdened(must):
        raise UsageError(
            f"{contestant.name} has no must-have that load can break",
            "bound a latency, such as --set must_have.p95_ttft='2 s'",
        )
    start = workload.load if how.requests is None else mean_rate(how.requests)
    if not 0 < start < math.inf:
        raise UsageError("all requests of the trace come at once, so it has no rate to change")
    unit: Unit = "users" if how.requests is None and workload.concurrency else "requests_per_s"
    with console.progress(f"searching what {contestant.name} takes") as advance:

        def evaluate(load: float, visits: bool = False) -> Replications:
            one, changed = _under(contestant, replace(how, visits=visits), load)
            return replications([one], seeds, changed, advance)[0]

        seats = sum(one.max_num_seqs for one in contestant.plan.pipelines)
        found = replace(capacity(must, start, unit, evaluate), seats=seats)
        run = evaluate(found.at.load, how.visits)
    one, changed = _under(contestant, how, found.at.load)
    return AtCapacity(one, run, found, changed.requests)


def _under(contestant: Contestant, how: How, load: float) -> tuple[Contestant, How]:
    """A contestant, or the trace that it replays, with another load."""
    from planner.core.request import paced

    if how.requests is not None:
        return contestant, replace(how, requests=paced(how.requests, load))
    problem = contestant.problem
    changed = problem.model_copy(update={"workload": problem.workload.under(load)})
    return replace(contestant, problem=changed), how
