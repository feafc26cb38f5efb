"""What the devices of a plan say of the workers that run it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.cli import console

if TYPE_CHECKING:
    from planner.core.plan import Plan
    from planner.core.problem import Problem


def threads_of(problem: Problem, plan: Plan) -> int | None:
    """Compute threads that the devices' figures were measured with; None where unknown."""
    known = [problem.cluster.device(node).threads for node in plan.nodes]
    return min((count for count in known if count is not None), default=None)


def is_probed(problem: Problem, plan: Plan) -> bool:
    """Whether a device of the plan has the readings of a probe to compare with."""
    from planner.core.drift import probed

    return any(probed(problem.cluster.device(node)) for node in plan.nodes)


def warn_of_other_hardware(problem: Problem, plan: Plan) -> None:
    """Says that a plan for hardware of a datasheet is not about the workers of this host."""
    from planner.core.drift import probed

    devices = {one.id: one for one in (problem.cluster.device(node) for node in plan.nodes)}
    if others := sorted(name for name, device in devices.items() if not probed(device)):
        console.warn(
            f"predicted for {', '.join(others)}, measured on local workers of this host; "
            "planner probe measures what they reach"
        )
