from __future__ import annotations

import pytest

from planner.core.requirements import BOUNDED
from planner.core.words import asked_text, label, unit_of


@pytest.mark.parametrize("metric", BOUNDED)
def test_every_metric_that_can_be_bounded_has_words_for_people(metric: str) -> None:
    """No field name and no unit of it gets into a sentence."""
    assert "_" not in label(metric)
    assert metric == "availability" or unit_of(metric)


def test_a_bound_says_its_direction() -> None:
    assert asked_text("mean_ttft_ms", 5.0) == "at most 5 ms"
    assert asked_text("availability", 0.99) == "at least 99.00%"
