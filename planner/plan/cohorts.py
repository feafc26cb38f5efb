"""Cohorts: how long prompts wait in a closed loop whose requests end apart."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Group:
    """Users of a pipeline that have a seat, and what their prompts take."""

    active: float
    groups: float
    """Groups of sequences that somebody is in."""
    steps: float
    """Decode steps of a request; one at least."""
    request_s: float
    """From arrival until a request can be scheduled."""
    prefill_s: float
    """One prompt's way through."""
    prefill_gap_s: float
    """Least time between two prompts that follow each other."""
    mixed: bool = False
    """Whether prompts go with steps of those who decode, as under vLLM's rules."""

    def halt_s(self, step_s: float, first_share: float) -> float:
        """Mean wait of a prompt beyond that for a seat, decode steps taking so long (s).

        The first ones of all users come at once and wait for each other; they count by their share.
        """
        behind_s = (self.active / self.groups - 1) / 2 * self.prefill_gap_s
        return (1 - first_share) * self._later_s(step_s) + first_share * behind_s

    def _later_s(self, step_s: float) -> float:
        """The same of a prompt that comes when its user's answer before is complete.

        That is at the end of a step, and the next one begins before the prompt has been tokenised:
        a cohort of Poisson size waits for all of it. Where another cohort waits already it waits
        for the prompts of those instead: in the share pi = (1 - pi) q of steps, with q the chance
        that any request ends in one. Then a prompt waits for half of its own cohort. With several
        groups the next idle one takes it; under vLLM's rules it waits for the rest of a round,
        E[L^2] / (2 E[L]), of which a share p with prompts in them takes longer: whatever the others
        take, at least L sqrt(p) / (1 + sqrt(p)).
        """
        if self.active <= 1:
            return 0.0
        if self.groups > 1:
            root = math.sqrt(with_prompt(self.steps, self.active, self.groups))
            longest_s = max(step_s, self.prefill_s) if self.mixed else 0.0
            return max(step_s / 2, longest_s * root / (1 + root))
        others = (self.active - 1) / self.steps
        own_s = others / 2 * self.prefill_gap_s
        if self.request_s == 0:
            return own_s
        any_ends = 1 - math.exp(-others)
        met = any_ends / (1 + any_ends)
        cohort_s = self.prefill_s + (others / any_ends - 1) * self.prefill_gap_s
        prompts_s = min(own_s + met * cohort_s, (self.active - 1) * self.prefill_s)
        return prompts_s + (1 - met) * max(step_s / 2, step_s - self.request_s)


def with_prompt(steps: float, running: float, groups: float) -> float:
    """Share of the rounds of all groups in which any of them has a prompt."""
    often = min(1.0, running / (groups * steps))
    return 1 - math.pow(1 - often, groups)
