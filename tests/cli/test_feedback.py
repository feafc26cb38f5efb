"""Which steps of a run say something about a profile."""

from __future__ import annotations

import pytest

from planner.run.measurement import _works_during
from planner.run.steps import Step


def step(began_s: float, ended_s: float) -> Step:
    return Step(1, "decode", 1, 1, 0, 0.0, began_s, ended_s)


STEPS = [step(0, 1), step(2, 3), step(5, 9)]


@pytest.mark.parametrize("span", [(0.5, 0.6), (1.5, 2.1), (4, 10), (6, 7)])
def test_a_step_that_overlaps_with_anothers_is_seen(span: tuple[float, float]) -> None:
    assert _works_during(STEPS, step(*span))


@pytest.mark.parametrize("span", [(1.1, 1.9), (3, 5), (9, 10)])
def test_a_step_between_anothers_or_after_them_is_undisturbed(span: tuple[float, float]) -> None:
    assert not _works_during(STEPS, step(*span))
    assert not _works_during([], step(*span))
