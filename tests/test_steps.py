"""Steps that others timed with engines that no profile is of: prompts carry over."""

from __future__ import annotations

import os
import statistics
from collections import defaultdict
from pathlib import Path

import pytest

from benchmarks.steps import HELIX, SPLITWISE, table, timed

DATA = Path(os.environ.get("PLANNER_TEST_DATA", "../shared/data"))


@pytest.mark.skipif(
    not all((DATA / name).is_file() for name in (SPLITWISE, HELIX)), reason=f"no data in {DATA}"
)
def test_prompts_carry_over_to_chips_that_no_profile_has_seen() -> None:
    found = list(timed(DATA))
    prompts = defaultdict(list)
    for one in found:
        if one.group[3] == "prompt":
            prompts[one.group].append(abs(one.error()))
    assert len(prompts) == 22
    medians = {group: statistics.median(errors) for group, errors in prompts.items()}
    assert max(medians.values()) < 0.3, medians
    assert statistics.median(medians.values()) < 0.2
    assert len(table(found)) == 2 + 44 + 2
