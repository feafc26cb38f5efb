"""Preset: a kind of work, with lengths, arrivals and what it asks of latencies."""

from __future__ import annotations

from planner.core.finetune import FineTune
from planner.core.requirements import MustHave
from planner.core.spec import Card
from planner.core.units import Count
from planner.core.workload import Arrivals, Lengths, Workload


class Preset(Card):
    """A workload that scenarios can name; what they state themselves wins."""

    arrivals: Arrivals
    prompt: Lengths
    output: Lengths
    requests: Count = 100
    must_have: MustHave = MustHave()
    """What such work asks for, where a scenario asks for nothing of the kind."""
    finetune: FineTune | None = None
    """Adapters that are trained; their forward passes are the requests."""

    @property
    def workload(self) -> Workload:
        """The same as a workload."""
        return Workload(
            arrivals=self.arrivals,
            prompt=self.prompt,
            output=self.output,
            requests=self.requests,
        )
