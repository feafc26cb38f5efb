"""Flow: requests that come and wait for their turn while nothing else happens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from planner.sim.run import Run


def flows(run: Run) -> bool:
    """Whether nothing but requests happens up to the next event, in lanes that do not wait.

    Where hops are events, a request that is put in line brings the next one.
    """
    if run.ordered or run.exact_steps:
        return False
    failover = run.failover
    return failover.hopeful is failover.everyone and not failover.hopeless


def flow(run: Run, event_s: float, end_s: float) -> None:
    """Lets requests come and be put in line, up to an event and before the end.

    A lane goes on to when a request is put in its line, and every lane to when one comes: who is
    there decides where it goes.
    """
    coming, preparing, lanes = run.coming, run.preparing, run.lanes
    first_s = coming[0].arrival_s if coming else math.inf
    while True:
        ready_s = preparing[0][0] if preparing else math.inf
        now_s = ready_s if ready_s <= first_s else first_s
        if now_s > event_s or now_s >= end_s:
            return
        if ready_s <= first_s:
            sequence = preparing.popleft()[1]
            lane = lanes[sequence.pipeline]
            if lane.next_s < now_s:
                lane.advance(now_s)
            run.clock_s = now_s
            lane.add(sequence, now_s)
        else:
            for lane in lanes:
                if lane.next_s < now_s:
                    lane.advance(now_s)
            run.clock_s = now_s
            run.arrive(coming.popleft())
            first_s = coming[0].arrival_s if coming else math.inf
